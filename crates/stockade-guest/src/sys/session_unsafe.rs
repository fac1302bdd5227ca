//! Commands in sessions of their own.
#![expect(unsafe_code, reason = "setsid between fork and execve has no safe form")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes what `command` starts the leader of a new session and group: its group can be killed
/// whole, and it cannot reach the terminal of who serves. Its controlling terminal is what it has
/// as its standard input with `has_terminal`, and none without.
pub(crate) fn in_new_session(command: &mut Command, has_terminal: bool) {
    let new_session = move || {
        rustix::process::setsid()?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child of a process with threads, where locks may be
    // held for ever, so it may only do what is async-signal-safe. It makes one or two system
    // calls, and turns a number into an `io::Error` without allocating.
    unsafe { command.pre_exec(new_session) };
}
