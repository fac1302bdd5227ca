//! The form of `events.jsonl`: one JSON object a line, each with the hash of the line before.
//!
//! The hash is SHA-256 over the line's bytes without its line break; the first line carries the
//! hash of the pinned policy. So a line that was changed, removed or put in is found, and so is
//! another policy. What is cut off at the end is not found by this alone; a thread that ended
//! has `thread.finished` near its end.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{POLICY, StoreError};
use crate::json_for_terminals;
use crate::record::{Event, SCHEMA};

/// The record in a thread's folder.
pub(super) const EVENTS: &str = "events.jsonl";

/// SHA-256, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.extend(
            [byte >> 4, byte & 15]
                .map(|digit| char::from_digit(u32::from(digit), 16).expect("invariant: four bits")),
        );
    }
    text
}

/// How the name of a run's record ends, which is one file beside the folders of threads.
pub(crate) const RUNS_END: &str = ".jsonl";

/// Whether `place` is the record of a run.
pub(super) fn is_run(place: &Path) -> bool {
    place.as_os_str().as_encoded_bytes().ends_with(RUNS_END.as_bytes())
}

/// The file of events of the thread at `place`.
pub(super) fn events(place: &Path) -> PathBuf {
    if is_run(place) { place.to_owned() } else { place.join(EVENTS) }
}

/// Makes lines, each with the hash of the one before.
#[derive(Debug)]
pub(crate) struct Lines {
    seq: u64,
    prev: String,
}

impl Lines {
    /// Those of a run, whose policy stands in its record and not before it.
    pub(crate) fn of_run() -> Self {
        Self { seq: 0, prev: hash(b"") }
    }

    /// The next line, with its line break.
    pub(crate) fn next(&mut self, event: &Event) -> io::Result<String> {
        let (text, hash) = written(self.seq, event, &self.prev)?;
        self.seq += 1;
        self.prev = hash;
        Ok(text)
    }
}

/// Line number `seq` after the one with the hash `prev`, with its line break, and its own hash.
pub(super) fn written(seq: u64, event: &Event, prev: &str) -> io::Result<(String, String)> {
    let schema = (seq == 0).then_some(SCHEMA);
    let line = Line { seq, schema, time: now(), event, prev };
    let mut text = json_for_terminals(serde_json::to_string(&line)?);
    let hash = hash(text.as_bytes());
    text.push('\n');
    Ok((text, hash))
}

/// One line, to write.
#[derive(Debug, Serialize)]
struct Line<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<u32>,
    time: String,
    #[serde(flatten)]
    event: &'a Event,
    prev: &'a str,
}

/// One line, read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Counts from 0.
    pub seq: u64,
    /// The version of the format, in the first.
    #[serde(default)]
    pub schema: Option<u32>,
    /// When it was written (RFC 3339, UTC).
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The hash of the line before.
    pub prev: String,
    /// The line itself, without its line break.
    #[serde(skip)]
    pub line: String,
}

/// Why a line does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is no record.
    #[error("it is no record")]
    NotARecord,
    /// It has no end: the writer was killed, or the disk was full.
    #[error("it has no end")]
    Torn,
    /// A line is missing, or one too many.
    #[error("it has number {0}")]
    Sequence(u64),
    /// The line before it, or the policy, is not the one that it was written after.
    #[error("what stands before it was changed")]
    Chain,
    /// The first record is of a version that is not known.
    #[error("it is of version {}, this program reads {SCHEMA}", .0.map_or("none".to_owned(), |it| it.to_string()))]
    Schema(Option<u32>),
}

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records fit together.
    pub records: u64,
    /// Bytes of a last line that has no end; the next writer puts them aside.
    pub torn_bytes: u64,
}

/// Where a record can go on.
#[derive(Debug)]
pub(super) struct End {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) length: u64,
    pub(super) torn_bytes: u64,
}

/// Reads records in order, each checked against the one before.
#[derive(Debug)]
pub struct Records {
    thread: String,
    pub(super) reader: BufReader<File>,
    seq: u64,
    prev: String,
    pub(super) length: u64,
    torn_bytes: u64,
    is_over: bool,
}

impl Records {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = events(folder);
        let file = File::open(&path).map_err(StoreError::io("read", &path))?;
        let policy = if is_run(folder) {
            Vec::new()
        } else {
            let path = folder.join(POLICY);
            std::fs::read(&path).map_err(StoreError::io("read", &path))?
        };
        let thread = folder.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let reader = BufReader::new(file);
        let prev = hash(&policy);
        Ok(Self { thread, reader, seq: 0, prev, length: 0, torn_bytes: 0, is_over: false })
    }

    /// The next record; `None` at the end, where a line without an end does not count.
    pub(super) fn read(&mut self) -> Result<Option<Record>, StoreError> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        read.map_err(StoreError::io("read", Path::new(EVENTS)))?;
        if line.last() != Some(&b'\n') {
            self.torn_bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
            return Ok(None);
        }
        self.length += u64::try_from(line.len()).unwrap_or_default();
        line.pop();
        let record = self.fitting(&line).map_err(|fault| StoreError::Damaged {
            thread: self.thread.clone(),
            line: self.seq + 1,
            fault,
        })?;
        self.seq += 1;
        self.prev = hash(&line);
        Ok(Some(record))
    }

    fn fitting(&self, line: &[u8]) -> Result<Record, Fault> {
        let text = str::from_utf8(line).ok().ok_or(Fault::NotARecord)?;
        let mut record: Record = serde_json::from_str(text).ok().ok_or(Fault::NotARecord)?;
        if record.seq != self.seq {
            return Err(Fault::Sequence(record.seq));
        }
        if record.prev != self.prev {
            return Err(Fault::Chain);
        }
        if self.seq == 0 && record.schema != Some(SCHEMA) {
            return Err(Fault::Schema(record.schema));
        }
        text.clone_into(&mut record.line);
        Ok(record)
    }

    /// Reads to the end: where a writer goes on.
    pub(super) fn end(mut self) -> Result<End, StoreError> {
        while self.read()?.is_some() {}
        let Self { seq, prev, length, torn_bytes, .. } = self;
        Ok(End { seq, prev, length, torn_bytes })
    }
}

impl Iterator for Records {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Checks a whole record.
pub(super) fn verify(folder: &Path) -> Result<Verified, StoreError> {
    let End { seq, torn_bytes, .. } = Records::open(folder)?.end()?;
    Ok(Verified { records: seq, torn_bytes })
}

/// The time as it stands in a record.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Writes `line` in one call, so that a reader sees all of it or none, and a writer that is
/// killed leaves at most one torn line at the end.
pub(crate) fn append(file: &File, line: &[u8]) -> io::Result<()> {
    loop {
        match rustix::io::write(file, line) {
            Ok(written) if written == line.len() => return Ok(()),
            Ok(_) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
