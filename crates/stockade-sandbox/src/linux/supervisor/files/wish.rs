//! What a trapped call asks for, copied out of the caller once.

use std::io;

use rustix::fs::OFlags;
use stockade_policy::Operation;

use super::metadata::Wanted;
use crate::linux::seccomp::{EXECUTE, FCHMODAT2};
use crate::linux::supervisor::caller::Caller;

/// A path as the caller gave it: where a relative one starts, and its bytes.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) folder: i32,
    pub(super) path: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Wish {
    Open { at: Given, flags: OFlags, mode: u32 },
    MakeFolder { at: Given, mode: u32 },
    MakeNode { at: Given, mode: u32, device: u64 },
    Symlink { target: Vec<u8>, at: Given },
    Link { from: Given, to: Given, flags: i32 },
    Rename { from: Given, to: Given, flags: u32 },
    Remove { at: Given, flags: i32 },
    Truncate { at: Given, length: u64 },
    Mode { at: Given, mode: u32, flags: i32 },
    ModeOf { descriptor: i32, mode: u32 },
    Bind { socket: i32, address: Vec<u8> },
    Metadata(Wanted),
}

/// Whether the call may let somebody execute a file: by its mode, or by an access control list.
pub(in crate::linux::supervisor) fn may_make_executable(caller: &Caller<'_>, call: i64) -> bool {
    let sets = |index: usize| caller.integer(index).cast_unsigned() & EXECUTE != 0;
    match call {
        libc::SYS_fchmod => sets(1),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => sets(1),
        libc::SYS_fchmodat | FCHMODAT2 => sets(2),
        libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => true,
        _ => false,
    }
}

/// Whether the call may make something whose mode the umask cuts. Those that are known not to:
/// they change names and modes of what is there, or open without making.
pub(in crate::linux::supervisor) fn needs_umask(caller: &Caller<'_>, call: i64) -> bool {
    let makes = |index: usize| {
        let flags = OFlags::from_bits_retain(caller.integer(index).cast_unsigned());
        flags.intersects(OFlags::CREATE | OFlags::TMPFILE)
    };
    match call {
        libc::SYS_openat => makes(2),
        libc::SYS_unlinkat
        | libc::SYS_utimensat
        | libc::SYS_fchown
        | libc::SYS_fchownat
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_fsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr
        | libc::SYS_fremovexattr
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_linkat
        | libc::SYS_symlinkat
        | libc::SYS_truncate
        | libc::SYS_fchmod
        | libc::SYS_fchmodat
        | FCHMODAT2 => false,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => makes(1),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink
        | libc::SYS_rmdir
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_symlink
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_utime
        | libc::SYS_utimes
        | libc::SYS_futimesat => false,
        _ => true,
    }
}

const CWD: i32 = libc::AT_FDCWD;

/// The arguments of one call.
struct Arguments<'a>(&'a Caller<'a>);

impl Arguments<'_> {
    fn path(&self, index: usize) -> io::Result<Vec<u8>> {
        self.0.read_moved(index)
    }

    /// What a link will say.
    fn text(&self, index: usize) -> io::Result<Vec<u8>> {
        self.0.read_path(self.0.argument(index))
    }

    /// A path from the current folder.
    fn here(&self, index: usize) -> io::Result<Given> {
        Ok(Given { folder: CWD, path: self.path(index)? })
    }

    /// A descriptor, and a path in the next argument.
    fn at(&self, index: usize) -> io::Result<Given> {
        Ok(Given { folder: self.0.integer(index), path: self.path(index + 1)? })
    }

    fn int(&self, index: usize) -> i32 {
        self.0.integer(index)
    }

    fn word(&self, index: usize) -> u32 {
        self.0.integer(index).cast_unsigned()
    }

    fn flags(&self, index: usize) -> OFlags {
        OFlags::from_bits_retain(self.word(index))
    }

    fn address(&self, index: usize) -> io::Result<Vec<u8>> {
        /// `sizeof(struct sockaddr_storage)`.
        const MAX: i32 = 128;
        let length = self.int(index + 1);
        if !(0..=MAX).contains(&length) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.0.read(self.0.argument(index), usize::try_from(length).unwrap_or(0))
    }
}

impl Wish {
    /// Copies the arguments.
    ///
    /// # Errors
    ///
    /// `EFAULT` and the like for what is not there, `EPERM` when the caller's memory cannot be
    /// read, `ESRCH` when it is gone.
    pub(super) fn of(caller: &Caller<'_>, call: i64) -> io::Result<Self> {
        let from = Arguments(caller);
        let wish = match call {
            libc::SYS_openat => {
                Self::Open { at: from.at(0)?, flags: from.flags(2), mode: from.word(3) }
            }
            libc::SYS_mkdirat => Self::MakeFolder { at: from.at(0)?, mode: from.word(2) },
            libc::SYS_mknodat => {
                let device = u64::from(from.word(3));
                Self::MakeNode { at: from.at(0)?, mode: from.word(2), device }
            }
            libc::SYS_symlinkat => Self::Symlink { target: from.text(0)?, at: from.at(1)? },
            libc::SYS_linkat => {
                Self::Link { from: from.at(0)?, to: from.at(2)?, flags: from.int(4) }
            }
            libc::SYS_unlinkat => Self::Remove { at: from.at(0)?, flags: from.int(2) },
            libc::SYS_renameat => Self::Rename { from: from.at(0)?, to: from.at(2)?, flags: 0 },
            libc::SYS_renameat2 => {
                Self::Rename { from: from.at(0)?, to: from.at(2)?, flags: from.word(4) }
            }
            libc::SYS_truncate => Self::Truncate { at: from.here(0)?, length: caller.argument(1) },
            libc::SYS_fchmod => Self::ModeOf { descriptor: from.int(0), mode: from.word(1) },
            libc::SYS_fchmodat => Self::Mode { at: from.at(0)?, mode: from.word(2), flags: 0 },
            FCHMODAT2 => Self::Mode { at: from.at(0)?, mode: from.word(2), flags: from.int(3) },
            libc::SYS_bind => Self::Bind { socket: from.int(0), address: from.address(1)? },
            call => match Wanted::of(caller, call)? {
                Some(wanted) => Self::Metadata(wanted),
                None => Self::of_old(&from, call)?,
            },
        };
        caller.confirm()?;
        Ok(wish)
    }

    /// The calls without a folder, which newer architectures do not have.
    #[cfg(target_arch = "x86_64")]
    fn of_old(from: &Arguments<'_>, call: i64) -> io::Result<Self> {
        Ok(match call {
            libc::SYS_open => {
                Self::Open { at: from.here(0)?, flags: from.flags(1), mode: from.word(2) }
            }
            libc::SYS_creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                Self::Open { at: from.here(0)?, flags, mode: from.word(1) }
            }
            libc::SYS_mkdir => Self::MakeFolder { at: from.here(0)?, mode: from.word(1) },
            libc::SYS_mknod => {
                let device = u64::from(from.word(2));
                Self::MakeNode { at: from.here(0)?, mode: from.word(1), device }
            }
            libc::SYS_symlink => Self::Symlink { target: from.text(0)?, at: from.here(1)? },
            libc::SYS_link => Self::Link { from: from.here(0)?, to: from.here(1)?, flags: 0 },
            libc::SYS_unlink => Self::Remove { at: from.here(0)?, flags: 0 },
            libc::SYS_rmdir => Self::Remove { at: from.here(0)?, flags: libc::AT_REMOVEDIR },
            libc::SYS_rename => Self::Rename { from: from.here(0)?, to: from.here(1)?, flags: 0 },
            libc::SYS_chmod => Self::Mode { at: from.here(0)?, mode: from.word(1), flags: 0 },
            _ => return Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_old(_from: &Arguments<'_>, _call: i64) -> io::Result<Self> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }

    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Open { .. } | Self::Truncate { .. } => Operation::Write,
            Self::MakeFolder { .. }
            | Self::MakeNode { .. }
            | Self::Symlink { .. }
            | Self::Bind { .. } => Operation::Create,
            Self::Link { .. } => Operation::Link,
            Self::Rename { .. } => Operation::Rename,
            Self::Remove { .. } => Operation::Remove,
            Self::Mode { .. } | Self::ModeOf { .. } | Self::Metadata(_) => Operation::Mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::linux::sys::seccomp_unsafe::Notification;

    #[test]
    fn only_what_makes_something_asks_for_the_umask() {
        let listener = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let asks = |call: i64, flags: i32| {
            let arguments = [0, 0, u64::from(flags.cast_unsigned()), 0, 0, 0];
            let call = Notification { id: 1, pid: 1, call, arguments };
            needs_umask(&Caller::new(&listener, &call), call.call)
        };
        assert!(asks(libc::SYS_openat, libc::O_CREAT | libc::O_WRONLY));
        assert!(asks(libc::SYS_mkdirat, 0) && asks(libc::SYS_mknodat, 0));
        assert!(asks(libc::SYS_bind, 0), "a socket's name has a mode");
        assert!(!asks(libc::SYS_openat, libc::O_WRONLY));
        for call in
            [libc::SYS_unlinkat, libc::SYS_utimensat, libc::SYS_fchownat, libc::SYS_fchmodat]
        {
            assert!(!asks(call, 0), "{call}");
        }
        assert!(!asks(libc::SYS_setxattr, 0) && !asks(libc::SYS_removexattr, 0));
    }
}
