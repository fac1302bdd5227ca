//! The tree that commands see: the system read-only from its disk, below an overlay in memory,
//! and the repository on a disk of its own.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_move};
use stockade_guest::{
    PROGRAM_DISK, PROGRAM_FOLDER, Parameters, REPOSITORY_DISK, SETUP_ARCHIVE, SETUP_DISK,
    SYSTEM_DISK, USER_NAME,
};

use super::{Failure, machine};

/// How long a disk may take to show up after its driver was loaded.
const DISK_WAIT: Duration = Duration::from_secs(10);

/// Where the driver of all disks is told to let go of one, and to take one up.
const DISK_DRIVER: &str = "/sys/bus/virtio/drivers/virtio_blk";

pub(super) const NO_TRUST: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// One mount: what, where, as which file system, how.
struct Mount<'a> {
    source: &'a Path,
    target: &'a str,
    kind: &'a str,
    flags: MountFlags,
    data: Option<&'a CStr>,
}

impl Mount<'_> {
    fn put_up(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::because("mount", self.target, &error);
        fs::create_dir_all(self.target).map_err(failed)?;
        mount(self.source, self.target, self.kind, self.flags, self.data)
            .map_err(|error| failed(error.into()))
    }
}

/// A file system of the kernel's own.
pub(super) fn kernel(
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
) -> Result<(), Failure> {
    Mount { source: kind.as_ref(), target, kind, flags, data: None }.put_up()
}

/// What everything else needs: devices, processes, the kernel's own view.
pub(super) fn early() -> Result<(), Failure> {
    kernel("devtmpfs", "/dev", MountFlags::NOSUID)?;
    kernel("proc", "/proc", NO_TRUST | MountFlags::NOEXEC)?;
    kernel("sysfs", "/sys", NO_TRUST | MountFlags::NOEXEC)
}

/// Builds the tree and makes it the root: what every machine with this system has.
pub(super) fn root() -> Result<(), Failure> {
    let system = disk(SYSTEM_DISK)?;
    let flags = MountFlags::RDONLY | NO_TRUST;
    Mount { source: &system, target: "/system", kind: "erofs", flags, data: None }.put_up()?;
    kernel("tmpfs", "/private", NO_TRUST)?;
    for folder in ["/private/upper", "/private/work"] {
        fs::create_dir(folder).map_err(|error| Failure::because("make", folder, &error))?;
    }
    let data = c"lowerdir=/system,upperdir=/private/upper,workdir=/private/work";
    let (source, flags) = ("overlay".as_ref(), NO_TRUST);
    Mount { source, target: "/root", kind: "overlay", flags, data: Some(data) }.put_up()?;
    for folder in ["dev", "proc", "sys"] {
        let target = Path::new("/root").join(folder);
        fs::create_dir_all(&target)
            .and_then(|()| mount_move(Path::new("/").join(folder), &target).map_err(Into::into))
            .map_err(|error| Failure::because("move", format!("/{folder}"), &error))?;
    }
    enter()?;
    let (source, flags) = ("devpts".as_ref(), MountFlags::NOSUID | MountFlags::NOEXEC);
    let data = Some(c"ptmxmode=666,mode=620");
    Mount { source, target: "/dev/pts", kind: "devpts", flags, data }.put_up()?;
    kernel("tmpfs", "/dev/shm", NO_TRUST)?;
    kernel("tmpfs", "/run", NO_TRUST)?;
    for path in ["/tmp", "/var/tmp", "/dev/shm"] {
        make(path.as_ref(), 0o1777)?;
    }
    Ok(())
}

/// The disks of this machine alone, and what belongs to its user.
pub(super) fn disks(parameters: &Parameters) -> Result<(), Failure> {
    if parameters.has_program {
        let program = disk_anew(PROGRAM_DISK)?;
        let (target, flags) = (PROGRAM_FOLDER, MountFlags::RDONLY | NO_TRUST);
        Mount { source: &program, target, kind: "erofs", flags, data: None }.put_up()?;
    }
    repository(parameters)?;
    if parameters.has_setup {
        archive(parameters)?;
    }
    let home = PathBuf::from(format!("/home/{USER_NAME}"));
    make(&home, 0o755)?;
    chown(&home, Some(parameters.uid), Some(parameters.gid))
        .map_err(|error| Failure::because("give away", home.display(), &error))
}

/// Lets the user read what a set-up has left.
fn archive(parameters: &Parameters) -> Result<(), Failure> {
    let device = disk_anew(SETUP_DISK)?;
    chown(&device, Some(parameters.uid), Some(parameters.gid))
        .and_then(|()| symlink(&device, SETUP_ARCHIVE))
        .map_err(|error| Failure::because("open", SETUP_ARCHIVE, &error))
}

/// The repository's disk, where relative paths start.
fn repository(parameters: &Parameters) -> Result<(), Failure> {
    let path = &parameters.folder;
    let is_plain = path.is_absolute()
        && path.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
    let Some(target) = path.to_str().filter(|_| is_plain) else {
        return Err(Failure::new("mount the repository at", path.display()));
    };
    let disk = disk_anew(REPOSITORY_DISK)?;
    Mount { source: &disk, target, kind: "ext4", flags: NO_TRUST, data: None }.put_up()?;
    // Of the file system's own making: no file of the repository's, and git would name it.
    fs::remove_dir(path.join("lost+found"))
        .map_err(|error| Failure::because("clear", target, &error))?;
    if parameters.gives {
        let given = give(path, (parameters.uid, parameters.gid));
        given.map_err(|error| Failure::because("give away", target, &error))?;
    }
    Ok(())
}

/// Gives all that is in `folder` to the user; nothing of theirs runs yet.
fn give(folder: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            lchown(entry.path(), Some(uid), Some(gid))?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Makes `/root` the root. The initial file system cannot be pivoted away from; what it held is
/// covered.
fn enter() -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::because("enter", "the root", &error);
    rustix::process::chdir("/root").map_err(failed)?;
    mount_move(".", "/").map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

/// A folder, with the ones above it.
fn make(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| Failure::because("make", path.display(), &error))
}

/// The same, after the kernel has forgotten all that it knew of it: size, content, partitions. When it
/// looked first there may have been an empty disk in this one's place.
fn disk_anew(serial: &str) -> Result<PathBuf, Failure> {
    let found = disk(serial)?;
    let name = found.file_name().unwrap_or_default();
    let device = fs::canonicalize(Path::new("/sys/block").join(name).join("device"))
        .map_err(|error| Failure::because("find", format!("the device of `{serial}`"), &error))?;
    let device = device.file_name().unwrap_or_default().as_bytes();
    for step in ["unbind", "bind"] {
        fs::write(Path::new(DISK_DRIVER).join(step), device)
            .map_err(|error| Failure::because(step, format!("the disk `{serial}`"), &error))?;
    }
    disk(serial)
}

/// The block device with this serial number: their order is the machine's own affair.
fn disk(serial: &str) -> Result<PathBuf, Failure> {
    let find = || {
        let has_serial = |device: &fs::DirEntry| {
            let text = fs::read_to_string(device.path().join("serial"));
            text.is_ok_and(|text| text.trim_end() == serial)
        };
        let device = fs::read_dir("/sys/block").ok()?.flatten().find(has_serial)?;
        let node = Path::new("/dev").join(device.file_name());
        node.exists().then_some(node)
    };
    machine::wait_for(Instant::now() + DISK_WAIT, find)
        .ok_or_else(|| Failure::new("find", format!("the disk `{serial}`")))
}
