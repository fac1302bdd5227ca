//! Files that somebody outside may hold: by a further name, or at the other end of a pipe.
//!
//! A FIFO that was there before has a reader that was not started here: what is written to it is a
//! message to a program outside, as to a named socket. Those that the run makes are its own.
//!
//! A package manager gives a project the files of its store by further names (pnpm, uv), and `git
//! clone` those of another repository. Whoever writes such a file in place writes it everywhere,
//! and no wall of paths sees it: so the name gets a file of its own before it is opened for
//! writing. What the run made, and what it gave further names itself, stays one file.
//!
//! Mode, owner, times and attributes of such a file are shared as they are (see the threat model).

use std::collections::HashSet;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags};
use stockade_policy::Denial;

use super::{Files, Stop, Turn};
use crate::keep::{copy_all, copy_attributes, copy_mode_and_times};
use crate::linux::supervisor::place::Place;

/// Device and number of a file.
type Id = (u32, u32, u64);

/// Which files of before the run have names of the run's own alone. Whoever holds it is the only
/// one that gives a name another file: two at once would lose what one of them wrote.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<HashSet<Id>>);

impl Files {
    /// Gives the name of `place` a file of its own, if what has it may have a name outside too.
    pub(super) fn part(
        &self,
        turn: &Turn<'_>,
        place: &Place,
        with_content: bool,
    ) -> Result<(), Stop> {
        if !self.is_in_root(&place.path) {
            return Ok(());
        }
        let Ok(stat) = statx(&place.folder, &place.name) else { return Ok(()) };
        if self.is_pipe_of_before(&stat) {
            return Err(pipe_refused(turn, &place.path));
        }
        if !self.is_shared(&stat) {
            return Ok(());
        }
        let look = || statx(&place.folder, &place.name).ok().filter(|it| self.is_shared(it));
        let own = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stat) = look().filter(|stat| !own.contains(&id_of(stat))) else { return Ok(()) };
        let object = place.reference()?;
        let link = format!("/proc/self/fd/{}", object.as_raw_fd());
        // Who may not write it is told so by the open.
        let may_write = rustix::fs::accessat(CWD, &link, Access::WRITE_OK, AtFlags::EACCESS);
        if may_write.is_err() || statx_of(&object).is_ok_and(|it| id_of(&it) != id_of(&stat)) {
            return Ok(());
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fresh = rustix::fs::openat(&place.folder, ".", flags, Mode::from_raw_mode(0o600))?;
        if with_content {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let from = rustix::fs::open(&link, flags, Mode::empty())?;
            copy_all(&from, &fresh)?;
            copy_attributes(&from, &fresh);
        }
        copy_mode_and_times(&rustix::fs::fstat(&object)?, &fresh)?;
        self.put_in_place(place, &fresh, stat.stx_ino)
    }

    /// Gives `fresh` the name of `place`, by a name of its own beside it.
    fn put_in_place(&self, place: &Place, fresh: &OwnedFd, number: u64) -> Result<(), Stop> {
        let name = format!(".stockade-{number:x}").into_bytes();
        let beside = place.path.with_file_name(format!(".stockade-{number:x}"));
        let beside = Place { folder: place.folder.try_clone()?, name, path: beside };
        let link = format!("/proc/self/fd/{}", fresh.as_raw_fd());
        let name = beside.name.as_slice();
        let follow = AtFlags::SYMLINK_FOLLOW;
        self.bear(&beside, || rustix::fs::linkat(CWD, link, &beside.folder, name, follow))?;
        let renamed = self.renamed(&beside, place, rustix::fs::RenameFlags::empty());
        if renamed.is_err() {
            rustix::fs::unlinkat(&beside.folder, name, AtFlags::empty()).ok();
        }
        renamed
    }

    /// A file that is opened anew by a descriptor has no name that could get another.
    pub(super) fn not_shared(
        &self,
        turn: &Turn<'_>,
        object: &OwnedFd,
        name: &Path,
    ) -> Result<(), Stop> {
        let Ok(stat) = statx_of(object) else { return Ok(()) };
        if !self.is_in_root(name) {
            return Ok(());
        }
        if self.is_pipe_of_before(&stat) {
            return Err(pipe_refused(turn, name));
        }
        let own = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_shared(&stat) || own.contains(&id_of(&stat)) {
            return Ok(());
        }
        let decided_by = "a file with further names, which may lie outside".to_owned();
        let alternatives = vec!["open it by its name: it gets a file of its own then".to_owned()];
        let (op, target) = (turn.op, name.to_owned());
        Err(Stop::Denied(Box::new(Denial { op, target, decided_by, alternatives })))
    }

    /// `object` gets a further name from the run by `link`: if it had one alone, the run knows all.
    pub(super) fn sharing<T>(
        &self,
        object: &OwnedFd,
        link: impl FnOnce() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let alone = statx_of(object).ok().filter(|stat| stat.stx_nlink == 1);
        let Some(alone) = alone.filter(|stat| !self.disk.has_made(stat)) else { return link() };
        let mut own = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = link()?;
        own.insert(id_of(&alone));
        Ok(linked)
    }

    fn is_shared(&self, stat: &Statx) -> bool {
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        kind == FileType::RegularFile && stat.stx_nlink > 1 && !self.disk.has_made(stat)
    }

    fn is_pipe_of_before(&self, stat: &Statx) -> bool {
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        kind == FileType::Fifo && !self.disk.has_made(stat)
    }

    fn is_in_root(&self, path: &Path) -> bool {
        self.guard.roots().iter().any(|root| path.starts_with(root.as_path()))
    }
}

fn pipe_refused(turn: &Turn<'_>, path: &Path) -> Stop {
    let decided_by = "a FIFO that was there before: its reader may be outside".to_owned();
    let alternatives = vec!["a FIFO that is made here".to_owned()];
    let (op, target) = (turn.op, path.to_owned());
    Stop::Denied(Box::new(Denial { op, target, decided_by, alternatives }))
}

fn statx(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, mask)
}

fn statx_of(object: &OwnedFd) -> rustix::io::Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(object, "", AtFlags::EMPTY_PATH, mask)
}

fn id_of(stat: &Statx) -> Id {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}
