//! The folder for what is built once and used by every machine.
//!
//! Invariants: what has its final name is whole (it was written under another one and renamed);
//! who builds holds a lock, so that two starts at once build one thing once; a file in use may be
//! removed at any time, since its users have it open.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// Free space that is left alone, in bytes: a full disk hurts more than a refused thread.
pub(crate) const SPACE_LEFT: u64 = 256 * 1024 * 1024;

/// How often it is looked whether somebody else has built something.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A name for content, made of everything that it depends on.
#[derive(Debug, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// A file of the host, by name and by what changes with its content.
    pub(crate) fn add_file(&mut self, path: &Path, metadata: &Metadata) {
        self.add(path.as_os_str().as_bytes());
        let times =
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        for number in times {
            self.add(&number.to_le_bytes());
        }
        self.add(&metadata.len().to_le_bytes());
    }

    pub(crate) fn name(self) -> String {
        let digest = self.0.finalize();
        let halves = digest.iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
        halves.filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
    }
}

/// What is kept of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// So many files at most.
    pub(crate) files: usize,
    /// What they may take together.
    pub(crate) bytes: u64,
}

impl From<usize> for Bound {
    fn from(files: usize) -> Self {
        Self { files, bytes: u64::MAX }
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // QEMU works in another folder, from which its files have to be found.
        Ok(Self(std::path::absolute(folder)?))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// The file `STEM-KEY.END`. When it is not there `build` makes it, in a file that is then
    /// renamed, and of that stem and end all go that are not within `kept`.
    pub(crate) fn file<E: From<io::Error>>(
        &self,
        names: (&str, &str),
        (key, kept): (&str, impl Into<Bound>),
        build: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let made = self.file_unless(names, (key, kept), &|| false, build)?;
        made.ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted).into())
    }

    /// The same; `None` when `stop` says so while somebody else builds.
    pub(crate) fn file_unless<E: From<io::Error>>(
        &self,
        (stem, end): (&str, &str),
        (key, kept): (&str, impl Into<Bound>),
        stop: &dyn Fn() -> bool,
        build: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<Option<PathBuf>, E> {
        let path = self.0.join(format!("{stem}-{key}.{end}"));
        if touch(&path) {
            return Ok(Some(path));
        }
        let Some(_lock) = self.lock(stem, stop)? else { return Ok(None) };
        // Somebody else may have built it while this waited.
        if touch(&path) {
            return Ok(Some(path));
        }
        let prefix = format!(".building-{stem}-");
        self.remove_unfinished(&prefix)?;
        let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(&self.0)?;
        build(file.as_file_mut())?;
        file.persist(&path).map_err(|error| error.error)?;
        self.remove_old(stem, end, kept.into())?;
        Ok(Some(path))
    }

    /// The file `STEM-KEY.END`, if it is there.
    pub(crate) fn find(&self, (stem, end): (&str, &str), key: &str) -> Option<PathBuf> {
        Some(self.0.join(format!("{stem}-{key}.{end}"))).filter(|path| touch(path))
    }

    /// Has the file built anew when it is asked for next.
    pub(crate) fn forget(&self, (stem, end): (&str, &str), key: &str) -> io::Result<()> {
        remove(&self.0.join(format!("{stem}-{key}.{end}")))
    }

    /// Held until it is dropped; `None` when `stop` says so before it is free.
    fn lock(&self, name: &str, stop: &dyn Fn() -> bool) -> io::Result<Option<File>> {
        let file = File::create(self.0.join(format!(".{name}.lock")))?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if stop() => return Ok(None),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    poll(&mut [], Some(&LOOK)).ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes what builders left that were killed; the caller holds the lock of what they built.
    fn remove_unfinished(&self, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)?.flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes what is older than the latest that fit; the latest stays in any case.
    fn remove_old(&self, stem: &str, end: &str, kept: Bound) -> io::Result<()> {
        let (start, end) = (format!("{stem}-"), format!(".{end}"));
        let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.0)?
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| name.starts_with(&start) && name.ends_with(&end))
            })
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                // What it takes: an archive may have holes.
                let bytes = metadata.blocks().saturating_mul(512);
                Some((metadata.modified().ok()?, bytes, entry.path()))
            })
            .collect();
        files.sort();
        let mut taken: u64 = 0;
        for (at, (_, bytes, path)) in files.iter().rev().enumerate() {
            taken = taken.saturating_add(*bytes);
            if at >= kept.files || (at > 0 && taken > kept.bytes) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Bytes that may still be written here.
    pub(crate) fn space(&self) -> io::Result<u64> {
        space(&self.0)
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Bytes that this user may still write below `folder`, without what is left alone.
pub(crate) fn space(folder: &Path) -> io::Result<u64> {
    let found = statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(SPACE_LEFT))
}

/// Marks a file as used now; false when it is not there.
fn touch(path: &Path) -> bool {
    let now = FileTimes::new().set_modified(SystemTime::now());
    File::options().write(true).open(path).and_then(|file| file.set_times(now)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_built_once_and_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("new/cache")).unwrap();
        let get = |key, result: io::Result<()>| {
            cache.file(("a", "x"), (key, 2), |file: &mut File| {
                file.write_all(b"content")?;
                result
            })
        };
        assert!(get("1", Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(fs::read_dir(cache.folder()).unwrap().count(), 1, "the lock alone");
        let path = get("1", Ok(())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        // A builder that was killed leaves what is removed before the next one writes.
        let [left, of_another] = [".building-a-killed", ".building-b-works"];
        for name in [left, of_another] {
            fs::write(cache.folder().join(name), "half").unwrap();
        }
        get("2", Ok(())).unwrap();
        assert!(!cache.folder().join(left).exists() && cache.folder().join(of_another).exists());
        // Built no second time.
        assert_eq!(get("1", Err(io::ErrorKind::Other.into())).unwrap(), path);
    }

    #[test]
    fn the_latest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for key in ["1", "2", "1", "3"] {
            cache.file(("a", "x"), (key, 2), |_: &mut File| Ok::<_, io::Error>(())).unwrap();
        }
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("a-1.x") && is_there("a-3.x") && !is_there("a-2.x"));
    }

    #[test]
    fn the_latest_are_kept_that_fit_together() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let bytes = 64 * 1024_usize;
        let make = |key: &str| {
            let bound = Bound { files: 9, bytes: 2 * bytes as u64 + 4096 };
            let write = |file: &mut File| file.write_all(&vec![1; bytes]);
            cache.file::<io::Error>(("a", "x"), (key, bound), write).unwrap();
        };
        ["1", "2", "3"].into_iter().for_each(make);
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("a-2.x") && is_there("a-3.x") && !is_there("a-1.x"));
        let none = Bound { files: 9, bytes: 1 };
        let write = |file: &mut File| file.write_all(b"whole");
        cache.file::<io::Error>(("a", "x"), ("4", none), write).unwrap();
        assert!(is_there("a-4.x") && !is_there("a-3.x"), "the latest stays, and alone");
    }

    #[test]
    fn who_waits_for_another_builder_can_stop() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let looked = std::cell::Cell::new(0);
        let stop = || looked.replace(looked.get() + 1) >= 2;
        let build = |_: &mut File| Ok::<_, io::Error>(());
        let held = cache.lock("a", &|| true).unwrap().unwrap();
        assert!(cache.file_unless(("a", "x"), ("1", 2), &stop, build).unwrap().is_none());
        assert_eq!(looked.get(), 3, "it waits");
        drop(held);
        assert!(cache.file_unless(("a", "x"), ("1", 2), &|| true, build).unwrap().is_some());
    }

    #[test]
    fn a_key_tells_apart_what_is_joined_alike() {
        let name = |parts: &[&str]| {
            let mut key = Key::default();
            for part in parts {
                key.add(part.as_bytes());
            }
            key.name()
        };
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(name(&["ab"]), name(&["ab"]));
    }
}
