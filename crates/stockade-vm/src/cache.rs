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

use rustix::fs::{FlockOperation, flock, statvfs};
use sha2::{Digest as _, Sha256};

/// Free space that is left alone, in bytes: a full disk hurts more than a refused thread.
pub(crate) const SPACE_LEFT: u64 = 256 * 1024 * 1024;

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
    /// renamed, and all but the `kept` latest files of that stem and end go.
    pub(crate) fn file<E: From<io::Error>>(
        &self,
        (stem, end): (&str, &str),
        (key, kept): (&str, usize),
        build: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.0.join(format!("{stem}-{key}.{end}"));
        if touch(&path) {
            return Ok(path);
        }
        let _lock = self.lock(stem)?;
        // Somebody else may have built it while this waited.
        if touch(&path) {
            return Ok(path);
        }
        let mut file = tempfile::Builder::new().prefix(".building-").tempfile_in(&self.0)?;
        build(file.as_file_mut())?;
        file.persist(&path).map_err(|error| error.error)?;
        self.remove_old(stem, end, kept)?;
        Ok(path)
    }

    /// Held until it is dropped.
    fn lock(&self, name: &str) -> io::Result<File> {
        let file = File::create(self.0.join(format!(".{name}.lock")))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn remove_old(&self, stem: &str, end: &str, kept: usize) -> io::Result<()> {
        let (start, end) = (format!("{stem}-"), format!(".{end}"));
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.0)?
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| name.starts_with(&start) && name.ends_with(&end))
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(kept) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Bytes that may still be written here.
    pub(crate) fn space(&self) -> io::Result<u64> {
        space(&self.0)
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
