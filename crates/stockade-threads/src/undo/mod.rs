//! Taking back what a thread changed: from what its boundary kept, without the user's git.
//!
//! `plan` is pure and says what each name was; `restore` does it, and keeps what it replaces by the
//! same means, so that an undo is itself undone by reading another journal.

mod beneath;
mod journals;
mod plan;
mod restore;
mod reverted;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use stockade_policy::AbsPath;
pub(crate) use stockade_sandbox::keep::changed;

use crate::ThreadId;
use crate::store::{Store, StoreError};
pub(crate) use beneath::Hands;
pub use journals::Segment;
use journals::Sort;
pub use journals::missing;
pub(crate) use journals::{Journals, UNDO};
pub(crate) use plan::{KeptFile, Plan, Want, plan as plan_of};
use restore::Work;

/// Nothing could be taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// There is no such thread, or no store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is still at work.
    #[error("thread {0} is at work")]
    Runs(ThreadId),
    /// It has kept nothing.
    #[error("thread {0} has nothing to take back")]
    Nothing(ThreadId),
    /// No thread here has.
    #[error("no thread of `{}` has anything to take back", .0.display())]
    NoneHere(PathBuf),
    /// It has no undo that could be taken back.
    #[error("nothing of thread {0} was taken back")]
    NoUndo(ThreadId),
    /// What was kept cannot be used.
    #[error("cannot read what was kept of thread {0}")]
    Io(ThreadId, #[source] io::Error),
}

impl UndoError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Runs(_) => Some("wait for its end, or `stockade threads cancel` it"),
            Self::Nothing(_) => Some(
                "it changed no file here, worked on a draft or a clone, or ran where nothing is \
                 kept (`read-only`, `danger-full-access`, no user namespaces)",
            ),
            Self::NoUndo(_) => Some("`stockade undo` takes back what it changed"),
            Self::Store(error) => error.hint(),
            Self::NoneHere(_) | Self::Io(..) => None,
        }
    }
}

/// What is wished.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only what is at or below these; none: all.
    pub paths: Vec<PathBuf>,
    /// Also what changed since.
    pub is_forced: bool,
    /// Only say what would be done.
    pub is_preview: bool,
    /// Take the undo back instead.
    pub is_redo: bool,
}

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is what it was.
    Restored,
    /// It was not there, and is gone.
    Removed,
    /// It was left as it is, for this reason.
    Left(Why),
}

/// Why a name was left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Somebody edited it after the thread did.
    #[error("changed since")]
    Changed,
    /// What it was is not there; no undo can take that back.
    #[error("not kept: {0}")]
    NotKept(String),
    /// Anything else, in words.
    #[error("{0}")]
    Else(String),
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// The latest thread whose workspace `here` is in that has something to take back; with `is_redo`
/// the one that was taken back last.
///
/// # Errors
///
/// [`UndoError`] when there is none.
pub fn latest(store: &Store, here: &Path, is_redo: bool) -> Result<ThreadId, UndoError> {
    let mut undone: Option<(u64, ThreadId)> = None;
    for summary in store.list(Some(here))? {
        let Ok(id) = summary.id.parse::<ThreadId>() else { continue };
        let found = Journals::open(store.root(), &id, false);
        let Ok(Some(journals)) = found else { continue };
        let last =
            journals.all.last().map(|last| (last.sort == Sort::Undo, last.is_whole, last.end));
        let Some((is_undone, is_whole, end)) = last else { continue };
        if is_redo {
            // Of those that came one after the other the last has to come back first.
            let is_later = undone.as_ref().is_none_or(|(latest, _)| end > *latest);
            undone = if is_undone && is_later { Some((end, id)) } else { undone };
        } else if !is_undone || !is_whole {
            return Ok(id);
        }
    }
    undone.map(|(_, id)| id).ok_or_else(|| UndoError::NoneHere(here.to_owned()))
}

/// Takes back what the thread `id` changed.
///
/// # Errors
///
/// [`UndoError`]: nothing was changed then. What could not be taken back is among the result.
pub fn undo(store: &Store, id: &ThreadId, options: &Options) -> Result<Vec<Taken>, UndoError> {
    let of = |error| UndoError::Io(id.clone(), error);
    if !store.detail_at_rest(id)?.summary.state.is_final() {
        return Err(UndoError::Runs(id.clone()));
    }
    let journals = match Journals::open(store.root(), id, true) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(UndoError::Runs(id.clone()));
        }
        journals => journals.map_err(of)?.ok_or_else(|| UndoError::Nothing(id.clone()))?,
    };
    let first = if options.is_redo { first_undo(&journals) } else { Some(0) };
    let first = first.ok_or_else(|| UndoError::NoUndo(id.clone()))?;
    let plan = plan::plan(&journals.ops(first));
    let roots = journals.roots();
    let sort = if options.is_redo { Sort::Redo } else { Sort::Undo };
    let segment = if options.is_preview {
        None
    } else {
        let roots = roots.iter().filter_map(|root| AbsPath::new(root.clone()).ok()).collect();
        Some(Segment::of(&journals.folder, sort, roots).map_err(of)?)
    };
    let keep = segment.as_ref().map(Segment::keep);
    let hands = Hands::open(&roots, keep.transpose().map_err(of)?).map_err(of)?;
    let back = if options.is_redo { HashSet::new() } else { journals.back() };
    let work = Work {
        hands,
        ends: journals.ends().beside(reverted::by_others(store.root(), id)),
        journals: &journals,
        plan: &plan,
        is_forced: options.is_forced,
        chosen: &options.paths,
        back: &back,
        waiting: format!(".stockade-undo-{id}"),
        taken: BTreeMap::new(),
    };
    let taken = work.run(!options.is_preview);
    if let Some(segment) = segment {
        let is_back = |it: &&Taken| !matches!(it.outcome, Outcome::Left(_));
        let back = taken.iter().filter(is_back).map(|it| it.path.as_path());
        segment.mark_back(back).map_err(of)?;
        // What was never kept does not stand between the user and earlier threads.
        let is_left = |taken: &Taken| match &taken.outcome {
            Outcome::Left(Why::Changed | Why::Else(_)) => true,
            Outcome::Left(Why::NotKept(_)) | Outcome::Restored | Outcome::Removed => false,
        };
        if options.paths.is_empty() && !taken.iter().any(is_left) {
            segment.mark_whole().map_err(of)?;
        }
        // Its time is all that is lost without it.
        segment.end().ok();
    }
    Ok(taken)
}

/// Whether the thread went on after nothing could be kept any more: that part of it stays.
pub fn is_cut(store: &Store, id: &ThreadId) -> bool {
    matches!(Journals::look(store.root(), id), Ok(Some(journals)) if journals.are_cut())
}

/// Where what was taken back since the last redo begins.
fn first_undo(journals: &Journals) -> Option<usize> {
    let is_undo = |journal: &journals::Journal| journal.sort == Sort::Undo;
    let back = journals.all.iter().rev().take_while(|journal| is_undo(journal)).count();
    (back > 0).then(|| journals.all.len() - back)
}

/// Removes what was kept of a thread; `false` while somebody uses it.
pub(crate) fn remove(root: &Path, id: &ThreadId) -> io::Result<bool> {
    let folder = journals::folder(root, id);
    match Journals::open(root, id, false) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        // What cannot be read can be removed.
        _ => {}
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// A folder that is gone with this value.
#[derive(Debug)]
pub(crate) struct Passing(PathBuf);

impl Passing {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // What is left goes with the thread.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A folder beside what was kept of a thread, for as long as somebody looks at it; `None` when nothing
/// was kept.
pub(crate) fn passing(root: &Path, id: &ThreadId) -> io::Result<Option<Passing>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("look-{}-{number}", std::process::id());
    let folder = journals::folder(root, id).join(name);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Of a process that was killed, and had this number.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(Passing(folder))),
        made => made.map(|()| Some(Passing(folder))),
    }
}

/// Whether anything was kept of a thread.
pub fn has_any(root: &Path, id: &ThreadId) -> bool {
    File::open(journals::folder(root, id)).is_ok()
}
