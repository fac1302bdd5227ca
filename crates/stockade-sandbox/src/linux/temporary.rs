//! The private temporary folder of the second backend.
//!
//! Three look after it: who made it removes it, the guardian empties it when that one is gone, and
//! a later run removes what was left. Whether a run still lives is told by its lock (`flock(2)`),
//! which ends with its last process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use stockade_policy::AbsPath;

const PREFIX: &str = "stockade-tmp-";

/// A folder is younger than this while its run has not locked it yet.
const YOUNG: Duration = Duration::from_mins(1);

/// A folder of this run's, gone after it.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) path: AbsPath,
    _lock: OwnedFd,
}

impl Temporary {
    pub(super) fn make() -> io::Result<Self> {
        let folder = std::env::temp_dir().canonicalize()?;
        sweep(&folder);
        let time = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
        let path = folder.join(format!("{PREFIX}{}-{time}", std::process::id()));
        // It must be new: who has made it may have left something in it.
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path: AbsPath::new(path).map_err(io::Error::other)?, _lock: lock })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        fs::remove_dir_all(self.path.as_path()).ok();
    }
}

/// Shared by every process that inherits the descriptor, and by no other.
fn lock(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// Removes what killed runs of this user's have left. What cannot be removed stays.
fn sweep(folder: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else { continue };
        let is_old = found.created().and_then(|made| made.elapsed().map_err(io::Error::other));
        if found.is_dir()
            && found.uid() == own
            && is_old.is_ok_and(|age| age > YOUNG)
            && let Ok(_lock) = lock(&path)
        {
            fs::remove_dir_all(&path).ok();
        }
    }
}

/// Removes what is in the folder; the folder itself is not this process' to remove.
pub(super) fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        // A file that cannot be removed stays for the next run.
        removed.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let young = folder.path().join(format!("{PREFIX}1-1"));
        fs::create_dir(&young).unwrap();
        sweep(folder.path());
        assert!(young.exists(), "its run may be about to lock it");
        let held = lock(&young).unwrap();
        assert!(lock(&young).is_err(), "held");
        drop(held);
        assert!(lock(&young).is_ok());
        fs::write(young.join("a"), "a").unwrap();
        fs::create_dir(young.join("b")).unwrap();
        empty(&young);
        assert_eq!(fs::read_dir(&young).unwrap().count(), 0);
    }
}
