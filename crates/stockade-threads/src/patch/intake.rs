//! From a diff and the base that it was made from to a pair of trees.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::acts_on_terminals;

use super::{
    Edit, FILE_MAX, FileChange, FileMode, Hunk, LineKind, Patch, PatchError, PatchFault, TOTAL_MAX,
    TreePath, binary,
};
use crate::git::trees::{self, CHANGES, Entry, Listing};
use crate::git::{Cloned, Git, GitError, ObjectId, Objects, Repository, init_bare, line};
use crate::record::{Changes, Commit};

/// What is kept of what a guest says about a commit, in bytes.
const MESSAGE_MAX: usize = 16 << 10;

/// The result was not taken; the thread has no changes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// The diff is refused.
    #[error("the result is refused")]
    Patch(#[from] PatchError),
    /// The base cannot be read, or the result not be written.
    #[error("cannot keep the result")]
    Git(#[from] GitError),
    /// The user's repository is gone.
    #[error("`{}` is no repository any more", .0.display())]
    NoRepository(PathBuf),
    /// A file of the thread's own could not be written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

/// Builds what `diff` says from the commit that was cloned, and keeps both sides in the
/// thread's own repository (`thread` is the thread's folder).
///
/// # Errors
///
/// [`IntakeError::Patch`] when the diff is hostile, broken or of another base. The user's
/// repository is only read, and what the thread's own one has stays.
pub fn take_in(diff: &[u8], cloned: &Cloned, thread: &Path) -> Result<Changes, IntakeError> {
    let patch = Patch::parse(diff)?;
    let own = Own::open(cloned, thread)?;
    let result = own.base().and_then(|base| Ok((own.after(&patch, &base, &mut 0)?, base)));
    let kept = result.and_then(|(result, base)| {
        Ok(trees::keep(&own.directory, own.objects(), &cloned.top, (&base, &result))?)
    });
    if kept.is_err() && own.is_new {
        // The error that is told is the one that made it useless.
        fs::remove_dir_all(&own.directory).ok();
    }
    Ok(Changes { clone: Some(cloned.recorded()), ..kept? })
}

/// A commit as the guest tells it: the difference to the one before, and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In the form of [`GUEST_DIFF`](super::GUEST_DIFF).
    pub diff: Vec<u8>,
    /// What its author said.
    pub message: Vec<u8>,
}

/// The same for the guest's own commits, one upon the other; after [`take_in`].
///
/// # Errors
///
/// As [`take_in`]; then none of them is believed.
pub fn take_in_commits(
    told: &[Told],
    cloned: &Cloned,
    thread: &Path,
) -> Result<Vec<Commit>, IntakeError> {
    if told.is_empty() {
        // The base of a large repository takes a moment to read.
        return Ok(Vec::new());
    }
    let own = Own::open(cloned, thread)?;
    let (mut before, mut total) = (own.base()?, 0);
    let mut commits = Vec::new();
    for Told { diff, message } in told {
        let patch = Patch::parse(diff)?;
        let after = own.after(&patch, &before, &mut total)?;
        let pair = (&before, &after);
        let pair = trees::keep_pair(&own.directory, own.objects(), pair)?;
        let (base, result) = (pair.base.to_string(), pair.result.to_string());
        commits.push(Commit { base, result, message: words(message) });
        before = after;
    }
    Ok(commits)
}

/// What a guest says about a commit, as text that acts on nothing.
fn words(message: &[u8]) -> String {
    let end = message.len().min(MESSAGE_MAX);
    let text = String::from_utf8_lossy(message.get(..end).unwrap_or_default());
    let is_plain = |c: &char| matches!(c, '\n' | '\t') || !acts_on_terminals(*c);
    let text: String = text.chars().filter(is_plain).collect();
    let text = text.trim();
    if text.is_empty() { "(no message)".to_owned() } else { text.to_owned() }
}

/// The thread's own repository, and the user's to read from.
struct Own {
    /// `None`: the folder never was in one, and the base is in the thread's own.
    repository: Option<Repository>,
    directory: PathBuf,
    reading: Git,
    commit: ObjectId,
    is_new: bool,
}

impl Own {
    fn open(cloned: &Cloned, thread: &Path) -> Result<Self, IntakeError> {
        let repository = Repository::discover(&cloned.top)?;
        let directory = thread.join(CHANGES);
        let is_new = !directory.exists();
        let reading = Git::bare(&directory);
        let reading = match &repository {
            None if is_new => return Err(IntakeError::NoRepository(cloned.top.clone())),
            None => reading,
            Some(repository) => {
                if is_new {
                    init_bare(&directory, &repository.format)?;
                }
                reading.borrowing(&repository.objects)
            }
        };
        Ok(Self { repository, directory, reading, commit: cloned.commit.clone(), is_new })
    }

    fn objects(&self) -> Option<&Path> {
        self.repository.as_ref().map(|repository| repository.objects.as_path())
    }

    fn base(&self) -> Result<Listing, IntakeError> {
        Ok(trees::of_commit(&self.reading, self.commit.as_str())?)
    }

    /// What `patch` makes of `base`. `total` counts the bytes that were taken so far.
    fn after(
        &self,
        patch: &Patch<'_>,
        base: &Listing,
        total: &mut usize,
    ) -> Result<Listing, IntakeError> {
        let folder = self.directory.join("intake");
        // That of a process that was killed.
        fs::remove_dir_all(&folder).ok();
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| IntakeError::Io { path: folder.clone(), source })?;
        let mut intake = Intake {
            objects: Objects::open(&self.reading)?,
            folder,
            result: base.clone(),
            written: Vec::new(),
            total: *total,
        };
        for file in &patch.files {
            intake.file(file)?;
        }
        *total = intake.total;
        intake.finish(&self.directory, patch)
    }
}

#[derive(Debug)]
struct Intake {
    objects: Objects,
    /// Where content waits for its name.
    folder: PathBuf,
    /// Grows to the result; what waits has no name yet.
    result: Listing,
    /// What waits: its path and mode, and the name that the diff gives it.
    written: Vec<(TreePath, FileMode, ObjectId, usize)>,
    total: usize,
}

impl Intake {
    fn file(&mut self, file: &FileChange<'_>) -> Result<(), IntakeError> {
        let path = file.path.as_bytes();
        let fail = |fault: fn(Vec<u8>) -> PatchFault| fault(path.to_owned()).at(file.line);
        // After a deletion in the same diff, the path is free.
        let present = self.result.remove(path);
        if present.as_ref().map(|entry| entry.mode) != file.before.map(FileMode::bits) {
            return Err(fail(PatchFault::Base).into());
        }
        let (old, new) = match &file.ids {
            Some((old, new)) => (Some(old), Some(new)),
            None => (None, None),
        };
        let is_base = |entry: &Entry| old.is_none_or(|old| *old == entry.id);
        if !present.as_ref().map_or(old.is_none_or(ObjectId::is_zero), is_base) {
            return Err(fail(PatchFault::Base).into());
        }
        let Some(mode) = file.after else {
            let is_gone = new.is_some_and(ObjectId::is_zero);
            return is_gone.then_some(()).ok_or_else(|| fail(PatchFault::Result).into());
        };
        let Some(new) = new else {
            // Only the mode changes, and a link does not become a file by that.
            let kept = present.filter(|_| file.before.is_some_and(FileMode::is_file));
            let kept = kept.filter(|_| mode.is_file()).ok_or_else(|| fail(PatchFault::Base))?;
            self.result.insert(path.to_owned(), Entry { mode: mode.bits(), id: kept.id });
            return Ok(());
        };
        if mode == FileMode::Submodule {
            let id = submodule(&file.edit).filter(|id| id == new);
            let id = id.ok_or_else(|| fail(PatchFault::Result))?;
            self.result.insert(path.to_owned(), Entry { mode: mode.bits(), id });
            return Ok(());
        }
        let content = self.content(file, present.as_ref())?;
        if mode == FileMode::Link && !is_target(&content) {
            return Err(fail(PatchFault::Link).into());
        }
        self.write(file, mode, new, &content)
    }

    /// The content after the change.
    fn content(
        &mut self,
        file: &FileChange<'_>,
        present: Option<&Entry>,
    ) -> Result<Vec<u8>, IntakeError> {
        let path = || file.path.as_bytes().to_owned();
        let limit = PatchFault::TooLarge { what: "the bytes of a file", limit: FILE_MAX };
        let base = match present {
            Some(entry) if entry.mode != FileMode::Submodule.bits() => {
                let size = self.objects.size(&entry.id)?;
                if usize::try_from(size).is_ok_and(|size| size <= FILE_MAX) {
                    self.objects.content(&entry.id)?
                } else {
                    return Err(limit.at(file.line).into());
                }
            }
            _ => Vec::new(),
        };
        let content = match &file.edit {
            Edit::None => base,
            Edit::Text(hunks) => {
                apply_hunks(&base, hunks).map_err(|line| PatchFault::Base(path()).at(line))?
            }
            Edit::Literal(content) => content.clone(),
            Edit::Delta(delta) => binary::apply_delta(&base, delta, FILE_MAX)
                .ok_or_else(|| PatchFault::Binary(path()).at(file.line))?,
        };
        if content.len() > FILE_MAX {
            return Err(limit.at(file.line).into());
        }
        Ok(content)
    }

    fn write(
        &mut self,
        file: &FileChange<'_>,
        mode: FileMode,
        id: &ObjectId,
        content: &[u8],
    ) -> Result<(), IntakeError> {
        self.total = self.total.saturating_add(content.len());
        if self.total > TOTAL_MAX {
            let fault = PatchFault::TooLarge { what: "the bytes of all files", limit: TOTAL_MAX };
            return Err(fault.at(file.line).into());
        }
        let waiting = self.folder.join(self.written.len().to_string());
        fs::write(&waiting, content)
            .map_err(|source| IntakeError::Io { path: waiting.clone(), source })?;
        self.written.push((file.path.clone(), mode, id.clone(), file.line));
        let entry = Entry { mode: mode.bits(), id: id.clone() };
        self.result.insert(file.path.as_bytes().to_owned(), entry);
        Ok(())
    }

    /// Names the content, compares the names with those of the diff, and gives the result.
    fn finish(self, directory: &Path, patch: &Patch<'_>) -> Result<Listing, IntakeError> {
        let Self { folder, written, result, .. } = self;
        let lines: BTreeMap<&TreePath, usize> =
            patch.files.iter().map(|file| (&file.path, file.line)).collect();
        for (path, line) in &lines {
            if result.contains_key(path.as_bytes()) && is_folder_too(&result, path) {
                return Err(PatchFault::FileAndFolder(path.as_bytes().into()).at(*line).into());
            }
        }
        let mut names = String::new();
        for number in 0..written.len() {
            writeln!(names, "intake/{number}").expect("invariant: a String takes everything");
        }
        let git = Git::bare(directory);
        let words = ["hash-object", "-w", "--no-filters", "--stdin-paths"];
        let hashed =
            if names.is_empty() { Vec::new() } else { git.run_with(&words, names.as_bytes())? };
        fs::remove_dir_all(&folder).map_err(|source| IntakeError::Io { path: folder, source })?;
        let mut hashed = line("hash-object", &hashed)?.lines();
        for (path, _, id, line) in &written {
            if hashed.next() != Some(id.as_str()) {
                return Err(PatchFault::Result(path.as_bytes().into()).at(*line).into());
            }
        }
        Ok(result)
    }
}

/// Whether something lies above or below `path`, which is no folder.
fn is_folder_too(listing: &Listing, path: &TreePath) -> bool {
    let mut below = path.as_bytes().to_owned();
    below.push(b'/');
    let first = listing.range(below.clone()..).next();
    path.folders().any(|folder| listing.contains_key(folder))
        || first.is_some_and(|(next, _)| next.starts_with(&below))
}

/// The commit in `+Subproject commit OID`.
fn submodule(edit: &Edit<'_>) -> Option<ObjectId> {
    let Edit::Text(hunks) = edit else { return None };
    let [hunk] = hunks.as_slice() else { return None };
    let mut added = hunk.lines.iter().filter(|line| line.kind == LineKind::Added);
    let line = added.next().filter(|_| added.next().is_none())?;
    let id = line.text.strip_prefix(b"Subproject commit ")?.strip_suffix(b"\n")?;
    str::from_utf8(id).ok()?.parse().ok()
}

/// Whether the system takes `content` as the target of a link.
fn is_target(content: &[u8]) -> bool {
    (1..=4095).contains(&content.len()) && !content.contains(&0)
}

/// Applies hunks exactly where they say. The error is the line of the first that does not fit.
fn apply_hunks(base: &[u8], hunks: &[Hunk<'_>]) -> Result<Vec<u8>, usize> {
    let old: Vec<&[u8]> = base.split_inclusive(|byte| *byte == b'\n').collect();
    let mut result = Vec::with_capacity(base.len());
    let mut at = 0;
    for hunk in hunks {
        let kept = old.get(at..hunk.start).ok_or(hunk.line)?;
        result.extend(kept.concat());
        at = hunk.start;
        for line in &hunk.lines {
            if line.kind != LineKind::Added {
                (old.get(at).copied() == Some(&*line.text)).then_some(()).ok_or(hunk.line)?;
                at += 1;
            }
            if line.kind != LineKind::Removed {
                // Only the last line of a file has no end.
                (result.is_empty() || result.ends_with(b"\n")).then_some(()).ok_or(hunk.line)?;
                result.extend_from_slice(&line.text);
            }
        }
    }
    let rest = old.get(at..).unwrap_or_default();
    let is_ended = rest.is_empty() || result.is_empty() || result.ends_with(b"\n");
    is_ended.then_some(()).ok_or_else(|| hunks.last().map_or(0, |hunk| hunk.line))?;
    result.extend(rest.concat());
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(base: &str, diff: &str) -> Result<String, usize> {
        let zero = "0".repeat(40);
        let head = format!("diff --git a/x b/x\nindex {zero}..{zero} 100644\n--- a/x\n+++ b/x\n");
        let text = head + diff;
        let patch = Patch::parse(text.as_bytes()).unwrap();
        let Some(FileChange { edit: Edit::Text(hunks), .. }) = patch.files.first() else {
            panic!("{patch:?}")
        };
        apply_hunks(base.as_bytes(), hunks).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn hunks_apply_exactly_or_not_at_all() {
        let base = "a\nb\nc\n";
        assert_eq!(applied(base, "@@ -2 +2 @@\n-b\n+B\n").as_deref(), Ok("a\nB\nc\n"));
        assert_eq!(applied(base, "@@ -0,0 +1 @@\n+0\n").as_deref(), Ok("0\na\nb\nc\n"));
        assert_eq!(applied(base, "@@ -3,0 +4 @@\n+d\n").as_deref(), Ok("a\nb\nc\nd\n"));
        assert_eq!(applied(base, "@@ -1,3 +0,0 @@\n-a\n-b\n-c\n").as_deref(), Ok(""));
        let unended = "@@ -3 +3 @@\n-c\n+c\n\\ No newline at end of file\n";
        assert_eq!(applied(base, unended).as_deref(), Ok("a\nb\nc"));
        assert_eq!(applied(base, "@@ -1 +1 @@\n-b\n+B\n"), Err(5), "not here");
        assert_eq!(applied(base, "@@ -9,0 +9 @@\n+x\n"), Err(5), "past the end");
        let back = "@@ -3 +3 @@\n-c\n+C\n@@ -1 +1 @@\n-a\n+A\n";
        assert_eq!(applied(base, back), Err(8), "out of order");
        let middle = "@@ -1 +1 @@\n-a\n+A\n\\ No newline at end of file\n";
        assert_eq!(applied(base, middle), Err(5), "a line without an end in the middle");
    }
}
