//! A path outside as it was when somebody was asked about it, and what is done with it after a yes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timestamps,
};

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

    /// What there is, if its user may change its mode or times: a file or a folder of theirs.
    ///
    /// # Errors
    ///
    /// There is none, or it is somebody else's.
    pub(super) fn own(path: &Path) -> io::Result<Self> {
        let target = Self::at(path)?;
        let object = target.object()?;
        let (user, owner) = (rustix::process::geteuid(), rustix::fs::fstat(&object)?.st_uid);
        if !(target.is_file() || target.is_folder()) || !(user.is_root() || user.as_raw() == owner)
        {
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

    pub(super) fn change_mode(&self, mode: Mode) -> io::Result<()> {
        self.is_still()?;
        Ok(rustix::fs::chmod(own_link(&self.object()?), mode)?)
    }

    pub(super) fn change_times(&self, times: &Timestamps) -> io::Result<()> {
        self.is_still()?;
        let object = self.object()?;
        Ok(rustix::fs::utimensat(CWD, own_link(&object), times, AtFlags::empty())?)
    }

    /// Makes a symbolic link of a name that nothing had.
    pub(super) fn link_to(&self, text: &Path) -> io::Result<()> {
        self.is_still()?;
        Ok(rustix::fs::symlinkat(text, &self.folder, &self.name)?)
    }

    /// Gives the file the name `to` as well.
    pub(super) fn link(&self, to: &Self) -> io::Result<()> {
        self.is_still()?;
        to.is_still()?;
        // The object itself, whatever has the name by now.
        let object = self.object()?;
        let follow = AtFlags::SYMLINK_FOLLOW;
        Ok(rustix::fs::linkat(CWD, own_link(&object), &to.folder, &to.name, follow)?)
    }

    pub(super) fn is_link(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::Symlink)
    }

    pub(super) fn is_file(&self) -> bool {
        self.was.is_some_and(|was| was.kind == FileType::RegularFile)
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
    pub(super) fn make_folder(&self, mode: Mode) -> io::Result<()> {
        self.is_still()?;
        rustix::fs::mkdirat(&self.folder, &self.name, Mode::RWXU)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?;
        // The umask of this process is not the caller's.
        let own = format!("/proc/self/fd/{}", made.as_raw_fd());
        Ok(rustix::fs::chmod(own, mode)?)
    }

    /// Takes the name away from what has it.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.is_still()?;
        let flags = if self.is_folder() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(&self.folder, &self.name, flags)?)
    }

    /// Gives the name `to` to what has this one, in place of what `to` had.
    pub(super) fn rename(&self, to: &Self) -> io::Result<()> {
        self.is_still()?;
        to.is_still()?;
        let careful = if to.is_new() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        rustix::fs::renameat_with(&self.folder, &self.name, &to.folder, &to.name, careful)?;
        let now = rustix::fs::statat(&to.folder, &to.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if Some(Was::of(&now)) == self.was { Ok(()) } else { Err(elsewhere()) }
    }

    pub(super) fn is_new(&self) -> bool {
        self.was.is_none()
    }

    /// Opens what was there, or makes what was not.
    pub(super) fn open(&self, (flags, mode): (OFlags, Mode)) -> io::Result<OwnedFd> {
        let link = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        if std::fs::read_link(link)? != self.folder_path {
            return Err(elsewhere());
        }
        let kept = OFlags::RWMODE | OFlags::APPEND | OFlags::SYNC | OFlags::DSYNC;
        let own = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut wanted = (flags & kept) | own;
        if self.is_new() {
            if !flags.contains(OFlags::CREATE) {
                return Err(io::ErrorKind::NotFound.into());
            }
            wanted |= OFlags::CREATE | OFlags::EXCL;
        } else if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let made = || -> rustix::io::Result<OwnedFd> {
            let file = rustix::fs::openat(&self.folder, &self.name, wanted, mode)?;
            if self.is_new() {
                // The umask of this process is not the caller's.
                rustix::fs::fchmod(&file, mode)?;
            }
            Ok(file)
        };
        let file = made()?;
        if self
            .was
            .is_some_and(|was| rustix::fs::fstat(&file).map(|stat| Was::of(&stat)) != Ok(was))
        {
            return Err(elsewhere());
        }
        if flags.contains(OFlags::TRUNC) && !self.is_new() {
            rustix::fs::ftruncate(&file, 0)?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
