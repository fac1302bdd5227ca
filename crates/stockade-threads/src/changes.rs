//! What a thread changed, to look at: files, patch, line counts.
//!
//! All of it comes from the thread's own repository, which we made and which has neither
//! attributes nor configuration; the user's files are not read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::git::trees::CHANGES;
use crate::git::{Git, GitError, ObjectId, Objects, fields};
use crate::patch::FileMode;
use crate::record::{Changes, ModeChange};
use crate::undo::Passing;

/// A patch is streamed; this is where nobody reads it any more, in bytes.
const PATCH_MAX: u64 = 4 << 30;

/// The changes of one thread.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    git: Git,
    base: ObjectId,
    result: ObjectId,
    root: PathBuf,
    modes: Vec<ModeChange>,
    /// Where it lies, if that goes with it.
    _passing: Option<Arc<Passing>>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Relative to the root. What a local thread changed may have any name.
    pub path: Vec<u8>,
    /// Before.
    pub before: Option<Side>,
    /// After.
    pub after: Option<Side>,
}

/// A file on one side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What it is.
    pub mode: FileMode,
    /// Its content.
    pub id: ObjectId,
}

/// How many lines of one file differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// Lines that came and lines that went; `None` when the content is no text.
    pub counts: Option<(u64, u64)>,
}

impl ChangeSet {
    /// The changes that the thread in folder `thread` recorded.
    ///
    /// # Errors
    ///
    /// When the record names no trees.
    pub fn open(thread: &Path, changes: &Changes) -> Result<Self, GitError> {
        let tree = |text: &str| text.parse().ok().ok_or_else(|| GitError::answer("write-tree"));
        Ok(Self {
            git: Git::bare(&thread.join(CHANGES)),
            base: tree(&changes.base)?,
            result: tree(&changes.result)?,
            root: changes.root.to_path(),
            modes: changes.modes.clone(),
            _passing: None,
        })
    }

    /// The same, in a folder that goes with the last copy of it.
    pub(crate) fn in_passing(self, folder: Passing) -> Self {
        Self { _passing: Some(Arc::new(folder)), ..self }
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every file that differs, by path. `paths` are files or folders relative to the root;
    /// none of them: all.
    ///
    /// # Errors
    ///
    /// When the thread's repository is damaged.
    pub fn files(&self, paths: &[PathBuf]) -> Result<Vec<Change>, GitError> {
        let options = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev"];
        let answer = self.git.run(&self.words(&options, paths))?;
        let mut words = fields(&answer);
        let mut changes = Vec::new();
        while let Some(head) = words.next() {
            let change = change(head, words.next().unwrap_or_default());
            changes.push(change.ok_or_else(|| GitError::answer("diff-tree"))?);
        }
        Ok(changes)
    }

    /// What no patch has: folders and permissions, by path.
    pub fn modes(&self, paths: &[PathBuf]) -> Vec<&ModeChange> {
        let is_asked = |change: &&ModeChange| {
            let path = change.path.to_path();
            let is_in = |asked: &PathBuf| asked == Path::new(".") || path.starts_with(asked);
            paths.is_empty() || paths.iter().any(is_in)
        };
        self.modes.iter().filter(is_asked).collect()
    }

    /// Hands on a patch that `git apply --binary` takes, part by part.
    ///
    /// # Errors
    ///
    /// When the thread's repository is damaged, or `output` fails.
    pub fn patch(
        &self,
        paths: &[PathBuf],
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), GitError> {
        let options = [
            "diff",
            "--binary",
            "--full-index",
            "--find-renames",
            "--no-ext-diff",
            "--no-textconv",
        ];
        let options = [options.as_slice(), &["--no-color", "--src-prefix=a/", "--dst-prefix=b/"]];
        self.git.stream(&self.words(&options.concat(), paths), &[], PATCH_MAX, output)
    }

    /// How many lines differ in each file, by path.
    ///
    /// # Errors
    ///
    /// As [`files`](Self::files).
    pub fn lines(&self, paths: &[PathBuf]) -> Result<Vec<Lines>, GitError> {
        let options = ["diff-tree", "-r", "-z", "--numstat", "--no-renames"];
        let answer = self.git.run(&self.words(&options, paths))?;
        let lines = fields(&answer).map(|line| {
            // `ADDED<tab>REMOVED<tab>PATH`, or two dashes.
            let mut words = line.splitn(3, |byte| *byte == b'\t');
            let mut count = || Some(str::from_utf8(words.next()?).ok()?.parse().ok());
            let (added, removed): (Option<u64>, Option<u64>) = (count()?, count()?);
            Some(Lines { counts: added.zip(removed), path: words.next()?.to_owned() })
        });
        lines.map(|line| line.ok_or_else(|| GitError::answer("diff-tree"))).collect()
    }

    /// Where content is read from.
    pub(crate) fn objects(&self) -> Result<Objects, GitError> {
        Objects::open(&self.git)
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    fn words(&self, options: &[&str], paths: &[PathBuf]) -> Vec<OsString> {
        let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
        words.extend([self.base.as_str(), self.result.as_str(), "--"].map(OsString::from));
        words.extend(paths.iter().map(|path| path.as_os_str().to_owned()));
        words
    }
}

impl Change {
    /// For system calls and messages.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// `:MODE MODE OID OID STATUS`.
fn change(head: &[u8], path: &[u8]) -> Option<Change> {
    let head = str::from_utf8(head).ok()?.strip_prefix(':')?;
    let words: Vec<&str> = head.split(' ').collect();
    let [before, after, from, to, _] = words.as_slice() else { return None };
    let side = |mode: &str, id: &str| {
        let bits = u32::from_str_radix(mode, 8).ok()?;
        if bits == 0 {
            return Some(None);
        }
        Some(Some(Side { mode: FileMode::from_bits(bits)?, id: id.parse().ok()? }))
    };
    Some(Change { path: path.to_owned(), before: side(before, from)?, after: side(after, to)? })
}
