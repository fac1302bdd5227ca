//! Reading and writing the memory of a process inside the boundary.
#![expect(unsafe_code, reason = "process_vm_readv(2) takes raw addresses of two processes")]

use std::io;

/// Copies up to `buffer.len()` bytes from `address` in process `pid`; returns how many.
///
/// # Errors
///
/// `EFAULT` when the first byte is not mapped there, `EPERM` when that process may not be
/// inspected, `ESRCH` when it is gone. Source: `process_vm_readv(2)`.
pub(crate) fn read_memory(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` is exactly the borrowed buffer; `remote` is an address in the other
    // process, which the kernel checks and this process never follows.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_negative| io::Error::last_os_error())
}

/// Copies `bytes` to `address` in process `pid`, all or an error.
///
/// # Errors
///
/// As [`read_memory`]; a partial copy is `EFAULT`.
pub(crate) fn write_memory(pid: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel only reads `local`, which is exactly the borrowed slice; `remote` is
    // an address in the other process, which the kernel checks.
    let written =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(written) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_negative) => Err(io::Error::last_os_error()),
    }
}
