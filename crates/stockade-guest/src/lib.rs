//! One channel for everything that happens in a place: the wire between Stockade and where a
//! thread's commands run.
//!
//! [`serve`] is the side of the place: PID 1 of a microVM calls it on a virtio-serial port, a
//! local place on a socket from within its boundary. [`Client`] is the side of the host. The
//! crate does not judge what it is asked to do; the boundary around the place holds, and what
//! may be asked for at all was decided before.
//!
//! Invariants:
//! - what comes from the place is hostile: it is bounded, checked, and ends the channel when it
//!   is not what this protocol says; no call waits for ever on a place that has gone silent,
//!   except on a command without a time limit that nobody stops;
//! - a stalled reader of one call stalls that call only: data moves by credits;
//! - a place cannot open anything by itself: what its programs connect to leads nowhere unless the
//!   host waits for a connection ([`Outlet`]);
//! - when the channel ends, every command started through it is killed with its group.

mod call;
mod child;
mod client;
mod codec;
mod command;
#[cfg(target_arch = "x86_64")]
mod counter;
mod files;
mod frame;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod inbox;
mod index;
mod link;
mod message;
mod outlet;
mod parameters;
mod relay;
mod search;
mod serve;
mod start;
mod sys;
mod terminal;
mod typing;
mod version;

pub use client::{
    CallError, ChannelError, Client, End, Entry, EntryKind, Exec, ExecOutcome, Found, Terminal,
};
#[cfg(target_arch = "x86_64")]
pub use counter::counter_khz;
pub use frame::Malformed;
pub use index::renew_index;
pub use message::{Stream, WindowSize};
pub use outlet::Outlet;
pub use parameters::{
    ENVIRONMENT, MODULES_FOLDER, PORT_NAME, PROGRAM_DISK, PROGRAM_FOLDER, Parameters,
    REPOSITORY_DISK, SETUP_ARCHIVE, SETUP_DISK, SYSTEM_DISK, TRIAL, TRIAL_PASSED, USER_NAME,
};
pub use serve::{ServeOptions, serve};
pub use start::{Seed, Start, await_machine, await_start, tell};
pub use typing::Typing;
pub use version::Generation;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A thread that panicked while it held the lock ends its own call; what is shared stays
/// whole between statements, so that the other calls go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
