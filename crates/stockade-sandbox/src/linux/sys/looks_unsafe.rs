//! What the kernel says of a file, as the bytes that it would give a caller.
#![expect(unsafe_code, reason = "the kernel's own layouts, which are handed on unread")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Room for the longest of the three (`struct statx`, 256 bytes).
const ROOM: usize = 512;

fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct stat` of what `fd` refers to (`fstat(2)`).
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn stat(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut buffer = [0_u8; ROOM];
    let (fd, flags) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is a C string; the kernel writes one `struct stat`, which fits.
    checked(unsafe {
        libc::syscall(libc::SYS_newfstatat, fd, c"".as_ptr(), buffer.as_mut_ptr(), flags)
    })?;
    Ok(buffer[..size_of::<libc::stat>()].to_vec())
}

/// `struct statx` of what `fd` refers to: the fields of `mask`, synchronised as `flags` say.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn statx(fd: BorrowedFd<'_>, flags: i32, mask: u32) -> io::Result<Vec<u8>> {
    let mut buffer = [0_u8; ROOM];
    let (fd, flags) = (fd.as_raw_fd(), flags | libc::AT_EMPTY_PATH);
    // SAFETY: the path is a C string; the kernel writes one `struct statx`, which fits.
    checked(unsafe {
        libc::syscall(libc::SYS_statx, fd, c"".as_ptr(), flags, mask, buffer.as_mut_ptr())
    })?;
    Ok(buffer[..size_of::<libc::statx>()].to_vec())
}

/// `struct statfs` of the file system that `fd` lies on (`fstatfs(2)`).
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn statfs(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut buffer = [0_u8; ROOM];
    // SAFETY: the kernel writes one `struct statfs`, which fits.
    checked(unsafe { libc::syscall(libc::SYS_fstatfs, fd.as_raw_fd(), buffer.as_mut_ptr()) })?;
    Ok(buffer[..size_of::<libc::statfs>()].to_vec())
}
