//! Keeping what a call replaces, before it is carried out.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::open::{How, Opened, open_name};
use super::{Done, Files, Stop, Turn, error};
use crate::keep::Keep;
use crate::linux::supervisor::place::Place;

/// How often a name may change hands between a look and an open.
const TRIES: usize = 16;

impl Files {
    /// Opens the name. A file that is there is kept before it is cut, and a new one is made by this
    /// call or not at all: what is written to was not there, or is kept.
    pub(super) fn open_kept(
        &self,
        turn: &Turn<'_>,
        place: &Place,
        how: How,
    ) -> Result<Opened, Stop> {
        if how.writes() && !how.is_exclusive() {
            self.part(turn, place, !how.cuts())?;
        }
        let Some(keep) = self.keep_for(&place.path) else { return open_name(place, how) };
        for _ in 0..TRIES {
            let opened = match place.kind() {
                None if how.creates() => bear(keep, place, how),
                Some(FileType::RegularFile) if how.writes() && !how.is_exclusive() => {
                    touch(keep, place, how)
                }
                _ => return open_name(place, how),
            };
            match opened {
                Err(Stop::Error(error)) if is_taken(&error) && !how.is_exclusive() => {}
                Err(Stop::Error(error)) if is_gone(&error) && how.creates() => {}
                opened => return opened,
            }
        }
        error(libc::EAGAIN)
    }

    pub(super) fn keep_for(&self, path: &Path) -> Option<&Keep> {
        self.keep.as_deref().filter(|keep| keep.covers(path))
    }

    /// Does what gives the name of `place` to something new.
    pub(super) fn bear<T>(
        &self,
        place: &Place,
        make: impl FnOnce() -> rustix::io::Result<T>,
    ) -> Result<T, Stop> {
        let Some(keep) = self.keep_for(&place.path) else { return Ok(make()?) };
        let begun = keep.bears(&place.folder, &place.name, &place.path);
        let made = make();
        keep.bore(&begun, &place.folder, &place.name, made.is_ok());
        Ok(made?)
    }

    /// Does what takes the name of `place` away.
    pub(super) fn lose(
        &self,
        place: &Place,
        act: impl FnOnce() -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(keep) = self.keep_for(&place.path) else { return act() };
        let begun = keep.loses(&place.folder, &place.name, &place.path);
        let done = act();
        keep.ended(&begun, done.is_ok());
        done
    }

    /// The mode or the content of `object` is about to change, where it is.
    pub(super) fn touches(&self, object: &OwnedFd, path: &Path, with_content: bool) {
        if let Some(keep) = self.keep_for(path) {
            keep.touches(object, path, with_content);
        }
    }

    /// Why nothing is kept from here on, once.
    pub(in crate::linux::supervisor) fn not_kept(&self) -> Option<io::Error> {
        self.keep.as_ref()?.failure()
    }
}

fn bear(keep: &Keep, place: &Place, how: How) -> Result<Opened, Stop> {
    let begun = keep.bears_anew(&place.folder, &place.path);
    let opened = open_name(place, how.with(OFlags::EXCL));
    match &opened {
        Ok(Opened::Done(Done::File { file, .. })) => keep.bore_file(&begun, file),
        _ => keep.ended(&begun, false),
    }
    opened
}

fn touch(keep: &Keep, place: &Place, how: How) -> Result<Opened, Stop> {
    if how.only_cuts() {
        keep.touches(place.reference()?, &place.path, true);
        return open_name(place, how);
    }
    let opened = open_name(place, how.without(OFlags::CREATE | OFlags::TRUNC))?;
    if let Opened::Done(Done::File { file, .. }) = &opened {
        keep.touches(file, &place.path, true);
        if how.cuts() {
            rustix::fs::ftruncate(file, 0)?;
        }
    }
    Ok(opened)
}

fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EEXIST)
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}
