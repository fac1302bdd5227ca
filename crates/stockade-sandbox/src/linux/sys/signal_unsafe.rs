//! Signal masks, dispositions and signalfd(2).
#![expect(unsafe_code, reason = "sigset_t and sigaction have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalSet")
    }
}

impl SignalSet {
    /// The set of exactly `signals`.
    pub(crate) fn of(signals: &[i32]) -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initializes the whole set it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialized on the line above.
        let mut set = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: `set` is an initialized set; an unknown number only gives an error.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        Self(set)
    }
}

/// Blocks `set` in addition to what is blocked, and returns what was blocked before.
pub(crate) fn block(set: &SignalSet) -> io::Result<SignalSet> {
    change_mask(libc::SIG_BLOCK, set)
}

/// Makes `set` the signals that are blocked.
pub(crate) fn set_mask(set: &SignalSet) -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, set).map(drop)
}

fn change_mask(how: i32, set: &SignalSet) -> io::Result<SignalSet> {
    let mut before = SignalSet::of(&[]);
    // SAFETY: both sets are initialized and live for the call.
    let error = unsafe { libc::pthread_sigmask(how, &raw const set.0, &raw mut before.0) };
    if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// A descriptor from which the (blocked) signals of `set` can be read.
pub(crate) fn signalfd(set: &SignalSet) -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialized; -1 asks for a new descriptor.
    let fd =
        unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor, owned by nobody else yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal of a signalfd, or `None` when there is none.
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is as long as the size says, and the kernel writes whole records.
    let read = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if read == size.cast_signed() {
        // SAFETY: a whole record was read.
        let info = unsafe { info.assume_init() };
        return Ok(i32::try_from(info.ssi_signo).ok());
    }
    let error = io::Error::last_os_error();
    let none_yet = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    if none_yet.contains(&error.kind()) { Ok(None) } else { Err(error) }
}

/// Gives every signal its default action, so that a program started from here does not
/// inherit what this process ignores.
pub(crate) fn reset_dispositions(keep_ignored: &[i32]) {
    for signal in 1..=64 {
        if !keep_ignored.contains(&signal) {
            // SAFETY: SIG_DFL runs no code of ours; SIGKILL and SIGSTOP only give EINVAL.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// The signals among `candidates` that this process was started with as ignored.
pub(crate) fn ignored(candidates: &[i32]) -> Vec<i32> {
    let mut found = Vec::new();
    for &signal in candidates {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null new action only asks; the old one is written in full.
        let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
        // SAFETY: zeroed, and then written by the kernel when the call succeeded.
        let action = unsafe { action.assume_init() };
        if result == 0 && action.sa_sigaction == libc::SIG_IGN {
            found.push(signal);
        }
    }
    found
}
