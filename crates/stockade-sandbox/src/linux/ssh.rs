//! What ssh inside is led to: a socket behind which an agent is, outside, and the keys of the hosts
//! that it may know. The user's own are hidden.
//!
//! The socket stands where nobody inside can make one, so the supervisor knows it by its file, which
//! is held open: no other file gets its number meanwhile. It connects programs itself and hands the
//! other end out, with whose it is. The file of keys is empty at first: who
//! serves the agent, outside, adds those of a host when a program connects to it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::failure::{Failure, step};
use super::mounts;
use super::plan::Plan;
use super::sys::socket_unsafe;

/// Their names, in the folder of what is made for a run.
pub(crate) const AGENT: &str = "stockade-ssh-agent";
pub(crate) const KNOWN_HOSTS: &str = "stockade-known-hosts";

/// Where ssh asks for its agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// How git starts ssh.
const GIT_VARIABLE: &str = "GIT_SSH_COMMAND";

/// The socket.
#[derive(Debug)]
pub(crate) struct Agent {
    file: OwnedFd,
    /// One at a time: who comes out of it is who was connected to it.
    listener: Mutex<UnixListener>,
}

impl Agent {
    /// Makes both in `folder`, where programs log in to hosts at all.
    pub(crate) fn make(plan: &Plan, folder: &Path) -> Result<Option<(Self, File)>, Failure> {
        if !logs_in(plan) {
            return Ok(None);
        }
        let path = folder.join(KNOWN_HOSTS);
        let write = || -> io::Result<File> {
            let file = File::options().append(true).create_new(true).mode(0o444).open(&path)?;
            // Made under the user's umask.
            rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o444))?;
            Ok(file)
        };
        let known_hosts = write().map_err(step("make", &path))?;
        let path = folder.join(AGENT);
        let listener = UnixListener::bind(&path).map_err(step("make", &path))?;
        listener.set_nonblocking(true).map_err(step("make", &path))?;
        let file = mounts::open(&path)?;
        Ok(Some((Self { file, listener: Mutex::new(listener) }, known_hosts)))
    }

    /// Whether `file` is it.
    pub(crate) fn is(&self, file: &OwnedFd) -> bool {
        let number = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        number(&self.file).is_ok_and(|own| number(file) == Ok(own))
    }

    /// Connects `socket` to it by `address`, a `struct sockaddr`; the value is the other end.
    ///
    /// # Errors
    ///
    /// What the program gets.
    pub(crate) fn connect(&self, socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<OwnedFd> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        socket_unsafe::connect(socket, address)?;
        loop {
            let stream = OwnedFd::from(listener.accept()?.0);
            // Where its folder is the host's, others of this user can come in between.
            let by = rustix::net::sockopt::socket_peercred(&stream)?.pid;
            if by == rustix::process::getpid() {
                return Ok(stream);
            }
        }
    }
}

/// Whether programs log in to hosts.
pub(crate) fn logs_in(plan: &Plan) -> bool {
    plan.way_out.as_ref().is_some_and(|way| way.logs_in)
}

/// Leads programs there; `folder` is where they see it. What says already how git starts ssh stays.
pub(crate) fn lead(environment: &mut Vec<(OsString, OsString)>, folder: &Path) {
    environment.retain(|(name, _)| name != AGENT_VARIABLE);
    environment.push((AGENT_VARIABLE.into(), folder.join(AGENT).into()));
    if environment.iter().all(|(name, _)| name != GIT_VARIABLE) {
        // In quotes for the shell by which git starts it.
        let mut command = OsString::from("ssh -o UserKnownHostsFile='");
        command.push(folder.join(KNOWN_HOSTS));
        command.push(OsStr::new("'"));
        environment.push((GIT_VARIABLE.into(), command));
    }
}
