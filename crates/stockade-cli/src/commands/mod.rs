//! One module a verb, and what several share.

mod agent;
pub(crate) mod agents;
pub(crate) mod approvals;
mod asking;
pub(crate) mod attached;
mod attempts;
mod boundary;
pub(crate) mod check;
pub(crate) mod clean;
pub(crate) mod cloud;
pub(crate) mod config;
pub(crate) mod doctor;
mod events;
mod execs;
pub(crate) mod explain;
mod found;
mod held;
mod keep;
pub(crate) mod local;
mod refused;
pub(crate) mod rules;
pub(crate) mod run;
mod run_log;
mod run_vm;
pub(crate) mod threads;
pub(crate) mod undo;

pub(crate) use execs::revive;
