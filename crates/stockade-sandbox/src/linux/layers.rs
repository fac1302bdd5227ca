//! Overlays: folders that look like the host's own and are written to elsewhere.
//!
//! Each is mounted before anything else of the view is made, so that what is placed later (what is
//! writable, protected or hidden in it) is of the overlay, and while the file system of its upper
//! folder may still be written.
//!
//! `userxattr` is what a user namespace can have. With it the kernel neither follows redirects
//! nor knows metadata-only copies, so that an upper folder is whole by itself: a file in it has
//! all its content, and a whiteout or an opaque folder is all that is said of what lies below.
//! Programs inside cannot make these marks: the overlay keeps their names to itself.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::failure::{Failure, step};
use super::mounts::{attach, clone_tree, is_absent, open, open_quietly};
use crate::Layer;
use crate::error::LAY;

/// Lays each of `layers` over its folder.
pub(super) fn lay(layers: &[Layer]) -> Result<(), Failure> {
    layers.iter().try_for_each(|layer| {
        let path = layer.at.as_path();
        let below = open(path)?;
        let (upper, work) = (open(&layer.upper)?, open(&layer.work)?);
        let overlay = overlay([&below, &upper, &work], false).map_err(step(LAY, path))?;
        attach(&overlay, path)
    })
}

/// The overlay over home of which folders of caches are shown.
#[derive(Debug)]
pub(super) struct Caches {
    home: PathBuf,
    root: OwnedFd,
}

/// Lays the one overlay of all caches, out of sight.
///
/// Its upper folder lies below the folder that it is laid over, which the kernel allows as long as
/// nobody looks for it in the overlay; the view hides that place. With them comes
/// what the user should know: what is written is gone with the run, or nothing can be written.
pub(super) fn caches(layer: &Layer) -> (Option<Caches>, Option<&'static str>) {
    let Layer { at, upper, work } = layer;
    let on_disk = || -> Result<OwnedFd, Failure> {
        let overlay =
            overlay([&open(at)?, &open(upper)?, &open(work)?], true).map_err(step(LAY, at))?;
        // Nothing can be cloned from a mount that stands nowhere before Linux 6.15.
        attach(&overlay, upper.as_path())?;
        Ok(overlay)
    };
    let of = |root| Some(Caches { home: at.as_path().to_owned(), root });
    match on_disk() {
        Ok(root) => (of(root), None),
        Err(_) => match in_memory(at.as_path(), work.as_path()) {
            Ok(root) => (of(root), Some(PASSING)),
            Err(_) => (None, Some(CLOSED)),
        },
    }
}

const PASSING: &str = "caches: what is written to them is gone after this run, because their file \
                       system takes no overlay";
const CLOSED: &str = "caches are read-only: this system has no overlay for them";

/// The same with an upper folder that is gone after the run, for a home on a file system that can
/// have none (another overlay, NFS).
fn in_memory(home: &Path, at: &Path) -> Result<OwnedFd, Failure> {
    let lay = || -> io::Result<OwnedFd> {
        let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    let memory = lay().map_err(step("make a private tmpfs at", at))?;
    attach(&memory, at)?;
    let folder = |name: &str| -> Result<OwnedFd, Failure> {
        let path = at.join(name);
        rustix::fs::mkdir(&path, Mode::RWXU).map_err(step("make", &path))?;
        open(&path)
    };
    let (upper, work) = (folder("upper")?, folder("work")?);
    let overlay = overlay([&open(home)?, &upper, &work], true).map_err(step(LAY, home))?;
    attach(&overlay, &at.join("upper"))?;
    Ok(overlay)
}

impl Caches {
    /// What is seen at `path`; `None` where the folder is gone, or is a mount of its own, which an
    /// overlay does not reach into.
    pub(super) fn tree(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        let host = |path| open_quietly(path).ok().and_then(|folder| mount_of(&folder));
        let Ok(inner) = path.strip_prefix(&self.home) else { return Ok(None) };
        if host(path) != host(&self.home) {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let folder = match openat2(&self.root, inner, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            Err(error) if is_absent(&error.into()) => return Ok(None),
            Err(error) => return Err(step("open", path)(error)),
        };
        clone_tree(&folder, path).map(Some)
    }
}

fn mount_of(fd: &OwnedFd) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags};
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    Some(stat.stx_mnt_id)
}

/// The folders are named to the kernel by descriptor, which no link can lead elsewhere and whose
/// names hold no colon.
///
/// An overlay that is unmounted writes the whole file system of its upper folder to the disk first,
/// unless it is `volatile`: then what it holds is as safe from a crash of the machine as any file
/// that nobody has synced, and its work folder has a mark that must go before it is used again.
pub(super) fn overlay(folders: [&OwnedFd; 3], volatile: bool) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_flag(&fs, "userxattr")?;
    if volatile {
        rustix::mount::fsconfig_set_flag(&fs, "volatile")?;
    }
    for (key, folder) in ["lowerdir", "upperdir", "workdir"].into_iter().zip(folders) {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        rustix::mount::fsconfig_set_string(&fs, key, path.as_str())?;
    }
    // An index would tie the upper folder to files below that the user may change later.
    rustix::mount::fsconfig_set_string(&fs, "index", "off")?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
