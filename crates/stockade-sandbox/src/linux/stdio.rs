//! Standard descriptors, which come in through the host's own mounts.
//!
//! What is done by way of a descriptor obeys the mount that it was opened through: a protected
//! file that is standard input could be opened again for writing, the mode of the host's
//! `/dev/null` changed, and everything below a folder reached. So what the command only reads,
//! and devices, are opened again in the view. What it was given to write stays as it is.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, SeekFrom};

use super::failure::{Failure, step};
use super::sys::exec_unsafe;

/// The user's descriptors beside those of the view.
#[derive(Debug, Default)]
pub(crate) struct Reopened(Vec<(OwnedFd, OwnedFd)>);

impl Reopened {
    /// Opens again, in the view that now stands, what must not come from outside.
    pub(crate) fn in_view() -> Result<Self, Failure> {
        let mut reopened = Self::default();
        for number in 0..3 {
            let Some(outer) = exec_unsafe::duplicate_stdio(number) else { continue };
            let Some(inner) = reopen(&outer) else { continue };
            exec_unsafe::install_stdio(inner.as_fd(), number)
                .map_err(step("open again", format!("descriptor {number}")))?;
            reopened.0.push((outer, inner));
        }
        Ok(reopened)
    }

    /// Lets the user's programs go on reading where the command stopped, as they do when they
    /// share one descriptor with it.
    pub(crate) fn give_positions_back(&self) {
        for (outer, inner) in &self.0 {
            // A device has none, which is no error.
            if let Ok(at) = rustix::fs::seek(inner, SeekFrom::Current(0)) {
                rustix::fs::seek(outer, SeekFrom::Start(at)).ok();
            }
        }
    }
}

/// `outer` by its path in the view. `None` for what stays: pipes, sockets, terminals, what was
/// given to be written, and a file that the view does not show, which Landlock keeps read-only.
fn reopen(outer: &OwnedFd) -> Option<OwnedFd> {
    let stat = rustix::fs::fstat(outer).ok()?;
    let flags = rustix::fs::fcntl_getfl(outer).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let reads_only = flags.intersection(OFlags::RWMODE) == OFlags::RDONLY;
    let is_ours = match kind {
        FileType::RegularFile | FileType::Directory => reads_only,
        FileType::CharacterDevice => !rustix::termios::isatty(outer),
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::BlockDevice
        | FileType::Unknown => false,
    };
    if !is_ours {
        return None;
    }
    let found = || -> rustix::io::Result<OwnedFd> {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(outer));
        let path = rustix::fs::readlink(link, Vec::new())?;
        let access = flags.intersection(OFlags::RWMODE);
        let how = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let inner = rustix::fs::openat2(CWD, path, how, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let seen = rustix::fs::fstat(&inner)?;
        if (seen.st_dev, seen.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(rustix::io::Errno::NOENT);
        }
        rustix::fs::fcntl_setfl(&inner, flags)?;
        if let Ok(at) = rustix::fs::seek(outer, SeekFrom::Current(0)) {
            rustix::fs::seek(&inner, SeekFrom::Start(at)).ok();
        }
        Ok(inner)
    };
    match found() {
        Ok(inner) => Some(inner),
        // Whatever is below it would be the host's own.
        Err(_) if kind == FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, Mode::empty()).ok()
        }
        Err(_) => None,
    }
}
