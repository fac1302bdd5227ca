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

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::failure::{Failure, step};
use super::mounts::{attach, open};
use crate::Layer;
use crate::error::LAY;

/// Lays each of `layers` over its folder.
pub(super) fn lay(layers: &[Layer]) -> Result<(), Failure> {
    layers.iter().try_for_each(|layer| {
        let path = layer.at.as_path();
        let below = open(path)?;
        let (upper, work) = (open(&layer.upper)?, open(&layer.work)?);
        let overlay = overlay(&below, &upper, &work).map_err(step(LAY, path))?;
        attach(&overlay, path)
    })
}

/// The folders are named to the kernel by descriptor, which no link can lead elsewhere and whose
/// names hold no colon.
fn overlay(below: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_flag(&fs, "userxattr")?;
    for (key, folder) in [("lowerdir", below), ("upperdir", upper), ("workdir", work)] {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        rustix::mount::fsconfig_set_string(&fs, key, path.as_str())?;
    }
    // An index would tie the upper folder to files below that the user may change later.
    rustix::mount::fsconfig_set_string(&fs, "index", "off")?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
