//! From text to the commands that it would start.

mod script;

pub use script::{Assignment, Command, Script, Standing, Step, Word};
