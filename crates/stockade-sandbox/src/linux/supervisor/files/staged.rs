//! A configuration that is written by hand (`cp -r` of a repository, an editor): the caller writes
//! into a file of memory, and what is in it when it is closed is judged and written.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::inotify::{CreateFlags, WatchFlags};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use stockade_policy::Operation;
use stockade_policy::guard::{Act, Judgement};

use super::config::text_of;
use super::open::How;
use super::{Done, Files, Stop, Turn, error};
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::place::Place;

/// How many may be open at once: each is waited for by a thread.
const MOST: usize = 8;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file of memory that stands for a configuration until it is closed.
#[derive(Debug)]
pub(in crate::linux::supervisor) struct Staged {
    place: Place,
    mode: Mode,
    memory: OwnedFd,
    closed: OwnedFd,
}

impl Drop for Staged {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The file that the caller writes to, and what waits for it.
pub(super) fn stage(place: Place, how: How) -> Result<Done, Stop> {
    let is_there = place.kind().is_some();
    if is_there && how.is_exclusive() {
        return error(libc::EEXIST);
    }
    if !is_there && !how.creates() {
        return error(libc::ENOENT);
    }
    if OPEN.fetch_add(1, Ordering::Relaxed) >= MOST {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return error(libc::EMFILE);
    }
    let memory = rustix::fs::memfd_create("config", MemfdFlags::CLOEXEC)?;
    let closed = rustix::fs::inotify::init(CreateFlags::CLOEXEC)?;
    let staged = Staged { place, mode: how.mode(), memory, closed };
    if is_there && !how.cuts() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = &staged.place;
        let old = rustix::fs::openat(&place.folder, place.name.as_slice(), flags, Mode::empty())?;
        rustix::io::write(&staged.memory, &text_of(&old.into())?)?;
    }
    // Opened anew, so that the caller's last close is one.
    let own = format!("/proc/self/fd/{}", staged.memory.as_raw_fd());
    rustix::fs::inotify::add_watch(&staged.closed, own.as_str(), WatchFlags::CLOSE_WRITE)?;
    let file = rustix::fs::open(own, how.of_a_copy(), Mode::empty())?;
    Ok(Done::Staged { file, close_on_exec: how.closes_on_exec(), staged: Box::new(staged) })
}

impl Files {
    /// Waits until the caller has closed the file, and writes what is in it.
    pub(in crate::linux::supervisor) fn settle(
        &self,
        caller: &Caller<'_>,
        staged: &Staged,
    ) -> Result<(), Stop> {
        let mut event = [0; 64];
        while let Err(rustix::io::Errno::INTR) = rustix::io::read(&staged.closed, &mut event) {}
        let memory = staged.memory.try_clone()?;
        let text = text_of(&memory.into())?;
        let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let turn = Turn { caller, alone: true, op: Operation::Write };
        // Where the folder is by now decides, not where it was.
        let place = staged.place.again()?;
        if let Judgement::Config(_) = self.judge(&turn, &place.path, &Act::Write)? {
            return self.configs.write(&turn, &self.disk, &place, (&text, staged.mode));
        }
        error(libc::EACCES)
    }
}
