//! What a user does at the terminal of a command, on its way to the call: keys, and the size of
//! the window.
//!
//! Who watches the user's terminal puts things in and never waits, who reads a pipe waits for room;
//! the thread of the call takes them, and is woken. Invariant: no more than [`KEYS_MAX`] bytes lie here; what there is no room
//! for is left where it is.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::inbox::Inbox;
use crate::lock;
use crate::message::WindowSize;

/// Keys that the place has not taken yet, in bytes.
const KEYS_MAX: usize = 64 * 1024;

/// Keys and sizes of one command's terminal.
#[derive(Debug, Default)]
pub struct Typing {
    typed: Mutex<Typed>,
    /// Rung when there may be room, or nobody will take anything any more.
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Typed {
    keys: Vec<u8>,
    is_over: bool,
    size: Option<WindowSize>,
    /// Who takes them, as long as the call lasts.
    inbox: Option<Arc<Inbox>>,
    /// The call has ended.
    is_gone: bool,
}

impl Typing {
    /// How many more bytes of keys may be put in.
    pub fn room(&self) -> usize {
        KEYS_MAX.saturating_sub(lock(&self.typed).keys.len())
    }

    /// Puts in keys, of which only as many are taken as there is room for.
    pub fn keys(&self, keys: &[u8]) {
        let room = self.room();
        self.change(|typed| typed.keys.extend(keys.iter().take(room)));
    }

    /// Puts in all of `input`, and waits for room; `false` when nobody takes it any more.
    pub fn put(&self, mut input: &[u8]) -> bool {
        while !input.is_empty() {
            let mut typed = lock(&self.typed);
            while typed.keys.len() >= KEYS_MAX && !typed.is_gone {
                typed = self.taken.wait(typed).unwrap_or_else(PoisonError::into_inner);
            }
            if typed.is_gone {
                return false;
            }
            let room = KEYS_MAX - typed.keys.len();
            let (now, rest) = input.split_at(room.min(input.len()));
            typed.keys.extend_from_slice(now);
            if let Some(inbox) = &typed.inbox {
                inbox.wake();
            }
            input = rest;
        }
        true
    }

    /// Whether nobody will take anything any more.
    pub fn is_gone(&self) -> bool {
        lock(&self.typed).is_gone
    }

    /// The window has another size now.
    pub fn resize(&self, size: WindowSize) {
        self.change(|typed| typed.size = Some(size));
    }

    /// There will be no more keys.
    pub fn end(&self) {
        self.change(|typed| typed.is_over = true);
    }

    fn change(&self, change: impl FnOnce(&mut Typed)) {
        let mut typed = lock(&self.typed);
        change(&mut typed);
        if let Some(inbox) = &typed.inbox {
            inbox.wake();
        }
    }

    /// Has `inbox` woken from now on; nobody with `None`.
    pub(crate) fn wake(&self, inbox: Option<Arc<Inbox>>) {
        let mut typed = lock(&self.typed);
        typed.is_gone = inbox.is_none();
        typed.inbox = inbox;
        self.taken.notify_all();
    }

    pub(crate) fn take_size(&self) -> Option<WindowSize> {
        lock(&self.typed).size.take()
    }

    /// How many bytes of keys wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.typed).keys.len()
    }

    pub(crate) fn take_keys(&self, count: usize) -> Vec<u8> {
        let keys = &mut lock(&self.typed).keys;
        let taken = keys.drain(..count.min(keys.len())).collect();
        self.taken.notify_all();
        taken
    }

    /// Whether all keys were taken, and there will be no more.
    pub(crate) fn is_over(&self) -> bool {
        let typed = lock(&self.typed);
        typed.is_over && typed.keys.is_empty()
    }
}
