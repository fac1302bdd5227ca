//! Trying the walls from inside, as the command would, before the command.
//!
//! Each attempt must fail the way its own wall makes it fail: a write that Landlock stops but
//! the mount view would have let through is a missing wall all the same.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Failure, step};
use super::plan::Plan;
use super::sys::{credentials_unsafe, landlock_unsafe, seccomp_unsafe};

/// How the folder begins that only the second backend tries to make.
pub(super) const CANARY: &str = "stockade-canary-";

/// Runs every canary; `port` is where the parent listens on the host's loopback, if it does.
pub(crate) fn run(plan: &Plan, port: Option<u16>) -> Result<(), Failure> {
    let has_namespaces = plan.walls.namespaces;
    let is_supervised = plan.walls.supervisor && plan.walls.descriptors;
    if has_namespaces {
        write_outside(&plan.canary)?;
        landlock()?;
    } else {
        // Not by its name, which may stand for another folder.
        let above = plan.temporary.as_ref().map(|own| own.join(".."));
        make_outside(above.as_ref().unwrap_or(&plan.canary))?;
    }
    connect_outside(port, is_supervised)?;
    seccomp()?;
    capabilities()
}

/// An unnamed temporary file: should a wall be missing, nothing is left behind.
fn write_outside(folder: &Path) -> Result<(), Failure> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR) {
        Err(Errno::ROFS) => Ok(()),
        Ok(_) => Err(missing("mounts", &format!("`{}` could be written", folder.display()))),
        Err(error) => Err(missing("mounts", &format!("`{}`: {error}", folder.display()))),
    }
}

/// A folder where everybody can make one: only Landlock keeps it from being made.
fn make_outside(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(format!("{CANARY}{}", std::process::id()));
    match rustix::fs::mkdir(&path, Mode::RWXU) {
        // The supervisor's word for it, where there is one.
        Err(Errno::ACCESS | Errno::ROFS) => Ok(()),
        Ok(()) => {
            // It may be made and not removed: then it is left empty.
            rustix::fs::rmdir(&path).ok();
            Err(missing("Landlock", &format!("a folder could be made in `{}`", folder.display())))
        }
        Err(error) => Err(missing("Landlock", &format!("`{}`: {error}", folder.display()))),
    }
}

fn connect_outside(port: Option<u16>, is_supervised: bool) -> Result<(), Failure> {
    let Some(port) = port else { return Ok(()) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Err(error) if is_supervised && error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if !is_supervised && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Ok(_) => Err(missing("network", "a listener outside answered")),
        Err(error) => Err(missing("network", &error.to_string())),
    }
}

/// `/dev` is a private folder that only Landlock keeps from being written.
fn landlock() -> Result<(), Failure> {
    if landlock_unsafe::abi().is_err() {
        return Ok(());
    }
    match rustix::fs::mkdir("/dev/canary", Mode::RWXU) {
        Err(Errno::ACCESS) => Ok(()),
        Ok(()) => Err(missing("Landlock", "a folder could be made in `/dev`")),
        Err(error) => Err(missing("Landlock", &error.to_string())),
    }
}

fn seccomp() -> Result<(), Failure> {
    match seccomp_unsafe::ask_for_a_keyring() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        Ok(()) => Err(missing("seccomp", "a keyring answered")),
        Err(error) => Err(missing("seccomp", &error.to_string())),
    }
}

fn capabilities() -> Result<(), Failure> {
    if credentials_unsafe::has_no_capability().map_err(step("read", "capabilities"))? {
        Ok(())
    } else {
        Err(missing("capabilities", "some are left"))
    }
}

fn missing(wall: &str, how: &str) -> Failure {
    Failure::canary(format!("{wall} ({how})"))
}
