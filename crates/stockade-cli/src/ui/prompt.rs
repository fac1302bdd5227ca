//! The question on the terminal.
//!
//! It shows the action to the byte, escaped; no is the default; what was typed before it was
//! shown is no answer.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};
use stockade_agents::Stop;
use stockade_threads::{Ask, Asked, Reply};

use super::printable;

/// How often the user's wish to stop is looked at.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 4096;

/// Asks on the controlling terminal, if there is one and standard error is shown on one.
#[derive(Debug)]
pub(crate) struct Prompt {
    stop: Stop,
}

impl Prompt {
    /// A prompt that is given up when `stop` is requested.
    pub(crate) fn new(stop: Stop) -> Self {
        Self { stop }
    }

    /// One line; `None` at the end of the input, or when the thread is to stop.
    fn line(&self, terminal: &File) -> Option<String> {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") && answer.len() < ANSWER_MAX {
            if self.stop.is_requested() {
                return None;
            }
            let mut ready = [PollFd::new(terminal, PollFlags::IN)];
            if !matches!(poll(&mut ready, Some(&TURN)), Ok(1..)) {
                continue;
            }
            let mut byte = [0];
            match rustix::io::read(terminal, &mut byte) {
                Ok(1) => answer.extend(byte),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        Some(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

impl Ask for Prompt {
    fn ask(&self, question: &Asked) -> Reply {
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        let Some(terminal) = terminal.ok().filter(|_| std::io::stderr().is_terminal()) else {
            return Reply::Nobody;
        };
        // Before it is shown: what is typed from then on is the answer.
        tcflush(&terminal, QueueSelector::IFlush).ok();
        let mut error = std::io::stderr().lock();
        let effect = printable(&question.effect).replace('\n', "\n  ");
        // Without a terminal to write to there is none to read from either.
        writeln!(error, "\n? {effect}").ok();
        write!(error, "  [y] once  [t] this exact one, for this thread  [n] no, and why\n  no> ")
            .ok();
        error.flush().ok();
        drop(error);
        match self.line(&terminal) {
            Some(answer) => reply(&answer),
            None if self.stop.is_requested() => Reply::Stop,
            None => Reply::Deny(String::new()),
        }
    }
}

/// Anything that is no clear yes is a no, and told to the agent.
fn reply(answer: &str) -> Reply {
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" | "once" => Reply::Once,
        "t" | "thread" => Reply::Thread,
        "" | "n" | "no" => Reply::Deny(String::new()),
        _ => {
            let word = answer.strip_prefix("n ").or_else(|| answer.strip_prefix("no "));
            Reply::Deny(word.unwrap_or(answer).trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_clear_yes_is_a_no() {
        let no = |word: &str| Reply::Deny(word.to_owned());
        for (answer, expected) in [
            ("y", Reply::Once),
            ("YES", Reply::Once),
            ("t", Reply::Thread),
            ("", no("")),
            ("n", no("")),
            ("no use the mock", no("use the mock")),
            ("yes please", no("yes please")),
            ("yy", no("yy")),
        ] {
            assert_eq!(reply(answer), expected, "{answer}");
        }
    }
}
