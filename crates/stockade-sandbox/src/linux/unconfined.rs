//! No wall, said out loud by the caller: `danger-full-access`.
//!
//! What is left of Stockade is the environment, the time limit, and that nothing the command
//! started survives it: this process becomes the reaper of orphans and ends what is left. Where
//! somebody judges what is executed, it asks them, in the place of PID 1.

mod judged;

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::leash::Leash;
use super::sys::process_unsafe::{self, Change, Fork};
use super::sys::signal_unsafe::{self, SignalSet};
use super::target;
use crate::launch::Tell;
use crate::{Launch, Outcome, SetupError};

const FORWARDED: [i32; 5] =
    [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];
/// A terminal sends these to the command as well, which shares the process group.
const LEFT_TO_COMMAND: [i32; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Runs the command with the user's own rights, until it or `leash` ends.
pub(crate) fn launch(
    launch: &Launch,
    leash: &Leash,
    tell: Tell<'_>,
) -> Result<Outcome, SetupError> {
    let ignored = signal_unsafe::ignored(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]);
    let mut held = FORWARDED.to_vec();
    held.extend(LEFT_TO_COMMAND);
    held.push(libc::SIGCHLD);
    let set = SignalSet::of(&held);
    let host = |step: &'static str| move |error| SetupError::Host(step.into(), error);
    let mask = signal_unsafe::block(&set).map_err(host("block signals"))?;
    process_unsafe::become_subreaper().map_err(host("become the reaper of orphans"))?;
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (status_read, status_write) = pipe.map_err(|errno| host("make a pipe")(errno.into()))?;
    let (mut judging, judged) = judged::prepare(launch).map_err(host("judge what is executed"))?;
    let pid = match process_unsafe::fork().map_err(host("fork"))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(status_read);
            drop(judging);
            signal_unsafe::reset_dispositions(&ignored);
            let errno = target::run_unconfined(&launch.command, mask, || judged.enter());
            // Nobody is left to hear of an error here.
            rustix::io::write(&status_write, &errno.to_le_bytes()).ok();
            process_unsafe::exit_now(127)
        }
    };
    drop((status_write, judged));
    judging.begin(launch, tell).map_err(host("judge what is executed"))?;
    let mut errno = [0; 4];
    if let Ok(4) = rustix::io::read(&status_read, &mut errno) {
        process_unsafe::wait_for_end(pid).ok();
        judging.finish(tell);
        return Err(SetupError::NotRun {
            program: launch.command.program.clone().into(),
            source: io::Error::from_raw_os_error(i32::from_le_bytes(errno)),
        });
    }
    leash.started();
    let outcome = watch(pid, &set, launch.policy.limits.wall_time, leash);
    end_descendants();
    judging.finish(tell);
    signal_unsafe::set_mask(&mask).map_err(host("restore the signal mask"))?;
    outcome.map_err(host("wait for the command"))
}

fn watch(pid: i32, set: &SignalSet, limit: Option<Duration>, leash: &Leash) -> io::Result<Outcome> {
    let signals = signal_unsafe::signalfd(set)?;
    let deadline = limit.map(|limit| (Instant::now() + limit, limit));
    loop {
        while let Some((changed, change, _)) = process_unsafe::reap()? {
            match change {
                Change::Exited(status) if changed == pid => return Ok(Outcome::Exited(status)),
                Change::Killed(signal) if changed == pid => return Ok(Outcome::Killed(signal)),
                Change::Exited(_) | Change::Killed(_) | Change::Stopped(_) => {}
            }
        }
        let timeout = match deadline {
            None => None,
            Some((when, limit)) => {
                let left = when.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Outcome::TimedOut(limit));
                }
                let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
                Some(Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() })
            }
        };
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        fds.extend(leash.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds.get(1).is_some_and(|leash| !leash.revents().is_empty()) {
            return Ok(Outcome::Killed(libc::SIGKILL));
        }
        while let Some(signal) = signal_unsafe::next_signal(signals.as_fd())? {
            if FORWARDED.contains(&signal) {
                // It may have just ended.
                process_unsafe::kill(pid, signal).ok();
            }
        }
    }
}

/// Ends every process that descends from this one, until none is left: a new one can only be
/// a child of one that was there a moment before.
pub(super) fn end_descendants() {
    loop {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            process_unsafe::kill(child, libc::SIGKILL).ok();
            process_unsafe::wait_for_end(child).ok();
        }
    }
}

/// The children of this process, proc(5) `/proc/PID/task/TID/children`; their own become
/// children of this process when they end.
fn children() -> Vec<i32> {
    let own = std::process::id();
    let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
