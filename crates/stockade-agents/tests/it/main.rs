//! The built-in agent against a model server that follows a script, over real HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod faults;
mod memory;
mod slips;
mod stop;
mod stories;
mod turns;
