//! What a run left behind that may not stay is held back: moved into a quarantine, from which the
//! user may take it.
//!
//! ```text
//! ROOT/noted/ID            what is to be looked at when the run is over; locked while it lives
//! ROOT/noted/spare-N       an empty one, of a run that noted nothing, for the next
//! ROOT/quarantine/ID/      mode 0700
//!     list.jsonl           what is in it, and from where
//!     N                    a file, a link or a folder
//! ```
//!
//! The list is looked at when the run has ended; after a kill, by the next Stockade that starts or
//! opens the store. What it names is judged by what is there then ([`Guard::remains`]).
//!
//! [`Guard::remains`]: stockade_policy::guard::Guard::remains

mod moving;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use stockade_policy::guard::{Noted, Remains};
use stockade_sandbox::Notes;

use crate::ThreadId;
use crate::folder::{make_private, put_by, spares};
use crate::quoted;
use crate::record::{Event, Held, PathText};
use crate::store::Store;

const NOTED: &str = "noted";
const QUARANTINE: &str = "quarantine";
const LIST: &str = "list.jsonl";

/// As many as one line names.
const NAMED: usize = 3;
/// As often a list is begun that somebody takes for one of the lost before it is locked.
const BEGINNINGS: usize = 3;

/// A run that is looked at when it is over.
#[derive(Debug)]
pub struct Watched {
    root: PathBuf,
    id: ThreadId,
    /// Locked: whoever finds the list unlocked knows that nobody is left of the run.
    lock: File,
}

/// What became of a list.
#[derive(Debug, Default)]
pub struct Settled {
    /// What was held back.
    pub held: Vec<Held>,
    /// What should have been and could not be, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

impl Settled {
    /// One line for a person; `None` when there is nothing to be told.
    pub fn line(&self, thread: &ThreadId) -> Option<String> {
        let name = |path: &Path| format!("`{}`", quoted(path.as_os_str().as_encoded_bytes()));
        let mut parts = Vec::new();
        if let Some(first) = self.held.first() {
            let named = self.held.iter().take(NAMED);
            let mut named: Vec<_> =
                named.map(|it| format!("{} ({})", name(&it.path.to_path()), it.why)).collect();
            if self.held.len() > NAMED {
                named.push(format!("{} more", self.held.len() - NAMED));
            }
            let path = name(&first.path.to_path());
            parts.push(format!(
                "held back: {}; `stockade threads apply {thread} --accept PATH` puts it back (PATH is {path})",
                named.join(", ")
            ));
        }
        for (path, error) in &self.failed {
            parts.push(format!("NOT held back, look at it: {}: {error}", name(path)));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What the record has of it.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.held.iter().cloned().map(Event::Held)
    }
}

impl Watched {
    /// Begins the list of `id` in the store at `root`.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn begin(root: &Path, id: &ThreadId) -> io::Result<Self> {
        let (folder, path) = (root.join(NOTED), noted(root, id));
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        for _ in 0..BEGINNINGS {
            // What is taken is opened as what is made.
            spares(&folder).find(|spare| fs::rename(spare, &path).is_ok());
            let lock = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_private(&folder)?;
                    open()?
                }
                opened => opened?,
            };
            // Another who looks for lists of the lost has it for a moment.
            rustix::fs::flock(&lock, FlockOperation::LockShared)?;
            let stat = rustix::fs::fstat(&lock)?;
            // Who settled it meanwhile has removed it.
            if stat.st_nlink != 0 && stat.st_size == 0 {
                return Ok(Self { root: root.to_owned(), id: id.clone(), lock });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// The file that is written inside.
    pub fn path(&self) -> PathBuf {
        noted(&self.root, &self.id)
    }

    /// The run is over: looks at what was noted.
    pub fn settle(self) -> Settled {
        let Self { root, id, lock } = self;
        drop(lock);
        let is_empty = fs::metadata(noted(&root, &id)).is_ok_and(|list| list.len() == 0);
        if is_empty && put_by(&root.join(NOTED), &noted(&root, &id)) {
            return Settled::default();
        }
        settle(&root, &id).unwrap_or_else(|error| Settled {
            failed: vec![(noted(&root, &id), error)],
            ..Settled::default()
        })
    }
}

/// Looks at what runs noted whose Stockade was killed. Costs one look at a folder when there are
/// none.
pub fn settle_lost(root: &Path) -> Vec<(ThreadId, Settled)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root.join(NOTED)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(Ok(id)) = name.to_str().map(str::parse::<ThreadId>) else { continue };
        let Ok(settled) = settle(root, &id) else { continue };
        if settled.held.is_empty() && settled.failed.is_empty() {
            continue;
        }
        // The record of a thread tells it; that of a run has ended with its process.
        if let Ok(thread) = Store::open(root).and_then(|store| store.resume(&id)) {
            for event in settled.events() {
                thread.record(&event).ok();
            }
        }
        all.push((id, settled));
    }
    all
}

/// Looks at the list of `id`, unless its run still lives, and removes it.
fn settle(root: &Path, id: &ThreadId) -> io::Result<Settled> {
    let path = noted(root, id);
    let list = File::open(&path)?;
    if rustix::fs::flock(&list, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(Settled::default());
    }
    let settled = match Notes::read(&fs::read(&path)?) {
        Some(mut notes) => {
            notes.noted.retain(has_no_link_above);
            let remains = notes.guard.remains(&stockade_sandbox::disk(), &notes.noted);
            hold(root, id, remains)
        }
        None => Settled::default(),
    };
    // What could not be moved is tried again by the next one.
    if settled.failed.is_empty() {
        fs::remove_file(&path)?;
    }
    Ok(settled)
}

/// Whether the note's folder is where it was: what a link leads to has a note of its own, or is
/// none of this run's.
fn has_no_link_above(noted: &Noted) -> bool {
    let path = match noted {
        Noted::Repository(path)
        | Noted::GitFile(path)
        | Noted::Index(path)
        | Noted::Absent(path) => path,
    };
    let above = path.parent();
    above.is_some_and(|above| above.canonicalize().is_ok_and(|real| real == above))
}

fn hold(root: &Path, id: &ThreadId, remains: Vec<Remains>) -> Settled {
    let mut settled = Settled::default();
    for Remains { path, why } in remains {
        let held = Held { path: PathText::from(path.as_path()), why: why.to_owned() };
        match hold_one(&quarantine(root, id), &held, &path) {
            Ok(()) => settled.held.push(held),
            Err(error) => settled.failed.push((path, error)),
        }
    }
    settled
}

fn hold_one(folder: &Path, held: &Held, path: &Path) -> io::Result<()> {
    make_private(folder)?;
    let number = (1..u32::MAX)
        .find(|number: &u32| fs::symlink_metadata(folder.join(number.to_string())).is_err());
    let entry = Entry { number: number.unwrap_or_default(), held: held.clone() };
    let mut line = serde_json::to_vec(&entry)?;
    line.push(b'\n');
    // First the list: what it names and is not there was not moved.
    let list = &mut OpenOptions::new();
    list.append(true).create(true).mode(0o600).open(folder.join(LIST))?.write_all(&line)?;
    moving::moved(path, &folder.join(entry.number.to_string()))
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    number: u32,
    #[serde(flatten)]
    held: Held,
}

fn entries(root: &Path, id: &ThreadId) -> Vec<Entry> {
    let folder = quarantine(root, id);
    let list = fs::read(folder.join(LIST)).unwrap_or_default();
    let lines = list.split(|byte| *byte == b'\n');
    let mut entries: Vec<Entry> =
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    // Of two with one number the later one is there.
    entries.reverse();
    let mut seen = std::collections::BTreeSet::new();
    let is_there = |entry: &Entry| {
        fs::symlink_metadata(folder.join(entry.number.to_string())).is_ok()
            && seen.insert(entry.number)
    };
    entries.retain(is_there);
    entries.sort_by_key(|entry| entry.number);
    entries
}

/// What of `id` is held back now.
pub fn list(root: &Path, id: &ThreadId) -> Vec<Held> {
    entries(root, id).into_iter().map(|entry| entry.held).collect()
}

/// Puts back what is held of `path`; `Ok(false)` when nothing is.
///
/// # Errors
///
/// When something else has the name by now, or the disk refuses: it is held as before.
pub fn release(root: &Path, id: &ThreadId, path: &Path) -> io::Result<bool> {
    let entry = entries(root, id).into_iter().find(|entry| entry.held.path.to_path() == path);
    let Some(entry) = entry else { return Ok(false) };
    let folder = quarantine(root, id);
    moving::moved(&folder.join(entry.number.to_string()), path)?;
    if entries(root, id).is_empty() {
        // It has nothing but the list.
        fs::remove_dir_all(&folder)?;
    }
    Ok(true)
}

/// Removes what is held of a thread, and what was noted of it.
pub(crate) fn forget(root: &Path, id: &ThreadId) -> io::Result<()> {
    match fs::remove_dir_all(quarantine(root, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folders of what is held, for who bounds them.
pub(crate) fn all(root: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(root.join(QUARANTINE)).into_iter().flatten().flatten();
    list.map(|entry| entry.path()).collect()
}

fn noted(root: &Path, id: &ThreadId) -> PathBuf {
    root.join(NOTED).join(id.as_str())
}

fn quarantine(root: &Path, id: &ThreadId) -> PathBuf {
    root.join(QUARANTINE).join(id.as_str())
}

#[cfg(test)]
mod tests;
