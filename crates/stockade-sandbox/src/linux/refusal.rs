//! What PID 1 hears of the command's own process before it is the command: the number of the
//! filter's listener, or why there is none.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::control::Report;
use super::failure::{Failure, step};
use super::sys::process_unsafe;
use super::target::{Refusal, Target};

/// The child's side: becomes the command, or writes why not and ends.
pub(super) fn refuse_and_exit(target: Target<'_>) -> ! {
    let mut status = target.status.try_clone();
    let refusal = target.run();
    if let Ok(status) = &mut status {
        // Nobody is left to hear of an error here; PID 1 then sees an early end.
        status.write_all(&encode(&refusal)).ok();
    }
    process_unsafe::exit_now(125)
}

/// `number` on the pipe is the listener's; a refusal starts with -2.
const REFUSED: i32 = -2;

fn encode(refusal: &Refusal) -> Vec<u8> {
    let mut packet = REFUSED.to_le_bytes().to_vec();
    match refusal {
        Refusal::Program(errno) => {
            packet.push(b'p');
            packet.extend(errno.to_le_bytes());
        }
        Refusal::Setup(failure) => {
            packet.push(b's');
            packet.extend(failure.errno.to_le_bytes());
            packet.extend(failure.step.as_bytes());
            packet.push(0);
            packet.extend(failure.subject.as_os_str().as_bytes());
        }
    }
    packet
}

/// Reads what is left on the pipe. `None` when the program was executed, or the child died.
pub(super) fn read_refusal(mut status: &File) -> Option<Refusal> {
    let mut packet = Vec::new();
    status.read_to_end(&mut packet).ok()?;
    let marker = REFUSED.to_le_bytes();
    let packet = packet.strip_prefix(&marker).unwrap_or(&packet);
    let (&[kind, a, b, c, d], rest) = packet.split_first_chunk::<5>()?;
    let errno = i32::from_le_bytes([a, b, c, d]);
    if kind == b'p' {
        return Some(Refusal::Program(errno));
    }
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let subject = OsStr::from_bytes(parts.next().unwrap_or_default());
    Some(Refusal::Setup(Failure { step: text, subject: subject.into(), errno }))
}

pub(super) fn as_failure(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Setup(failure) => failure,
        Refusal::Program(errno) => {
            Failure { step: "start".to_owned(), subject: "the command".into(), errno }
        }
    }
}

pub(super) fn lost() -> Failure {
    Failure { step: "start".to_owned(), subject: "the command".into(), errno: libc::ECHILD }
}

/// Takes the listener out of the target; `None` when the target refused before it had one.
pub(super) fn take_listener(
    pid: i32,
    mut status: &File,
    taking: Option<&OwnedFd>,
) -> Result<Option<OwnedFd>, Failure> {
    let mut number = [0; 4];
    status.read_exact(&mut number).map_err(step("start", "the command"))?;
    let number = i32::from_le_bytes(number);
    if number == REFUSED {
        return Ok(None);
    }
    let take = || -> io::Result<OwnedFd> {
        if let Some(taking) = taking {
            let sent = Report::receive(taking)?.and_then(|(_, sent)| sent.into_iter().next());
            return sent.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
    };
    take().map(Some).map_err(step("supervise", "the command"))
}
