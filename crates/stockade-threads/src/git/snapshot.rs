//! What a local thread changes: a look at the work tree before and one after.
//!
//! The user's index is copied, so that files which git knows to be unchanged are not read. No
//! git that writes can see the user's objects: it would set the time of those that it need not
//! write again. In a folder without a repository everything is read, up to a limit.
//!
//! What is left out is told: files that are too large, that cannot be read, that are no files,
//! and repositories inside the work tree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::clone::{CloneError, Cloned, clone_from};
use super::repository::file_settings;
use super::trees::{self, CHANGES, Listing};
use super::{Git, GitError, Identity, ObjectId, Repository, fields, line, object, of_changes};
use crate::record::{Changes, LeftOut, PathText};

/// A file above this is left out, in bytes.
pub(crate) const FILE_MAX: u64 = 64 << 20;
/// Files that git does not know to be unchanged, all together, in bytes.
pub(crate) const TOTAL_MAX: u64 = 512 << 20;
/// And how many of them.
pub(crate) const COUNT_MAX: usize = 50_000;

/// There is no snapshot, and so no diff of this thread.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Git could not.
    #[error("cannot look at the files of `{}`", top.display())]
    Git {
        /// The folder.
        top: PathBuf,
        /// What it said.
        source: GitError,
    },
    /// The folder is no repository, and everything in it would have to be read.
    #[error("`{}` is no git repository and holds more than can be compared ({count} files, {bytes} bytes; \
             at most {COUNT_MAX} files, {TOTAL_MAX} bytes)", top.display())]
    TooLarge {
        /// The folder.
        top: PathBuf,
        /// How many files were seen.
        count: usize,
        /// How long they are together.
        bytes: u64,
    },
    /// A file of the thread's own could not be written.
    #[error("cannot keep `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

/// The look at the files before a local thread began.
#[derive(Debug)]
pub struct LocalChanges {
    top: PathBuf,
    /// What of `top` is looked at: relative, empty for all of it.
    inner: PathBuf,
    directory: PathBuf,
    repository: Option<Repository>,
    git: Git,
    base: Listing,
    /// Paths that are not looked into, absolute: what the agent cannot read either.
    hidden: Vec<PathBuf>,
    left_out: Vec<LeftOut>,
}

impl LocalChanges {
    /// Looks at the tracked and untracked files (those that are not ignored) of `workspace`,
    /// an absolute path without links, except those below `hidden`. `thread` is the thread's
    /// folder.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: the thread can go on without a diff.
    pub fn begin(
        workspace: &Path,
        thread: &Path,
        hidden: &[PathBuf],
    ) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Git { top: workspace.to_owned(), source };
        let repository = Repository::discover(workspace).map_err(failed)?;
        Self::within(repository, workspace, (thread, hidden))
    }

    /// The same where `repository` is the one that counts; `None`: the folder stands alone.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub(crate) fn within(
        repository: Option<Repository>,
        workspace: &Path,
        (thread, hidden): (&Path, &[PathBuf]),
    ) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Git { top: workspace.to_owned(), source };
        let top = repository.as_ref().map_or(workspace, |repository| &repository.top).to_owned();
        let inner = workspace.strip_prefix(&top).unwrap_or(Path::new("")).to_owned();
        let is_new = !thread.join(CHANGES).exists();
        let directory = of_changes(thread, repository.as_ref()).map_err(failed)?;
        let git = git(repository.as_ref(), &top, &directory);
        let (base, left_out, hidden) = (Listing::new(), Vec::new(), hidden.to_owned());
        let mut changes = Self { top, inner, directory, repository, git, base, hidden, left_out };
        if let Err(error) = changes.look_first() {
            if is_new {
                // The error that is told is the one that made it useless.
                fs::remove_dir_all(&changes.directory).ok();
            }
            return Err(error);
        }
        Ok(changes)
    }

    fn look_first(&mut self) -> Result<(), SnapshotError> {
        self.copy_index()?;
        self.pin_attributes().map_err(|source| self.failed(source))?;
        self.base = self.look()?;
        Ok(())
    }

    /// Makes what was recorded of an earlier part of the thread a part of this: what it changed
    /// is compared with what was before it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: its trees cannot be read.
    pub fn after(&mut self, earlier: &Changes) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError::Git { top: self.top.clone(), source };
        if earlier.root.to_path() != self.top {
            return Ok(());
        }
        let git = Git::bare(&self.directory);
        let before = trees::of_commit(&git, &earlier.base).map_err(failed)?;
        let result = trees::of_commit(&git, &earlier.result).map_err(failed)?;
        for path in result.keys().filter(|path| !before.contains_key(*path)) {
            self.base.remove(path);
        }
        self.base.extend(before);
        Ok(())
    }

    /// Looks again, and keeps what differs from the first look.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: there is no diff.
    pub fn look_again(&mut self) -> Result<Changes, SnapshotError> {
        let result = self.look()?;
        let changes =
            trees::keep(&self.directory, self.objects(), &self.top, (&self.base, &result));
        let changes = changes.map_err(|source| self.failed(source))?;
        Ok(Changes { left_out: self.left_out.clone(), ..changes })
    }

    /// The last look.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: there is no diff.
    pub fn finish(mut self) -> Result<Changes, SnapshotError> {
        self.look_again()
    }

    /// Makes a commit upon `parent` of what the first look saw, in the thread's repository; `None`
    /// when `parent` has just that. What it does not have is told besides.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: there is no commit.
    pub(crate) fn commit(
        self,
        parent: &ObjectId,
        message: &str,
    ) -> Result<(Option<ObjectId>, Vec<LeftOut>), SnapshotError> {
        let made = self.commit_of_look(parent, message);
        Ok((made.map_err(|source| self.failed(source))?, self.left_out))
    }

    /// Files and folders that git ignores, relative to the top.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: they are not known.
    pub(crate) fn ignored(&self) -> Result<Vec<PathBuf>, SnapshotError> {
        let words = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"];
        let words = [words.as_slice(), &["--directory"]].concat();
        let listed = self.git.run(&words).map_err(|source| self.failed(source))?;
        let path = |field: &[u8]| PathBuf::from(OsStr::from_bytes(field));
        Ok(fields(&listed).map(path).collect())
    }

    /// Makes a commit without a parent of what the first look saw, and a clone of it at `target`.
    /// What it does not have is told besides.
    ///
    /// # Errors
    ///
    /// [`CloneError`]: there is no clone.
    pub(crate) fn clone_alone(
        self,
        target: &Path,
        message: &str,
    ) -> Result<(Cloned, Vec<LeftOut>), CloneError> {
        let format = self.repository.as_ref().map_or("sha1", |repository| &repository.format);
        let from = match &self.repository {
            Some(repository) => repository.lend(&self.directory),
            None => Git::bare(&self.directory),
        };
        let commit = || -> Result<ObjectId, GitError> {
            let tree = trees::write_with(&from, &self.directory, &self.base)?;
            let git = from.clone().signed(&Identity::ours(), "1970-01-01T00:00:00+00:00");
            object("commit-tree", &git.run(&["commit-tree", tree.as_str(), "-m", message])?)
        };
        let failed = |source| CloneError::Git { top: self.top.clone(), source };
        let commit = commit().map_err(failed)?;
        let cloned = clone_from(&from, (&self.top, format), &commit, target)?;
        Ok((cloned, self.left_out))
    }

    fn commit_of_look(
        &self,
        parent: &ObjectId,
        message: &str,
    ) -> Result<Option<ObjectId>, GitError> {
        let Some(repository) = &self.repository else { return Ok(None) };
        let git = repository.lend(&self.directory);
        let tree = trees::write_with(&git, &self.directory, &self.base)?;
        let before = git.run(&["rev-parse", &format!("{parent}^{{tree}}")])?;
        if object("rev-parse", &before)? == tree {
            return Ok(None);
        }
        let date = git.run(&["log", "-1", "--format=%cI", parent.as_str()])?;
        let git = git.signed(&Identity::ours(), line("log", &date)?);
        let words = ["commit-tree", tree.as_str(), "-p", parent.as_str(), "-m", message];
        object("commit-tree", &git.run(&words)?).map(Some)
    }

    fn nothing(&self) -> String {
        let format = self.repository.as_ref().map(|repository| repository.format.as_str());
        "0".repeat(if format == Some("sha256") { 64 } else { 40 })
    }

    fn failed(&self, source: GitError) -> SnapshotError {
        SnapshotError::Git { top: self.top.clone(), source }
    }

    fn copy_index(&self) -> Result<(), SnapshotError> {
        let Some(repository) = &self.repository else { return Ok(()) };
        copy_index(repository, &self.directory)?;
        copy_excludes(repository, &self.directory)
    }

    fn objects(&self) -> Option<&Path> {
        self.repository.as_ref().map(|repository| repository.objects.as_path())
    }

    /// Takes the attributes (line ends, encodings) as they are in the index, so that nothing
    /// the agent writes changes how its files are read.
    fn pin_attributes(&mut self) -> Result<(), GitError> {
        let Some(objects) = self.objects() else { return Ok(()) };
        let magic = self.git.clone().variable("GIT_LITERAL_PATHSPECS", "0");
        let pinned = trees::list(&magic, &[":(top,glob)**/.gitattributes"])?;
        trees::copy(&self.directory, Some(objects), pinned.values())?;
        let tree = trees::write(&self.directory, &pinned)?;
        self.git = self.git.clone().variable("GIT_ATTR_SOURCE", tree.as_str());
        Ok(())
    }

    fn look(&mut self) -> Result<Listing, SnapshotError> {
        let failed = |source| SnapshotError::Git { top: self.top.clone(), source };
        let tracked = self.tracked().map_err(failed)?;
        let mut listed = vec![OsStr::new("ls-files"), OsStr::new("-z"), OsStr::new("--modified")];
        listed.extend(["--others", "--exclude-standard", "--"].map(OsStr::new));
        listed.extend((!self.inner.as_os_str().is_empty()).then_some(self.inner.as_os_str()));
        let listed = self.git.run(&listed).map_err(failed)?;
        let paths: BTreeSet<&[u8]> =
            fields(&listed).chain(tracked.unmerged.iter().map(Vec::as_slice)).collect();
        let mut sorting = Sorting::new(&self.top, &self.left_out, self.nothing());
        let is_hidden = |path: &[u8]| {
            let whole = self.top.join(OsStr::from_bytes(path));
            self.hidden.iter().any(|hidden| whole.starts_with(hidden))
        };
        for path in paths.into_iter().filter(|path| !tracked.submodules.contains(*path)) {
            if !is_hidden(path) {
                sorting.take(path);
            }
        }
        for path in &tracked.submodules {
            sorting.submodule(path);
        }
        let Sorting { present, gone, left_out, count, bytes, .. } = sorting;
        if self.repository.is_none() && (count > COUNT_MAX || bytes > TOTAL_MAX) {
            return Err(SnapshotError::TooLarge { top: self.top.clone(), count, bytes });
        }
        self.left_out = left_out;
        let update = |words: &[&str], input: &[u8]| -> Result<(), GitError> {
            if input.is_empty() { Ok(()) } else { self.git.run_with(words, input).map(drop) }
        };
        update(&["update-index", "-z", "--index-info"], &gone).map_err(failed)?;
        let add = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
        update(&add, &present).map_err(failed)?;
        trees::list(&self.git, &[]).map_err(failed)
    }

    /// What the index says beside the files: submodules, conflicts; and marks that would let a
    /// change go unseen are taken off.
    fn tracked(&self) -> Result<Tracked, GitError> {
        let listed = self.git.run(&["ls-files", "-z", "-v", "--stage"])?;
        let mut tracked = Tracked::default();
        let (mut assumed, mut skipped) = (Vec::new(), Vec::new());
        for line in fields(&listed) {
            // `H 100644 OID 0<tab>PATH`; lower case: assume-unchanged; S: skip-worktree.
            let Some(at) = line.iter().position(|byte| *byte == b'\t') else { continue };
            let (head, path) = (line.get(..at).unwrap_or_default(), line.get(at + 1..));
            let path = path.unwrap_or_default();
            let tag = head.first().copied().unwrap_or(b'H');
            if head.get(2..8) == Some(b"160000") {
                tracked.submodules.insert(path.to_owned());
            }
            if !head.ends_with(b" 0") {
                tracked.unmerged.insert(path.to_owned());
            }
            if tag.is_ascii_lowercase() {
                assumed.extend(path.iter().chain(&[0]));
            }
            let is_skipped = tag.eq_ignore_ascii_case(&b'S');
            if is_skipped && fs::symlink_metadata(self.top.join(OsStr::from_bytes(path))).is_ok() {
                skipped.extend(path.iter().chain(&[0]));
            }
        }
        for (flag, paths) in [("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)] {
            if !paths.is_empty() {
                self.git.run_with(&["update-index", flag, "-z", "--stdin"], &paths)?;
            }
        }
        Ok(tracked)
    }
}

#[derive(Debug, Default)]
struct Tracked {
    submodules: BTreeSet<Vec<u8>>,
    unmerged: BTreeSet<Vec<u8>>,
}

/// Sorts paths by what git shall do with them.
#[derive(Debug)]
struct Sorting<'a> {
    top: &'a Path,
    /// Paths to read, each ended by NUL.
    present: Vec<u8>,
    /// Entries to remove, as `--index-info` takes them.
    gone: Vec<u8>,
    /// The object of an entry that is removed: as many zeros as names have digits.
    nothing: String,
    left_out: Vec<LeftOut>,
    earlier: BTreeSet<PathBuf>,
    count: usize,
    bytes: u64,
}

impl<'a> Sorting<'a> {
    fn new(top: &'a Path, earlier: &[LeftOut], nothing: String) -> Self {
        Self {
            top,
            nothing,
            present: Vec::new(),
            gone: Vec::new(),
            left_out: earlier.to_vec(),
            earlier: earlier.iter().map(|entry| entry.path.to_path()).collect(),
            count: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, path: &[u8]) {
        let name = Path::new(OsStr::from_bytes(path));
        // What the first look did not have is no change of the second.
        if self.earlier.contains(name) {
            return;
        }
        if path.ends_with(b"/") {
            return self.leave(name, "a repository of its own");
        }
        let whole = self.top.join(name);
        let Ok(metadata) = fs::symlink_metadata(&whole) else { return self.remove(path) };
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.remove(path);
        }
        let size = if kind.is_file() { metadata.len() } else { 0 };
        if !kind.is_file() && !kind.is_symlink() {
            self.leave(name, "neither a file nor a link");
        } else if size > FILE_MAX {
            self.leave(name, "a large file");
        } else if kind.is_file() && rustix::fs::access(&whole, rustix::fs::Access::READ_OK).is_err()
        {
            self.leave(name, "a file that cannot be read");
        } else {
            self.count += 1;
            self.bytes += size;
            if self.count > COUNT_MAX || self.bytes > TOTAL_MAX {
                return self.leave(name, "one file too many");
            }
            self.present.extend(path.iter().chain(&[0]));
        }
    }

    /// Its files are another repository's; one that is checked out could have been changed.
    fn submodule(&mut self, path: &[u8]) {
        let name = Path::new(OsStr::from_bytes(path));
        if !self.earlier.contains(name) && self.top.join(name).join(".git").exists() {
            self.leave(name, "a submodule");
        }
    }

    fn remove(&mut self, path: &[u8]) {
        self.gone.extend_from_slice(b"0 ");
        self.gone.extend_from_slice(self.nothing.as_bytes());
        self.gone.push(b'\t');
        self.gone.extend(path.iter().chain(&[0]));
    }

    fn leave(&mut self, path: &Path, why: &'static str) {
        self.left_out.push(LeftOut { path: PathText::from(path), why: why.to_owned() });
    }
}

/// Git for looking at the files of `top`, with all that it writes in `directory`.
fn git(repository: Option<&Repository>, top: &Path, directory: &Path) -> Git {
    let mut git = Git::bare(directory).setting("core.bare", OsStr::new("false"));
    top.clone_into(&mut git.folder);
    git = git.variable("GIT_WORK_TREE", top);
    let settings = file_settings(repository, top);
    if let Some(excludes) = settings.excludes {
        git = git.setting("core.excludesFile", excludes.as_os_str());
    }
    for (name, value) in settings.others {
        git = git.setting(name, &value);
    }
    git
}

/// Copies the user's index into the repository `directory`, with its time, by which git knows
/// which of its entries may be stale; and the parts of a split one.
pub(super) fn copy_index(repository: &Repository, directory: &Path) -> Result<(), SnapshotError> {
    let copy = |from: &Path, to: &Path| -> io::Result<()> {
        let modified = fs::metadata(from)?.modified()?;
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_times(FileTimes::new().set_modified(modified))
    };
    let index = directory.join("index");
    match copy(&repository.index, &index) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SnapshotError::Io { path: index, source: error });
        }
        Ok(()) | Err(_) => {}
    }
    for entry in fs::read_dir(&repository.directory).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(b"sharedindex.") {
            let path = directory.join(entry.file_name());
            copy(&entry.path(), &path)
                .map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
        }
    }
    Ok(())
}

/// Copies what the repository ignores without saying so in its files.
pub(super) fn copy_excludes(
    repository: &Repository,
    directory: &Path,
) -> Result<(), SnapshotError> {
    let excludes = repository.common.join("info/exclude");
    let info = directory.join("info");
    let copied = fs::create_dir_all(&info).and_then(|()| match fs::read(excludes) {
        Ok(text) => fs::write(info.join("exclude"), text),
        Err(_) => Ok(()),
    });
    copied.map_err(|source| SnapshotError::Io { path: info, source })
}
