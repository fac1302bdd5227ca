//! The disk as the judgement sees it, through this mount view.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::time::ClockId;
use stockade_policy::git_config::TEXT_MAX;
use stockade_policy::guard::{Kind, Tree};

/// Millions of files have an index of this length.
const INDEX_MAX: usize = 1 << 29;

/// The tree, and since when something in it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    since: (i64, u32),
}

impl Disk {
    /// What comes into being from now on is new. The clock is the one that the kernel takes
    /// for times of files.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Self { since: (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0)) }
    }

    /// Whether what has these facts was born since.
    pub(super) fn has_made(&self, stat: &Statx) -> bool {
        StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME)
            && (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) >= self.since
    }

    /// The moment from which on things are new.
    pub(super) fn since(&self) -> (i64, u32) {
        self.since
    }
}

impl Tree for Disk {
    fn kind(&self, path: &Path) -> Option<Kind> {
        let kind = fs::symlink_metadata(path).ok()?.file_type();
        Some(if kind.is_dir() {
            Kind::Folder
        } else if kind.is_file() {
            Kind::File
        } else {
            Kind::Other
        })
    }

    /// By the time of birth, which no program can set. A file system that has none knows
    /// nothing that is new: then more is refused.
    fn is_new(&self, path: &Path) -> bool {
        let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME);
        found.is_ok_and(|stat| self.has_made(&stat))
    }

    fn text(&self, path: &Path) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        read_small(&rustix::fs::open(path, flags, Mode::empty()).ok()?.into())
    }

    fn whole(&self, path: &Path) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        read_up_to(&rustix::fs::open(path, flags, Mode::empty()).ok()?.into(), INDEX_MAX)
    }

    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        if self.kind(folder)? != Kind::Folder {
            return None;
        }
        let list = fs::read_dir(folder).ok()?;
        Some(list.flatten().map(|entry| entry.file_name().into_vec()).collect())
    }
}

/// The text of a regular file that is no longer than any configuration.
pub(super) fn read_small(file: &fs::File) -> Option<Vec<u8>> {
    read_up_to(file, TEXT_MAX)
}

fn read_up_to(file: &fs::File, most: usize) -> Option<Vec<u8>> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut text).ok()?;
    (text.len() <= most).then_some(text)
}
