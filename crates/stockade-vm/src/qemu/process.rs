//! A running QEMU: started, watched, ended.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::walls::{Enclosed, Walls};

/// What is kept of what a machine says on its console, in bytes: its last words.
const SAID_MAX: usize = 16 * 1024;

/// A running QEMU. It is killed when this is dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
    ended: Receiver<io::Result<bool>>,
    said: Arc<Mutex<VecDeque<u8>>>,
}

/// What is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The guest agent as a file, which holds the machine on the host where nothing else does.
    pub(crate) holder: &'a Path,
    pub(crate) qemu: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    /// Where it runs; it opens nothing there.
    pub(crate) folder: &'a Path,
    /// What is around it.
    pub(crate) enclosure: Option<Enclosure<'a>>,
}

/// Walls, and what is let through them.
#[derive(Debug)]
pub(crate) struct Enclosure<'a> {
    pub(crate) walls: &'a dyn Walls,
    pub(crate) readable: Vec<PathBuf>,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) memory_bytes: u64,
}

impl Process {
    /// Starts it. `origin` becomes its descriptor 0, or nothing does; `channel` becomes 1.
    pub(crate) fn start(
        start: &Start<'_>,
        origin: Option<OwnedFd>,
        channel: UnixStream,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let nothing = || File::open("/dev/null").map(OwnedFd::from);
        let stdio = [origin.map_or_else(nothing, Ok)?, channel.into(), writer.into()];
        let (pidfd, ended) = match &start.enclosure {
            Some(enclosure) => enclosed(start, enclosure, stdio)?,
            None => held(start, stdio)?,
        };
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let listening = Arc::clone(&said);
        named("console").spawn(move || listen(reader, &listening))?;
        Ok(Self { pidfd, ended, said })
    }

    pub(crate) fn kill(&self) {
        // It has ended already when this fails.
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
    }

    /// Waits for its end, and tells whether it ended well; `None` when the time is over first.
    pub(crate) fn wait(&self, patience: Duration) -> Option<io::Result<bool>> {
        match self.ended.recv_timeout(patience) {
            Ok(status) => Some(status),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// The last of what it and its guest have said, without what could act on a terminal.
    pub(crate) fn last_words(&self) -> String {
        let bytes: Vec<u8> = lock(&self.said).iter().copied().collect();
        last_words(&bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Begun = (OwnedFd, Receiver<io::Result<bool>>);

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

/// Starts it behind walls, which end it when this process ends.
fn enclosed(
    start: &Start<'_>,
    enclosure: &Enclosure<'_>,
    stdio: [OwnedFd; 3],
) -> io::Result<Begun> {
    let running = enclosure.walls.start(Enclosed {
        program: start.qemu.to_owned(),
        arguments: start.arguments.clone(),
        folder: start.folder.to_owned(),
        readable: enclosure.readable.clone(),
        writable: enclosure.writable.clone(),
        memory_bytes: enclosure.memory_bytes,
        stdio,
    })?;
    let (ending, ended) = mpsc::channel();
    let wait = running.wait;
    named("machine").spawn(move || ending.send(wait()))?;
    Ok((running.pidfd, ended))
}

/// Starts it without walls.
///
/// The thread that starts it is also the one that waits for it: the kernel sends the signal
/// of a parent's death when the *thread* ends that was the parent (prctl(2)).
fn held(start: &Start<'_>, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<Begun> {
    let mut command = Command::new(start.holder);
    command
        .arg("hold")
        .arg(std::process::id().to_string())
        .arg(start.qemu)
        .args(&start.arguments)
        .current_dir(start.folder)
        // Nothing of the caller's, and no folders for temporary or personal files.
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    let (started, pidfd) = mpsc::channel();
    let (ending, ended) = mpsc::channel();
    named("machine").spawn(move || {
        let child = start_child(command);
        match child {
            Ok((mut child, pidfd)) => {
                started.send(Ok(pidfd)).ok();
                ending.send(child.wait().map(|status| status.success())).ok();
            }
            Err(error) => {
                started.send(Err(error)).ok();
            }
        }
    })?;
    let pidfd = pidfd.recv().map_err(io::Error::other)??;
    Ok((pidfd, ended))
}

fn start_child(mut command: Command) -> io::Result<(Child, OwnedFd)> {
    let mut child = command.spawn()?;
    // The command holds a copy of the guest's descriptors until here.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
    match pidfd {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

fn listen(mut reader: impl Read, said: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count) = reader.read(&mut buffer) {
        if count == 0 {
            return;
        }
        let mut said = lock(said);
        said.extend(buffer.iter().take(count));
        let excess = said.len().saturating_sub(SAID_MAX);
        said.drain(..excess);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last three lines that are not empty, control characters taken out.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_plain = |character: &char| !character.is_control();
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(is_plain).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines.len().saturating_sub(3);
    lines.into_iter().skip(last).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_few_and_cannot_act_on_a_terminal() {
        let said = b"first\n\x1b[31mred\x07\r\n\n  two \nthree\n\xff\n";
        assert_eq!(last_words(said), "two; three; \u{fffd}");
        assert_eq!(last_words(b"\x1b]0;title\x07\n"), "]0;title");
    }
}
