//! Opening for writing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use stockade_policy::Denial;
use stockade_policy::guard::{Act, COMMONDIR, Judgement, Tree as _};

use super::wish::Given;
use super::{Done, Files, Stop, Turn, anew, denial, error};
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::place::{self, Found, Place};

/// What is asked of an open.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    flags: OFlags,
    mode: Mode,
}

impl How {
    pub(super) fn new(flags: OFlags, mode: u32) -> Self {
        Self { flags, mode: Mode::from_raw_mode(mode & 0o7777) }
    }

    /// The flags with which this process opens: it must neither wait nor take a terminal.
    fn own(self) -> OFlags {
        self.flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
    }

    pub(super) fn with(self, flags: OFlags) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    pub(super) fn writes(self) -> bool {
        self.flags.intersects(WRITES)
    }

    /// Whether the content goes, and nothing can be written in its place.
    pub(super) fn only_cuts(self) -> bool {
        self.cuts() && self.flags & OFlags::RWMODE == OFlags::RDONLY
    }

    pub(super) fn without(self, flags: OFlags) -> Self {
        Self { flags: self.flags.difference(flags), ..self }
    }

    pub(super) fn mode(self) -> Mode {
        self.mode
    }

    pub(super) fn is_exclusive(self) -> bool {
        self.flags.contains(OFlags::CREATE | OFlags::EXCL)
    }

    pub(super) fn creates(self) -> bool {
        self.flags.contains(OFlags::CREATE)
    }

    pub(super) fn cuts(self) -> bool {
        self.flags.contains(OFlags::TRUNC)
    }

    pub(super) fn closes_on_exec(self) -> bool {
        self.flags.contains(OFlags::CLOEXEC)
    }

    /// The flags for a file of memory that stands for the one asked for.
    pub(super) fn of_a_copy(self) -> OFlags {
        (self.flags & (OFlags::RWMODE | OFlags::APPEND)) | OFlags::CLOEXEC
    }

    /// The flags for a pseudo-terminal, which is there already.
    pub(super) fn of_a_terminal(self) -> OFlags {
        self.without(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::TRUNC).own()
    }

    pub(super) fn done(self, file: OwnedFd) -> Result<Done, Stop> {
        if !self.flags.contains(OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&file, self.flags)?;
        }
        Ok(Done::File { file, close_on_exec: self.flags.contains(OFlags::CLOEXEC) })
    }
}

/// The flags of whoever means to change a file.
const WRITES: OFlags = OFlags::WRONLY.union(OFlags::RDWR).union(OFlags::TRUNC);

/// Whether `path` is where a process says when it is to be ended for want of memory
/// (`proc_pid_oom_score_adj(5)`). What is inside is marked to come first, and stays so.
fn is_mark(path: &Path) -> bool {
    let is_name = |name: &OsStr| name == "oom_score_adj" || name == "oom_adj";
    path.starts_with("/proc") && path.file_name().is_some_and(is_name)
}

/// Programs that mark their own processes (Chromium) take a failure for one of the machine: what they
/// write is dropped.
fn open_nothing(how: How) -> Result<Done, Stop> {
    let flags = how.without(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::DIRECTORY);
    how.done(rustix::fs::open("/dev/null", flags.own(), Mode::empty())?)
}

/// What became of one name on the way.
pub(super) enum Opened {
    Done(Done),
    /// Its text decides.
    Staged,
    /// What it was before the run decides.
    Version,
    /// It is a link to be followed.
    Link,
}

/// A FIFO that is opened and has nobody at its other end yet: a reference for who means to write,
/// the file itself for who means to read.
#[derive(Debug)]
pub(in crate::linux::supervisor) struct Waiting {
    fifo: OwnedFd,
    how: How,
}

impl Files {
    pub(super) fn open(&self, turn: &Turn<'_>, at: &Given, how: How) -> Result<Done, Stop> {
        if how.flags.contains(OFlags::TMPFILE) {
            // Without a name there is nothing to judge; the name comes by a link.
            let folder = place::walk(turn.caller, at.folder, &at.path)?;
            let file = rustix::fs::openat(&folder, ".", how.own(), how.mode)?;
            return how.done(file);
        }
        let mut place = Place::of(turn.caller, at.folder, &at.path)?;
        let mut links = 0;
        loop {
            if place.path == Path::new("/dev/tty") {
                return self.open_callers_terminal(turn.caller, how);
            }
            if how.writes() && is_mark(&place.path) {
                return open_nothing(how);
            }
            if let Some(opened) = self.open_terminal(&place.path, how) {
                return opened;
            }
            match self.open_judged(turn, &place, how)? {
                Opened::Done(done) => return self.without_terminals(done),
                Opened::Staged => return self.stage(place, how),
                Opened::Version => return self.stage_version(place, how),
                Opened::Link => {}
            }
            place = match place.follow(turn.caller, &mut links)? {
                Found::Place(place) => place,
                Found::Object(object, name) => {
                    return self.open_object(turn, object, &name, how);
                }
            };
        }
    }

    /// Opens what has the name; `None` when that is a link to be followed.
    fn open_judged(&self, turn: &Turn<'_>, place: &Place, how: How) -> Result<Opened, Stop> {
        let mut how = how;
        match self.judge(turn, &place.path, &Act::Write) {
            Ok(Judgement::Ordinary | Judgement::Denied(_)) => {}
            Ok(Judgement::Control(_)) if anew::is_written(place, how) => return Ok(Opened::Staged),
            Ok(Judgement::Control(denied)) => {
                // As git makes a file that it checks out, after it has removed the one before.
                let is_made = how.writes() && how.is_exclusive() && place.kind().is_none();
                if is_made && self.has_versions(&place.path) {
                    return Ok(Opened::Version);
                }
                self.note_refused(&place.path);
                return open_refused(place, how, Box::new(denial(turn, &place.path, &denied)));
            }
            Ok(Judgement::Completes(folder)) => self.completes(folder)?,
            Ok(Judgement::Commondir) => {
                self.note_controlled(&place.path)?;
                return self.make_commondir(place, how).map(Opened::Done);
            }
            Ok(Judgement::Config(_) | Judgement::GitFile) if !how.flags.intersects(WRITES) => {
                how = how.without(OFlags::CREATE | OFlags::EXCL);
            }
            Ok(Judgement::GitFile) => return Ok(Opened::Staged),
            Ok(Judgement::Config(path)) => {
                // A repository of the user's is configured by git itself, which can be told no.
                let is_new = path.parent().is_some_and(|folder| self.disk.is_new(folder));
                if !is_new {
                    self.permit(turn, &place.path, &Act::Write)?;
                }
                return Ok(Opened::Staged);
            }
            Err(Stop::Denied(denial)) => return open_refused(place, how, denial),
            Err(stop) => return Err(stop),
        }
        self.open_kept(turn, place, how)
    }

    /// Opens anew what a descriptor of the caller's leads to.
    fn open_object(
        &self,
        turn: &Turn<'_>,
        object: OwnedFd,
        name: &Path,
        how: How,
    ) -> Result<Done, Stop> {
        if name.is_absolute() {
            self.permit(turn, name, &Act::Write)?;
        }
        let how = how.without(OFlags::NOFOLLOW);
        if how.writes() && is_mark(name) {
            return open_nothing(how);
        }
        if let Some(opened) = self.open_terminal_again(&object, how) {
            return opened;
        }
        if how.flags.intersects(WRITES) {
            self.not_installed(&object)?;
            self.not_shared(turn, &object, name)?;
            self.touches(&object, name, true);
        }
        match rustix::fs::open(own_link(&object), how.own(), how.mode) {
            Err(rustix::io::Errno::NXIO) if waits(&object, how) => {
                Ok(Done::Waits(Waiting { fifo: object, how }))
            }
            opened => how.done(opened?),
        }
    }

    /// `/dev/tty` is the terminal of whoever opens it.
    fn open_callers_terminal(&self, caller: &Caller<'_>, how: How) -> Result<Done, Stop> {
        let number = caller.terminal()?;
        let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
        // Pseudo-terminals have the majors 136 to 143 (Documentation/admin-guide/devices.txt).
        let Some(block) = major.checked_sub(136).filter(|block| *block < 8) else {
            return error(libc::ENXIO);
        };
        let path = format!("/dev/pts/{}", block * 256 + minor);
        if let Some(opened) = self.open_terminal(Path::new(&path), how) {
            return opened;
        }
        how.done(rustix::fs::open(path, how.of_a_terminal(), how.mode)?)
    }

    /// A worktree's `commondir`, with the only text that it may have.
    fn make_commondir(&self, place: &Place, how: How) -> Result<Done, Stop> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let name = place.name.as_slice();
        let make = || rustix::fs::openat(&place.folder, name, flags, how.mode);
        rustix::io::write(self.bear(place, make)?, COMMONDIR)?;
        // What the caller writes is what stands there already, or must not stand there.
        let sink = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Done::File { file: sink, close_on_exec: how.flags.contains(OFlags::CLOEXEC) })
    }
}

/// Opens `object` anew, which means nothing to write.
pub(super) fn open_to_read(object: &OwnedFd, how: How) -> Result<Done, Stop> {
    // A reference cannot be handed over; whoever may have one may read, in a folder of their own.
    let how = how.without(OFlags::NOFOLLOW | OFlags::PATH);
    let file = rustix::fs::open(own_link(object), how.own(), Mode::empty())?;
    if waits(&file, how) {
        return Ok(Done::Waits(Waiting { fifo: file, how }));
    }
    how.done(file)
}

/// Who would not write it if it is there may read it.
fn open_refused(place: &Place, how: How, denial: Box<Denial>) -> Result<Opened, Stop> {
    if how.flags.intersects(WRITES) {
        return Err(Stop::Denied(denial));
    }
    match open_name(place, how.without(OFlags::CREATE | OFlags::EXCL)) {
        Err(Stop::Error(error)) if error.raw_os_error() == Some(libc::ENOENT) => {
            Err(Stop::Denied(denial))
        }
        opened => opened,
    }
}

fn own_link(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

pub(super) fn open_name(place: &Place, how: How) -> Result<Opened, Stop> {
    let flags = how.own() | OFlags::NOFOLLOW;
    let is_exclusive = how.flags.contains(OFlags::CREATE | OFlags::EXCL);
    match rustix::fs::openat(&place.folder, place.name.as_slice(), flags, how.mode) {
        Ok(file) => how.done(file).map(Opened::Done),
        Err(rustix::io::Errno::LOOP) if !how.flags.contains(OFlags::NOFOLLOW) && !is_exclusive => {
            Ok(Opened::Link)
        }
        Err(rustix::io::Errno::NXIO) => {
            let fifo = place.reference()?;
            if waits(&fifo, how) {
                return Ok(Opened::Done(Done::Waits(Waiting { fifo, how })));
            }
            error(libc::ENXIO)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the caller would wait for a reader.
fn waits(object: &OwnedFd, how: How) -> bool {
    let is_fifo = rustix::fs::fstat(object)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    is_fifo && !how.flags.contains(OFlags::NONBLOCK)
}

impl Waiting {
    /// Waits until there is somebody, a signal for the caller, or no caller any more.
    pub(in crate::linux::supervisor) fn wait(self, caller: &Caller<'_>) -> Result<Done, Stop> {
        /// linux/errno.h: the call is made again after the signal, or fails with `EINTR`.
        const RESTART: i32 = 512;
        let mut pause = Timespec { tv_sec: 0, tv_nsec: 500_000 };
        loop {
            if self.how.writes() {
                let how = self.how.without(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW);
                match rustix::fs::open(own_link(&self.fifo), how.own(), Mode::empty()) {
                    Err(rustix::io::Errno::NXIO) => {}
                    opened => return self.how.done(opened?),
                }
                // Nothing tells of a reader that waits for a writer; it does not mind a moment.
                let mut nothing: [PollFd<'_>; 0] = [];
                poll(&mut nothing, Some(&pause)).ok();
            } else {
                // Of a writer tells what it writes, and that it is gone.
                let mut fifo = [PollFd::new(&self.fifo, PollFlags::IN)];
                if poll(&mut fifo, Some(&pause)).is_ok_and(|ready| ready > 0) {
                    return self.how.done(self.fifo);
                }
            }
            pause.tv_nsec = (pause.tv_nsec * 2).min(20_000_000);
            caller.confirm()?;
            if caller.status()?.has_signal() {
                return Err(io::Error::from_raw_os_error(RESTART).into());
            }
        }
    }
}
