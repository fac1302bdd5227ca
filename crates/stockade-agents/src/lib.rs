//! Who drives a thread: the built-in agent, and what each known agent program needs, as data.
//!
//! The built-in agent is a loop around a model ([`Builtin`]). It gets its hands from outside
//! ([`Hands`]), where each call is judged before it is carried out. From outside it is blocking;
//! the asynchronous runtime and the client of the model stop at this crate.
//!
//! A recipe says how a program is recognised, which of its own folders it must be able to
//! write, which variables it needs, and which flags turn its own sandbox and questions off
//! inside this one. The data lies in `recipes/*.toml`, because it changes every month.
//!
//! Invariants:
//! - the loop opens no file and starts no program;
//! - a call is carried out only when the answer that holds it is whole;
//! - a recipe only ever opens the agent's own state; everything else it says is a flag or a
//!   variable of that agent.

mod builtin;
mod conversation;
mod driver;
mod event;
mod hands;
mod model;
pub mod programs;
mod recipe;
mod rest;
mod tools;

pub use builtin::Builtin;
pub use conversation::Conversation;
pub use driver::{AgentError, Finished, Stop, Task};
pub use event::AgentEvent;
pub use hands::{
    Entry, EntryKind, Exit, Hands, HandsError, Match, Search, ShellCall, ShellOutcome,
};
pub use model::{Api, KeyError, Model, ModelError, Patience, Secret};
pub use recipe::{
    Dialect, INTERPRETERS, InMachine, Kind, Meant, Recipe, RecipeError, Recipes, State,
};
pub use rest::{Reply, Rest, RestError};
