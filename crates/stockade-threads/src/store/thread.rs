//! One thread, open for writing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::chain::{self, End, Records};
use super::printing::{self, Printing};
use super::{StoreError, write_new};
use crate::ThreadId;
use crate::record::{Event, Recovered, State, ThreadFinished};

const LOCK: &str = "lock";

/// A thread that this process works on. The lock goes with the process: when it is gone and
/// the last record is no end, the thread is *interrupted*.
///
/// Records may come from several threads of the process; each is one `write(2)`.
#[derive(Debug)]
pub struct Thread {
    id: ThreadId,
    folder: PathBuf,
    writer: Mutex<Writer>,
    recovered: Option<Recovered>,
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    file: File,
    seq: u64,
    prev: String,
    length: u64,
    is_closed: bool,
}

impl Thread {
    /// Makes the record in `unfinished`, which is going to be renamed to `folder`.
    pub(super) fn begin(
        id: ThreadId,
        unfinished: &Path,
        folder: &Path,
        policy: &[u8],
    ) -> Result<Self, StoreError> {
        let lock = take_lock(unfinished, &id)?;
        write_new(&unfinished.join(chain::EVENTS), b"")?;
        let end = End { seq: 0, prev: chain::hash(policy), length: 0, torn_bytes: 0 };
        let writer = Writer::open(unfinished, end)?;
        let folder = folder.to_owned();
        Ok(Self { id, folder, writer: Mutex::new(writer), recovered: None, _lock: lock })
    }

    /// Opens what is there. A torn end is put aside into a file of its own, and recorded.
    pub(super) fn reopen(id: ThreadId, folder: &Path) -> Result<Self, StoreError> {
        let lock = take_lock(folder, &id)?;
        let end = Records::open(folder)?.end()?;
        let recovered = put_aside(folder, &end)?;
        printing::sweep(folder);
        let writer = Mutex::new(Writer::open(folder, end)?);
        let thread = Self { id, folder: folder.to_owned(), writer, recovered, _lock: lock };
        if let Some(recovered) = &thread.recovered {
            thread.record(&Event::Recovered(recovered.clone()))?;
        }
        Ok(thread)
    }

    /// The thread's name.
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// The thread's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was cut off when the thread was opened: its writer had been killed, or the disk
    /// was full.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }

    /// Appends one event and gives the line as it stands in the record, which is also what
    /// `--json` prints.
    ///
    /// # Errors
    ///
    /// When the disk refuses: the record is as it was before, and further events may be tried;
    /// [`StoreError::Closed`] when not even that could be had.
    pub fn record(&self, event: &Event) -> Result<String, StoreError> {
        // A panic elsewhere cannot leave a writer half changed: it changes after the write.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_closed {
            return Err(StoreError::Closed(self.id.to_string()));
        }
        writer.append(event).map_err(StoreError::io("record in", &self.folder))
    }

    /// Where those who follow the thread see what its command `id` prints.
    pub(crate) fn printing(&self, id: &str) -> Printing {
        Printing::of(&self.folder, id)
    }

    /// Ends the thread: the last record, on the disk.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    pub fn finish(&self, state: State, exit: u8, summary: &str) -> Result<String, StoreError> {
        let summary = summary.to_owned();
        let line = self.record(&Event::ThreadFinished(ThreadFinished { state, exit, summary }))?;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.file.sync_data().map_err(StoreError::io("write", &self.folder))?;
        Ok(line)
    }
}

impl Writer {
    fn open(folder: &Path, end: End) -> Result<Self, StoreError> {
        let path = folder.join(chain::EVENTS);
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        Ok(Self { file, seq: end.seq, prev: end.prev, length: end.length, is_closed: false })
    }

    fn append(&mut self, event: &Event) -> io::Result<String> {
        let (mut text, hash) = chain::written(self.seq, event, &self.prev)?;
        if let Err(error) = chain::append(&self.file, text.as_bytes()) {
            // Half of a line must not get a neighbour.
            self.is_closed = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.seq += 1;
        self.prev = hash;
        self.length += u64::try_from(text.len()).unwrap_or_default();
        text.pop();
        Ok(text)
    }
}

/// Cuts a torn line off and keeps its bytes. Whoever is killed in between finds the same line
/// again, and a copy of it under another number.
fn put_aside(folder: &Path, end: &End) -> Result<Option<Recovered>, StoreError> {
    if end.torn_bytes == 0 {
        return Ok(None);
    }
    let path = folder.join(chain::EVENTS);
    let cut = |kept: &Path| -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.seek(SeekFrom::Start(end.length))?;
        let mut torn = Vec::new();
        file.read_to_end(&mut torn)?;
        let options = &mut OpenOptions::new();
        let mut aside = options.write(true).create_new(true).mode(0o600).open(kept)?;
        io::Write::write_all(&mut aside, &torn)?;
        aside.sync_data()?;
        file.set_len(end.length)
    };
    let mut kept = "torn-1".to_owned();
    for number in 2..u32::MAX {
        if !folder.join(&kept).exists() {
            break;
        }
        kept = format!("torn-{number}");
    }
    let aside = folder.join(&kept);
    cut(&aside).map_err(|error| {
        // On a full disk each try would leave another one; the record has the same bytes still.
        fs::remove_file(&aside).ok();
        StoreError::io("repair", &path)(error)
    })?;
    Ok(Some(Recovered { bytes: end.torn_bytes, kept }))
}

/// Takes the thread for this process.
pub(super) fn take_lock(folder: &Path, id: &ThreadId) -> Result<File, StoreError> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(2);
    let path = folder.join(LOCK);
    let options = &mut OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(StoreError::io("open", &path))?;
    for _ in 0..TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // Somebody who asks whether the thread lives holds the lock for a moment.
            Err(Errno::WOULDBLOCK | Errno::INTR) => pause(PAUSE),
            Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
        }
    }
    Err(StoreError::Busy(id.to_string()))
}

/// Whether a process works on the thread.
pub(super) fn is_alive(folder: &Path) -> bool {
    let lock = if chain::is_run(folder) { folder.to_owned() } else { folder.join(LOCK) };
    let Ok(file) = fs::File::open(lock) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Waits until no process works on the thread; whether that came within `patience`.
pub(super) fn rests_within(folder: &Path, patience: Duration) -> bool {
    const WAIT: Duration = Duration::from_millis(50);
    let began = Instant::now();
    while is_alive(folder) {
        if began.elapsed() > patience {
            return false;
        }
        pause(WAIT);
    }
    true
}

/// Nothing tells when a lock becomes free except waiting for it without an end, and a record
/// that grows tells nobody either.
pub(super) fn pause(time: Duration) {
    let time = Timespec::try_from(time).ok();
    rustix::event::poll(&mut [], time.as_ref()).ok();
}
