//! A path outside as it was when somebody was asked about it, and what is done with it after a yes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timestamps,
    Uid, XattrFlags,
};

use super::keeper::{At, Kept};

/// A name as it was when somebody was asked about it.
#[derive(Debug)]
pub(super) struct Target {
    folder: OwnedFd,
    folder_path: PathBuf,
    name: PathBuf,
    /// `None` when there was nothing.
    was: Option<Was>,
}

/// What had a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Was {
    device: u64,
    number: u64,
    kind: FileType,
}

impl Was {
    fn of(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self { device: stat.st_dev, number: stat.st_ino, kind }
    }
}

fn nothing() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// The name of a descriptor of this process', which leads to the object itself.
fn own_link(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

fn elsewhere() -> io::Error {
    io::Error::other("it is another one by now")
}

impl Target {
    /// Opens the folder, by a way without links, and looks at what has the name.
    fn at(path: &Path) -> io::Result<Self> {
        let (folder_path, name) = (path.parent(), path.file_name());
        let folder_path = folder_path.ok_or_else(nothing)?.to_owned();
        let name: &OsStr = name.ok_or_else(nothing)?;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat2(CWD, &folder_path, flags, Mode::empty(), resolve)?;
        let was = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(Was::of(&stat)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { folder, folder_path, name: name.into(), was })
    }

    /// A name that its user may give or take away. An error for one that they may not.
    pub(super) fn name(path: &Path) -> io::Result<Self> {
        let target = Self::at(path)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&target.folder, ".", access, AtFlags::EACCESS)?;
        Ok(target)
    }

    /// A file that its user may write, or make. An error for one that they may not, and for what is
    /// no file.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let target = Self::at(path)?;
        let Some(was) = target.was else { return Self::name(path) };
        if was.kind != FileType::RegularFile {
            return Err(nothing());
        }
        let flags = AtFlags::EACCESS;
        rustix::fs::accessat(&target.folder, &target.name, Access::WRITE_OK, flags)?;
        Ok(target)
    }

    /// What there is, if its user may change its mode or times: a file, a folder or a link of theirs.
    ///
    /// # Errors
    ///
    /// There is none, or it is somebody else's.
    pub(super) fn own(path: &Path) -> io::Result<Self> {
        let target = Self::at(path)?;
        let object = target.object()?;
        let (user, owner) = (rustix::process::geteuid(), rustix::fs::fstat(&object)?.st_uid);
        let is_such = target.is_file() || target.is_folder() || target.is_link();
        if !is_such || !(user.is_root() || user.as_raw() == owner) {
            return Err(nothing());
        }
        Ok(target)
    }

    /// A reference to what was there.
    fn object(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?;
        let now = Was::of(&rustix::fs::fstat(&object)?);
        if Some(now) == self.was { Ok(object) } else { Err(elsewhere()) }
    }

    fn path(&self) -> PathBuf {
        self.folder_path.join(&self.name)
    }

    /// The name for who keeps what is done to it; `path` is [`path`](Self::path).
    fn named<'a>(&'a self, path: &'a Path) -> At<'a> {
        let name = self.name.as_os_str().as_bytes();
        At { folder: self.folder.as_fd(), name, path }
    }

    pub(super) fn change_mode(&self, mode: Mode, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let object = self.object()?;
        kept.touches(&object, &self.path(), false);
        Ok(rustix::fs::chmod(own_link(&object), mode)?)
    }

    pub(super) fn change_times(&self, times: &Timestamps, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let object = self.object()?;
        // Those of a folder change with what is in it, which is not kept either.
        if self.is_file() {
            kept.touches(&object, &self.path(), false);
        }
        Ok(rustix::fs::utimensat(CWD, own_link(&object), times, AtFlags::empty())?)
    }

    /// Gives it to the user, and to a group of theirs. To nobody else: what a boundary lets nobody do
    /// inside, a yes to a folder does not mean either.
    pub(super) fn change_owner(
        &self,
        (user, group): (Option<u32>, Option<u32>),
        kept: &Kept,
    ) -> io::Result<()> {
        let is_own = user.is_none_or(|user| user == rustix::process::geteuid().as_raw());
        let groups = rustix::process::getgroups()?;
        let is_in = group.is_none_or(|group| {
            let mut all = groups.iter().copied().chain([rustix::process::getegid()]);
            all.any(|own| own.as_raw() == group)
        });
        if !is_own || !is_in {
            return Err(rustix::io::Errno::PERM.into());
        }
        self.is_still()?;
        let object = self.object()?;
        kept.touches(&object, &self.path(), false);
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        Ok(rustix::fs::chownat(CWD, own_link(&object), user, group, AtFlags::empty())?)
    }

    pub(super) fn truncate(&self, length: u64, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        // To be opened is to be kept as a whole.
        let file = self.open((OFlags::WRONLY, Mode::empty()), kept)?;
        Ok(rustix::fs::ftruncate(&file, length)?)
    }

    /// Sets an extended attribute, or takes it away.
    pub(super) fn change_attribute(
        &self,
        (name, value, flags): (&str, Option<&[u8]>, XattrFlags),
        kept: &Kept,
    ) -> io::Result<()> {
        self.is_still()?;
        let object = self.object()?;
        if !name.starts_with("user.") {
            // An access list is a part of the mode, too.
            kept.touches(&object, &self.path(), false);
        }
        kept.touches_attribute(&object, &self.path(), name);
        let link = own_link(&object);
        Ok(match value {
            Some(value) => rustix::fs::setxattr(link, name, value, flags),
            None => rustix::fs::removexattr(link, name),
        }?)
    }

    /// Makes a symbolic link of a name that nothing had.
    pub(super) fn link_to(&self, text: &Path, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let made = || Ok(rustix::fs::symlinkat(text, &self.folder, &self.name).map(|()| None)?);
        kept.bears::<OwnedFd>(self.named(&self.path()), made).map(drop)
    }

    /// Gives the file the name `to` as well.
    pub(super) fn link(&self, to: &Self, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        to.is_still()?;
        // The object itself, whatever has the name by now.
        let object = self.object()?;
        let follow = AtFlags::SYMLINK_FOLLOW;
        kept.links((&object, &self.path(), to.named(&to.path())), || {
            Ok(rustix::fs::linkat(CWD, own_link(&object), &to.folder, &to.name, follow)?)
        })
    }

    pub(super) fn is_link(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::Symlink)
    }

    pub(super) fn is_file(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::RegularFile)
    }

    pub(super) fn is_pipe(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::Fifo)
    }

    pub(super) fn is_folder(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::Directory)
    }

    /// Nothing has come to be in another place since.
    fn is_still(&self) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        let now = Self::at(&self.folder_path.join(&self.name))?;
        if std::fs::read_link(link)? != self.folder_path || now.was != self.was {
            return Err(elsewhere());
        }
        let folders = [&self.folder, &now.folder].map(rustix::fs::fstat);
        let [one, other] = folders.map(|stat| stat.map(|stat| Was::of(&stat)));
        if one? == other? { Ok(()) } else { Err(elsewhere()) }
    }

    /// Makes a folder of a name that nothing had.
    pub(super) fn make_folder(&self, mode: Mode, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let make = || {
            rustix::fs::mkdirat(&self.folder, &self.name, Mode::RWXU)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Some(rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?))
        };
        let made = kept.bears(self.named(&self.path()), make)?;
        // The umask of this process is not the caller's.
        let chmod = |made: OwnedFd| rustix::fs::chmod(own_link(&made), mode);
        Ok(made.map_or(Ok(()), chmod)?)
    }

    /// Makes a named pipe of a name that nothing had.
    pub(super) fn make_pipe(&self, mode: Mode, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let make = || {
            rustix::fs::mknodat(&self.folder, &self.name, FileType::Fifo, Mode::RWXU, 0)?;
            // A reference opens no pipe. The umask of this process is not the caller's.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?;
            Ok(rustix::fs::chmod(own_link(&made), mode).map(|()| None)?)
        };
        kept.bears::<OwnedFd>(self.named(&self.path()), make).map(drop)
    }

    /// Takes the name away from what has it.
    pub(super) fn remove(&self, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        let flags = if self.is_folder() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let remove = || Ok(rustix::fs::unlinkat(&self.folder, &self.name, flags)?);
        kept.loses(self.named(&self.path()), remove)
    }

    /// Gives the name `to` to what has this one, in place of what `to` had.
    pub(super) fn rename(&self, to: &Self, kept: &Kept) -> io::Result<()> {
        self.is_still()?;
        to.is_still()?;
        let careful = if to.is_new() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let (one, other) = (self.path(), to.path());
        kept.moves((self.named(&one), to.named(&other)), || {
            let (from, name) = (&self.folder, &self.name);
            Ok(rustix::fs::renameat_with(from, name, &to.folder, &to.name, careful)?)
        })?;
        let now = rustix::fs::statat(&to.folder, &to.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if Some(Was::of(&now)) == self.was { Ok(()) } else { Err(elsewhere()) }
    }

    pub(super) fn is_new(&self) -> bool {
        self.was.is_none()
    }

    /// Opens what was there, or makes what was not.
    pub(super) fn open(&self, (flags, mode): (OFlags, Mode), kept: &Kept) -> io::Result<OwnedFd> {
        let link = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        if std::fs::read_link(link)? != self.folder_path {
            return Err(elsewhere());
        }
        let taken = OFlags::RWMODE | OFlags::APPEND | OFlags::SYNC | OFlags::DSYNC;
        let own = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut wanted = (flags & taken) | own;
        if self.is_new() {
            if !flags.contains(OFlags::CREATE) {
                return Err(io::ErrorKind::NotFound.into());
            }
            wanted |= OFlags::CREATE | OFlags::EXCL;
        } else if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.is_new() {
            let make = || Ok(Some(rustix::fs::openat(&self.folder, &self.name, wanted, mode)?));
            let file = kept.bears(self.named(&self.path()), make)?.ok_or_else(nothing)?;
            // The umask of this process is not the caller's.
            rustix::fs::fchmod(&file, mode)?;
            return Ok(file);
        }
        let file = rustix::fs::openat(&self.folder, &self.name, wanted, mode)?;
        if Some(Was::of(&rustix::fs::fstat(&file)?)) != self.was {
            return Err(elsewhere());
        }
        kept.touches(&file, &self.path(), true);
        if flags.contains(OFlags::TRUNC) {
            rustix::fs::ftruncate(&file, 0)?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
