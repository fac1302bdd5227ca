//! Installing a filter and answering its notifications.
#![expect(unsafe_code, reason = "seccomp(2) and its ioctls have no wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// One BPF instruction, laid out as the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u16,
    /// Instructions to skip when the comparison holds.
    pub(crate) jump_true: u8,
    /// Instructions to skip when it does not.
    pub(crate) jump_false: u8,
    /// Operand.
    pub(crate) operand: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

const SET_MODE_FILTER: libc::c_uint = 1;
const FLAG_NEW_LISTENER: libc::c_uint = 1 << 3;
/// Linux 5.19: a caller whose notification was received can only be ended, not interrupted,
/// so that no call is carried out twice.
const FLAG_WAIT_KILLABLE_RECV: libc::c_uint = 1 << 5;

/// Puts this thread and its future children under `program`; the returned descriptor, when
/// `listen` is asked for, receives the calls that the program answers with `USER_NOTIF`.
///
/// # Errors
///
/// `EBUSY` when a filter with a listener is already in force, `EACCES` without
/// `no_new_privs`, `EINVAL` when the program is not valid or longer than 4096 instructions.
pub(crate) fn install(program: &[Instruction], listen: bool) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: program.as_ptr() };
    let flags = if listen { FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV } else { 0 };
    // SAFETY: `program` points to `length` instructions that are borrowed for the call; the
    // kernel copies and checks them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    match i32::try_from(result) {
        // SAFETY: with NEW_LISTENER the kernel returned a new descriptor, owned by nobody.
        Ok(fd) if fd >= 0 && listen => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Ok(0) => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A trapped call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Names this call in every answer; unique for the life of the listener.
    pub(crate) id: u64,
    /// The calling thread, in this process' PID namespace.
    pub(crate) pid: i32,
    /// System call number.
    pub(crate) call: i64,
    /// Its six arguments as passed; pointers are addresses in the caller.
    pub(crate) arguments: [u64; 6],
}

/// Takes the next trapped call. `Ok(None)` when the caller was killed meanwhile.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: the struct consists of integers only, and the kernel demands that it is zero.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: `raw` is the struct that this ioctl fills, live for the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
    if result == 0 {
        return Ok(Some(Notification {
            id: raw.id,
            pid: raw.pid.cast_signed(),
            call: i64::from(raw.data.nr),
            arguments: raw.data.args,
        }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => Ok(None),
        _ => Err(error),
    }
}

/// Whether the caller of notification `id` still waits: what was read of its memory and
/// descriptors before this says yes belonged to it and not to a process with its old number.
pub(crate) fn still_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the ioctl reads one u64, live for the call.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
    };
    result == 0
}

/// What the trapped call returns to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This value.
    Value(i64),
    /// Fails with this errno.
    Errno(i32),
    /// The kernel carries it out as if it had not been trapped. The caller may have changed
    /// what its pointers point to meanwhile: only for calls whose meaning no pointer decides.
    Continue,
}

/// Lets the caller of notification `id` go on with `answer`. A caller that is gone is no error.
pub(crate) fn respond(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    /// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` (linux/seccomp.h).
    const CONTINUE: u32 = 1;
    let (val, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Errno(errno) => (0, -errno, 0),
        Answer::Continue => (0, 0, CONTINUE),
    };
    let response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: `response` is the struct that this ioctl reads, live for the call.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response)
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
}

/// Gives the caller of notification `id` a descriptor for the file behind `file`, the lowest
/// free number, which is returned: what its call is to return. The caller still waits.
///
/// # Errors
///
/// What the caller's call fails with: `EMFILE` at its limit.
pub(crate) fn give_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<i32> {
    // Nothing but the caller's end comes between this and the answer, thanks to `FLAG_WAIT_KILLABLE_RECV`.
    add_file(listener, id, file, (close_on_exec, 0))
}

/// The same, and its call returns that number: the caller goes on while this process still holds the
/// file (`SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14).
///
/// # Errors
///
/// The same; then the caller still waits. `EINVAL` from an older kernel.
pub(crate) fn answer_with_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    add_file(listener, id, file, (close_on_exec, libc::SECCOMP_ADDFD_FLAG_SEND)).map(drop)
}

fn add_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    (close_on_exec, flags): (bool, libc::c_ulong),
) -> io::Result<i32> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: u32::try_from(flags).expect("invariant: flags are few"),
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: `request` is the struct that this ioctl reads, live for the call.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request)
    };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

/// Asks for wake-ups on the same CPU (Linux 6.6), which about halves the cost of a trapped
/// call. A kernel without it answers as before, so the error is not one.
pub(crate) fn prefer_same_cpu(listener: BorrowedFd<'_>) {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the ioctl takes the flags by value.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// Asks for the id of the session keyring, which every process may, unless a filter objects.
/// For the canary.
pub(crate) fn ask_for_a_keyring() -> io::Result<()> {
    /// `KEYCTL_GET_KEYRING_ID` and `KEY_SPEC_SESSION_KEYRING` (linux/keyctl.h).
    const GET_KEYRING_ID: libc::c_int = 0;
    const SESSION_KEYRING: libc::c_int = -3;
    let create: libc::c_int = 0;
    // SAFETY: this operation takes integers only.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION_KEYRING, create) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
