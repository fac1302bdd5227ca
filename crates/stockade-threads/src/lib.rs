//! Threads: one task each, with its record and its changes.
//!
//! [`Store`](store::Store) keeps one folder a thread. What happened is in `events.jsonl`
//! ([`record`]), chained by hash and written by the supervising process alone; what changed is a
//! pair of trees in a repository of the thread's own. The index beside the folders is a cache.
//!
//! Invariants:
//! - the user's `.git` is read and never written;
//! - no git is run in anything that a guest wrote;
//! - what a thread changed is data: nothing in it is executed by looking at it.

pub mod apply;
mod base64;
pub mod changes;
pub mod flags;
pub mod git;
mod id;
pub mod patch;
mod quote;
pub mod record;
pub mod store;

pub use id::{IdError, ThreadId};
pub use quote::quoted;
