//! Ranges of addresses that are local to the sandbox: a connection to any of them ends at a
//! listener in it (`ip route add local RANGE dev lo`), and a datagram to them has no way
//! (`ip rule add ipproto udp to RANGE unreachable`).
//!
//! A datagram that nobody takes is answered by an ICMP message, which the kernel shows to a connected
//! socket alone: without such rules QUIC by one that is not waits for its own time to run out.
//!
//! Sources: rtnetlink(7), linux/rtnetlink.h, `linux/fib_rules.h`, ip-rule(8).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use stockade_policy::AddressRange;

/// linux/netlink.h: `NETLINK_ROUTE`, the default protocol of the family.
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 0x1 | 0x4;
/// `NLM_F_CREATE`, with `NLM_F_REPLACE` for a route.
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const NLMSG_ERROR: u16 = 2;
/// `RT_TABLE_LOCAL`, `RTPROT_BOOT`, `RT_SCOPE_HOST`, `RTN_LOCAL`.
const TABLE_LOCAL: u8 = 255;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_HOST: u8 = 254;
const TYPE_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_IP_PROTO: u16 = 22;
/// `FR_ACT_TO_TBL`, `FR_ACT_UNREACHABLE`.
const LOOK_UP: u8 = 1;
const UNREACHABLE: u8 = 7;
/// The loopback is the first interface of every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// Adds routes; the loopback must be up.
#[derive(Debug)]
pub(crate) struct Routes {
    socket: OwnedFd,
}

impl Routes {
    pub(crate) fn open() -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        Ok(Self { socket: rustix::net::socket_with(family, SocketType::RAW, flags, None)? })
    }

    /// Makes `range` local.
    pub(crate) fn make_local(&self, range: AddressRange) -> io::Result<()> {
        self.ask(RTM_NEWROUTE, CREATE | REPLACE, &route(range))
    }

    /// Has datagrams to `ranges` refused as they are sent, but for those to `but`.
    ///
    /// # Errors
    ///
    /// When the kernel has no rules (`CONFIG_IP_MULTIPLE_TABLES`); everything is as it was then.
    pub(crate) fn refuse_datagrams(&self, ranges: &[AddressRange], but: IpAddr) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let add = |rule: &Rule| self.ask(RTM_NEWRULE, CREATE, &rule.body(family));
            let of_family = |address: &IpAddr| address.is_ipv4() == (family == libc::AF_INET);
            if of_family(&but) {
                let bits = if but.is_ipv4() { 32 } else { 128 };
                add(&Rule { to: Some((but, bits)), ..Rule::local(1) })?;
            }
            for range in ranges.iter().filter(|range| of_family(&range.first())) {
                let to = Some((range.first(), range.bits()));
                add(&Rule { order: 2, to, is_udp: true, action: UNREACHABLE, table: 0 })?;
            }
            // What is local is looked up first of all (ip-rule(8)): from now on after those.
            add(&Rule::local(3))?;
            self.ask(RTM_DELRULE, 0, &Rule::local(0).body(family))?;
        }
        Ok(())
    }

    /// Sends one request, and waits for what became of it.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let request = request(kind, FLAGS | flags, body);
        rustix::net::sendto(&self.socket, &request, SendFlags::empty(), &kernel)?;
        let mut reply = [0; 1024];
        let (_, length) = rustix::net::recv(&self.socket, &mut reply, RecvFlags::empty())?;
        match reply.get(..length).and_then(outcome) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::other("an unexpected reply of the kernel")),
        }
    }
}

/// A rule by which it is chosen where a way is looked for.
#[derive(Debug)]
struct Rule {
    /// Those with a lower one come first.
    order: u32,
    to: Option<(IpAddr, u8)>,
    is_udp: bool,
    action: u8,
    table: u8,
}

impl Rule {
    /// In the table of what is local.
    fn local(order: u32) -> Self {
        Self { order, to: None, is_udp: false, action: LOOK_UP, table: TABLE_LOCAL }
    }

    /// As a `struct fib_rule_hdr` and its attributes. Without an order it is the first that is like it.
    fn body(&self, family: i32) -> Vec<u8> {
        let family = u8::try_from(family).unwrap_or_default();
        let bits = self.to.map_or(0, |(_, bits)| bits);
        let mut body = vec![family, bits, 0, 0, self.table, 0, 0, self.action, 0, 0, 0, 0];
        if let Some((address, _)) = self.to {
            attribute(&mut body, FRA_DST, &octets(address).1);
        }
        if self.order > 0 {
            attribute(&mut body, FRA_PRIORITY, &self.order.to_ne_bytes());
        }
        if self.is_udp {
            let protocol = u8::try_from(libc::IPPROTO_UDP).unwrap_or_default();
            attribute(&mut body, FRA_IP_PROTO, &[protocol]);
        }
        body
    }
}

/// An address with its family.
fn octets(address: IpAddr) -> (i32, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    }
}

fn route(range: AddressRange) -> Vec<u8> {
    let (family, octets) = octets(range.first());
    let family = u8::try_from(family).unwrap_or_default();
    let mut body = vec![family, range.bits(), 0, 0, TABLE_LOCAL, PROTOCOL_BOOT, SCOPE_HOST];
    body.push(TYPE_LOCAL);
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, RTA_DST, &octets);
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    body
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The error number of an acknowledgement, 0 for none.
fn outcome(reply: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    let errno = i32::from_ne_bytes(*reply.get(16..)?.first_chunk()?);
    (kind == NLMSG_ERROR).then_some(errno)
}
