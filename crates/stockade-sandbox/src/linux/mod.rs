//! The boundary on Linux.

mod canary;
mod control;
mod failure;
mod forward;
mod identity;
mod init;
mod landlock;
mod mounts;
mod outside;
mod plan;
mod seccomp;
mod stdio;
mod supervisor;
mod sys;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod unconfined;

pub use identity::{Owner, become_user, owner_of};
pub(crate) use outside::launch;
