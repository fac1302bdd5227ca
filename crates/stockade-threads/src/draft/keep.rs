//! From what differs to a pair of trees.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::walk::{Differing, Found, Half, Side, Sides};
use super::{Draft, DraftError};
use crate::git::trees::{self, CHANGES, Entry, Listing};
use crate::git::{
    COUNT_MAX, FILE_MAX, Git, GitError, ObjectId, Repository, TOTAL_MAX, ignored, init_bare,
};
use crate::patch::FileMode;
use crate::record::{Changes, LeftOut, PathText};

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
        let directory = self.thread.join(CHANGES);
        if !directory.exists() {
            let format = repository.as_ref().map_or("sha1", |repository| &repository.format);
            init_bare(&directory, format)?;
        }
        let sides = Sides::open(&at, &self.folder(workspace).join("upper"))?;
        let found = sides.walk()?;
        let mut keeper = Keeper {
            prefix: at.strip_prefix(top).unwrap_or(Path::new("")),
            sides: &sides,
            left_out: Vec::new(),
            stage: Stage::new(&directory)?,
            since: self.shape.since,
        };
        let Found { files, others } = found;
        for (path, what) in others {
            keeper.leave(&path, what);
        }
        let (files, count) = if look.with_ignored {
            (files, 0)
        } else {
            keeper.without_ignored(files, (repository.as_ref(), top), &directory)?
        };
        let pairs: Vec<Pair> = files
            .iter()
            .filter_map(|file| keeper.stage(file).transpose())
            .collect::<Result<_, _>>()?;
        let Keeper { prefix, stage, mut left_out, .. } = keeper;
        let names = trees::hash_staged(&directory, &stage.folder, stage.count)?;
        let earlier = Earlier::of(look.earlier, &directory)?;
        let (mut before, mut after) = (Listing::new(), Listing::new());
        for pair in pairs {
            let path = prefix.join(&pair.path);
            let (was, is) = (entry(pair.below, &names), entry(pair.above, &names));
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
        Ok(Changes { left_out, ignored: count, ..changes })
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
struct Earlier {
    base: Listing,
    result: Listing,
}

impl Earlier {
    fn of(changes: Option<&Changes>, directory: &Path) -> Result<Self, DraftError> {
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
    below: Option<(FileMode, usize)>,
    above: Option<(FileMode, usize)>,
    /// Whether what lies below is what the agent saw.
    is_base: bool,
}

fn entry(side: Option<(FileMode, usize)>, names: &[ObjectId]) -> Option<Entry> {
    let (mode, number) = side?;
    Some(Entry { mode: mode.bits(), id: names.get(number)?.clone() })
}

/// Where content waits for its name.
struct Stage {
    folder: PathBuf,
    count: usize,
    bytes: u64,
}

impl Stage {
    fn new(directory: &Path) -> Result<Self, DraftError> {
        let folder = directory.join("draft");
        // What a killed process left.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(DraftError::io("remove", &folder))?;
        }
        fs::create_dir(&folder).map_err(DraftError::io("make", &folder))?;
        Ok(Self { folder, count: 0, bytes: 0 })
    }

    fn add(&mut self, content: Content) -> Result<Option<usize>, DraftError> {
        let path = self.folder.join(self.count.to_string());
        let written = match content {
            Content::Link(target) => fs::write(&path, target).map(|()| 0),
            Content::File(file) => {
                let mut limited = File::from(file).take(FILE_MAX + 1);
                File::create(&path).and_then(|mut to| io::copy(&mut limited, &mut to))
            }
        };
        let bytes = written.map_err(DraftError::io("write", &path))?;
        if bytes > FILE_MAX {
            // It grew meanwhile. Its number is used again.
            return Ok(None);
        }
        self.bytes += bytes;
        self.count += 1;
        Ok(Some(self.count - 1))
    }
}

enum Content {
    Link(Vec<u8>),
    File(OwnedFd),
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

    /// The files that git does not ignore, and how many it does.
    fn without_ignored(
        &self,
        files: Vec<Differing>,
        (repository, top): (Option<&Repository>, &Path),
        directory: &Path,
    ) -> Result<(Vec<Differing>, u64), DraftError> {
        let tree = directory.join("ignores");
        let result = self.ignores(&files, &tree).and_then(|()| {
            let whole: Vec<PathBuf> =
                files.iter().map(|file| self.prefix.join(&file.path)).collect();
            let paths = whole.iter().map(|path| path.as_os_str().as_bytes());
            Ok(ignored((repository, top), directory, &tree, paths)?)
        });
        fs::remove_dir_all(&tree).map_err(DraftError::io("remove", &tree))?;
        let ignored = result?;
        let mut count = 0;
        let mut kept = files;
        kept.retain(|file| {
            let path = self.prefix.join(&file.path);
            let is_ignored = ignored.contains(path.as_os_str().as_bytes());
            count += u64::from(is_ignored);
            !is_ignored
        });
        Ok((kept, count))
    }

    /// Makes a tree of the `.gitignore` files above `files`, as the draft has them.
    fn ignores(&self, files: &[Differing], tree: &Path) -> Result<(), DraftError> {
        let mut folders = BTreeSet::new();
        for file in files {
            for folder in file.path.ancestors().skip(1) {
                if !folders.insert(folder) {
                    break;
                }
            }
        }
        fs::create_dir_all(tree.join(self.prefix)).map_err(DraftError::io("make", tree))?;
        let changed: BTreeSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
        for folder in folders {
            let path = folder.join(".gitignore");
            let file = match self.sides.above.file(&path) {
                Ok(file) => file,
                // Gone, or not a file any more.
                Err(_) if changed.contains(path.as_path()) => continue,
                Err(_) => match self.sides.below.file(&path) {
                    Ok(file) => file,
                    Err(_) => continue,
                },
            };
            let to = tree.join(self.prefix).join(&path);
            let copied = fs::create_dir_all(to.parent().unwrap_or(tree)).and_then(|()| {
                let mut text = File::from(file).take(FILE_MAX);
                File::create(&to).and_then(|mut to| io::copy(&mut text, &mut to))
            });
            copied.map_err(DraftError::io("write", &to))?;
        }
        Ok(())
    }

    /// Takes the content of both sides, if that can be done.
    fn stage(&mut self, file: &Differing) -> Result<Option<Pair>, DraftError> {
        let is_large = |side: Option<&Side>| side.is_some_and(|side| side.bytes > FILE_MAX);
        if is_large(file.below.as_ref()) || is_large(file.above.as_ref()) {
            self.leave(&file.path, "a large file");
            return Ok(None);
        }
        if self.stage.count >= 2 * COUNT_MAX || self.stage.bytes > 2 * TOTAL_MAX {
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
    ) -> Result<Result<Option<(FileMode, usize)>, ()>, DraftError> {
        let Some(side) = side else { return Ok(Ok(None)) };
        let content = match side.mode {
            FileMode::Link => half.link(path).map(Content::Link),
            FileMode::File | FileMode::Executable | FileMode::Submodule => {
                half.file(path).map(Content::File)
            }
        };
        let Ok(content) = content else { return Ok(Err(())) };
        let number = self.stage.add(content)?;
        Ok(number.map(|number| Some((side.mode, number))).ok_or(()))
    }
}
