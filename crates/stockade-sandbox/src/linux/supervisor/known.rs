//! What is kept open of the caller that this thread answered last: the next call is most often the
//! same one's, and the way through `/proc` is a good part of what a call costs (ADR 0076).
//!
//! Only the way is kept, never what it led to: a descriptor's number and the current folder may mean
//! another folder at the next call. Both descriptors are bound to the thread and not to its number, and
//! say nothing of a thread that has ended; then the way is gone anew, by the number.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

thread_local! {
    static LAST: RefCell<Known> = const { RefCell::new(Known::of(0)) };
}

/// The descriptors of this process, by name.
static OWN: OnceLock<OwnedFd> = OnceLock::new();

#[derive(Debug)]
struct Known {
    thread: i32,
    /// Its folder in `/proc`.
    folder: Way,
    /// Its process; there is none of a thread that is not the first of one.
    process: Way,
}

/// Something that is opened when it is asked for again.
#[derive(Debug)]
enum Way {
    Untried,
    None,
    Open(OwnedFd),
}

impl Way {
    fn get(&mut self, open: impl FnOnce() -> Option<OwnedFd>) -> Option<&OwnedFd> {
        if let Self::Untried = self {
            *self = open().map_or(Self::None, Self::Open);
        }
        match self {
            Self::Open(found) => Some(found),
            Self::Untried | Self::None => None,
        }
    }
}

impl Known {
    const fn of(thread: i32) -> Self {
        Self { thread, folder: Way::Untried, process: Way::Untried }
    }
}

/// A descriptor for what is behind the caller's descriptor `number`; `None` where it is to be had in
/// another way, or not at all.
pub(super) fn descriptor(thread: i32, number: i32) -> Option<OwnedFd> {
    by(thread, |known| {
        let open = || rustix::process::pidfd_open(Pid::from_raw(thread)?, PidfdFlags::empty()).ok();
        let process = known.process.get(open)?;
        Some(rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty()))
    })
}

/// The caller's current folder, as a reference.
pub(super) fn current_folder(thread: i32) -> Option<OwnedFd> {
    by(thread, |known| {
        let open = || rustix::fs::open(format!("/proc/{thread}"), FOLDER, Mode::empty()).ok();
        let folder = known.folder.get(open)?;
        Some(rustix::fs::openat(folder, "cwd", FOLDER, Mode::empty()))
    })
}

/// What `look` finds for a caller that called before; who makes one call is not worth a descriptor.
fn by<T>(thread: i32, look: impl FnOnce(&mut Known) -> Option<Result<T>>) -> Option<T> {
    LAST.with_borrow_mut(|last| {
        if last.thread != thread {
            *last = Known::of(thread);
            return None;
        }
        match look(last)? {
            Ok(found) => Some(found),
            Err(error) => {
                // The number may be somebody else's by now.
                if matches!(error, Errno::SRCH | Errno::NOENT) {
                    *last = Known::of(thread);
                }
                None
            }
        }
    })
}

/// Keeps the way to the names of this process' own descriptors. Only for one from which no other comes
/// that answers: that would be told the names of these.
pub(super) fn begin() {
    // Without it the way is gone each time.
    if let Ok(own) = rustix::fs::open("/proc/self/fd", FOLDER, Mode::empty()) {
        OWN.set(own).ok();
    }
}

/// The link that says what the descriptor `number` of this process is called.
pub(super) fn link_of(number: i32) -> Result<Vec<u8>> {
    let room = Vec::with_capacity(256);
    let name = match OWN.get() {
        Some(own) => rustix::fs::readlinkat(own, number.to_string(), room),
        None => rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{number}"), room),
    };
    Ok(name?.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::super::scripted::Scripted;
    use super::*;

    fn name(found: &OwnedFd) -> String {
        String::from_utf8(link_of(found.as_raw_fd()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_behind_a_number_is_that_of_now_and_nothing_after_the_end() {
        let script = "exec 5< /usr; cd /usr; echo; read go; exec 5< /etc; cd /etc; echo; read go";
        let mut shell = Scripted::start(script);
        let thread = shell.id();
        assert!(descriptor(thread, 5).is_none(), "of one call nothing is kept");
        assert_eq!(name(&descriptor(thread, 5).unwrap()), "/usr");
        assert_eq!(name(&current_folder(thread).unwrap()), "/usr");
        assert!(descriptor(thread, 77).is_none());
        shell.go_on();
        assert_eq!(
            name(&descriptor(thread, 5).unwrap()),
            "/etc",
            "the way is kept, not the folder"
        );
        assert_eq!(name(&current_folder(thread).unwrap()), "/etc");
        shell.end();
        assert!(descriptor(thread, 5).is_none() && current_folder(thread).is_none());
        LAST.with_borrow(|last| assert!(matches!(last.process, Way::Untried), "{last:?}"));
    }
}
