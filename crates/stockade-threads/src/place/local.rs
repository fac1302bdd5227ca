//! A place on this machine: the user's own files, behind the walls of `stockade-sandbox`.
//!
//! The command inside the boundary is this very binary again, as `stockade_guest::serve` on a
//! socket that is its standard input. It is started through [`OWN_PROGRAM`], so that it may lie in
//! a folder that is hidden or private inside.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use stockade_guest::{ChannelError, Client, ServeOptions};
use stockade_policy::{Mode, Policy, Reason, Review, Verdict, review};
use stockade_sandbox::{Command, Launch, Layer, OWN_PROGRAM, Running, SetupError, Stdio};

use super::{Noted, Place};
use crate::network::{Connections, NetworkError, NetworkService};
use crate::record::Denial;

/// The first of the two arguments of the hands; no verb begins so. The second is the folder.
const MARK: &str = "#hands";

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
    shell: PathBuf,
    enforcement: &'static [&'static str],
    connections: Arc<Connections>,
    /// Bytes of the list of refusals that were read.
    heard: Mutex<usize>,
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

impl Local {
    /// Puts up the boundary of `policy`, with `layers` over the files; commands inside start with
    /// `environment`.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; nothing has run then.
    pub fn start(
        policy: Policy,
        environment: Vec<(OsString, OsString)>,
        (layers, caches): (Vec<Layer>, Option<Layer>),
    ) -> Result<Self, PlaceError> {
        let enforcement = walls(policy.mode);
        let connections = Arc::<Connections>::default();
        let network = {
            let connections = Arc::clone(&connections);
            NetworkService::prepare(&policy.network, move |event| connections.note(event))?
        };
        let folder = policy.workspace.as_path().to_owned();
        let command = Command {
            program: OWN_PROGRAM.into(),
            arguments: vec![MARK.into(), folder.clone().into()],
            environment,
            folder,
        };
        let launch = Launch { command, policy, layers, caches, execs: None, may_degrade: false };
        let launch = match review(launch, &[(Verdict::Allow, Reason::Own)]) {
            Review::Allowed(launch) => launch,
            Review::Ask(_) | Review::Denied(_) => {
                unreachable!("Stockade's own hands have one verdict, which allows them")
            }
        };
        let (near, far) = UnixStream::pair()?;
        let stdio = Stdio { stdin: OwnedFd::from(far), ..Stdio::null()? };
        let running = stockade_sandbox::spawn(launch, stdio, |doors| network.serve(doors))?;
        let client = Client::connect(near.try_clone()?, near)?;
        let (shell, heard) = (super::shell().to_owned(), Mutex::default());
        Ok(Self { client, _running: running, shell, enforcement, connections, heard })
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
    if arguments.next().as_deref() != Some(OsStr::new(MARK)) {
        return None;
    }
    let folder = PathBuf::from(arguments.next()?);
    if arguments.next().is_some() {
        return None;
    }
    Some(serve(folder).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

fn serve(folder: PathBuf) -> io::Result<()> {
    // Before anything else is started: a command inside has the same user and could otherwise
    // trace the hands, or open the channel through `/proc/PID/fd`, and answer in their stead.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // The number that commands inherit unless they are given another must not be the channel.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    stockade_guest::serve(channel.try_clone()?, channel, ServeOptions { folder })
}
