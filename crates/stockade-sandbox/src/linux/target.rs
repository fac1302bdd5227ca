//! The command's own process, from fork to execve.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::setpgid;

use super::canary;
use super::control::Report;
use super::failure::{Failure, step};
use super::plan::Plan;
use super::seccomp::Owners;
use super::sys::exec_unsafe::{self, StringArray};
use super::sys::process_unsafe::{self, Fork};
use super::sys::signal_unsafe::{self, SignalSet};
use super::sys::{credentials_unsafe, seccomp_unsafe};
use super::{landlock, seccomp, seccomp_alone, seccomp_ids, seccomp_second};
use crate::Command;

/// What a failure to install it is about.
pub(crate) const FILTER: &str = "the system call filter";

/// What the target is given besides the plan.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) command: &'a Command,
    /// The signals that were blocked when Stockade was started.
    pub(crate) mask: SignalSet,
    /// The signals that were ignored then (nohup).
    pub(crate) ignored: &'a [i32],
    /// The inner terminal, and which of 0–2 it becomes.
    pub(crate) terminal: Option<(OwnedFd, [bool; 3])>,
    /// Where the parent's canary listens.
    pub(crate) canary_port: Option<u16>,
    /// Whether somebody may be asked about calls.
    pub(crate) asks: bool,
    /// To PID 1: the listener's number, then nothing on success, or a failure.
    pub(crate) status: File,
    /// From PID 1: one byte when it has the listener.
    pub(crate) go: File,
    /// To PID 1, for the listener itself, where that cannot take it.
    pub(crate) handing: Option<OwnedFd>,
}

/// Why the target could not be started, as it travels to PID 1.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A wall or a step of the setup.
    Setup(Failure),
    /// The program: its error number.
    Program(i32),
}

impl Target<'_> {
    /// Becomes the command. Returns only when that failed.
    pub(crate) fn run(mut self) -> Refusal {
        match self.prepare() {
            Ok(()) => Refusal::Program(execute(self.command)),
            Err(failure) => Refusal::Setup(failure),
        }
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        setpgid(None, None).map_err(step("make a process group for", "the command"))?;
        if let Some((slave, which)) = &self.terminal {
            for (number, _) in (0..).zip(which).filter(|(_, is_terminal)| **is_terminal) {
                exec_unsafe::install_stdio(slave.as_fd(), number)
                    .map_err(step("install", "the terminal"))?;
            }
            // The command must be in the foreground before it first reads or writes.
            rustix::termios::tcsetpgrp(slave, rustix::process::getpid())
                .map_err(step("give the terminal to", "the command"))?;
        }
        rustix::process::chdir(&self.command.folder)
            .map_err(step("change to", &self.command.folder))?;
        exec_unsafe::close_above_two_on_exec().map_err(step("close", "inherited descriptors"))?;
        credentials_unsafe::keep_capabilities(0).map_err(step("drop", "capabilities"))?;
        signal_unsafe::reset_dispositions(self.ignored);
        self.enter_filter()?;
        if self.plan.walls.canary {
            canary::run(self.plan, self.canary_port)?;
        }
        signal_unsafe::set_mask(&self.mask).map_err(step("restore", "the signal mask"))
    }

    /// Installs the filter and hands its listener to PID 1, which takes it by its number:
    /// from here on sending a descriptor is itself a trapped call.
    fn enter_filter(&mut self) -> Result<(), Failure> {
        if !self.plan.walls.seccomp {
            return Ok(());
        }
        if !self.plan.walls.namespaces {
            // A domain of its own: the one around it is the guardian's, whom it must not signal.
            if self.plan.walls.landlock {
                let terminal = self.terminal.as_ref().map(|(slave, _)| slave);
                landlock::part_from_parent(self.plan, terminal)?;
            }
        }
        if !self.plan.walls.supervisor {
            return seccomp_unsafe::install(&seccomp_alone::filter(), false)
                .map(drop)
                .map_err(step("install", FILTER));
        }
        // PID 1 may look into this process only while it is dumpable; execve makes it so again.
        credentials_unsafe::set_dumpable().map_err(step("prepare", "the command"))?;
        let filter = if self.plan.walls.namespaces {
            let traps = self.plan.traps();
            let is_asked = traps.writes && self.asks;
            let owners = if is_asked { Owners::All } else { traps.owners };
            seccomp::filter(seccomp::Traps { owners, ..traps }, seccomp_ids::own())
        } else {
            let traps = self.plan.traps();
            seccomp_second::filter(traps.execs, self.plan.walls.descriptors, seccomp_ids::own())
        };
        let messenger = self.handing.as_ref().map(Messenger::start).transpose()?;
        let listener = seccomp_unsafe::install(&filter, true).map_err(step("install", FILTER))?;
        let number = listener.as_ref().map_or(-1, OwnedFd::as_raw_fd);
        self.status.write_all(&number.to_le_bytes()).map_err(step("reach", "the supervisor"))?;
        if let Some(messenger) = messenger {
            messenger.hand_over(number).map_err(step("hand over", FILTER))?;
        }
        self.go.read_exact(&mut [0]).map_err(step("wait for", "the supervisor"))
    }
}

/// A process that is not under the filter, where to send is not a trapped call, and which has the
/// descriptors of the one that will be: it hands the listener over, and ends.
struct Messenger {
    pid: i32,
    number: File,
    /// Its end of the pipe, which it has no other descriptor for.
    _read: File,
}

impl Messenger {
    fn start(handing: &OwnedFd) -> Result<Self, Failure> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(step("make", "a pipe"))?;
        let (mut read, number) = (File::from(read), File::from(write));
        match process_unsafe::fork_sharing_descriptors().map_err(step("fork", "a messenger"))? {
            Fork::Parent(pid) => Ok(Self { pid, number, _read: read }),
            Fork::Child => {
                // Nobody is left to hear of an error; PID 1 then sees an early end.
                credentials_unsafe::set_parent_death_signal(libc::SIGKILL).ok();
                let mut packet = [0; 4];
                let read = read.read_exact(&mut packet).ok();
                let listener = exec_unsafe::duplicate_stdio(i32::from_le_bytes(packet));
                if let (Some(()), Some(listener)) = (read, listener) {
                    Report::Listeners.send(handing, &[listener]).ok();
                }
                process_unsafe::exit_now(0)
            }
        }
    }

    /// Has it hand over the descriptor that is called `number`.
    fn hand_over(mut self, number: i32) -> std::io::Result<()> {
        self.number.write_all(&number.to_le_bytes())?;
        process_unsafe::wait_for_end(self.pid).map(drop)
    }
}

/// Runs the program as execvp(3) would, with the `PATH` of its own environment. Returns the
/// error number: `ENOENT` when there is none of that name.
fn execute(command: &Command) -> i32 {
    let Some((argv, envp)) = strings(command) else { return libc::EINVAL };
    let arguments = StringArray::new(argv.clone());
    let environment = StringArray::new(envp.clone());
    let mut result = libc::ENOENT;
    for candidate in candidates(command) {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        let error = exec_unsafe::execve(&path, &arguments, &environment);
        match error.raw_os_error().unwrap_or(libc::EIO) {
            // There, but not for us: a later folder may have another.
            libc::EACCES if candidate.symlink_metadata().is_ok() => result = libc::EACCES,
            // A folder of the `PATH` that cannot be searched says nothing, as for a shell.
            libc::ENOENT | libc::ENOTDIR | libc::EACCES => {}
            libc::ENOEXEC => return run_by_shell(&path, &argv, envp),
            other => return other,
        }
    }
    result
}

/// A script without `#!` is run by `/bin/sh`, as execvp(3) does.
fn run_by_shell(path: &CString, argv: &[CString], envp: Vec<CString>) -> i32 {
    let mut shell = vec![c"/bin/sh".to_owned(), path.clone()];
    shell.extend(argv.iter().skip(1).cloned());
    let error = exec_unsafe::execve(c"/bin/sh", &StringArray::new(shell), &StringArray::new(envp));
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn strings(command: &Command) -> Option<(Vec<CString>, Vec<CString>)> {
    let one = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let argv = std::iter::once(&command.program)
        .chain(&command.arguments)
        .map(|argument| one(argument))
        .collect::<Option<_>>()?;
    let envp = command
        .environment
        .iter()
        .map(|(name, value)| {
            let mut pair = name.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend(value.as_bytes());
            CString::new(pair).ok()
        })
        .collect::<Option<_>>()?;
    Some((argv, envp))
}

fn candidates(command: &Command) -> Vec<PathBuf> {
    let program = Path::new(&command.program);
    if command.program.is_empty() {
        return Vec::new();
    }
    if command.program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = command.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), |(_, value)| value);
    std::env::split_paths(path).map(|folder| folder.join(program)).collect()
}

/// The command without walls: the child's side of `danger-full-access`. Returns the error
/// number when the program could not be executed.
pub(crate) fn run_unconfined(
    command: &Command,
    mask: SignalSet,
    enter: impl FnOnce() -> std::io::Result<()>,
) -> i32 {
    let prepared = rustix::process::chdir(&command.folder)
        .map_err(std::io::Error::from)
        .and_then(|()| exec_unsafe::close_above_two_on_exec())
        .and_then(|()| signal_unsafe::set_mask(&mask))
        .and_then(|()| enter());
    match prepared {
        Ok(()) => execute(command),
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// The session that the command will belong to: of PID 1, which stays its leader so that the
/// command's process group is not orphaned and can be stopped and continued.
pub(crate) fn new_session(terminal: Option<&OwnedFd>) -> Result<(), Failure> {
    credentials_unsafe::new_session().map_err(step("start", "a session"))?;
    match terminal {
        Some(slave) => {
            rustix::process::ioctl_tiocsctty(slave).map_err(step("take", "the inner terminal"))
        }
        None => Ok(()),
    }
}
