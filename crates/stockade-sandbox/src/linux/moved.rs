//! Folders that are another folder by name, where no mount can make them so.
//!
//! The second backend has no private `/tmp`, and no view over caches. Where a call gives a path that
//! begins with such a folder, the supervisor takes another path in its stead, in the run's own
//! temporary folder or among the caches of its workspace. That opens nothing: what both the call and
//! the supervisor may open is what Landlock says, and a call that gets past it finds the host's
//! folder, hidden or read-only. It is a matter of names, so it is done by letters: a link elsewhere
//! that leads there is followed where the supervisor follows it, and not where the kernel does.
//!
//! Single files are read as others the same way, whatever link leads to them (certificates, ssh's
//! configuration): who gets past that reads the host's, which hides nothing.
//!
//! Pure, but for the folders themselves.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::plan::{Content, Placement};

/// Each with its name in the run's own folder.
const FOLDERS: [(&str, &str); 3] = [("/tmp", "tmp"), ("/var/tmp", "var-tmp"), ("/dev/shm", "shm")];

/// What leads where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    folders: Vec<(PathBuf, PathBuf)>,
    /// What lies in one of them and is itself.
    kept: Vec<PathBuf>,
    /// The run's own folder. No other has its name, of the time and a process.
    own: PathBuf,
    /// Files that are read as others, by their real paths.
    files: Vec<(PathBuf, PathBuf)>,
}

/// What a Java virtual machine calls its file of certificates, which is a link to the system's.
const LINKED: &str = "cacerts";

impl Moved {
    /// For a run whose own folder is `own`, with `others` that lead elsewhere, each with its place. Where
    /// the policy names a folder of these, or one in it, that one is the host's.
    pub(crate) fn new(placements: &[Placement], own: &Path, others: &[(PathBuf, PathBuf)]) -> Self {
        let named = |content| {
            matches!(
                content,
                Content::Readable | Content::Writable | Content::Pinned | Content::Cached
            )
        };
        let kept = placements.iter().filter(|it| named(it.content));
        let kept: Vec<PathBuf> = kept.map(|it| it.path.as_path().to_owned()).collect();
        let all = FOLDERS.iter().map(|(folder, name)| (PathBuf::from(folder), own.join(name)));
        let all: Vec<_> = all.chain(others.iter().cloned()).collect();
        let is_free = |(folder, _): &(PathBuf, PathBuf)| !kept.contains(folder);
        let is_in = |path: &&Path| all.iter().any(|(folder, _)| path.starts_with(folder));
        let inner = kept.iter().map(PathBuf::as_path).chain([own]).filter(is_in);
        let inner = inner.map(Path::to_owned).collect();
        Self {
            folders: all.into_iter().filter(is_free).collect(),
            kept: inner,
            own: own.to_owned(),
            files: Vec::new(),
        }
    }

    /// The same, with files that are read as others: real paths, each with what stands for it.
    pub(crate) fn with_files(self, files: Vec<(PathBuf, PathBuf)>) -> Self {
        Self { files, ..self }
    }

    /// What stands for files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(_, ours)| ours.as_path())
    }

    /// What is read where a program opens `path`; `None` for the file itself. Only a path whose last
    /// name is that of such a file is asked where it leads.
    pub(crate) fn file(
        &self,
        path: &[u8],
        real: impl FnOnce() -> Option<PathBuf>,
    ) -> Option<&Path> {
        let name = Path::new(OsStr::from_bytes(path)).file_name()?;
        let is_named = |(real, _): &(PathBuf, PathBuf)| real.file_name() == Some(name);
        if self.files.is_empty() || !(name == LINKED || self.files.iter().any(is_named)) {
            return None;
        }
        let real = real()?;
        self.files.iter().find(|(shown, _)| *shown == real).map(|(_, ours)| ours.as_path())
    }

    /// Makes the folders in the run's own that stand for others, of a run whose own folder is `own`.
    pub(crate) fn make(own: &Path) -> io::Result<()> {
        FOLDERS.iter().try_for_each(|(_, name)| fs::create_dir(own.join(name)))
    }

    /// Makes in `own` what the folders that stand for others need to be among the host's.
    pub(crate) fn lead_on(own: &Path) -> io::Result<()> {
        // Whose current folder stands for `/tmp` finds in the one above what is in `/`.
        for entry in fs::read_dir("/")?.flatten() {
            let link = own.join(entry.file_name());
            if fs::symlink_metadata(&link).is_err() {
                symlink(entry.path(), link)?;
            }
        }
        Ok(())
    }

    /// The path that stands for `path`; `None` where it is what it says.
    pub(crate) fn of(&self, path: &[u8]) -> Option<Vec<u8>> {
        let given = Path::new(OsStr::from_bytes(path));
        // What almost every path is: absolute and elsewhere, or relative.
        if path.first() != Some(&b'/') {
            return self.back(given);
        }
        let (shown, folder, rest) = self
            .folders
            .iter()
            .find_map(|(shown, folder)| Some((shown, folder, given.strip_prefix(shown).ok()?)))?;
        // What stands above `/tmp` leads on, and the host has not the folders that come before.
        let goes_on = match above(rest) {
            0 => true,
            1 => shown.as_os_str() == "/tmp" && !rest.starts_with(".."),
            _ => false,
        };
        if !goes_on || self.kept.iter().any(|kept| given.starts_with(kept)) {
            return None;
        }
        Some(put(folder, rest, path))
    }

    /// The same for `path` in a folder that is called `name`. Hardly any path is asked about the name.
    pub(crate) fn of_beneath(
        &self,
        path: &[u8],
        name: impl FnOnce() -> io::Result<PathBuf>,
    ) -> io::Result<Option<Vec<u8>>> {
        let given = Path::new(OsStr::from_bytes(path));
        let first = given.components().find(|part| *part != Component::CurDir);
        let is_step = FOLDERS.iter().any(|(folder, _)| {
            Path::new(folder).components().skip(1).any(|step| Some(step) == first)
        });
        if !is_step {
            return Ok(None);
        }
        Ok(self.of(name()?.join(given).as_os_str().as_bytes()))
    }

    /// Who comes to the run's own folder step by step, as `mkdir -p $TMPDIR/a` does (`chdir("/tmp")`
    /// first), looks for the rest of its path in what stands for `/tmp`.
    fn back(&self, given: &Path) -> Option<Vec<u8>> {
        let rest = given.strip_prefix(self.own.file_name()?).ok()?;
        (above(rest) == 0).then(|| put(&self.own, rest, given.as_os_str().as_bytes()))
    }
}

/// `rest` in `folder`, as `given` ends.
fn put(folder: &Path, rest: &Path, given: &[u8]) -> Vec<u8> {
    let mut path = folder.as_os_str().to_owned().into_vec();
    for part in rest.components() {
        path.push(b'/');
        path.extend(part.as_os_str().as_bytes());
    }
    // As the caller means a folder.
    if given.ends_with(b"/") || given.ends_with(b"/.") {
        path.push(b'/');
    }
    path
}

/// How many folders above where it starts `rest` goes.
fn above(rest: &Path) -> usize {
    let (mut depth, mut above) = (0_usize, 0);
    for part in rest.components() {
        match part {
            Component::ParentDir if depth == 0 => above += 1,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    above
}

#[cfg(test)]
mod tests {
    use stockade_policy::AbsPath;

    use super::*;

    fn moved(placements: &[(&str, Content)]) -> Moved {
        let placements: Vec<Placement> = placements
            .iter()
            .map(|(path, content)| Placement {
                path: AbsPath::new(*path).unwrap(),
                content: *content,
            })
            .collect();
        let others = [("/home/u/.npm".into(), "/s/npm".into())];
        Moved::new(&placements, Path::new("/tmp/own"), &others)
    }

    #[test]
    fn a_path_in_a_moved_folder_leads_to_the_runs_own() {
        let moved = moved(&[]);
        let of = |path: &str| moved.of(path.as_bytes()).map(|it| String::from_utf8(it).unwrap());
        let cases = [
            ("/tmp", "/tmp/own/tmp"),
            ("/tmp/", "/tmp/own/tmp/"),
            ("/tmp/.", "/tmp/own/tmp/"),
            ("//tmp//a/./b", "/tmp/own/tmp/a/b"),
            ("/tmp/a/../b/", "/tmp/own/tmp/a/../b/"),
            ("/tmp/a/../../etc/passwd", "/tmp/own/tmp/a/../../etc/passwd"),
            ("/var/tmp/x", "/tmp/own/var-tmp/x"),
            ("/dev/shm/x", "/tmp/own/shm/x"),
            ("own", "/tmp/own"),
            ("own/tmp/a/", "/tmp/own/tmp/a/"),
            ("/home/u/.npm/a", "/s/npm/a"),
        ];
        for (path, expected) in cases {
            assert_eq!(of(path).as_deref(), Some(expected), "{path}");
        }
        let others = [
            "",
            "/",
            "tmp/x",
            "/tmpx",
            "/var",
            "/dev/null",
            "/tmp/..",
            "/tmp/../etc/passwd",
            "/tmp/a/../../../etc",
            "/var/tmp/a/../../lib",
            "/home/u/.npmrc",
            "/home/u/.npm/../.npmrc",
            "/tmp/own",
            "/tmp/own/tmp/x",
            "/tmp/own/..",
            "own/../x",
            "./own",
            "owner",
        ];
        for path in others {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn who_walks_from_the_root_comes_there_too() {
        let moved = moved(&[]);
        let beneath = |folder: &str, path: &str| {
            let found = moved.of_beneath(path.as_bytes(), || Ok(folder.into())).unwrap();
            found.map(|it| String::from_utf8(it).unwrap())
        };
        assert_eq!(beneath("/", "tmp").as_deref(), Some("/tmp/own/tmp"));
        assert_eq!(beneath("/", "./tmp/a").as_deref(), Some("/tmp/own/tmp/a"));
        assert_eq!(beneath("/var", "tmp").as_deref(), Some("/tmp/own/var-tmp"));
        assert_eq!(beneath("/dev", "shm").as_deref(), Some("/tmp/own/shm"));
        for (folder, path) in [("/", "var"), ("/", "home"), ("/home", "tmp"), ("/tmp/own", "tmp")] {
            assert_eq!(beneath(folder, path), None, "{path} in {folder}");
        }
        let unasked = moved.of_beneath(b"src/tmp", || Err(io::ErrorKind::Other.into()));
        assert_eq!(unasked.unwrap(), None);
    }

    #[test]
    fn a_file_is_read_as_another_whatever_leads_to_it_and_others_are_not_asked() {
        let pair = |(shown, ours): (&str, &str)| (PathBuf::from(shown), PathBuf::from(ours));
        let files = [("/etc/ssh/ssh_config", "/o/ssh"), ("/etc/ssl/java/cacerts", "/o/java")];
        let moved = moved(&[]).with_files(files.map(pair).to_vec());
        let read = |path: &str, real: &str| {
            moved.file(path.as_bytes(), || Some(real.into())).map(Path::to_owned)
        };
        assert_eq!(read("/etc/ssh/ssh_config", "/etc/ssh/ssh_config"), Some("/o/ssh".into()));
        assert_eq!(read("lib/security/cacerts", "/etc/ssl/java/cacerts"), Some("/o/java".into()));
        assert_eq!(read("/opt/own/cacerts", "/opt/own/cacerts"), None);
        assert_eq!(moved.file(b"/etc/passwd", || panic!("asked")), None);
        assert_eq!(moved.files().collect::<Vec<_>>(), [Path::new("/o/ssh"), Path::new("/o/java")]);
    }

    #[test]
    fn what_the_policy_names_is_the_hosts() {
        let moved = moved(&[("/tmp/work", Content::Writable), ("/var/tmp", Content::Readable)]);
        assert_eq!(moved.of(b"/tmp/work/x"), None);
        assert_eq!(moved.of(b"/var/tmp/x"), None);
        assert_eq!(moved.of(b"/tmp/x").as_deref(), Some(&b"/tmp/own/tmp/x"[..]));
    }
}
