//! Stopping one thread of a program inside for a moment, and its registers.
#![expect(unsafe_code, reason = "ptrace(2) takes addresses of two processes")]

use std::io;

/// What the kernel keeps of a stopped thread.
pub(crate) type Registers = libc::user_regs_struct;

/// In the status of a stopped thread: a call begins or ends (`PTRACE_O_TRACESYSGOOD`).
pub(crate) const CALL: i32 = libc::SIGTRAP | 0x80;

/// The same: it stops because it was asked to, or with its whole process.
pub(crate) const ASKED: i32 = libc::PTRACE_EVENT_STOP;

fn asked(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the calling thread the tracer of thread `tid`, which goes on. It is let go when this thread ends.
///
/// # Errors
///
/// `EPERM` when it is traced already, or may not be inspected. Source: ptrace(2).
pub(crate) fn seize(tid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD;
    // SAFETY: the request takes integers and touches no memory of this process.
    asked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0_usize, options) })
}

/// Has it stop before it runs its own code again.
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    // SAFETY: as above.
    asked(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0_usize, 0_usize) })
}

/// Lets it run to where its next call begins or ends.
pub(crate) fn go_on(tid: i32) -> io::Result<()> {
    // SAFETY: as above.
    asked(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, tid, 0_usize, 0_usize) })
}

/// Lets it go, with `signal` (0: none).
pub(crate) fn let_go(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: as above.
    asked(unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0_usize, signal) })
}

/// The registers of a stopped thread.
pub(crate) fn registers(tid: i32) -> io::Result<Registers> {
    // SAFETY: the struct consists of integers only.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    // SAFETY: `registers` is the struct that this request fills, live for the call.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0_usize, &raw mut registers) };
    asked(result).map(|()| registers)
}

/// Sets them.
pub(crate) fn set_registers(tid: i32, registers: &Registers) -> io::Result<()> {
    // SAFETY: `registers` is the struct that this request reads, live for the call.
    asked(unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0_usize, &raw const *registers) })
}

/// Numbers and size of linux/ptrace.h.
const GET_SIGNAL_MASK: libc::c_uint = 0x420a;
const SET_SIGNAL_MASK: libc::c_uint = 0x420b;
const MASK_BYTES: usize = size_of::<u64>();

/// Which signals a stopped thread blocks, a bit each.
pub(crate) fn signal_mask(tid: i32) -> io::Result<u64> {
    let mut mask = 0_u64;
    // SAFETY: `mask` has the size that the kernel is told, and lives for the call.
    let result = unsafe { libc::ptrace(GET_SIGNAL_MASK, tid, MASK_BYTES, &raw mut mask) };
    asked(result).map(|()| mask)
}

/// Has it block these.
pub(crate) fn set_signal_mask(tid: i32, mask: u64) -> io::Result<()> {
    // SAFETY: as above; the kernel only reads it.
    asked(unsafe { libc::ptrace(SET_SIGNAL_MASK, tid, MASK_BYTES, &raw const mask) })
}
