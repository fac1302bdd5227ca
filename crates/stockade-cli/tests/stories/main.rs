//! The product's stories, from the command line to the files, with a scripted model over HTTP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod again;
mod agents;
mod approvals;
mod containers;
mod contract;
mod debugging;
mod disk;
mod ends;
mod hostile;
mod instructions;
mod machine;
mod machine_terminal;
mod own_files;
mod place;
mod questions;
mod refactoring;
mod retention;
mod rules;
mod setup;
mod talking;
mod tmux;
mod transcript;
mod typing;
mod unwell;
