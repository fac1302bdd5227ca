//! The process that waits for a trapped call: its memory, descriptors and current folder.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::known;
use super::peers::Peers;
use crate::linux::moved::Moved;
use crate::linux::sys::seccomp_unsafe::{self as seccomp, Notification};
use crate::linux::sys::{memory_unsafe, socket_unsafe};

/// One waiting caller.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    listener: &'a OwnedFd,
    call: &'a Notification,
    pidfd: OnceCell<OwnedFd>,
    peers: Option<&'a Peers>,
    moved: Option<&'a Moved>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(listener: &'a OwnedFd, call: &'a Notification) -> Self {
        Self { listener, call, pidfd: OnceCell::new(), peers: None, moved: None }
    }

    /// The same in the host's network, if `peers` are judged there.
    pub(super) fn with(self, peers: Option<&'a Peers>) -> Self {
        Self { peers, ..self }
    }

    /// Who may be spoken to, where the network is the host's.
    pub(super) fn peers(&self) -> Option<&'a Peers> {
        self.peers
    }

    /// The same where folders are others by name.
    pub(super) fn among(self, moved: Option<&'a Moved>) -> Self {
        Self { moved, ..self }
    }

    /// `path`, or what stands for it.
    pub(super) fn moved(&self, path: Vec<u8>) -> Vec<u8> {
        self.moved.and_then(|moved| moved.of(&path)).unwrap_or(path)
    }

    /// The number of its call.
    pub(super) fn number(&self) -> i64 {
        self.call.call
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

    /// The same as a set of bits.
    pub(super) fn word(&self, index: usize) -> u32 {
        self.integer(index).cast_unsigned()
    }

    /// Argument `index` as the flags of an open.
    pub(super) fn open_flags(&self, index: usize) -> OFlags {
        OFlags::from_bits_retain(self.word(index))
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

    /// Copies the string at `address`, which ends in a zero byte.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG` when it is longer than any path, `EFAULT` when it is not all there.
    pub(super) fn read_path(&self, address: u64) -> io::Result<Vec<u8>> {
        /// The kernel's own limit with the zero byte.
        const PATH_MAX: usize = 4096;
        const PAGE: u64 = 4096;
        /// What is read first: few paths are longer.
        const SHORT: usize = 256;
        let mut path = Vec::with_capacity(SHORT);
        while path.len() < PATH_MAX {
            let at = address.wrapping_add(path.len() as u64);
            // To the end of the page: the next may not be there, and need not be.
            let length = usize::try_from(PAGE - at % PAGE).unwrap_or(PATH_MAX);
            let length = length.min(if path.is_empty() { SHORT } else { PATH_MAX - path.len() });
            let start = path.len();
            path.resize(start + length, 0);
            let fresh = path.get_mut(start..).unwrap_or_default();
            if memory_unsafe::read_memory(self.call.pid, at, fresh)? != length {
                return Err(io::Error::from_raw_os_error(libc::EFAULT));
            }
            if let Some(end) = fresh.iter().position(|byte| *byte == 0) {
                path.truncate(start + end);
                return Ok(path);
            }
        }
        Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }

    /// Copies the path that argument `index` points to, or what stands for it.
    pub(super) fn read_moved(&self, index: usize) -> io::Result<Vec<u8>> {
        Ok(self.moved(self.read_path(self.argument(index))?))
    }

    /// Copies `bytes` to `address`, all or `EFAULT`. To be asked whether it is still the caller before.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        memory_unsafe::write_memory(self.call.pid, address, bytes)
    }

    /// The folder that a path relative to the caller's descriptor `number` starts from.
    pub(super) fn folder(&self, number: i32) -> io::Result<OwnedFd> {
        if number == libc::AT_FDCWD {
            return self.current_folder();
        }
        if number >= 0
            && let Some(folder) = known::descriptor(self.call.pid, number)
        {
            return Ok(folder);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.behind(number, flags)
    }

    /// What is behind the caller's descriptor `number`, opened anew by the way it was.
    pub(super) fn behind(&self, number: i32, flags: OFlags) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let path = format!("/proc/{}/fd/{number}", self.call.pid);
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => Err(io::Error::from_raw_os_error(libc::EBADF)),
            opened => Ok(opened?),
        }
    }

    /// Its umask, and whether a signal waits for it that it neither blocks nor ignores.
    pub(super) fn status(&self) -> io::Result<Status> {
        let text = of_kernel(&format!("/proc/{}/status", self.call.pid))?;
        Status::of(&text).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }

    /// The number of its terminal (`tty_nr` of `proc_pid_stat(5)`), 0 for none.
    pub(super) fn terminal(&self) -> io::Result<u32> {
        let text = of_kernel(&format!("/proc/{}/stat", self.call.pid))?;
        // The name of the program may contain anything, and ends at the last parenthesis.
        let number = text.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(4));
        let number: Option<i32> = number.and_then(|number| number.parse().ok());
        number.map(i32::cast_unsigned).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }

    /// Whether it traces `process`, and so may write to its memory.
    pub(super) fn traces(&self, process: i32) -> bool {
        let text = of_kernel(&format!("/proc/{process}/status")).unwrap_or_default();
        let tracer = field(&text, "TracerPid:").and_then(|number| number.parse().ok());
        tracer.is_some_and(|tracer: i32| {
            tracer == self.call.pid || self.process().is_ok_and(|own| own == tracer)
        })
    }

    /// A descriptor of this process for what the caller's descriptor `number` refers to.
    pub(super) fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if let Some(descriptor) = known::descriptor(self.call.pid, number) {
            return Ok(descriptor);
        }
        let pidfd = if let Some(pidfd) = self.pidfd.get() {
            pidfd
        } else {
            let opened = self.open_pidfd()?;
            self.pidfd.get_or_init(|| opened)
        };
        Ok(rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
    }

    /// The same, or a reference to it where descriptors cannot be had: a container's filter may refuse
    /// `pidfd_getfd`. What a reference leads to can be looked at, and changed by the link to it.
    pub(super) fn object(&self, number: i32) -> io::Result<OwnedFd> {
        match self.descriptor(number) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                self.behind(number, OFlags::PATH | OFlags::CLOEXEC)
            }
            taken => taken,
        }
    }

    /// A descriptor of a socket of the caller's, which must belong to this network: standard input may be one of the
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
        if let Some(folder) = known::current_folder(self.call.pid) {
            return Ok(folder);
        }
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
        let text = of_kernel(&format!("/proc/{}/status", self.call.pid))?;
        let number = field(&text, "Tgid:").and_then(|number| number.parse().ok());
        number.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// The text of a file of the kernel's, which has no size: three calls, where the standard library
/// makes ten. What the kernel gives less of than there is room for ends there.
pub(super) fn of_kernel(path: &str) -> io::Result<String> {
    const ROOM: usize = 4096;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    loop {
        let start = text.len();
        text.resize(start + ROOM, 0);
        let read = rustix::io::read(&file, text.get_mut(start..).unwrap_or_default())?;
        text.truncate(start + read);
        if read < ROOM {
            return String::from_utf8(text).map_err(io::Error::other);
        }
    }
}

/// Where the umask of the last caller is told, kept open: the next call is most often the same
/// thread's. The file is bound to the thread and not to its number, and says nothing of a thread that
/// has ended.
#[derive(Debug, Default)]
pub(super) struct Masks(Option<(i32, OwnedFd)>);

impl Masks {
    /// The umask of the caller.
    pub(super) fn of(&mut self, caller: &Caller<'_>) -> io::Result<u32> {
        let number = caller.thread();
        if let Some((known, file)) = &self.0
            && *known == number
            && let Ok(umask) = umask_in(file)
        {
            return Ok(umask);
        }
        self.0 = None;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/{number}/status"), flags, Mode::empty())?;
        let umask = umask_in(&file)?;
        self.0 = Some((number, file));
        Ok(umask)
    }
}

/// It stands in the second line, after a name of 64 bytes at most.
fn umask_in(status: &OwnedFd) -> io::Result<u32> {
    let mut text = [0; 256];
    let length = rustix::io::pread(status, &mut text, 0)?;
    let mut lines = text.get(..length).unwrap_or_default().split(|byte| *byte == b'\n');
    let umask = lines.find_map(|line| line.strip_prefix(b"Umask:\t"));
    let umask = umask.and_then(|mask| u32::from_str_radix(str::from_utf8(mask).ok()?, 8).ok());
    umask.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// What of `proc_pid_status(5)` matters to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) umask: u32,
    /// Those that would be delivered, a bit each.
    signals: u64,
}

impl Status {
    /// Whether a signal waits for the call to end.
    pub(super) fn has_signal(self) -> bool {
        self.signals != 0
    }

    /// The same but for a window that has another size: the program draws when it has its answer. It
    /// is told so after a question on its terminal, which would be put again if that ended the call.
    pub(super) fn has_signal_to_obey(self) -> bool {
        self.signals & !(1 << (libc::SIGWINCH - 1)) != 0
    }

    fn of(text: &str) -> Option<Self> {
        let mask = |name: &str| u64::from_str_radix(field(text, name)?, 16).ok();
        let pending = mask("SigPnd:")? | mask("ShdPnd:")?;
        Some(Self {
            umask: u32::from_str_radix(field(text, "Umask:")?, 8).ok()?,
            signals: pending & !mask("SigBlk:")? & !mask("SigIgn:")?,
        })
    }
}

pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    #[test]
    fn a_status_tells_the_umask_and_signals_that_would_be_delivered() {
        let text = |pending: &str| {
            format!(
                "Name:\tx\nUmask:\t0027\nSigPnd:\t0\nShdPnd:\t{pending}\nSigBlk:\t2\nSigIgn:\t4\n"
            )
        };
        let has_signal = |pending: &str| Status::of(&text(pending)).unwrap().has_signal();
        assert_eq!(Status::of(&text("0")), Some(Status { umask: 0o27, signals: 0 }));
        assert!(has_signal("1") && !has_signal("2") && !has_signal("4") && has_signal("6a"));
        let window = |pending: &str| Status::of(&text(pending)).unwrap();
        assert!(window("8000000").has_signal() && !window("8000000").has_signal_to_obey());
        assert!(window("8000001").has_signal_to_obey());
        assert_eq!(Status::of("Name:\tx\n"), None);
    }

    fn of_process(pid: i32) -> Notification {
        Notification { id: 1, pid, call: libc::SYS_openat, arguments: [0; 6] }
    }

    #[test]
    fn the_umask_is_the_callers_of_now_and_nobodys_after_its_end() {
        let mut shell = Scripted::start("umask 027; echo; read go; umask 077; echo; read go");
        let listener = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (call, mut masks) = (of_process(shell.id()), Masks::default());
        let caller = Caller::new(&listener, &call);
        assert_eq!(masks.of(&caller).unwrap(), 0o27);
        shell.go_on();
        assert_eq!(masks.of(&caller).unwrap(), 0o77, "the file is kept, not what it said");
        shell.end();
        assert!(masks.of(&caller).is_err(), "the number may be anybody's");
        assert!(masks.0.is_none());
    }
}
