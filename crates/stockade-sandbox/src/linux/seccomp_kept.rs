//! What is trapped besides writes where everything that changes is kept, and where there are no mounts:
//! modes, times, attributes.

use super::seccomp::{FCHMODAT2, Rule};

/// Not in libc for every target: Linux 6.13. Libraries fall back.
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;

/// Times by a descriptor are not among them: who unpacks an archive sets them of each file that it
/// has made, and of one that it has opened to write to they are kept by then.
pub(super) const RULES: &[(libc::c_long, Rule)] = &[
    (libc::SYS_fchmod, Rule::Trap),
    (libc::SYS_fchmodat, Rule::Trap),
    (FCHMODAT2, Rule::Trap),
    (libc::SYS_utimensat, Rule::TrapUnlessZero(1)),
    (libc::SYS_setxattr, Rule::Trap),
    (libc::SYS_lsetxattr, Rule::Trap),
    (libc::SYS_fsetxattr, Rule::Trap),
    (libc::SYS_removexattr, Rule::Trap),
    (libc::SYS_lremovexattr, Rule::Trap),
    (libc::SYS_fremovexattr, Rule::Trap),
    (SETXATTRAT, Rule::Deny(libc::ENOSYS)),
    (REMOVEXATTRAT, Rule::Deny(libc::ENOSYS)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utime, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utimes, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_futimesat, Rule::TrapUnlessZero(1)),
];
