//! Runs one command: its pipes or its terminal, its time, its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::call::{Call, Ended, timespec};
use crate::child::Child;
use crate::message::{CHUNK, Finish, Screen, Stream};
use crate::serve::Refusal;
use crate::sys::session_unsafe;
use crate::terminal;

/// How long what a command has started may hold its output open after its own end.
const DRAIN: Duration = Duration::from_millis(200);

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) argv: Vec<OsString>,
    pub(crate) folder: PathBuf,
    pub(crate) environment: Option<Vec<(OsString, OsString)>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) screen: Option<Screen>,
}

impl Command {
    pub(crate) fn run(self, call: &Call) -> Result<Finish, Refusal> {
        let (mut child, screen) = self.start()?;
        let running = Running::new(&mut child, screen, self.timeout).map_err(|error| {
            // It has a pipe and an end all the same, but nobody could wait for them.
            kill_group(&child);
            Refusal::at("watch", "the command".as_ref(), &error)
        });
        let watched = running.and_then(|running| {
            let lost = |error: io::Error| Refusal::at("watch", "the command".as_ref(), &error);
            running.watch(call, &child).map_err(lost)
        });
        // Before the wait below, while the leader's number still stands for this group.
        if watched.as_ref().map_or(true, |ending| *ending != Ending::Own) {
            kill_group(&child);
        }
        let status = child.wait();
        match watched? {
            Ending::TimedOut => Ok(Finish::TimedOut),
            Ending::Stopped => Ok(Finish::Stopped),
            Ending::Own => {
                let status = status
                    .map_err(|error| Refusal::at("wait for", "the command".as_ref(), &error))?;
                Ok(match (status.code(), status.signal()) {
                    (Some(code), _) => Finish::Exited(u8::try_from(code & 0xff).unwrap_or(255)),
                    (None, signal) => Finish::Killed(signal.unwrap_or(0)),
                })
            }
        }
    }

    /// Starts it; the second value is the channel's side of its terminal, if it has one.
    fn start(&self) -> Result<(Child, Option<OwnedFd>), Refusal> {
        let [program, arguments @ ..] = self.argv.as_slice() else {
            return Err(Refusal::new(libc::EINVAL, "there is no command"));
        };
        // Looked at apart, since the error of a start does not say what was not there.
        match self.folder.metadata() {
            Ok(folder) if folder.is_dir() => {}
            Ok(_) => {
                let error = io::Error::from_raw_os_error(libc::ENOTDIR);
                return Err(Refusal::at("work in", &self.folder, &error));
            }
            Err(error) => return Err(Refusal::at("work in", &self.folder, &error)),
        }
        if self.screen.is_none()
            && let Some(child) = Child::spawn(&self.argv, &self.folder, self.environment.as_deref())
        {
            return Ok((child, None));
        }
        let mut command = process::Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        if let Some(environment) = &self.environment {
            command.env_clear();
            command.envs(environment.iter().map(|(name, value)| (name, value)));
        }
        let screen = self.connect(&mut command)?;
        session_unsafe::in_new_session(&mut command, screen.is_some());
        let child = command.spawn().and_then(Child::of);
        Ok((child.map_err(|error| Refusal::at("run", program.as_ref(), &error))?, screen))
    }

    /// Gives `command` its three streams.
    fn connect(&self, command: &mut process::Command) -> Result<Option<OwnedFd>, Refusal> {
        let Some(Screen { name, size }) = &self.screen else {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            return Ok(None);
        };
        let opened = terminal::open(*size).and_then(|(channels, commands)| {
            command.stdin(commands.try_clone()?).stdout(commands.try_clone()?).stderr(commands);
            Ok(channels)
        });
        if !name.is_empty() {
            command.env("TERM", name);
        }
        opened.map(Some).map_err(|error| Refusal::at("open", "a terminal".as_ref(), &error))
    }
}

/// Kills the command and what is still in its group. Only before it was waited for: afterwards
/// its number may be somebody else's.
fn kill_group(child: &Child) {
    // Nobody in the group any more is what was wanted.
    kill_process_group(child.pid(), Signal::KILL).ok();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Own,
    TimedOut,
    Stopped,
}

/// An output of the command.
#[derive(Debug)]
struct Pipe {
    stream: Stream,
    /// `None` when it has ended.
    open: Option<OwnedFd>,
    /// Bytes that were in the pipe when the command ended, and so are its own.
    owed: u64,
}

impl Pipe {
    fn new(stream: Stream, pipe: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { stream, open: Some(pipe), owed: 0 })
    }

    /// Moves one piece on, if there is any.
    fn forward(&mut self, call: &Call, buffer: &mut [u8]) {
        let room = buffer.len().min(call.credit());
        let (Some(pipe), Some(buffer)) = (&self.open, buffer.get_mut(..room)) else { return };
        if room == 0 {
            return;
        }
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => self.open = None,
            Ok(count) => {
                let mut rest = buffer.get(..count).unwrap_or_default();
                self.owed = self.owed.saturating_sub(count as u64);
                // The credit was there a moment ago, and only this thread takes of it.
                while !rest.is_empty() {
                    let sent = call.send_some(self.stream, rest);
                    rest = rest.get(sent.max(1)..).unwrap_or_default();
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.open = None,
        }
    }

    fn has_owed(&self) -> bool {
        self.open.is_some() && self.owed > 0
    }
}

/// A command under way.
#[derive(Debug)]
struct Running {
    pidfd: OwnedFd,
    stdin: Option<File>,
    /// Input taken from the call and not written yet.
    unwritten: Vec<u8>,
    /// Its outputs; one when it has a terminal.
    pipes: Vec<Pipe>,
    /// The channel's side of its terminal.
    screen: Option<OwnedFd>,
    deadline: Option<Instant>,
    ended: Option<Instant>,
}

impl Running {
    fn new(
        child: &mut Child,
        screen: Option<OwnedFd>,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        let (stdin, pipes) = match (&screen, child.pipes()) {
            (Some(screen), _) => {
                let pipe = Pipe::new(Stream::Stdout, screen.try_clone()?)?;
                (Some(screen.try_clone()?), vec![pipe])
            }
            (None, Some([stdin, stdout, stderr])) => {
                let pipes =
                    vec![Pipe::new(Stream::Stdout, stdout)?, Pipe::new(Stream::Stderr, stderr)?];
                (Some(stdin), pipes)
            }
            (None, None) => (None, Vec::new()),
        };
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        Ok(Self {
            pidfd: pidfd_open(child.pid(), PidfdFlags::empty())?,
            stdin: stdin.map(File::from),
            unwritten: Vec::new(),
            pipes,
            screen,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            ended: None,
        })
    }

    fn watch(mut self, call: &Call, child: &Child) -> io::Result<Ending> {
        let mut buffer = vec![0; CHUNK];
        let mut ending = Ending::Own;
        loop {
            self.wait(call)?;
            call.answer_bell();
            self.resize(call);
            self.feed(call);
            for pipe in &mut self.pipes {
                pipe.forward(call, &mut buffer);
            }
            if ending == Ending::Own && call.is_stopped() {
                ending = Ending::Stopped;
            } else if ending == Ending::Own && self.ended.is_none() && self.is_late() {
                ending = Ending::TimedOut;
            } else if !self.is_over(call) {
                continue;
            } else {
                return Ok(ending);
            }
            // At most once: what it has written until now is still forwarded.
            kill_group(child);
            self.deadline = None;
        }
    }

    /// Gives its terminal the size that the user's has now.
    fn resize(&self, call: &Call) {
        if let (Some(screen), Some(size)) = (&self.screen, call.new_size()) {
            // A terminal that is gone has no size.
            terminal::resize(screen, size).ok();
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether the command has ended, and its output is complete or has been waited for.
    fn is_over(&self, call: &Call) -> bool {
        let Some(ended) = self.ended else { return false };
        let is_complete = self.pipes.iter().all(|pipe| pipe.open.is_none());
        is_complete || (!self.is_owed(call) && ended.elapsed() >= DRAIN)
    }

    /// Whether the reader still gets something that the command itself wrote.
    fn is_owed(&self, call: &Call) -> bool {
        self.pipes.iter().any(Pipe::has_owed) && !call.is_stopped()
    }

    /// Waits until something can be done, and notes the end of the command.
    fn wait(&mut self, call: &Call) -> io::Result<()> {
        let has_credit = call.credit() > 0;
        let bell = call.bell();
        let mut waited = vec![PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        let is_running = self.ended.is_none();
        if is_running {
            waited.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        for pipe in self.pipes.iter().filter(|_| has_credit) {
            waited.extend(pipe.open.as_ref().map(|open| PollFd::new(open, PollFlags::IN)));
        }
        if !self.unwritten.is_empty() {
            waited.extend(self.stdin.as_ref().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        }
        let limit = match (self.ended, self.deadline) {
            (Some(ended), _) => Some(ended + DRAIN),
            (None, deadline) => deadline,
        };
        let mut wait = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        if self.ended.is_some() && !has_credit && self.is_owed(call) {
            // What is owed waits for the reader, however long that takes.
            wait = None;
        }
        match poll(&mut waited, timespec(wait).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_ended = is_running && waited.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if has_ended {
            self.ended = Some(Instant::now());
            for pipe in &mut self.pipes {
                let owed = pipe.open.as_ref().map(rustix::io::ioctl_fionread);
                pipe.owed = owed.transpose()?.unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Writes what it takes of its input.
    fn feed(&mut self, call: &Call) {
        let Some(stdin) = &mut self.stdin else { return };
        loop {
            if self.unwritten.is_empty() {
                match call.try_input() {
                    Ok(Some(data)) => self.unwritten = data,
                    Ok(None) => return,
                    Err(Ended) => break,
                }
            }
            match stdin.write(&self.unwritten) {
                Ok(count) => {
                    self.unwritten.drain(..count);
                    call.took(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It reads no more. The rest of the input has nowhere to go.
                Err(_) => break,
            }
        }
        self.stdin = None;
        self.unwritten.clear();
    }
}
