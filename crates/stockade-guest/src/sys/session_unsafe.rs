//! Commands in sessions of their own.
#![expect(unsafe_code, reason = "setsid between fork and execve has no safe form")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes what `command` starts the leader of a new session and group, without a controlling
/// terminal: its group can be killed whole, and it cannot reach the terminal of who serves.
pub(crate) fn in_new_session(command: &mut Command) {
    let new_session = || match rustix::process::setsid() {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    // SAFETY: the closure runs in the forked child of a process with threads, where locks may be
    // held for ever, so it may only do what is async-signal-safe. It makes one system call, and
    // turns a number into an `io::Error` without allocating.
    unsafe { command.pre_exec(new_session) };
}
