//! Looking at what lies in a folder that is another by name (`crate::linux::moved`).
//!
//! Every other call of these goes on as it is: the kernel reads the path again then, and whatever it
//! finds instead, Landlock says whether it may be opened. What is carried out here is carried out by
//! a descriptor, within the same domain.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, inotify};
use stockade_policy::{Denial, Operation};

use super::names::object;
use super::open::{How, open_to_read};
use super::wish::Given;
use super::{Done, Files, Stop, error};
use crate::linux::seccomp_second::writes;
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::{Answer, place};
use crate::linux::sys::looks_unsafe;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` (linux/limits.h).
const ATTRIBUTE_MAX: usize = 65536;

/// What is asked about a path. Numbers are of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Open { flags: usize },
    Stat { to: usize, follow: bool },
    StatX,
    StatFs,
    Access { mode: usize, flags: i32 },
    ReadLink { to: usize },
    Attribute { follow: bool },
    Attributes { follow: bool },
    Watch,
    Enter,
    Execute,
}

impl Look {
    /// The look and the number of the argument that is its path; `None` for another call.
    fn of(caller: &Caller<'_>, call: i64) -> Option<(Self, usize)> {
        let follow = |index: usize| caller.integer(index) & libc::AT_SYMLINK_NOFOLLOW == 0;
        Some(match call {
            libc::SYS_openat if !writes(caller.word(2)) => (Self::Open { flags: 2 }, 1),
            libc::SYS_newfstatat => (Self::Stat { to: 2, follow: follow(3) }, 1),
            libc::SYS_statx => (Self::StatX, 1),
            libc::SYS_statfs => (Self::StatFs, 0),
            libc::SYS_faccessat => (Self::Access { mode: 2, flags: 0 }, 1),
            libc::SYS_faccessat2 => (Self::Access { mode: 2, flags: caller.integer(3) }, 1),
            libc::SYS_readlinkat => (Self::ReadLink { to: 2 }, 1),
            libc::SYS_getxattr => (Self::Attribute { follow: true }, 0),
            libc::SYS_lgetxattr => (Self::Attribute { follow: false }, 0),
            libc::SYS_listxattr => (Self::Attributes { follow: true }, 0),
            libc::SYS_llistxattr => (Self::Attributes { follow: false }, 0),
            libc::SYS_inotify_add_watch => (Self::Watch, 1),
            libc::SYS_chdir => (Self::Enter, 0),
            libc::SYS_execve => (Self::Execute, 0),
            libc::SYS_execveat => (Self::Execute, 1),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open if !writes(caller.word(1)) => (Self::Open { flags: 1 }, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => (Self::Stat { to: 1, follow: true }, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => (Self::Stat { to: 1, follow: false }, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => (Self::Access { mode: 1, flags: 0 }, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink => (Self::ReadLink { to: 1 }, 0),
            _ => return None,
        })
    }

    fn follows(self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Open { flags } => !caller.open_flags(flags).contains(OFlags::NOFOLLOW),
            Self::Stat { follow, .. }
            | Self::Attribute { follow }
            | Self::Attributes { follow } => follow,
            Self::StatX => caller.integer(2) & libc::AT_SYMLINK_NOFOLLOW == 0,
            Self::Access { flags, .. } => flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            Self::Watch => caller.word(2) & libc::IN_DONT_FOLLOW == 0,
            Self::ReadLink { .. } => false,
            Self::StatFs | Self::Enter | Self::Execute => true,
        }
    }
}

/// What is to be done about a call that reads.
#[derive(Debug)]
pub(in crate::linux::supervisor) enum Looked {
    /// It is another call.
    Other,
    /// The kernel carries it out.
    GoesOn,
    /// The kernel carries it out with this path in argument `index`; where it cannot be led, this is
    /// the answer.
    Led {
        path: Vec<u8>,
        index: usize,
        otherwise: Stop,
    },
    Done(Result<Done, Stop>),
}

impl Files {
    /// Carries out a call that reads, where its path leads elsewhere.
    pub(in crate::linux::supervisor) fn look(&self, caller: &Caller<'_>, call: i64) -> Looked {
        let Some((look, index)) = Look::of(caller, call) else { return Looked::Other };
        // What cannot be read here is the kernel's to refuse.
        let Ok(path) = caller.read_path(caller.argument(index)) else { return Looked::GoesOn };
        let done = if let Look::Open { flags } = look
            && let Some(opened) = self.open_terminal(
                Path::new(OsStr::from_bytes(&path)),
                How::new(caller.open_flags(flags), 0),
            ) {
            opened
        } else if let Some(moved) = self.moved_of(caller, (call, &path)) {
            // What only the kernel can do.
            let op = match look {
                Look::Enter => Some(Operation::Enter),
                Look::Execute => Some(Operation::Execute),
                Look::Open { .. }
                | Look::Stat { .. }
                | Look::StatX
                | Look::StatFs
                | Look::Access { .. }
                | Look::ReadLink { .. }
                | Look::Attribute { .. }
                | Look::Attributes { .. }
                | Look::Watch => None,
            };
            if let Some(op) = op {
                let otherwise = by_name_only(op, [&path, &moved]);
                return Looked::Led { path: moved, index, otherwise };
            }
            self.look_at(caller, look, moved)
        } else if let Some(other) = self.read_as(caller, look, &path) {
            self.look_at(caller, look, other)
        } else if look == Look::Watch {
            self.look_at(caller, look, path)
        } else {
            return Looked::GoesOn;
        };
        Looked::Done(caller.confirm().map_err(Stop::from).and(done))
    }

    /// The path that stands for `path`, if another does.
    fn moved_of(&self, caller: &Caller<'_>, (call, path): (i64, &[u8])) -> Option<Vec<u8>> {
        let moved = self.moved.as_ref()?;
        let is_step = call == libc::SYS_openat && caller.integer(0) != libc::AT_FDCWD;
        if is_step && path.first() != Some(&b'/') {
            // A folder that cannot be asked for its name is the kernel's to refuse.
            let name = || place::name_of(&caller.folder(caller.integer(0))?);
            return moved.of_beneath(path, name).ok()?;
        }
        moved.of(path)
    }

    /// The path of what is read in the place of the file that `path` leads to, if another is.
    fn read_as(&self, caller: &Caller<'_>, look: Look, path: &[u8]) -> Option<Vec<u8>> {
        let Look::Open { .. } = look else { return None };
        let real = || {
            let at = Given { folder: libc::AT_FDCWD, path: path.to_vec() };
            place::name_of(&object(caller, &at, look.follows(caller)).ok()?).ok()
        };
        let other = self.moved.as_ref()?.file(path, real)?;
        Some(other.as_os_str().as_bytes().to_vec())
    }

    fn look_at(&self, caller: &Caller<'_>, look: Look, path: Vec<u8>) -> Result<Done, Stop> {
        let follow = look.follows(caller);
        let object = object(caller, &Given { folder: libc::AT_FDCWD, path }, follow)?;
        if place::in_proc(&place::name_of(&object)?).is_some() {
            // This process may look into more of it than the caller.
            return error(libc::EACCES);
        }
        // Landlock is not asked who watches a file: what it hides would tell when it is used, and the
        // user's terminals when a key is pressed.
        if look == Look::Watch && self.is_hidden(&place::name_of(&object)?) {
            return error(libc::EACCES);
        }
        let Look::Open { flags } = look else { return answer(caller, look, &object) };
        let how = How::new(caller.open_flags(flags), 0);
        match self.open_terminal_again(&object, how) {
            Some(opened) => opened,
            None => open_to_read(&object, how),
        }
    }
}

/// The answer to who cannot be led.
fn by_name_only(op: Operation, names: [&[u8]; 2]) -> Stop {
    let [target, there] = names.map(|it| PathBuf::from(OsStr::from_bytes(it)));
    let decided_by = "without mounts it is there by name only".to_owned();
    let alternatives = vec![format!("use $TMPDIR: it is {}", there.display())];
    Stop::Denied(Box::new(Denial { op, target, decided_by, alternatives }))
}

/// By the link of this process', which leads to the object itself, a symbolic link included.
fn own_link(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

fn answer(caller: &Caller<'_>, look: Look, object: &OwnedFd) -> Result<Done, Stop> {
    let fd = object.as_fd();
    match look {
        Look::Stat { to, .. } => whole(caller, to, &looks_unsafe::stat(fd)?),
        Look::StatX => {
            let sync = caller.integer(2) & libc::AT_STATX_SYNC_TYPE;
            whole(caller, 4, &looks_unsafe::statx(fd, sync, caller.word(3))?)
        }
        Look::StatFs => whole(caller, 1, &looks_unsafe::statfs(fd)?),
        Look::Access { mode, flags } => {
            let flags = AtFlags::from_bits_retain(flags.cast_unsigned()) & AtFlags::EACCESS;
            let mode = Access::from_bits_retain(caller.word(mode));
            rustix::fs::accessat(CWD, own_link(object), mode, flags)?;
            Ok(Done::NOTHING)
        }
        Look::ReadLink { to } => {
            if FileType::from_raw_mode(rustix::fs::fstat(object)?.st_mode) != FileType::Symlink {
                return error(libc::EINVAL);
            }
            let link = rustix::fs::readlinkat(object, "", Vec::new())?.into_bytes();
            let room = usize::try_from(caller.integer(to + 1)).unwrap_or(0);
            if room == 0 {
                return error(libc::EINVAL);
            }
            part(caller, to, link.get(..room).unwrap_or(&link))
        }
        Look::Attribute { .. } => {
            let name = caller.read_path(caller.argument(1))?;
            attribute(caller, (2, 3), |room| {
                rustix::fs::getxattr(own_link(object), name.as_slice(), room)
            })
        }
        Look::Attributes { .. } => {
            attribute(caller, (1, 2), |room| rustix::fs::listxattr(own_link(object), room))
        }
        Look::Watch => {
            let watcher = caller.descriptor(caller.integer(0))?;
            let mask = caller.word(2) & !libc::IN_DONT_FOLLOW;
            let flags = inotify::WatchFlags::from_bits_retain(mask);
            let number = inotify::add_watch(&watcher, own_link(object), flags)?;
            Ok(Done::Answer(Answer::Value(number.into())))
        }
        Look::Open { .. } | Look::Enter | Look::Execute => error(libc::EPERM),
    }
}

/// Copies `bytes` to where argument `to` points, for a call that answers with zero.
fn whole(caller: &Caller<'_>, to: usize, bytes: &[u8]) -> Result<Done, Stop> {
    caller.confirm()?;
    caller.write(caller.argument(to), bytes)?;
    Ok(Done::NOTHING)
}

/// The same for a call that answers with their number.
fn part(caller: &Caller<'_>, to: usize, bytes: &[u8]) -> Result<Done, Stop> {
    whole(caller, to, bytes)?;
    let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok(Done::Answer(Answer::Value(length)))
}

/// An extended attribute or their list. Without room only the length is asked for.
fn attribute(
    caller: &Caller<'_>,
    (to, room): (usize, usize),
    read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Done, Stop> {
    let room = usize::try_from(caller.argument(room)).unwrap_or(usize::MAX).min(ATTRIBUTE_MAX);
    let mut buffer = vec![0; room];
    let length = read(&mut buffer)?;
    if room == 0 {
        let length = i64::try_from(length).map_err(io::Error::other)?;
        return Ok(Done::Answer(Answer::Value(length)));
    }
    part(caller, to, buffer.get(..length).unwrap_or_default())
}
