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
use crate::linux::Doors;
use crate::linux::leash::Leash;

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
    /// Over home: of it the policy's `caches` are shown, which are read-only without.
    pub caches: Option<Layer>,
    /// Who judges what is executed inside, where anybody does. Without a boundary nobody can.
    pub execs: Option<Execs>,
    /// Whether the user lets go what nothing holds where there are no user namespaces.
    pub may_degrade: bool,
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
    /// Open files of all processes together.
    OpenFiles {
        /// What was allowed.
        limit: u64,
    },
}

/// What is told of a run while it lives.
#[derive(Debug)]
pub enum Told<'a> {
    /// What the user should know of the boundary; before the command runs.
    Note(&'a str),
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
/// be started, and returns at once; its error ends the run.
pub fn launch(
    launch: Approved<Launch>,
    tell: &mut dyn FnMut(Told<'_>),
    serve: impl FnOnce(Doors) -> io::Result<()>,
) -> Result<Outcome, SetupError> {
    // Left to the end of the process: to free it page by page in a process that was forked copies
    // each page first.
    let launch = ManuallyDrop::new(launch.into_action());
    let way_out = WayOut::Served(Box::new(serve));
    hang_on(&launch, &Leash::NONE, Ties { tell, way_out })
}

/// What a run has to do with the process that asked for it.
pub(crate) struct Ties<'a> {
    pub(crate) tell: Tell<'a>,
    pub(crate) way_out: WayOut<'a>,
}

/// Who holds the outer end of the way out.
pub(crate) enum WayOut<'a> {
    /// This process, by this.
    Served(Box<dyn FnOnce(Doors) -> io::Result<()> + 'a>),
    /// Another one; this is the sandbox's end, if the policy needs any.
    Elsewhere(Option<OwnedFd>),
}

/// The same for a run that ends with `leash`. What is run was reviewed by whoever calls.
pub(crate) fn hang_on(
    launch: &Launch,
    leash: &Leash,
    ties: Ties<'_>,
) -> Result<Outcome, SetupError> {
    match launch.policy.mode {
        Mode::ReadOnly | Mode::WorkspaceWrite => crate::linux::launch(launch, leash, ties),
        Mode::DangerFullAccess if !launch.layers.is_empty() => Err(SetupError::Host(
            "lay a draft over files without a boundary".into(),
            io::ErrorKind::Unsupported.into(),
        )),
        Mode::DangerFullAccess if launch.execs.is_some() => Err(SetupError::Host(
            "hold rules about what is executed without a boundary".into(),
            io::ErrorKind::Unsupported.into(),
        )),
        Mode::DangerFullAccess => crate::linux::unconfined::launch(launch, leash),
    }
}
