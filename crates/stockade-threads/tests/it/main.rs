//! Claims that hold across modules.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod applying;
mod hostile;
mod intake;
mod kill;
mod looks;
mod project;
mod runs;
mod store;
mod wrote;
