//! The boundary on Linux.

mod canary;
mod control;
mod failure;
mod forward;
mod init;
mod landlock;
mod mounts;
mod outside;
mod plan;
mod seccomp;
mod supervisor;
mod sys;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod unconfined;

pub(crate) use outside::launch;
