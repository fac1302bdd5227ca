//! What Ctrl-C means to a thread that could go on without the person who watches it: they say.
//!
//! The thread works on meanwhile. What is no clear wish changes nothing.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp};

use super::prompt::{Turns, terminal};
use super::status::Status;
use crate::ui;

/// How often the end of the thread is looked for.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The longest line, in bytes.
const LINE_MAX: usize = 4096;

/// What is said. Lines of their own, so that what the thread writes meanwhile does not end in it.
const QUESTION: &str = "the thread is at work: [d] detach, [c] cancel, [Enter] go on";

/// What a person wants of a thread at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nothing has changed.
    GoOn,
    /// It goes on without them.
    Detach,
    /// It ends.
    Cancel,
}

/// Asks on the terminal; `None` where it cannot be asked: somebody else reads it, or there is none.
/// Something to read on `signals` (Ctrl-C again) is [`Choice::Cancel`], and stays unread there.
pub(crate) fn choose(
    (turns, status): (&Turns, Option<&Status>),
    signals: BorrowedFd<'_>,
    is_over: &dyn Fn() -> bool,
) -> Option<Choice> {
    let terminal = terminal()?;
    // A command that was lent the terminal reads every key, in the background a shell does.
    let is_read = tcgetattr(&terminal).ok()?.local_modes.contains(LocalModes::ISIG)
        && tcgetpgrp(&terminal).ok() == Some(rustix::process::getpgrp());
    if !is_read {
        return None;
    }
    turns.hold();
    if let Some(status) = status {
        status.hold(true);
    }
    // The terminal has drawn `^C`.
    ui::apart();
    let choice = wish(&terminal, signals, is_over);
    if choice != Choice::Detach {
        turns.release();
        if let Some(status) = status {
            status.hold(false);
        }
    }
    Some(choice)
}

/// Waits for a line that says it.
fn wish(terminal: &std::fs::File, signals: BorrowedFd<'_>, is_over: &dyn Fn() -> bool) -> Choice {
    let mut line = Vec::new();
    ui::say("stockade", QUESTION);
    while !is_over() {
        let mut ready = [
            PollFd::new(terminal, PollFlags::IN),
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
        ];
        if poll(&mut ready, Some(&TURN)).is_err() {
            continue;
        }
        let [keys, again] = ready.map(|fd| !fd.revents().is_empty());
        if again {
            return Choice::Cancel;
        }
        let mut byte = [0];
        match keys.then(|| rustix::io::read(terminal, &mut byte)) {
            None | Some(Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN)) => continue,
            Some(Ok(1)) => line.extend(byte),
            // Ctrl-D, or the terminal is gone, which is told elsewhere.
            Some(Ok(_) | Err(_)) => return Choice::GoOn,
        }
        if byte == *b"\n" || line.len() >= LINE_MAX {
            match of(&line) {
                Some(Choice::GoOn) => {
                    ui::say("stockade", "it goes on");
                    return Choice::GoOn;
                }
                Some(choice) => return choice,
                None => ui::say("stockade", QUESTION),
            }
            line.clear();
        }
    }
    Choice::GoOn
}

/// A line's wish, if it is one.
fn of(line: &[u8]) -> Option<Choice> {
    match line.trim_ascii() {
        b"" => Some(Choice::GoOn),
        b"d" | b"D" => Some(Choice::Detach),
        b"c" | b"C" => Some(Choice::Cancel),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_clear_wish_is_none() {
        for (line, wish) in [
            ("\n", Some(Choice::GoOn)),
            ("d\n", Some(Choice::Detach)),
            (" C \n", Some(Choice::Cancel)),
            ("detach\n", None),
            ("dc\n", None),
            ("y\n", None),
        ] {
            assert_eq!(of(line.as_bytes()), wish, "{line:?}");
        }
    }
}
