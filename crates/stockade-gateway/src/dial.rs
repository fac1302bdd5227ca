//! Reaching a host from outside: looking its name up, checking each address, and connecting to
//! one that was checked.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};

use rustix::net::sockopt;
use stockade_policy::{Host, HostName, Network};

use crate::race;
use crate::upstream::Upstream;

/// Why a host cannot be reached.
#[derive(Debug)]
pub(crate) enum DialError {
    /// What its name leads to may not be dialled; why, for a person.
    Refused(String),
    /// It has no address, or none answers.
    Unreachable(io::Error),
}

impl DialError {
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Refused(why) => why.clone(),
            Self::Unreachable(error) => error.to_string(),
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Connects to `host`, which may be reached at `port`.
pub(crate) fn dial(
    network: &Network,
    upstream: Option<&Upstream>,
    host: &Host,
    port: u16,
) -> Result<TcpStream, DialError> {
    connect(upstream, host, port, |address| {
        let decision = network.leads(address, port, is_own(address));
        if decision.is_allowed() { Ok(()) } else { Err(decision.to_string()) }
    })
}

/// Connects to a host that the user has named as theirs, wherever it is: a server of their own may be
/// on this machine. No program chooses it.
pub(crate) fn dial_own(
    upstream: Option<&Upstream>,
    host: &Host,
    port: u16,
) -> Result<TcpStream, DialError> {
    let is_here = match host {
        Host::Address(address) => address.is_loopback(),
        Host::Name(name) => name.is_localhost(),
    };
    connect(upstream.filter(|_| !is_here), host, port, |_| Ok(()))
}

/// Connects by the proxy, where there is one for `host`, or to an address of which `check` has nothing
/// to say. Where the user has named an address, that is asked of nobody.
fn connect(
    upstream: Option<&Upstream>,
    host: &Host,
    port: u16,
    check: impl Fn(IpAddr) -> Result<(), String>,
) -> Result<TcpStream, DialError> {
    if let Some(upstream) = upstream.filter(|upstream| upstream.is_for(host)) {
        return Ok(upstream.connect(host, port)?);
    }
    let permitted = match host {
        Host::Address(address) => vec![SocketAddr::new(*address, port)],
        Host::Name(name) => looked_up(name, port, check)?,
    };
    let stream = race::connect(permitted)?;
    tune(&stream);
    Ok(stream)
}

/// What makes a relayed connection behave like one of the program's own.
pub(crate) fn tune(stream: &TcpStream) {
    // Neither is needed for anything to arrive.
    stream.set_nodelay(true).ok();
    sockopt::set_socket_keepalive(stream, true).ok();
}

/// The addresses of `name` of which `check` has nothing to say.
fn looked_up(
    name: &HostName,
    port: u16,
    check: impl Fn(IpAddr) -> Result<(), String>,
) -> Result<Vec<SocketAddr>, DialError> {
    let mut refused = None;
    let mut permitted = Vec::new();
    for address in (name.as_str(), port).to_socket_addrs()? {
        let ip = address.ip().to_canonical();
        match check(ip) {
            Ok(()) => permitted.push(SocketAddr::new(ip, port)),
            Err(decision) => {
                refused
                    .get_or_insert_with(|| format!("`{name}` leads to {ip}, which is {decision}"));
            }
        }
    }
    match refused {
        Some(why) if permitted.is_empty() => Err(DialError::Refused(why)),
        Some(_) | None => Ok(permitted),
    }
}

/// Whether `address` is one of this machine's: only to those can a socket be bound.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok() && (!binds_anywhere(address) || is_listed(address))
}

/// Whether the machine lets sockets be bound to addresses that are not its own.
fn binds_anywhere(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    setting.is_ok_and(|text| text.trim() != "0")
}

/// The same question, by the kernel's own lists (`proc_pid_net(5)`).
fn is_listed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let trie = fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
            let line = format!("|-- {address}");
            let mut lines = trie.lines().map(str::trim);
            lines.any(|found| found == line)
        }
        IpAddr::V6(address) => {
            let list = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
            list.contains(&format!("{:032x}", address.to_bits()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("203.0.113.9".parse().unwrap()));
        assert!(is_listed("127.0.0.1".parse().unwrap()));
        assert!(!is_listed("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn a_name_that_leads_to_the_loopback_is_not_dialled() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let name = HostName::new("localhost").unwrap();
        let error = dial(&Network::default(), None, &Host::Name(name), port).unwrap_err();
        assert!(matches!(error, DialError::Refused(_)), "{error:?}");
        assert!(error.why().contains("loopback addresses have to be named"));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
