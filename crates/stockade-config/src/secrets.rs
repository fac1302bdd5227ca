//! Which paths are hidden on this machine, now.
//!
//! The built-in table costs one system call for each name that is not there. Names that are
//! links (dotfile managers make them) hide what they lead to; the link itself may be read.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use stockade_policy::environment::glob;
use stockade_policy::secrets::{
    HIDDEN_BEGINNINGS_IN_HOME, HIDDEN_HOST_KEY, HIDDEN_IN_HOME, HIDDEN_IN_SYSTEM, Secret,
};

use crate::env::Homes;
use crate::locate::canonical;

/// A hidden path of the built-in table that is there. The path is canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) kind: Secret,
}

/// What of the built-in table is there.
pub(crate) fn built_in(homes: &Homes, uid: u32) -> Vec<Found> {
    let mut found = Vec::new();
    for home in &homes.all {
        let Ok(folder) = open_folder(home) else { continue };
        for (kind, names) in HIDDEN_IN_HOME {
            let paths = names.iter().filter_map(|name| in_home(home, &folder, name));
            found.extend(paths.map(|path| Found { path, kind: *kind }));
        }
        found.extend(beginnings(home));
    }
    let system = HIDDEN_IN_SYSTEM.iter().filter(|name| is_for_some_only(Path::new(name), uid));
    let keys = host_keys().filter(|path| is_for_some_only(path, uid));
    let paths = system.filter_map(|name| canonical(Path::new(name))).chain(keys);
    found.extend(paths.map(|path| Found { path, kind: Secret::Keys }));
    found
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The canonical path of `name` in home (`folder`, canonical), if it is there.
fn in_home(home: &Path, folder: &OwnedFd, name: &str) -> Option<PathBuf> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // One call for the many that are not there, and one for those without a link on the way.
    match rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) if is_link(&fd) => canonical(&home.join(name)),
        Ok(_) => Some(home.join(name)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
        Err(_) => canonical(&home.join(name)),
    }
}

fn is_link(fd: &OwnedFd) -> bool {
    let kind = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode);
    rustix::fs::fstat(fd).map(kind).is_ok_and(|kind| kind == FileType::Symlink)
}

fn beginnings(home: &Path) -> impl Iterator<Item = Found> {
    fs::read_dir(home).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let start = |start: &str| name.as_bytes().starts_with(start.as_bytes());
        let (kind, _) = HIDDEN_BEGINNINGS_IN_HOME.iter().find(|(_, text)| start(text))?;
        Some(Found { path: canonical(&entry.path())?, kind: *kind })
    })
}

fn host_keys() -> impl Iterator<Item = PathBuf> {
    let (start, end) = HIDDEN_HOST_KEY;
    fs::read_dir("/etc/ssh").into_iter().flatten().flatten().filter_map(move |entry| {
        let name = entry.file_name();
        let name = name.as_bytes();
        let is_key = name.starts_with(start.as_bytes()) && name.ends_with(end.as_bytes());
        is_key.then(|| entry.path())
    })
}

/// Whether `path` is there and readable for this user as a member of some group, but not for
/// everybody: what everybody may read is no secret, and what this user cannot read needs no
/// hiding. Uid 0 keeps its owner's rights inside, so everything counts.
fn is_for_some_only(path: &Path, uid: u32) -> bool {
    const OTHERS_READ: u32 = 0o004;
    let Ok(stat) = rustix::fs::statat(CWD, path, AtFlags::empty()) else { return false };
    uid == 0
        || (stat.st_mode & OTHERS_READ == 0
            && rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok())
}

/// What an entry of a `hidden` list names now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expansion {
    /// Canonical.
    pub(crate) found: Vec<PathBuf>,
    /// Folders that could not be searched.
    pub(crate) closed: usize,
}

/// Expands `wanted`, an absolute path or pattern. `*` and `?` match inside one name, `**`
/// matches folders at any depth. Links are found, and not followed on the way.
pub(crate) fn expand(wanted: &Path) -> Expansion {
    let mut expansion = Expansion::default();
    let mut base = PathBuf::new();
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in wanted.components() {
        if parts.is_empty() && !is_pattern(part.as_os_str()) {
            base.push(part);
        } else {
            parts.push(part.as_os_str().as_bytes());
        }
    }
    if parts.is_empty() {
        expansion.found.extend(canonical(wanted));
        return expansion;
    }
    let mut folders: Vec<(PathBuf, &[&[u8]])> = vec![(base, &parts)];
    while let Some((folder, parts)) = folders.pop() {
        expansion.search(&folder, parts, &mut folders);
    }
    expansion.found.sort();
    expansion.found.dedup();
    expansion
}

/// Whether a name of an entry has to be matched instead of looked up.
pub(crate) fn is_pattern(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?'))
}

impl Expansion {
    /// Matches the entries of one folder against the first of `parts`, and leaves the folders
    /// in it that the rest has to be looked for in to `folders`.
    fn search<'a>(
        &mut self,
        folder: &Path,
        parts: &'a [&'a [u8]],
        folders: &mut Vec<(PathBuf, &'a [&'a [u8]])>,
    ) {
        let Some((first, rest)) = parts.split_first() else { return };
        let any_depth = *first == b"**";
        // `**` stands for no folder as well; at the end it stands for everything below.
        let (name, after): (&[u8], &[&[u8]]) = match (any_depth, rest.split_first()) {
            (false, _) => (first, rest),
            (true, Some((next, after))) => (next, after),
            (true, None) => (b"*", &[]),
        };
        if any_depth && name == b"**" {
            folders.push((folder.to_owned(), rest));
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else {
            self.closed += usize::from(folder.is_dir());
            return;
        };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if glob(name, entry.file_name().as_bytes()) {
                if after.is_empty() {
                    self.found.extend(canonical(&entry.path()));
                } else if is_folder {
                    folders.push((entry.path(), after));
                }
            }
            if any_depth && is_folder {
                folders.push((entry.path(), parts));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        for file in files {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        (lab, top)
    }

    #[test]
    fn patterns_reach_what_the_manual_says_they_do() {
        // docs/reference/config.md, "Hidden paths".
        #[rustfmt::skip]
        const CASES: &[(&str, &[&str])] = &[
            ("**/*.pem",   &["a/b/z.pem", "a/y.pem", "x.pem"]),
            ("*.pem",      &["x.pem"]),
            ("a/*/z.*",    &["a/b/z.pem", "a/b/z.txt"]),
            ("a/**",       &["a/b", "a/b/z.pem", "a/b/z.txt", "a/y.pem"]),
            ("**/b/*.txt", &["a/b/z.txt"]),
            ("**/**/z.tx?",&["a/b/z.txt"]),
            ("a/b/z.txt",  &["a/b/z.txt"]),
            ("missing",    &[]),
            ("missing/*",  &[]),
            ("x.pem/*",    &[]),
        ];
        let (_lab, top) = lab(&["x.pem", "a/y.pem", "a/b/z.pem", "a/b/z.txt"]);
        for &(pattern, expected) in CASES {
            let expected: Vec<PathBuf> = expected.iter().map(|path| top.join(path)).collect();
            assert_eq!(expand(&top.join(pattern)).found, expected, "{pattern}");
        }
    }

    #[test]
    fn a_linked_secret_is_hidden_where_it_lies() {
        let (_lab, home) = lab(&["dotfiles/ssh/id", ".netrc", ".claude.json.backup.1"]);
        std::os::unix::fs::symlink("dotfiles/ssh", home.join(".ssh")).unwrap();
        std::os::unix::fs::symlink("nowhere", home.join(".npmrc")).unwrap();
        fs::create_dir(home.join("dotfiles/config")).unwrap();
        fs::create_dir(home.join("dotfiles/config/gh")).unwrap();
        std::os::unix::fs::symlink("dotfiles/config", home.join(".config")).unwrap();
        let homes = Homes { main: Some(home.clone()), all: vec![home.clone()] };
        let mut found: Vec<PathBuf> = built_in(&homes, u32::MAX)
            .into_iter()
            .map(|found| found.path)
            .filter(|path| path.starts_with(&home))
            .collect();
        found.sort();
        let expected = [".claude.json.backup.1", ".netrc", "dotfiles/config/gh", "dotfiles/ssh"];
        assert_eq!(found, expected.map(|name| home.join(name)));
    }
}
