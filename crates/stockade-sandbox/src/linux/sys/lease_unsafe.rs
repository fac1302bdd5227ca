//! Leases of files (fcntl(2), "Leases").
#![expect(unsafe_code, reason = "rustix has no F_SETLEASE")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// asm-generic/fcntl.h; the libc crate has it for other systems only.
const F_SETSIG: i32 = 10;

/// A lease for reading: while it is held nobody has the file open for writing, by a shared mapping
/// neither.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    file: BorrowedFd<'a>,
}

impl<'a> Lease<'a> {
    /// Takes one on `file`, a descriptor for reading only.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when somebody can write to the file; `EINVAL` where the file system has no leases;
    /// `EACCES` for a file of somebody else's.
    pub(crate) fn take(file: BorrowedFd<'a>) -> io::Result<Self> {
        // Whoever breaks it is told by a signal that ends nobody, unlike the usual SIGIO.
        command(file, F_SETSIG, libc::SIGURG)?;
        command(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        Ok(Self { file })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // It ends with the descriptor in any case.
        command(self.file, libc::F_SETLEASE, libc::F_UNLCK).ok();
    }
}

fn command(file: BorrowedFd<'_>, command: i32, argument: i32) -> io::Result<()> {
    // SAFETY: both commands take an integer and touch no memory of this process.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
