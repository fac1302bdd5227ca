//! Taking away what a mount of the sandbox stands on.
//!
//! A file with a read-only mount over it cannot be removed by anybody who sees that mount: the
//! kernel says `EBUSY`. From outside it can, and the mount goes with it (linux/fs/namei.c,
//! `vfs_unlink` and `detach_mounts`). PID 1 decides and asks its parent for it, which does so for
//! the protected paths of the plan only.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::control::{self, Report};
use super::mounts;
use super::plan::{Content, Plan};

/// How long the parent may take. It may be stopped, and a call waits.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The end in PID 1.
#[derive(Debug)]
pub(crate) struct Hand {
    channel: OwnedFd,
}

impl Hand {
    /// By the channel to the parent.
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self { channel }
    }

    /// Has what is at `path` removed.
    ///
    /// # Errors
    ///
    /// Those of unlinkat(2) outside, `EBUSY` when nobody does it.
    pub(crate) fn take_away(&self, path: &Path, is_folder: bool) -> io::Result<()> {
        let busy = || io::Error::from_raw_os_error(libc::EBUSY);
        let (ours, theirs) = control::pair()?;
        let report = Report::TakeAway { path: path.to_owned(), is_folder };
        report.try_send_with(&self.channel, &[theirs]).map_err(|_full| busy())?;
        let mut fds = [PollFd::new(&ours, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&PATIENCE)), Ok(1..)) {
            return Err(busy());
        }
        let (packet, _none) = control::receive(&ours)?;
        let number = packet.first_chunk::<4>().map(|bytes| i32::from_le_bytes(*bytes));
        match number.ok_or_else(busy)? {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

/// Does it, outside, and says so to `reply`.
pub(crate) fn serve(plan: &Plan, path: &Path, is_folder: bool, reply: Option<OwnedFd>) {
    let done = take_away(plan, path, is_folder);
    let number = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EBUSY));
    if let Some(reply) = reply {
        // Who waited may have lost patience.
        control::send(reply, &number.to_le_bytes(), &[]).ok();
    }
}

fn take_away(plan: &Plan, path: &Path, is_folder: bool) -> io::Result<()> {
    let refused = || io::Error::from_raw_os_error(libc::EBUSY);
    let stands =
        |content| plan.placements.iter().filter(move |placement| placement.content == content);
    let is_protected = stands(Content::Protected).any(|placement| placement.path.as_path() == path);
    // What is in an overlay is not what is at its place outside.
    let is_laid_over = plan.layers.iter().any(|layer| path.starts_with(layer.at.as_path()));
    let roots = stands(Content::Writable).map(|placement| placement.path.as_path());
    let root = roots.filter(|root| path.starts_with(root) && path != *root);
    let root = root.max_by_key(|root| root.as_os_str().len());
    let root = root.filter(|_| is_protected && !is_laid_over).ok_or_else(refused)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused());
    };
    let inner = folder.strip_prefix(root).map_err(io::Error::other)?;
    let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
    let top = mounts::open_quietly(root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let folder = rustix::fs::openat2(&top, inner, flags, Mode::empty(), resolve)?;
    let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    Ok(rustix::fs::unlinkat(&folder, name, flags)?)
}
