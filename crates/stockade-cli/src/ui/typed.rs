//! What a person says to the agent: a line that is typed, or several that are pasted.
//!
//! The line is the terminal's, which edits it and hands it over when it has its end. So lines that
//! follow each other at once were pasted, and are one text; and what was pasted behind the last line
//! break is waited for. Of a line the terminal keeps [`LINE_MAX`] bytes and drops the rest, untold.

use std::fs::File;
use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// How often it is looked whether the text is still wanted.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How soon a line follows another one when nobody typed it.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// As much of a line as a terminal keeps, without its end (`N_TTY_BUF_SIZE` of Linux).
const LINE_MAX: usize = 4095;
/// The longest text, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// What was said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// All of it.
    Text(String),
    /// Something that is not whole: a line was longer than a terminal keeps, or all of it is than
    /// anybody reads.
    Cut,
}

/// Waits for a text; `None` at the end of the input, or when it is given up.
pub(super) fn text(terminal: &File, is_given_up: &dyn Fn() -> bool) -> Option<Typed> {
    let (mut text, mut is_cut) = (Vec::new(), false);
    loop {
        let line = line(terminal, is_given_up, usize::MAX)?;
        let has_end = line.ends_with(b"\n");
        is_cut |= line.len() - usize::from(has_end) >= LINE_MAX || text.len() > TEXT_MAX;
        if !is_cut {
            text.extend(line);
        }
        if !has_end || !(is_ready(terminal, &AT_ONCE) || has_more(terminal)) {
            break;
        }
    }
    if is_cut {
        return Some(Typed::Cut);
    }
    Some(Typed::Text(String::from_utf8_lossy(&text).trim().to_owned()))
}

/// One line with its end, or `most` bytes of it. Where Ctrl-D comes behind something, that has no end;
/// `None` at the end of the input, or when it is given up.
pub(super) fn line(
    terminal: &File,
    is_given_up: &dyn Fn() -> bool,
    most: usize,
) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    while !bytes.ends_with(b"\n") && bytes.len() < most {
        if is_given_up() {
            return None;
        }
        if !is_ready(terminal, &TURN) {
            continue;
        }
        let mut byte = [0];
        match rustix::io::read(terminal, &mut byte) {
            Ok(1) => bytes.extend(byte),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) if !bytes.is_empty() => break,
            Ok(_) | Err(_) => return None,
        }
    }
    Some(bytes)
}

fn is_ready(terminal: &File, within: &Timespec) -> bool {
    let mut ready = [PollFd::new(terminal, PollFlags::IN)];
    matches!(poll(&mut ready, Some(within)), Ok(1..))
}

/// Whether the terminal holds the beginning of a line, which it shows to nobody as long as it edits
/// lines. What was there is then handed over as it is.
fn has_more(terminal: &File) -> bool {
    let look = || -> io::Result<bool> {
        let edits = tcgetattr(terminal)?;
        if !edits.local_modes.contains(LocalModes::ICANON) {
            return Ok(false);
        }
        let mut plain = edits.clone();
        plain.local_modes.remove(LocalModes::ICANON);
        tcsetattr(terminal, OptionalActions::Now, &plain)?;
        let held = ioctl_fionread(terminal);
        tcsetattr(terminal, OptionalActions::Now, &edits)?;
        Ok(held? > 0)
    };
    // A terminal that cannot be asked has nothing more to say.
    look().unwrap_or(false)
}
