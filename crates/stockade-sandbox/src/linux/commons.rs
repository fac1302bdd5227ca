//! What the kernel counts for a user as a whole and no namespace divides: what `epoll` watches
//! (epoll(7), `max_user_watches`) and descriptors in messages that nobody has taken yet (unix(7),
//! `ETOOMANYREFS`). A run that used them up would leave none to the user's desktop and editor.
//!
//! No limit can be set for a run alone. So at each look it is tried whether a program of the user's
//! would still get one, and the run ends when it would not.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};
use rustix::process::{Resource, Rlimit};

use crate::Shared;

/// As many descriptors as most programs may have open, and therefore have on their way as well.
const OF_MOST_PROGRAMS: u64 = 1024;

/// Tries them.
#[derive(Debug)]
pub(super) struct Commons {
    watching: OwnedFd,
    pair: (OwnedFd, OwnedFd),
}

impl Commons {
    /// `None` when the user has none left already, or is not asked: what it is that ends is then none
    /// of the run's doing.
    pub(super) fn new() -> Option<Self> {
        let watching = epoll::create(CreateFlags::CLOEXEC).ok()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
        let commons = Self { watching, pair };
        commons.used_up().is_none().then_some(commons)
    }

    /// What is used up.
    pub(super) fn used_up(&self) -> Option<Shared> {
        if self.watch() == Err(Errno::NOSPC) {
            return Some(Shared::Watches);
        }
        let sent = as_most_programs(|| self.send());
        (sent == Err(Errno::TOOMANYREFS)).then_some(Shared::Descriptors)
    }

    fn watch(&self) -> rustix::io::Result<()> {
        let (watched, data) = (&self.pair.0, EventData::new_u64(0));
        epoll::add(&self.watching, watched, data, EventFlags::IN)?;
        epoll::delete(&self.watching, watched)
    }

    /// Sends a descriptor and takes the message without it, which closes it.
    fn send(&self) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sent = [self.watching.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sent));
        let data = [IoSlice::new(&[0])];
        rustix::net::sendmsg(&self.pair.0, &data, &mut control, SendFlags::empty())?;
        let mut buffer = [0_u8];
        rustix::net::recv(&self.pair.1, &mut buffer[..], RecvFlags::empty()).map(drop)
    }
}

/// Makes a call with no higher limit than most programs have: it is the sender's own that counts.
fn as_most_programs<T>(call: impl FnOnce() -> T) -> T {
    let own = rustix::process::getrlimit(Resource::Nofile);
    // The size of this folder is the number of open files, since Linux 6.2.
    let open = rustix::fs::stat("/proc/self/fd").map_or(0, |stat| stat.st_size);
    let is_above = own.current.is_none_or(|current| current > OF_MOST_PROGRAMS);
    // Another thread must not miss a descriptor for it.
    if !is_above || !(1..900).contains(&open) {
        return call();
    }
    let lowered = Rlimit { current: Some(OF_MOST_PROGRAMS), ..own };
    let is_lowered = rustix::process::setrlimit(Resource::Nofile, lowered).is_ok();
    let result = call();
    if is_lowered {
        rustix::process::setrlimit(Resource::Nofile, own).ok();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_to_be_left_and_nothing_of_it_is_kept() {
        let commons = Commons::new().expect("this user has some of both left");
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = rustix::process::getrlimit(Resource::Nofile);
        let first = open();
        for _ in 0..3000 {
            assert_eq!(commons.used_up(), None);
        }
        // Other tests of this process open and close files meanwhile.
        assert!(open() < first + 1000, "what was sent is closed");
        assert_eq!(rustix::process::getrlimit(Resource::Nofile), before);
    }
}
