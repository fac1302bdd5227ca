//! What a temporary folder takes of its disk, where it is no file system of its own that bounds it.
//!
//! The parent outside looks once a second at what is free there, and counts the folder when that has
//! moved. Names inside are of the run's choice: no link is followed, and a file counts when all its
//! names are found. What cannot be read (a folder of mode 0) counts as all that the disk has lost.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::Exceeded;

const BETWEEN: Duration = Duration::from_secs(1);

/// As many times as long as it took to count, nothing is counted.
const REST: u32 = 20;

/// What a name takes at least, in bytes: so the number of files is bounded as well.
const LEAST: u64 = 4096;

/// Watches one folder.
#[derive(Debug)]
pub(super) struct Space {
    folder: OwnedFd,
    device: u64,
    /// In bytes.
    limit: u64,
    start: Free,
    /// When it was counted last.
    then: Free,
    next: Instant,
}

/// What a file system has left, in bytes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Free {
    bytes: u64,
    files: u64,
}

impl Free {
    fn of(folder: &OwnedFd) -> io::Result<Self> {
        let system = rustix::fs::fstatvfs(folder)?;
        let bytes = system.f_bavail.saturating_mul(system.f_frsize);
        Ok(Self { bytes, files: system.f_favail })
    }

    /// Whether enough came or went since `then` to be worth counting, in either direction: others
    /// give back what is taken here.
    fn has_moved(self, then: Self, limit: u64) -> bool {
        let files = self.files.abs_diff(then.files).saturating_mul(LEAST);
        self.bytes.abs_diff(then.bytes).max(files) > limit / 16
    }

    /// What `self` has lost in bytes by now.
    fn lost(self, now: Self) -> u64 {
        self.bytes.saturating_sub(now.bytes)
    }
}

impl Space {
    /// From now on.
    pub(super) fn of(folder: &Path, limit: u64) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let device = rustix::fs::fstat(&folder)?.st_dev;
        let free = Free::of(&folder)?;
        let next = Instant::now() + BETWEEN;
        Ok(Self { folder, device, limit, start: free, then: free, next })
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, when it is time to; `Some` when the run has to end. `unnamed`: the bytes in open files
    /// without a name on a device.
    pub(super) fn look(&mut self, unnamed: impl FnOnce(u64) -> u64) -> Option<Exceeded> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + BETWEEN;
        let free = Free::of(&self.folder).ok()?;
        if !free.has_moved(self.then, self.limit) {
            return None;
        }
        self.then = free;
        let named = self.named().unwrap_or_else(|| self.start.lost(free));
        let used = named.saturating_add(unnamed(self.device));
        self.next = now + BETWEEN.max(now.elapsed() * REST);
        (used > self.limit).then_some(Exceeded::Temporary { limit: self.limit, used })
    }

    /// Bytes of what has its names in the folder; `None` where not all can be read.
    fn named(&self) -> Option<u64> {
        let mut folders = vec![PathBuf::from(".")];
        let mut linked = HashMap::new();
        // A file counts by the last of its names.
        let mut is_last_name = |stat: &Stat| {
            let names = linked.entry(stat.st_ino).or_insert(0);
            *names += 1;
            *names == stat.st_nlink
        };
        let mut bytes = 0_u64;
        while let Some(path) = folders.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let opened = rustix::fs::openat2(&self.folder, &path, flags, Mode::empty(), resolve);
            let folder = match opened {
                Ok(folder) => folder,
                // Gone or replaced since it was listed.
                Err(
                    rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP,
                ) => continue,
                Err(_) => return None,
            };
            for entry in rustix::fs::Dir::read_from(&folder).ok()?.flatten() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let Ok(stat) = rustix::fs::statat(folder.as_fd(), name, flags) else { continue };
                let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if !is_folder && stat.st_nlink > 1 && !is_last_name(&stat) {
                    continue;
                }
                let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
                bytes = bytes.saturating_add(blocks.saturating_mul(512).max(LEAST));
                if bytes > self.limit {
                    return Some(bytes);
                }
                if is_folder {
                    folders.push(path.join(OsStr::from_bytes(name.to_bytes())));
                }
            }
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn space(folder: &Path, limit: u64) -> Space {
        let space = Space::of(folder, limit).unwrap();
        // As if something had come.
        let then = Free { bytes: space.start.bytes.wrapping_add(limit), ..space.start };
        Space { next: Instant::now(), then, ..space }
    }

    #[test]
    fn what_is_in_the_folder_counts_once_and_nothing_that_a_link_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("large"), vec![1; 4 << 20]).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::fs::hard_link(outside.join("large"), inside.join("other's")).unwrap();
        std::fs::write(inside.join("a/b/one"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(inside.join("a/b/one"), inside.join("two")).unwrap();
        let bytes = space(&inside, 1 << 40).named().unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_is_above_the_limit_is_found_also_without_a_name_or_a_way_to_it() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        assert_eq!(space(&inside, 1 << 20).look(|_| 0), None);
        let found = space(&inside, 1 << 20).look(|_| 2 << 20);
        assert_eq!(found, Some(Exceeded::Temporary { limit: 1 << 20, used: 2 << 20 }));
        std::fs::write(inside.join("large"), vec![1; 2 << 20]).unwrap();
        let found = space(&inside, 1 << 20).look(|_| 0);
        assert!(matches!(found, Some(Exceeded::Temporary { .. })), "{found:?}");
        let mut idle = Space::of(&inside, 1 << 20).unwrap();
        assert_eq!(idle.look(|_| panic!("it is not time yet")), None);
    }

    #[test]
    fn many_small_files_are_as_large_as_few_large_ones() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..300 {
            std::fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        assert!(matches!(
            space(place.path(), 1 << 20).look(|_| 0),
            Some(Exceeded::Temporary { .. })
        ));
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_taken_for_empty() {
        if rustix::process::geteuid().is_root() {
            println!("skipped: root reads every folder");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let closed = place.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
        assert_eq!(space(place.path(), 1 << 20).named(), None);
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}
