//! Where threads are kept: one folder each, and an index beside them.
//!
//! ```text
//! ROOT/index.sqlite            a cache of the folders; gone or damaged, it is made again
//! ROOT/slots/N                 held by a thread that has a machine
//! ROOT/threads/ID/             mode 0700
//!     policy.toml              the policy as it was pinned
//!     events.jsonl             what happened, chained by hash; the truth
//!     lock                     held by the process that works on the thread
//!     changes.git/             what changed: trees before and after, objects of its own
//!     kept/                    what `apply` replaced
//!     printing/ID              what a command has printed, while it runs
//! ROOT/undo/ID/                what the thread replaced in the user's files
//! ROOT/threads/ID.jsonl        the record of one `stockade run`, which is nothing else
//!     cancel                   somebody wishes that it ends
//! ```
//!
//! A thread appears under its name with its first record in it, or not at all. What a process
//! that is killed leaves behind opens again: see [`Thread`].

mod cancel;
mod chain;
mod error;
mod follow;
mod index;
mod printing;
mod slots;
mod summary;
mod thread;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use cancel::{CANCELLED, Cancel};
pub use chain::{Fault, Record, Records, Verified};
pub(crate) use chain::{Lines, RUNS_END, append, hash, now};
pub use error::StoreError;
pub use follow::{Follow, Seen};
pub use printing::Printing;
pub(crate) use slots::Slot;
pub use summary::{Detail, PhaseSeen, Summary};
pub use thread::Thread;

use crate::ThreadId;
use crate::draft::{DRAFT, remove_tree};
use crate::folder::make_private;
use crate::git::trees::CHANGES;
use crate::held;
use crate::record::{Discarded, Event, Kind, State, ThreadStarted};
use crate::undo;
use index::Index;
use stockade_policy::{AbsPath, Policy};
use thread::{is_alive, take_lock};

/// The pinned policy in a thread's folder.
const POLICY: &str = "policy.toml";

/// Folders that are not yet, or no longer, threads.
const UNFINISHED: &str = ".new-";

/// The shortest form of an ID that is looked for: fewer digits are tens of seconds.
const PREFIX_MIN: usize = 4;

/// All threads of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What a thread starts with.
#[derive(Debug, Clone)]
pub struct NewThread {
    /// How it runs.
    pub kind: Kind,
    /// The folder given to the agent.
    pub workspace: PathBuf,
    /// What it is about, in one line.
    pub title: String,
    /// Sandbox mode.
    pub mode: String,
    /// Approval policy.
    pub approvals: String,
    /// The walls that are up.
    pub enforcement: Vec<String>,
    /// The resolved policy, kept as it is; the chain of records begins with its hash.
    pub policy: String,
    /// The agent, where that is not the built-in one.
    pub agent: Option<String>,
    /// Whether its clone has what is not committed too.
    pub with_changes: bool,
}

impl Store {
    /// Opens the store in folder `root`, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        private_folder(&store.threads())?;
        Ok(store)
    }

    /// The folder that everything is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Hides all threads from a run under `policy`: this folder may be younger than it.
    pub fn hide(&self, policy: &mut Policy) {
        let root = fs::canonicalize(&self.root).ok().and_then(|root| AbsPath::new(root).ok());
        policy.hidden.extend(root.filter(|root| !policy.hidden.contains(root)));
    }

    /// Begins a thread. Its first record, [`ThreadStarted`], is written.
    ///
    /// # Errors
    ///
    /// When the disk refuses: nothing of the thread is left then.
    pub fn create(&self, new: &NewThread) -> Result<Thread, StoreError> {
        let id = ThreadId::generate();
        let unfinished = self.threads().join(format!("{UNFINISHED}{id}"));
        let folder = self.folder(&id);
        let thread = private_folder(&unfinished).and_then(|()| {
            let started = started(&id, new);
            write_new(&unfinished.join(POLICY), new.policy.as_bytes())?;
            let thread = Thread::begin(id, &unfinished, &folder, new.policy.as_bytes())?;
            thread.record(&Event::ThreadStarted(started))?;
            fs::rename(&unfinished, &folder).map_err(StoreError::io("name", &folder))?;
            Ok(thread)
        });
        if thread.is_err() {
            // The error that is told is the one that made it useless.
            fs::remove_dir_all(&unfinished).ok();
        }
        thread
    }

    /// Opens a thread for writing: to go on with it, or to note what was done with its changes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] while another process works on it, [`StoreError::Damaged`] when a
    /// record before the last does not fit.
    pub fn resume(&self, id: &ThreadId) -> Result<Thread, StoreError> {
        let place = self.existing(id)?;
        if chain::is_run(&place) {
            return Err(StoreError::OfARun(id.to_string()));
        }
        Thread::reopen(id.clone(), &place)
    }

    /// All threads, newest first; with `here`, those whose workspace is that folder or holds it.
    ///
    /// # Errors
    ///
    /// When the folder of threads cannot be read.
    pub fn list(&self, here: Option<&Path>) -> Result<Vec<Summary>, StoreError> {
        let mut known = Index::open(&self.root).map(|index| index.all()).unwrap_or_default();
        let mut changed = Vec::new();
        let mut result = Vec::new();
        let mut gone: Vec<String> = known.keys().cloned().collect();
        for id in self.ids()? {
            let folder = self.place(&id);
            let bytes = fs::metadata(chain::events(&folder)).map_or(0, |data| data.len());
            let cached = known.remove(id.as_str()).filter(|(size, _)| *size == bytes);
            let summary = cached.map(|(_, summary)| summary).or_else(|| {
                let read = Detail::read(&folder).map(|detail| detail.summary);
                changed.extend(read.clone().map(|summary| (bytes, summary)));
                read
            });
            gone.retain(|name| name != id.as_str());
            let is_here = |summary: &Summary| {
                here.is_none_or(|folder| folder.starts_with(summary.workspace()))
            };
            result.extend(summary.filter(is_here).map(|summary| summary.settled(&folder)));
        }
        // A cache that cannot be written costs time at the next look, nothing else.
        Index::open(&self.root).map(|mut index| index.update(&changed, &gone).ok());
        result.sort_by(|one, other| other.id.cmp(&one.id));
        Ok(result)
    }

    /// Threads that are there and not among all that were `listed`, since their first record is
    /// damaged, or of a version that this program does not read.
    ///
    /// # Errors
    ///
    /// When the folder of threads cannot be read.
    pub fn unreadable(&self, listed: &[Summary]) -> Result<Vec<ThreadId>, StoreError> {
        let listed: HashSet<&str> = listed.iter().map(|summary| summary.id.as_str()).collect();
        // One that has no first record was killed before it began.
        let is_damaged = |id: &ThreadId| {
            !listed.contains(id.as_str())
                && self.records(id).is_ok_and(|mut records| matches!(records.next(), Some(Err(_))))
        };
        Ok(self.ids()?.into_iter().filter(is_damaged).collect())
    }

    /// The thread that `name` means: an ID, the start of one, or `last` for the latest of the
    /// workspace that `here` lies in, unless it is a run that has nothing to show or apply.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Ambiguous`].
    pub fn find(&self, name: &str, here: &Path) -> Result<ThreadId, StoreError> {
        self.found(name, here, false)
    }

    /// The same for who looks at records, where a run may be `last`.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub fn find_record(&self, name: &str, here: &Path) -> Result<ThreadId, StoreError> {
        self.found(name, here, true)
    }

    fn found(&self, name: &str, here: &Path, with_runs: bool) -> Result<ThreadId, StoreError> {
        if name == "last" {
            let has_more =
                |it: &Summary| it.id.parse().is_ok_and(|id| !chain::is_run(&self.place(&id)));
            let is_meant = |it: &Summary| with_runs || has_more(it);
            let latest = self.list(Some(here))?.into_iter().find(is_meant);
            let id = latest.and_then(|summary| summary.id.parse().ok());
            return id.ok_or_else(|| StoreError::NoneHere(here.to_owned()));
        }
        let name = name.to_ascii_lowercase();
        let mut matching: Vec<ThreadId> =
            self.ids()?.into_iter().filter(|id| id.as_str().starts_with(&name)).collect();
        match (matching.pop(), matching.len()) {
            (Some(id), 0) if name.len() >= PREFIX_MIN => Ok(id),
            (Some(_), more) if more > 0 => Err(StoreError::Ambiguous(name, more + 1)),
            _ => Err(StoreError::NotFound(name)),
        }
    }

    /// Everything that is known of a thread without its output.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub fn detail(&self, id: &ThreadId) -> Result<Detail, StoreError> {
        let folder = self.existing(id)?;
        let mut detail =
            Detail::read(&folder).ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        detail.summary = detail.summary.settled(&folder);
        Ok(detail)
    }

    /// The same, once nobody works on it any more; as it is when that takes longer than a second.
    /// What a Stockade that was killed had started holds its lock until it ends, a moment later.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub fn detail_at_rest(&self, id: &ThreadId) -> Result<Detail, StoreError> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let detail = self.detail(id)?;
        if detail.summary.state.is_final() {
            return Ok(detail);
        }
        thread::rests_within(&self.existing(id)?, PATIENCE);
        self.detail(id)
    }

    /// Where the record of a thread says that it stands; without an end it has lost its process,
    /// when the caller has its lock.
    pub(crate) fn state_of(&self, id: &ThreadId) -> Result<State, StoreError> {
        let detail = Detail::read(&self.existing(id)?);
        let state = detail.map(|detail| detail.summary.state);
        let state = state.ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        Ok(if state.is_final() { state } else { State::Interrupted })
    }

    /// The records of a thread, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], or when the file cannot be read.
    pub fn records(&self, id: &ThreadId) -> Result<Records, StoreError> {
        Records::open(&self.existing(id)?)
    }

    /// Checks the chain of a thread's records, from the pinned policy to the end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] with the first record that does not fit.
    pub fn verify(&self, id: &ThreadId) -> Result<Verified, StoreError> {
        chain::verify(&self.existing(id)?)
    }

    /// Removes a thread with everything it kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] while a process works on it.
    pub fn remove(&self, id: &ThreadId) -> Result<(), StoreError> {
        let folder = self.existing(id)?;
        let forget = || held::forget(&self.root, id).map_err(StoreError::io("remove", &folder));
        if chain::is_run(&folder) {
            if !is_alive(&folder) {
                forget()?;
            }
            return if is_alive(&folder) {
                Err(StoreError::Busy(id.to_string()))
            } else {
                // What it asked, if it was killed.
                fs::remove_dir_all(crate::approvals::of_run(&self.root, id)).ok();
                self.remove_kept(id)?;
                fs::remove_file(&folder).map_err(StoreError::io("remove", &folder))
            };
        }
        let lock = take_lock(&folder, id)?;
        self.remove_kept(id)?;
        // Out of sight first, so that half of a thread is never a thread.
        let unfinished = self.threads().join(format!("{UNFINISHED}{id}"));
        fs::rename(&folder, &unfinished).map_err(StoreError::io("remove", &folder))?;
        remove_tree(&unfinished).map_err(StoreError::io("remove", &unfinished))?;
        forget()?;
        drop(lock);
        Ok(())
    }

    /// What undo has of it.
    fn remove_kept(&self, id: &ThreadId) -> Result<(), StoreError> {
        match undo::remove(&self.root, id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Busy(id.to_string())),
            Err(error) => Err(StoreError::io("remove", &self.root.join(undo::UNDO))(error)),
        }
    }

    /// Removes a thread of this process of which nothing is to be told.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Self::remove).
    pub(crate) fn forget(&self, thread: Thread) -> Result<(), StoreError> {
        let id = thread.id().clone();
        drop(thread);
        self.remove(&id)
    }

    /// The folder of a thread.
    pub fn folder(&self, id: &ThreadId) -> PathBuf {
        self.threads().join(id.as_str())
    }

    /// Where a thread is, and whether that is the one file of a run.
    pub(crate) fn at(&self, id: &ThreadId) -> (PathBuf, bool) {
        let place = self.place(id);
        let is_run = chain::is_run(&place);
        (place, is_run)
    }

    /// Drops what a thread changed; its record stays, and says so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] while a process works on it, or when the disk refuses.
    pub fn discard(&self, id: &ThreadId) -> Result<(), StoreError> {
        let thread = self.resume(id)?;
        let files = self.detail(id)?.summary.changes;
        // First the record: what it calls dropped may still lie there, and not the other way.
        thread.record(&Event::Discarded(Discarded { files }))?;
        for name in [DRAFT, CHANGES] {
            let path = thread.folder().join(name);
            match remove_tree(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn threads(&self) -> PathBuf {
        self.root.join("threads")
    }

    /// Where a thread is: its folder, or the one file of a run.
    fn place(&self, id: &ThreadId) -> PathBuf {
        let run = self.threads().join(format!("{id}{RUNS_END}"));
        if run.is_file() { run } else { self.folder(id) }
    }

    fn existing(&self, id: &ThreadId) -> Result<PathBuf, StoreError> {
        let place = self.place(id);
        if place.exists() { Ok(place) } else { Err(StoreError::NotFound(id.to_string())) }
    }

    /// The names that are there. What a killed process never finished is swept away.
    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        let threads = self.threads();
        let entries = fs::read_dir(&threads).map_err(StoreError::io("read", &threads))?;
        let mut ids = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(unfinished) = name.strip_prefix(UNFINISHED) {
                if unfinished.parse::<ThreadId>().is_ok() && is_abandoned(&entry.path()) {
                    remove_tree(&entry.path()).ok();
                }
            } else {
                ids.extend(name.strip_suffix(RUNS_END).unwrap_or(name).parse::<ThreadId>());
            }
        }
        Ok(ids)
    }
}

fn started(id: &ThreadId, new: &NewThread) -> ThreadStarted {
    let mut started = ThreadStarted {
        thread: id.to_string(),
        kind: new.kind,
        workspace: String::new(),
        workspace_b64: None,
        title: new.title.clone(),
        mode: new.mode.clone(),
        policy: new.approvals.clone(),
        enforcement: new.enforcement.clone(),
        agent: new.agent.clone(),
        with_changes: new.with_changes,
    };
    started.set_workspace(&new.workspace);
    started
}

/// Whether no process is at work on what lies in `folder`, and none is about to be.
fn is_abandoned(folder: &Path) -> bool {
    const AGE_SECONDS: u64 = 60;
    let modified = fs::metadata(folder).and_then(|data| data.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > AGE_SECONDS) && !is_alive(folder)
}

fn private_folder(path: &Path) -> Result<(), StoreError> {
    make_private(path).map_err(StoreError::io("make", path))
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> io::Result<()> {
        let options = &mut fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
    };
    write().map_err(StoreError::io("write", path))
}
