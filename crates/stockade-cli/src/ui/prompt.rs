//! Questions and the user's own lines on the terminal.
//!
//! A question shows the action to the byte, escaped; no is the default; what was typed before it was
//! shown is no answer.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, TryLockError};

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
    rings: bool,
    /// Questions of several threads of this process come one after the other.
    turn: Mutex<()>,
}

impl Prompt {
    /// A prompt that is given up when `stop` is requested.
    pub(crate) fn new(stop: Stop) -> Self {
        Self { stop, rings: false, turn: Mutex::default() }
    }

    /// The same that rings when it waits.
    pub(crate) fn ringing(self, rings: bool) -> Self {
        Self { rings, ..self }
    }

    /// One line, or a reply that came from elsewhere; `None` at the end of the input, or when the
    /// thread is to stop.
    fn line(
        &self,
        terminal: &File,
        elsewhere: &dyn Fn() -> Option<Reply>,
    ) -> Option<Result<String, Reply>> {
        let came = RefCell::new(None);
        let is_given_up = || {
            if !self.stop.is_requested() {
                came.replace(elsewhere());
            }
            self.stop.is_requested() || came.borrow().is_some()
        };
        let text = line(terminal, &is_given_up);
        came.into_inner().map(Err).or(text.map(Ok))
    }
}

/// One line; `None` at the end of the input, or when it is given up.
fn line(terminal: &File, is_given_up: &dyn Fn() -> bool) -> Option<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") && answer.len() < ANSWER_MAX {
        if is_given_up() {
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

/// The controlling terminal, where standard error is shown on one.
fn terminal() -> Option<File> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    terminal.ok().filter(|_| std::io::stderr().is_terminal())
}

/// What the user says next, on a terminal that is theirs.
#[derive(Debug)]
pub(crate) struct Line {
    terminal: File,
}

impl Line {
    /// A line of the controlling terminal, when standard error is shown on one.
    pub(crate) fn open() -> Option<Self> {
        terminal().map(|terminal| Self { terminal })
    }

    /// Waits for a line that says something, and looks meanwhile whether to go on waiting. `None`
    /// at the end of the input (Ctrl-D), or when it is over.
    pub(crate) fn read(&self, look: &dyn Fn() -> Look) -> Option<String> {
        let seen = Cell::new(Look::Wait);
        let is_given_up = || {
            seen.set(look());
            seen.get() != Look::Wait
        };
        loop {
            let mut error = std::io::stderr().lock();
            // Without a terminal to write to there is none to read from either.
            drop((write!(error, "> "), error.flush()));
            drop(error);
            match line(&self.terminal, &is_given_up) {
                Some(text) if !text.is_empty() => return Some(text),
                None if seen.get() != Look::Anew => return None,
                Some(_) | None => {}
            }
            if seen.get() == Look::Anew {
                writeln!(std::io::stderr(), "\n(Ctrl-C again, or Ctrl-D, ends the thread)").ok();
                seen.set(Look::Wait);
            }
        }
    }
}

/// What is to be done about a line that is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Wait on.
    Wait,
    /// Ask for it anew: the user has taken it back.
    Anew,
    /// Give it up.
    Over,
}

impl Ask for Prompt {
    fn is_present(&self) -> bool {
        terminal().is_some()
    }

    fn ask(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        let Some(terminal) = terminal() else { return Reply::Nobody };
        let _turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break turn,
                Err(TryLockError::Poisoned(turn)) => break turn.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
            // Another question is on the terminal; this one can be answered elsewhere.
            if let Some(reply) = elsewhere() {
                return reply;
            }
            poll(&mut [], Some(&TURN)).ok();
        };
        // Before it is shown: what is typed from then on is the answer.
        tcflush(&terminal, QueueSelector::IFlush).ok();
        let mut error = std::io::stderr().lock();
        let effect = printable(&question.effect).replace('\n', "\n  ");
        // Without a terminal to write to there is none to read from either.
        writeln!(error, "\n? {effect}").ok();
        writeln!(error, "  [y] once  [t] this exact one, for this thread  [n] no, and why").ok();
        for (number, prefix) in (1..).zip(&question.prefixes) {
            let shown = printable(&prefix.join(" ")).replace('\n', "\\n");
            let project = if question.can_be_kept {
                format!("  [p{number}] for this project")
            } else {
                String::new()
            };
            writeln!(error, "  [t{number}] `{shown} …` for this thread{project}").ok();
        }
        let bell = if self.rings { "\u{7}" } else { "" };
        write!(error, "{bell}  no> ").ok();
        error.flush().ok();
        drop(error);
        match self.line(&terminal, elsewhere) {
            Some(Ok(answer)) => reply(&answer, question),
            Some(Err(reply)) => {
                let said = match &reply {
                    Reply::Late => "nobody answered in time: no",
                    Reply::Deny(_) => "answered elsewhere: no",
                    Reply::Once | Reply::Thread(_) | Reply::Project(_) => "answered elsewhere: yes",
                    Reply::Nobody | Reply::Stop => "",
                };
                writeln!(std::io::stderr().lock(), "{said}").ok();
                reply
            }
            None if self.stop.is_requested() => Reply::Stop,
            None => Reply::Deny(String::new()),
        }
    }
}

/// Anything that is no clear yes is a no, and told to the agent. `t2` takes the second of the
/// beginnings, `t WORDS` and `p WORDS` one that is typed; a command that is asked about begins so.
fn reply(answer: &str, question: &Asked) -> Reply {
    let (kind, rest) = answer.split_at(answer.chars().next().map_or(0, char::len_utf8));
    let wanted = rest.trim();
    let numbered = wanted.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let prefix = match numbered {
        Some(at) => question.prefixes.get(at).cloned(),
        None if rest.starts_with(' ') => typed(wanted, &question.prefixes),
        None => None,
    };
    match (kind.to_ascii_lowercase().as_str(), prefix) {
        ("t", Some(prefix)) => return Reply::Thread(Some(prefix)),
        ("p", Some(prefix)) if question.can_be_kept => return Reply::Project(prefix),
        _ => {}
    }
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" | "once" => Reply::Once,
        "t" | "thread" => Reply::Thread(None),
        "" | "n" | "no" => Reply::Deny(String::new()),
        _ => {
            let word = answer.strip_prefix("n ").or_else(|| answer.strip_prefix("no "));
            Reply::Deny(word.unwrap_or(answer).trim().to_owned())
        }
    }
}

/// The words that were typed, when a command that is asked about begins with them.
fn typed(line: &str, prefixes: &[Vec<String>]) -> Option<Vec<String>> {
    let words = stockade_rules::split_words(line).ok()?;
    prefixes.iter().any(|longest| longest.starts_with(&words)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_clear_yes_is_a_no() {
        let no = |word: &str| Reply::Deny(word.to_owned());
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let question = Asked {
            prefixes: vec![words("cargo test -p x"), words("cargo test")],
            can_be_kept: true,
            ..Asked::default()
        };
        for (answer, expected) in [
            ("y", Reply::Once),
            ("t2", Reply::Thread(Some(words("cargo test")))),
            ("p1", Reply::Project(words("cargo test -p x"))),
            ("t cargo", Reply::Thread(Some(words("cargo")))),
            ("p 'cargo' test", Reply::Project(words("cargo test"))),
            ("p", no("p")),
            ("t3", no("t3")),
            ("p make", no("p make")),
            ("t0", no("t0")),
            ("YES", Reply::Once),
            ("t", Reply::Thread(None)),
            ("", no("")),
            ("n", no("")),
            ("no use the mock", no("use the mock")),
            ("yes please", no("yes please")),
            ("yy", no("yy")),
        ] {
            assert_eq!(reply(answer, &question), expected, "{answer}");
        }
    }
}
