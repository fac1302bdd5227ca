//! Which paths are hidden on this machine, now.
//!
//! The built-in table is compared with what the folders list, so that a start does not ask for
//! each of its names. Names that are links (dotfile managers make them) hide what they lead to;
//! the link itself may be read.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use stockade_policy::environment::glob;
use stockade_policy::secrets::{
    HIDDEN_BEGINNINGS_IN_HOME, HIDDEN_ENDS_IN_HOME, HIDDEN_HOST_KEY, HIDDEN_IN_HOME,
    HIDDEN_IN_SYSTEM, Secret,
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
        in_home(home, &mut found);
    }
    let system = HIDDEN_IN_SYSTEM.iter().map(PathBuf::from).chain(host_keys());
    let paths =
        system.filter(|path| is_for_some_only(path, uid)).filter_map(|path| canonical(&path));
    found.extend(paths.map(|path| Found { path, kind: Secret::Keys }));
    found
}

/// Folders of home that hold so many of the table's names that listing them once costs less
/// than asking for each name.
const LISTED: [&str; 2] = [".config/", ".local/share/"];

fn in_home(home: &Path, found: &mut Vec<Found>) {
    let top = Listing::of(home);
    let listed = LISTED.map(|name| {
        let is_there = top.get(name.split('/').next().unwrap_or(name)) != Presence::Absent;
        let folder = is_there.then(|| canonical(&home.join(name))).flatten();
        (name, folder.map(|folder| Listing::of(&folder)))
    });
    for (kind, names) in HIDDEN_IN_HOME {
        for name in *names {
            let inner = listed
                .iter()
                .find_map(|(start, listing)| Some((listing, name.strip_prefix(start)?)));
            let path = match inner {
                Some((Some(listing), rest)) => listing.find(rest),
                Some((None, _)) => None,
                None => top.find(name),
            };
            found.extend(path.map(|path| Found { path, kind: *kind }));
        }
    }
    for name in top.names.keys() {
        let bytes = name.as_bytes();
        let begins =
            HIDDEN_BEGINNINGS_IN_HOME.iter().find(|(_, text)| bytes.starts_with(text.as_bytes()));
        let ends = || HIDDEN_ENDS_IN_HOME.iter().find(|(_, text)| bytes.ends_with(text.as_bytes()));
        if let Some((kind, _)) = begins.or_else(|| ends().filter(|_| bytes.starts_with(b".")))
            && let Some(path) = canonical(&home.join(name))
        {
            found.push(Found { path, kind: *kind });
        }
    }
}

/// Room for what one call lists of a folder.
const ROOM: usize = 32 * 1024;

/// The names in one canonical folder.
struct Listing {
    folder: PathBuf,
    /// To look from here for what is further down.
    opened: Option<OwnedFd>,
    names: HashMap<OsString, Presence>,
    /// Whether the folder could be read: a name that is not listed may be there otherwise.
    is_whole: bool,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    /// There, and no link.
    Plain,
    /// There, or not: the disk has to be asked.
    Unsure,
}

impl Listing {
    fn of(folder: &Path) -> Self {
        let mut listing = Self {
            folder: folder.to_owned(),
            opened: None,
            names: HashMap::new(),
            is_whole: false,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        listing.opened = rustix::fs::openat(CWD, folder, flags, Mode::empty()).ok();
        if let Some(opened) = &listing.opened {
            let mut room = Vec::with_capacity(ROOM);
            let mut entries = RawDir::new(opened, room.spare_capacity_mut());
            listing.is_whole = true;
            while let Some(entry) = entries.next() {
                let Ok(entry) = entry else {
                    listing.is_whole = false;
                    break;
                };
                // What a file system does not tell is asked for as if it were a link.
                let is_plain = !matches!(entry.file_type(), FileType::Symlink | FileType::Unknown);
                let presence = if is_plain { Presence::Plain } else { Presence::Unsure };
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                listing.names.insert(name.to_owned(), presence);
            }
        }
        listing
    }

    fn get(&self, name: &str) -> Presence {
        match self.names.get(OsStr::new(name)) {
            Some(presence) => *presence,
            None if self.is_whole => Presence::Absent,
            None => Presence::Unsure,
        }
    }

    /// The canonical path of `name`, which may have several components, if it is there.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = || self.folder.join(name);
        let first = name.split('/').next().unwrap_or(name);
        match self.get(first) {
            Presence::Absent => None,
            Presence::Plain if first == name => Some(path()),
            Presence::Plain => self.find_below(name),
            Presence::Unsure => canonical(&path()),
        }
    }

    /// The same for a name of several components, the first of which is no link.
    fn find_below(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        let Some(opened) = &self.opened else { return canonical(&path) };
        let is_one_down = name.split('/').count() == 2;
        let found = if is_one_down {
            let stat = rustix::fs::statat(opened, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.map(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Symlink)
        } else {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let links = ResolveFlags::NO_SYMLINKS;
            rustix::fs::openat2(opened, name, flags, Mode::empty(), links).map(|_opened| true)
        };
        match found {
            Ok(true) => Some(path),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Ok(false) | Err(_) => canonical(&path),
        }
    }
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

/// Whether this user may read `path` as a member of some group, but not everybody may: what
/// everybody may read is no secret, and what this user cannot read needs no hiding. Uid 0 keeps
/// its owner's rights inside, so everything counts.
fn is_for_some_only(path: &Path, uid: u32) -> bool {
    const OTHERS_READ: u32 = 0o004;
    if uid == 0 {
        return true;
    }
    let Ok(stat) = rustix::fs::statat(CWD, path, AtFlags::empty()) else { return false };
    stat.st_mode & OTHERS_READ == 0
        && rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok()
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
