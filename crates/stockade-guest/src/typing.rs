//! What a user does at the terminal of a command, on its way to the call: keys, and the size of
//! the window.
//!
//! Who watches the user's terminal puts things in and never waits; the thread of the call takes
//! them, and is woken. Invariant: no more than [`KEYS_MAX`] bytes lie here; what there is no room
//! for is left where it is.

use std::sync::{Arc, Mutex};

use crate::inbox::Inbox;
use crate::lock;
use crate::message::WindowSize;

/// Keys that the place has not taken yet, in bytes.
const KEYS_MAX: usize = 64 * 1024;

/// Keys and sizes of one command's terminal.
#[derive(Debug, Default)]
pub struct Typing {
    typed: Mutex<Typed>,
}

#[derive(Debug, Default)]
struct Typed {
    keys: Vec<u8>,
    is_over: bool,
    size: Option<WindowSize>,
    /// Who takes them, as long as the call lasts.
    inbox: Option<Arc<Inbox>>,
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
        lock(&self.typed).inbox = inbox;
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
        keys.drain(..count.min(keys.len())).collect()
    }

    /// Whether all keys were taken, and there will be no more.
    pub(crate) fn is_over(&self) -> bool {
        let typed = lock(&self.typed);
        typed.is_over && typed.keys.is_empty()
    }
}
