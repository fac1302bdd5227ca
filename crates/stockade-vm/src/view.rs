//! What a machine sees of the host's system: an allow-list, and a few files that are made up.
//!
//! In: `/usr`, the links or folders of the same names at the root, toolchains that the caller
//! names, and of `/etc` what programs need to run. Out: everything else, whatever it is called
//! and whoever may read it; below `/usr` also what may hold settings of a site (`/usr/etc`), and
//! what no machine needs (firmware, modules of other kernels than the machine's). Set-id bits, other owners and extended
//! attributes stay out too.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use stockade_guest::USER_NAME;

use crate::cache::Key;
use crate::erofs::{Attributes, Content, Node, Tree};
use crate::kernel::Kernel;

/// Changes with what this module would put into an image of the same host.
const VERSION: &[u8] = b"2";

/// Folders at the root that are links into `/usr` today, and folders where they are not.
const AT_ROOT: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Left out, with what is below.
const LEFT_OUT: &[&str] = &[
    "/lib/firmware",
    "/lib/modules",
    "/usr/etc",
    "/usr/local/etc",
    "/usr/lib/debug",
    "/usr/lib/firmware",
    "/usr/lib/modules",
];

/// Taken from `/etc`: what programs and libraries read in order to work at all.
const FROM_ETC: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "cni/net.d",
    "containers/policy.json",
    "containers/registries.conf",
    "containers/registries.conf.d",
    "debian_version",
    "fonts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "magic.mime",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// Folders of `/etc` that runtimes have one of for each version: `java-17-openjdk`, `python3.11`.
const FROM_ETC_STARTS: &[&str] = &["java-", "perl", "python3"];

/// Made, so that something can be mounted or written there.
const EMPTY: &[&str] = &[
    "dev",
    "home",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/cache",
    "var/lib",
    "var/log",
    "var/tmp",
];

/// Where no toolchain is taken from, nor from what is below: people, services, secrets, and what
/// is there already.
const NO_TOOLCHAIN: &[&str] = &[
    "/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp",
    "/usr", "/var",
];

/// What of the host is to be seen, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) toolchains: Vec<PathBuf>,
    /// Of the machine's kernel, where there is one.
    pub(crate) modules: Option<PathBuf>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A folder that may not be shown as a toolchain.
#[derive(Debug)]
pub(crate) struct NoToolchain(pub(crate) PathBuf);

impl View {
    /// # Errors
    ///
    /// Names the first folder that is no toolchain: relative, at the root, or in places that hold
    /// other things.
    pub(crate) fn new(
        toolchains: &[PathBuf],
        kernel: Option<&Kernel>,
        (uid, gid): (u32, u32),
    ) -> Result<Self, NoToolchain> {
        let is_fine = |path: &&PathBuf| {
            let mut parts = path.components();
            parts.next() == Some(Component::RootDir)
                && parts.clone().count() > 0
                && parts.all(|part| matches!(part, Component::Normal(_)))
                && !NO_TOOLCHAIN.iter().any(|other| path.starts_with(other))
        };
        let mut toolchains = toolchains.to_vec();
        toolchains.sort();
        toolchains.dedup();
        if let Some(wrong) = toolchains.iter().find(|path| !is_fine(path)) {
            return Err(NoToolchain(wrong.clone()));
        }
        let modules = kernel.map(|kernel| kernel.modules.clone());
        Ok(Self { toolchains, modules, uid, gid })
    }

    /// Everything that is walked.
    pub(crate) fn sources(&self) -> io::Result<Vec<PathBuf>> {
        let mut sources = vec![PathBuf::from("/usr")];
        sources.extend(AT_ROOT.iter().map(|name| Path::new("/").join(name)));
        sources.extend(self.toolchains.iter().cloned());
        sources.extend(self.modules.as_deref().map(by_its_own_path));
        sources.extend(FROM_ETC.iter().map(|name| Path::new("/etc").join(name)));
        let mut versions = Vec::new();
        for entry in fs::read_dir("/etc")? {
            let name = entry?.file_name();
            let is_one = |start: &&&str| name.as_bytes().starts_with(start.as_bytes());
            if FROM_ETC_STARTS.iter().any(|start| is_one(&start)) {
                versions.push(Path::new("/etc").join(name));
            }
        }
        versions.sort();
        sources.extend(versions);
        Ok(sources)
    }

    /// A name for what an image of this view would hold now. Below `/usr` folders stand for what
    /// is in them (package managers replace files, they do not write into them); elsewhere, and
    /// below `/usr/local`, every file counts. `saw` is told of all that is looked at.
    pub(crate) fn key(&self, saw: &mut dyn FnMut(&Path, Option<&Metadata>)) -> io::Result<String> {
        let mut key = self.name();
        for source in self.sources()? {
            let counts_files = !source.starts_with("/usr")
                && !AT_ROOT.iter().any(|name| Path::new("/").join(name) == source);
            walk(&source, counts_files, &mut |path, metadata| {
                if let Some(metadata) = metadata {
                    key.add_file(path, metadata);
                }
                saw(path, metadata);
            });
        }
        Ok(key.name())
    }

    /// A name for the view alone, whatever it shows.
    pub(crate) fn name(&self) -> Key {
        let mut key = Key::default();
        key.add(VERSION);
        key.add(&self.uid.to_le_bytes());
        key.add(&self.gid.to_le_bytes());
        key
    }

    /// The tree of an image.
    pub(crate) fn tree(&self) -> io::Result<Planted> {
        let mut planted = Planted::new();
        for name in EMPTY {
            planted.folder(Path::new(name), 0o755);
        }
        for source in self.sources()? {
            planted.take(&source);
        }
        let var = planted.folder(Path::new("var"), 0o755);
        for (name, target) in [("lock", "/run/lock"), ("run", "/run")] {
            let attributes = Attributes { mode: 0o777, mtime: (0, 0) };
            planted.tree.link(var, name.as_bytes(), attributes, target.into());
        }
        let etc = planted.folder(Path::new("etc"), 0o755);
        for (name, text) in self.made_up() {
            let attributes = Attributes { mode: 0o644, mtime: (0, 0) };
            planted.tree.file(etc, name.as_bytes(), attributes, Content::Bytes(text.into_bytes()));
        }
        Ok(planted)
    }

    /// Files of `/etc` that are not the host's: nobody's name, no service, no host.
    fn made_up(&self) -> Vec<(&'static str, String)> {
        let Self { uid, gid, .. } = self;
        let passwd = format!(
            "root:x:0:0:root:/root:/bin/sh\n\
             {USER_NAME}:x:{uid}:{gid}:{USER_NAME}:/home/{USER_NAME}:/bin/bash\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        );
        let group = format!("root:x:0:\n{USER_NAME}:x:{gid}:\nnogroup:x:65534:\n");
        let hosts = "127.0.0.1 localhost stockade\n::1 localhost ip6-localhost ip6-loopback\n";
        let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n\
                        services: files\nprotocols: files\nnetworks: files\n";
        vec![
            ("passwd", passwd),
            ("group", group),
            ("hosts", hosts.to_owned()),
            ("hostname", "stockade\n".to_owned()),
            ("nsswitch.conf", nsswitch.to_owned()),
            ("resolv.conf", "# This machine has no network.\n".to_owned()),
        ]
    }
}

/// Of a folder in `/lib`, which is a link into `/usr` today.
fn by_its_own_path(path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(rest) if Path::new("/lib").is_symlink() => Path::new("/usr").join(rest),
        Ok(_) | Err(_) => path.to_owned(),
    }
}

/// What is shown of the host, to be laid out and written.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) tree: Tree,
    /// Files with several names, by device and number.
    links: HashMap<(u64, u64), Node>,
    /// Files and folders that this user may not read.
    pub(crate) unreadable: u64,
    /// Whether everybody in the guest may read what its owner may, who is somebody else there.
    is_for_all: bool,
}

impl Planted {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { tree: Tree::new(), links: HashMap::new(), unreadable: 0, is_for_all: false }
    }

    /// The same for files that are to be read by everybody in the guest.
    pub(crate) fn for_all() -> Self {
        Self { is_for_all: true, ..Self::new() }
    }

    /// The folder of this name, and those above it.
    fn folder(&mut self, path: &Path, mode: u16) -> Node {
        let mut node = Node::ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                node = self.tree.folder(node, name.as_bytes(), Attributes { mode, mtime: (0, 0) });
            }
        }
        node
    }

    /// Takes what is at `path`, if anything is.
    fn take(&mut self, path: &Path) {
        self.take_as(path, path);
    }

    /// Takes what is at `path`, if anything is, as what is at `shown`.
    pub(crate) fn take_as(&mut self, path: &Path, shown: &Path) {
        let (Ok(metadata), Some(name)) = (path.symlink_metadata(), shown.file_name()) else {
            return;
        };
        let parent = self.folder(shown.parent().unwrap_or(shown), 0o755);
        let mut open = vec![(path.to_owned(), parent, name.as_bytes().to_vec(), metadata)];
        // By a list instead of recursion: the depth of a tree is not ours to bound.
        while let Some((path, parent, name, metadata)) = open.pop() {
            let Some(folder) = self.plant(&path, parent, &name, &metadata) else { continue };
            let Ok(entries) = fs::read_dir(&path) else {
                self.unreadable += 1;
                continue;
            };
            for entry in entries.flatten() {
                let (path, name) = (entry.path(), entry.file_name().into_vec());
                if LEFT_OUT.iter().any(|left| path == Path::new(left)) {
                    continue;
                }
                if let Ok(metadata) = entry.metadata() {
                    open.push((path, folder, name, metadata));
                }
            }
        }
    }

    /// Puts one node in; a folder is returned, to be gone through.
    fn plant(&mut self, path: &Path, parent: Node, name: &[u8], of: &Metadata) -> Option<Node> {
        let kind = of.file_type();
        let mode = u16::try_from(of.permissions().mode() & 0o777).unwrap_or(0);
        let all = if self.is_for_all { (mode & 0o500) >> 3 | (mode & 0o500) >> 6 } else { 0 };
        let mode = mode | all;
        let nanoseconds = u32::try_from(of.mtime_nsec()).unwrap_or(0);
        let attributes = Attributes { mode, mtime: (of.mtime(), nanoseconds) };
        if kind.is_dir() {
            return Some(self.tree.folder(parent, name, attributes));
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).ok()?;
            self.tree.link(parent, name, attributes, target.into_os_string().into_vec());
            return None;
        }
        if !kind.is_file() {
            return None;
        }
        if let Some(file) = self.links.get(&(of.dev(), of.ino())) {
            self.tree.alias(parent, name, *file);
            return None;
        }
        if accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_err() {
            self.unreadable += 1;
            return None;
        }
        let content = Content::Host(path.to_owned(), of.len());
        let file = self.tree.file(parent, name, attributes, content);
        if of.nlink() > 1 {
            self.links.insert((of.dev(), of.ino()), file);
        }
        None
    }
}

pub(crate) fn add_to_key(key: &mut Key, source: &Path) {
    walk(source, true, &mut |path, metadata| {
        if let Some(metadata) = metadata {
            key.add_file(path, metadata);
        }
    });
}

/// Tells `saw` of what is at `source` and below, each with what it was before it was gone through; without
/// what is not there.
pub(crate) fn walk(
    source: &Path,
    counts_files: bool,
    saw: &mut dyn FnMut(&Path, Option<&Metadata>),
) {
    let mut open = vec![source.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().ok();
        saw(&path, metadata.as_ref());
        let is_left_out = LEFT_OUT.iter().any(|left| path == Path::new(left));
        if is_left_out || !metadata.is_some_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let counts_files = counts_files || path.starts_with("/usr/local");
        let Ok(entries) = fs::read_dir(&path) else { continue };
        let mut entries: Vec<_> = entries
            .flatten()
            .filter(|entry| counts_files || entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        open.extend(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_toolchains_are_taken_as_toolchains() {
        for (path, is_fine) in [
            ("/opt/node", true),
            ("/nix", true),
            ("/", false),
            ("opt/node", false),
            ("/opt/../etc", false),
            ("/root/.rustup", false),
            ("/home/me/.pyenv", false),
            ("/home", false),
            ("/var/lib/x", false),
            ("/etc/ssh", false),
        ] {
            assert_eq!(View::new(&[path.into()], None, (1, 1)).is_ok(), is_fine, "{path}");
        }
    }

    #[test]
    fn made_up_files_name_nobody_of_the_host() {
        let view = View::new(&[], None, (1234, 56)).unwrap();
        let files = view.made_up();
        let text = |name: &str| files.iter().find(|(file, _)| *file == name).unwrap().1.clone();
        assert_eq!(text("passwd").lines().count(), 3);
        assert!(text("passwd").contains("agent:x:1234:56:"));
        assert!(!text("nsswitch.conf").contains("dns"));
    }

    #[test]
    fn a_key_changes_with_what_it_stands_for() {
        let folder = tempfile::tempdir_in("/opt").or_else(|_| tempfile::tempdir()).unwrap();
        let key = || {
            let mut key = Key::default();
            add_to_key(&mut key, folder.path());
            key.name()
        };
        let before = key();
        assert_eq!(before, key());
        fs::write(folder.path().join("tool"), "1").unwrap();
        let with_file = key();
        fs::write(folder.path().join("tool"), "22").unwrap();
        assert_ne!(before, with_file);
        assert_ne!(with_file, key());
    }

    #[test]
    fn set_id_bits_devices_and_second_names_are_seen_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        fs::write(&file, "1").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
        fs::hard_link(&file, folder.path().join("again")).unwrap();
        rustix::fs::mknodat(
            CWD,
            folder.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let mut planted = Planted::new();
        planted.take(folder.path());
        let text = format!("{:?}", planted.tree);
        assert_eq!(text.matches("File(Host(").count(), 1, "{text}");
        assert!(text.contains("mode: 493") && !text.contains("fifo"), "{text}");
        assert!(text.contains("links: 2, ") || text.contains("links: 2 }"), "{text}");
    }
}
