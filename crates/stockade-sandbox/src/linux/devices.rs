//! The `/dev` of the view: few devices, terminals of its own, and what programs share by name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use super::failure::{Failure, step};
use super::mounts::{
    READ_ONLY, attach, clone_tree, is_absent, make_file, open_quietly, set, subtree,
};

/// Devices that a program may open. Each is the host's own node: a new one cannot be made
/// in a user namespace.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The host's own nodes, before the tree that they lie in is closed.
pub(super) fn capture() -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    let mut devices = Vec::with_capacity(DEVICES.len());
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        match open_quietly(&path) {
            Ok(fd) => {
                let tree = clone_tree(&fd, &path)?;
                // Its mode and times; a device is written all the same.
                set(&tree, READ_ONLY, false, &path)?;
                devices.push((name, tree));
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(step("open", &path)(error)),
        }
    }
    Ok(devices)
}

/// A `/dev` with the devices of [`DEVICES`], a `/dev/pts` of its own, `/dev/shm` and message queues.
pub(super) fn view(scratch: &OwnedFd, devices: &[(&str, OwnedFd)]) -> Result<(), Failure> {
    let furnish = || -> io::Result<()> {
        for (name, _) in devices {
            make_file(scratch, Path::new("dev").join(name), 0o666)?;
        }
        for name in ["dev/pts", "dev/mqueue"] {
            rustix::fs::mkdirat(scratch, name, Mode::from_raw_mode(0o755))?;
        }
        let links = [
            ("/proc/self/fd", "dev/fd"),
            ("/proc/self/fd/0", "dev/stdin"),
            ("/proc/self/fd/1", "dev/stdout"),
            ("/proc/self/fd/2", "dev/stderr"),
            ("pts/ptmx", "dev/ptmx"),
        ];
        for (target, name) in links {
            rustix::fs::symlinkat(target, scratch, name)?;
        }
        Ok(())
    };
    furnish().map_err(step("furnish", "/dev"))?;
    let view = subtree(scratch, "dev")?;
    let shm = subtree(scratch, "dev/shm")?;
    attach(&view, Path::new("/dev"))?;
    attach(&shm, Path::new("/dev/shm"))?;
    for (name, tree) in devices {
        // The name is not followed, and was made above.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(tree, "", &view, *name, flags)
            .map_err(step("mount over", Path::new("/dev").join(name)))?;
    }
    let pts = new_devpts().map_err(step("mount", "/dev/pts"))?;
    attach(&pts, Path::new("/dev/pts"))?;
    match new_queues() {
        Ok(queues) => attach(&queues, Path::new(QUEUES)),
        // A kernel without POSIX message queues.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(step("mount", QUEUES)(error)),
    }
}

/// The POSIX message queues of this IPC namespace (`mq_overview(7)`). Landlock finds no rule for a
/// queue but at the root of this file system, which has to be mounted to be named.
pub(crate) const QUEUES: &str = "/dev/mqueue";

fn new_queues() -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn new_devpts() -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "0620"), ("ptmxmode", "0666")] {
        rustix::mount::fsconfig_set_string(&fs, key, value)?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
