//! The network of a sandbox that may reach hosts, from inside: what PID 1 sets up, and how a
//! connection gets out; the second backend has the latter only.
//!
//! Names have synthetic addresses, which are local to this namespace. When a program connects to
//! one, PID 1, which sees each `connect`, asks outside; then it listens at that very address for
//! as long as it takes to connect the program's socket, and hands the other end out. So no port
//! is taken from the programs inside.
//!
//! Where the network is the host's, no address is local to the sandbox. There the guardian connects
//! the socket to a listener of the moment on the loopback instead, and takes that end only which is
//! the program's: somebody else on this machine who comes in between is sent away.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use stockade_policy::{AddressRange, SYNTHETIC};

use super::arrivals::{Arrivals, Listeners, Use, endpoint};
use super::control;
use super::doors::{self, Program};
use super::failure::{Failure, step};
use super::plan::WayOut;
use super::routes::Routes;
use super::ssh::Agent;
use super::supervisor::{Peers, peers};
use super::sys::{exec_unsafe, socket_unsafe};

/// Where names are asked for: the first host of the synthetic range.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where a proxy listens at the same address; `stockade_policy` knows it by this number.
const PROXY_PORT: u16 = stockade_policy::PROXY_PORT;
/// Names are asked for at this port of it.
const NAMES: SocketAddr = SocketAddr::new(IpAddr::V4(RESOLVER), 53);
/// And here somebody speaks to the proxy.
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(RESOLVER), PROXY_PORT);
/// How long a process waits between two looks at whether it was answered.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long a listener inside may take for a connection.
const INSIDE: Duration = Duration::from_secs(2);
/// Programs that may be connecting to one address at one time.
const BACKLOG: i32 = 64;

/// Sets the network up and hands its listeners out, but for that of the proxy, which is the value: who
/// connects there is told with each connection. The loopback is up.
pub(crate) fn set_up(way: &WayOut, channel: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let outside = doors::Inside(channel);
    let mut listener = None;
    if way.has_hosts {
        let routes = Routes::open().map_err(step("open", "a netlink socket"))?;
        let [v4, v6] = SYNTHETIC;
        make_local(&routes, v4)?;
        // A kernel without IPv6 has no such addresses; names then have IPv4 ones only.
        routes.make_local(v6).ok();
        for range in &way.routes {
            make_local(&routes, *range)?;
        }
        let ranges: Vec<_> = way.routes.iter().copied().chain([v4, v6]).collect();
        // Without it only connected sockets hear that nobody is there.
        routes.refuse_datagrams(&ranges, RESOLVER.into()).ok();
        let (udp, tcp) = resolver(RESOLVER).map_err(step("listen on", "198.18.0.1:53"))?;
        outside.names(udp, tcp).map_err(step("reach", "the gateway"))?;
        if fs::symlink_metadata("/etc/resolv.conf").is_err() {
            // No file can stand there, and C libraries then ask the loopback (resolv.conf(5)).
            let (udp, tcp) = resolver(Ipv4Addr::LOCALHOST).map_err(step("listen on", "port 53"))?;
            outside.names(udp, tcp).map_err(step("reach", "the gateway"))?;
        }
        let proxy = TcpListener::bind((RESOLVER, PROXY_PORT))
            .and_then(|proxy| proxy.set_nonblocking(true).map(|()| proxy));
        listener = Some(proxy.map_err(step("listen on", "198.18.0.1"))?.into());
    }
    Ok(listener)
}

fn make_local(routes: &Routes, range: AddressRange) -> Result<(), Failure> {
    routes.make_local(range).map_err(step("make local", range.to_string()))
}

fn resolver(address: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind((address, 53))?, TcpListener::bind((address, 53))?))
}

/// The same where the network is the host's: says so, and has names asked for on the loopback.
pub(crate) fn set_up_shared(way: &WayOut, channel: &OwnedFd, peers: &Peers) -> Result<(), Failure> {
    let outside = doors::Inside(channel);
    outside.shared().map_err(step("reach", "the gateway"))?;
    if way.has_hosts {
        let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let names = names.map_err(step("listen on", "127.0.0.1"))?;
        let port = names.local_addr().map_err(step("listen on", "127.0.0.1"))?.port();
        outside.shared_names(names).map_err(step("reach", "the gateway"))?;
        peers.lead_names(way.name_servers.clone(), port);
    }
    Ok(())
}

/// Lets go of listeners at `ports` that this process was born with: programs inside listen there
/// themselves.
pub(crate) fn let_go_of(ports: &[u16]) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let is_one = |number: &i32| {
        let Some(fd) = exec_unsafe::duplicate_stdio(*number) else { return false };
        let address = || endpoint(rustix::net::getsockname(&fd).ok()?);
        sockopt::socket_acceptconn(&fd) == Ok(true)
            && address().is_some_and(|address| ports.contains(&address.port()))
    };
    let open = fs::read_dir("/proc/self/fd")?.flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    exec_unsafe::detach_stdio(&numbers.filter(is_one).collect::<Vec<i32>>())
}

/// Connects to ports inside for whoever leads connections in from outside, in a thread of its own,
/// until nobody asks.
pub(crate) fn make_sockets(channel: &OwnedFd, peers: Option<Arc<Peers>>) -> io::Result<()> {
    let (ours, theirs) = control::pair()?;
    doors::Inside(channel).sockets(theirs)?;
    let connect = move |port| {
        let to = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let to = to.map(|ip| SocketAddr::new(ip, port));
        if let Some(peers) = &peers
            && !peers.reaches(to[0], true)?
        {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        // Its listener may take nobody any more, and others wait for this thread.
        let [v4, v6] = to.map(|to| move || TcpStream::connect_timeout(&to, INSIDE));
        v4().or_else(|_| v6())
    };
    let serve = move || doors::make_sockets(&ours, connect);
    std::thread::Builder::new().stack_size(64 * 1024).spawn(serve).map(drop)
}

/// Where connections get out.
#[derive(Debug)]
pub(crate) struct Gate {
    channel: OwnedFd,
    /// A question and its answer are one turn.
    turn: Mutex<()>,
    /// Where programs are being connected to.
    listeners: Listeners,
    /// Whose the loopback is, where the network is the host's.
    peers: Option<Arc<Peers>>,
    /// Where the proxy is, where the network is the sandbox's own.
    proxy: Option<Arrivals>,
    /// Behind which socket an ssh agent is that somebody outside serves.
    agent: Option<Agent>,
}

impl Gate {
    pub(crate) fn new(
        (channel, proxy): (OwnedFd, Option<OwnedFd>),
        peers: Option<Arc<Peers>>,
        agent: Option<Agent>,
    ) -> Self {
        Self {
            channel,
            turn: Mutex::default(),
            listeners: Listeners::default(),
            peers,
            proxy: proxy.map(Arrivals::at),
            agent,
        }
    }

    /// Whether `file` is a socket behind which somebody outside serves.
    pub(crate) fn is_served(&self, file: &OwnedFd) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.is(file))
    }

    /// Connects `socket` to the agent that is served outside, by `address`, for `program`.
    ///
    /// # Errors
    ///
    /// What the program gets.
    pub(crate) fn log_in(
        &self,
        (socket, address): (BorrowedFd<'_>, &[u8]),
        program: &Program,
    ) -> io::Result<()> {
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let stream = self.agent.as_ref().ok_or_else(refused)?.connect(socket, address)?;
        doors::Inside(&self.channel).logging_in(stream, program)
    }

    /// Where a connection to `bytes`, a `struct sockaddr`, leads that has to go through here.
    pub(crate) fn leads_out(&self, bytes: &[u8]) -> Option<SocketAddr> {
        let to = parse(bytes)?;
        if let Some(peers) = &self.peers {
            if peers.serves_names(to, true) {
                return Some(NAMES);
            }
            // Nobody listens at that address here.
            if peers.leads_names() && to.ip() == RESOLVER {
                return Some(to);
            }
        }
        let is_proxy = self.proxy.is_some() && to == PROXY;
        (is_proxy || leads_out(to)).then_some(to)
    }

    /// Connects `socket` to `to`, which `address` is the `struct sockaddr` of, for `program`.
    ///
    /// # Errors
    ///
    /// What the process gets; that of `goes_on`, which is asked while somebody outside is.
    pub(crate) fn connect(
        &self,
        (socket, address): (BorrowedFd<'_>, &[u8]),
        to: SocketAddr,
        program: &Program,
        goes_on: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            match self.try_connect(socket, address, to, program) {
                Ok(true) => return Ok(()),
                // Others connect meanwhile.
                Ok(false) => drop(poll(&mut [], Some(&MOMENT))),
                Err(error) => return Err(error),
            }
            goes_on()?;
        }
    }

    /// The same; `false` while somebody is asked.
    fn try_connect(
        &self,
        socket: BorrowedFd<'_>,
        address: &[u8],
        to: SocketAddr,
        program: &Program,
    ) -> io::Result<bool> {
        let is_ours = to.ip() == RESOLVER;
        if is_ours && to != NAMES && to != PROXY {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        let outside = doors::Inside(&self.channel);
        let place = || self.place(socket, address, to);
        let place = if is_ours {
            place()
        } else {
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            outside.question(to, program)?;
            // Made while somebody outside thinks.
            let place = place();
            let may = outside.answered();
            drop(turn);
            if !may? {
                return Ok(false);
            }
            place
        };
        let (place, address) = place?;
        // With that, the first word would be sent along with the beginning of the connection: whoever
        // waits here would wait for what the program has to say.
        socket_unsafe::without_fast_open(socket);
        let connected = socket_unsafe::connect(socket, &address);
        if let Err(error) = &connected
            && error.raw_os_error() != Some(libc::EINPROGRESS)
        {
            return connected.map(|()| true);
        }
        let stream = place.arrivals().of(socket)?;
        if to == NAMES {
            outside.resolving(stream)?;
        } else if is_ours {
            outside.proxying(stream, program)?;
        } else {
            outside.hand_over(stream, to, program)?;
        }
        connected.map(|()| true)
    }

    /// Where `socket` is to be connected to on its way to `to`, with the `struct sockaddr` of that.
    fn place(
        &self,
        socket: BorrowedFd<'_>,
        address: &[u8],
        to: SocketAddr,
    ) -> io::Result<(Place<'_>, Vec<u8>)> {
        Ok(match (&self.peers, &self.proxy) {
            (None, Some(proxy)) if to == PROXY => (Place::Standing(proxy), address.to_vec()),
            (None, _) => (Place::Shared(self.listeners.at(to, listen)?), address.to_vec()),
            (Some(_), _) => {
                let (listener, address) = listen_for(socket)?;
                (Place::Own(Arrivals::at(listener)), address)
            }
        })
    }
}

/// Where a program's socket is connected to.
#[derive(Debug)]
enum Place<'a> {
    /// To the proxy's listener.
    Standing(&'a Arrivals),
    /// To one that others may be connected to as well.
    Shared(Use<'a>),
    /// To one of its own.
    Own(Arrivals),
}

impl Place<'_> {
    fn arrivals(&self) -> &Arrivals {
        match self {
            Self::Standing(arrivals) => arrivals,
            Self::Shared(arrivals) => arrivals,
            Self::Own(arrivals) => arrivals,
        }
    }
}

/// A listener at exactly `to`.
fn listen(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of before are still there, or their ends are.
    sockopt::set_socket_reuseaddr(&listener, true)?;
    if to.is_ipv4() {
        sockopt::set_ip_freebind(&listener, true)?;
    } else {
        sockopt::set_ipv6_v6only(&listener, true)?;
        sockopt::set_ipv6_freebind(&listener, true)?;
    }
    match rustix::net::bind(&listener, &to) {
        // A program inside listens at every address of that port, and must not be taken for the host.
        Err(rustix::io::Errno::ADDRINUSE) => Err(rustix::io::Errno::ADDRNOTAVAIL),
        other => other,
    }?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// A listener on the host's loopback that `socket` can be connected to, and its address as a
/// `struct sockaddr` of that socket's family.
fn listen_for(socket: BorrowedFd<'_>) -> io::Result<(OwnedFd, Vec<u8>)> {
    let ip = peers::near(socket)?;
    let own = SocketAddr::new(ip.to_canonical(), 0);
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&listener, &own)?;
    // Room for those who are sent away.
    rustix::net::listen(&listener, BACKLOG)?;
    let bound = endpoint(rustix::net::getsockname(&listener)?);
    let port = bound.ok_or(io::ErrorKind::AddrNotAvailable)?.port();
    Ok((listener, peers::raw(SocketAddr::new(ip, port))))
}

/// Whether `to` is beyond the sandbox: neither its loopback nor our own listeners.
fn leads_out(to: SocketAddr) -> bool {
    let address = to.ip();
    !address.is_loopback() && !address.is_unspecified() && address != RESOLVER
}

/// The Internet address in `bytes`, a `struct sockaddr`, in its one form.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let address = match family {
        libc::AF_INET => IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes.get(8..)?.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn only_the_programs_own_end_is_taken() {
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None).unwrap();
        let (listener, address) = listen_for(socket.as_fd()).unwrap();
        let stranger = TcpStream::connect(parse(&address).unwrap()).unwrap();
        socket_unsafe::connect(socket.as_fd(), &address).unwrap();
        let arrivals = Arrivals::at(listener);
        let taken = TcpStream::from(arrivals.of(socket.as_fd()).unwrap());
        let program = TcpStream::from(socket);
        assert_eq!(taken.peer_addr().unwrap(), program.local_addr().unwrap());
        drop(arrivals);
        assert!(matches!({ &stranger }.read(&mut [0]), Ok(0) | Err(_)), "sent away");
    }

    #[test]
    fn only_what_leads_out_is_asked_about() {
        let v4 = |address: [u8; 4]| {
            let mut bytes = 2_u16.to_ne_bytes().to_vec();
            bytes.extend(443_u16.to_be_bytes());
            bytes.extend(address);
            bytes.extend([0; 8]);
            bytes
        };
        let v6 = |address: &str| {
            let mut bytes = 10_u16.to_ne_bytes().to_vec();
            bytes.extend(443_u16.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
            bytes.extend([0; 4]);
            bytes
        };
        let gate = Gate::new((control::pair().unwrap().0, None), None, None);
        let out = |bytes: &[u8]| gate.leads_out(bytes).map(|address| address.to_string());
        assert_eq!(out(&v4([198, 18, 0, 7])).as_deref(), Some("198.18.0.7:443"));
        assert_eq!(out(&v6("::ffff:198.18.0.7")).as_deref(), Some("198.18.0.7:443"));
        assert_eq!(out(&v6("2001:db8::1")).as_deref(), Some("[2001:db8::1]:443"));
        for stays in [v4([127, 0, 0, 1]), v4([0; 4]), v4([198, 18, 0, 1]), v6("::1"), v6("::")] {
            assert_eq!(out(&stays), None);
        }
        for odd in [&b""[..], b"\x02", b"\x02\0\0\x50", b"\x01\0/run/x", b"\0\0\0\0\0\0\0\0"] {
            assert_eq!(out(odd), None);
        }
    }
}
