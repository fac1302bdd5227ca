//! `connect`, and what it shares with addressed sends: sockets with a name.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::net::{AddressFamily, SocketType};
use stockade_policy::{Denial, Operation};

use super::caller::Caller;
use super::connectors::Connectors;
use super::files::Stop;
use super::messages::Send;
use super::place;
use super::unix_peers::{self, SocketFile};
use super::{Answer, Prepared, errno};
use crate::linux::doors::Program;
use crate::linux::gate::Gate;
use crate::linux::sys::socket_unsafe;

/// `sizeof(struct sockaddr_storage)`: no address is longer.
const ADDRESS_MAX: usize = 128;
/// Where the path of a `struct sockaddr_un` starts.
const PATH_OFFSET: usize = 2;

/// A call whose arguments are copied and allowed.
#[derive(Debug)]
pub(super) enum Action {
    /// Connect this socket there.
    Connect(OwnedFd, Address),
    /// Connect this socket to a host, by the way out.
    ConnectOut(OwnedFd, Vec<u8>, Out),
    /// Connect this socket to the ssh agent that is served outside.
    LogIn(OwnedFd, Address, (Arc<Gate>, Program)),
    /// Send these messages.
    Send(Send),
}

impl Action {
    /// Whether carrying it out may take longer than a moment.
    pub(super) fn may_block(&self) -> bool {
        let socket = match self {
            Self::Connect(socket, _) => socket,
            Self::Send(send) => send.socket(),
            // Somebody outside is asked.
            Self::ConnectOut(..) | Self::LogIn(..) => return true,
        };
        !rustix::fs::fcntl_getfl(socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
    }

    /// Carries it out; what the kernel says is what the caller gets. `goes_on` ends a wait for
    /// somebody outside.
    pub(super) fn perform(self, goes_on: &dyn Fn() -> io::Result<()>) -> Answer {
        match self {
            Self::Connect(socket, address) => {
                match socket_unsafe::connect(socket.as_fd(), address.bytes()) {
                    Ok(()) => Answer::Value(0),
                    Err(error) => errno(&error),
                }
            }
            Self::ConnectOut(socket, address, out) => {
                let Out { gate, to, program } = out;
                match gate.connect((socket.as_fd(), &address), to, &program, goes_on) {
                    Ok(()) => Answer::Value(0),
                    Err(error) => errno(&error),
                }
            }
            Self::LogIn(socket, address, (gate, program)) => {
                match gate.log_in((socket.as_fd(), address.bytes()), &program) {
                    Ok(()) => Answer::Value(0),
                    Err(error) => errno(&error),
                }
            }
            Self::Send(send) => send.perform(),
        }
    }
}

/// A connection that leads out of the sandbox.
#[derive(Debug)]
pub(super) struct Out {
    gate: Arc<Gate>,
    to: SocketAddr,
    program: Program,
}

/// An address that may be used.
#[derive(Debug)]
pub(super) struct Address {
    bytes: Vec<u8>,
    /// Keeps the socket's file open that `bytes` name by descriptor.
    _file: Option<OwnedFd>,
    /// Somebody outside serves there.
    is_served: bool,
}

impl Address {
    /// The `struct sockaddr`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Copies the address at argument values `pointer` and `length` and judges it for a
    /// socket of `domain`.
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] for a named socket that was not bound inside; else what the kernel would
    /// say.
    pub(super) fn of(
        caller: &Caller<'_>,
        socket: (&OwnedFd, AddressFamily),
        pointer: u64,
        length: u64,
    ) -> Result<Self, Stop> {
        Self::judged(caller, socket, copied(caller, pointer, length)?, None)
    }

    /// The same for one that was copied.
    fn judged(
        caller: &Caller<'_>,
        (socket, domain): (&OwnedFd, AddressFamily),
        bytes: Vec<u8>,
        gate: Option<&Arc<Gate>>,
    ) -> Result<Self, Stop> {
        match (unix_path(domain, &bytes), caller.peers()) {
            (Some(path), _) => Self::bound_inside(caller, path, gate),
            (None, None) => Ok(Self { bytes, _file: None, is_served: false }),
            (None, Some(peers)) => {
                let bytes = if caller.number() == libc::SYS_connect {
                    peers.lead_connection(socket, domain, bytes)?
                } else {
                    peers.lead(socket, domain, bytes)?
                };
                Ok(Self { bytes, _file: None, is_served: false })
            }
        }
    }

    fn bound_inside(
        caller: &Caller<'_>,
        path: &Path,
        gate: Option<&Arc<Gate>>,
    ) -> Result<Self, Stop> {
        let file = resolve(caller, path)?;
        let Some(socket) = SocketFile::of(&file)? else {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED).into());
        };
        let is_served = gate.is_some_and(|gate| gate.is_served(&file));
        match unix_peers::was_bound_inside(&file, socket, caller.peers()) {
            _ if is_served => {}
            Ok(true) => {}
            // Nobody is told whether somebody outside listens there.
            Ok(false) | Err(_) => return Err(Stop::Denied(Box::new(not_inside(&file)?))),
        }
        let mut bytes = libc::sa_family_t::try_from(libc::AF_UNIX)
            .map_err(io::Error::other)?
            .to_ne_bytes()
            .to_vec();
        bytes.extend(format!("/proc/self/fd/{}\0", file.as_raw_fd()).as_bytes());
        Ok(Self { bytes, _file: Some(file), is_served })
    }
}

/// The address at argument values `pointer` and `length`.
fn copied(caller: &Caller<'_>, pointer: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length & 0xffff_ffff).map_err(io::Error::other)?;
    if length > ADDRESS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    caller.read(pointer, length)
}

/// The path in `bytes`, when they name a Unix socket by one (not an abstract one, which the
/// network namespace holds).
pub(super) fn unix_path(domain: AddressFamily, bytes: &[u8]) -> Option<&Path> {
    if domain != AddressFamily::UNIX {
        return None;
    }
    let family = bytes.first_chunk::<2>()?;
    let path = bytes.get(PATH_OFFSET..)?;
    if i32::from(u16::from_ne_bytes(*family)) != libc::AF_UNIX || matches!(path, [] | [0, ..]) {
        return None;
    }
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    Some(Path::new(std::ffi::OsStr::from_bytes(path.get(..end)?)))
}

/// Opens the socket's file as the caller would find it. Magic links (`/proc/PID/fd/N`) are
/// not followed: they would be those of this process.
fn resolve(caller: &Caller<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    if path.is_absolute() {
        let path = caller.moved(path.as_os_str().as_bytes().to_vec());
        let path = path.as_slice();
        return Ok(rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)?);
    }
    let folder = caller.current_folder()?;
    Ok(rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)?)
}

fn not_inside(file: &OwnedFd) -> io::Result<Denial> {
    Ok(Denial {
        op: Operation::Connect,
        target: place::name_of(file)?,
        decided_by: "no program inside has bound this socket".to_owned(),
        alternatives: Vec::new(),
    })
}

/// `connect(socket, address, length)`.
pub(super) fn connect(
    caller: &Caller<'_>,
    gate: Option<&Arc<Gate>>,
    connectors: &Connectors,
) -> Result<Prepared, Stop> {
    let socket = caller.socket(caller.integer(0))?;
    let domain = rustix::net::sockopt::socket_domain(&socket)?;
    let bytes = copied(caller, caller.argument(1), caller.argument(2))?;
    let is_internet = domain == AddressFamily::INET || domain == AddressFamily::INET6;
    let is_stream =
        || rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
    let way = gate.filter(|_| is_internet && is_stream());
    let out = way.and_then(|gate| Some((gate, gate.leads_out(&bytes)?)));
    let action = if let Some((gate, to)) = out {
        let program = Program::of(caller.process()?);
        Action::ConnectOut(socket, bytes, Out { gate: Arc::clone(gate), to, program })
    } else {
        let address = Address::judged(caller, (&socket, domain), bytes, gate)?;
        if let Some(gate) = gate.filter(|_| address.is_served) {
            let program = Program::of(caller.process()?);
            Action::LogIn(socket, address, (Arc::clone(gate), program))
        } else {
            if domain == AddressFamily::UNIX {
                connectors.remember(caller, &socket)?;
            }
            Action::Connect(socket, address)
        }
    };
    caller.confirm()?;
    Ok(Prepared::Act(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_in_the_file_system_is_a_path() {
        let unix = AddressFamily::UNIX;
        assert_eq!(unix_path(unix, b"\x01\0/run/x\0garbage"), Some(Path::new("/run/x")));
        assert_eq!(unix_path(unix, b"\x01\0rel"), Some(Path::new("rel")));
        assert_eq!(unix_path(unix, b"\x01\0\0abstract"), None);
        assert_eq!(unix_path(unix, b"\x01\0"), None, "unnamed");
        assert_eq!(unix_path(unix, b"\0\0/x"), None, "AF_UNSPEC dissolves a connection");
        assert_eq!(unix_path(unix, b"\x01"), None);
        assert_eq!(unix_path(AddressFamily::INET, b"\x01\0/run/x"), None);
    }
}
