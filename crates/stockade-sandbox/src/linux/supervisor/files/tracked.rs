//! Control names between versions that their repository held before the run: git switches branches.
//!
//! A file of such a name is removed when its content is that of a commit which was there before, and
//! another one has something else at this path; so nothing of the user's is lost. It is made when a
//! commit that was there before has this very content there, as a whole and only where nothing is.
//! Whoever asks, git or not, gets no more than that.
//!
//! What is made is written to a file without a name, which gets its name when nobody can write to it:
//! git goes by what `fstat` told of it. Nobody opens it for writing by another way from then on.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use stockade_policy::guard::{Act, Denied, Kind, Tree as _, lead};

use super::{Done, Files, Stop, Turn, error, refused};
use crate::linux::supervisor::place::Place;
use crate::linux::sys::lease_unsafe::Lease;
use crate::objects::{self, CONTENT_MAX, Entry, Format, Id, Mark, Past, Seen};

/// The files that got a control name, each by device, number and birth.
pub(super) type Installed = Mutex<HashSet<Birth>>;

/// What was seen at paths of repositories, by their common part and the path in the work tree.
pub(super) type Versions = Mutex<HashMap<(u64, u64, PathBuf), Known>>;

/// What was seen at one path.
#[derive(Debug, Default)]
pub(super) struct Known {
    format: Format,
    seen: Vec<Seen>,
    /// From where everything was looked at: to look again from there shows nothing new.
    from: Option<Mark>,
}

/// As many paths as are remembered.
const KNOWN_MAX: usize = 1 << 10;

type Birth = (u32, u32, u64, i64, u32);

const EXECUTE: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

impl Files {
    /// Whether the act on a control name, which stands where it does, only takes it from one version
    /// to another.
    pub(super) fn is_of_the_past(&self, path: &Path, act: &Act<'_>) -> bool {
        match (act, self.disk.kind(path)) {
            (Act::MakeFolder, _) | (Act::Remove, Some(Kind::Folder)) => {
                self.any_version(path, Entry::is_folder)
            }
            (Act::Remove, Some(Kind::File)) => self.may_be_lost(path),
            _ => false,
        }
    }

    /// Whether the repository had a file there.
    pub(super) fn has_versions(&self, path: &Path) -> bool {
        self.any_version(path, Entry::is_file)
    }

    /// A control name that is refused after all.
    pub(super) fn control_refused(&self, turn: &Turn<'_>, path: &Path, denied: &Denied) -> Stop {
        self.note_refused(path);
        refused(turn, path, denied)
    }

    pub(super) fn remove_of_the_past(
        &self,
        turn: &Turn<'_>,
        place: Place,
        flags: AtFlags,
    ) -> Result<Done, Stop> {
        self.permit(turn, &place.path, &Act::Remove)?;
        let place = self.configs.uncovered(place)?;
        self.lose(&place, || {
            match rustix::fs::unlinkat(&place.folder, place.name.as_slice(), flags) {
                // A mount stands on it, which only who is outside can take along.
                Err(rustix::io::Errno::BUSY) => {
                    let Some(hand) = &self.hand else { return error(libc::EBUSY) };
                    Ok(hand.take_away(&place.path, flags.contains(AtFlags::REMOVEDIR))?)
                }
                done => Ok(done?),
            }
        })?;
        Ok(Done::NOTHING)
    }

    pub(super) fn make_folder_of_the_past(
        &self,
        turn: &Turn<'_>,
        place: Place,
        mode: u32,
    ) -> Result<Done, Stop> {
        if place.kind().is_some() {
            return error(libc::EEXIST);
        }
        self.permit(turn, &place.path, &Act::MakeFolder)?;
        let place = self.configs.uncovered(place)?;
        let (name, mode) = (place.name.as_slice(), Mode::from_raw_mode(mode & 0o7777));
        self.bear(&place, || rustix::fs::mkdirat(&place.folder, name, mode))?;
        Ok(Done::NOTHING)
    }

    /// Puts what was written in its place, if it is a version that was there before.
    pub(super) fn install_version(
        &self,
        turn: &Turn<'_>,
        place: &Place,
        (memory, mode): (&fs::File, Mode),
        denied: &Denied,
    ) -> Result<(), Stop> {
        let refused = || self.control_refused(turn, &place.path, denied);
        // With it nobody can write to the file, and nobody begins to: every such call waits for
        // this one. A file of memory, or one that somebody still holds, is copied.
        let lease = Lease::take(memory.as_fd()).ok();
        let content = content_of(memory).ok_or_else(refused)?;
        let stat = rustix::fs::fstat(memory)?;
        let mode = mode | (Mode::from_raw_mode(stat.st_mode) & EXECUTE);
        let is_program = mode.intersects(EXECUTE);
        let mut is_version = false;
        self.versions(&place.path, |format, seen| {
            let id = blob(format, &content);
            is_version = seen.is_some_and(|entry| {
                entry.is_file() && entry.id == id && (entry.is_program() || !is_program)
            });
            if is_version { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if !is_version {
            return Err(refused());
        }
        let uncovered = self.configs.uncovered(place.again()?)?;
        let dev = rustix::fs::fstat(&uncovered.folder)?.st_dev;
        match lease.filter(|_| stat.st_nlink == 0 && stat.st_dev == dev) {
            Some(_held) => self.link_whole(&uncovered, memory),
            None => self.link_copy(&uncovered, (&content, mode)),
        }
    }

    /// Gives the name to a copy.
    fn link_copy(&self, place: &Place, (content, mode): (&[u8], Mode)) -> Result<(), Stop> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file: fs::File = match rustix::fs::openat(&place.folder, ".", flags, mode) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let name = place.name.as_slice();
                let make = || rustix::fs::openat(&place.folder, name, flags, mode);
                return Ok(fs::File::from(self.bear(place, make)?).write_all(content)?);
            }
            file => file?.into(),
        };
        file.write_all(content)?;
        self.link_whole(place, &file)
    }

    /// Gives the name to a file that is finished.
    fn link_whole(&self, place: &Place, file: &fs::File) -> Result<(), Stop> {
        if let Some(birth) = birth(file.as_fd()) {
            let mut installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
            installed.insert(birth);
        }
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = place.name.as_slice();
        self.bear(place, || {
            rustix::fs::linkat(CWD, own, &place.folder, name, AtFlags::SYMLINK_FOLLOW)
        })
    }

    /// Refuses what would be written by another way than its name.
    pub(super) fn not_installed(&self, object: &OwnedFd) -> Result<(), Stop> {
        let installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_installed = || birth(object.as_fd()).is_some_and(|birth| installed.contains(&birth));
        if !installed.is_empty() && is_installed() { error(libc::EACCES) } else { Ok(()) }
    }

    /// Whether what stands there is a version, and not the only one.
    fn may_be_lost(&self, path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map(fs::File::from);
        let Some(content) = file.ok().and_then(|file| content_of(&file)) else { return false };
        let (mut is_version, mut has_other) = (false, false);
        self.versions(path, |format, seen| {
            let same =
                seen.is_some_and(|entry| entry.is_file() && entry.id == blob(format, &content));
            is_version |= same;
            has_other |= !same;
            if is_version && has_other { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        is_version && has_other
    }

    fn any_version(&self, path: &Path, is_it: impl Fn(&Entry) -> bool) -> bool {
        let mut found = false;
        self.versions(path, |_, seen| {
            found = seen.as_ref().is_some_and(&is_it);
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Shows what commits of before have at `path`, each different thing once. What was seen is
    /// remembered: the last question of a checkout has its answer within a moment, and git, which
    /// goes by the time of the last change in whole seconds, seldom sees another than it was told.
    fn versions(&self, path: &Path, mut look: impl FnMut(Format, Seen) -> ControlFlow<()>) {
        let Some((top, own, common)) = self.repository_of(path) else { return };
        let (Ok(inner), Ok(stat)) = (path.strip_prefix(&top), rustix::fs::stat(&common)) else {
            return;
        };
        let key = (stat.st_dev, stat.st_ino, inner.to_owned());
        let mut known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&key) {
            known.clear();
        }
        let known = known.entry(key).or_default();
        if known.seen.iter().any(|seen| look(known.format, *seen).is_break()) {
            return;
        }
        let Some(past) = Past::of(&own, &common, self.disk.since()) else { return };
        let mark = past.mark();
        if known.from == Some(mark) {
            return;
        }
        known.format = past.format();
        let names: Vec<&[u8]> = inner.iter().map(std::os::unix::ffi::OsStrExt::as_bytes).collect();
        let mut has_seen = false;
        past.look(&names, &mut |seen| {
            if !known.seen.contains(&seen) {
                known.seen.push(seen);
                // Whoever has seen enough is shown no more; it is remembered all the same.
                has_seen = has_seen || look(past.format(), seen).is_break();
            }
            if has_seen { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        known.from = (!has_seen).then_some(mark);
    }

    /// The top of the work tree, the git directory and its common part of the repository that `path`
    /// lies in; only of one that was there before.
    fn repository_of(&self, path: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
        let mut above = path.ancestors().skip(1);
        let top = above.find(|folder| self.disk.kind(&folder.join(".git")).is_some())?;
        let entry = top.join(".git");
        if self.disk.is_new(&entry) {
            return None;
        }
        let own = match self.disk.kind(&entry)? {
            Kind::Folder => entry,
            Kind::File => lead(top, &self.disk.text(&entry)?, b"gitdir: ")?,
            Kind::Other => return None,
        };
        let common = match self.disk.kind(&own.join("commondir")) {
            None => own.clone(),
            Some(Kind::File) => lead(&own, &self.disk.text(&own.join("commondir"))?, b"")?,
            Some(Kind::Folder | Kind::Other) => return None,
        };
        Some((top.to_owned(), own, common))
    }
}

fn birth(file: BorrowedFd<'_>) -> Option<Birth> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let born = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
    Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, born.0, born.1))
}

/// The whole, wherever it was read to; `None` when it is no file, or longer than any such file.
fn content_of(mut file: &fs::File) -> Option<Vec<u8>> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.seek(io::SeekFrom::Start(0)).ok()?;
    let mut content = Vec::new();
    file.take(CONTENT_MAX as u64 + 1).read_to_end(&mut content).ok()?;
    (content.len() <= CONTENT_MAX).then_some(content)
}

fn blob(format: Format, content: &[u8]) -> Id {
    format.name(objects::Kind::Blob, content)
}
