//! QEMU's monitor, as far as a template needs it: the state of a machine is written to a file.
//!
//! It is there for machines only in which nothing of anybody's has run, and is gone before any state is used.
//! QEMU's answers are one JSON object a line; of each it matters only which it is, and one word of it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// How long an answer may take. A machine is busy with itself for a moment only.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// How long a state may take to be written: a slow disk writes a hundred MiB in it.
const SAVE_MAX: Duration = Duration::from_mins(1);

/// How often it is asked for.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Longest line that is taken for an answer, in bytes.
const LINE_MAX: u64 = 256 * 1024;

/// The monitor of a machine.
#[derive(Debug)]
pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Greets it.
    pub(crate) fn open(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.line()?;
        monitor.ask(r#"{"execute":"qmp_capabilities"}"#, None)?;
        Ok(monitor)
    }

    /// Writes the state of the machine to `state`, from where that stands. The machine stops with that. False
    /// when `stop` says so first.
    pub(crate) fn save(&mut self, state: &File, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        // As fast as it goes: the machine does nothing meanwhile but wait.
        self.ask(
            r#"{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":1099511627776}}"#,
            None,
        )?;
        let file = Some(state.as_fd());
        self.ask(r#"{"execute":"getfd","arguments":{"fdname":"state"}}"#, file)?;
        self.ask(r#"{"execute":"migrate","arguments":{"uri":"fd:state"}}"#, None)?;
        let deadline = Instant::now() + SAVE_MAX;
        loop {
            let answer = self.ask(r#"{"execute":"query-migrate"}"#, None)?;
            match status(&answer) {
                Some("completed") => return Ok(true),
                Some("failed" | "cancelled") => return Err(io::Error::other(answer)),
                _ if stop() => return Ok(false),
                _ if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                _ => poll(&mut [], Some(&LOOK)).map(drop).unwrap_or_default(),
            }
        }
    }

    /// The answer to a command; events that come in between are passed over.
    fn ask(&mut self, command: &str, file: Option<BorrowedFd<'_>>) -> io::Result<String> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.as_slice();
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        // Far shorter than what a socket takes at once.
        let line = IoSlice::new(command.as_bytes());
        sendmsg(self.0.get_ref(), &[line], &mut control, SendFlags::NOSIGNAL)?;
        loop {
            let line = self.line()?;
            if line.starts_with(r#"{"return""#) {
                return Ok(line);
            }
            if line.starts_with(r#"{"error""#) {
                return Err(io::Error::other(line));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.0).take(LINE_MAX).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// How far the migration is, in QEMU's words.
fn status(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once(r#""status": ""#)?;
    rest.split_once('"').map(|(status, _)| status)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::thread;

    use super::*;

    /// What comes of a save when QEMU answers with these lines.
    fn saved(lines: &[&str]) -> io::Result<bool> {
        let (own, mut other) = UnixStream::pair().unwrap();
        let text = lines.join("\r\n") + "\r\n";
        let qemu = thread::spawn(move || {
            other.write_all(text.as_bytes()).unwrap();
            other.shutdown(std::net::Shutdown::Write).unwrap();
            // Until it is hung up on.
            io::copy(&mut other, &mut io::sink()).ok();
        });
        let result = Monitor::open(own)
            .and_then(|mut monitor| monitor.save(&tempfile::tempfile().unwrap(), &|| false));
        qemu.join().unwrap();
        result
    }

    #[test]
    fn a_state_is_there_when_qemu_says_so_and_not_before() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}}}"#;
        let (done, active) = (r#"{"return": {}}"#, r#"{"return": {"status": "active"}}"#);
        let event = r#"{"timestamp": {"seconds": 1}, "event": "STOP"}"#;
        let completed = r#"{"return": {"expected-downtime": 300, "status": "completed"}}"#;
        let failed = r#"{"return": {"status": "failed", "error-desc": "no space"}}"#;
        let error = r#"{"error": {"class": "GenericError", "desc": "no such file"}}"#;
        let begun = [greeting, done, done, done, done];
        let with = |rest: &[&str]| saved(&[&begun, rest].concat());
        assert!(with(&[r#"{"return": {}}"#, event, active, completed]).unwrap());
        assert!(with(&[active, failed]).unwrap_err().to_string().contains("no space"));
        with(&[active]).unwrap_err();
        assert!(saved(&[greeting, done, done, error]).unwrap_err().to_string().contains("such"));
        saved(&[greeting, &"x".repeat(300_000)]).unwrap_err();
    }
}
