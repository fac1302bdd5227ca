//! Who is at the other end of a Unix socket, as `SO_PEERCRED` tells (unix(7)).
//!
//! The kernel notes the process that connects, which is this one for all that is carried out here. So
//! it is remembered for whom, and told to who looks. Nothing is decided by it: the user and the group
//! are the kernel's own word.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::caller::Caller;
use super::{Answer, unix_peers};
use crate::linux::sys::socket_unsafe;

/// As many connections are remembered. Who asks does so soon after it has accepted one.
const MOST: usize = 4096;
/// Linux 6.5; not in libc for every target.
const SO_PEERPIDFD: i32 = 77;

/// The processes that connections were made for, by the inode of their socket. The kernel counts
/// these upwards, so that the least is the oldest.
#[derive(Debug, Default)]
pub(super) struct Connectors(Mutex<BTreeMap<u64, i32>>);

impl Connectors {
    /// The caller's `socket` is about to be connected to another one inside.
    pub(super) fn remember(&self, caller: &Caller<'_>, socket: &OwnedFd) -> io::Result<()> {
        let inode = rustix::fs::fstat(socket)?.st_ino;
        let process = caller.process()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(inode, process);
        if known.len() > MOST {
            known.pop_first();
        }
        Ok(())
    }

    /// `getsockopt` of the credentials at the other end. What this process has nothing to do with is
    /// the kernel's to answer, errors included.
    pub(super) fn tell(&self, caller: &Caller<'_>) -> io::Result<Answer> {
        let Ok(socket) = caller.descriptor(caller.integer(0)) else { return Ok(Answer::Continue) };
        let mut told = match socket_unsafe::peer_credentials(socket.as_fd()) {
            Ok(told) if told.starts_with(&std::process::id().to_ne_bytes()) => told,
            Ok(_) | Err(_) => return Ok(Answer::Continue),
        };
        if caller.integer(2) == SO_PEERPIDFD {
            // As from a kernel that has no such option.
            return Ok(Answer::Errno(libc::ENOPROTOOPT));
        }
        // Nobody, where that end is closed by now, as from another PID namespace.
        let process = self.process(&socket).unwrap_or(0);
        if let Some(first) = told.first_chunk_mut() {
            *first = process.to_ne_bytes();
        }
        let room = caller.read(caller.argument(4), 4)?;
        let room = room.first_chunk().map_or(0, |room| i32::from_ne_bytes(*room));
        let Ok(room) = usize::try_from(room) else { return Ok(Answer::Errno(libc::EINVAL)) };
        let told = told.get(..room).unwrap_or(&told);
        caller.confirm()?;
        caller.write(caller.argument(3), told)?;
        let length = i32::try_from(told.len()).map_err(io::Error::other)?;
        caller.write(caller.argument(4), &length.to_ne_bytes())?;
        Ok(Answer::Value(0))
    }

    fn process(&self, socket: &OwnedFd) -> Option<i32> {
        let peer = unix_peers::peer_of(rustix::fs::fstat(socket).ok()?.st_ino).ok()??;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }
}
