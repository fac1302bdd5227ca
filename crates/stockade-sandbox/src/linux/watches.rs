//! Watches of files (inotify(7)), of which the user has so many in all: a run that used them up would
//! leave none to the user's own editor.

use std::fs;

use rustix::process::{Resource, Rlimit};

const NAMES: [&str; 2] = ["instances", "watches"];

/// Leaves half of them to whoever is outside. The kernel counts what is used inside in the user namespace
/// of the run and in those above it, each with a limit of its own (`/proc/sys/user`).
pub(super) fn leave_half() {
    for name in NAMES {
        let all = fs::read_to_string(format!("/proc/sys/fs/inotify/max_user_{name}"));
        let half = all.ok().and_then(|all| all.trim().parse::<u32>().ok()).map(half);
        if let Some(half) = half {
            // Where that cannot be written (a container's `/proc/sys`), the user's own limit stays.
            fs::write(format!("/proc/sys/user/max_inotify_{name}"), half.to_string()).ok();
        }
    }
}

/// The same of signals that wait, and of timers that end in one (`timer_create(2)`), which the kernel
/// counts for the user: who is above the limit has to stop, and theirs inside is the lower one.
pub(super) fn leave_half_of_signals() -> rustix::io::Result<()> {
    let all = rustix::process::getrlimit(Resource::Sigpending);
    let Some(most) = all.maximum.or(all.current) else { return Ok(()) };
    let half = Some(most.div_ceil(2));
    let current = all.current.map_or(half, |current| half.map(|half| half.min(current)));
    rustix::process::setrlimit(Resource::Sigpending, Rlimit { current, maximum: half })
}

fn half(all: u32) -> u32 {
    all.div_ceil(2)
}
