//! Threads: one task each, with its record and its changes.
//!
//! [`Store`](store::Store) keeps one folder a thread. What happened is in `events.jsonl`
//! ([`record`]), chained by hash and written by the supervising process alone; what changed is a
//! pair of trees in a repository of the thread's own. The index beside the folders is a cache.
//!
//! [`Session`] is what an agent's loop has for hands: it judges each call, asks, records, and has
//! it done in a [`place`](place::Place). [`local`] puts a thread on the user's own files together,
//! [`cloud`] one on a clone in a machine.
//!
//! Invariants:
//! - the user's `.git` is read; only a branch that they ask for ([`branch`]) is written to it;
//! - no git is run in anything that a guest wrote;
//! - what a thread changed is data: nothing in it is executed by looking at it.

pub mod apply;
pub mod approvals;
mod bounds;
pub mod branch;
pub mod caches;
pub mod changes;
pub mod clean;
pub mod cloud;
mod conversation;
pub mod draft;
mod ended;
pub mod flags;
mod folder;
pub mod forge;
pub mod git;
pub mod held;
pub mod hits;
mod id;
mod in_place;
mod instructions;
mod journal;
mod judge;
mod line;
pub mod local;
mod neighbours;
pub mod network;
pub mod patch;
pub mod place;
mod program;
mod question;
mod quote;
pub mod record;
mod run_record;
pub mod screen;
mod session;
mod ssh_keys;
mod stage;
pub mod store;
mod surroundings;
pub mod undo;
mod widen;
pub mod wrote;

pub use bounds::{Bounds, Refusal};
pub use ended::{files, not_in_diff};
pub use id::{IdError, ThreadId};
pub use in_place::{Counter, InPlace, InPlaceOf};
pub use journal::{Journal, Live, Record, Watch};
pub use judge::Judge;
pub use program::{Program, Programmed};
pub use question::{Ask, Asked, Kept, Nobody, Reply};
pub use quote::{json_for_terminals, quoted};
pub use run_record::{NewRun, RunEnd, RunRecord};
pub use session::{Parts, Session};
pub use widen::{Openings, Widen};
