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

/// Files that the command only reads, opened while this is still the host's tree: the view may show
/// something else by their paths (`/tmp`, what is hidden, a cache's own layer).
///
/// The mounts that they are opened through are covered later, and read-only like the rest: Landlock
/// holds what is written, and neither mode, owner, times nor attributes.
#[derive(Debug, Default)]
pub(crate) struct Given([Option<OwnedFd>; 3]);

impl Given {
    /// To be called in a mount namespace of its own, before anything is mounted.
    pub(crate) fn before_view() -> Self {
        let open = |number| {
            let outer = exec_unsafe::duplicate_stdio(number)?;
            let is_file = matches!(kind(&outer)?, (FileType::RegularFile, OFlags::RDONLY));
            is_file.then(|| open_again(&outer).ok()).flatten()
        };
        Self([0, 1, 2].map(open))
    }
}

/// The user's descriptors beside those of the view.
#[derive(Debug, Default)]
pub(crate) struct Reopened(Vec<(OwnedFd, OwnedFd)>);

impl Reopened {
    /// Opens again, in the view that now stands, what must not come from outside.
    pub(crate) fn in_view(Given(given): Given) -> Result<Self, Failure> {
        let mut reopened = Self::default();
        for (number, given) in (0..).zip(given) {
            let Some(outer) = exec_unsafe::duplicate_stdio(number) else { continue };
            let Some(inner) = reopen(&outer, given) else { continue };
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

/// What `outer` is, and for what it is open.
fn kind(outer: &OwnedFd) -> Option<(FileType, OFlags)> {
    let stat = rustix::fs::fstat(outer).ok()?;
    let flags = rustix::fs::fcntl_getfl(outer).ok()?;
    Some((FileType::from_raw_mode(stat.st_mode), flags.intersection(OFlags::RWMODE)))
}

/// `outer` by its path in the view, or `given`. `None` for what stays: pipes, sockets, terminals, what
/// was given to be written, and a file that has no path here.
fn reopen(outer: &OwnedFd, given: Option<OwnedFd>) -> Option<OwnedFd> {
    let (kind, access) = kind(outer)?;
    let is_ours = match kind {
        FileType::RegularFile | FileType::Directory => access == OFlags::RDONLY,
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
    match open_again(outer) {
        Ok(inner) => Some(inner),
        // Whatever is below it would be the host's own.
        Err(_) if kind == FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, Mode::empty()).ok()
        }
        Err(_) => given,
    }
}

/// What `outer` leads to, by the path that it has now.
fn open_again(outer: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(outer)?;
    let flags = rustix::fs::fcntl_getfl(outer)?;
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
}
