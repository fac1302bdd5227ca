//! System calls that have no safe wrapper. The only files of the workspace with `unsafe`.
//!
//! Each function here is safe to call: whatever makes the call sound is checked or owned
//! inside it. Nothing here decides anything.

pub(crate) mod credentials_unsafe;
pub(crate) mod exec_unsafe;
pub(crate) mod ipc_unsafe;
pub(crate) mod landlock_unsafe;
pub(crate) mod lease_unsafe;
pub(crate) mod looks_unsafe;
pub(crate) mod memory_unsafe;
pub(crate) mod mount_unsafe;
pub(crate) mod pages_unsafe;
pub(crate) mod priority_unsafe;
pub(crate) mod process_unsafe;
pub(crate) mod seccomp_unsafe;
pub(crate) mod signal_unsafe;
pub(crate) mod socket_unsafe;
#[cfg(target_arch = "x86_64")]
pub(crate) mod trace_unsafe;
