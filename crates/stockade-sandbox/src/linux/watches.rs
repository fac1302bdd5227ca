//! Watches of files (inotify(7)), of which the user has so many in all: a run that used them up would
//! leave none to the user's own editor.

use std::fs;

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

fn half(all: u32) -> u32 {
    all.div_ceil(2)
}
