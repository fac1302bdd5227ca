//! `clone3`, `fork` and what belongs to being a parent or a child.
#![expect(unsafe_code, reason = "clone3 and fork have no safe wrapper; see `single_threaded`")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::event::{Timespec, poll};

/// The two sides of a fork.
#[derive(Debug)]
pub(crate) enum Fork<P> {
    /// This is the new process.
    Child,
    /// This is the old process; what it knows of the new one.
    Parent(P),
}

/// A child in new namespaces, as its parent sees it.
#[derive(Debug)]
pub(crate) struct Namespaced {
    /// Process id in the parent's PID namespace.
    pub(crate) pid: i32,
    /// A pidfd for it; becomes readable when it ends.
    pub(crate) pidfd: OwnedFd,
}

/// How long a thread that has been joined may take to be gone, in turns.
const TURNS: usize = 1000;
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Refuses when a second thread exists: a forked child has only the calling thread, and a
/// lock that another one held would never be released in it.
///
/// Who joins a thread goes on before the kernel has let go of it (`CLONE_CHILD_CLEARTID`, clone(2)): on
/// a busy machine one that has ended is waited for.
fn single_threaded() -> io::Result<()> {
    for _ in 0..TURNS {
        if is_single_threaded() {
            return Ok(());
        }
        poll(&mut [], Some(&TURN)).ok();
    }
    let text = "refusing to fork: another thread is running";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// `unshare(CLONE_THREAD)` has no effect but to say whether there is another one (unshare(2)).
fn is_single_threaded() -> bool {
    // SAFETY: the call takes an integer, and with this flag changes nothing.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return true;
    }
    // Filters of containers refuse the call whatever it asks for; a second thread gives `EINVAL`.
    let is_refused = io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL);
    is_refused && std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Forks with `clone3` into the namespaces named by `flags` (`CLONE_NEW*`). The child's
/// end is signalled to the parent by `SIGCHLD`.
///
/// # Errors
///
/// `EPERM` or `ENOSPC` where user namespaces cannot be had, `EAGAIN` at the process limit;
/// [`io::ErrorKind::Unsupported`] when this process has more than one thread.
/// Source: clone(2).
pub(crate) fn clone_into(flags: i32) -> io::Result<Fork<Namespaced>> {
    single_threaded()?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` consists of integers only, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child gets a copy of this process, as with fork. Forking
    // is unsound when another thread may hold a lock that the child waits for; there is no
    // other thread, asked above, and only a running thread can start another. `args` and
    // `pidfd` are live for the call and have the sizes that the kernel is told.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor, owned by nobody else yet.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Fork::Parent(Namespaced { pid, pidfd }))
        }
    }
}

/// Forks the calling process.
///
/// # Errors
///
/// As [`clone_into`].
pub(crate) fn fork() -> io::Result<Fork<i32>> {
    single_threaded()?;
    // SAFETY: the line above found no other thread, so the child may allocate and lock
    // like any single-threaded process.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Forks a process that shares the descriptors of this one: what one of them opens is open in both.
///
/// # Errors
///
/// As [`clone_into`].
pub(crate) fn fork_sharing_descriptors() -> io::Result<Fork<i32>> {
    single_threaded()?;
    let flags = libc::c_long::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: as in `clone_into`; without a stack of its own the child goes on with a copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(i32::try_from(pid).map_err(io::Error::other)?)),
    }
}

/// How a child changed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It called exit with this status (0–255).
    Exited(u8),
    /// This signal ended it.
    Killed(i32),
    /// This signal stopped it.
    Stopped(i32),
}

/// Takes one state change of any child or traced thread, without waiting; the number is that of
/// waitpid(2).
///
/// `Ok(None)` when none has changed, or there is none.
pub(crate) fn reap() -> io::Result<Option<(i32, Change, i32)>> {
    let mut status = 0;
    // SAFETY: `status` is a live int for the kernel to fill.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    match pid {
        0 => Ok(None),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
        pid => Ok(Some((pid, change(status), status))),
    }
}

/// Waits for `pid`, a child of this process, to end.
pub(crate) fn wait_for_end(pid: i32) -> io::Result<Change> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live int for the kernel to fill.
        let found = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if found == pid {
            return Ok(change(status));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

fn change(status: i32) -> Change {
    if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(libc::WTERMSIG(status))
    } else {
        // WEXITSTATUS is the low 8 bits that exit(2) keeps.
        Change::Exited(u8::try_from(libc::WEXITSTATUS(status) & 0xff).unwrap_or(u8::MAX))
    }
}

/// Sends `signal` to `pid`; a negative `pid` names a process group.
///
/// # Errors
///
/// `ESRCH` when it is gone, `EPERM` when it belongs to somebody else.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of this process.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread an umask and a current folder of its own.
pub(crate) fn own_file_settings() -> io::Result<()> {
    // SAFETY: the call takes an integer and touches no memory of this process.
    match unsafe { libc::unshare(libc::CLONE_FS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes this process the reaper of its orphaned descendants.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes integers only.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once, without running exit handlers or destructors: for a forked
/// child, whose copies of its parent's buffers must not be written a second time.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory of this process.
    unsafe { libc::_exit(status) }
}

/// Forks a test that runs beside the harness' main thread.
#[cfg(test)]
pub(crate) fn fork_beside_harness() -> io::Result<Fork<i32>> {
    // SAFETY: with `--test-threads=1` and one test, the only other thread is the harness'
    // main one, which waits for this one's result and holds no lock meanwhile.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}
