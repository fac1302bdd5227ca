//! The private temporary folder of the second backend.
//!
//! Three look after it: who made it removes it, the guardian empties it when that one is gone, and
//! a later run removes what was left. Whether a run still lives is told by its lock (`flock(2)`),
//! which ends with its last process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
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
        remove(self.path.as_path());
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
            remove(&path);
        }
    }
}

/// Removes the folder with all that is in it. What cannot be removed stays for a later run.
fn remove(path: &Path) {
    open_up(CWD, path.as_os_str().as_bytes());
    empty(path);
    fs::remove_dir(path).ok();
}

/// Removes what is in the folder; the folder itself is not this process' to remove. Whoever filled it may
/// have taken its folders' modes away, and put one into another as often as there was room for.
pub(super) fn empty(folder: &Path) {
    let Ok(folder) = rustix::fs::open(folder, FOLDER, Mode::empty()) else { return };
    let mut moved = 0;
    while clear(&folder, &mut moved) {}
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is in `top` and its folders; folders in these come to lie in `top`. The value is
/// whether anything was done.
fn clear(top: &OwnedFd, moved: &mut u64) -> bool {
    let is_gone =
        |folder: &OwnedFd, name: &[u8], flags| rustix::fs::unlinkat(folder, name, flags).is_ok();
    let mut is_changed = false;
    for (name, is_folder) in list(top) {
        if !is_folder {
            is_changed |= is_gone(top, &name, AtFlags::empty());
            continue;
        }
        open_up(top, &name);
        if let Ok(folder) = rustix::fs::openat(top, name.as_slice(), FOLDER, Mode::empty()) {
            for (inner, is_folder) in list(&folder) {
                if is_folder {
                    // What is moved has to be writable itself.
                    open_up(&folder, &inner);
                    *moved += 1;
                    let above = format!(".{PREFIX}{moved}");
                    is_changed |=
                        rustix::fs::renameat(&folder, inner.as_slice(), top, above).is_ok();
                } else {
                    is_changed |= is_gone(&folder, &inner, AtFlags::empty());
                }
            }
        }
        is_changed |= is_gone(top, &name, AtFlags::REMOVEDIR);
    }
    is_changed
}

fn open_up(folder: impl AsFd, name: &[u8]) {
    rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty()).ok();
}

/// The names in a folder, and which of them are folders.
fn list(folder: &OwnedFd) -> Vec<(Vec<u8>, bool)> {
    let entries = rustix::fs::Dir::read_from(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
    let kinds = names.map(|entry| {
        let name = entry.file_name();
        let mut kind = entry.file_type();
        if kind == FileType::Unknown
            && let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        {
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        let is_folder = kind == FileType::Directory;
        (name.to_bytes().to_vec(), is_folder)
    });
    kinds.collect()
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

    #[test]
    fn what_lies_deep_or_was_closed_is_removed_and_what_links_lead_to_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        fs::create_dir_all(other.join("kept")).unwrap();
        fs::create_dir_all(own.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&other, own.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&other, own.join("link")).unwrap();
        fs::write(own.join("a/b/file"), "x").unwrap();
        fs::write(own.join(format!(".{PREFIX}1")), "in the way").unwrap();
        let mut at = rustix::fs::open(&own, FOLDER, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "d".repeat(200), Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d".repeat(200), FOLDER, Mode::empty()).unwrap();
        }
        for closed in ["a/b", "a", ""] {
            let mode = fs::Permissions::from_mode(0o000);
            fs::set_permissions(own.join(closed), mode).unwrap();
        }
        remove(&own);
        assert!(own.symlink_metadata().is_err() && other.join("kept").exists());
    }
}
