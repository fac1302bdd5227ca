//! The three calls of landlock(7).
#![expect(unsafe_code, reason = "the Landlock calls have no wrapper in libc")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `struct landlock_ruleset_attr` (linux/landlock.h) as of ABI 6, 24 bytes. Older kernels
/// take it as long as the fields they do not know are zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct RulesetAttr {
    /// `LANDLOCK_ACCESS_FS_*` that are denied unless a rule allows them.
    pub(crate) handled_fs: u64,
    /// `LANDLOCK_ACCESS_NET_*`, likewise.
    pub(crate) handled_net: u64,
    /// `LANDLOCK_SCOPE_*`: what is cut off outside the domain.
    pub(crate) scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_uint = 1;

/// The highest Landlock ABI of the running kernel.
///
/// # Errors
///
/// `ENOSYS` or `EOPNOTSUPP` where Landlock is not built in or not enabled.
pub(crate) fn abi() -> io::Result<u32> {
    let none: *const RulesetAttr = std::ptr::null();
    let size: libc::size_t = 0;
    // SAFETY: with this flag the kernel takes no attribute and makes no descriptor.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, size, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).map_err(|_negative| io::Error::last_os_error())
}

/// Makes an empty ruleset.
pub(crate) fn create_ruleset(attr: &RulesetAttr) -> io::Result<OwnedFd> {
    let flags: libc::c_uint = 0;
    // SAFETY: `attr` is live for the call and has the size that the kernel is told.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(attr),
            size_of::<RulesetAttr>(),
            flags,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel returned a new descriptor, owned by nobody else yet.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Allows `access` on what `path` refers to and everything beneath it.
///
/// # Errors
///
/// `EINVAL` when `access` has bits that the ruleset does not handle, or rights of a folder
/// for a file.
pub(crate) fn allow_beneath(
    ruleset: BorrowedFd<'_>,
    path: BorrowedFd<'_>,
    access: u64,
) -> io::Result<()> {
    let attr = PathBeneath { allowed: access, parent: path.as_raw_fd() };
    let flags: libc::c_uint = 0;
    // SAFETY: `attr` is live for the call and laid out as the kernel's packed struct.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const attr,
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts this thread and its future children under `ruleset`, for good.
///
/// # Errors
///
/// `EPERM` without `no_new_privs`, `E2BIG` at 16 stacked rulesets.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    let flags: libc::c_uint = 0;
    // SAFETY: the call takes a descriptor and an integer.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
