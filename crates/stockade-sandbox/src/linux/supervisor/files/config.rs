//! Writing git's configuration in the caller's stead, when what changes is harmless.
//!
//! What the caller wrote is read once and judged, and the text goes into a file that no program
//! inside can hold open for writing: the one that is there, or a new one. A configuration that a
//! read-only mount covers is written by the way that leads to it without that mount.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Seek as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use stockade_policy::Denial;
use stockade_policy::git_config::{Change, check_change};
use stockade_policy::guard::{COMMONDIR, Tree as _};

use super::disk::{Disk, read_small};
use super::{Beneath, Stop, Turn};
use crate::keep::Keep;
use crate::linux::supervisor::place::Place;

const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

const EXECUTABLE: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

#[derive(Debug)]
pub(super) struct Configs {
    beneath: Beneath,
    keep: Option<Arc<Keep>>,
    /// What was in each file when the run first changed it, by device and inode.
    before: Mutex<HashMap<(u64, u64), Vec<u8>>>,
}

impl Configs {
    pub(super) fn new(beneath: Beneath, keep: Option<Arc<Keep>>) -> Self {
        Self { beneath, keep, before: Mutex::default() }
    }

    /// Lets `target` have the text of `source`, as a rename would, and removes `source`.
    pub(super) fn install(
        &self,
        turn: &Turn<'_>,
        disk: &Disk,
        source: &Place,
        target: &Place,
    ) -> Result<(), Stop> {
        let file: fs::File =
            rustix::fs::openat(&source.folder, source.name.as_slice(), READ, Mode::empty())?.into();
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode & 0o777);
        let text = read_small(&file).ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))?;
        self.write(turn, disk, target, (&text, mode))?;
        rustix::fs::unlinkat(&source.folder, source.name.as_slice(), AtFlags::empty())?;
        Ok(())
    }

    /// Writes `text`, if the change to it is harmless.
    pub(super) fn write(
        &self,
        turn: &Turn<'_>,
        disk: &Disk,
        target: &Place,
        (text, mode): (&[u8], Mode),
    ) -> Result<(), Stop> {
        let folder = target.path.parent().unwrap_or(&target.path);
        let is_new = disk.is_new(folder);
        let opened =
            rustix::fs::openat(&target.folder, target.name.as_slice(), READ, Mode::empty());
        let old = match opened {
            Ok(old) => Some(fs::File::from(old)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let (current, before) = match &old {
            Some(old) if is_new => (text_of(old)?, Vec::new()),
            Some(old) => (text_of(old)?, self.before(old)?),
            None => (Vec::new(), Vec::new()),
        };
        let change = Change { before: &before, current: &current, new: text, is_new, folder };
        if let Err(refusal) = check_change(&change) {
            return Err(Stop::Denied(Box::new(Denial {
                op: turn.op,
                target: target.path.clone(),
                decided_by: format!("protected name `.git/config`: {refusal}"),
                alternatives: vec![
                    "`user.*`, a new remote, `branch.*` and switches such as `pull.rebase` can be \
                     set; the rest is the user's to set outside"
                        .to_owned(),
                ],
            })));
        }
        Ok(self.put(target, (text, mode))?)
    }

    /// Writes `text`, which was judged, into the file that is there or a new one.
    pub(super) fn put(&self, target: &Place, (text, mode): (&[u8], Mode)) -> io::Result<()> {
        if target.kind().is_some() {
            let file = self.open_existing(target)?;
            if let Some(keep) = &self.keep {
                keep.touches(&file, &target.path, true);
            }
            let there = rustix::fs::fstat(&file)?;
            // libgit2 tries whether the file system knows modes by making its configuration
            // executable, and the next rename over it takes that away again.
            let kept = Mode::from_raw_mode(there.st_mode & 0o7777);
            let too_much = kept.difference(mode).intersection(EXECUTABLE);
            if !too_much.is_empty() {
                rustix::fs::fchmod(&file, kept.difference(too_much))?;
            }
            return replace_text(&file, text, u64::try_from(there.st_size).unwrap_or(0));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let keep = self.keep.as_deref();
        let begun = keep.map(|keep| keep.bears(&target.folder, &target.name, &target.path));
        let file = rustix::fs::openat(&target.folder, target.name.as_slice(), flags, mode);
        if let (Some(keep), Some(begun)) = (keep, begun) {
            keep.bore(&begun, &target.folder, &target.name, file.is_ok());
        }
        replace_text(&file?, text, 0)
    }

    fn before(&self, old: &fs::File) -> Result<Vec<u8>, Stop> {
        let stat = rustix::fs::fstat(old)?;
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = before.get(&(stat.st_dev, stat.st_ino)) {
            return Ok(text.clone());
        }
        let text = text_of(old)?;
        before.insert((stat.st_dev, stat.st_ino), text.clone());
        Ok(text)
    }

    /// The same place by the way that no read-only mount covers, where there is one.
    pub(super) fn uncovered(&self, place: Place) -> io::Result<Place> {
        let within = |(root, _): &&(std::path::PathBuf, OwnedFd)| place.path.starts_with(root);
        let found = self.beneath.iter().filter(within);
        let Some((root, tree)) = found.max_by_key(|(root, _)| root.as_os_str().len()) else {
            return Ok(place);
        };
        let folder = place.path.parent().unwrap_or(root);
        let inner = folder.strip_prefix(root).map_err(io::Error::other)?;
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let folder = rustix::fs::openat2(tree, inner, flags, Mode::empty(), resolve)?;
        Ok(Place { folder, ..place })
    }

    fn open_existing(&self, target: &Place) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&target.folder, target.name.as_slice(), flags, Mode::empty()) {
            Err(rustix::io::Errno::ROFS) => {}
            opened => return Ok(opened?),
        }
        let within = |(root, _): &&(std::path::PathBuf, OwnedFd)| target.path.starts_with(root);
        let found = self.beneath.iter().filter(within);
        let Some((root, tree)) = found.max_by_key(|(root, _)| root.as_os_str().len()) else {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        };
        let inner = target.path.strip_prefix(root).map_err(io::Error::other)?;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let file = rustix::fs::openat2(tree, inner, flags, Mode::empty(), resolve)?;
        Ok(file)
    }
}

/// The whole text, wherever the file was read to.
pub(super) fn text_of(mut file: &fs::File) -> io::Result<Vec<u8>> {
    file.seek(io::SeekFrom::Start(0))?;
    read_small(file).ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))
}

/// Gives the configuration of a folder that becomes a repository, and what says where its common
/// part is, files of their own, which nobody holds open.
pub(super) fn renew(folder: &Path, keep: Option<&Keep>) -> io::Result<()> {
    for name in ["config", "config.worktree", "commondir"] {
        let path = folder.join(name);
        let file: fs::File = match rustix::fs::open(&path, READ, Mode::empty()) {
            Ok(file) => file.into(),
            Err(rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let text = read_small(&file).ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode & 0o777);
        if let Some(keep) = keep {
            // Its successor is a file of the thread's: what is taken back is this one.
            let begun = keep.loses(rustix::fs::CWD, path.as_os_str().as_encoded_bytes(), &path);
            let removed = fs::remove_file(&path);
            keep.ended(&begun, removed.is_ok());
            removed?;
        } else {
            fs::remove_file(&path)?;
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        // The judgement was about this very text: it was read again, so it is judged again.
        let is_harmless = match name {
            "commondir" => text == COMMONDIR,
            _ => stockade_policy::git_config::check_new(&text, folder).is_ok(),
        };
        if !is_harmless {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let name = path.as_os_str().as_encoded_bytes();
        let begun = keep.map(|keep| keep.bears(rustix::fs::CWD, name, &path));
        let file = rustix::fs::open(&path, flags, mode);
        if let (Some(keep), Some(begun)) = (keep, begun) {
            keep.bore(&begun, rustix::fs::CWD, name, file.is_ok());
        }
        replace_text(&file?, &text, 0)?;
    }
    Ok(())
}

/// Writes `text` over a file of `old` bytes. Whenever this is broken off, what stands there is
/// the old text or the new one with empty lines behind it.
fn replace_text(file: &OwnedFd, text: &[u8], old: u64) -> io::Result<()> {
    let mut padded = text.to_vec();
    let old = usize::try_from(old).unwrap_or(usize::MAX).min(stockade_policy::git_config::TEXT_MAX);
    if padded.len() < old {
        padded.resize(old, b'\n');
    }
    let mut done = 0;
    while let Some(rest) = padded.get(done..).filter(|rest| !rest.is_empty()) {
        done += rustix::io::pwrite(file, rest, done as u64)?;
    }
    Ok(rustix::fs::ftruncate(file, text.len() as u64)?)
}
