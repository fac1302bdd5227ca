//! Where kept files lie: under a number each, by a second name or as a copy.
//!
//! A name costs a search through the folder that it is made in, so no folder has many
//! (ADR 0076).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::{FileId, How, id_of, look};

/// A file larger than this is not copied, unless its file system can share the content.
pub const COPY_MAX: u64 = 64 << 20;

/// As many kept files share a folder.
const SHELF: u64 = 128;

/// Where the kept file `number` lies, beneath the folder of all. The first ones are in that itself:
/// most runs keep few.
pub fn object_path(number: u64) -> PathBuf {
    let name = number.to_string();
    match number / SHELF {
        0 => name.into(),
        shelf => Path::new(&shelf_name(shelf)).join(name),
    }
}

fn shelf_name(shelf: u64) -> String {
    format!("shelf-{shelf}")
}

/// How a folder of the caller's is found on the mount that the store is on, without which no file can
/// have a name in both.
#[derive(Debug)]
pub(crate) enum Reach {
    /// It is on it, or there is no way.
    Direct,
    /// Beneath this, which is called so.
    Beneath(OwnedFd, PathBuf),
}

#[derive(Debug)]
pub(super) struct Objects {
    folder: Arc<OwnedFd>,
    reach: Reach,
    next: AtomicU64,
    /// The folder that a file was kept in last, where that is none of the first.
    shelf: Mutex<Option<(u64, Arc<OwnedFd>)>>,
    /// The folder that was found last, and which it is: `rm -r` asks for the same many times.
    last: Mutex<Option<(FileId, Arc<OwnedFd>)>>,
}

impl Objects {
    pub(super) fn new(folder: OwnedFd, reach: Reach) -> Self {
        let (folder, next) = (Arc::new(folder), AtomicU64::new(0));
        Self { folder, reach, next, shelf: Mutex::default(), last: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The folder for the file `number`, made if it is the first there.
    fn shelf(&self, number: u64) -> io::Result<Arc<OwnedFd>> {
        let shelf = number / SHELF;
        if shelf == 0 {
            return Ok(Arc::clone(&self.folder));
        }
        let mut last = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, folder)) = &*last
            && *known == shelf
        {
            return Ok(Arc::clone(folder));
        }
        let name = shelf_name(shelf);
        match rustix::fs::mkdirat(&*self.folder, &name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&*self.folder, &name, flags, Mode::empty())?;
        let folder = Arc::new(folder);
        *last = Some((shelf, Arc::clone(&folder)));
        Ok(folder)
    }

    /// Gives the file a second name here; where that cannot be, and its content is not kept yet, a
    /// copy is made. `above` is which folder that is, where it is known.
    pub(super) fn link(
        &self,
        (folder, name, path): (BorrowedFd<'_>, &[u8], &Path),
        (stat, above): (&Stat, Option<FileId>),
        is_copied: bool,
    ) -> How {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let number = self.number();
        match self.try_link((folder, name, path), above, (id_of(stat), number)) {
            Ok(()) => How::Link(number),
            Err(_) if is_copied => How::Facts,
            Err(_) => self.copy_named(folder, name, stat),
        }
    }

    fn try_link(
        &self,
        (folder, name, path): (BorrowedFd<'_>, &[u8], &Path),
        above: Option<FileId>,
        (id, number): (FileId, u64),
    ) -> io::Result<()> {
        let (shelf, own) = (self.shelf(number)?, number.to_string());
        match self.reached((folder, above), path)? {
            None => rustix::fs::linkat(folder, name, &*shelf, &own, AtFlags::empty())?,
            Some(folder) => {
                rustix::fs::linkat(&*folder, name, &*shelf, &own, AtFlags::empty())?;
            }
        }
        // Somebody may have given the name to another meanwhile.
        match look(shelf.as_fd(), own.as_bytes()) {
            Some(found) if id_of(&found) == id => Ok(()),
            _ => {
                rustix::fs::unlinkat(&*shelf, &own, AtFlags::empty()).ok();
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    /// The same folder on the store's mount; `None` when it is to be used as it is.
    fn reached(
        &self,
        (folder, above): (BorrowedFd<'_>, Option<FileId>),
        path: &Path,
    ) -> io::Result<Option<Arc<OwnedFd>>> {
        let Reach::Beneath(top, called) = &self.reach else { return Ok(None) };
        let id = match above {
            Some(id) => id,
            None => id_of(&rustix::fs::fstat(folder)?),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, found)) = &*last
            && *known == id
        {
            return Ok(Some(Arc::clone(found)));
        }
        let parent = path.parent().unwrap_or(path);
        let inner = parent.strip_prefix(called).map_err(io::Error::other)?;
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = rustix::fs::openat2(top, inner, flags, Mode::empty(), resolve)?;
        if id_of(&rustix::fs::fstat(&found)?) != id {
            return Err(io::ErrorKind::NotFound.into());
        }
        let found = Arc::new(found);
        *last = Some((id, Arc::clone(&found)));
        Ok(Some(found))
    }

    fn copy_named(&self, folder: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> How {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(folder, name, flags, Mode::empty()) {
                    Ok(object) => self.copy(object.as_fd(), stat),
                    Err(error) => not(&error.into()),
                }
            }
            FileType::Symlink => {
                let number = self.number();
                let copied = self.shelf(number).and_then(|shelf| {
                    let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                    Ok(rustix::fs::symlinkat(&*target, &*shelf, number.to_string())?)
                });
                copied.map_or_else(|error| not(&error), |()| How::Copy(number))
            }
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => How::Not("a socket, a FIFO or a device".to_owned()),
        }
    }

    /// Copies the content of the file behind `object`.
    pub(super) fn copy(&self, object: BorrowedFd<'_>, stat: &Stat) -> How {
        let number = self.number();
        match self.try_copy(object, stat, number) {
            Ok(()) => How::Copy(number),
            Err(error) => {
                rustix::fs::unlinkat(&*self.folder, object_path(number), AtFlags::empty()).ok();
                not(&error)
            }
        }
    }

    fn try_copy(&self, object: BorrowedFd<'_>, stat: &Stat, number: u64) -> io::Result<()> {
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = rustix::fs::open(own, flags, Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let to = rustix::fs::openat(&*self.shelf(number)?, number.to_string(), flags, mode)?;
        copy_attributes(&from, &to);
        if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
            return Ok(());
        }
        if u64::try_from(stat.st_size).unwrap_or(0) > COPY_MAX {
            return Err(io::Error::other(format!("larger than {} MiB", COPY_MAX >> 20)));
        }
        copy_all(&from, &to)
    }
}

fn not(error: &io::Error) -> How {
    How::Not(error.to_string())
}

/// What a call answers that says how many bytes it has put there, and fails with `ERANGE` where
/// there is no room.
pub(super) fn with_room(
    mut ask: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> Option<Vec<u8>> {
    /// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` (linux/limits.h).
    const MOST: usize = 65536;
    let mut few = [0; 256];
    match ask(&mut few) {
        Ok(length) => few.get(..length).map(<[u8]>::to_vec),
        Err(Errno::RANGE) => {
            let mut room = vec![0; MOST];
            let length = ask(&mut room).ok()?;
            room.truncate(length);
            Some(room)
        }
        Err(_) => None,
    }
}

/// The names of the extended attributes of what is behind `object`.
pub(super) fn attributes(object: &OwnedFd) -> Vec<Vec<u8>> {
    let own = format!("/proc/self/fd/{}", object.as_raw_fd());
    let names = with_room(|room| rustix::fs::listxattr(&own, room)).unwrap_or_default();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(<[u8]>::to_vec).collect()
}

/// Copies the extended attributes that this user may set there.
pub fn copy_attributes(from: &OwnedFd, to: &OwnedFd) {
    for name in attributes(from) {
        if let Some(value) = super::attribute(from, &name) {
            // Those of the system's are not this user's to set.
            rustix::fs::fsetxattr(to, &*name, &value, rustix::fs::XattrFlags::empty()).ok();
        }
    }
}

/// Gives `to` the mode and the times of `stat`.
pub(crate) fn copy_mode_and_times(stat: &Stat, to: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |tv_sec, nanos| Timespec { tv_sec, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(to, &times)
}

/// Copies to the end of `from`, by the kernel where it can.
pub(crate) fn copy_all(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    const PIECE: usize = 8 << 20;
    // An error: between file systems, or of one that has no such thing.
    while rustix::fs::copy_file_range(from, None, to, None, PIECE).is_ok_and(|copied| copied > 0) {}
    // What is left, which is nothing where the kernel did it.
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = rustix::io::read(from, &mut buffer)?;
        let Some(mut rest) = buffer.get(..read).filter(|rest| !rest.is_empty()) else {
            return Ok(());
        };
        while !rest.is_empty() {
            let written = rustix::io::write(to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}
