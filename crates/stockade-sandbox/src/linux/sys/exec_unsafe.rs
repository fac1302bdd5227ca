//! `execve`, and putting descriptors where a program expects them.
#![expect(unsafe_code, reason = "execve takes arrays of raw pointers")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// A NULL-terminated array of strings, as execve wants it.
#[derive(Debug)]
pub(crate) struct StringArray {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl StringArray {
    /// Takes the strings over; they stay where they are as long as the array lives.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { pointers, _strings: strings }
    }
}

/// Replaces this process' program. Returns only if that failed.
pub(crate) fn execve(
    program: &CStr,
    arguments: &StringArray,
    environment: &StringArray,
) -> io::Error {
    // SAFETY: both arrays end in NULL and point to NUL-terminated strings that their owners,
    // borrowed for the call, keep alive.
    unsafe {
        libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr())
    };
    io::Error::last_os_error()
}

/// Marks every descriptor above 2 to be closed by execve.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.11. Source: `close_range(2)`.
pub(crate) fn close_above_two_on_exec() -> io::Result<()> {
    let flags: libc::c_uint = libc::CLOSE_RANGE_CLOEXEC;
    let (first, last): (libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX);
    // SAFETY: with CLOEXEC nothing is closed now, so no owner in this process is cheated.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes descriptor `number` refer to what `fd` does, open across execve. Its owner, if it has one,
/// then owns that.
pub(crate) fn install_stdio(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: an owner of `number` still owns an open descriptor;
    // `fd` is open, being borrowed.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets go of the descriptors `numbers`, which then refer to `/dev/null`.
pub(crate) fn detach_stdio(numbers: &[i32]) -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    numbers.iter().try_for_each(|&number| install_stdio(null.as_fd(), number))
}

/// A new descriptor for what descriptor `number` refers to, or `None` when it is closed.
pub(crate) fn duplicate_stdio(number: i32) -> Option<OwnedFd> {
    // SAFETY: fcntl checks the number; a closed one gives EBADF.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: a non-negative answer is a new descriptor, owned by nobody else yet.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
