//! What each known agent program needs, as data.
//!
//! A recipe says how a program is recognised, which of its own folders it must be able to
//! write, which variables it needs, and which flags turn its own sandbox and questions off
//! inside this one. The data lies in `recipes/*.toml`, because it changes every month.
//!
//! Invariant: a recipe only ever opens the agent's own state; everything else it says is a
//! flag or a variable of that agent.

mod recipe;

pub use recipe::{Kind, Recipe, State, recipes, recognise};
