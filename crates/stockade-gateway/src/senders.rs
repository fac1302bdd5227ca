//! Whose a datagram is that came over the loopback of a machine that others use as well.
//!
//! Source: `proc_net(5)`.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// Whether every UDP socket with the port of `from` is `user`'s, and there is one.
pub(crate) fn is_of(from: SocketAddr, user: u32) -> bool {
    let mut owners = Vec::new();
    for name in ["udp", "udp6"] {
        match fs::read_to_string(format!("/proc/self/net/{name}")) {
            Ok(list) => owners.extend(owners_of(&list, from.port())),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    !owners.is_empty() && owners.iter().all(|owner| *owner == Some(user))
}

/// The users of the sockets with this port; `None` for a line that cannot be read.
fn owners_of(list: &str, port: u16) -> impl Iterator<Item = Option<u32>> {
    let port = format!("{port:04X}");
    list.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let (_, own) = fields.nth(1)?.rsplit_once(':')?;
        (own == port).then(|| fields.nth(5)?.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_is_of_the_user_whose_socket_it_came_from() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from = socket.local_addr().unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert!(is_of(from, user));
        assert!(!is_of(from, user + 1));
        drop(socket);
        assert!(!is_of(from, user), "a socket that is gone is nobody's");
    }

    #[test]
    fn a_port_that_two_users_have_is_of_neither() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
             7: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0\n\
             8: 0200007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  1001        0 3 2 0 0\n\
             9: 0200007F:0036 00000000:0000 07\n";
        assert_eq!(owners_of(list, 53).collect::<Vec<_>>(), [Some(1000), Some(1001)]);
        assert_eq!(owners_of(list, 54).collect::<Vec<_>>(), [None]);
    }
}
