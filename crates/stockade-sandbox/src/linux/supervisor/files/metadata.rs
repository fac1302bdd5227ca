//! Owners, times and extended attributes: for the second backend, as Landlock knows none of them, and
//! in the first to keep what they replace.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::names::object;
use super::wish::Given;
use super::{Done, Files, Stop, Turn, outside};
use crate::linux::asks;
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::place;

/// `XATTR_SIZE_MAX` and `XATTR_NAME_MAX` (linux/limits.h).
const VALUE_MAX: u64 = 65536;
const NAME_MAX: usize = 255;
/// Who besides owner and group may do what (acl(5)).
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// What is to be changed.
#[derive(Debug)]
pub(super) enum Change {
    /// User and group; all ones for no change.
    Owner(u32, u32),
    Times(Timestamps),
    Attribute(Vec<u8>, Vec<u8>, u32),
    NoAttribute(Vec<u8>),
}

/// Whose.
#[derive(Debug)]
pub(super) enum Whose {
    Path { at: Given, follow: bool },
    Descriptor(i32),
}

/// One call.
#[derive(Debug)]
pub(super) struct Wanted {
    whose: Whose,
    change: Change,
}

impl Wanted {
    /// Copies the arguments; `None` for other calls.
    pub(super) fn of(caller: &Caller<'_>, call: i64) -> io::Result<Option<Self>> {
        let from = From(caller);
        let (whose, change) = match call {
            libc::SYS_fchown => (from.descriptor(), from.owner(1)),
            libc::SYS_fchownat => (from.at(caller.integer(4))?, from.owner(2)),
            libc::SYS_utimensat if caller.argument(1) == 0 => {
                (from.descriptor(), from.times(2, 1)?)
            }
            libc::SYS_utimensat => (from.at(caller.integer(3))?, from.times(2, 1)?),
            libc::SYS_setxattr => (from.here(true)?, from.attribute()?),
            libc::SYS_lsetxattr => (from.here(false)?, from.attribute()?),
            libc::SYS_fsetxattr => (from.descriptor(), from.attribute()?),
            libc::SYS_removexattr => (from.here(true)?, from.no_attribute()?),
            libc::SYS_lremovexattr => (from.here(false)?, from.no_attribute()?),
            libc::SYS_fremovexattr => (from.descriptor(), from.no_attribute()?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => (from.here(true)?, from.owner(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => (from.here(false)?, from.owner(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utime => (from.here(true)?, from.seconds()?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utimes => (from.here(true)?, from.times(1, 1000)?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_futimesat if caller.argument(1) == 0 => {
                (from.descriptor(), from.times(2, 1000)?)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_futimesat => (from.at(0)?, from.times(2, 1000)?),
            _ => return Ok(None),
        };
        Ok(Some(Self { whose, change }))
    }
}

impl Wanted {
    /// Whose it is, by name.
    pub(super) fn landing(&self, turn: &Turn<'_>) -> Option<PathBuf> {
        let of = |file: OwnedFd| place::name_of(&file).ok().filter(|name| name.is_absolute());
        match &self.whose {
            Whose::Path { at, follow: true } => outside::followed(turn, at),
            Whose::Path { at, follow: false } => outside::placed(turn, at),
            Whose::Descriptor(libc::AT_FDCWD) => turn.caller.current_folder().ok().and_then(of),
            Whose::Descriptor(number) => turn.caller.object(*number).ok().and_then(of),
        }
    }

    /// What somebody may be asked about, of `path`: times, owners, and attributes that are any user's to
    /// set.
    pub(super) fn asked(&self, path: PathBuf) -> Option<asks::Change> {
        let of_user = |name: &Vec<u8>| {
            let is_of_user = name.starts_with(b"user.") || ACCESS_LISTS.contains(&name.as_slice());
            let name = is_of_user.then(|| String::from_utf8(name.clone()).ok());
            name.flatten()
        };
        match &self.change {
            Change::Times(Timestamps { last_access: one, last_modification: other }) => {
                let times = [one.tv_sec, one.tv_nsec, other.tv_sec, other.tv_nsec];
                Some(asks::Change::Times { path, times })
            }
            Change::Attribute(name, value, flags) => {
                let (name, value) = (of_user(name)?, Some(value.clone()));
                Some(asks::Change::Attribute { path, name, value, flags: *flags })
            }
            Change::NoAttribute(name) => {
                let name = of_user(name)?;
                Some(asks::Change::Attribute { path, name, value: None, flags: 0 })
            }
            Change::Owner(user, group) => {
                let id = |id: &u32| (*id != u32::MAX).then_some(*id);
                Some(asks::Change::Owner { path, user: id(user), group: id(group) })
            }
        }
    }
}

struct From<'a>(&'a Caller<'a>);

impl From<'_> {
    fn descriptor(&self) -> Whose {
        Whose::Descriptor(self.0.integer(0))
    }

    fn here(&self, follow: bool) -> io::Result<Whose> {
        let path = self.0.read_moved(0)?;
        Ok(Whose::Path { at: Given { folder: libc::AT_FDCWD, path }, follow })
    }

    fn at(&self, flags: i32) -> io::Result<Whose> {
        if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let (folder, path) = (self.0.integer(0), self.0.read_moved(1)?);
        if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            return Ok(Whose::Descriptor(folder));
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        Ok(Whose::Path { at: Given { folder, path }, follow })
    }

    fn owner(&self, index: usize) -> Change {
        let id = |index| self.0.integer(index).cast_unsigned();
        Change::Owner(id(index), id(index + 1))
    }

    /// Two of `struct timespec`, or of `struct timeval` with 1000 nanoseconds in a unit.
    fn times(&self, index: usize, unit: i64) -> io::Result<Change> {
        let now = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };
        let pointer = self.0.argument(index);
        if pointer == 0 {
            let times = Timestamps { last_access: now, last_modification: now };
            return Ok(Change::Times(times));
        }
        let bytes = self.0.read(pointer, 32)?;
        let time = |at| -> io::Result<Timespec> {
            let part = long(&bytes, at + 8);
            if unit != 1 && !(0..1_000_000).contains(&part) {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            Ok(Timespec { tv_sec: long(&bytes, at), tv_nsec: part.saturating_mul(unit) })
        };
        Ok(Change::Times(Timestamps { last_access: time(0)?, last_modification: time(16)? }))
    }

    /// A `struct utimbuf`.
    #[cfg(target_arch = "x86_64")]
    fn seconds(&self) -> io::Result<Change> {
        if self.0.argument(1) == 0 {
            return self.times(1, 1);
        }
        let bytes = self.0.read(self.0.argument(1), 16)?;
        let time = |at| Timespec { tv_sec: long(&bytes, at), tv_nsec: 0 };
        let times = Timestamps { last_access: time(0), last_modification: time(8) };
        Ok(Change::Times(times))
    }

    fn name(&self) -> io::Result<Vec<u8>> {
        let name = self.0.read_path(self.0.argument(1))?;
        if name.len() > NAME_MAX {
            return Err(io::Error::from_raw_os_error(libc::ERANGE));
        }
        Ok(name)
    }

    fn attribute(&self) -> io::Result<Change> {
        let length = self.0.argument(3);
        if length > VALUE_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let value = self.0.read(self.0.argument(2), length)?;
        Ok(Change::Attribute(self.name()?, value, self.0.integer(4).cast_unsigned()))
    }

    fn no_attribute(&self) -> io::Result<Change> {
        Ok(Change::NoAttribute(self.name()?))
    }
}

fn long(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| i64::from_ne_bytes(*chunk))
}

impl Files {
    pub(super) fn metadata(&self, turn: &Turn<'_>, wanted: &Wanted) -> Result<Done, Stop> {
        let file = match &wanted.whose {
            Whose::Path { at, follow } => object(turn.caller, at, *follow)?,
            Whose::Descriptor(libc::AT_FDCWD) => turn.caller.current_folder()?,
            Whose::Descriptor(number) => turn.caller.object(*number)?,
        };
        let name = place::name_of(&file)?;
        self.hold_metadata(turn, &file, &name)?;
        turn.caller.confirm()?;
        self.keep_metadata(&file, &name, &wanted.change);
        change(&file, &wanted.change)?;
        Ok(Done::NOTHING)
    }
}

impl Files {
    fn keep_metadata(&self, file: &OwnedFd, name: &Path, change: &Change) {
        let Some(keep) = self.keep_for(name) else { return };
        match change {
            // Those of a folder change with what is in it, which is not kept either.
            Change::Times(_) if is_folder(file) => keep.enters(file, name),
            Change::Times(_) | Change::Owner(..) => keep.touches(file, name, false),
            Change::Attribute(attribute, ..) | Change::NoAttribute(attribute) => {
                keep.touches_attribute(file, name, attribute);
            }
        }
    }
}

fn is_folder(file: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// By the link of this process', which leads to the object itself, a symbolic link included.
fn change(file: &OwnedFd, change: &Change) -> rustix::io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    match change {
        Change::Owner(user, group) => {
            let user = (*user != u32::MAX).then(|| rustix::fs::Uid::from_raw(*user));
            let group = (*group != u32::MAX).then(|| rustix::fs::Gid::from_raw(*group));
            // An id that this namespace has no word for is another's.
            rustix::fs::chownat(CWD, own, user, group, AtFlags::empty())
                .map_err(|error| if error == Errno::INVAL { Errno::PERM } else { error })
        }
        Change::Times(times) => rustix::fs::utimensat(CWD, own, times, AtFlags::empty()),
        Change::Attribute(name, value, flags) => {
            let flags = XattrFlags::from_bits_retain(*flags);
            rustix::fs::setxattr(own, name.as_slice(), value, flags)
        }
        Change::NoAttribute(name) => rustix::fs::removexattr(own, name.as_slice()),
    }
}
