//! A command that was started, and its three pipes.
//!
//! Most are started by `posix_spawn`, which copies nothing of this process and its tables of memory. What
//! that cannot do (a terminal, a script without a first line, an error in words) is done by a fork.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::sys::spawn_unsafe::{Spawn, spawn};

/// The channel's ends of its standard input, output and error.
pub(crate) type Pipes = [OwnedFd; 3];

/// A command that was started. It has to be waited for.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pipes: Option<Pipes>,
    /// It was forked.
    forked: Option<process::Child>,
}

impl Child {
    /// Starts `argv` in `folder`, in a session of its own, with pipes. `None`: that it is to be forked.
    pub(crate) fn spawn(
        argv: &[OsString],
        folder: &Path,
        environment: Option<&[(OsString, OsString)]>,
    ) -> Option<Self> {
        let inherited: Vec<(OsString, OsString)>;
        let environment = if let Some(environment) = environment {
            environment
        } else {
            inherited = std::env::vars_os().collect();
            &inherited
        };
        let path = environment.iter().rev().find(|(name, _)| name == "PATH");
        let file = file_of(argv.first()?, folder, path.map(|(_, value)| value.as_os_str()))?;
        let file = CString::new(file.into_os_string().into_vec()).ok()?;
        let words = argv.iter().map(|word| CString::new(word.as_bytes()));
        let argv: Vec<_> = words.collect::<Result<_, _>>().ok()?;
        // The last of a name counts, as where it is set one after the other.
        let mut last: Vec<&(OsString, OsString)> = Vec::new();
        for variable in environment {
            last.retain(|other| other.0 != variable.0);
            last.push(variable);
        }
        let variable = |(name, value): &(OsString, OsString)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let environment: Vec<_> = last.into_iter().map(variable).collect::<Result<_, _>>().ok()?;
        let folder = CString::new(folder.as_os_str().as_bytes()).ok()?;
        let piped = || pipe_with(PipeFlags::CLOEXEC).ok();
        let ((its_in, stdin), (stdout, its_out), (stderr, its_err)) =
            (piped()?, piped()?, piped()?);
        let streams = [its_in.as_fd(), its_out.as_fd(), its_err.as_fd()];
        if streams.iter().any(|stream| stream.as_raw_fd() <= libc::STDERR_FILENO) {
            // One would be closed by the one before.
            return None;
        }
        let started =
            Spawn { file: &file, argv: &argv, environment: &environment, folder: &folder, streams };
        let pid = spawn(&started).ok()?;
        Some(Self { pid, pipes: Some([stdin, stdout, stderr]), forked: None })
    }

    /// One that was forked.
    pub(crate) fn of(mut forked: process::Child) -> io::Result<Self> {
        let pid = i32::try_from(forked.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let pipes = match (forked.stdin.take(), forked.stdout.take(), forked.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Some([stdin.into(), stdout.into(), stderr.into()])
            }
            _ => None,
        };
        Ok(Self { pid, pipes, forked: Some(forked) })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Its pipes, if it has them; once.
    pub(crate) fn pipes(&mut self) -> Option<Pipes> {
        self.pipes.take()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(forked) = &mut self.forked {
            return forked.wait();
        }
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The file of `program`, as execvp(3) finds it from `folder`.
fn file_of(program: &OsStr, folder: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    if program.is_empty() {
        return None;
    }
    let is_file = |file: &PathBuf| folder.join(file).metadata().is_ok_and(|data| data.is_file());
    // An empty part is the folder itself.
    std::env::split_paths(path?).map(|at| Path::new(".").join(at).join(program)).find(is_file)
}
