//! Files, flags and environment in, one [`stockade_policy::Policy`] out.
//!
//! The only crate that reads configuration and the environment, and the only one that asks
//! the disk which of the protected and hidden names are there. What it returns names existing,
//! canonical paths only; the sandbox takes them as they are.
//!
//! Invariants:
//! - a value from a project's own file never widens what the layers above it allow;
//! - a file that is wrong anywhere stops the start, with file, line and column;
//! - nothing is written.

mod diagnose;
mod env;
mod git;
mod layer;
mod load;
mod locate;
mod schema;
mod secrets;

pub use diagnose::ConfigError;
pub use env::Env;
pub use load::{EnvFlag, Loaded, Needs, Request, load};
