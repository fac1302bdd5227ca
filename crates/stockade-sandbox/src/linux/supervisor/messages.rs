//! `sendto`, `sendmsg` and `sendmmsg` with an address.
//!
//! A datagram socket of the Unix family takes a path with each message, so these calls need
//! the same judgement as `connect`. A message without an address goes on untouched.
//!
//! Known limit: a thread that swaps the address in between, after this has seen that there is
//! none, can reach a named datagram socket of the host that came into being in a visible
//! folder after the start (those that were there before are masked in the mount view).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::net::AddressFamily;

use super::caller::Caller;
use super::files::Stop;
use super::sockets::{Action, Address};
use super::{Answer, Prepared, errno};
use crate::linux::sys::process_unsafe;
use crate::linux::sys::socket_unsafe::{self, Message};

/// Most that is copied for one message. A Unix or UDP datagram is shorter than this by the
/// kernel's own limits; a stream may take less than it was given, and is then asked again.
const DATA_MAX: usize = 1 << 20;
/// `UIO_MAXIOV`.
const PARTS_MAX: usize = 1024;
/// `net.core.optmem_max` is far below on every system seen.
const CONTROL_MAX: usize = 64 * 1024;
/// `sizeof(struct msghdr)` and `sizeof(struct mmsghdr)` on 64-bit systems.
const HEADER_BYTES: usize = 56;
const HEADER_AND_LENGTH_BYTES: u64 = 64;
/// `SCM_MAX_FD` (net/scm.h).
const DESCRIPTORS_MAX: usize = 253;
/// `sizeof(struct cmsghdr)` on 64-bit systems.
const CONTROL_HEADER: usize = 16;

/// One message that is copied and allowed.
#[derive(Debug)]
struct Outgoing {
    address: Option<Address>,
    data: Vec<u8>,
    control: Vec<u8>,
    /// Descriptors that `control` names, open as long as it lives.
    _descriptors: Vec<OwnedFd>,
}

/// A whole call.
#[derive(Debug)]
pub(super) struct Send {
    socket: OwnedFd,
    flags: i32,
    messages: Vec<Outgoing>,
    /// Where the lengths of `sendmmsg` go; `None` for the calls that return one.
    lengths: Option<Lengths>,
    process: i32,
}

#[derive(Debug, Clone, Copy)]
struct Lengths {
    thread: i32,
    first: u64,
}

impl Send {
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends, and answers as the call would have.
    pub(super) fn perform(self) -> Answer {
        let mut done: i64 = 0;
        for message in &self.messages {
            let outgoing = Message {
                name: message.address.as_ref().map_or(&[], |address| address.bytes()),
                data: &message.data,
                control: &message.control,
                flags: self.flags,
            };
            match socket_unsafe::send(self.socket.as_fd(), &outgoing) {
                Ok(sent) => match self.lengths {
                    None => return Answer::Value(i64::try_from(sent).unwrap_or(i64::MAX)),
                    Some(lengths) => {
                        lengths.store(done, sent);
                        done += 1;
                    }
                },
                Err(_) if done > 0 => break,
                Err(error) => return self.failed(&error),
            }
        }
        Answer::Value(done)
    }

    fn failed(&self, error: &io::Error) -> Answer {
        if error.raw_os_error() == Some(libc::EPIPE) && self.flags & libc::MSG_NOSIGNAL == 0 {
            // The caller may be gone; then nobody misses the signal.
            process_unsafe::kill(self.process, libc::SIGPIPE).ok();
        }
        errno(error)
    }
}

impl Lengths {
    fn store(self, index: i64, sent: usize) {
        let length = u32::try_from(sent).unwrap_or(u32::MAX).to_ne_bytes();
        let offset = index.cast_unsigned() * HEADER_AND_LENGTH_BYTES + HEADER_BYTES as u64;
        // A caller that took its own memory away gets the count all the same, as from the
        // kernel, which has sent by then.
        crate::linux::sys::memory_unsafe::write_memory(
            self.thread,
            self.first.wrapping_add(offset),
            &length,
        )
        .ok();
    }
}

/// The socket that the call is about, with its family.
struct Target {
    socket: OwnedFd,
    domain: AddressFamily,
}

impl Target {
    fn of(caller: &Caller<'_>) -> io::Result<Self> {
        let socket = caller.socket(caller.integer(0))?;
        let domain = rustix::net::sockopt::socket_domain(&socket)?;
        Ok(Self { socket, domain })
    }
}

/// `sendto(socket, data, length, flags, address, address length)`.
pub(super) fn sendto(caller: &Caller<'_>) -> Result<Prepared, Stop> {
    let target = Target::of(caller)?;
    let length = usize::try_from(caller.argument(2)).map_err(io::Error::other)?.min(DATA_MAX);
    let message = Outgoing {
        address: Some(Address::of(
            caller,
            (&target.socket, target.domain),
            caller.argument(4),
            caller.argument(5),
        )?),
        data: caller.read(caller.argument(1), length)?,
        control: Vec::new(),
        _descriptors: Vec::new(),
    };
    finish(caller, target, caller.integer(3), vec![message], None)
}

/// `sendmsg(socket, header, flags)`.
pub(super) fn sendmsg(caller: &Caller<'_>) -> Result<Prepared, Stop> {
    let header = Header::read(caller, caller.argument(1))?;
    // In the host's network an address that comes in between would lead out.
    if header.name == 0 && caller.peers().is_none() {
        return Ok(Prepared::Answer(Answer::Continue));
    }
    let target = Target::of(caller)?;
    let message = header.copy(caller, &target)?;
    finish(caller, target, caller.integer(2), vec![message], None)
}

/// `sendmmsg(socket, headers, count, flags)`.
pub(super) fn sendmmsg(caller: &Caller<'_>) -> Result<Prepared, Stop> {
    let first = caller.argument(1);
    let count = u64::from(caller.integer(2).cast_unsigned()).min(PARTS_MAX as u64);
    let headers = (0..count)
        .map(|index| Header::read(caller, first.wrapping_add(index * HEADER_AND_LENGTH_BYTES)))
        .collect::<io::Result<Vec<_>>>()?;
    if caller.peers().is_none() && headers.iter().all(|header| header.name == 0) {
        return Ok(Prepared::Answer(Answer::Continue));
    }
    let target = Target::of(caller)?;
    let messages = headers
        .iter()
        .map(|header| header.copy(caller, &target))
        .collect::<Result<Vec<_>, Stop>>()?;
    let lengths = Lengths { thread: caller.thread(), first };
    finish(caller, target, caller.integer(3), messages, Some(lengths))
}

fn finish(
    caller: &Caller<'_>,
    target: Target,
    flags: i32,
    messages: Vec<Outgoing>,
    lengths: Option<Lengths>,
) -> Result<Prepared, Stop> {
    let process = caller.process()?;
    caller.confirm()?;
    let send = Send { socket: target.socket, flags, messages, lengths, process };
    Ok(Prepared::Act(Action::Send(send)))
}

/// A `struct msghdr` of the caller's.
#[derive(Debug)]
struct Header {
    name: u64,
    name_length: u64,
    parts: u64,
    part_count: u64,
    control: u64,
    control_length: u64,
}

impl Header {
    fn read(caller: &Caller<'_>, address: u64) -> io::Result<Self> {
        let bytes = caller.read(address, HEADER_BYTES)?;
        Ok(Self {
            name: long(&bytes, 0),
            name_length: long(&bytes, 8) & 0xffff_ffff,
            parts: long(&bytes, 16),
            part_count: long(&bytes, 24),
            control: long(&bytes, 32),
            control_length: long(&bytes, 40),
        })
    }

    fn copy(&self, caller: &Caller<'_>, target: &Target) -> Result<Outgoing, Stop> {
        let address = if self.name == 0 {
            None
        } else {
            Some({
                let socket = (&target.socket, target.domain);
                Address::of(caller, socket, self.name, self.name_length)?
            })
        };
        let (control, descriptors) = self.control(caller, target.domain)?;
        Ok(Outgoing { address, data: self.data(caller)?, control, _descriptors: descriptors })
    }

    fn data(&self, caller: &Caller<'_>) -> io::Result<Vec<u8>> {
        let count = usize::try_from(self.part_count).unwrap_or(usize::MAX);
        if count > PARTS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let parts = caller.read(self.parts, count * 16)?;
        let mut data = Vec::new();
        for part in parts.chunks_exact(16) {
            let length = usize::try_from(long(part, 8)).unwrap_or(usize::MAX);
            let length = length.min(DATA_MAX - data.len());
            data.extend(caller.read(long(part, 0), length)?);
        }
        Ok(data)
    }

    fn control(
        &self,
        caller: &Caller<'_>,
        domain: AddressFamily,
    ) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        if self.control == 0 || self.control_length == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let length = usize::try_from(self.control_length).unwrap_or(usize::MAX);
        if length > CONTROL_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let mut control = caller.read(self.control, length)?;
        if caller.peers().is_some() {
            super::peers::permit_control(&control)?;
        }
        let mut descriptors = Vec::new();
        if domain == AddressFamily::UNIX {
            translate_rights(&mut control, |number| {
                if descriptors.len() == DESCRIPTORS_MAX {
                    return Err(io::Error::from_raw_os_error(libc::EINVAL));
                }
                let descriptor = caller.descriptor(number)?;
                let own = descriptor.as_raw_fd();
                descriptors.push(descriptor);
                Ok(own)
            })?;
        }
        Ok((control, descriptors))
    }
}

/// Replaces the descriptor numbers in `control`, which are the caller's, by those that `own`
/// gives for them. Credentials cannot be sent in somebody else's name: `EPERM`.
fn translate_rights(
    control: &mut [u8],
    mut own: impl FnMut(i32) -> io::Result<i32>,
) -> io::Result<()> {
    let mut at = 0;
    while let Some(header) = control.get(at..at + CONTROL_HEADER) {
        let length = usize::try_from(long(header, 0)).unwrap_or(usize::MAX);
        let (level, kind) = (int(header, 8), int(header, 12));
        let end = at.saturating_add(length);
        if length < CONTROL_HEADER || end > control.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            let numbers = control.get_mut(at + CONTROL_HEADER..end).unwrap_or_default();
            for number in numbers.chunks_exact_mut(4) {
                let replaced = own(int(number, 0))?;
                number.copy_from_slice(&replaced.to_ne_bytes());
            }
        }
        at += length.next_multiple_of(8);
    }
    Ok(())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u64::from_ne_bytes(*chunk))
}

fn int(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| i32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control_message(kind: i32, body: &[u8]) -> Vec<u8> {
        let mut message = (CONTROL_HEADER + body.len()).to_ne_bytes().to_vec();
        message.extend(libc::SOL_SOCKET.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(body);
        message.resize(message.len().next_multiple_of(8), 0);
        message
    }

    #[test]
    fn descriptors_in_a_control_message_are_translated() {
        let mut control = control_message(libc::SCM_RIGHTS, &7_i32.to_ne_bytes());
        control.extend(control_message(libc::SCM_RIGHTS, &9_i32.to_ne_bytes()));
        translate_rights(&mut control, |number| Ok(number + 100)).unwrap();
        assert_eq!((int(&control, 16), int(&control, 40)), (107, 109));
    }

    #[test]
    fn credentials_and_broken_lengths_are_refused() {
        let mut credentials = control_message(libc::SCM_CREDENTIALS, &[0; 12]);
        assert!(translate_rights(&mut credentials, Ok).is_err());
        let mut broken = control_message(libc::SCM_RIGHTS, &[0; 4]);
        broken[0] = 200;
        assert!(translate_rights(&mut broken, Ok).is_err());
        assert!(translate_rights(&mut [1, 2, 3], Ok).is_ok(), "shorter than a header: no message");
    }
}
