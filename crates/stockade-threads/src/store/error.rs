//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

/// The store could not do what was asked; what it holds is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// What was being done, as a verb.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// No thread has this name.
    #[error("there is no thread `{0}`")]
    NotFound(String),
    /// No thread worked in this folder.
    #[error("no thread has worked in `{}`", .0.display())]
    NoneHere(PathBuf),
    /// Several threads have names that start so.
    #[error("`{0}` is the start of {1} threads' IDs")]
    Ambiguous(String, usize),
    /// Another process works on the thread.
    #[error("thread `{0}` is at work")]
    Busy(String),
    /// It has come to its end.
    #[error("thread `{0}` has ended: {1}")]
    Over(String, &'static str),
    /// It is the record of a run, and no more than that.
    #[error("`{0}` is one command of `stockade run`: it has a record and nothing else")]
    OfARun(String),
    /// A record was changed, or the disk lost a part of it.
    #[error("the record of thread `{thread}` is damaged at line {line}: {fault}")]
    Damaged {
        /// Which thread.
        thread: String,
        /// The first line that does not fit, from 1.
        line: u64,
        /// What does not fit.
        fault: super::Fault,
    },
    /// An earlier write failed halfway, so nothing may follow it.
    #[error("the record of thread `{0}` is closed after a write that failed")]
    Closed(String),
}

impl StoreError {
    /// For `map_err`: `step` is a verb, `path` what it was done to.
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound(_) | Self::NoneHere(_) => Some("`stockade threads list` names them"),
            Self::Ambiguous(..) => Some("give more of the ID; `stockade threads list` shows it"),
            Self::Busy(_) => Some("end it first, or wait for it"),
            Self::Damaged { .. } => Some("the lines before it can be trusted; nothing was changed"),
            Self::Io { .. } | Self::Over(..) | Self::OfARun(_) | Self::Closed(_) => None,
        }
    }
}
