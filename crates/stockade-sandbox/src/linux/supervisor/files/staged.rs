//! A file whose text decides: a configuration that is written by hand (`cp -r` of a repository, an
//! editor), a `.git` file, a worktree's `gitdir`. The caller writes into a file of memory, and what
//! is in it when it is closed is judged and written.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use stockade_policy::guard::{Act, Judgement};
use stockade_policy::{Denial, Operation};

use super::config::text_of;
use super::open::How;
use super::{Done, Files, Stop, Turn, anew, error, refused};
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::place::Place;

/// How many may be open at once: each is waited for by a thread.
const MOST: usize = 8;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file of memory that stands for another until it is closed.
#[derive(Debug)]
pub(in crate::linux::supervisor) struct Staged {
    place: Place,
    mode: Mode,
    /// Whether it is itself what is put in the place.
    gets_its_name: bool,
    memory: OwnedFd,
    closed: OwnedFd,
    /// The caller's file, until the caller has it. As long as it is open here too, the caller's
    /// close is not the last one.
    file: Mutex<Option<OwnedFd>>,
    is_settled: AtomicBool,
    /// What was refused on behalf of the thread that waits, which reports it.
    refused: Mutex<Option<Box<Denial>>>,
}

/// What is open, and what was learned from what was closed.
#[derive(Debug, Default)]
pub(super) struct Staging {
    open: Mutex<Vec<Weak<Staged>>>,
    /// Where `.git` files of new worktrees are expected, and the folders that expect them.
    expected: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Staged {
    /// Gives the caller's file to `send`, which closes it here.
    pub(in crate::linux::supervisor) fn hand_over(
        &self,
        send: impl FnOnce(OwnedFd) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.gets_its_name {
            avoid_the_turn_of_a_second();
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.take().map_or(Ok(()), send)
    }

    /// Whether the caller had the file and has closed it.
    fn is_closed(&self) -> bool {
        if self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return false;
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.closed, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Settled, it counts no more.
        if !self.is_settled.load(Ordering::Relaxed) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The file that the caller writes to, and what waits for it. It is one of memory, or one without a
/// name in `folder`.
fn stage(place: Place, how: How, folder: Option<&OwnedFd>) -> Result<Done, Stop> {
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
    let mut memory = match folder {
        Some(folder) => {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::openat(folder, ".", flags, how.mode())?
        }
        None => rustix::fs::memfd_create("config", MemfdFlags::CLOEXEC)?,
    };
    let own = format!("/proc/self/fd/{}", memory.as_raw_fd());
    // Opened anew, so that the caller's last close is one.
    let file = rustix::fs::open(&own, how.of_a_copy(), Mode::empty())?;
    if folder.is_some() {
        // Whoever can write to it counts.
        memory = rustix::fs::open(&own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    }
    let closed = rustix::fs::inotify::init(CreateFlags::CLOEXEC)?;
    let staged = Staged {
        place,
        mode: how.mode(),
        gets_its_name: folder.is_some(),
        memory,
        closed,
        file: Mutex::new(Some(file)),
        is_settled: AtomicBool::new(false),
        refused: Mutex::default(),
    };
    if is_there && !how.cuts() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = &staged.place;
        let old = rustix::fs::openat(&place.folder, place.name.as_slice(), flags, Mode::empty())?;
        rustix::io::write(&staged.memory, &text_of(&old.into())?)?;
    }
    let own = format!("/proc/self/fd/{}", staged.memory.as_raw_fd());
    rustix::fs::inotify::add_watch(&staged.closed, own.as_str(), WatchFlags::CLOSE_WRITE)?;
    Ok(Done::Staged { close_on_exec: how.closes_on_exec(), staged: Arc::new(staged) })
}

/// To get a name changes `st_ctime`, of which git compares the second. What is written in the last
/// moments of one would look changed.
fn avoid_the_turn_of_a_second() {
    const SECOND: i64 = 1_000_000_000;
    const LAST: i64 = 50_000_000;
    /// The clock that the kernel takes for files is behind by as much (`CONFIG_HZ`).
    const BEHIND: i64 = 10_000_000;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let left = SECOND - now.tv_nsec;
    if !(LAST..=SECOND - BEHIND).contains(&left) {
        let left = (left + BEHIND) % SECOND;
        poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: left.min(LAST + BEHIND) })).ok();
    }
}

fn has_no_unnamed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL))
}

/// Whether `path` is a `.git`, and not a worktree's `gitdir`.
pub(super) fn is_git_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"))
}

impl Files {
    pub(super) fn stage(&self, place: Place, how: How) -> Result<Done, Stop> {
        let is_there = place.kind().is_some();
        let foreseen = self.foresee(&place.path).filter(|_| !is_there);
        let done = stage(place, how, None)?;
        if let (Done::Staged { staged, .. }, Some(text)) = (&done, foreseen) {
            self.note_git_file(&staged.place.path)?;
            self.configs.put(&staged.place, (&text, staged.mode))?;
        }
        Ok(self.remember(done))
    }

    /// The same in a file that may get its name when it is closed: git goes by what it was told of it
    /// while it was open. Where the file system has no such files, it is one of memory.
    pub(super) fn stage_version(&self, place: Place, how: How) -> Result<Done, Stop> {
        let folder = self.configs.uncovered(place.again()?)?.folder;
        let done = match stage(place.again()?, how, Some(&folder)) {
            Err(Stop::Error(error)) if has_no_unnamed(&error) => stage(place, how, None)?,
            done => done?,
        };
        Ok(self.remember(done))
    }

    fn remember(&self, done: Done) -> Done {
        if let Done::Staged { staged, .. } = &done {
            let mut open = self.staging.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|staged| staged.strong_count() > 0);
            open.push(Arc::downgrade(staged));
        }
        done
    }

    /// The text that is going to be written, where it can be told.
    fn foresee(&self, path: &Path) -> Option<Vec<u8>> {
        let expected = self.staging.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let worktree = expected.iter().rev().find(|(git_file, _)| git_file == path);
        if let Some((_, folder)) = worktree {
            let text = [b"gitdir: ", folder.as_os_str().as_bytes(), b"\n"].concat();
            if self.guard.check_lead(&self.disk, path, &text).is_ok() {
                return Some(text);
            }
        }
        self.guard.foresee_lead(&self.disk, path)
    }

    /// Whether there is anything that [`Self::settle_closed`] would write.
    pub(super) fn has_closed(&self) -> bool {
        if OPEN.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let open = self.staging.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waits =
            |staged: &Staged| !staged.is_settled.load(Ordering::Relaxed) && staged.is_closed();
        open.iter().filter_map(Weak::upgrade).any(|staged| waits(&staged))
    }

    /// Writes what was closed and waits for its thread. To be called alone.
    pub(super) fn settle_closed(&self, turn: &Turn<'_>) {
        let open = {
            let open = self.staging.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        for staged in open.iter().filter(|staged| staged.is_closed()) {
            if let Err(Stop::Denied(denial)) = self.conclude(turn, staged) {
                *staged.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial);
            }
        }
    }

    /// Waits until the caller has closed the file, and writes what is in it.
    pub(in crate::linux::supervisor) fn settle(
        &self,
        caller: &Caller<'_>,
        staged: &Staged,
    ) -> Result<(), Stop> {
        // The event stays there, so that others see it too.
        let mut fds = [PollFd::new(&staged.closed, PollFlags::IN)];
        while let Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
        let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        self.conclude(&Turn { caller, alone: true, op: Operation::Write }, staged)
    }

    fn conclude(&self, turn: &Turn<'_>, staged: &Staged) -> Result<(), Stop> {
        if staged.is_settled.swap(true, Ordering::Relaxed) {
            let mut refused = staged.refused.lock().unwrap_or_else(PoisonError::into_inner);
            return refused.take().map_or(Ok(()), |denial| Err(Stop::Denied(denial)));
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
        let memory = fs::File::from(staged.memory.try_clone()?);
        // Where the folder is by now decides, not where it was.
        let place = staged.place.again()?;
        let judgement = self.judge(turn, &place.path, &Act::Write)?;
        if let Judgement::Control(denied) = &judgement {
            if anew::is_one(&place) {
                return self.is_the_same(turn, (&place, &memory), denied);
            }
            return self.install_version(turn, &place, (&memory, staged.mode), denied);
        }
        let text = text_of(&memory)?;
        let content = (text.as_slice(), staged.mode);
        match judgement {
            Judgement::Config(_) => {
                self.note_controlled(&place.path)?;
                self.configs.write(turn, &self.disk, &place, content)
            }
            Judgement::GitFile => match self.guard.check_lead(&self.disk, &place.path, &text) {
                Ok(leads) => {
                    self.note_git_file(&place.path)?;
                    self.configs.put(&place, content)?;
                    self.expect(&place.path, leads);
                    Ok(())
                }
                Err(denied) => Err(refused(turn, &place.path, &denied)),
            },
            Judgement::Ordinary
            | Judgement::Denied(_)
            | Judgement::Control(_)
            | Judgement::Commondir
            | Judgement::Completes(_) => error(libc::EACCES),
        }
    }

    /// A worktree's `gitdir` says where its `.git` will be.
    fn expect(&self, path: &Path, leads: PathBuf) {
        /// More than anybody makes at once.
        const MOST: usize = 64;
        if let (Some("gitdir"), Some(folder)) =
            (path.file_name().and_then(|name| name.to_str()), path.parent())
        {
            let mut expected = self.staging.expected.lock().unwrap_or_else(PoisonError::into_inner);
            if expected.len() >= MOST {
                expected.remove(0);
            }
            expected.push((leads, folder.to_owned()));
        }
    }
}
