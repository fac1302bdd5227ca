//! A clone of what is committed, for a place where something hostile works on it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::record;

use super::{Git, GitError, ObjectId, Repository, ended, fields, init_bare, last_words, object};

/// What was cloned, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cloned {
    /// The top of the user's work tree, which paths of the result are relative to.
    pub top: PathBuf,
    /// The user's commit that it is of.
    pub head: ObjectId,
    /// The commit that what is done in it is compared with: that one, or one upon it with work that
    /// was not committed.
    pub commit: ObjectId,
    /// The tree of that commit.
    pub tree: ObjectId,
    /// Its branch; `None` when the user's repository has none checked out.
    pub branch: Option<String>,
    /// Submodules, which are empty folders in the clone.
    pub submodules: Vec<PathBuf>,
    /// How many files are pointers to large files that are kept elsewhere (git-lfs).
    pub lfs_pointers: usize,
    /// Whether older history is missing, as it is in the user's repository.
    pub is_shallow: bool,
}

/// There is no clone; what was begun in the target stays there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloneError {
    /// The workspace is in no repository.
    #[error("`{}` is not in a git repository", .0.display())]
    NoRepository(PathBuf),
    /// Nothing has been committed.
    #[error("the repository `{}` has no commit", .0.display())]
    NoCommit(PathBuf),
    /// Git could not.
    #[error("cannot clone `{}`", top.display())]
    Git {
        /// The repository.
        top: PathBuf,
        /// What it said.
        source: GitError,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

impl CloneError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRepository(_) => Some("`git init`, and commit what the agent shall see"),
            Self::NoCommit(_) => Some("commit what the agent shall see"),
            Self::Git { source, .. } => source.hint(),
            Self::Io { .. } => None,
        }
    }
}

/// Clones the commit that is checked out in the repository around `workspace` to the folder
/// `target`, which must not exist.
///
/// The clone shares no file with the user's repository, has no remote, no hook, no attribute
/// or filter of its own, and a configuration of a few lines. The user's repository is only
/// read: as a store of objects, by a git that works for the clone.
///
/// # Errors
///
/// [`CloneError`]; the user's repository is as it was.
pub fn clone_head(workspace: &Path, target: &Path) -> Result<Cloned, CloneError> {
    clone_commit(workspace, target, None)
}

/// The same of another commit, which the repository has.
pub(crate) fn clone_commit(
    workspace: &Path,
    target: &Path,
    commit: Option<ObjectId>,
) -> Result<Cloned, CloneError> {
    let failed = |source| CloneError::Git { top: workspace.to_owned(), source };
    let repository = Repository::discover(workspace).map_err(failed)?;
    let repository = repository.ok_or_else(|| CloneError::NoRepository(workspace.to_owned()))?;
    let Some(commit) = commit.or_else(|| repository.head.clone()) else {
        return Err(CloneError::NoCommit(repository.top));
    };
    let directory = target.join(".git");
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| CloneError::Io { path, source }
    };
    begin(target, &directory, (&repository.top, &repository.format))?;
    let shallow = repository.shallow();
    if let Some(shallow) = &shallow {
        let path = directory.join("shallow");
        fs::write(&path, shallow).map_err(written(&path))?;
    }
    fill(&repository, &commit, target, &directory).map_err(failed)
}

/// Clones `commit`, which `from` has and the user's repository does not, to `target`: the state of the
/// folder `top`, whose repository, if it has one, has names of `format`.
pub(super) fn clone_from(
    from: &Git,
    (top, format): (&Path, &str),
    commit: &ObjectId,
    target: &Path,
) -> Result<Cloned, CloneError> {
    const BRANCH: &str = "refs/heads/main";
    let failed = |source| CloneError::Git { top: top.to_owned(), source };
    let directory = target.join(".git");
    begin(target, &directory, (top, format))?;
    let fill = || -> Result<Cloned, GitError> {
        let git = Git::bare(&directory);
        copy_history(from, &git, &format!("{commit}\n"), false)?;
        git.run(&["symbolic-ref", "HEAD", BRANCH])?;
        git.run(&["update-ref", BRANCH, commit.as_str()])?;
        let work = working(target, &directory);
        work.run(&["read-tree", "--reset", "-u", commit.as_str()])?;
        let tree = git.run(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?;
        Ok(Cloned {
            top: top.to_owned(),
            head: commit.clone(),
            commit: commit.clone(),
            tree: object("rev-parse", &tree)?,
            branch: None,
            submodules: Vec::new(),
            lfs_pointers: 0,
            is_shallow: false,
        })
    };
    fill().map_err(failed)
}

/// Makes an empty repository of the clone's own at `directory`, in the folder `target`.
fn begin(target: &Path, directory: &Path, (top, format): (&Path, &str)) -> Result<(), CloneError> {
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| CloneError::Io { path, source }
    };
    fs::create_dir_all(target).map_err(written(target))?;
    let made = init_bare(directory, format);
    made.map_err(|source| CloneError::Git { top: top.to_owned(), source })?;
    let format = if format == "sha1" { "" } else { SHA256_CONFIG };
    let path = directory.join("config");
    fs::write(&path, format!("{CONFIG}{format}")).map_err(written(&path))
}

/// Git at work in the clone.
fn working(target: &Path, directory: &Path) -> Git {
    Git::discovering(target).variable("GIT_DIR", directory).variable("GIT_WORK_TREE", target)
}

/// With somebody to commit as, who is not the user.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n\
                      [user]\n\tname = Agent\n\temail = agent@localhost\n";
const SHA256_CONFIG: &str = "[extensions]\n\tobjectFormat = sha256\n";

fn fill(
    repository: &Repository,
    commit: &ObjectId,
    target: &Path,
    directory: &Path,
) -> Result<Cloned, GitError> {
    let git = Git::bare(directory);
    let lent = git.clone().borrowing(&repository.objects);
    copy_history(&lent, &git, &format!("{commit}\n"), false)?;
    let branch = repository.branch.as_deref();
    let reference = branch.map_or_else(|| "HEAD".to_owned(), |name| format!("refs/heads/{name}"));
    if branch.is_some() {
        git.run(&["symbolic-ref", "HEAD", &reference])?;
        git.run(&["update-ref", &reference, commit.as_str()])?;
    } else {
        git.run(&["update-ref", "--no-deref", "HEAD", commit.as_str()])?;
    }
    // Line ends are the repository's attributes' affair; filters are not there to be run.
    let work = working(target, directory);
    work.run(&["read-tree", "--reset", "-u", commit.as_str()])?;
    let listed = work.run(&["ls-files", "-z", "--stage"])?;
    let submodules = fields(&listed).filter_map(submodule).collect();
    let magic = work.clone().variable("GIT_LITERAL_PATHSPECS", "0");
    let large = magic.run(&["ls-files", "-z", "--", ":(attr:filter=lfs)"])?;
    let tree = git.run(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?;
    Ok(Cloned {
        top: repository.top.clone(),
        head: commit.clone(),
        commit: commit.clone(),
        tree: object("rev-parse", &tree)?,
        branch: repository.branch.clone(),
        submodules,
        lfs_pointers: fields(&large).count(),
        is_shallow: directory.join("shallow").exists(),
    })
}

impl Cloned {
    /// As it stands in the record.
    pub(crate) fn recorded(&self) -> record::Cloned {
        let start = (self.commit != self.head).then(|| self.commit.to_string());
        record::Cloned { commit: self.head.to_string(), branch: self.branch.clone(), start }
    }

    /// Brings commits of the thread's repository `from` into the clone at `target`: `tip` becomes
    /// its HEAD, and the files and the index those of `files`, a commit upon it or itself.
    pub(crate) fn bring(
        &self,
        target: &Path,
        from: &Path,
        (tip, files): (&str, &str),
    ) -> Result<(), CloneError> {
        let failed = |source| CloneError::Git { top: self.top.clone(), source };
        let repository = Repository::discover(&self.top).map_err(failed)?;
        let repository = repository.ok_or_else(|| CloneError::NoRepository(self.top.clone()))?;
        let directory = target.join(".git");
        let git = Git::bare(&directory);
        let bring = || -> Result<(), GitError> {
            let revisions = format!("{tip}\n{files}\n^{}\n", self.head);
            copy_history(&repository.lend(from), &git, &revisions, false)?;
            git.run(&["update-ref", "HEAD", tip])?;
            let work = working(target, &directory);
            work.run(&["read-tree", "--reset", "-u", files]).map(drop)
        };
        bring().map_err(failed)
    }

    /// Takes what lies below `hidden`, absolute paths of the user's, out of the files of the clone at
    /// `target`; for git in it nothing is missing.
    pub(crate) fn cover(&self, target: &Path, hidden: &[PathBuf]) -> Result<(), CloneError> {
        let within = hidden.iter().filter_map(|path| path.strip_prefix(&self.top).ok());
        let within: Vec<&Path> = within.filter(|path| !path.as_os_str().is_empty()).collect();
        if within.is_empty() {
            return Ok(());
        }
        let failed = |source| CloneError::Git { top: self.top.clone(), source };
        let work = working(target, &target.join(".git"));
        let listed = work.run(&["ls-files", "-z"]).map_err(failed)?;
        let path = |field: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(field));
        let listed = fields(&listed).map(path);
        let covered: Vec<PathBuf> =
            listed.filter(|path| within.iter().any(|hidden| path.starts_with(hidden))).collect();
        let mut names = Vec::new();
        for path in &covered {
            names.extend(path.as_os_str().as_bytes().iter().chain(&[0]));
            match fs::remove_file(target.join(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CloneError::Io { path: target.join(path), source: error });
                }
                _ => {}
            }
        }
        let words = ["update-index", "--skip-worktree", "-z", "--stdin"];
        if !names.is_empty() {
            work.run_with(&words, &names).map_err(failed)?;
        }
        Ok(())
    }
}

/// The path of a line of `ls-files --stage` that is a submodule.
fn submodule(line: &[u8]) -> Option<PathBuf> {
    let at = line.iter().position(|byte| *byte == b'\t')?;
    let path = line.get(at + 1..).filter(|_| line.starts_with(b"160000 "))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

/// Copies what `revisions` (one a line, `^` before those that are there) reach, by a pack from
/// one git to another. With `is_checked`, each object is looked at as it comes.
pub(super) fn copy_history(
    from: &Git,
    into: &Git,
    revisions: &str,
    is_checked: bool,
) -> Result<(), GitError> {
    const PACK: &str = "pack-objects";
    let words = [PACK, "--revs", "--stdout", "--quiet", "--delta-base-offset"];
    let mut pack = from.command(&words.map(AsRef::as_ref));
    let mut pack = pack.stdin(Stdio::piped()).spawn().map_err(GitError::Start)?;
    let words: &[&str] = if is_checked {
        &["index-pack", "--stdin", "--fsck-objects"]
    } else {
        &["index-pack", "--stdin"]
    };
    let words: Vec<&std::ffi::OsStr> = words.iter().map(AsRef::as_ref).collect();
    let mut index = into.command(&words);
    let source = pack.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let index = index.stdin(source).stdout(Stdio::null()).spawn().map_err(GitError::Start);
    let mut index = match index {
        Ok(index) => index,
        Err(error) => {
            pack.kill().and_then(|()| pack.wait()).ok();
            return Err(error);
        }
    };
    if let Some(mut stdin) = pack.stdin.take() {
        // A git that ends before it has read this says why.
        io::Write::write_all(&mut stdin, revisions.as_bytes()).ok();
    }
    let (packing, indexing) = (pack.stderr.take(), index.stderr.take());
    let (packing, indexing) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || last_words(packing));
        (last_words(indexing), packing.join().unwrap_or_default())
    });
    let (packed, indexed) = (pack.wait(), index.wait());
    // The first of them to fail is the reason of the other.
    ended(PACK, packed.map_err(GitError::io(PACK))?, &indexing)?;
    ended("index-pack", indexed.map_err(GitError::io("index-pack"))?, &packing)
}
