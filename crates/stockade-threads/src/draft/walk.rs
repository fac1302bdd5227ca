//! What an upper folder says of the folder below it.
//!
//! A character device without a number is a whiteout: what lies below is gone. A folder that is
//! marked opaque hides all that lies below it. Everything else is there in full, for the overlay
//! makes neither redirects nor copies of metadata alone.
//!
//! Nothing is opened through a link, on either side.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::DraftError;
use crate::patch::FileMode;

/// Entries that are looked at, on both sides together.
const ENTRIES_MAX: usize = 2_000_000;

/// `overlayfs.rst`: what `userxattr` makes of `trusted.overlay.opaque`.
const OPAQUE: &CStr = c"user.overlay.opaque";

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A file or link on one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) mode: FileMode,
    pub(super) bytes: u64,
    pub(super) permissions: u32,
    /// When it last changed in any way: seconds, nanoseconds.
    pub(super) changed: (i64, i64),
}

/// A path at which the sides may differ, relative to the folder.
#[derive(Debug)]
pub(super) struct Differing {
    pub(super) path: PathBuf,
    pub(super) below: Option<Side>,
    pub(super) above: Option<Side>,
}

/// All that an upper folder says.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<Differing>,
    /// What no patch has: a path, and what it is.
    pub(super) others: Vec<(PathBuf, &'static str)>,
    /// Folders that no file in a patch speaks of, and permissions that git has no word for.
    pub(super) modes: Vec<Moded>,
}

/// Permissions of a folder or a file on both sides, where it is there.
#[derive(Debug)]
pub(super) struct Moded {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
}

/// The two sides of one folder.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) below: Half,
    pub(super) above: Half,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Half(OwnedFd);

/// What stands under a name.
#[derive(Clone, Copy)]
enum Thing {
    File(Side),
    Folder(u32),
    Whiteout,
    Other,
}

/// A folder that is still to be looked at. It is there above.
struct Pending {
    path: PathBuf,
    mode: u32,
    /// The mode of the folder below, if there is one too.
    below: Option<u32>,
}

impl Sides {
    pub(super) fn open(below: &Path, above: &Path) -> Result<Self, DraftError> {
        let open = |path: &Path| {
            let opened = rustix::fs::open(path, FOLDER, Mode::empty());
            opened.map(Half).map_err(|error| DraftError::io("open", path)(error.into()))
        };
        Ok(Self { below: open(below)?, above: open(above)? })
    }

    /// Looks through the upper side.
    pub(super) fn walk(&self) -> Result<Found, DraftError> {
        let (found, usual) = (Found::default(), usual_modes());
        let mut walk = Walk { sides: self, found, entries: 0, usual };
        let mut pending = vec![Pending { path: PathBuf::new(), mode: 0, below: Some(0) }];
        while let Some(folder) = pending.pop() {
            walk.folder(&folder, &mut pending)?;
        }
        Ok(walk.found)
    }
}

impl Half {
    /// A folder; an empty path is the half itself.
    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, FOLDER)
    }

    /// A file, as long as it is one and no link leads to it.
    pub(super) fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self.open(path, flags)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(file)
    }

    /// What a link says.
    pub(super) fn link(&self, path: &Path) -> io::Result<Vec<u8>> {
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), BENEATH)
    }
}

struct Walk<'a> {
    sides: &'a Sides,
    found: Found,
    entries: usize,
    /// See [`usual_modes`].
    usual: [u32; 2],
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Pending, pending: &mut Vec<Pending>) -> Result<(), DraftError> {
        let Ok(above) = self.sides.above.folder(&folder.path) else {
            self.other(&folder.path, "a folder that cannot be read");
            return Ok(());
        };
        let below = folder.below.and_then(|_| self.below(&folder.path));
        let names = self.names(&above, &folder.path)?;
        let is_empty = self.is_empty((&above, below.as_ref()), &names, &folder.path)?;
        let is_changed = !names.is_empty() || is_opaque(&above);
        if match folder.below {
            None => is_empty || !self.usual.contains(&folder.mode),
            Some(before) => before != folder.mode || (is_empty && is_changed),
        } {
            let (path, after) = (folder.path.clone(), Some(folder.mode));
            let before = folder.below;
            self.found.modes.push(Moded { path, is_folder: true, before, after });
        }
        for name in &names {
            let path = folder.path.join(name);
            let upper = look(&above, name);
            let lower = below.as_ref().and_then(|below| look(below, name));
            if name == ".git" {
                self.repository(&path, lower.is_some());
                continue;
            }
            let Some(upper) = upper else { continue };
            pending.extend(self.entry(path, upper, lower)?);
        }
        if let Some(below) = &below
            && is_opaque(&above)
        {
            for name in self.names(below, &folder.path)? {
                if !names.contains(&name) && name != ".git" {
                    let lower = look(below, &name);
                    self.gone(folder.path.join(&name), lower)?;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is in a folder any more: all that was below is gone.
    fn is_empty(
        &mut self,
        (above, below): (&OwnedFd, Option<&OwnedFd>),
        names: &BTreeSet<OsString>,
        path: &Path,
    ) -> Result<bool, DraftError> {
        let is_gone = |name: &OsString| matches!(look(above, name), Some(Thing::Whiteout));
        if !names.iter().all(is_gone) {
            return Ok(false);
        }
        match below.filter(|_| !is_opaque(above)) {
            Some(below) => Ok(self.names(below, path)?.is_subset(names)),
            None => Ok(true),
        }
    }

    /// One name; a folder to look into, if it is one above.
    fn entry(
        &mut self,
        path: PathBuf,
        upper: Thing,
        lower: Option<Thing>,
    ) -> Result<Option<Pending>, DraftError> {
        match (upper, lower) {
            (Thing::Whiteout, lower) => self.gone(path, lower)?,
            (Thing::File(above), Some(Thing::File(below))) => {
                self.differing(path, Some(below), Some(above));
            }
            (Thing::File(above), lower) => {
                self.gone(path.clone(), lower)?;
                self.differing(path, None, Some(above));
            }
            (Thing::Folder(mode), Some(Thing::Folder(before))) => {
                return Ok(Some(Pending { path, mode, below: Some(before) }));
            }
            (Thing::Folder(mode), lower) => {
                self.gone(path.clone(), lower)?;
                return Ok(Some(Pending { path, mode, below: None }));
            }
            (Thing::Other, lower) => {
                self.gone(path.clone(), lower)?;
                self.other(&path, "neither a file nor a link");
            }
        }
        Ok(None)
    }

    /// What lies below is not there any more.
    fn gone(&mut self, path: PathBuf, lower: Option<Thing>) -> Result<(), DraftError> {
        match lower {
            None | Some(Thing::Whiteout) => {}
            Some(Thing::Other) => self.other(&path, "removed, and neither a file nor a link"),
            Some(Thing::File(side)) => self.differing(path, Some(side), None),
            Some(Thing::Folder(mode)) => {
                let mut folders = vec![(path, mode)];
                while let Some((path, mode)) = folders.pop() {
                    folders.extend(self.gone_folder(&path, mode)?);
                }
            }
        }
        Ok(())
    }

    /// The folders in a folder that is not there any more.
    fn gone_folder(&mut self, path: &Path, mode: u32) -> Result<Vec<(PathBuf, u32)>, DraftError> {
        let Some(below) = self.below(path) else {
            self.other(path, "removed, and a folder that cannot be read");
            return Ok(Vec::new());
        };
        let mut folders = Vec::new();
        let names = self.names(&below, path)?;
        if names.is_empty() {
            // One with something in it goes with that.
            let (path, before) = (path.to_owned(), Some(mode));
            self.found.modes.push(Moded { path, is_folder: true, before, after: None });
        }
        for name in names {
            let path = path.join(&name);
            match look(&below, &name) {
                None => {}
                Some(_) if name == ".git" => self.other(&path, "removed, and a repository"),
                Some(Thing::Folder(mode)) => folders.push((path, mode)),
                Some(Thing::File(side)) => self.differing(path, Some(side), None),
                Some(Thing::Whiteout | Thing::Other) => {
                    self.other(&path, "removed, and neither a file nor a link");
                }
            }
        }
        Ok(folders)
    }

    /// A repository's own folder, or the file that names it: never a part of a diff.
    fn repository(&mut self, path: &Path, was_there: bool) {
        if !was_there {
            return self.other(path, "a repository of its own");
        }
        let Ok(above) = self.sides.above.folder(path) else {
            return self.other(path, "the repository itself");
        };
        // An index is written by whoever asks for the state of the files.
        let tells = ["HEAD", "refs", "packed-refs", "logs", "worktrees", "modules"];
        if is_opaque(&above) || tells.iter().any(|name| look(&above, OsStr::new(name)).is_some()) {
            self.other(path, "commits and branches");
        }
    }

    fn differing(&mut self, path: PathBuf, below: Option<Side>, above: Option<Side>) {
        if let Some(after) = above.filter(|side| side.mode != FileMode::Link)
            && !self.is_told(below.as_ref(), &after)
        {
            let before = below.filter(|side| side.mode != FileMode::Link);
            let before = before.map(|side| side.permissions);
            let (path, after) = (path.clone(), Some(after.permissions));
            self.found.modes.push(Moded { path, is_folder: false, before, after });
        }
        self.found.files.push(Differing { path, below, above });
    }

    /// Whether the mode that git knows says it all.
    fn is_told(&self, below: Option<&Side>, above: &Side) -> bool {
        let Some(below) = below.filter(|side| side.mode != FileMode::Link) else {
            let is_program = above.mode == FileMode::Executable;
            let [program, file] = [self.usual[0], self.usual[0] & !0o111];
            return above.permissions == if is_program { program } else { file };
        };
        let before = below.permissions;
        let expected = match (below.mode == above.mode, above.mode) {
            (true, _) => before,
            (false, FileMode::Executable) => before | ((before & 0o444) >> 2),
            (false, _) => before & !0o111,
        };
        above.permissions == expected
    }

    fn other(&mut self, path: &Path, what: &'static str) {
        self.found.others.push((path.to_owned(), what));
    }

    fn below(&self, path: &Path) -> Option<OwnedFd> {
        self.sides.below.folder(path).ok()
    }

    fn names(&mut self, folder: &OwnedFd, path: &Path) -> Result<BTreeSet<OsString>, DraftError> {
        let failed = |error: Errno| DraftError::io("read", path)(error.into());
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.insert(OsStr::from_bytes(name).to_owned());
            }
        }
        self.entries += names.len();
        if self.entries > ENTRIES_MAX {
            return Err(DraftError::TooMany(ENTRIES_MAX));
        }
        Ok(names)
    }
}

/// What a new folder has when nobody says anything, alone and in one that passes its group on.
fn usual_modes() -> [u32; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o022);
    [0o777 & !umask, 0o2777 & !umask]
}

fn look(folder: &OwnedFd, name: &OsStr) -> Option<Thing> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let side = |mode, stat: &Stat| {
        Thing::File(Side {
            mode,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            permissions: stat.st_mode & 0o7777,
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()),
        })
    };
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_mode & 0o100 != 0 => side(FileMode::Executable, &stat),
        FileType::RegularFile => side(FileMode::File, &stat),
        FileType::Symlink => side(FileMode::Link, &stat),
        FileType::Directory => Thing::Folder(stat.st_mode & 0o7777),
        FileType::CharacterDevice if stat.st_rdev == 0 => Thing::Whiteout,
        FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Fifo
        | FileType::Socket
        | FileType::Unknown => Thing::Other,
    })
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(rustix::fs::fgetxattr(folder, OPAQUE, value.as_mut_slice()), Ok(1)) && value[0] == b'y'
}
