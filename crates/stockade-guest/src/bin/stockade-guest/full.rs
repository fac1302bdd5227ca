//! What a machine has more whose commands are root: all that its kernel can do, and a disk for what they make.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_move,
    mount_remount, unmount,
};

use super::Failure;
use super::mounts::{NO_TRUST, kernel};

/// Where the repository's disk is while it is divided.
const STAGE: &str = "/run/disk";

/// Puts it up. The repository is at `folder`, and nothing of the user's runs yet.
pub(super) fn put_up(folder: &Path) -> Result<(), Failure> {
    kernel("cgroup2", "/sys/fs/cgroup", NO_TRUST | MountFlags::NOEXEC)?;
    for (kind, target) in [("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing")] {
        // Where this kernel has it.
        if Path::new(target).is_dir() {
            kernel(kind, target, NO_TRUST | MountFlags::NOEXEC)?;
        }
    }
    divide(folder).map_err(|error| Failure::because("divide", "the repository's disk", &error))?;
    // Root has no need of others' devices and set-id bits to be who it is.
    for path in [Path::new("/"), Path::new("/var"), folder] {
        mount_remount(path, MountFlags::BIND, c"")
            .map_err(|error| Failure::because("mount again", path.display(), &error))?;
    }
    // As every service manager has it: what is mounted in a container may be seen here.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|error| Failure::because("share", "the mounts", &error))?;
    nodes().map_err(|error| Failure::because("make", "the devices of modules", &error))?;
    by_root().map_err(|error| Failure::because("write", "how root becomes others", &error))
}

/// By what root becomes somebody else, with `su` or `runuser`: PAM refuses a service that no file is about.
/// Nobody but root comes through, and the image leaves set-id bits out.
const PAM: &str = "auth sufficient pam_rootok.so\nauth required pam_deny.so\n\
                   account required pam_permit.so\npassword required pam_permit.so\n\
                   session required pam_permit.so\n";

/// What scripts call that root runs as well: `sudo` does nothing without its file, by this mode.
const SUDOERS: (&str, &str, u32) = ("/etc/sudoers", "root ALL=(ALL:ALL) ALL\n", 0o440);

/// The image is everybody's, and leaves these out.
fn by_root() -> io::Result<()> {
    let folder = Path::new("/etc/pam.d");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("other"), PAM)?;
    let (path, text, mode) = SUDOERS;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Moves the repository one level down on its disk, and gives the place beside it to `/var`: containers want
/// a file system there that an overlay can be made upon, and that is not in memory.
fn divide(folder: &Path) -> io::Result<()> {
    let stage = Path::new(STAGE);
    let (tree, var) = (stage.join(".stockade-tree"), stage.join(".stockade-var"));
    fs::create_dir(stage)?;
    mount_move(folder, stage)?;
    let entries = fs::read_dir(stage)?.collect::<io::Result<Vec<_>>>()?;
    for path in [&tree, &var] {
        fs::create_dir(path)?;
    }
    for entry in entries {
        fs::rename(entry.path(), tree.join(entry.file_name()))?;
    }
    let owned = fs::metadata(stage)?;
    chown(&tree, Some(owned.uid()), Some(owned.gid()))?;
    fs::set_permissions(&tree, owned.permissions())?;
    copy_folders("/var".as_ref(), &var)?;
    mount_bind(&var, "/var")?;
    // It may be below that.
    fs::create_dir_all(folder)?;
    mount_bind(&tree, folder)?;
    unmount(stage, UnmountFlags::DETACH)?;
    fs::remove_dir(stage)
}

/// What the image has of `from`: folders without anything in them, and links.
fn copy_folders(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = to.join(entry.file_name());
        if metadata.is_symlink() {
            symlink(fs::read_link(entry.path())?, path)?;
        } else if metadata.is_dir() {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, metadata.permissions())?;
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

/// Devices whose modules are loaded when somebody opens them, as `modules.devname` has them.
fn nodes() -> io::Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let path = Path::new("/lib/modules").join(release).join("modules.devname");
    // A kernel may have all of them built in.
    let text = fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let Some((name, kind, number)) = node(line) else { continue };
        let path = Path::new("/dev").join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // The two that everybody may open on any system.
        let mode = if ["fuse", "net/tun"].contains(&name) { 0o666 } else { 0o600 };
        match mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), number) {
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(mode))?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `loop loop-control c10:237`: the module, the device's name, its kind and numbers.
fn node(line: &str) -> Option<(&str, FileType, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (name, device) = (words.nth(1)?, words.next()?);
    let (kind, numbers) = match device.split_at_checked(1)? {
        ("c", numbers) => (FileType::CharacterDevice, numbers),
        ("b", numbers) => (FileType::BlockDevice, numbers),
        _ => return None,
    };
    let (major, minor) = numbers.split_once(':')?;
    Some((name, kind, makedev(major.parse().ok()?, minor.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_kmod_writes_them() {
        let tun = Some(("net/tun", FileType::CharacterDevice, makedev(10, 200)));
        assert_eq!(node("tun net/tun c10:200"), tun);
        let disk = Some(("x", FileType::BlockDevice, makedev(7, 0)));
        assert_eq!(node("x x b7:0"), disk);
        let comment = "# Device nodes to trigger on-demand module loading.";
        for line in [comment, "", "tun", "tun net/tun", "tun net/tun p1:2", "tun net/tun c10"] {
            assert_eq!(node(line), None, "{line}");
        }
    }
}
