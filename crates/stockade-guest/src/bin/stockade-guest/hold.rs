//! On the host: a command that does not outlive who started it.
//!
//! A hostile guest need not switch itself off when its channel ends, and nobody is there to kill
//! its machine when the process that started it was killed. The kernel is.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::Failure;

/// Becomes the command. The signal is set before the parent is looked at, so that a parent that
/// ended before it could be sent is noticed.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let parent = arguments.next().and_then(|id| id.into_string().ok()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        return Err(Failure::new("hold", "nothing"));
    };
    let failed = |error: std::io::Error| Failure::because("hold", program.display(), &error);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| failed(error.into()))?;
    if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
        return Err(Failure::new("hold", "for a parent that has ended"));
    }
    Err(failed(Command::new(&program).args(arguments).exec()))
}
