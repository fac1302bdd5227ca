//! Why a cloud thread does not begin.

use std::io;
use std::path::PathBuf;

use stockade_agents::AgentError;
use stockade_vm::BootError;

use super::CopyError;
use crate::branch::BranchError;
use crate::git::{CloneError, GitError, SnapshotError};
use crate::store::StoreError;

/// Nothing has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// A bare repository has no files to work on.
    #[error("`{}` is a bare repository, which has no files to work on", .0.display())]
    Bare(PathBuf),
    /// The repository cannot be read.
    #[error("cannot read the repository around `{}`", workspace.display())]
    Repository {
        /// Where the user stands.
        workspace: PathBuf,
        /// What git says.
        source: GitError,
    },
    /// There is no clone.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// Where the user stands is not in the commit.
    #[error("the folder `{}` is not committed, so it is not in the clone", .0.display())]
    NotCommitted(PathBuf),
    /// The commit that the thread began at is gone.
    #[error("the repository has no commit {0} any more, which the thread began at")]
    NoBase(String),
    /// It was to begin with what was not committed, and ended before that was kept.
    #[error("thread `{0}` ended before what was not committed was cloned")]
    NoSnapshot(String),
    /// What is not committed cannot be looked at.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file that is ignored cannot be taken along.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// What is ignored is more than the machine has room for.
    #[error("the files of `{}` that git ignores are larger than the machine's disk", .0.display())]
    Ignored(PathBuf),
    /// What an earlier machine left cannot be put into a clone.
    #[error("cannot go on where the thread ended")]
    Again(#[from] BranchError),
    /// It is no thread that a machine could go on with.
    #[error("thread `{0}` worked on your own files")]
    NoCloud(String),
    /// The set-up script failed.
    #[error("the set-up script failed: {0}")]
    SetUp(String),
    /// It was ended before the work began.
    #[error("interrupted")]
    Interrupted,
    /// There is no machine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The model cannot be used as it is configured.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The thread's record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine's own folder cannot be had.
    #[error("cannot make `{}`", .0.display())]
    Folder(PathBuf, #[source] io::Error),
}

impl CloudError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bare(_) => Some("clone it, and start from there".to_owned()),
            Self::Repository { source, .. } => source.hint().map(str::to_owned),
            Self::Clone(error) => error.hint().map(str::to_owned),
            Self::NotCommitted(_) => Some("commit what is in it, or start further up".to_owned()),
            Self::Boot(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::SetUp(_) => Some("`[cloud] setup` in the configuration".to_owned()),
            Self::Again(error) => error.hint().map(str::to_owned),
            Self::Ignored(_) => Some(
                "`--hide PATH` leaves a folder out; `[cloud] disk` is how large it is".to_owned(),
            ),
            Self::NoSnapshot(_) => Some(
                "nothing was done in it; `stockade cloud --with-changes \"PROMPT\"` begins another \
                 with what is not committed now"
                    .to_owned(),
            ),
            Self::NoBase(_)
            | Self::Snapshot(_)
            | Self::Copy(_)
            | Self::Interrupted
            | Self::Folder(..) => None,
            Self::NoCloud(_) => Some("`stockade local \"PROMPT\"` begins another".to_owned()),
        }
    }
}
