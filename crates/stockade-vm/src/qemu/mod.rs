//! QEMU: the only part of the product that knows it.

pub(crate) mod args;
pub(crate) mod monitor;
pub(crate) mod process;
