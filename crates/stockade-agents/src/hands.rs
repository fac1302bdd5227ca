//! What the built-in agent can do, and the only way in which it can do it.
//!
//! The loop asks; whoever implements [`Hands`] judges each call, asks a person where the policy
//! says so, and carries it out in the place where the thread runs. Nothing of the loop opens a
//! file or starts a program, so there is no way around the judge.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Carries out what the tools ask for, after judging it.
///
/// Relative paths start at the workspace.
pub trait Hands: Send + Sync {
    /// Runs one shell line to its end; `output` gets what it prints, as it comes.
    ///
    /// # Errors
    ///
    /// See [`HandsError`]. A command that ran and failed is no error.
    fn shell(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError>;

    /// The content of a file.
    ///
    /// # Errors
    ///
    /// See [`HandsError`].
    fn read(&self, path: &Path) -> Result<Vec<u8>, HandsError>;

    /// What is in a folder, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// See [`HandsError`].
    fn list(&self, path: &Path) -> Result<Vec<Entry>, HandsError>;

    /// The lines that match.
    ///
    /// # Errors
    ///
    /// See [`HandsError`].
    fn search(&self, query: &Search) -> Result<Vec<Match>, HandsError>;

    /// Gives a file its whole new content, and makes it and its folders where they are missing;
    /// `None` deletes it.
    ///
    /// # Errors
    ///
    /// See [`HandsError`].
    fn write(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError>;
}

/// A shell line to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellCall {
    /// What a shell reads.
    pub line: String,
    /// Where it starts; the workspace otherwise.
    pub folder: Option<PathBuf>,
    /// After which it is ended.
    pub timeout: Option<Duration>,
}

/// What came of a shell line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellOutcome {
    /// How it ended.
    pub exit: Exit,
    /// What it printed on both streams, in the order in which it came.
    pub output: Vec<u8>,
    /// Whether `output` leaves something out.
    pub is_truncated: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Status(u8),
    /// By a signal.
    Signal(i32),
    /// By its time limit.
    TimedOut,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without its folder.
    pub name: OsString,
    /// What it is; links are not followed.
    pub kind: EntryKind,
    /// The size of a file, in bytes.
    pub bytes: u64,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// What is looked for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// A regular expression in the syntax of the `regex` crate.
    pub pattern: String,
    /// A file or a folder; the workspace otherwise.
    pub path: Option<PathBuf>,
    /// No more matches than this.
    pub max: usize,
}

/// One line that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The file, as the search was given its folder.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// The line itself.
    pub text: String,
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandsError {
    /// Policy, rule or person said no. The model is told in exactly these words.
    #[error("{0}")]
    Refused(String),
    /// It was tried and did not work; the model is told.
    #[error("{0}")]
    Failed(String),
    /// The place is gone; the task cannot go on.
    #[error("{0}")]
    Lost(String),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}
