//! Lets somebody else have the user's terminal for a moment, while a command runs on it.
//!
//! The loop that relays the terminal gives it away and takes it back; a thread that has something to
//! ask waits for it meanwhile. What the command writes waits in its own terminal.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::terminal::Terminal;

/// How long the loop may take to give it away.
const PATIENCE: Duration = Duration::from_secs(2);

/// By which the terminal is asked for. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct Pauser(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wish: Mutex<Wish>,
    given: Condvar,
    wake: OwnedFd,
    /// Whether the user's keys go to the command now; one of the three below.
    keys: AtomicU8,
}

/// Nobody has looked yet: a command may ask before the loop's first turn.
const UNKNOWN: u8 = 0;
const ELSEWHERE: u8 = 1;
const TO_THE_COMMAND: u8 = 2;

#[derive(Debug, Default)]
struct Wish {
    is_wanted: bool,
    /// Whether the loop has not seen it yet. The one before may have ended since the loop looked last.
    is_new: bool,
    terminal: Option<OwnedFd>,
}

impl Wish {
    /// Whether the loop takes the terminal back, if it `is_held`, and whether it gives it away then.
    fn due(&self, is_held: bool) -> (bool, bool) {
        (is_held && (self.is_new || !self.is_wanted), self.is_wanted && self.is_new)
    }
}

/// The user's terminal, until this is dropped.
#[derive(Debug)]
pub struct Held {
    pauser: Pauser,
    terminal: File,
}

impl Held {
    /// Lines are read from it, and it echoes.
    pub fn terminal(&self) -> &File {
        &self.terminal
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pauser.wish(false);
    }
}

impl Pauser {
    /// One that no loop knows yet.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (wish, given) = (Mutex::default(), Condvar::new());
        Ok(Self(Arc::new(Shared { wish, given, wake, keys: AtomicU8::new(UNKNOWN) })))
    }

    /// Whether there is a terminal to have: one whose keys go to the command now. Waits until that
    /// is known, which it is as soon as a command begins.
    pub fn has_keys(&self) -> bool {
        let keys = || self.0.keys.load(Ordering::Relaxed);
        if keys() == UNKNOWN {
            let wish = self.0.wish.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |_: &mut Wish| keys() == UNKNOWN;
            drop(self.0.given.wait_timeout_while(wish, PATIENCE, waits));
        }
        keys() == TO_THE_COMMAND
    }

    /// Waits for the terminal; `None` where it cannot be had.
    pub fn hold(&self) -> Option<Held> {
        self.wish(true);
        let wish = self.0.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |wish: &mut Wish| wish.terminal.is_none();
        let waited = self.0.given.wait_timeout_while(wish, PATIENCE, waits);
        let (mut wish, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let terminal = wish.terminal.take();
        drop(wish);
        if terminal.is_none() {
            self.wish(false);
        }
        terminal.map(|terminal| Held { pauser: self.clone(), terminal: terminal.into() })
    }

    fn wish(&self, is_wanted: bool) {
        let mut wish = self.0.wish.lock().unwrap_or_else(PoisonError::into_inner);
        *wish = Wish { is_wanted, is_new: is_wanted, terminal: None };
        drop(wish);
        // A counter that is full wakes as well.
        rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes()).ok();
    }

    /// Readable when there is something to [`serve`](Self::serve).
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0.wake)
    }

    /// Gives the terminal away, or takes it back, as it is wished.
    pub(super) fn serve(&self, terminal: Option<&mut Terminal>) {
        let Some(terminal) = terminal else { return self.know(ELSEWHERE) };
        rustix::io::read(&self.0.wake, &mut [0; 8]).ok();
        let mut wish = self.0.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_back, is_given) = wish.due(terminal.is_held());
        if is_back {
            terminal.release();
        }
        if is_given && terminal.is_raw() {
            wish.is_new = false;
            wish.terminal = terminal.hold();
            self.0.given.notify_all();
        }
        drop(wish);
        if terminal.is_attached() {
            self.know(if terminal.is_raw() { TO_THE_COMMAND } else { ELSEWHERE });
        }
    }

    fn know(&self, keys: u8) {
        if self.0.keys.swap(keys, Ordering::Relaxed) == UNKNOWN {
            // Whoever waits has looked before, or looks after this.
            drop(self.0.wish.lock());
            self.0.given.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_right_after_another_has_the_terminal_too() {
        let pauser = Pauser::new().unwrap();
        let due = |is_held| pauser.0.wish.lock().unwrap().due(is_held);
        pauser.wish(true);
        assert_eq!(due(false), (false, true));
        pauser.0.wish.lock().unwrap().is_new = false;
        assert_eq!(due(true), (false, false), "whoever has it keeps it");
        pauser.wish(false);
        assert_eq!(due(true), (true, false));
        // The next one asks before the loop has looked.
        pauser.wish(true);
        assert_eq!(due(true), (true, true));
    }
}
