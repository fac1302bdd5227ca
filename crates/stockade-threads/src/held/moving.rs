//! Moving one thing, whatever it is: by a rename, or from one file system to another by copying.
//!
//! Both folders are opened without following a link, and everything is done beneath them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::folder::names;

/// Deeper than anything that people have.
const DEPTH_MAX: u32 = 128;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives what is at `from` the name `to`, which nothing has.
pub(super) fn moved(from: &Path, to: &Path) -> io::Result<()> {
    let (source, name) = parent(from)?;
    let (target, new) = parent(to)?;
    // A run may have made it so that not even its owner can take it away.
    let before = open_up(&source)?;
    let result = between((&source, name), (&target, new));
    if let Some(mode) = before {
        rustix::fs::chmod(own_link(&source), mode)?;
    }
    result
}

fn between(
    (source, name): (&OwnedFd, &OsStr),
    (target, new): (&OwnedFd, &OsStr),
) -> io::Result<()> {
    // The name `..` in a folder changes when it moves.
    if let Ok(folder) = rustix::fs::openat(source, name, FOLDER | OFlags::PATH, Mode::empty()) {
        open_up(&folder)?;
    }
    match rustix::fs::renameat_with(source, name, target, new, RenameFlags::NOREPLACE) {
        Err(Errno::XDEV) => {}
        // File systems that know no such rename.
        Err(Errno::INVAL) if rustix::fs::statat(target, new, SYMLINK).is_err() => {
            return Ok(rustix::fs::renameat(source, name, target, new)?);
        }
        done => return Ok(done?),
    }
    if rustix::fs::statat(target, new, SYMLINK).is_ok() {
        return Err(Errno::EXIST.into());
    }
    if let Err(error) = copy((source.as_fd(), name), (target.as_fd(), new), 0) {
        // Half a copy is none.
        remove(target.as_fd(), new, 0).ok();
        return Err(error);
    }
    remove(source.as_fd(), name, 0)
}

/// Lets the owner do everything in a folder; its mode before, where that has changed.
fn open_up(folder: &OwnedFd) -> io::Result<Option<Mode>> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(folder)?.st_mode & 0o7777);
    if mode.contains(Mode::RWXU) {
        return Ok(None);
    }
    rustix::fs::chmod(own_link(folder), mode | Mode::RWXU)?;
    Ok(Some(mode))
}

fn own_link(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

const SYMLINK: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

fn parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let root = rustix::fs::open("/", FOLDER, Mode::empty())?;
    let inner = above.strip_prefix("/").map_err(io::Error::other)?;
    let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = FOLDER | OFlags::PATH;
    let folder = rustix::fs::openat2(&root, inner, flags, Mode::empty(), resolve)?;
    Ok((folder, name))
}

type At<'a> = (BorrowedFd<'a>, &'a OsStr);

fn copy((source, name): At<'_>, (target, new): At<'_>, depth: u32) -> io::Result<()> {
    let stat = rustix::fs::statat(source, name, SYMLINK)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(source, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(target, new, flags, mode)?;
            io::copy(&mut File::from(file), &mut File::from(copy.try_clone()?))?;
            rustix::fs::fchmod(&copy, mode)?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(link.as_c_str(), target, new)?;
        }
        FileType::Directory if depth < DEPTH_MAX => {
            let from = opened(source, name)?;
            rustix::fs::mkdirat(target, new, Mode::RWXU)?;
            let to = rustix::fs::openat(target, new, FOLDER, Mode::empty())?;
            for inner in names(&from)? {
                copy((from.as_fd(), &inner), (to.as_fd(), &inner), depth + 1)?;
            }
            rustix::fs::fchmod(&to, mode)?;
        }
        FileType::Fifo => rustix::fs::mknodat(target, new, FileType::Fifo, mode, 0)?,
        // A socket that nobody is left to listen on, or what a run cannot make.
        FileType::Socket
        | FileType::Directory
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => return Err(io::ErrorKind::Unsupported.into()),
    }
    own((target, new), &stat)
}

/// Root gives a copy to whom the original belongs.
fn own((target, new): At<'_>, stat: &Stat) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) =
            (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(target, new, Some(uid), Some(gid), SYMLINK)?;
    }
    Ok(())
}

fn remove(source: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    let stat = rustix::fs::statat(source, name, SYMLINK)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(source, name, AtFlags::empty())?);
    }
    if depth >= DEPTH_MAX {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let folder = opened(source, name)?;
    for inner in names(&folder)? {
        remove(folder.as_fd(), &inner, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(source, name, AtFlags::REMOVEDIR)?)
}

/// A folder, open for reading, and for its owner to do everything in.
fn opened(source: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    open_up(&rustix::fs::openat(source, name, FOLDER | OFlags::PATH, Mode::empty())?)?;
    Ok(rustix::fs::openat(source, name, FOLDER, Mode::empty())?)
}
