//! Opening a little more than a thread's policy does, for what a person or a rule has approved.
//!
//! A boundary that is up does not widen. An approved command runs in one of its own, which is put
//! up for it with the same policy and what the approval opens. It has its own `/tmp` and its own
//! processes, and caches are read-only in it: their layer is the thread's own boundary's.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::{Grant, Policy};
use stockade_sandbox::Execs;

use crate::ThreadId;
use crate::in_place::Counter;
use crate::place::{Kept, Local, Place, PlaceError};
use crate::undo::Segment;

/// Says what opening a path comes to.
pub trait Openings: Send + Sync {
    /// What opens `path` (resolved, absolute), and what stays closed in it.
    ///
    /// # Errors
    ///
    /// Why nothing may open it: a fragment for a person, such as "it is secret".
    fn open(&self, path: &Path) -> Result<Grant, String>;
}

/// Puts up places in which more is open.
pub trait Widen: Send + Sync {
    /// What opening `path` comes to.
    ///
    /// # Errors
    ///
    /// Why nothing may open it.
    fn open(&self, path: &Path) -> Result<Grant, String>;

    /// A place with what `grant` opens.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; nothing has run then.
    fn place(&self, grant: &Grant) -> Result<Box<dyn Place>, PlaceError>;
}

/// Places on this machine.
pub(crate) struct LocalWiden<'a> {
    pub(crate) policy: Policy,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) execs: Option<Execs>,
    /// The store and the thread for which what is changed is kept.
    pub(crate) thread: (PathBuf, ThreadId),
    pub(crate) openings: &'a dyn Openings,
    /// Where it is noted what is looked at when the thread is over.
    pub(crate) notes: Option<PathBuf>,
    /// Who answers what waits in them.
    pub(crate) asks: Option<Counter>,
}

impl Widen for LocalWiden<'_> {
    fn open(&self, path: &Path) -> Result<Grant, String> {
        self.openings.open(path)
    }

    fn place(&self, grant: &Grant) -> Result<Box<dyn Place>, PlaceError> {
        for path in &grant.writable {
            still_there(path.as_path())?;
        }
        let policy = self.policy.widened(grant);
        let mut environment = self.environment.clone();
        for (_, value) in environment.iter_mut().filter(|(name, _)| name == "STOCKADE_NETWORK") {
            *value = policy.network.word().into();
        }
        let (root, id) = &self.thread;
        let undo = Segment::of_policy(root, id, (&policy, &[])).map_err(io::Error::other)?;
        let (execs, notes, asks) = (self.execs.clone(), self.notes.clone(), self.asks.clone());
        let kept = Kept { execs, notes, undo, asks, ..Kept::default() };
        Ok(Box::new(Local::start(policy, environment, kept)?))
    }
}

/// Makes an empty file where there is none, since only what is there can be opened; and sees that
/// no link has come to be on the way since the person was asked.
fn still_there(path: &Path) -> io::Result<()> {
    let options = &mut fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o666).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::canonicalize(path)? == path {
        return Ok(());
    }
    Err(io::Error::other(format!("`{}` leads elsewhere by now", path.display())))
}
