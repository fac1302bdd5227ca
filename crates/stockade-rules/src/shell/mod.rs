//! From text to the commands that it would start.

mod arithmetic;
mod compound;
mod effect;
mod lex;
mod parse;
mod redirect;
mod script;
mod simple;
mod unwrap;
mod variables;
mod word;
mod wrapper;

pub use script::{Assignment, Command, Script, Standing, Step, Word};
pub(crate) use variables::are_harmless;
