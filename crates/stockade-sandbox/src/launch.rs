//! What is asked of the launcher, and what it says afterwards.

use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use stockade_policy::{AbsPath, Approved, Denial, Mode, Policy};

use crate::SetupError;
use crate::execs::Execs;
use crate::linux::leash::Leash;
use crate::linux::{Asks, Doors, Pauser};

/// The program of a [`Command`] that is this very binary: a handle on the file and no path, so
/// that it may lie where nothing can be seen inside.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// A path, or a name that is looked for in the `PATH` of `environment`.
    pub program: OsString,
    /// Its arguments, without the program's own name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its current folder.
    pub folder: PathBuf,
}

/// A command and the boundary it is to run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What to run.
    pub command: Command,
    /// What it may do.
    pub policy: Policy,
    /// Folders whose own content is not written to. Without a boundary there can be none.
    pub layers: Vec<Layer>,
    /// Over home: of it the policy's `caches` are shown, which are read-only without. Where no overlay
    /// can be had, the folder that its `upper` lies in takes what tools write to caches.
    pub caches: Option<Layer>,
    /// Who judges what is executed, where anybody does. Without a boundary there are no stubs.
    pub execs: Option<Execs>,
    /// A file for what is to be looked at when the run is over ([`Notes`](crate::Notes)): it is
    /// there, and empty or from an earlier run of the same thread.
    pub notes: Option<PathBuf>,
    /// Where what it replaces is kept, if it is. Whatever has no supervisor keeps nothing.
    pub keeping: Option<Keeping>,
    /// Whether the user lets go what nothing holds where there are no user namespaces.
    pub may_degrade: bool,
}

/// What is kept of files before they are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// An empty folder for it, in one that the policy hides.
    pub store: AbsPath,
    /// Where changes are kept: writable roots, that of the workspace first.
    pub roots: Vec<AbsPath>,
}

/// A folder that looks like the host's own and is written to elsewhere: an overlay.
///
/// Whether it may be written at all is the policy's to say. `upper` and `work` are folders of
/// one file system, outside of every writable root; `work` is empty at the first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The folder, which is also where it is seen.
    pub at: AbsPath,
    /// Where what is written lands.
    pub upper: AbsPath,
    /// What the kernel needs beside it.
    pub work: AbsPath,
}

/// How a command that ran came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(i32),
    /// It reached the wall-time limit and was ended.
    TimedOut(Duration),
    /// It went beyond a limit and was ended.
    OverLimit(Exceeded),
}

/// The limit that a run went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Memory of all processes together.
    Memory {
        /// What was allowed, in bytes.
        limit: u64,
        /// What was found.
        used: u64,
    },
    /// Temporary files, where no file system of their own bounds them.
    Temporary {
        /// What was allowed, in bytes.
        limit: u64,
        /// What was found, at least.
        used: u64,
    },
    /// Open files of all processes together.
    OpenFiles {
        /// What was allowed.
        limit: u64,
    },
    /// What the kernel counts for the user, of which nothing is left to programs outside.
    OfUser(Shared),
}

/// What all programs of a user have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Descriptors in messages that nobody has taken yet.
    Descriptors,
    /// What `epoll` watches.
    Watches,
}

/// What is told of a run while it lives.
#[derive(Debug)]
pub enum Told<'a> {
    /// What the user should know of the boundary: before the command runs, and which limits it reached.
    Note(&'a str),
    /// What it replaces is not kept by this boundary, though it was asked to; before the command
    /// runs.
    Unkept,
    /// Something was refused: each operation on each path once.
    Denied(Denial),
    /// So many further calls were refused, beyond the kinds that are told.
    DeniedMore(u64),
}

/// Is called with what is told.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Told<'_>);

/// Runs the command to its end. When this returns, nothing that the command started is left.
/// `tell` is called with what the user should know of its boundary, and with what is refused.
///
/// # Errors
///
/// [`SetupError`]: nothing of the command has run. The process must have one thread only;
/// callers with more use [`spawn`](crate::spawn).
///
/// When the policy has hosts or published ports, `serve` gets the way out as soon as threads may
/// be started, and returns at once; its error ends the run. `ask` gets what is asked from inside
/// with the first question; without it, and after its error, nobody is asked. `meanwhile` is done
/// while the walls are put up by another process, and this one would wait.
pub fn launch(
    launch: Approved<Launch>,
    tell: &mut dyn FnMut(Told<'_>),
    serve: impl FnOnce(Doors) -> io::Result<()>,
    ask: Option<Ask<'_>>,
    meanwhile: impl FnOnce(),
) -> Result<Outcome, SetupError> {
    // Left to the end of the process: to free it page by page in a process that was forked copies
    // each page first.
    let launch = ManuallyDrop::new(launch.into_action());
    let way_out = WayOut::Served(Some(Box::new(serve)));
    let ask = ask.map_or(Asked::Nobody, Asked::Served);
    let meanwhile: Option<Box<dyn FnOnce()>> = Some(Box::new(meanwhile));
    hang_on(&launch, &Leash::NONE, &mut Ties { tell, way_out, ask, meanwhile })
}

/// Who answers what is asked from inside.
pub struct Ask<'a> {
    /// Answers in threads of its own, and returns at once.
    pub serve: Box<dyn FnOnce(Asks) -> io::Result<()> + 'a>,
    /// By whom the terminal may be asked for.
    pub pauser: Option<Pauser>,
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask").field("pauser", &self.pauser).finish_non_exhaustive()
    }
}

/// What a run has to do with the process that asked for it.
pub(crate) struct Ties<'a> {
    pub(crate) tell: Tell<'a>,
    pub(crate) way_out: WayOut<'a>,
    pub(crate) ask: Asked<'a>,
    /// Done once, while PID 1 puts up the walls.
    pub(crate) meanwhile: Option<Box<dyn FnOnce() + 'a>>,
}

/// Who holds the outer end of what is asked from inside.
pub(crate) enum Asked<'a> {
    /// Nobody does, and nobody is asked.
    Nobody,
    /// This process, by this.
    Served(Ask<'a>),
    /// Another one; this is the sandbox's end.
    Elsewhere(OwnedFd),
}

/// Serves the way out in threads.
pub(crate) type Serve<'a> = Box<dyn FnOnce(Doors) -> io::Result<()> + 'a>;

/// Who holds the outer end of the way out.
pub(crate) enum WayOut<'a> {
    /// This process, by this, as long as it does not.
    Served(Option<Serve<'a>>),
    /// Another one; this is the sandbox's end, if the policy needs any.
    Elsewhere(Option<OwnedFd>),
}

/// The same for a run that ends with `leash`. What is run was reviewed by whoever calls.
pub(crate) fn hang_on(
    launch: &Launch,
    leash: &Leash,
    ties: &mut Ties<'_>,
) -> Result<Outcome, SetupError> {
    match launch.policy.mode {
        Mode::ReadOnly | Mode::WorkspaceWrite => crate::linux::launch(launch, leash, ties),
        Mode::DangerFullAccess if !launch.layers.is_empty() => Err(SetupError::Host(
            "lay a draft over files without a boundary".into(),
            io::ErrorKind::Unsupported.into(),
        )),
        Mode::DangerFullAccess => crate::linux::unconfined::launch(launch, leash, ties.tell),
    }
}
