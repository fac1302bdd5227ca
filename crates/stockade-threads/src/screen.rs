//! The user's terminal, lent to a command that they typed.
//!
//! The command has a terminal of its own in the thread's place; keys and sizes go there, and what
//! it draws comes back. It never holds the user's.

use std::sync::Arc;

pub use stockade_guest::{Terminal, Typing, WindowSize};

/// A terminal that the user sits at.
pub trait Screen: Sync {
    /// Lends it until the value is dropped; then it is as it was. `None` where it cannot be had.
    fn lend(&self) -> Option<Box<dyn Lent>>;
}

/// A terminal that is lent.
pub trait Lent {
    /// What the command gets of it: its name, its size, and what is typed at it from now on.
    fn terminal(&self) -> Terminal;
}

/// What a command that has no terminal reads.
pub trait Feed: Sync {
    /// Begins to read it, as far as it is asked for.
    fn begin(&self) -> Arc<Typing>;
}
