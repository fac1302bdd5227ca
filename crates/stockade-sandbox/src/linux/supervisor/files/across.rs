//! Renaming a folder of an overlay that lies below it.
//!
//! The kernel does not (`EXDEV`): it would have to leave a redirect, which no overlay of a user's has
//! (overlayfs.rst, `redirect_dir` and `userxattr`). So the folder is made anew, what is in it is
//! renamed into it, name by name, and then it gets its name by one call. Files are copied into the
//! upper folder by that, as `mv` would copy them.
//!
//! What cannot be moved is moved back, and the answer is the kernel's first one.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;

use crate::keep::{copy_attributes, copy_mode_and_times};
use crate::linux::supervisor::place::Place;

/// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
const OVERLAY: i64 = 0x794c_7630;
/// Deeper than that nothing is moved: each level is a descriptor or two.
const DEPTH_MAX: usize = 100;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Renames the folder `source`, which the kernel has refused with `EXDEV`.
pub(super) fn rename(source: &Place, target: &Place, flags: RenameFlags) -> Result<(), Errno> {
    if flags.contains(RenameFlags::EXCHANGE) || !is_one_overlay(source, target) {
        return Err(Errno::XDEV);
    }
    is_free(target, flags)?;
    let (name, to) = (source.name.as_slice(), target.name.as_slice());
    let from = rustix::fs::openat(&source.folder, name, FOLDER, Mode::empty())?;
    // Two of them may be on their way beside each other; one that was killed left its name.
    let waiting = format!(
        ".stockade-rename-{}-{}",
        rustix::thread::gettid().as_raw_nonzero(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    rustix::fs::mkdirat(&target.folder, &*waiting, Mode::RWXU)?;
    let opened = rustix::fs::openat(&target.folder, &*waiting, FOLDER, Mode::empty());
    let moved = opened.and_then(|made| {
        let moved = move_all(&from, &made, 0).and_then(|()| {
            rustix::fs::renameat_with(&target.folder, &*waiting, &target.folder, to, flags)
        });
        if moved.is_err() {
            rustix::fs::fchmod(&made, Mode::RWXU).ok();
            move_back(&from, &made);
        }
        moved
    });
    if moved.is_err() {
        rustix::fs::unlinkat(&target.folder, &*waiting, AtFlags::REMOVEDIR).ok();
        return Err(Errno::XDEV);
    }
    // What somebody has put there meanwhile stays there, by the old name.
    rustix::fs::unlinkat(&source.folder, name, AtFlags::REMOVEDIR).ok();
    Ok(())
}

/// What rename(2) says of what has the new name.
fn is_free(target: &Place, flags: RenameFlags) -> Result<(), Errno> {
    match target.kind() {
        None => Ok(()),
        Some(_) if flags.contains(RenameFlags::NOREPLACE) => Err(Errno::EXIST),
        Some(FileType::Directory) => {
            let name = target.name.as_slice();
            let folder = rustix::fs::openat(&target.folder, name, FOLDER, Mode::empty())?;
            if names(&folder)?.is_empty() { Ok(()) } else { Err(Errno::NOTEMPTY) }
        }
        Some(_) => Err(Errno::NOTDIR),
    }
}

fn is_one_overlay(source: &Place, target: &Place) -> bool {
    let mount = |folder: &OwnedFd| {
        let stat = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        Some(stat.stx_mnt_id)
    };
    let kind = rustix::fs::fstatfs(&source.folder).map(|data| data.f_type);
    kind.is_ok_and(|kind| kind == OVERLAY)
        && source.kind() == Some(FileType::Directory)
        && mount(&source.folder).is_some()
        && mount(&source.folder) == mount(&target.folder)
}

fn names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let is_entry = |name: &CStr| name != c"." && name != c"..";
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        names.extend(is_entry(entry.file_name()).then(|| entry.file_name().to_owned()));
    }
    Ok(names)
}

/// Moves what is in `from` to `to`, which becomes what `from` is.
fn move_all(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::XDEV);
    }
    let stat = rustix::fs::fstat(from)?;
    for name in names(from)? {
        match rustix::fs::renameat(from, &*name, to, &*name) {
            Err(Errno::XDEV) => {
                let inner = rustix::fs::openat(from, &*name, FOLDER, Mode::empty())?;
                rustix::fs::mkdirat(to, &*name, Mode::RWXU)?;
                let made = rustix::fs::openat(to, &*name, FOLDER, Mode::empty())?;
                move_all(&inner, &made, depth + 1)?;
                rustix::fs::unlinkat(from, &*name, AtFlags::REMOVEDIR)?;
            }
            moved => moved?,
        }
    }
    copy_attributes(from, to);
    copy_mode_and_times(&stat, to)
}

/// Moves back what was moved. What cannot be is still there, under the waiting name.
fn move_back(from: &OwnedFd, made: &OwnedFd) {
    for name in names(made).unwrap_or_default() {
        let inner = rustix::fs::openat(from, &*name, FOLDER, Mode::empty());
        let Ok(inner) = inner else {
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(made, &*name, from, &*name, flags).ok();
            continue;
        };
        if let Ok(there) = rustix::fs::openat(made, &*name, FOLDER, Mode::empty()) {
            rustix::fs::fchmod(&there, Mode::RWXU).ok();
            move_back(&inner, &there);
        }
        rustix::fs::unlinkat(made, &*name, AtFlags::REMOVEDIR).ok();
    }
}
