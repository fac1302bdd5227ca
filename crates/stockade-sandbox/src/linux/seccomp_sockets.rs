//! What the filter makes of calls on sockets.

use super::seccomp::{
    AND, JUMP_EQUAL, RET_ALLOW, RET_USER_NOTIF, choose, fail, give, load, low, op,
};
use super::sys::seccomp_unsafe::Instruction;

/// Netlink protocols that only tell of this network namespace: ROUTE (getaddrinfo),
/// `SOCK_DIAG` (ss), `KOBJECT_UEVENT` (libudev).
pub(super) const NETLINK_PROTOCOLS: [u32; 3] = [0, 4, 15];

/// The kind of a socket without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
pub(super) const SOCKET_TYPE: u32 = 0xf;

/// `SO_PEERCRED` and `SO_PEERPIDFD` (asm-generic/socket.h).
const PEER_OPTIONS: &[u32] = &[17, 77];

/// `socket`: only families that stay inside the network namespace.
pub(super) fn socket() -> Vec<Instruction> {
    let [unix, inet, inet6, netlink] =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(i32::cast_unsigned);
    let [route, diag, uevent] = NETLINK_PROTOCOLS;
    vec![
        load(low(0)),
        op(JUMP_EQUAL, unix, 8, 0),
        op(JUMP_EQUAL, inet, 7, 0),
        op(JUMP_EQUAL, inet6, 6, 0),
        op(JUMP_EQUAL, netlink, 0, 6),
        load(low(2)),
        op(JUMP_EQUAL, route, 3, 0),
        op(JUMP_EQUAL, diag, 2, 0),
        op(JUMP_EQUAL, uevent, 1, 0),
        fail(libc::EPROTONOSUPPORT),
        give(RET_ALLOW),
        fail(libc::EAFNOSUPPORT),
    ]
}

/// `getsockopt`: trapped where it asks who is at the other end.
pub(super) fn peer() -> Vec<Instruction> {
    let mut body =
        vec![load(low(1)), op(JUMP_EQUAL, libc::SOL_SOCKET.cast_unsigned(), 1, 0), give(RET_ALLOW)];
    body.extend(choose(2, PEER_OPTIONS, give(RET_USER_NOTIF), give(RET_ALLOW)));
    body
}

/// `socket` and `socketpair`: Unix ones that take no address with a message.
pub(super) fn unix_without_address() -> Vec<Instruction> {
    vec![
        load(low(0)),
        op(JUMP_EQUAL, libc::AF_UNIX.cast_unsigned(), 0, 4),
        load(low(1)),
        op(AND, SOCKET_TYPE, 0, 0),
        op(JUMP_EQUAL, libc::SOCK_STREAM.cast_unsigned(), 2, 0),
        op(JUMP_EQUAL, libc::SOCK_SEQPACKET.cast_unsigned(), 1, 0),
        fail(libc::EACCES),
        give(RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::tests::{errno, native};
    use super::*;

    #[test]
    fn sockets_are_judged_by_family_and_netlink_protocol() {
        let socket = |family: i32, protocol: u64| {
            let family = u64::from(family.cast_unsigned());
            native(libc::SYS_socket, [family, 2, protocol, 0, 0, 0])
        };
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            assert_eq!(socket(family, 0), RET_ALLOW, "family {family}");
        }
        for family in [libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG, libc::AF_KEY, 31, 44] {
            assert_eq!(socket(family, 0), errno(libc::EAFNOSUPPORT), "family {family}");
        }
        for (protocol, answer) in [
            (0, RET_ALLOW),
            (4, RET_ALLOW),
            (15, RET_ALLOW),
            (9, errno(libc::EPROTONOSUPPORT)),
            (16, errno(libc::EPROTONOSUPPORT)),
        ] {
            assert_eq!(socket(libc::AF_NETLINK, protocol), answer, "netlink {protocol}");
        }
    }

    #[test]
    fn only_sends_with_an_address_are_trapped() {
        let sendto = |address: u64| native(libc::SYS_sendto, [3, 1, 1, 0, address, 0]);
        assert_eq!(sendto(0), RET_ALLOW);
        assert_eq!(sendto(1), RET_USER_NOTIF);
        assert_eq!(sendto(1 << 32), RET_USER_NOTIF);
        assert_eq!(native(libc::SYS_connect, [0; 6]), RET_USER_NOTIF);
    }

    #[test]
    fn who_is_at_the_other_end_is_asked_of_pid_1_and_nothing_else_of_a_socket() {
        let option = |level: u64, name: u64| {
            native(libc::SYS_getsockopt, [3, level, name, 1 << 32, 1 << 32, 0])
        };
        assert_eq!((option(1, 17), option(1, 77)), (RET_USER_NOTIF, RET_USER_NOTIF));
        assert_eq!((option(1, 4), option(6, 17), option(0, 77)), (RET_ALLOW, RET_ALLOW, RET_ALLOW));
    }
}
