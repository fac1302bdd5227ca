//! Ending a thread from another process.
//!
//! A file in the thread's folder is the wish. The process that works on the thread looks for it,
//! ends its work in good order and records the end; nobody is signalled, so nobody else can be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use stockade_agents::Stop;

use super::thread::{is_alive, rests_within};
use super::{Store, StoreError};
use crate::ThreadId;
use crate::record::State;

const CANCEL: &str = "cancel";

/// How often a thread at work looks for the wish.
const LOOK: Duration = Duration::from_millis(250);
/// What a thread has for ending in good order; its result is still taken out.
const PATIENCE: Duration = Duration::from_mins(2);

/// The exit status of a thread that was cancelled.
pub(crate) const CANCELLED: u8 = 1;

impl Store {
    /// Ends a thread, and waits until it has. One that has no process any more is recorded as
    /// cancelled; one that was cancelled stays so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Over`] when it has come to another end; [`StoreError::Busy`] when it does not
    /// end in two minutes.
    pub fn cancel(&self, id: &ThreadId) -> Result<(), StoreError> {
        let state = self.detail(id)?.summary.state;
        match state {
            State::Cancelled => return Ok(()),
            State::Completed | State::Failed => {
                return Err(StoreError::Over(id.to_string(), state.as_str()));
            }
            State::Queued | State::Running | State::Waiting | State::Interrupted => {}
        }
        let folder = self.existing(id)?;
        if super::chain::is_run(&folder) {
            return Err(StoreError::OfARun(id.to_string()));
        }
        if is_alive(&folder) {
            let path = folder.join(CANCEL);
            fs::write(&path, b"").map_err(StoreError::io("write", &path))?;
            if !rests_within(&folder, PATIENCE) {
                return Err(StoreError::Busy(id.to_string()));
            }
        }
        match self.detail(id)?.summary.state {
            State::Cancelled => Ok(()),
            // It was quicker.
            ended @ (State::Completed | State::Failed) => {
                Err(StoreError::Over(id.to_string(), ended.as_str()))
            }
            State::Queued | State::Running | State::Waiting | State::Interrupted => {
                let thread = self.resume(id)?;
                thread.finish(State::Cancelled, CANCELLED, "cancelled").map(drop)
            }
        }
    }
}

/// Looks for the wish that a thread ends, as long as this lives.
#[derive(Debug)]
pub(crate) struct Cancel {
    was_wished: Arc<AtomicBool>,
    /// Dropped with this, which the looking thread sees.
    _done: mpsc::Sender<()>,
}

impl Cancel {
    /// Begins to look in the thread's folder. The wish requests `stop`.
    pub(crate) fn watch(folder: &Path, stop: &Stop) -> Self {
        let path = folder.join(CANCEL);
        // That of an earlier run, which has ended.
        fs::remove_file(&path).ok();
        let (done, waiting) = mpsc::channel::<()>();
        let was_wished = Arc::new(AtomicBool::new(false));
        let (wished, stop) = (Arc::clone(&was_wished), stop.clone());
        thread::spawn(move || {
            while waiting.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                if is_there(&path) {
                    wished.store(true, Ordering::SeqCst);
                    stop.request();
                    return;
                }
            }
        });
        Self { was_wished, _done: done }
    }

    /// Whether somebody wished so.
    pub(crate) fn was_wished(&self) -> bool {
        self.was_wished.load(Ordering::SeqCst)
    }
}

fn is_there(path: &PathBuf) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}
