//! The messages between the parent outside and PID 1 inside.
//!
//! They travel as packets over a socket pair that both ends made before anything foreign
//! ran, so a malformed one is a bug of ours and ends the run; it is never guessed at.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use stockade_policy::{Denial, Operation};

use super::failure::Failure;

/// Longest packet: a step's words and a path (`PATH_MAX`, 4096 bytes).
const PACKET_MAX: usize = 8192;
/// Most descriptors in one packet: two listeners (IPv4, IPv6) for each port, in batches.
const DESCRIPTORS_MAX: usize = 16;

/// From the parent to PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The id maps are written.
    Mapped,
    /// What comes out is served.
    Served,
    /// Pass this signal to the command.
    Signal(i32),
    /// The user brought Stockade back to the foreground.
    Resume,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit status.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

/// From PID 1 to the parent.
#[derive(Debug)]
pub(crate) enum Report {
    /// Nothing of the command has run.
    Failed(Failure),
    /// The command's program could not be executed: its name and the error number.
    NotRun(PathBuf, i32),
    /// What the user should know of the boundary.
    Note(String),
    /// Something was refused.
    Denied(Denial),
    /// So many further calls were refused.
    DeniedMore(u64),
    /// The walls stand, and whoever serves what comes out may begin: [`Order::Served`].
    Standing,
    /// The command runs.
    Started,
    /// The master side of the inner terminal comes with this.
    Terminal,
    /// Listeners for the host ports come with this: IPv4 and IPv6 of each, in turn.
    Listeners,
    /// What is at this path is to be removed; whoever waits for it comes with this.
    TakeAway { path: PathBuf, is_folder: bool },
    /// The command was stopped by this signal.
    Stopped(i32),
    /// The command ended.
    Ended(End),
}

/// A pair of connected ends.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let family = AddressFamily::UNIX;
    Ok(rustix::net::socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed packet: {what}"))
}

impl Order {
    fn encode(self) -> [u8; 5] {
        let (kind, value) = match self {
            Self::Mapped => (b'm', 0),
            Self::Served => (b'w', 0),
            Self::Signal(number) => (b's', number.cast_unsigned()),
            Self::Resume => (b'r', 0),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [kind, a, b, c, d]
    }

    fn decode(packet: &[u8]) -> io::Result<Self> {
        let &[kind, a, b, c, d] = packet else { return Err(invalid("order")) };
        let value = u32::from_le_bytes([a, b, c, d]);
        match kind {
            b'm' => Ok(Self::Mapped),
            b'w' => Ok(Self::Served),
            b's' => Ok(Self::Signal(value.cast_signed())),
            b'r' => Ok(Self::Resume),
            _ => Err(invalid("order kind")),
        }
    }

    /// Sends the order. `EPIPE` when the other end is gone.
    pub(crate) fn send(self, to: impl AsFd) -> io::Result<()> {
        send(to, &self.encode(), &[])
    }

    /// Takes the next order; `Ok(None)` when the parent is gone.
    pub(crate) fn receive(from: impl AsFd) -> io::Result<Option<Self>> {
        let (packet, _none) = receive(from)?;
        if packet.is_empty() { Ok(None) } else { Self::decode(&packet).map(Some) }
    }
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let number = |kind: u8, value: i32| {
            let mut packet = vec![kind];
            packet.extend(value.to_le_bytes());
            packet
        };
        match self {
            Self::Failed(failure) => {
                let mut packet = number(b'f', failure.errno);
                packet.extend(failure.step.as_bytes());
                packet.push(0);
                packet.extend(failure.subject.as_os_str().as_bytes());
                packet.truncate(PACKET_MAX);
                packet
            }
            Self::NotRun(program, errno) => {
                let mut packet = number(b'n', *errno);
                packet.extend(program.as_os_str().as_bytes());
                packet.truncate(PACKET_MAX);
                packet
            }
            Self::Note(text) => {
                let mut packet = number(b'i', 0);
                packet.extend(text.as_bytes());
                packet.truncate(PACKET_MAX);
                packet
            }
            Self::Denied(denial) => encode_denial(denial),
            Self::DeniedMore(count) => {
                let mut packet = number(b'c', 0);
                packet.extend(count.to_le_bytes());
                packet
            }
            Self::Standing => number(b'w', 0),
            Self::Started => number(b'r', 0),
            Self::Terminal => number(b't', 0),
            Self::Listeners => number(b'l', 0),
            Self::TakeAway { path, is_folder } => {
                let mut packet = number(b'a', i32::from(*is_folder));
                packet.extend(path.as_os_str().as_bytes());
                packet
            }
            Self::Stopped(signal) => number(b'p', *signal),
            Self::Ended(End::Exited(status)) => number(b'x', i32::from(*status)),
            Self::Ended(End::Killed(signal)) => number(b'k', *signal),
        }
    }

    fn decode(packet: &[u8]) -> io::Result<Self> {
        let Some((&[kind, a, b, c, d], rest)) = packet.split_first_chunk::<5>() else {
            return Err(invalid("report"));
        };
        let value = i32::from_le_bytes([a, b, c, d]);
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        match kind {
            b'f' => {
                let mut parts = rest.splitn(2, |byte| *byte == 0);
                let step = parts.next().unwrap_or_default();
                Ok(Self::Failed(Failure {
                    step: String::from_utf8_lossy(step).into_owned(),
                    subject: path(parts.next().unwrap_or_default()),
                    errno: value,
                }))
            }
            b'n' => Ok(Self::NotRun(path(rest), value)),
            b'i' => Ok(Self::Note(String::from_utf8_lossy(rest).into_owned())),
            b'd' => Ok(Self::Denied(decode_denial(value, rest)?)),
            b'c' => {
                let count = rest.try_into().map_err(|_other| invalid("count"))?;
                Ok(Self::DeniedMore(u64::from_le_bytes(count)))
            }
            b'w' => Ok(Self::Standing),
            b'r' => Ok(Self::Started),
            b't' => Ok(Self::Terminal),
            b'l' => Ok(Self::Listeners),
            b'a' => Ok(Self::TakeAway { path: path(rest), is_folder: value != 0 }),
            b'p' => Ok(Self::Stopped(value)),
            b'x' => {
                let status = u8::try_from(value).map_err(|_wide| invalid("exit status"))?;
                Ok(Self::Ended(End::Exited(status)))
            }
            b'k' => Ok(Self::Ended(End::Killed(value))),
            _ => Err(invalid("report kind")),
        }
    }

    /// Sends the report with `descriptors`.
    pub(crate) fn send(&self, to: impl AsFd, descriptors: &[OwnedFd]) -> io::Result<()> {
        send(to, &self.encode(), descriptors)
    }

    /// Sends the report if that does not block; `WouldBlock` otherwise.
    pub(crate) fn try_send(&self, to: impl AsFd) -> io::Result<()> {
        send_with(to, &self.encode(), &[], SendFlags::DONTWAIT)
    }

    /// The same with `descriptors`.
    pub(crate) fn try_send_with(&self, to: impl AsFd, descriptors: &[OwnedFd]) -> io::Result<()> {
        send_with(to, &self.encode(), descriptors, SendFlags::DONTWAIT)
    }

    /// Takes the next report and its descriptors; `Ok(None)` when PID 1 is gone.
    pub(crate) fn receive(from: impl AsFd) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        let (packet, descriptors) = receive(from)?;
        if packet.is_empty() {
            return Ok(None);
        }
        Ok(Some((Self::decode(&packet)?, descriptors)))
    }
}

/// The operation's number, then texts with a zero byte between them. What is too long is cut at
/// the end, where the alternatives are.
fn encode_denial(denial: &Denial) -> Vec<u8> {
    let number = Operation::ALL.iter().position(|op| *op == denial.op).unwrap_or_default();
    let mut packet = vec![b'd'];
    packet.extend(u32::try_from(number).unwrap_or_default().to_le_bytes());
    let texts = std::iter::once(&denial.decided_by).chain(&denial.alternatives);
    let target = denial.target.as_os_str().as_bytes();
    for text in std::iter::once(target).chain(texts.map(String::as_bytes)) {
        packet.extend(text.iter().filter(|byte| **byte != 0));
        packet.push(0);
    }
    packet.truncate(PACKET_MAX);
    packet
}

fn decode_denial(number: i32, rest: &[u8]) -> io::Result<Denial> {
    let op = usize::try_from(number).ok().and_then(|number| Operation::ALL.get(number));
    let op = *op.ok_or_else(|| invalid("operation"))?;
    let mut texts = rest.strip_suffix(&[0]).unwrap_or(rest).split(|byte| *byte == 0);
    let target = OsString::from_vec(texts.next().unwrap_or_default().to_vec());
    let mut texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    let decided_by = texts.next().unwrap_or_default();
    Ok(Denial { op, target: target.into(), decided_by, alternatives: texts.collect() })
}

/// Sends one packet with `descriptors`.
pub(super) fn send(to: impl AsFd, packet: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    send_with(to, packet, descriptors, SendFlags::empty())
}

fn send_with(
    to: impl AsFd,
    packet: &[u8],
    descriptors: &[OwnedFd],
    flags: SendFlags,
) -> io::Result<()> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(invalid("too many descriptors"));
    }
    let parts = [io::IoSlice::new(packet)];
    rustix::net::sendmsg(to, &parts, &mut control, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes one packet with its descriptors; an empty one when the other end is gone.
pub(super) fn receive(from: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut packet = vec![0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(&mut packet)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match rustix::net::recvmsg(&from, &mut parts, &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok((Vec::new(), Vec::new())),
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    packet.truncate(received.bytes);
    Ok((packet, descriptors))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn orders_survive_the_wire() {
        let orders = [Order::Mapped, Order::Served, Order::Signal(15), Order::Resume];
        for order in orders {
            assert_eq!(Order::decode(&order.encode()).unwrap(), order);
        }
        assert!(Order::decode(b"s").is_err() && Order::decode(b"?0000").is_err());
    }

    #[test]
    fn a_failure_survives_the_wire_with_its_path() {
        let (near, far) = pair().unwrap();
        let subject = PathBuf::from(OsString::from_vec(b"/a\n\xff b".to_vec()));
        let failure = Failure { step: "open".to_owned(), subject: subject.clone(), errno: 2 };
        Report::Failed(failure).send(&near, &[]).unwrap();
        let Some((Report::Failed(got), _)) = Report::receive(&far).unwrap() else {
            panic!("not a failure");
        };
        assert_eq!((got.step.as_str(), got.subject, got.errno), ("open", subject, 2));
        drop(near);
        assert!(Report::receive(&far).unwrap().is_none(), "the end of the other side");
    }

    #[test]
    fn a_denial_survives_the_wire_and_a_full_socket_does_not_block() {
        let (near, far) = pair().unwrap();
        let denial = Denial {
            op: Operation::Unreadable,
            target: OsString::from_vec(b"/a\n\xff b".to_vec()).into(),
            decided_by: "a name".to_owned(),
            alternatives: vec!["one".to_owned(), "two".to_owned()],
        };
        Report::Denied(denial.clone()).send(&near, &[]).unwrap();
        let Some((Report::Denied(got), _)) = Report::receive(&far).unwrap() else {
            panic!("not a denial");
        };
        assert_eq!(got, denial);
        let full = (0..100_000).find_map(|_| Report::DeniedMore(1).try_send(&near).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn descriptors_travel_with_their_report() {
        let (near, far) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        Report::Terminal.send(&near, &[file.into()]).unwrap();
        let (report, descriptors) = Report::receive(&far).unwrap().unwrap();
        assert!(matches!(report, Report::Terminal));
        assert_eq!(descriptors.len(), 1);
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptors[0]));
        assert_eq!(std::fs::read_link(link).unwrap(), Path::new("/dev/null"));
    }
}
