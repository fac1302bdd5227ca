//! The way out of the sandbox, as seen from both sides.
//!
//! Only what was made in the sandbox's network namespace can be reached from inside. So PID 1
//! makes it there (the resolver's sockets, one end of each connection) and hands it out over a
//! socket pair that was made before anything foreign ran. Where there is no such namespace, the
//! same is made on the host's loopback, and the guardian leads programs to it. Whoever serves the network holds the
//! other end, outside, and decides; nothing in here knows a host by name.
//!
//! A malformed packet is a bug of ours and ends the service; the sandbox is then without a network.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::control;
use super::owners;

/// The end that is outside.
#[derive(Debug)]
pub struct Doors {
    channel: OwnedFd,
}

/// What comes out of the sandbox.
#[derive(Debug)]
#[non_exhaustive]
pub enum Knock {
    /// Where programs inside ask for names.
    Names(UdpSocket, TcpListener),
    /// Where ssh reads the keys of hosts, to be added to.
    KnownHosts(File),
    /// A program asks for its ssh agent over this connection.
    LoggingIn(UnixStream, Program),
    /// The loopback inside is the host's, so that a port that is published under its own number
    /// must be free for the programs inside. It waits for [`Doors::answer`].
    Shared,
    /// Where programs inside ask for names, and others of this machine can.
    SharedNames(UdpSocket),
    /// A program asks for names over this connection.
    Resolving(TcpStream),
    /// This program speaks to the proxy over this connection.
    Proxying(TcpStream, Program),
    /// Makes connections to the sandbox's own loopback, for ports that are published and for
    /// programs that ask the proxy for it.
    Sockets(SocketMaker),
    /// A program wants to connect to this address. It waits for [`Doors::answer`].
    Question(SocketAddr, Program),
    /// The connection to this address that was allowed, of this program.
    Connection(TcpStream, SocketAddr, Program),
}

/// Who connects, as the kernel knows it inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The process, by its number inside.
    pub process: u32,
    /// The file that it runs, when the kernel says so.
    pub command: Option<String>,
}

impl Program {
    /// Longest name of a file that is told, in bytes; what is longer is left out.
    const COMMAND_MAX: usize = 4096;

    /// Of a process whose number cannot be somebody else's yet. One system call: every connection
    /// makes it.
    pub(crate) fn of(process: i32) -> Self {
        // Nobody may look into some, and a kernel thread runs no file.
        let file = rustix::fs::readlink(format!("/proc/{process}/exe"), Vec::new()).ok();
        let command = file.and_then(|file| file.into_string().ok());
        let command = command.filter(|name| name.len() <= Self::COMMAND_MAX);
        Self { process: u32::try_from(process).unwrap_or_default(), command }
    }

    fn encode(&self, packet: &mut Vec<u8>) {
        packet.extend(self.process.to_le_bytes());
        packet.extend(self.command.iter().flat_map(|name| name.bytes()));
    }

    fn decode(rest: &[u8]) -> io::Result<Self> {
        let (process, name) = rest.split_first_chunk().ok_or_else(|| malformed("process"))?;
        let name = std::str::from_utf8(name).map_err(|_utf8| malformed("command"))?;
        let command = (!name.is_empty()).then(|| name.to_owned());
        Ok(Self { process: u32::from_le_bytes(*process), command })
    }
}

/// What a process that asked for a connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is connected.
    Come,
    /// Nothing listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// Somebody is asked first: the process waits, and the same is asked again in a moment.
    Wait,
}

/// Makes connections in the sandbox's network, and finds whose its sockets are.
#[derive(Debug)]
pub struct SocketMaker {
    channel: OwnedFd,
}

impl SocketMaker {
    /// A connection to `port` of the loopback inside.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when nobody listens there; others when the sandbox is gone.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        control::send(&self.channel, &port.to_le_bytes(), &[])?;
        let (packet, descriptors) = control::receive(&self.channel)?;
        if let Some(stream) = descriptors.into_iter().next() {
            return Ok(TcpStream::from(stream));
        }
        let errno = packet.first_chunk().map_or(libc::EPIPE, |bytes| i32::from_le_bytes(*bytes));
        Err(io::Error::from_raw_os_error(errno))
    }

    /// Which program's socket of the sandbox's network has this port; `None` when that is not known.
    pub fn who(&self, protocol: Protocol, port: u16) -> Option<Program> {
        let [low, high] = port.to_le_bytes();
        let is_datagram = u8::from(protocol == Protocol::Udp);
        control::send(&self.channel, &[MAKER_WHO, is_datagram, low, high], &[]).ok()?;
        let (packet, _none) = control::receive(&self.channel).ok()?;
        Program::decode(packet.strip_prefix(&[MAKER_WHO])?).ok()
    }

    /// Who started this process of the sandbox: the first one of it that nobody inside started, and so on
    /// to its parent. `None` when it is gone.
    pub fn parents(&self, process: u32) -> Option<Vec<u32>> {
        let question = [&[MAKER_PARENTS][..], &process.to_le_bytes()].concat();
        control::send(&self.channel, &question, &[]).ok()?;
        let (packet, _none) = control::receive(&self.channel).ok()?;
        let numbers = packet.strip_prefix(&[MAKER_PARENTS])?.chunks_exact(4);
        Some(numbers.filter_map(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?))).collect())
    }
}

/// Processes between the first one of the sandbox and another that are told; in a longer line the last
/// ones are left out.
const LINE_MAX: usize = 64;

/// By which a port is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The other end of a [`SocketMaker`]: serves it with `connect` until nobody asks.
pub(crate) fn make_sockets(channel: &OwnedFd, connect: impl Fn(u16) -> io::Result<TcpStream>) {
    while let Ok((packet, _none)) = control::receive(channel) {
        let port = match packet.as_slice() {
            [MAKER_WHO, is_datagram, low, high] => {
                let protocol = if *is_datagram == 1 { Protocol::Udp } else { Protocol::Tcp };
                let mut answer = vec![MAKER_WHO];
                if let Some(program) = owners::of(protocol, u16::from_le_bytes([*low, *high])) {
                    program.encode(&mut answer);
                }
                match control::send(channel, &answer, &[]) {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            &[MAKER_PARENTS, a, b, c, d] => {
                let parents = owners::parents(i32::from_le_bytes([a, b, c, d]));
                let mut answer = vec![if parents.is_some() { MAKER_PARENTS } else { MAKER_WHO }];
                let parents = parents.unwrap_or_default();
                answer
                    .extend(parents.iter().take(LINE_MAX).flat_map(|parent| parent.to_le_bytes()));
                match control::send(channel, &answer, &[]) {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => return,
        };
        let sent = match connect(port) {
            Ok(stream) => control::send(channel, b"s", &[stream.into()]),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::ECONNREFUSED);
                control::send(channel, &errno.to_le_bytes(), &[])
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

impl Doors {
    /// Both ends: this one, and the sandbox's.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (channel, inside) = control::pair()?;
        Ok((Self { channel }, inside))
    }

    /// Waits for what comes out next; `Ok(None)` when the sandbox is gone.
    ///
    /// # Errors
    ///
    /// When the other end says what it never would.
    pub fn next(&self) -> io::Result<Option<Knock>> {
        let (packet, descriptors) = control::receive(&self.channel)?;
        let Some((&kind, rest)) = packet.split_first() else { return Ok(None) };
        let mut descriptors = descriptors.into_iter();
        let mut one = || descriptors.next().ok_or_else(|| malformed("descriptor"));
        Ok(Some(match kind {
            NAMES => Knock::Names(UdpSocket::from(one()?), TcpListener::from(one()?)),
            KNOWN_HOSTS => Knock::KnownHosts(File::from(one()?)),
            LOGGING_IN => Knock::LoggingIn(UnixStream::from(one()?), Program::decode(rest)?),
            SHARED => Knock::Shared,
            SHARED_NAMES => Knock::SharedNames(UdpSocket::from(one()?)),
            RESOLVING => Knock::Resolving(TcpStream::from(one()?)),
            PROXYING => Knock::Proxying(TcpStream::from(one()?), Program::decode(rest)?),
            SOCKETS => Knock::Sockets(SocketMaker { channel: one()? }),
            QUESTION => {
                let (address, program) = decode(rest)?;
                Knock::Question(address, program)
            }
            CONNECTION => {
                let (address, program) = decode(rest)?;
                Knock::Connection(TcpStream::from(one()?), address, program)
            }
            _ => return Err(malformed("kind")),
        }))
    }

    /// Answers the [`Knock::Question`] or [`Knock::Shared`] that came last.
    ///
    /// # Errors
    ///
    /// When the sandbox is gone.
    pub fn answer(&self, answer: Answer) -> io::Result<()> {
        let byte = match answer {
            Answer::Come => 0,
            Answer::Refused => 1,
            Answer::Unreachable => 2,
            Answer::Wait => 3,
        };
        control::send(&self.channel, &[byte], &[])
    }
}

/// The end that is inside, for PID 1.
#[derive(Debug)]
pub(crate) struct Inside<'a>(pub(crate) &'a OwnedFd);

const NAMES: u8 = b'n';
const KNOWN_HOSTS: u8 = b'k';
const LOGGING_IN: u8 = b'a';
const MAKER_WHO: u8 = b'w';
const MAKER_PARENTS: u8 = b'p';
const SHARED: u8 = b'l';
const SHARED_NAMES: u8 = b'm';
const RESOLVING: u8 = b'r';
const PROXYING: u8 = b'x';
const SOCKETS: u8 = b's';
const QUESTION: u8 = b'q';
const CONNECTION: u8 = b'c';

impl Inside<'_> {
    pub(crate) fn names(&self, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        control::send(self.0, &[NAMES], &[udp.into(), tcp.into()])
    }

    pub(crate) fn known_hosts(&self, file: File) -> io::Result<()> {
        control::send(self.0, &[KNOWN_HOSTS], &[file.into()])
    }

    pub(crate) fn logging_in(&self, stream: OwnedFd, program: &Program) -> io::Result<()> {
        let mut packet = vec![LOGGING_IN];
        program.encode(&mut packet);
        control::send(self.0, &packet, &[stream])
    }

    /// Says that the loopback is the host's, and waits until its ports are free.
    pub(crate) fn shared(&self) -> io::Result<()> {
        control::send(self.0, &[SHARED], &[])?;
        match control::receive(self.0)?.0.as_slice() {
            [0] => Ok(()),
            _ => Err(malformed("answer")),
        }
    }

    pub(crate) fn shared_names(&self, datagrams: UdpSocket) -> io::Result<()> {
        control::send(self.0, &[SHARED_NAMES], &[datagrams.into()])
    }

    pub(crate) fn resolving(&self, stream: OwnedFd) -> io::Result<()> {
        control::send(self.0, &[RESOLVING], &[stream])
    }

    pub(crate) fn proxying(&self, stream: OwnedFd, program: &Program) -> io::Result<()> {
        let mut packet = vec![PROXYING];
        program.encode(&mut packet);
        control::send(self.0, &packet, &[stream])
    }

    pub(crate) fn sockets(&self, channel: OwnedFd) -> io::Result<()> {
        control::send(self.0, &[SOCKETS], &[channel])
    }

    /// Asks for a connection. [`Self::answered`] has to follow before anybody asks again.
    pub(crate) fn question(&self, address: SocketAddr, program: &Program) -> io::Result<()> {
        control::send(self.0, &encode(QUESTION, address, program), &[])
    }

    /// Waits for the answer; the error is what the process that wants the connection gets. `false`
    /// when it is to be asked for again in a moment.
    pub(crate) fn answered(&self) -> io::Result<bool> {
        let (packet, _none) = control::receive(self.0)?;
        let errno = match packet.as_slice() {
            [0] => return Ok(true),
            [2] => libc::ENETUNREACH,
            [3] => return Ok(false),
            // A service that is gone connects nobody.
            _ => libc::ECONNREFUSED,
        };
        Err(io::Error::from_raw_os_error(errno))
    }

    pub(crate) fn hand_over(
        &self,
        stream: OwnedFd,
        address: SocketAddr,
        program: &Program,
    ) -> io::Result<()> {
        control::send(self.0, &encode(CONNECTION, address, program), &[stream])
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed packet: {what}"))
}

fn encode(kind: u8, address: SocketAddr, program: &Program) -> Vec<u8> {
    let mapped = match address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut packet = vec![kind];
    packet.extend(mapped.octets());
    packet.extend(address.port().to_le_bytes());
    program.encode(&mut packet);
    packet
}

fn decode(rest: &[u8]) -> io::Result<(SocketAddr, Program)> {
    let (address, rest) = rest.split_first_chunk::<16>().ok_or_else(|| malformed("address"))?;
    let Some((port, program)) = rest.split_first_chunk::<2>() else {
        return Err(malformed("port"));
    };
    let program = Program::decode(program)?;
    let address = IpAddr::from(*address).to_canonical();
    Ok((SocketAddr::new(address, u16::from_le_bytes(*port)), program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(command: Option<&str>) -> Program {
        Program { process: 7, command: command.map(str::to_owned) }
    }

    #[test]
    fn a_question_is_answered_and_what_is_handed_over_arrives() {
        let (doors, channel) = Doors::pair().unwrap();
        let address: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
        let inside = std::thread::spawn(move || {
            let inside = Inside(&channel);
            let asked = program(Some("/usr/bin/git"));
            let answers = [(); 4].map(|()| {
                inside.question(address, &asked).unwrap();
                inside.answered().map_err(|e| e.raw_os_error())
            });
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            inside.proxying(listener.into(), &program(None)).unwrap();
            answers
        });
        for answer in [Answer::Come, Answer::Refused, Answer::Unreachable, Answer::Wait] {
            let knock = doors.next().unwrap().unwrap();
            let Knock::Question(asked, by) = knock else { panic!("{knock:?}") };
            assert_eq!((asked, by), (address, program(Some("/usr/bin/git"))));
            doors.answer(answer).unwrap();
        }
        let knock = doors.next().unwrap();
        assert!(
            matches!(&knock, Some(Knock::Proxying(_, by)) if *by == program(None)),
            "{knock:?}"
        );
        assert!(doors.next().unwrap().is_none(), "the other end is gone");
        let [come, refused, unreachable, wait] = inside.join().unwrap();
        assert_eq!((come, wait), (Ok(true), Ok(false)));
        assert_eq!(refused, Err(Some(libc::ECONNREFUSED)));
        assert_eq!(unreachable, Err(Some(libc::ENETUNREACH)));
    }

    #[test]
    fn addresses_survive_the_wire_in_their_one_form() {
        for text in ["192.0.2.1:80", "[fd53:746f:636b:6164::7]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            for by in [program(None), program(Some("/a b/é"))] {
                assert_eq!(decode(&encode(b'q', address, &by)[1..]).unwrap(), (address, by));
            }
        }
        assert!(decode(&[0; 5]).is_err() && decode(&[0; 21]).is_err());
        let odd = [&[0; 22][..], b"\xff"].concat();
        assert!(decode(&odd).is_err());
    }
}
