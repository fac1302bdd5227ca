//! `mount_setattr`, which rustix does not wrap.
#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `struct mount_attr` (linux/mount.h), first version, 32 bytes.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What to set on a mount, or on a whole tree of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub(crate) clear: u64,
    /// Whether mounts made elsewhere stop appearing here (`MS_PRIVATE`).
    pub(crate) private: bool,
    /// Whether the mounts below change as well.
    pub(crate) recursive: bool,
}

/// Changes the mount that `mount` refers to.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` over the mount namespace or when a flag is locked,
/// `EINVAL` when `mount` is not the root of a mount. Linux 5.12. Source: `mount_setattr(2)`.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: if attributes.private { libc::MS_PRIVATE } else { 0 },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a literal with its NUL, `attr` is live for the call and has the
    // size that the kernel is told; the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
