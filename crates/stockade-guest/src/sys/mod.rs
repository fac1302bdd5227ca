//! System calls that have no safe wrapper. The only files of this crate with `unsafe`.

pub(crate) mod session_unsafe;
