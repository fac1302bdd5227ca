//! A record that is still being written, read as it grows.

use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chain::{EVENTS, Record, Records};
use super::thread::{is_alive, pause};
use super::{Store, StoreError};
use crate::ThreadId;

/// How long a look at a record that has not grown is away from the next.
const PAUSE: Duration = Duration::from_millis(200);

/// The records of a thread, those that are still to come too. It ends with the process that
/// works on the thread; what is recorded when there is none comes without waiting.
#[derive(Debug)]
pub struct Follow {
    folder: PathBuf,
    records: Records,
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
        Ok(Follow { records: Records::open(&folder)?, folder, is_over: false })
    }
}

impl Iterator for Follow {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            // Asked before the look, so that the last lines of one that ends in between are seen.
            let goes_on = is_alive(&self.folder);
            match self.records.read_on() {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) if goes_on => pause(PAUSE),
                Ok(None) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
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
