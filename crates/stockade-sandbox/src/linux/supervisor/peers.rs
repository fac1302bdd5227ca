//! Who may be spoken to in the host's network, which the second backend has no wall around.
//!
//! A socket is bound to the loopback only, and is remembered by its inode. What is connected to,
//! or sent to, is a port of the loopback that such a socket, and no other, has by the kernel's
//! own list (`proc_net(5)`). So every call with an address is carried out from a copy, messages
//! without one included: their address could come in between.
//!
//! Datagrams for this machine's name servers are led to the gateway's, which is on the loopback.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::{AddressFamily, SocketType};

use super::caller::Caller;
use super::{Answer, Prepared};
use crate::linux::gate::RESOLVER;
use crate::linux::sys::socket_unsafe;

/// As many sockets as one run may bind.
const MOST: usize = 1 << 20;

/// The sockets that were bound inside, and what there is besides.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    bound: Mutex<HashSet<u64>>,
    /// TCP ports of the host's loopback that were opened.
    host_ports: Vec<u16>,
    names: OnceLock<Names>,
}

/// Where names are asked for, if any are known.
#[derive(Debug)]
struct Names {
    /// Whom programs ask.
    servers: Vec<IpAddr>,
    /// Who answers: a UDP port of the loopback.
    port: u16,
}

/// The port of name servers.
const DOMAIN: u16 = 53;

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

impl Peers {
    pub(crate) fn new(host_ports: Vec<u16>) -> Self {
        Self { host_ports, ..Self::default() }
    }

    /// From here on who asks `servers` for names is led to `port` of the loopback.
    pub(crate) fn lead_names(&self, servers: Vec<IpAddr>, port: u16) {
        // There is one gateway.
        self.names.set(Names { servers, port }).ok();
    }

    /// Whether anybody is led there.
    pub(crate) fn leads_names(&self) -> bool {
        self.names.get().is_some()
    }

    /// Whether who asks at `to` is led there. A server of names that runs inside stays what it is.
    pub(crate) fn serves_names(&self, to: SocketAddr, is_stream: bool) -> bool {
        let ip = to.ip().to_canonical();
        let Some(names) = self.names.get().filter(|_| to.port() == DOMAIN) else { return false };
        let is_own = || ip.is_loopback() && self.has(DOMAIN, is_stream).unwrap_or(true);
        (ip == RESOLVER || names.servers.contains(&ip)) && !is_own()
    }

    /// The address by which `socket` reaches the one in `address`, a `struct sockaddr` that is no
    /// name in the file system.
    ///
    /// # Errors
    ///
    /// As [`Self::permit`].
    pub(super) fn lead(
        &self,
        socket: &OwnedFd,
        domain: AddressFamily,
        address: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let is_internet = domain == AddressFamily::INET || domain == AddressFamily::INET6;
        if let Some(names) = self.names.get()
            && is_internet
            && rustix::net::sockopt::socket_type(socket)? == SocketType::DGRAM
            && parse(&address).is_some_and(|to| self.serves_names(to, false))
        {
            let own = match domain {
                AddressFamily::INET => IpAddr::from(Ipv4Addr::LOCALHOST),
                _ => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            };
            self.give_port(socket, own)?;
            return Ok(raw(SocketAddr::new(own, names.port)));
        }
        self.permit(socket, domain, &address)?;
        Ok(address)
    }

    /// The address that `socket` is connected to for the one in `address`.
    ///
    /// What was bound to every address of both families is at that of IPv4 alone, and who calls it
    /// at IPv6's is led there. A datagram socket is connected whoever is there, as the kernel does
    /// it: to no port, from where the answer to a message is that nobody is.
    ///
    /// # Errors
    ///
    /// As [`Self::permit`].
    pub(super) fn lead_connection(
        &self,
        socket: &OwnedFd,
        domain: AddressFamily,
        address: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let internet = domain == AddressFamily::INET || domain == AddressFamily::INET6;
        let Some(to) = parse(&address).filter(|_| internet) else {
            return self.lead(socket, domain, address);
        };
        let kind = rustix::net::sockopt::socket_type(socket)?;
        if kind == SocketType::STREAM && to.ip() == Ipv6Addr::LOCALHOST && is_mapped(to.port())? {
            let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
            return self.lead(socket, domain, raw(SocketAddr::new(mapped, to.port())));
        }
        let led = self.lead(socket, domain, address);
        let is_refused =
            led.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED));
        if is_refused && kind == SocketType::DGRAM {
            // The kernel gives it a port, and takes that back when the connection is dissolved: who
            // sorts addresses connects one socket to each, of either family.
            self.remember(socket)?;
            return Ok(raw(SocketAddr::new(to.ip(), 0)));
        }
        // Whoever asks again how it went may do so when the listener has been closed.
        if is_refused && rustix::net::getpeername(socket).is_ok() {
            return error(libc::EISCONN);
        }
        led
    }

    /// Whether the socket with this inode was bound inside.
    pub(super) fn knows(&self, inode: u64) -> bool {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).contains(&inode)
    }

    pub(super) fn remember(&self, socket: &OwnedFd) -> io::Result<()> {
        let inode = rustix::fs::fstat(socket)?.st_ino;
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.len() >= MOST {
            return error(libc::ENOBUFS);
        }
        bound.insert(inode);
        Ok(())
    }

    /// Binds `socket` to the address, or to the loopback where that is every address.
    pub(super) fn bind(
        &self,
        socket: &OwnedFd,
        domain: AddressFamily,
        address: &[u8],
    ) -> io::Result<()> {
        if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
            return socket_unsafe::bind(socket.as_fd(), address);
        }
        let Some(wanted) = parse(address) else { return error(libc::EINVAL) };
        let ip = match wanted.ip() {
            ip if ip.to_canonical().is_loopback() => ip,
            ip if ip.is_unspecified() => loopback(socket, domain),
            _ => return error(libc::EADDRNOTAVAIL),
        };
        let wanted = SocketAddr::new(ip, wanted.port());
        let is_stream = rustix::net::sockopt::socket_type(socket)? == SocketType::STREAM;
        // Options would let it have the port with a server of the host's, and a share of who comes.
        if wanted.port() != 0 && self.is_of_others(wanted, is_stream)? {
            return error(libc::EADDRINUSE);
        }
        socket_unsafe::bind(socket.as_fd(), &raw(wanted))?;
        self.remember(socket)
    }

    /// Gives `socket` a port of the loopback, if it has none yet.
    fn give_port(&self, socket: &OwnedFd, ip: IpAddr) -> io::Result<()> {
        if own_address(socket)?.port() == 0 {
            socket_unsafe::bind(socket.as_fd(), &raw(SocketAddr::new(ip, 0)))?;
            self.remember(socket)?;
        }
        Ok(())
    }

    /// Whether `socket` may be led to `address`, which is no name in the file system.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` for the loopback, `ENETUNREACH` for everything beyond.
    fn permit(&self, socket: &OwnedFd, domain: AddressFamily, address: &[u8]) -> io::Result<()> {
        if domain == AddressFamily::UNIX {
            // Landlock holds abstract names.
            return Ok(());
        }
        if domain == AddressFamily::NETLINK {
            // To the kernel: `nl_pid` and `nl_groups` are 0.
            let is_kernel = address.get(4..12).is_some_and(|whom| whom.iter().all(|b| *b == 0));
            return if is_kernel { Ok(()) } else { error(libc::EACCES) };
        }
        let family = address.first_chunk::<2>().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        let dissolves = family == 0 && address.iter().all(|byte| *byte == 0);
        if dissolves || (family == 0 && address.len() < 8) {
            return Ok(());
        }
        let Some(to) = parse(address) else { return error(libc::EAFNOSUPPORT) };
        let ip = to.ip().to_canonical();
        if !ip.is_loopback() && !ip.is_unspecified() {
            return error(libc::ENETUNREACH);
        }
        let is_stream = rustix::net::sockopt::socket_type(socket)? == SocketType::STREAM;
        if !self.reaches(SocketAddr::new(ip, to.port()), is_stream)? {
            return error(libc::ECONNREFUSED);
        }
        if !is_stream {
            self.give_port(socket, loopback_towards(domain, ip))?;
        }
        Ok(())
    }

    /// Whether `to`, on the loopback, is a port of the host's that was opened, or one of those inside.
    pub(crate) fn reaches(&self, to: SocketAddr, is_stream: bool) -> io::Result<bool> {
        let ip = to.ip();
        let is_opened = is_stream && self.host_ports.contains(&to.port());
        // As the first backend dials it: further addresses of the loopback are other servers'.
        let is_there =
            ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified();
        Ok((is_opened && is_there) || self.has(to.port(), is_stream)?)
    }

    /// Whether `port` belongs to sockets that were bound inside, and to no other.
    fn has(&self, port: u16, is_stream: bool) -> io::Result<bool> {
        let mut is_there = false;
        for list in lists(is_stream)? {
            for (_, inode) in owners(&list, port, is_stream) {
                if !self.knows(inode) {
                    return Ok(false);
                }
                is_there = true;
            }
        }
        Ok(is_there)
    }

    /// Whether a socket that was not bound inside is reached at `wanted`.
    fn is_of_others(&self, wanted: SocketAddr, is_stream: bool) -> io::Result<bool> {
        let ip = wanted.ip().to_canonical();
        let is_reached = |at: Option<IpAddr>| at.is_none_or(|at| at == ip || at.is_unspecified());
        Ok(lists(is_stream)?.iter().any(|list| {
            owners(list, wanted.port(), is_stream)
                .any(|(at, inode)| is_reached(at) && !self.knows(inode))
        }))
    }
}

/// The kernel's own lists of sockets (`proc_net(5)`).
fn lists(is_stream: bool) -> io::Result<Vec<String>> {
    let names = if is_stream { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let mut lists = Vec::new();
    for name in names {
        match std::fs::read_to_string(format!("/proc/self/net/{name}")) {
            Ok(list) => lists.push(list),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lists)
}

/// Whether who listens at `port` of IPv6 does so at IPv4's loopback alone.
fn is_mapped(port: u16) -> io::Result<bool> {
    let lists = lists(true)?;
    let mut at = lists.get(1).into_iter().flat_map(|list| owners(list, port, true)).peekable();
    Ok(at.peek().is_some() && at.all(|(ip, _)| ip == Some(Ipv4Addr::LOCALHOST.into())))
}

/// The address in such a list: words of the machine's own byte order.
fn listed(text: &str) -> Option<IpAddr> {
    let word =
        |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical())
        }
        _ => None,
    }
}

/// Addresses and inodes of the sockets that have `port`, of TCP those that listen.
fn owners(list: &str, port: u16, is_stream: bool) -> impl Iterator<Item = (Option<IpAddr>, u64)> {
    /// `TCP_LISTEN` (`net/tcp_states.h`).
    const LISTENS: &str = "0A";
    let port = format!("{port:04X}");
    list.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let (at, own) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let is_it = own == port && (!is_stream || state == LISTENS);
        // A line that cannot be read belongs to nobody that is known.
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok()).unwrap_or(0);
        is_it.then(|| (listed(at), inode))
    })
}

/// The loopback as a socket bound to every address would serve it.
fn loopback(socket: impl AsFd, domain: AddressFamily) -> IpAddr {
    if domain == AddressFamily::INET {
        return Ipv4Addr::LOCALHOST.into();
    }
    match rustix::net::sockopt::ipv6_v6only(socket) {
        Ok(false) => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        Ok(true) | Err(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The address from which a socket of `domain` sends to `ip`, on the loopback.
fn loopback_towards(domain: AddressFamily, ip: IpAddr) -> IpAddr {
    match (domain, ip) {
        (AddressFamily::INET, _) => Ipv4Addr::LOCALHOST.into(),
        (_, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        (_, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The loopback as `socket`, which is to be connected, reaches it.
pub(crate) fn near(socket: BorrowedFd<'_>) -> io::Result<IpAddr> {
    let own = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    if own.port() != 0 && !own.ip().is_unspecified() {
        return Ok(own.ip());
    }
    Ok(loopback(socket, rustix::net::sockopt::socket_domain(socket)?))
}

fn own_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)?)
}

/// A `struct sockaddr` of the internet; one without a family is taken for IPv4, as by the kernel.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match family {
        libc::AF_INET | libc::AF_UNSPEC => IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes.get(8..)?.first_chunk::<16>()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The address as a `struct sockaddr`.
pub(crate) fn raw(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = u16::try_from(family).unwrap_or_default().to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// `listen(socket, backlog)`.
pub(super) fn listen(caller: &Caller<'_>) -> io::Result<Prepared> {
    let Some(peers) = caller.peers() else { return error(libc::ENOSYS) };
    let socket = caller.socket(caller.integer(0))?;
    caller.confirm()?;
    let domain = rustix::net::sockopt::socket_domain(&socket)?;
    if domain == AddressFamily::INET || domain == AddressFamily::INET6 {
        peers.give_port(&socket, loopback(&socket, domain))?;
        if !own_address(&socket)?.ip().to_canonical().is_loopback() {
            return error(libc::EACCES);
        }
    }
    rustix::net::listen(&socket, caller.integer(1))?;
    peers.remember(&socket)?;
    Ok(Prepared::Answer(Answer::Value(0)))
}

/// How urgent a message is, whether its way is crowded (QUIC), and how far it goes at most.
const HARMLESS: [(i32, i32); 4] = [
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
];

/// Refuses what leads a message of the internet elsewhere (`IP_RETOPTS`, `IPV6_RTHDR`, another
/// interface).
pub(super) fn permit_control(control: &[u8]) -> io::Result<()> {
    const HEADER: usize = 16;
    let mut at = 0_usize;
    while let Some(header) = control.get(at..at.saturating_add(HEADER)) {
        let word = |at: usize| {
            let bytes = header.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
        };
        let (level, kind) = (word(8), word(12));
        if [libc::IPPROTO_IP, libc::IPPROTO_IPV6].contains(&level)
            && !HARMLESS.contains(&(level, kind))
        {
            return error(libc::EPERM);
        }
        let length = header.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER);
        at = at.saturating_add(length.checked_next_multiple_of(8).unwrap_or(usize::MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{SocketFlags, socket_with};

    use super::*;

    fn socket(kind: SocketType) -> OwnedFd {
        socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn only_ports_that_were_bound_inside_are_reached() {
        let peers = Peers::default();
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = |port| raw(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let inet = AddressFamily::INET;
        let client = socket(SocketType::STREAM);
        let ask = |address: &[u8]| {
            peers.permit(&client, inet, address).map_err(|error| error.raw_os_error())
        };
        let port = outside.local_addr().unwrap().port();
        assert_eq!(ask(&to(port)), Err(Some(libc::ECONNREFUSED)));
        let inside = socket(SocketType::STREAM);
        peers.bind(&inside, inet, &raw("0.0.0.0:0".parse().unwrap())).unwrap();
        let own = own_address(&inside).unwrap();
        assert!(own.ip().is_loopback(), "never to every address: {own}");
        assert_eq!(ask(&to(own.port())), Err(Some(libc::ECONNREFUSED)), "nobody listens");
        rustix::net::listen(&inside, 1).unwrap();
        assert_eq!(ask(&to(own.port())), Ok(()));
        assert_eq!(ask(&raw("192.0.2.1:80".parse().unwrap())), Err(Some(libc::ENETUNREACH)));
        let elsewhere = raw("192.0.2.1:0".parse().unwrap());
        assert!(peers.bind(&socket(SocketType::STREAM), inet, &elsewhere).is_err());
    }

    #[test]
    fn an_opened_port_is_one_of_the_first_addresses_of_the_loopback() {
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = outside.local_addr().unwrap().port();
        let peers = Peers::new(vec![port]);
        let reaches = |ip: [u8; 4], stream| peers.reaches((ip, port).into(), stream).unwrap();
        assert!(reaches([127, 0, 0, 1], true) && reaches([0; 4], true));
        assert!(!reaches([127, 0, 0, 2], true) && !reaches([127, 0, 0, 1], false));
    }

    #[test]
    fn who_calls_at_ipv6_is_led_to_what_was_bound_to_both_families() {
        let peers = Peers::default();
        let inet6 = AddressFamily::INET6;
        let socket = |kind| socket_with(inet6, kind, SocketFlags::CLOEXEC, None).unwrap();
        let server = socket(SocketType::STREAM);
        rustix::net::sockopt::set_ipv6_v6only(&server, false).unwrap();
        peers.bind(&server, inet6, &raw("[::]:0".parse().unwrap())).unwrap();
        rustix::net::listen(&server, 1).unwrap();
        let port = own_address(&server).unwrap().port();
        let lead = |kind, port| {
            let to = raw(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
            let led = peers.lead_connection(&socket(kind), inet6, to);
            led.map(|bytes| parse(&bytes).unwrap().to_string()).map_err(|e| e.raw_os_error())
        };
        assert_eq!(lead(SocketType::STREAM, port), Ok(format!("[::ffff:127.0.0.1]:{port}")));
        let outside = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = outside.local_addr().unwrap().port();
        assert_eq!(lead(SocketType::STREAM, port), Err(Some(libc::ECONNREFUSED)));
        assert_eq!(lead(SocketType::DGRAM, port), Ok("[::1]:0".to_owned()), "to nobody");
    }

    #[test]
    fn questions_for_names_are_led_to_the_gateway() {
        let peers = Peers::default();
        let inet = AddressFamily::INET;
        let lead = |kind, to: &str| {
            let led = peers.lead(&socket(kind), inet, raw(to.parse().unwrap()));
            led.map(|bytes| parse(&bytes).unwrap().to_string()).map_err(|e| e.raw_os_error())
        };
        let far = Err(Some(libc::ENETUNREACH));
        assert_eq!(lead(SocketType::DGRAM, "192.0.2.53:53"), far, "nobody answers");
        peers.lead_names(vec!["192.0.2.53".parse().unwrap()], 4000);
        let led = Ok("127.0.0.1:4000".to_owned());
        assert_eq!(lead(SocketType::DGRAM, "192.0.2.53:53"), led);
        assert_eq!(lead(SocketType::DGRAM, "198.18.0.1:53"), led);
        assert_eq!(lead(SocketType::DGRAM, "192.0.2.54:53"), far, "no server of this machine");
        assert_eq!(lead(SocketType::DGRAM, "192.0.2.53:54"), far);
        assert_eq!(lead(SocketType::STREAM, "192.0.2.53:53"), far, "the gate's");
    }

    #[test]
    fn a_datagram_without_a_family_is_one_of_ipv4() {
        let peers = Peers::default();
        let mut address = raw("192.0.2.1:53".parse().unwrap());
        address[..2].fill(0);
        let refused = peers.permit(&socket(SocketType::DGRAM), AddressFamily::INET, &address);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
    }

    #[test]
    fn messages_carry_no_way_of_their_own() {
        let mut control = 20_u64.to_ne_bytes().to_vec();
        control.extend(libc::IPPROTO_IP.to_ne_bytes());
        control.extend([0; 12]);
        assert!(permit_control(&control).is_err());
        control[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        assert!(permit_control(&control).is_ok());
        let of_kind = |kind: i32| {
            let mut control = control.clone();
            control[8..12].copy_from_slice(&libc::IPPROTO_IPV6.to_ne_bytes());
            control[12..16].copy_from_slice(&kind.to_ne_bytes());
            permit_control(&control).is_ok()
        };
        assert!(of_kind(libc::IPV6_TCLASS) && of_kind(libc::IPV6_HOPLIMIT));
        assert!(!of_kind(libc::IPV6_PKTINFO) && !of_kind(libc::IPV6_RTHDR));
    }
}
