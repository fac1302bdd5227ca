//! Signals that ask this process to stop, for a program with threads.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use crate::linux::{SignalSet, block, ignored, next_signal, signalfd};

/// What a terminal, a session manager and a person send.
const STOPPING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// SIGINT, SIGTERM and SIGHUP, taken one by one instead of ending the process.
#[derive(Debug)]
pub struct Interrupts {
    signals: OwnedFd,
}

impl Interrupts {
    /// Holds the signals back from this thread and all that it starts from now on. Those that
    /// this process was told to ignore (nohup(1)) stay ignored.
    ///
    /// # Errors
    ///
    /// When no descriptor is to be had.
    pub fn hold() -> io::Result<Self> {
        let ignored = ignored(&STOPPING);
        let held: Vec<i32> =
            STOPPING.into_iter().filter(|signal| !ignored.contains(signal)).collect();
        let set = SignalSet::of(&held);
        block(&set)?;
        Ok(Self { signals: signalfd(&set)? })
    }

    /// Waits for one of them, and gives its number.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn next(&self) -> io::Result<i32> {
        loop {
            if let Some(signal) = next_signal(self.signals.as_fd())? {
                return Ok(signal);
            }
            match poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
