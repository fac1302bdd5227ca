//! From what differs to a pair of trees.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::walk::{Differing, Found, Half, Moded, Side, Sides};
use super::{Draft, DraftError};
use crate::git::trees::{self, Entry, Listing};
use crate::git::{
    FILE_MAX, Git, GitError, ObjectId, Repository, copy_ignores, ignored, of_changes,
};
use crate::patch::FileMode;
use crate::record::{Changes, LeftOut, ModeChange, PathText, Permissions};
use crate::stage::{self, Content, Numbered, Stage};

/// What to make of a draft.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'a> {
    /// Whether files that git ignores are taken too, instead of counted.
    pub with_ignored: bool,
    /// What is known from an earlier look: the bases of files that were applied since.
    pub earlier: Option<&'a Changes>,
}

impl Draft {
    /// What the draft changed, as trees in the thread's repository.
    ///
    /// # Errors
    ///
    /// [`DraftError`].
    pub fn changes(&self, look: Look<'_>) -> Result<Changes, DraftError> {
        let Some(workspace) = self.shape.layers.first() else {
            return Err(DraftError::io("read", &self.thread)(io::ErrorKind::InvalidData.into()));
        };
        let at = workspace.at.to_path();
        let repository = Repository::discover(&at)?;
        let top = repository.as_ref().map_or(at.as_path(), |repository| &repository.top);
        let directory = of_changes(&self.thread, repository.as_ref())?;
        let sides = Sides::open(&at, &self.folder(workspace).join("upper"))?;
        let found = sides.walk()?;
        let mut keeper = Keeper {
            prefix: at.strip_prefix(top).unwrap_or(Path::new("")),
            sides: &sides,
            left_out: Vec::new(),
            stage: Stage::new(&directory).map_err(DraftError::io("write in", &directory))?,
            since: self.shape.since,
        };
        let mut found = found;
        for (path, what) in std::mem::take(&mut found.others) {
            keeper.leave(&path, what);
        }
        let count = if look.with_ignored {
            0
        } else {
            keeper.without_ignored(&mut found, (repository.as_ref(), top), &directory)?
        };
        let Found { files, modes, .. } = found;
        let pairs: Vec<Pair> = files
            .iter()
            .filter_map(|file| keeper.stage(file).transpose())
            .collect::<Result<_, _>>()?;
        let modes = modes.iter().map(|moded| keeper.mode(moded)).collect();
        let Keeper { prefix, stage, mut left_out, .. } = keeper;
        let names = trees::hash_staged(&directory, &stage.folder, stage.count)?;
        let earlier = Earlier::of(look.earlier, &directory)?;
        let (mut before, mut after) = (Listing::new(), Listing::new());
        for pair in pairs {
            let path = prefix.join(&pair.path);
            let (was, is) = (stage::entry(pair.below, &names), stage::entry(pair.above, &names));
            if was == is {
                continue;
            }
            let bytes = path.as_os_str().as_bytes().to_vec();
            let base = earlier.base(&bytes, was, pair.is_base);
            if base.is_none() && is.is_none() {
                let why = "removed by the thread, and changed here meanwhile".to_owned();
                left_out.push(LeftOut { path: PathText::from(path.as_path()), why });
            }
            before.extend(base.map(|entry| (bytes.clone(), entry)));
            after.extend(is.map(|entry| (bytes, entry)));
        }
        self.repositories(&mut left_out)?;
        let changes = trees::keep(&directory, None, top, (&before, &after))?;
        Ok(Changes { left_out, ignored: count, modes, ..changes })
    }

    /// What was written of a repository that lies elsewhere.
    fn repositories(&self, left_out: &mut Vec<LeftOut>) -> Result<(), DraftError> {
        for laid in self.shape.layers.iter().skip(1) {
            let upper = self.folder(laid).join("upper");
            let mut entries = fs::read_dir(&upper).map_err(DraftError::io("read", &upper))?;
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "index")) {
                let why = "commits and branches".to_owned();
                left_out.push(LeftOut { path: laid.at.clone(), why });
            }
        }
        Ok(())
    }
}

/// What an earlier look knew.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) base: Listing,
    pub(crate) result: Listing,
}

impl Earlier {
    pub(crate) fn of(changes: Option<&Changes>, directory: &Path) -> Result<Self, GitError> {
        let Some(changes) = changes else { return Ok(Self::default()) };
        let git = Git::bare(directory);
        let tree = |text: &str| -> Result<Listing, GitError> {
            let tree: ObjectId = text.parse().map_err(|_wrong| GitError::answer("write-tree"))?;
            trees::of_commit(&git, tree.as_str())
        };
        Ok(Self { base: tree(&changes.base)?, result: tree(&changes.result)? })
    }

    /// The base of a file that is `now` below; `is_base` says that it was so when the draft
    /// began.
    fn base(&self, path: &[u8], now: Option<Entry>, is_base: bool) -> Option<Entry> {
        let (before, after) = (self.base.get(path), self.result.get(path));
        // It was applied: what is there is what the agent went on from.
        let was_applied = now.is_some() && now.as_ref() == after;
        if was_applied || (is_base && before.is_none() && after.is_none()) {
            return now;
        }
        before.cloned()
    }
}

/// A file of which the content has a number now.
struct Pair {
    path: PathBuf,
    below: Numbered,
    above: Numbered,
    /// Whether what lies below is what the agent saw.
    is_base: bool,
}

struct Keeper<'a> {
    prefix: &'a Path,
    sides: &'a Sides,
    left_out: Vec<LeftOut>,
    stage: Stage,
    since: (i64, i64),
}

impl Keeper<'_> {
    fn leave(&mut self, path: &Path, why: &str) {
        let path = PathText::from(self.prefix.join(path).as_path());
        self.left_out.push(LeftOut { path, why: why.to_owned() });
    }

    fn mode(&self, moded: &Moded) -> ModeChange {
        ModeChange {
            path: PathText::from(self.prefix.join(&moded.path).as_path()),
            folder: moded.is_folder,
            before: moded.before.map(Permissions::of),
            after: moded.after.map(Permissions::of),
        }
    }

    /// Leaves in `found` what git does not ignore; how many files it does.
    fn without_ignored(
        &self,
        found: &mut Found,
        (repository, top): (Option<&Repository>, &Path),
        directory: &Path,
    ) -> Result<u64, DraftError> {
        let tree = directory.join("ignores");
        let bytes = |path: &Path, is_folder: bool| {
            let mut bytes = self.prefix.join(path).into_os_string().into_encoded_bytes();
            // So that a pattern for folders is one for it.
            bytes.extend(is_folder.then_some(b'/'));
            bytes
        };
        let files = found.files.iter().map(|file| (file.path.as_path(), false));
        let modes = found.modes.iter().map(|moded| (moded.path.as_path(), moded.is_folder));
        let all: Vec<_> = files.chain(modes).collect();
        let result = self.ignores(&all, found, &tree).and_then(|()| {
            let whole: Vec<Vec<u8>> = all.iter().map(|(path, is)| bytes(path, *is)).collect();
            let paths = whole.iter().map(Vec::as_slice);
            Ok(ignored((repository, top), directory, &tree, paths)?)
        });
        fs::remove_dir_all(&tree).map_err(DraftError::io("remove", &tree))?;
        let ignored = result?;
        let before = found.files.len();
        found.files.retain(|file| !ignored.contains(&bytes(&file.path, false)));
        found.modes.retain(|moded| !ignored.contains(&bytes(&moded.path, moded.is_folder)));
        Ok(u64::try_from(before - found.files.len()).unwrap_or(u64::MAX))
    }

    /// Makes a tree of the `.gitignore` files above `paths`, as the draft has them.
    fn ignores(
        &self,
        paths: &[(&Path, bool)],
        found: &Found,
        tree: &Path,
    ) -> Result<(), DraftError> {
        let changed: BTreeSet<&Path> = found.files.iter().map(|file| file.path.as_path()).collect();
        let open = |path: &Path| match self.sides.above.file(path) {
            Ok(file) => Some(file.into()),
            // Gone, or not a file any more.
            Err(_) if changed.contains(path) => None,
            Err(_) => self.sides.below.file(path).ok().map(File::from),
        };
        let tree = tree.join(self.prefix);
        fs::create_dir_all(&tree).map_err(DraftError::io("make", &tree))?;
        let paths = paths.iter().map(|(path, _)| *path);
        copy_ignores(paths, open, &tree).map_err(DraftError::io("write in", &tree))
    }

    /// Takes the content of both sides, if that can be done.
    fn stage(&mut self, file: &Differing) -> Result<Option<Pair>, DraftError> {
        let is_large = |side: Option<&Side>| side.is_some_and(|side| side.bytes > FILE_MAX);
        if is_large(file.below.as_ref()) || is_large(file.above.as_ref()) {
            self.leave(&file.path, "a large file");
            return Ok(None);
        }
        if self.stage.is_full() {
            self.leave(&file.path, "one file too many");
            return Ok(None);
        }
        let below = self.content(file.below, &file.path, &self.sides.below)?;
        let above = self.content(file.above, &file.path, &self.sides.above)?;
        let (Ok(below), Ok(above)) = (below, above) else {
            self.leave(&file.path, "a file that cannot be read");
            return Ok(None);
        };
        let is_base = file.below.is_none_or(|side| side.changed <= self.since);
        Ok(Some(Pair { path: file.path.clone(), below, above, is_base }))
    }

    /// The number of one side's content. The inner error: it cannot be read.
    fn content(
        &mut self,
        side: Option<Side>,
        path: &Path,
        half: &Half,
    ) -> Result<Result<Numbered, ()>, DraftError> {
        let Some(side) = side else { return Ok(Ok(None)) };
        let content = match side.mode {
            FileMode::Link => half.link(path).map(Content::Link),
            FileMode::File | FileMode::Executable | FileMode::Submodule => {
                half.file(path).map(Content::File)
            }
        };
        let Ok(content) = content else { return Ok(Err(())) };
        let added = self.stage.add(content);
        let number = added.map_err(DraftError::io("write in", &self.stage.folder))?;
        Ok(number.map(|number| Some((side.mode, number))).ok_or(()))
    }
}
