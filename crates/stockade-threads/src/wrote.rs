//! What a thread changed, told from what its boundary kept.
//!
//! The journals name every path that was written to, and the store has what was there before. So
//! nothing else is read: neither the tree at the beginning nor all of it at the end, and git has no
//! part in it but to store two trees and to say what it ignores.
//!
//! The later side is what is there now. Once a thread has ended that is recorded, as of any thread; of
//! a run, whose record is one file, and of a thread that was killed, it is looked at when somebody asks.

mod sides;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::ThreadId;
use crate::changes::ChangeSet;
use crate::draft::Earlier;
use crate::git::trees::{self, Listing};
use crate::git::{GitError, Repository, SnapshotError, ignored, of_changes};
use crate::record::{Changes, LeftOut, ModeChange, PathText};
use crate::stage::{self, Numbered, Stage};
use crate::store::Store;
use crate::undo::{Hands, Journals};
use sides::{Files, Sides, Taken};

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WroteError {
    /// What was kept, or what is there now, cannot be read.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// What was being done, as a verb.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// Git could not compare.
    #[error("cannot compare what was kept with the files")]
    Git(#[from] GitError),
    /// Nor tell what it ignores.
    #[error(transparent)]
    Ignored(#[from] SnapshotError),
}

impl WroteError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Git(error) => error.hint(),
            Self::Io { .. } | Self::Ignored(_) => None,
        }
    }
}

/// What to tell of.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The folder that the thread works in.
    pub workspace: &'a Path,
    /// Where nothing is looked at: what the user hides.
    pub hidden: &'a [PathBuf],
    /// Whether files that git ignores are taken too, instead of counted.
    pub with_ignored: bool,
    /// What was recorded of it before.
    pub earlier: Option<&'a Changes>,
}

/// What a thread changed that recorded nothing, as the files are now.
#[derive(Debug)]
pub struct Wrote {
    /// To look at; with it goes the place where it lies.
    pub changes: ChangeSet,
    /// What it is made of, and what it does not have.
    pub recorded: Changes,
    /// Files that somebody changed after the thread, which the changes show as they are now.
    pub since: Vec<PathBuf>,
}

/// Tells what the thread `id` changed, without recording it; `None` when nothing of it was kept.
///
/// # Errors
///
/// [`WroteError`].
pub fn now(store: &Store, id: &ThreadId, look: Look<'_>) -> Result<Option<Wrote>, WroteError> {
    let Some(folder) = crate::undo::passing(store.root(), id)
        .map_err(WroteError::io("make a folder in", store.root()))?
    else {
        return Ok(None);
    };
    let told = of_thread((store.root(), id), folder.path(), look)?;
    let Some((recorded, since)) = told else { return Ok(None) };
    let changes = ChangeSet::open(folder.path(), &recorded)?.in_passing(folder);
    Ok(Some(Wrote { changes, recorded, since }))
}

/// The changes of the thread `id` of the store at `root`, as trees in the repository of the folder
/// `thread`; and what changed later. `None` when nothing was kept.
pub(crate) fn of_thread(
    (root, id): (&Path, &ThreadId),
    thread: &Path,
    look: Look<'_>,
) -> Result<Option<(Changes, Vec<PathBuf>)>, WroteError> {
    let journals =
        Journals::look(root, id).map_err(WroteError::io("read what was kept in", root))?;
    let Some(journals) = journals else { return Ok(None) };
    let hands = Hands::open(&journals.roots(), None);
    let hands = hands.map_err(WroteError::io("open", look.workspace))?;
    let repository = Repository::discover(look.workspace)?;
    let directory = of_changes(thread, repository.as_ref())?;
    let top = repository.as_ref().map_or(look.workspace, |repository| &repository.top);
    let earlier = Earlier::of(look.earlier.filter(|it| it.root.to_path() == top), &directory)?;
    let sides = Sides::of(&journals, &hands);
    let within = Within { top, hidden: look.hidden };
    let mut told = Told::of(sides, &within, earlier);
    let count = if look.with_ignored {
        0
    } else {
        told.drop_ignored((repository.as_ref(), top), &directory)?
    };
    if journals.are_cut() {
        told.leave(Path::new("."), "what was written after nothing could be kept any more");
    }
    let stage = Stage::new(&directory).map_err(WroteError::io("write in", &directory))?;
    let since = told.since(&journals, &hands, top);
    let changes = told.keep((&directory, stage), top, (&journals, &hands))?;
    Ok(Some((Changes { ignored: count, ..changes }, since)))
}

/// The changes of a thread that changed nothing.
pub(crate) fn nothing(thread: &Path, look: Look<'_>) -> Result<Changes, WroteError> {
    let repository = Repository::discover(look.workspace)?;
    let directory = of_changes(thread, repository.as_ref())?;
    let top = repository.as_ref().map_or(look.workspace, |repository| &repository.top);
    Ok(trees::keep(&directory, None, top, (&Listing::new(), &Listing::new()))?)
}

/// What a diff can be about.
struct Within<'a> {
    top: &'a Path,
    hidden: &'a [PathBuf],
}

impl Within<'_> {
    /// `path` from the top on.
    fn relative(&self, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix(self.top).ok()?;
        let is_hidden = self.hidden.iter().any(|hidden| path.starts_with(hidden));
        // What git keeps is no part of a diff.
        let is_git = inner.iter().any(|name| name == ".git");
        (!is_hidden && !is_git && !inner.as_os_str().is_empty()).then(|| inner.to_owned())
    }
}

/// Both sides, by paths from the top on.
struct Told {
    before: Files,
    after: BTreeSet<PathBuf>,
    earlier: Earlier,
    modes: Vec<ModeChange>,
    left_out: Vec<LeftOut>,
}

impl Told {
    fn of(sides: Sides, within: &Within<'_>, earlier: Earlier) -> Self {
        let mut left_out = Vec::new();
        let outside = |path: &Path| {
            let is_git = path.iter().any(|name| name.as_bytes().ends_with(b".git"));
            !path.starts_with(within.top) && !is_git
        };
        let names = sides.before.keys().chain(&sides.after);
        let beyond: BTreeSet<&PathBuf> = names.filter(|path| outside(path)).collect();
        for path in beyond {
            let why = "outside the workspace".to_owned();
            left_out.push(LeftOut { path: PathText::from(path.as_path()), why });
        }
        let before = sides.before.into_iter();
        let before = before.filter_map(|(path, file)| Some((within.relative(&path)?, file)));
        let mut after: BTreeSet<PathBuf> =
            sides.after.iter().filter_map(|path| within.relative(path)).collect();
        for path in earlier.base.keys().chain(earlier.result.keys()) {
            after.insert(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        }
        let modes = sides.modes.into_iter().filter_map(|mut change| {
            let path = within.relative(&change.path.to_path())?;
            change.path = PathText::from(path.as_path());
            Some(change)
        });
        Self { before: before.collect(), after, earlier, modes: modes.collect(), left_out }
    }

    fn paths(&self) -> BTreeSet<PathBuf> {
        self.before.keys().chain(&self.after).cloned().collect()
    }

    /// Leaves what git does not ignore; how many files it does.
    fn drop_ignored(
        &mut self,
        (repository, top): (Option<&Repository>, &Path),
        directory: &Path,
    ) -> Result<u64, WroteError> {
        let tree = directory.join("ignores");
        let paths = self.paths();
        let mut bytes: Vec<Vec<u8>> =
            paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        for change in self.modes.iter().filter(|change| change.folder) {
            // So that a pattern for folders is one for it.
            bytes.push([change.path.to_path().as_os_str().as_bytes(), b"/"].concat());
        }
        let found = sides::ignores(top, &paths, &tree)
            .map_err(WroteError::io("write in", &tree))
            .and_then(|()| {
                let paths = bytes.iter().map(Vec::as_slice);
                Ok(ignored((repository, top), directory, &tree, paths)?)
            });
        fs::remove_dir_all(&tree).map_err(WroteError::io("remove", &tree))?;
        let found = found?;
        let is_kept = |path: &Path| !found.contains(path.as_os_str().as_bytes());
        self.before.retain(|path, _| is_kept(path));
        self.after.retain(|path| is_kept(path));
        self.modes.retain(|change| {
            let path = change.path.to_path();
            let folder = [path.as_os_str().as_bytes(), b"/"].concat();
            is_kept(&path) && !(change.folder && found.contains(&folder))
        });
        Ok(u64::try_from(paths.len() - self.paths().len()).unwrap_or(u64::MAX))
    }

    /// Those that are not as the thread left them.
    fn since(&self, journals: &Journals, hands: &Hands, top: &Path) -> Vec<PathBuf> {
        let ends = journals.ends();
        let is_later = |path: &&PathBuf| {
            let path = top.join(path);
            hands.look(&path).is_some_and(|stat| {
                let seen = (stockade_sandbox::keep::id_of(&stat), crate::undo::changed(&stat));
                !ends.is_ours(&path, seen)
            })
        };
        self.after.iter().filter(is_later).cloned().collect()
    }

    fn leave(&mut self, path: &Path, why: &str) {
        self.left_out.push(LeftOut { path: PathText::from(path), why: why.to_owned() });
    }

    /// Stores both sides.
    fn keep(
        mut self,
        (directory, mut stage): (&Path, Stage),
        top: &Path,
        (journals, hands): (&Journals, &Hands),
    ) -> Result<Changes, WroteError> {
        let mut pairs = Vec::new();
        for path in self.paths() {
            let before = self.before.get(&path).cloned();
            let has_after = self.after.contains(&path);
            if stage.is_full() {
                self.leave(&path, "one file too many");
                continue;
            }
            let old = before.map_or(Ok(Taken::Nothing), |file| file.take(journals, hands));
            let new =
                if has_after { sides::take(hands, &top.join(&path)) } else { Ok(Taken::Nothing) };
            let both = old.and_then(|old| Ok((old, new?)));
            let (old, new) = both.map_err(WroteError::io("read", &path))?;
            if let (Taken::Not(why), _) | (_, Taken::Not(why)) = (&old, &new) {
                self.leave(&path, why);
                continue;
            }
            let both = added(&mut stage, old).and_then(|old| Ok((old, added(&mut stage, new)?)));
            match both.map_err(WroteError::io("write in", directory))? {
                (Some(old), Some(new)) => pairs.push((path, old, new)),
                _ => self.leave(&path, "a large file"),
            }
        }
        let names = trees::hash_staged(directory, &stage.folder, stage.count)?;
        let (mut before, mut after) = (Listing::new(), Listing::new());
        for (path, old, new) in pairs {
            let bytes = path.into_os_string().into_encoded_bytes();
            let mut was = stage::entry(old, &names);
            if self.earlier.base.contains_key(&bytes) || self.earlier.result.contains_key(&bytes) {
                was = self.earlier.base.get(&bytes).cloned();
            }
            before.extend(was.map(|entry| (bytes.clone(), entry)));
            after.extend(stage::entry(new, &names).map(|entry| (bytes, entry)));
        }
        let changes = trees::keep(directory, None, top, (&before, &after))?;
        Ok(Changes { left_out: self.left_out, modes: self.modes, ..changes })
    }
}

/// Gives it one; `None`: it is too large.
fn added(stage: &mut Stage, taken: Taken) -> io::Result<Option<Numbered>> {
    let Taken::Content(mode, content) = taken else { return Ok(Some(None)) };
    Ok(stage.add(content)?.map(|number| Some((mode, number))))
}

/// By absolute path.
type ByPath<T> = BTreeMap<PathBuf, T>;
