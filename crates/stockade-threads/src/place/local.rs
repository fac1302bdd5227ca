//! A place on this machine: the user's own files, behind the walls of `stockade-sandbox`.
//!
//! The command inside the boundary is this very binary again, as `stockade_guest::serve` on a
//! socket that is its standard input. It is started through [`OWN_PROGRAM`], so that it may lie in
//! a folder that is hidden or private inside.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use stockade_guest::{ChannelError, Client, ServeOptions};
use stockade_policy::{Mode, Policy, Reason, Review, Verdict, review};
use stockade_sandbox::{
    Answering, Command, Execs, Launch, Layer, OWN_PROGRAM, Running, SetupError, Stdio,
};

use super::{Noted, Place};
use crate::in_place::Counter;
use crate::network::{Connections, NetworkError, NetworkService};
use crate::record::{Denial, Event};
use crate::undo::Segment;

/// The first of the two arguments of the hands; no verb begins so. The second is the folder.
const MARK: &str = "#hands";

/// The same without a boundary.
const MARK_FREE: &str = "#hands-free";

/// The place could not be put up; nothing has run in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The boundary could not be put up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The hands inside do not answer.
    #[error("the place does not answer")]
    Channel(#[from] ChannelError),
    /// The network cannot be served.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Something outside is lacking.
    #[error("cannot make a socket for the place")]
    Host(#[from] io::Error),
}

impl PlaceError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Setup(error) => error.hint(),
            Self::Network(error) => Some(error.hint()),
            Self::Channel(_) | Self::Host(_) => None,
        }
    }
}

/// The boundary on this machine. It comes down, with everything inside, when this is dropped.
#[derive(Debug)]
pub struct Local {
    // Before the boundary: dropping it lets the hands end by themselves.
    client: Client,
    _running: Running,
    /// Ended when nothing writes any more.
    _keep: Option<Ending>,
    shell: PathBuf,
    enforcement: &'static [&'static str],
    connections: Arc<Connections>,
    /// Bytes of the list of refusals that were read.
    heard: Mutex<usize>,
}

/// What a boundary keeps, until it is down.
#[derive(Debug)]
struct Ending(Segment);

impl Drop for Ending {
    fn drop(&mut self) {
        // Without its mark the last sign of life is taken for the end.
        self.0.end().ok();
    }
}

/// The list of refusals inside, which only PID 1 can write.
const DENIALS: &str = "/run/stockade-denials.jsonl";

/// More than it can have: a thousand lines with the longest paths.
const DENIALS_MAX: u64 = 1 << 25;

/// One line of it.
#[derive(Debug, serde::Deserialize)]
struct Line {
    #[serde(flatten)]
    denial: Denial,
    message: String,
}

/// What is kept apart from the files, and judged, in a place.
#[derive(Debug, Default)]
pub struct Kept {
    /// What is laid over the files.
    pub layers: Vec<Layer>,
    /// Where what is written to caches lands.
    pub caches: Option<Layer>,
    /// Who judges what is executed.
    pub execs: Option<Execs>,
    /// A file for what is to be looked at afterwards.
    pub notes: Option<PathBuf>,
    /// Where what is replaced is kept, to be taken back.
    pub undo: Option<Segment>,
    /// Who answers what waits in it.
    pub asks: Option<Counter>,
}

impl Local {
    /// Puts up the boundary of `policy`; commands inside start with `environment`.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; nothing has run then.
    pub fn start(
        mut policy: Policy,
        mut environment: Vec<(OsString, OsString)>,
        Kept { layers, caches, execs, notes, undo: keep, asks }: Kept,
    ) -> Result<Self, PlaceError> {
        let keeping = keep.as_ref().map(Segment::keeping);
        let enforcement = walls(policy.mode);
        let connections = Arc::<Connections>::default();
        let asks = asks.filter(|_| policy.mode != Mode::DangerFullAccess);
        policy.network.asks &= asks.is_some();
        let network = {
            let connections = Arc::clone(&connections);
            NetworkService::prepare(&policy.network, move |event| connections.note(event))?
        };
        network.introduce(&mut policy.network, &mut environment);
        if let Some(asks) = &asks {
            network.ask_by(Arc::new(asks.clone()));
        }
        let folder = policy.workspace.as_path().to_owned();
        let mark = match policy.mode {
            Mode::DangerFullAccess => MARK_FREE,
            Mode::ReadOnly | Mode::WorkspaceWrite => MARK,
        };
        let command = Command {
            program: OWN_PROGRAM.into(),
            arguments: vec![mark.into(), folder.clone().into()],
            environment,
            folder,
        };
        let may_degrade = false;
        let launch = Launch { command, policy, layers, caches, execs, notes, keeping, may_degrade };
        let launch = match review(launch, &[(Verdict::Allow, Reason::Own)]) {
            Review::Allowed(launch) => launch,
            Review::Ask(_) | Review::Denied(_) => {
                unreachable!("Stockade's own hands have one verdict, which allows them")
            }
        };
        let (near, far) = UnixStream::pair()?;
        let stdio = Stdio { stdin: OwnedFd::from(far), ..Stdio::null()? };
        let ask = asks.map(|asks| -> Answering<'_> { Box::new(move |it| asks.serve(it)) });
        let running = stockade_sandbox::spawn(launch, stdio, |doors| network.serve(doors), ask);
        let running = running.inspect_err(|_| keep.iter().for_each(Segment::forget))?;
        let keep = keep.map(Ending);
        let client = Client::connect(near.try_clone()?, near)?;
        let (shell, heard) = (super::shell().to_owned(), Mutex::default());
        Ok(Self { client, _running: running, _keep: keep, shell, enforcement, connections, heard })
    }

    /// The lines of the list of refusals that are new.
    fn denials(&self) -> Vec<(Denial, String)> {
        // None is kept in `read-only` mode.
        let Ok(list) = self.client.read_file(Path::new(DENIALS), DENIALS_MAX) else {
            return Vec::new();
        };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // A line may be half written by now.
        let whole = list.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let new = list.get(*heard..whole).unwrap_or_default();
        *heard = whole.max(*heard);
        let lines = new.split(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        lines.map(|Line { denial, message }| (denial, message)).collect()
    }
}

/// The walls that a thread in `mode` has: all of them, or it does not start.
pub fn walls(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::ReadOnly | Mode::WorkspaceWrite => &["mounts", "landlock", "seccomp", "network"],
        Mode::DangerFullAccess => &[],
    }
}

impl Place for Local {
    fn client(&self) -> &Client {
        &self.client
    }

    fn shell(&self) -> &Path {
        &self.shell
    }

    fn noted(&self) -> Noted {
        Noted { denials: self.denials(), connections: self.connections.take() }
    }

    fn connections(&self) -> Vec<Event> {
        self.connections.take()
    }

    fn enforcement(&self) -> &[&'static str] {
        self.enforcement
    }
}

/// Called first in `main`: when this process was started to be the hands of a [`Local`] place,
/// serves and returns the status to end with.
///
/// A command inside that starts such a process, with a socket of its own, serves itself: the
/// hands have no right that it does not have.
pub fn enter_if_hands() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let mark = arguments.next()?;
    let is_free = mark == MARK_FREE;
    if mark != MARK && !is_free {
        return None;
    }
    let folder = PathBuf::from(arguments.next()?);
    if arguments.next().is_some() {
        return None;
    }
    Some(serve(folder, is_free).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

fn serve(folder: PathBuf, is_free: bool) -> io::Result<()> {
    // Before anything else is started: a command inside has the same user and could otherwise
    // trace the hands, or open the channel through `/proc/PID/fd`, and answer in their stead.
    // Without a boundary it could do so to any process, and who judges what is executed has to
    // look into the process that is about to execute it.
    if !is_free {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // The number that commands inherit unless they are given another must not be the channel.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    stockade_guest::serve(channel.try_clone()?, channel, ServeOptions { folder })
}
