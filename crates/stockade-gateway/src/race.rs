//! Connecting to the first of several addresses that answers.
//!
//! An address that is silent does not hold the others up: the next is tried beside it a moment later,
//! and the two families take turns. Programs inside cannot do that themselves: to them each family of a
//! host answers at once. Source: RFC 8305.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(15);
/// Between the beginnings of two attempts, unless one fails before (RFC 8305 section 5).
const APART: Duration = Duration::from_millis(250);
/// As many addresses of one name as are tried.
const ADDRESSES_MAX: usize = 16;

/// Sockets that are being connected, each with the moment at which it is given up.
#[derive(Default)]
struct Attempts(Vec<(OwnedFd, Instant)>);

/// Connects to one of `addresses`, which are in the order of preference; the error is the last one.
pub(crate) fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = in_turns(addresses).into_iter().take(ADDRESSES_MAX).peekable();
    let mut attempts = Attempts::default();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut next_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next_at
            && let Some(address) = waiting.next()
        {
            match begin(address) {
                Ok(socket) => attempts.0.push((socket, now + CONNECT)),
                Err(error) => {
                    last = error;
                    continue;
                }
            }
            next_at = now + APART;
        }
        let before = attempts.0.len();
        attempts.0.retain(|(_, until)| *until > now);
        if attempts.0.len() < before {
            last = io::ErrorKind::TimedOut.into();
        }
        let given_up = attempts.0.iter().map(|(_, until)| *until).min();
        let further = waiting.peek().map(|_| next_at);
        let Some(until) = given_up.into_iter().chain(further).min() else { return Err(last) };
        match attempts.settled(until.saturating_duration_since(now))? {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => {
                last = error;
                next_at = now;
            }
            None => {}
        }
    }
}

impl Attempts {
    /// What one of them came to, if any does within `timeout`.
    fn settled(&mut self, timeout: Duration) -> io::Result<Option<io::Result<TcpStream>>> {
        let ends = self.0.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT));
        let mut ends: Vec<PollFd<'_>> = ends.collect();
        match poll(&mut ends, Some(&Timespec::try_from(timeout).map_err(io::Error::other)?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(index) = ends.iter().position(|end| !end.revents().is_empty()) else {
            return Ok(None);
        };
        let (socket, _) = self.0.remove(index);
        if let Err(error) = sockopt::socket_error(&socket)? {
            return Ok(Some(Err(error.into())));
        }
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(Some(Ok(stream)))
    }
}

fn begin(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The families by turns, in which each keeps its order; the first address stays the first.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Where nobody answers: a listener with no room for a further connection, and those that fill it.
    fn silent() -> (OwnedFd, Vec<OwnedFd>, SocketAddr) {
        let kind = SocketType::STREAM;
        let flags = SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::INET, kind, flags, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&listener, &any).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let bound = rustix::net::getsockname(&listener).unwrap();
        let address = SocketAddr::try_from(bound).unwrap();
        let filling = (0..4).map(|_| begin(address).unwrap()).collect();
        (listener, filling, address)
    }

    #[test]
    fn an_address_that_is_silent_does_not_hold_up_the_next() {
        let (listener, filling, dead) = silent();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = alive.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect(vec![dead, dead, to]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), to);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // It blocks, as one that was connected by itself.
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        drop((listener, filling));
    }

    #[test]
    fn where_all_refuse_the_error_says_so_at_once() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let began = Instant::now();
        let error = connect(vec![closed; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(began.elapsed() < APART, "{:?}", began.elapsed());
        assert_eq!(connect(Vec::new()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns() {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let given: Vec<SocketAddr> =
            read(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1"]);
        let wanted: Vec<SocketAddr> =
            read(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "[2001:db8::3]:1"]);
        assert_eq!(in_turns(given), wanted);
    }
}
