//! A record that is still being written, read as it grows, and what commands print meanwhile.

use std::collections::VecDeque;
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chain::{EVENTS, Record, Records};
use super::printing::Followed;
use super::thread::{is_alive, pause};
use super::{Store, StoreError};
use crate::ThreadId;
use crate::record::{Decision, Event};

/// How long a look at a record that has not grown is away from the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Something that is seen of a thread that is followed.
#[derive(Debug)]
pub enum Seen {
    /// A record.
    Record(Box<Record>),
    /// What a command printed: hostile bytes. All of it comes before the record of its end.
    Printed {
        /// Which.
        id: String,
        /// A piece, as it came.
        bytes: Vec<u8>,
    },
}

/// The records of a thread, those that are still to come too, and between them what commands print. It
/// ends with the process that works on the thread; what is recorded when there is none comes without
/// waiting.
#[derive(Debug)]
pub struct Follow {
    folder: PathBuf,
    records: Records,
    /// Commands that have begun and not ended.
    running: Vec<Followed>,
    seen: VecDeque<Seen>,
    is_over: bool,
}

impl Store {
    /// Follows the record of a thread.
    ///
    /// # Errors
    ///
    /// As [`records`](Store::records).
    pub fn follow(&self, id: &ThreadId) -> Result<Follow, StoreError> {
        let folder = self.existing(id)?;
        let records = Records::open(&folder)?;
        let (running, seen) = (Vec::new(), VecDeque::new());
        Ok(Follow { folder, records, running, seen, is_over: false })
    }
}

impl Iterator for Follow {
    type Item = Result<Seen, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Some(Ok(seen));
            }
            if self.is_over {
                return None;
            }
            // Asked before the look, so that the last lines of one that ends in between are seen.
            let goes_on = is_alive(&self.folder);
            match self.records.read_on() {
                Ok(Some(record)) => self.take(record),
                Ok(None) => {
                    self.look();
                    match (self.seen.is_empty(), goes_on) {
                        (false, _) => {}
                        (true, true) => pause(PAUSE),
                        (true, false) => self.is_over = true,
                    }
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Follow {
    fn take(&mut self, record: Record) {
        if let Event::CommandStarted(started) = &record.event {
            if started.decision != Decision::Deny {
                self.running.push(Followed::new(started.id.clone()));
            }
        } else if let Event::ThreadResumed(_) = &record.event {
            // Numbers begin anew.
            self.running.clear();
        } else if let Event::CommandFinished(finished) = &record.event {
            let at = self.running.iter().position(|running| running.id == finished.id);
            let rest = at.and_then(|at| self.running.swap_remove(at).rest());
            let printed = rest.unwrap_or_else(|| finished.output.clone().into_bytes());
            self.print(&finished.id, printed);
        }
        self.seen.push_back(Seen::Record(Box::new(record)));
    }

    /// Looks at those that run. Only when all that is recorded was read: the file of a command is found
    /// by its number, which another had before the thread was resumed.
    fn look(&mut self) {
        let mut running = std::mem::take(&mut self.running);
        for command in &mut running {
            let printed = command.look(&self.folder);
            self.print(&command.id, printed);
        }
        self.running = running;
    }

    fn print(&mut self, id: &str, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.seen.push_back(Seen::Printed { id: id.to_owned(), bytes });
        }
    }
}

impl Records {
    /// The next record. What is half there stays for the next time.
    fn read_on(&mut self) -> Result<Option<Record>, StoreError> {
        let read = self.read()?;
        if read.is_none() {
            let back = self.reader.seek(SeekFrom::Start(self.length));
            back.map_err(StoreError::io("read", Path::new(EVENTS)))?;
        }
        Ok(read)
    }
}
