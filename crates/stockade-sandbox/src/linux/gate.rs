//! The network of a sandbox that may reach hosts, from inside: what PID 1 sets up, and how a
//! connection gets out.
//!
//! Names have synthetic addresses, which are local to this namespace. When a program connects to
//! one, PID 1, which sees each `connect`, asks outside; then it listens at that very address for
//! as long as it takes to connect the program's socket, and hands the other end out. So no port
//! is taken from the programs inside, and what is dialled outside is known by the address that
//! the other end has.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use stockade_policy::{AddressRange, SYNTHETIC};

use super::control;
use super::doors;
use super::failure::{Failure, step};
use super::plan::WayOut;
use super::routes::Routes;
use super::sys::socket_unsafe;

/// Where names are asked for: the first host of the synthetic range.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where a proxy listens at the same address; `stockade_policy` knows it by this number.
const PROXY_PORT: u16 = stockade_policy::PROXY_PORT;
/// How long the kernel may take for a handshake with itself.
const HANDSHAKE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Sets the network up and hands its listeners out. The loopback is up.
pub(crate) fn set_up(way: &WayOut, channel: &OwnedFd) -> Result<(), Failure> {
    let outside = doors::Inside(channel);
    if way.has_hosts {
        let routes = Routes::open().map_err(step("open", "a netlink socket"))?;
        let [v4, v6] = SYNTHETIC;
        make_local(&routes, v4)?;
        // A kernel without IPv6 has no such addresses; names then have IPv4 ones only.
        routes.make_local(v6).ok();
        for range in &way.routes {
            make_local(&routes, *range)?;
        }
        // For programs inside; PID 1 itself keeps the capability for it. Where `/proc/sys` cannot be
        // written (a container) they have the ports above 1023, as outside.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
        let (udp, tcp) = resolver(RESOLVER).map_err(step("listen on", "198.18.0.1:53"))?;
        outside.names(udp, tcp).map_err(step("reach", "the gateway"))?;
        if fs::symlink_metadata("/etc/resolv.conf").is_err() {
            // No file can stand there, and C libraries then ask the loopback (resolv.conf(5)).
            let (udp, tcp) = resolver(Ipv4Addr::LOCALHOST).map_err(step("listen on", "port 53"))?;
            outside.names(udp, tcp).map_err(step("reach", "the gateway"))?;
        }
        let proxy = TcpListener::bind((RESOLVER, PROXY_PORT));
        let proxy = proxy.map_err(step("listen on", "198.18.0.1"))?;
        outside.proxy(proxy).map_err(step("reach", "the gateway"))?;
    }
    Ok(())
}

fn make_local(routes: &Routes, range: AddressRange) -> Result<(), Failure> {
    routes.make_local(range).map_err(step("make local", range.to_string()))
}

fn resolver(address: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind((address, 53))?, TcpListener::bind((address, 53))?))
}

/// Makes sockets for whoever leads connections in from outside, in a thread of its own, until nobody asks.
pub(crate) fn make_sockets(channel: &OwnedFd) -> io::Result<()> {
    let (ours, theirs) = control::pair()?;
    doors::Inside(channel).sockets(theirs)?;
    let serve = move || {
        while let Ok((packet, _none)) = control::receive(&ours) {
            let family = match packet.as_slice() {
                [b'4'] => AddressFamily::INET,
                [b'6'] => AddressFamily::INET6,
                _ => return,
            };
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
            let sockets: Vec<OwnedFd> = socket.into_iter().collect();
            if control::send(&ours, b"s", &sockets).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(serve).map(drop)
}

/// Where connections get out.
#[derive(Debug)]
pub(crate) struct Gate {
    /// One at a time: a question and its answer, an address and its listener.
    channel: Mutex<OwnedFd>,
}

impl Gate {
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self { channel: Mutex::new(channel) }
    }

    /// Connects `socket` to `to`, which `address` is the `struct sockaddr` of, for `process`.
    ///
    /// # Errors
    ///
    /// What the process gets.
    pub(crate) fn connect(
        &self,
        socket: BorrowedFd<'_>,
        address: &[u8],
        to: SocketAddr,
        process: u32,
    ) -> io::Result<()> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = doors::Inside(&channel);
        outside.ask(to, process)?;
        let listener = listen(to)?;
        let connected = socket_unsafe::connect(socket, address);
        if let Err(error) = &connected
            && error.raw_os_error() != Some(libc::EINPROGRESS)
        {
            return connected;
        }
        let stream = accept(&listener, socket)?;
        outside.hand_over(stream, to, process)?;
        connected
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
    rustix::net::listen(&listener, 1)?;
    Ok(listener)
}

/// The other end of `socket`, which was connected to `listener`.
fn accept(listener: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let lost = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    if poll(&mut fds, Some(&HANDSHAKE))? == 0 {
        return Err(lost());
    }
    let (stream, peer) = rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC)?;
    // Every `connect` goes through here, one after the other, so that it can be nobody else's.
    let own = endpoint(rustix::net::getsockname(socket)?);
    if own.is_none() || own != peer.and_then(endpoint) {
        return Err(lost());
    }
    Ok(stream)
}

fn endpoint(address: SocketAddrAny) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Where `bytes`, a `struct sockaddr`, leads beyond the sandbox: an Internet address that is
/// neither its loopback nor our own listeners'.
pub(crate) fn leads_out(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let address = match family {
        libc::AF_INET => IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes.get(8..)?.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    let stays = address.is_loopback() || address.is_unspecified() || address == RESOLVER;
    (!stays).then(|| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let out = |bytes: &[u8]| leads_out(bytes).map(|address| address.to_string());
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
