//! Brings a thread's changes into the present tree.
//!
//! File by file, three ways: what it was for the thread, what the thread made of it, what it is
//! now. A file that nobody else touched becomes the thread's; one that both changed is merged
//! when their lines are apart, and otherwise stays the user's and is named. Applying twice
//! changes nothing the second time.
//!
//! Everything is opened beneath the root without following a link (`beneath`), and what is
//! replaced is kept in the thread's folder first (`kept`): a process that is killed in the
//! middle leaves whole files, and applying again goes on.

mod beneath;
mod kept;
mod modes;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::ThreadId;
use crate::bounds::Bounds;
use crate::changes::{Change, ChangeSet, Side};
use crate::flags::{FlagKind, Weight, found};
use crate::git::{GitError, Objects};
use crate::patch::{FileMode, TreePath};
use crate::record::ModeChange;
use crate::store::Thread;
use crate::undo::Segment;
use beneath::{Content, Present, Root};
use kept::Kept;

/// What to apply, and how.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Files or folders relative to the root; none of them: all.
    pub paths: Vec<PathBuf>,
    /// What may be applied although it is held: paths relative to the root, or flags.
    pub accept: Vec<String>,
    /// Absolute paths that are never touched, with all below them: what the user hides.
    pub never: Vec<PathBuf>,
    /// Whether conflicting lines are written with markers, instead of left as they are.
    pub markers: bool,
    /// What may be written at all; `None`: whatever the user may, who wants it applied.
    pub bounds: Option<Bounds>,
    /// Where what is replaced is kept for `stockade undo`.
    pub undo: Option<Segment>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOutcome {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// What.
    pub outcome: Outcome,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the thread made it.
    Applied,
    /// It has the lines of both.
    Merged,
    /// There was nothing to do.
    Unchanged,
    /// It is as it was: for the reason that fits after a colon.
    Conflict(&'static str),
    /// It has conflict markers in it, as was asked for.
    Marked,
    /// It is as it was, and waits to be accepted.
    Held(Vec<FlagKind>),
    /// It is as it was and stays so.
    Refused(&'static str),
}

impl Outcome {
    /// Whether the user has nothing left to do.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Applied | Self::Merged | Self::Unchanged => true,
            Self::Conflict(_) | Self::Marked | Self::Held(_) | Self::Refused(_) => false,
        }
    }
}

/// Applying stopped; what was applied until then is applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The folder that the changes belong to is not there.
    #[error("cannot open `{}`", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// The thread's repository is damaged.
    #[error("cannot read the thread's changes")]
    Git(#[from] GitError),
    /// A path was named that the thread did not change.
    #[error("the thread did not change `{}`", .0.display())]
    NoChange(PathBuf),
    /// A file could not be read, written, or kept before.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// What was being done, as a verb.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

impl ApplyError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }
}

/// Applies `changes`. `thread` is the thread, taken for writing: so that nobody else applies
/// at the same time.
///
/// # Errors
///
/// [`ApplyError`]. A conflict is none: it is told in the outcomes, one for each file that was
/// asked for, in the order of their paths.
pub fn apply(
    changes: &ChangeSet,
    thread: &Thread,
    options: &ApplyOptions,
) -> Result<Vec<FileOutcome>, ApplyError> {
    let wanted = changes.files(&options.paths)?;
    let mut modes = changes.modes(&options.paths);
    modes.sort_by_key(|change| bytes(change));
    for path in &options.paths {
        if !wanted.iter().any(|file| file.path().starts_with(path))
            && !modes.iter().any(|change| modes::is_below(change, path))
        {
            return Err(ApplyError::NoChange(path.clone()));
        }
    }
    let root = changes.root();
    let opened = Root::open(root, thread.id(), options.undo.as_ref());
    let mut work = Work {
        changes,
        options,
        thread: thread.folder(),
        root: opened.map_err(|source| ApplyError::Root { path: root.to_owned(), source })?,
        objects: changes.objects()?,
        kept: Kept::open(thread.folder())?,
        flags: found(changes)?,
    };
    let mut outcomes = BTreeMap::new();
    // What goes makes room for what comes: a folder for a file, a file for a folder.
    let (gone, present): (Vec<&Change>, Vec<&Change>) =
        wanted.iter().partition(|file| file.after.is_none());
    for file in gone {
        outcomes.insert(file.path.clone(), work.file(file)?);
    }
    let (gone, set): (Vec<&ModeChange>, Vec<&ModeChange>) =
        modes.into_iter().partition(|change| change.after.is_none());
    let new = work.absent(&set)?;
    // What comes instead has its own outcome.
    let empty = gone.iter().map(|change| Ok((bytes(change), work.mode(change, None)?)));
    outcomes.extend(empty.collect::<Result<Vec<_>, ApplyError>>()?);
    for file in present {
        outcomes.insert(file.path.clone(), work.file(file)?);
    }
    // A folder after what is in it: by then nothing has to be made there.
    for change in set.into_iter().rev() {
        let path = bytes(change);
        let is_new = new.contains(&path).then_some(Outcome::Applied);
        let outcome = work.mode(change, outcomes.get(&path).or(is_new.as_ref()))?;
        outcomes.insert(path, outcome);
    }
    let outcome = |(path, outcome)| FileOutcome { path, outcome };
    Ok(outcomes.into_iter().map(outcome).collect())
}

fn bytes(change: &ModeChange) -> Vec<u8> {
    change.path.to_path().into_os_string().into_encoded_bytes()
}

#[derive(Debug)]
struct Work<'a> {
    changes: &'a ChangeSet,
    options: &'a ApplyOptions,
    thread: &'a Path,
    root: Root,
    objects: Objects,
    kept: Kept,
    flags: BTreeMap<Vec<u8>, Vec<FlagKind>>,
}

impl Work<'_> {
    fn file(&mut self, file: &Change) -> Result<Outcome, ApplyError> {
        let Ok(path) = TreePath::new(&file.path) else {
            return Ok(Outcome::Refused("its name is not safe on every system"));
        };
        let whole = self.changes.root().join(path.as_path());
        if self.options.never.iter().any(|hidden| whole.starts_with(hidden)) {
            return Ok(Outcome::Refused("it is hidden"));
        }
        if let Some(Err(why)) = self.options.bounds.as_ref().map(|bounds| bounds.change(&whole)) {
            return Ok(Outcome::Refused(why));
        }
        let is_submodule = |side: &Option<Side>| {
            side.as_ref().is_some_and(|side| side.mode == FileMode::Submodule)
        };
        let held = self.held(file);
        if is_submodule(&file.before) || is_submodule(&file.after) {
            let refused = Outcome::Refused("a submodule is set by `git submodule`");
            return Ok(if held.is_empty() { refused } else { Outcome::Held(held) });
        }
        let before = self.content(file.before.as_ref())?;
        let after = self.content(file.after.as_ref())?;
        let read = self.root.read(&path).map_err(ApplyError::io("read", &whole))?;
        let is_done = match &read {
            None => after.is_none(),
            Some(Present { content, .. }) => {
                *content == after
                    || self.kept.has_written(&file.path, content.as_ref(), after.as_ref())
            }
        };
        // What was accepted once does not wait again.
        if is_done {
            return Ok(Outcome::Unchanged);
        }
        if !held.is_empty() {
            return Ok(Outcome::Held(held));
        }
        let Some(present) = read else {
            return Ok(Outcome::Conflict("something else stands in its way"));
        };
        if present.content == before {
            let sides = (after.as_ref(), after.as_ref());
            return self.write(&path, &present, sides, Outcome::Applied);
        }
        self.merge(&path, &[before, after], &present)
    }

    /// The flags of `file` that wait to be accepted.
    fn held(&self, file: &Change) -> Vec<FlagKind> {
        let accepts = |name: &String| {
            let name = name.trim_end_matches('/');
            !name.is_empty() && file.path().starts_with(name)
        };
        if self.options.accept.iter().any(accepts) {
            return Vec::new();
        }
        let is_accepted =
            |kind: &FlagKind| self.options.accept.iter().any(|name| name == kind.as_str());
        let kinds = self.flags.get(&file.path).into_iter().flatten().copied();
        kinds.filter(|kind| kind.weight() == Weight::Hold && !is_accepted(kind)).collect()
    }

    fn content(&mut self, side: Option<&Side>) -> Result<Option<Content>, ApplyError> {
        let Some(side) = side.filter(|side| side.mode != FileMode::Submodule) else {
            return Ok(None);
        };
        let bytes = self.objects.content(&side.id)?;
        Ok(Some(match side.mode {
            FileMode::Link => Content::Link(bytes),
            FileMode::Executable => Content::File { bytes, is_executable: true },
            FileMode::File | FileMode::Submodule => Content::File { bytes, is_executable: false },
        }))
    }

    /// Both changed it.
    fn merge(
        &mut self,
        path: &TreePath,
        [base, result]: &[Option<Content>; 2],
        present: &Present,
    ) -> Result<Outcome, ApplyError> {
        use Content::File;
        let (
            Some(File { bytes: before, is_executable: was_executable }),
            Some(File { bytes: after, is_executable: becomes_executable }),
            Some(File { bytes: now, is_executable }),
        ) = (base, result, &present.content)
        else {
            return Ok(Outcome::Conflict(match (base, result, &present.content) {
                (_, _, None) => "it is gone here",
                (_, None, _) => "the thread removed it, and it was changed here",
                (None, _, _) => "it is new on both sides",
                _ => "it is something else here",
            }));
        };
        let is_executable =
            if was_executable == becomes_executable { is_executable } else { becomes_executable };
        let is_executable = *is_executable;
        let (bytes, is_clean) = if now == before || now == after {
            (after.clone(), true)
        } else if before == after {
            (now.clone(), true)
        } else {
            match self.merge_lines([now, before, after])? {
                Some(merged) => merged,
                None => return Ok(Outcome::Conflict("both changed it, and it is no text")),
            }
        };
        if !is_clean && !self.options.markers {
            return Ok(Outcome::Conflict("both changed the same lines"));
        }
        let merged = Content::File { bytes, is_executable };
        if present.content.as_ref() == Some(&merged) {
            return Ok(Outcome::Unchanged);
        }
        let outcome = if is_clean { Outcome::Merged } else { Outcome::Marked };
        self.write(path, present, (Some(&merged), result.as_ref()), outcome)
    }

    /// The lines of both sides, and whether they are apart; `None` when it is no text.
    fn merge_lines(&self, sides: [&[u8]; 3]) -> Result<Option<(Vec<u8>, bool)>, ApplyError> {
        let folder = self.thread.join("merge");
        let done = (|| {
            fs::create_dir_all(&folder)?;
            for (name, bytes) in ["here", "base", "thread"].iter().zip(sides) {
                fs::write(folder.join(name), bytes)?;
            }
            Ok(())
        })();
        done.map_err(ApplyError::io("write in", &folder))?;
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        for word in ["merge-file", "-p", "-L", "here", "-L", "base", "-L", "thread"] {
            words.push(word.into());
        }
        words.extend(["here", "base", "thread"].map(|name| folder.join(name).into()));
        let (status, merged) = self.changes.git().status_of(&words)?;
        fs::remove_dir_all(&folder).map_err(ApplyError::io("remove", &folder))?;
        // The number of conflicts; 127 stands for more, and 255 for an error.
        Ok(match status {
            Some(0) => Some((merged, true)),
            Some(1..=127) => Some((merged, false)),
            _ => None,
        })
    }

    /// Keeps what is there, then replaces it; `outcome` if that could be done.
    fn write(
        &mut self,
        path: &TreePath,
        present: &Present,
        (content, result): (Option<&Content>, Option<&Content>),
        outcome: Outcome,
    ) -> Result<Outcome, ApplyError> {
        self.kept.keep(path.as_bytes(), present.content.as_ref(), (content, result))?;
        let whole = self.changes.root().join(path.as_path());
        let written = self.root.write(path, present, content);
        let is_done = written.map_err(ApplyError::io("write", &whole))?;
        Ok(if is_done { outcome } else { Outcome::Conflict("somebody changed it at this moment") })
    }
}

impl FileOutcome {
    /// For messages.
    pub fn path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.path))
    }
}

/// The name under which a file is written before it takes its place.
fn waiting_name(thread: &ThreadId) -> String {
    format!(".stockade-{thread}")
}
