//! The boundary on Linux.

mod canary;
mod control;
mod doors;
mod failure;
mod forward;
mod gate;
pub(crate) mod handover;
mod identity;
mod init;
mod landlock;
mod layers;
pub(crate) mod leash;
mod masks;
mod mounts;
mod names;
mod outside;
mod plan;
mod probe;
mod routes;
mod seccomp;
mod seccomp_alone;
mod second;
mod stdio;
mod stubs;
mod supervisor;
mod sys;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod unconfined;
mod usage;

pub use doors::{Answer, Doors, Knock, SocketMaker};
pub use identity::{Owner, become_user, owner_of};
pub(crate) use outside::launch;
pub(crate) use plan::needs_way_out;
pub use probe::{Probe, probe};
pub(crate) use sys::exec_unsafe::{duplicate_stdio, install_stdio};
pub(crate) use sys::signal_unsafe::{SignalSet, block, ignored, next_signal, signalfd};
