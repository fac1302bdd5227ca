//! A branch of the user's repository, made of what a cloud thread changed.
//!
//! It begins at the commit that was cloned, and has the commits of the clone when they are a
//! line of their own, else a single one. All objects are made in the thread's repository, from
//! trees that were checked on their way in, and come over as one pack; then one name is written.
//! The current branch, the index and the files stay as they are, and no hook runs.

use std::path::{Path, PathBuf};

use stockade_policy::acts_on_terminals;

use crate::changes::ChangeSet;
use crate::git::trees::{self, CHANGES, Entry, Listing};
use crate::git::{GitError, Identity, Repository, give_commits, identity};
use crate::patch::FileMode;
use crate::record::{Branched, Changes, Cloned, Commit};

/// The longest name that is made of a title, in characters.
const NAME_MAX: usize = 40;
/// The commit that a clone begins with when it has the user's uncommitted work.
pub(crate) const UNCOMMITTED: &str = "Work that was not committed when the thread began";
/// How many names are tried before the user has to give one.
const TRIES: u32 = 50;

/// A branch that is wanted.
#[derive(Debug, Clone)]
pub struct BranchTask<'a> {
    /// The thread's ID.
    pub thread: &'a str,
    /// The thread's folder.
    pub folder: &'a Path,
    /// What it changed.
    pub changes: &'a Changes,
    /// When that was recorded (RFC 3339, UTC).
    pub when: &'a str,
    /// What it is about.
    pub title: &'a str,
    /// What it said at its end.
    pub summary: &'a str,
    /// The branch's name; without one, of the title.
    pub name: Option<&'a str>,
}

/// There is no branch, and the repository has no new name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BranchError {
    /// It worked on the user's files themselves.
    #[error("thread `{0}` worked on your own files, not on a clone")]
    NoClone(String),
    /// There is nothing that a branch could have.
    #[error("thread `{0}` changed nothing")]
    Nothing(String),
    /// The user's repository is gone.
    #[error("`{}` is no repository any more", .0.display())]
    NoRepository(PathBuf),
    /// The commit that was cloned is gone.
    #[error("`{}` has no commit {commit} any more, which the thread began at", top.display())]
    NoBase {
        /// The repository.
        top: PathBuf,
        /// The commit.
        commit: String,
    },
    /// Git takes no such name.
    #[error("`{0}` is no name for a branch")]
    Name(String),
    /// The name is taken.
    #[error("there is a branch `{0}` already, with something else in it")]
    Taken(String),
    /// Nobody can be named as the author.
    #[error("git does not know who you are")]
    Nobody(#[source] GitError),
    /// Git could not.
    #[error("cannot make the branch")]
    Git(#[from] GitError),
}

impl BranchError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NoClone(_) => Some("commit them as you like"),
            Self::Nothing(_) => Some("`stockade threads log` tells what happened"),
            Self::Taken(_) | Self::Name(_) => Some("`stockade threads branch ID NAME`"),
            Self::Nobody(_) => {
                Some("`git config --global user.name NAME`, and `user.email` likewise")
            }
            Self::NoBase { .. } => Some("`stockade threads diff` still has the changes"),
            Self::Git(error) => error.hint(),
            Self::NoRepository(_) => None,
        }
    }
}

/// Makes the branch. One that is there already with just this in it is the same as a new one.
///
/// # Errors
///
/// [`BranchError`]: no branch was made or moved.
pub fn branch(task: &BranchTask<'_>) -> Result<Branched, BranchError> {
    let changes = task.changes;
    let Some(clone) = &changes.clone else {
        return Err(BranchError::NoClone(task.thread.to_owned()));
    };
    let base = &clone.commit;
    if changes.files == 0 && changes.commits.is_empty() {
        return Err(BranchError::Nothing(task.thread.to_owned()));
    }
    let root = changes.root.to_path();
    let gone = || BranchError::NoRepository(root.clone());
    let repository = Repository::discover(&root)?.ok_or_else(gone)?;
    if !repository.has_commit(base)? {
        return Err(BranchError::NoBase { top: repository.top, commit: base.clone() });
    }
    let wanted = task.name.map_or_else(|| of_title(task), str::to_owned);
    if !repository.is_branch_name(&wanted)? {
        return Err(BranchError::Name(wanted));
    }
    let author = identity(&repository).map_err(BranchError::Nobody)?;
    let making = Making { task, repository: &repository, author: &author };
    let (first, from) = making.first(clone)?;
    let tip = making.chain(first, &from)?.last;
    let name = free_name(&repository, &wanted, &tip, task.name.is_none())?;
    give_commits(&task.folder.join(CHANGES), &repository, (&tip, base))?;
    repository.make_branch(&name, &tip, &author, &format!("stockade: thread {}", task.thread))?;
    Ok(Branched { branch: name, commit: tip })
}

/// `wanted`, or with `may_vary` the first of `wanted-2`, `wanted-3`, … that is free or has `tip`.
fn free_name(
    repository: &Repository,
    wanted: &str,
    tip: &str,
    may_vary: bool,
) -> Result<String, BranchError> {
    let tries = if may_vary { TRIES } else { 1 };
    for number in 1..=tries {
        let name = if number == 1 { wanted.to_owned() } else { format!("{wanted}-{number}") };
        if repository.branch_tip(&name)?.is_none_or(|present| present == tip) {
            return Ok(name);
        }
    }
    Err(BranchError::Taken(wanted.to_owned()))
}

/// `stockade/` and the letters and digits of the title, or the start of the thread's ID.
fn of_title(task: &BranchTask<'_>) -> String {
    let mut words = String::new();
    for character in task.title.chars().take(4 * NAME_MAX) {
        if words.len() >= NAME_MAX {
            break;
        }
        if character.is_ascii_alphanumeric() {
            words.push(character.to_ascii_lowercase());
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    let words = words.trim_end_matches('-');
    let id = task.thread.get(..8).unwrap_or(task.thread);
    format!("stockade/{}", if words.is_empty() { id } else { words })
}

/// Makes the commits of `task` again upon `from`, for a clone that is to go on with them.
pub(crate) fn again(
    task: &BranchTask<'_>,
    repository: &Repository,
    from: &str,
) -> Result<Chain, BranchError> {
    let making = Making { task, repository, author: &Identity::ours() };
    let first = trees::of_commit(&repository.lend(&task.folder.join(CHANGES)), from)?;
    making.chain(first, from)
}

/// Commits one upon the other, in the thread's repository.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The last that was a commit in the clone too.
    pub(crate) committed: String,
    /// The last: that one, or one with what was not committed.
    pub(crate) last: String,
}

/// The commits of a branch on their way.
struct Making<'a> {
    task: &'a BranchTask<'a>,
    repository: &'a Repository,
    author: &'a Identity,
}

impl Making<'_> {
    /// What the clone began with: the user's commit, or one more with what they had not committed.
    fn first(&self, clone: &Cloned) -> Result<(Listing, String), BranchError> {
        let git = self.repository.lend(&self.task.folder.join(CHANGES));
        let Some(start) = &clone.start else {
            return Ok((trees::of_commit(&git, &clone.commit)?, clone.commit.clone()));
        };
        let listing = trees::of_commit(&git, start)?;
        let tip = self.commit(&listing, &clone.commit, UNCOMMITTED)?;
        Ok((listing, tip))
    }

    /// Makes all commits upon `from`, which has the files of `first`.
    fn chain(&self, first: Listing, from: &str) -> Result<Chain, BranchError> {
        let BranchTask { changes, .. } = self.task;
        let result = self.with(&first, changes)?;
        let (mut listing, mut tip) = (first, from.to_owned());
        for Commit { base, result, message } in &changes.commits {
            let step = Changes { base: base.clone(), result: result.clone(), ..(*changes).clone() };
            listing = self.with(&listing, &step)?;
            tip = self.commit(&listing, &tip, message)?;
        }
        if listing == result && !changes.commits.is_empty() {
            return Ok(Chain { committed: tip.clone(), last: tip });
        }
        let message = if changes.commits.is_empty() {
            format!("{}\n\n{}", self.task.title.trim(), self.task.summary.trim())
        } else {
            format!("{}\n\nWhat was not committed at the end.", self.task.title.trim())
        };
        let last = self.commit(&result, &tip, message.trim())?;
        Ok(Chain { committed: tip, last })
    }

    /// `listing` after `step`.
    fn with(&self, listing: &Listing, step: &Changes) -> Result<Listing, BranchError> {
        let mut listing = listing.clone();
        for change in ChangeSet::open(self.task.folder, step)?.files(&[])? {
            match change.after {
                Some(side) => {
                    let entry = Entry { mode: FileMode::bits(side.mode), id: side.id };
                    listing.insert(change.path, entry);
                }
                None => drop(listing.remove(&change.path)),
            }
        }
        Ok(listing)
    }

    fn commit(
        &self,
        listing: &Listing,
        parent: &str,
        message: &str,
    ) -> Result<String, BranchError> {
        let directory = self.task.folder.join(CHANGES);
        let git = self.repository.lend(&directory);
        let tree = trees::write_with(&git, &directory, listing)?;
        // The words of an agent too: a log is read on a terminal.
        let is_plain = |c: &char| matches!(c, '\n' | '\t') || !acts_on_terminals(*c);
        let message: String = message.chars().filter(is_plain).collect();
        let message = format!("{message}\n\nStockade-Thread: {}\n", self.task.thread);
        let git = git.signed(self.author, &date(self.task.when));
        let words = ["commit-tree", tree.as_str(), "-p", parent, "-F", "-"];
        let answer = git.run_with(&words, message.as_bytes())?;
        Ok(crate::git::object("commit-tree", &answer)?.to_string())
    }
}

/// A time of the record, to the second, as git reads it.
fn date(when: &str) -> String {
    format!("{}+0000", when.get(..19).unwrap_or(when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_a_name() {
        let changes = Changes {
            root: Path::new("/").into(),
            base: String::new(),
            result: String::new(),
            files: 0,
            left_out: Vec::new(),
            clone: None,
            ignored: 0,
            modes: Vec::new(),
            commits: Vec::new(),
        };
        let name = |title: &str| {
            of_title(&BranchTask {
                thread: "01abcdefgh",
                folder: Path::new("/"),
                changes: &changes,
                when: "",
                title,
                summary: "",
                name: None,
            })
        };
        assert_eq!(name("Split utils.py, by domain!"), "stockade/split-utils-py-by-domain");
        assert_eq!(name("../../.. \u{1b}[2J"), "stockade/2j");
        assert_eq!(name("\u{fc}\u{4e2d}"), "stockade/01abcdef");
        let long = name(&"a ".repeat(200));
        assert!(long.len() <= "stockade/".len() + NAME_MAX && !long.ends_with('-'), "{long}");
    }
}
