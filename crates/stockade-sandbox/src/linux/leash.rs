//! The end of a run that a process elsewhere holds.
//!
//! A run that was spawned (`crate::helper`) hangs on a socket: when the other end is closed or
//! says anything, the run ends. A parent-death signal would not do: it follows the *thread* that
//! spawned, which may end long before its process (`PR_SET_PDEATHSIG(2const)`).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::handover::News;

/// What a run hangs on: a socket, or nothing for `stockade run`.
#[derive(Debug)]
pub(crate) struct Leash(Option<UnixStream>);

impl Leash {
    /// Nobody holds the run; whoever started it waits for it in this process.
    pub(crate) const NONE: Self = Self(None);

    /// The run ends with `channel`.
    pub(crate) fn on(channel: UnixStream) -> Self {
        Self(Some(channel))
    }

    /// Tells the holder that the command runs. One that is gone is noticed by polling.
    pub(crate) fn started(&self) {
        self.tell(&News::Started);
    }

    /// Tells the holder `news`.
    pub(crate) fn tell(&self, news: &News) {
        if let Some(channel) = &self.0 {
            // Nobody is left to hear of an error.
            news.send(channel).ok();
        }
    }

    /// What becomes readable when the run is to end.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|channel| channel.as_fd())
    }
}
