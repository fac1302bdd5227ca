//! Virtual machines: one of its own for a thread's commands, without a network.
//!
//! [`Vm::boot`] starts one and returns the channel into it. Its system is a read-only image of
//! the host's own (an allow-listed view, built once), its repository a disk made from a clone. QEMU
//! is known here and nowhere else. What is run inside, and what is taken out, is the caller's.
//!
//! Invariants:
//! - a machine has no network device, and nothing of a home, an environment or `/var`;
//! - it ends with its [`Vm`], and with this process however that ends;
//! - nothing of it needs privileges.

mod cache;
pub mod check;
mod cpio;
mod engine;
mod erofs;
mod guest;
mod initramfs;
mod kept;
mod kernel;
mod modules;
mod program;
mod qemu;
mod repository;
mod seen;
mod system;
mod template;
mod tool;
mod trial;
mod view;
mod vm;
mod walls;

pub use kept::Kept;
pub use kernel::KernelError;
pub use program::Shown;
pub use qemu::args::Accelerator;
pub use repository::DiskError;
pub use system::ImageError;
pub use tool::ToolError;
pub use trial::Chosen;
pub use vm::{BootError, Phase, Progress, Vm, VmSpec};
pub use walls::{Enclosed, Running, Wait, Walls};
