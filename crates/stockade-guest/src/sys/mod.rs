//! System calls that have no safe wrapper. The only files of this crate with `unsafe`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod counter_unsafe;
pub(crate) mod random_unsafe;
pub(crate) mod session_unsafe;
pub(crate) mod spawn_unsafe;
