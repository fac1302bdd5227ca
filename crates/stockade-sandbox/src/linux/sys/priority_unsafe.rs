//! Limits and priorities of a thread by its number.
#![expect(unsafe_code, reason = "rustix sets none of another thread, or takes no raw policy")]

use std::io;

fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `setpriority(2)` or `ioprio_set(2)`, whichever `call` is, of kind `which`.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn set_number(
    call: libc::c_long,
    which: i32,
    thread: i32,
    value: i32,
) -> io::Result<()> {
    debug_assert!(call == libc::SYS_setpriority || call == libc::SYS_ioprio_set);
    // SAFETY: both calls take integers only.
    checked(unsafe { libc::syscall(call, which, thread, value) })
}

/// `sched_setaffinity(2)`.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn set_affinity(thread: i32, mask: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told.
    checked(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, thread, mask.len(), mask.as_ptr())
    })
}

/// `sched_setscheduler(2)`, or `sched_setparam(2)` without a policy.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn set_scheduler(thread: i32, policy: Option<i32>, parameter: i32) -> io::Result<()> {
    let parameter: *const i32 = &raw const parameter;
    match policy {
        // SAFETY: `struct sched_param` is one integer, which lives until the call returns.
        Some(policy) => checked(unsafe {
            libc::syscall(libc::SYS_sched_setscheduler, thread, policy, parameter)
        }),
        // SAFETY: as above.
        None => checked(unsafe { libc::syscall(libc::SYS_sched_setparam, thread, parameter) }),
    }
}

/// `sched_setattr(2)`: `attributes` is a `struct sched_attr`, whose first field is its length.
///
/// # Errors
///
/// As the kernel says; `EINVAL` when the length is not that of `attributes`.
pub(crate) fn set_attributes(thread: i32, attributes: &mut [u8], flags: u32) -> io::Result<()> {
    let says = attributes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    if says.and_then(|length| usize::try_from(length).ok()) != Some(attributes.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the kernel reads as many bytes as the first field says, which are there. With `E2BIG` it
    // writes that field, which nobody else refers to.
    checked(unsafe {
        libc::syscall(libc::SYS_sched_setattr, thread, attributes.as_mut_ptr(), flags)
    })
}

/// `prlimit64(2)`: the value is the limit that was, soft and hard.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn limit(process: i32, resource: u32, new: Option<[u64; 2]>) -> io::Result<[u64; 2]> {
    let mut old = [0; 2];
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    // SAFETY: both are a `struct rlimit64`, or none, and live until the call returns.
    checked(unsafe {
        libc::syscall(libc::SYS_prlimit64, process, resource, new, old.as_mut_ptr())
    })?;
    Ok(old)
}
