//! The operating system's wall around one command.
//!
//! This crate knows no rules, no prompts and no configuration: it takes a [`Launch`] that was
//! reviewed elsewhere and either runs it behind every wall that the policy asks for, or runs
//! nothing and says which step failed ([`SetupError`]).
//!
//! Invariants:
//! - on `Err` nothing of the command has run;
//! - when [`launch`] or [`Running::wait`] returns, every process that the command started is gone;
//! - nothing is created in the user's own files, so a kill at any moment leaves nothing.

mod error;
mod execs;
mod helper;
mod interrupts;
pub mod keep;
mod launch;
mod linux;
mod notes;
mod objects;
mod stdio;

pub use error::SetupError;
pub use execs::{ExecRefusal, ExecRequest, Execs, Revive, Stub};
pub use helper::{Answering, Running, enter_if_helper, spawn};
pub use interrupts::Interrupts;
pub use launch::{
    Ask, Command, Exceeded, Keeping, Launch, Layer, OWN_PROGRAM, Outcome, Shared, Told, launch,
};
pub use linux::disk;
pub use linux::{Answer, Doors, Knock, Program, Protocol, SocketMaker};
pub use linux::{Asks, Change, Question, Reply, Wanted};
pub use linux::{Held, Modes, Pauser};
pub use linux::{Owner, Probe, become_user, owner_of, probe};
pub use notes::Notes;
pub use stdio::Stdio;
