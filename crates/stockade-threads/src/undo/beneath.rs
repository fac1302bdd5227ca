//! The user's folders while something is taken back: everything beneath their descriptors, through no
//! link, and each change kept before it is made.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use stockade_sandbox::keep::{self, Facts, Keep, facts_of};

use crate::folder;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// By name; without a value: there was none.
type Attributes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn own_link(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

/// The roots, and who keeps what is changed in them.
#[derive(Debug)]
pub(crate) struct Hands {
    roots: Vec<(PathBuf, OwnedFd)>,
    keep: Option<Keep>,
}

/// A folder and a name in it.
pub(crate) type At = (OwnedFd, OsString);

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether the content is as old as it was; folders and links are not looked at for that.
pub(super) fn is_of_time(stat: &Stat, facts: &Facts) -> bool {
    kind(stat) != FileType::RegularFile
        || facts.modified.is_none()
        || facts.modified == facts_of(stat).modified
}

/// The time of the content; that of access stays.
fn put_time(object: &OwnedFd, facts: &Facts) -> io::Result<()> {
    let Some((seconds, nanos)) = facts.modified else { return Ok(()) };
    let stays = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: stays, last_modification: modified };
    Ok(rustix::fs::utimensat(CWD, own_link(object), &times, AtFlags::empty())?)
}

impl Hands {
    /// Opens the roots that are there. Without a keeper nothing may be changed.
    pub(crate) fn open(roots: &[PathBuf], keep: Option<Keep>) -> io::Result<Self> {
        let mut opened = Vec::new();
        for root in roots {
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(CWD, root, FOLDER, Mode::empty(), resolve) {
                Ok(folder) => opened.push((root.clone(), folder)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { roots: opened, keep })
    }

    pub(super) fn keeper(&self) -> io::Result<&Keep> {
        self.keep.as_ref().ok_or_else(|| io::Error::other("nothing is changed in a preview"))
    }

    /// The root that `path` is in, or is.
    pub(super) fn root_of(&self, path: &Path) -> Option<&Path> {
        let all = self.roots.iter().map(|(root, _)| root.as_path());
        all.filter(|root| path.starts_with(root)).max_by_key(|root| root.as_os_str().len())
    }

    pub(crate) fn at(&self, path: &Path) -> io::Result<At> {
        let within = |(root, _): &&(PathBuf, OwnedFd)| path.starts_with(root) && path != root;
        let found = self.roots.iter().filter(within);
        let Some((root, folder)) = found.max_by_key(|(root, _)| root.as_os_str().len()) else {
            let root = self.roots.iter().find(|(root, _)| root == path);
            let (_, folder) = root.ok_or(io::ErrorKind::NotFound)?;
            return Ok((folder.try_clone()?, OsString::from(".")));
        };
        let parent = path.parent().unwrap_or(path).strip_prefix(root).map_err(io::Error::other)?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = rustix::fs::openat2(folder, parent, FOLDER, Mode::empty(), resolve)?;
        Ok((folder, path.file_name().unwrap_or(OsStr::new(".")).to_owned()))
    }

    /// What has the name now.
    pub(crate) fn look(&self, path: &Path) -> Option<Stat> {
        let (folder, name) = self.at(path).ok()?;
        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    pub(crate) fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let (folder, name) = self.at(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (one, other) = (self.at(from)?, self.at(to)?);
        if rustix::fs::statat(&other.0, &other.1, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let keep = self.keeper()?;
        let begun =
            keep.moves((&one.0, one.1.as_bytes(), from), (&other.0, other.1.as_bytes(), to), false);
        let done = rustix::fs::renameat(&one.0, &one.1, &other.0, &other.1);
        keep.ended(&begun, done.is_ok());
        Ok(done?)
    }

    pub(super) fn unlink(&self, path: &Path, flags: AtFlags) -> io::Result<()> {
        let (folder, name) = self.at(path)?;
        let keep = self.keeper()?;
        let begun = keep.loses(&folder, name.as_bytes(), path);
        let done = rustix::fs::unlinkat(folder, name, flags);
        keep.ended(&begun, done.is_ok());
        Ok(done?)
    }

    /// Does what gives the name to something new.
    pub(super) fn bear<T>(
        &self,
        path: &Path,
        make: impl FnOnce(&At) -> io::Result<T>,
    ) -> io::Result<T> {
        let at = self.at(path)?;
        let keep = self.keeper()?;
        let begun = keep.bears(&at.0, at.1.as_bytes(), path);
        let made = make(&at);
        keep.bore(&begun, &at.0, at.1.as_bytes(), made.is_ok());
        made
    }

    pub(super) fn make_folder(&self, path: &Path, facts: &Facts) -> io::Result<()> {
        self.bear(path, |(folder, name)| Ok(rustix::fs::mkdirat(folder, name, Mode::RWXU)?))?;
        self.own(path, facts)
    }

    /// Gives it its owner back, where this user may do that.
    pub(super) fn own(&self, path: &Path, facts: &Facts) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let (folder, name) = self.at(path)?;
        let (uid, gid) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(folder, name, Some(uid), Some(gid), flags)?)
    }

    /// Sets permissions; a link has none.
    pub(super) fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let Some(stat) = self.look(path) else { return Err(io::ErrorKind::NotFound.into()) };
        if stat.st_mode & 0o7777 == mode & 0o7777 || kind(&stat) == FileType::Symlink {
            return Ok(());
        }
        let object = self.open_file(path, OFlags::PATH)?;
        self.keeper()?.touches(&object, path, false);
        Ok(rustix::fs::chmod(own_link(&object), Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Gives a file the time of its content back.
    pub(super) fn set_time(&self, path: &Path, facts: &Facts) -> io::Result<()> {
        let Some(stat) = self.look(path) else { return Err(io::ErrorKind::NotFound.into()) };
        if is_of_time(&stat, facts) {
            return Ok(());
        }
        let object = self.open_file(path, OFlags::PATH)?;
        self.keeper()?.touches(&object, path, false);
        put_time(&object, facts)
    }

    /// Gives a folder the time at which a name in it came or went last.
    pub(super) fn set_folder_time(&self, path: &Path, facts: &Facts) -> io::Result<()> {
        let object = self.open_file(path, FOLDER)?;
        if facts_of(&rustix::fs::fstat(&object)?).modified == facts.modified {
            return Ok(());
        }
        self.keeper()?.enters(&object, path);
        put_time(&object, facts)
    }

    /// Whether these extended attributes have these values.
    pub(super) fn has_attributes(&self, path: &Path, attributes: &Attributes) -> bool {
        attributes.is_empty()
            || self.open_file(path, OFlags::PATH).is_ok_and(|object| {
                attributes.iter().all(|(name, value)| keep::attribute(&object, name) == *value)
            })
    }

    /// Gives extended attributes the values that they had.
    pub(super) fn set_attributes(&self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        if self.has_attributes(path, attributes) {
            return Ok(());
        }
        let object = self.open_file(path, OFlags::PATH)?;
        for (name, value) in attributes {
            if keep::attribute(&object, name) == *value {
                continue;
            }
            self.keeper()?.touches_attribute(&object, path, name);
            let (own, name) = (own_link(&object), name.as_slice());
            match value {
                Some(value) => rustix::fs::setxattr(own, name, value, XattrFlags::empty())?,
                None => rustix::fs::removexattr(own, name)?,
            }
        }
        Ok(())
    }

    /// The names in a folder.
    pub(crate) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        folder::names(self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }
}
