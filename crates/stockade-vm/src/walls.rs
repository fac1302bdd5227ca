//! Walls around QEMU itself. This crate has none of its own: who boots a machine may bring some.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Something that runs a program behind walls. The program must end when this process does.
pub trait Walls: Send + Sync + fmt::Debug {
    /// Starts it. Nothing of it has run when this fails.
    ///
    /// # Errors
    ///
    /// When a wall cannot be put up.
    fn start(&self, enclosed: Enclosed) -> io::Result<Running>;
}

/// A program that is to run behind walls.
#[derive(Debug)]
pub struct Enclosed {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub folder: PathBuf,
    /// What it reads beside the system's own files.
    pub readable: Vec<PathBuf>,
    /// The files that it writes.
    pub writable: Vec<PathBuf>,
    /// Bytes of memory that it may come to use.
    pub memory_bytes: u64,
    /// Its descriptors 0, 1 and 2.
    pub stdio: [OwnedFd; 3],
}

/// Waits until a program has ended, and tells whether it ended well.
pub type Wait = Box<dyn FnOnce() -> io::Result<bool> + Send>;

/// A program that runs behind walls.
pub struct Running {
    /// A process whose end is the program's.
    pub pidfd: OwnedFd,
    /// Waits for that.
    pub wait: Wait,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("pidfd", &self.pidfd).finish_non_exhaustive()
    }
}
