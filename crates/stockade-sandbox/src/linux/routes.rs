//! Ranges of addresses that are local to the sandbox: a connection to any of them ends at a
//! listener in it (`ip route add local RANGE dev lo`).
//!
//! Sources: rtnetlink(7), linux/rtnetlink.h.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use stockade_policy::AddressRange;

/// linux/netlink.h: `NETLINK_ROUTE`, the default protocol of the family.
const RTM_NEWROUTE: u16 = 24;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE`.
const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x100;
const NLMSG_ERROR: u16 = 2;
/// `RT_TABLE_LOCAL`, `RTPROT_BOOT`, `RT_SCOPE_HOST`, `RTN_LOCAL`.
const TABLE_LOCAL: u8 = 255;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_HOST: u8 = 254;
const TYPE_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
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
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request(range), SendFlags::empty(), &kernel)?;
        let mut reply = [0; 1024];
        let (_, length) = rustix::net::recv(&self.socket, &mut reply, RecvFlags::empty())?;
        match reply.get(..length).and_then(outcome) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::other("an unexpected reply of the kernel")),
        }
    }
}

fn request(range: AddressRange) -> Vec<u8> {
    let (family, octets) = match range.first() {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let family = u8::try_from(family).unwrap_or_default();
    let mut body = vec![family, range.bits(), 0, 0, TABLE_LOCAL, PROTOCOL_BOOT, SCOPE_HOST];
    body.push(TYPE_LOCAL);
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, RTA_DST, &octets);
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(RTM_NEWROUTE.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Addresses are 4 or 16 bytes, so that nothing needs to be padded.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// The error number of an acknowledgement, 0 for none.
fn outcome(reply: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    let errno = i32::from_ne_bytes(*reply.get(16..)?.first_chunk()?);
    (kind == NLMSG_ERROR).then_some(errno)
}
