//! The record of a thread as it grows, for scripts: of a thread whose output is its own.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use stockade_policy::Policy;
use stockade_threads::ThreadId;
use stockade_threads::store::Store;

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

/// Where events go, and how many went there.
#[derive(Debug, Default)]
pub(super) struct Events {
    to: Vec<File>,
    told: usize,
}

impl Events {
    /// To standard output, which from here on is standard error for everybody else.
    pub(super) fn on_stdout() -> Result<Self, Failure> {
        let move_away = || -> rustix::io::Result<OwnedFd> {
            let stdout = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
            rustix::stdio::dup2_stdout(std::io::stderr())?;
            Ok(stdout)
        };
        let stdout = move_away().map_err(|error| {
            Failure::new(format!("--json: cannot keep standard output apart: {error}"), "")
        })?;
        Ok(Self { to: vec![File::from(stdout)], told: 0 })
    }

    /// To the file of `--json-file` as well, if there is one.
    pub(super) fn and_file(
        mut self,
        flags: &BoundaryArgs,
        policy: &Policy,
    ) -> Result<Self, Failure> {
        self.to.extend(boundary::json_file(flags, policy)?.map(|(file, _)| file));
        Ok(self)
    }

    /// What the record of `thread` has by now and had not before.
    pub(super) fn tell(&mut self, store: &Store, thread: &ThreadId) {
        if self.to.is_empty() {
            return;
        }
        // A record that cannot be read is said by whoever looks at the thread.
        let Ok(records) = store.records(thread) else { return };
        let lines: Vec<String> =
            records.skip(self.told).map_while(Result::ok).map(|record| record.line).collect();
        self.told += lines.len();
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        self.to.retain_mut(|file| match file.write_all(text.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                ui::say("warning", &format!("--json: nothing more is written: {error}"));
                false
            }
        });
    }
}

/// The events of one thread, for whoever lets its record grow. Clones are handles on the same.
#[derive(Debug, Clone)]
pub(super) struct Growing {
    events: Arc<Mutex<Events>>,
    store: Store,
    thread: ThreadId,
}

impl Growing {
    pub(super) fn of(events: Events, store: &Store, thread: &ThreadId) -> Self {
        let (store, thread) = (store.clone(), thread.clone());
        Self { events: Arc::new(Mutex::new(events)), store, thread }
    }

    /// What the record has by now and had not before.
    pub(super) fn tell(&self) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.tell(&self.store, &self.thread);
    }
}
