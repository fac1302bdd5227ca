//! Objects of System V: shared memory, semaphores, queues of messages (sysvipc(7)).
#![expect(unsafe_code, reason = "rustix knows nothing of System V")]

use std::io;

fn checked(result: libc::c_int) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a segment of shared memory that has no key.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn make_memory(bytes: usize, flags: i32) -> io::Result<i32> {
    // SAFETY: the call takes integers only.
    checked(unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, flags | libc::IPC_CREAT) })
}

/// Makes a set of semaphores that has no key.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn make_semaphores(count: i32, flags: i32) -> io::Result<i32> {
    // SAFETY: the call takes integers only.
    checked(unsafe { libc::semget(libc::IPC_PRIVATE, count, flags | libc::IPC_CREAT) })
}

/// Makes a queue of messages that has no key.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn make_messages(flags: i32) -> io::Result<i32> {
    // SAFETY: the call takes integers only.
    checked(unsafe { libc::msgget(libc::IPC_PRIVATE, flags | libc::IPC_CREAT) })
}

/// Removes a segment, which lives on where it is attached.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn remove_memory(id: i32) -> io::Result<()> {
    // SAFETY: `IPC_RMID` looks at no buffer.
    checked(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

/// Removes a set of semaphores.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn remove_semaphores(id: i32) -> io::Result<()> {
    // SAFETY: `IPC_RMID` takes no further argument.
    checked(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}

/// Removes a queue of messages.
///
/// # Errors
///
/// As the kernel says.
pub(crate) fn remove_messages(id: i32) -> io::Result<()> {
    // SAFETY: `IPC_RMID` looks at no buffer.
    checked(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}
