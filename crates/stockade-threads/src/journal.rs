//! What happened goes two ways: into the record, and before the eyes of those who watch.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stockade_agents::Stop;

use crate::record::Event;
use crate::store::{Printing, Store, StoreError, Thread};

/// Where events are kept.
pub trait Record: Sync {
    /// Keeps `event`, and gives the line as it was written.
    ///
    /// # Errors
    ///
    /// When it is not kept; the thread then ends, because it does nothing unrecorded.
    fn append(&self, event: &Event) -> Result<String, StoreError>;

    /// Where it goes what the command `id` prints until its end is kept.
    fn printing(&self, _id: &str) -> Printing {
        Printing::default()
    }
}

impl Record for Thread {
    fn append(&self, event: &Event) -> Result<String, StoreError> {
        self.record(event)
    }

    fn printing(&self, id: &str) -> Printing {
        self.printing(id)
    }
}

/// Something to be seen while a thread is at work.
#[derive(Debug)]
pub enum Live<'a> {
    /// All that is recorded, and the line of the record.
    Event(&'a Event, &'a str),
    /// A piece of what the agent is saying.
    Text(&'a str),
    /// A piece of what the running command printed: hostile bytes.
    Output(&'a [u8]),
    /// A piece of what a command printed that is the whole task: its answer, hostile bytes.
    Answer(&'a [u8]),
    /// A piece of what a command writes to the user's terminal, which it was lent: as it came. The
    /// first one is empty, and says that it is lent.
    Screen(&'a [u8]),
    /// Something that a person should know.
    Note(&'a str),
    /// What the agent means to do, a step a line.
    Plan(&'a str),
    /// What else the agent did, in a line: what it read, or why a call came to nothing.
    Step(&'a str),
    /// What an edit changed; `None` for a file that was not, or is no longer there.
    Change {
        /// Relative to the workspace.
        path: &'a Path,
        /// The content before.
        before: Option<&'a [u8]>,
        /// The content after.
        after: Option<&'a [u8]>,
    },
    /// What the agent is told of a refusal.
    Refused(&'a str),
    /// The model is asked.
    Asking {
        /// The number of the question in this turn of the user's, counted from 1.
        turn: u32,
        /// How many there may be.
        max_turns: u32,
    },
    /// The model is asked again.
    Retrying {
        /// What was wrong.
        why: &'a str,
        /// How long the next try waits.
        after: Duration,
    },
}

/// Watches a thread at work.
pub trait Watch: Send {
    /// Takes what there is to be seen.
    fn see(&mut self, live: &Live<'_>);
}

/// Both ways at once, for several threads of this process.
pub struct Journal<'a> {
    record: &'a dyn Record,
    watch: Box<dyn Turns + 'a>,
}

/// Lets one at a time use the one who watches. A trait, because a [`Mutex`] in its place would
/// tie everything that has the journal to the very lifetime of who watches.
trait Turns: Send + Sync {
    fn take(&self, turn: &mut dyn FnMut(&mut dyn Watch));
}

impl Turns for Mutex<&mut dyn Watch> {
    fn take(&self, turn: &mut dyn FnMut(&mut dyn Watch)) {
        turn(*self.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl std::fmt::Debug for Journal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl<'a> Journal<'a> {
    /// A journal that is kept in `record` and shown to `watch`.
    pub fn new(record: &'a dyn Record, watch: &'a mut dyn Watch) -> Self {
        Self { record, watch: Box::new(Mutex::new(watch)) }
    }

    /// The journal of a thread that was just made: what its record begins with is shown.
    pub(crate) fn begin(
        store: &Store,
        thread: &'a Thread,
        watch: &'a mut dyn Watch,
    ) -> Result<Self, StoreError> {
        for record in store.records(thread.id())? {
            let record = record?;
            watch.see(&Live::Event(&record.event, &record.line));
        }
        Ok(Self::new(thread, watch))
    }

    /// Records what is told by somebody who can do nothing about an error.
    pub(crate) fn noting<'s>(&'s self, stop: &'s Stop) -> impl Fn(&Event) + Send + Sync + 's {
        move |event| {
            if self.record(event).is_err() {
                // The next call meets the same error, and ends the thread with it.
                stop.request();
            }
        }
    }

    /// Records `event`, and then shows it.
    ///
    /// # Errors
    ///
    /// When it could not be recorded.
    pub fn record(&self, event: &Event) -> Result<(), StoreError> {
        // In one turn, so that those who watch see the order of the record.
        let mut recorded = Ok(());
        self.watch.take(&mut |watch| {
            recorded = self.record.append(event).map(|line| watch.see(&Live::Event(event, &line)));
        });
        recorded
    }

    /// Where those who follow from elsewhere see what the command `id` prints.
    pub(crate) fn printing(&self, id: &str) -> Printing {
        self.record.printing(id)
    }

    /// Shows what is not recorded by this journal.
    pub fn show(&self, live: &Live<'_>) {
        self.watch.take(&mut |watch| watch.see(live));
    }
}
