//! Putting up a sandbox from a process that has threads.
//!
//! A sandbox begins with a `clone3` that only a process with one thread can make. [`spawn`]
//! therefore runs this very binary again ([`OWN_PROGRAM`], so also one that was replaced or
//! removed meanwhile) as the parent of the sandbox, hands it the launch over a socket, and hears
//! that the command runs or why nothing has run.
//!
//! Invariants:
//! - the socket is the new process' standard input and the command's own descriptors travel over
//!   it, so none of them is ever inheritable by what other threads start;
//! - the sandbox ends when the socket does: with [`Running`], and with this process, however it
//!   ends;
//! - nobody gains anything by playing the caller: the new process has the caller's own rights.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{self, ExitCode};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use stockade_policy::Approved;

use crate::launch::{Asked, OWN_PROGRAM, Ties, Told, WayOut, hang_on};
use crate::linux::handover::{self, Ends, News};
use crate::linux::leash::Leash;
use crate::linux::{Asks, Doors, duplicate_stdio, install_stdio, needs_way_out};
use crate::{Launch, Outcome, Revive, SetupError, Stdio};

/// The one argument of the new process. No verb begins so.
const MARK: &str = "#sandbox";

/// How long the new process may take to end its sandbox before it is killed itself.
const GRACE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Answers what is asked from inside, in threads of its own.
pub type Answering<'a> = Box<dyn FnOnce(Asks) -> io::Result<()> + 'a>;

/// Starts the command from a process that may have threads.
///
/// The binary's `main` must begin with [`enter_if_helper`]. When the policy has hosts or published
/// ports, `serve` gets the way out; `ask` gets what is asked from inside. Both return at once.
/// Without `ask` nobody is asked.
///
/// # Errors
///
/// [`SetupError`]: nothing of the command has run.
pub fn spawn(
    launch: Approved<Launch>,
    stdio: Stdio,
    serve: impl FnOnce(Doors) -> io::Result<()>,
    ask: Option<Answering<'_>>,
) -> Result<Running, SetupError> {
    let host = |step: &'static str| move |error| SetupError::Host(step.into(), error);
    let launch = launch.into_action();
    if launch.execs.as_ref().is_some_and(|execs| execs.text().is_none()) {
        // The other process has other memory, and so no such judge.
        let step = "hold rules about what is executed in a command that is spawned";
        return Err(SetupError::Host(step.into(), io::ErrorKind::Unsupported.into()));
    }
    let stdio = stdio.into_numbered().map_err(host("hand over a descriptor"))?;
    let (channel, theirs) = UnixStream::pair().map_err(host("make a socket pair"))?;
    let child = process::Command::new(OWN_PROGRAM)
        .arg0("stockade")
        .arg(MARK)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(process::Stdio::null())
        // Signals of a terminal are for this process to judge.
        .process_group(0)
        .spawn()
        .map_err(host("start the parent of the sandbox"))?;
    let pid = Pid::from_child(&child);
    // Its number cannot be reused before it is waited for, which only `Running` does.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| host("watch the parent of the sandbox")(errno.into()))?;
    let mut running = Running { channel, pidfd, is_reaped: false, notes: Vec::new() };
    let mut ends = Ends::default();
    if needs_way_out(&launch.policy) {
        let (doors, inside) = Doors::pair().map_err(host("make a socket pair"))?;
        serve(doors).map_err(host("serve the network"))?;
        ends.way_out = Some(inside);
    }
    if let Some(ask) = ask {
        let (asks, inside) = Asks::pair().map_err(host("make a socket pair"))?;
        ask(asks).map_err(host("serve questions"))?;
        ends.asks = Some(inside);
    }
    let handed = handover::send_launch(&running.channel, &launch, &stdio, &ends);
    drop(ends);
    // The command's output ends only when nobody here holds a copy.
    drop(stdio);
    // What is said there is worth more than that it could not be written to.
    match (running.begin()?, handed) {
        (News::Started, _) => Ok(running),
        (News::Ended(Err(error)), _) => Err(error),
        (News::Ended(Ok(_)) | News::Note(_), _) => {
            Err(SetupError::Lost { how: "before it started".to_owned() })
        }
    }
}

/// A command that runs. When this is dropped, the command and everything it started is gone.
#[derive(Debug)]
pub struct Running {
    channel: UnixStream,
    pidfd: OwnedFd,
    is_reaped: bool,
    notes: Vec<String>,
}

impl Running {
    /// Waits for the command to end. When this returns, nothing that it started is left.
    ///
    /// # Errors
    ///
    /// [`SetupError::Lost`] when the process that held the sandbox was ended, and the sandbox
    /// with it.
    pub fn wait(mut self) -> Result<Outcome, SetupError> {
        match self.hear()? {
            News::Ended(result) => result,
            News::Started | News::Note(_) => {
                Err(SetupError::Lost { how: "it started twice".to_owned() })
            }
        }
    }

    /// What the user should know of its boundary.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Ends the command and everything it started. [`Running::wait`] then tells
    /// [`Outcome::Killed`].
    pub fn kill(&self) {
        // A run that has ended has no other end.
        self.channel.shutdown(std::net::Shutdown::Write).ok();
    }

    /// Readable when the run is over: for a caller that waits for several things.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The first news that is no note.
    fn begin(&mut self) -> Result<News, SetupError> {
        loop {
            match self.hear()? {
                News::Note(text) => self.notes.push(text),
                other @ (News::Started | News::Ended(_)) => return Ok(other),
            }
        }
    }

    fn hear(&mut self) -> Result<News, SetupError> {
        match News::receive(&self.channel) {
            Ok(news) => Ok(news),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(SetupError::Lost { how: error.to_string() })
            }
            Err(_) => Err(SetupError::Lost { how: self.reap() }),
        }
    }

    /// Waits for the parent of the sandbox; how it ended, for a person.
    fn reap(&mut self) -> String {
        if self.is_reaped {
            return "already waited for".to_owned();
        }
        self.is_reaped = true;
        let ended =
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        match ended {
            Ok(Some(status)) => describe(&status),
            Ok(None) => "no status".to_owned(),
            Err(errno) => errno.to_string(),
        }
    }
}

fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("exit status {status}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if !self.is_reaped && !matches!(poll(&mut ended, Some(&GRACE)), Ok(1)) {
            // Somebody stopped it. Its end takes PID 1 inside along, and that everything else.
            rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        }
        self.reap();
    }
}

/// The first thing that `main` does, while there is neither thread nor logger: when this process
/// was started by [`spawn`], does its work and returns the status to end with. `revive` makes anew
/// the judge that the launch has, if it has one.
pub fn enter_if_helper(revive: Revive) -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(MARK)) || arguments.next().is_some() {
        return None;
    }
    let channel = UnixStream::from(duplicate_stdio(0)?);
    // Only the process that started this one can have made the socket.
    let maker = rustix::net::sockopt::socket_peercred(&channel).ok()?.pid;
    if Some(maker) != rustix::process::getppid() {
        return None;
    }
    Some(serve(channel, revive))
}

fn serve(channel: UnixStream, revive: Revive) -> ExitCode {
    // What cannot be told on the channel can be told nowhere: the other end sees the exit.
    let Ok((launch, stdio, ends)) = handover::receive_launch(&channel, revive) else {
        return ExitCode::FAILURE;
    };
    let installed =
        (0..).zip(&stdio).try_for_each(|(number, fd)| install_stdio(fd.as_fd(), number));
    drop(stdio);
    let leash = Leash::on(channel);
    let result = match installed {
        Ok(()) => {
            let mut tell = |told: Told<'_>| match told {
                Told::Note(text) => leash.tell(&News::Note(text.to_owned())),
                // Nobody reads the channel while the command runs; inside they are in the file
                // that `$STOCKADE_DENIALS` names.
                // A thread looks for what is kept once its boundary is up.
                Told::Denied(_) | Told::DeniedMore(_) | Told::Unkept => {}
            };
            let way_out = WayOut::Elsewhere(ends.way_out);
            let ask = ends.asks.map_or(Asked::Nobody, Asked::Elsewhere);
            hang_on(&launch, &leash, &mut Ties { tell: &mut tell, way_out, ask, meanwhile: None })
        }
        Err(error) => Err(SetupError::Host("install a descriptor".into(), error)),
    };
    leash.tell(&News::Ended(result));
    ExitCode::SUCCESS
}
