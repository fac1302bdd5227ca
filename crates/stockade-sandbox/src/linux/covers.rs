//! Files of ours in the private tmpfs, and over those of the host.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::failure::{Failure, step};
use super::mounts::{attach_on, close, subtree};

/// `folder`, for [`make`] where there is no scratch.
pub(super) fn place(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

/// Makes `name` in `scratch`, the private tmpfs, with these bits of permission.
pub(super) fn make(scratch: &OwnedFd, name: &str, (mode, content): (u32, &[u8])) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let file = rustix::fs::openat(scratch, name, flags, mode)?;
    // Made under the user's umask.
    rustix::fs::fchmod(&file, mode)?;
    File::from(file).write_all(content)
}

/// Puts what was made as `name` over `target`, which is at `path`. Nobody writes to it there.
pub(super) fn lay(
    scratch: &OwnedFd,
    name: &str,
    (target, path): (&OwnedFd, &Path),
) -> Result<(), Failure> {
    let tree = subtree(scratch, name)?;
    close(&tree, path)?;
    attach_on(&tree, target).map_err(step("mount over", path))
}
