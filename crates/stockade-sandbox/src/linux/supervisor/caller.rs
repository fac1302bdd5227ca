//! The process that waits for a trapped call: its memory, descriptors and current folder.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::linux::sys::seccomp_unsafe::{self as seccomp, Notification};
use crate::linux::sys::{memory_unsafe, socket_unsafe};

/// One waiting caller.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    listener: &'a OwnedFd,
    call: &'a Notification,
    pidfd: OnceCell<OwnedFd>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(listener: &'a OwnedFd, call: &'a Notification) -> Self {
        Self { listener, call, pidfd: OnceCell::new() }
    }

    /// Argument `index` (0–5) as passed.
    pub(super) fn argument(&self, index: usize) -> u64 {
        self.call.arguments.get(index).copied().unwrap_or(0)
    }

    /// Argument `index` as the C `int` that the kernel makes of it.
    pub(super) fn integer(&self, index: usize) -> i32 {
        let [a, b, c, d, ..] = self.argument(index).to_le_bytes();
        i32::from_le_bytes([a, b, c, d])
    }

    /// The thread's id in this PID namespace.
    pub(super) fn thread(&self) -> i32 {
        self.call.pid
    }

    /// Fails when the caller was killed meanwhile, whose number and memory may by now be
    /// somebody else's. To be asked after everything was read and before acting on it.
    pub(super) fn confirm(&self) -> io::Result<()> {
        if seccomp::still_waiting(self.listener.as_fd(), self.call.id) {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }

    /// Copies exactly `length` bytes at `address`; `EFAULT` when they are not all there.
    pub(super) fn read(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        if length > 0 {
            let read = memory_unsafe::read_memory(self.call.pid, address, &mut buffer)?;
            if read != length {
                return Err(io::Error::from_raw_os_error(libc::EFAULT));
            }
        }
        Ok(buffer)
    }

    /// A descriptor of this process for what the caller's descriptor `number` refers to.
    pub(super) fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let pidfd = if let Some(pidfd) = self.pidfd.get() {
            pidfd
        } else {
            let opened = self.open_pidfd()?;
            self.pidfd.get_or_init(|| opened)
        };
        Ok(rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
    }

    /// The same for a socket, which must belong to this network: standard input may be one of the
    /// host's (inetd), and would lead wherever the host's network does.
    ///
    /// # Errors
    ///
    /// `EACCES` for a socket of another network namespace.
    pub(super) fn socket(&self, number: i32) -> io::Result<OwnedFd> {
        let socket = self.descriptor(number)?;
        if socket_unsafe::is_of_this_network(socket.as_fd())? {
            return Ok(socket);
        }
        Err(io::Error::from_raw_os_error(libc::EACCES))
    }

    /// The caller's current folder, as a reference.
    pub(super) fn current_folder(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/cwd", self.call.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn open_pidfd(&self) -> io::Result<OwnedFd> {
        let open = |number: i32| -> io::Result<OwnedFd> {
            let pid =
                Pid::from_raw(number).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
        };
        match open(self.call.pid) {
            // Not the first thread of its process: the process has another number.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                open(self.process()?)
            }
            other => other,
        }
    }

    /// The process (thread group) that the thread belongs to.
    pub(super) fn process(&self) -> io::Result<i32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.call.pid))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}
