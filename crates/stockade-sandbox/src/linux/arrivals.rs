//! Where connections from inside end up before they are handed out: listeners that are there for as
//! long as somebody is being connected to them.
//!
//! Programs connect at their own pace: a socket filter of theirs can keep the kernel from finishing a
//! handshake with itself for minutes. So nobody waits for another one's. Those who connect to the
//! same address at one time share its listener, and each takes the end that is theirs.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags};

/// How long the kernel may take for a handshake with itself.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Between two looks at whether somebody else has taken what one waits for.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Connections that nobody has asked for yet; the oldest go.
const WAITING_MAX: usize = 64;

/// A listener, which does not block, and what has arrived at it for others.
#[derive(Debug)]
pub(super) struct Arrivals {
    listener: OwnedFd,
    waiting: Mutex<Vec<Arrival>>,
}

#[derive(Debug)]
struct Arrival {
    from: SocketAddr,
    stream: OwnedFd,
    since: Instant,
}

impl Arrivals {
    pub(super) fn at(listener: OwnedFd) -> Self {
        Self { listener, waiting: Mutex::default() }
    }

    /// The other end of `socket`, which was connected to the listener. Others wait for none of it.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when it does not arrive in time.
    pub(super) fn of(&self, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let lost = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let own = endpoint(rustix::net::getsockname(socket)?).ok_or_else(lost)?;
        let deadline = Instant::now() + HANDSHAKE;
        loop {
            if let Some(stream) = self.take(own)? {
                return Ok(stream);
            }
            if Instant::now() > deadline {
                return Err(lost());
            }
            poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&MOMENT))?;
        }
    }

    fn take(&self, own: SocketAddr) -> io::Result<Option<OwnedFd>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose owners gave up, or were none.
        waiting.retain(|arrival| arrival.since.elapsed() < HANDSHAKE);
        if let Some(found) = waiting.iter().position(|arrival| arrival.from == own) {
            return Ok(Some(waiting.remove(found).stream));
        }
        loop {
            let (stream, from) =
                match rustix::net::acceptfrom_with(&self.listener, SocketFlags::CLOEXEC) {
                    Ok(accepted) => accepted,
                    Err(Errno::AGAIN) => return Ok(None),
                    // It was gone again before it was looked at.
                    Err(Errno::CONNABORTED | Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
            match from.and_then(endpoint) {
                Some(from) if from == own => return Ok(Some(stream)),
                Some(from) => {
                    if waiting.len() >= WAITING_MAX {
                        waiting.remove(0);
                    }
                    waiting.push(Arrival { from, stream, since: Instant::now() });
                }
                None => {}
            }
        }
    }
}

/// The listeners of the moment, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<HashMap<SocketAddr, Arc<Arrivals>>>);

/// One use of a listener, which is closed after the last.
#[derive(Debug)]
pub(super) struct Use<'a> {
    all: &'a Listeners,
    at: SocketAddr,
    arrivals: Option<Arc<Arrivals>>,
}

impl Listeners {
    /// The listener at `to`, which `listen` makes when there is none.
    pub(super) fn at(
        &self,
        to: SocketAddr,
        listen: impl FnOnce(SocketAddr) -> io::Result<OwnedFd>,
    ) -> io::Result<Use<'_>> {
        let mut all = self.locked();
        let arrivals = if let Some(arrivals) = all.get(&to) {
            Arc::clone(arrivals)
        } else {
            let made = Arc::new(Arrivals::at(listen(to)?));
            all.insert(to, Arc::clone(&made));
            made
        };
        Ok(Use { all: self, at: to, arrivals: Some(arrivals) })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Arrivals>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Use<'_> {
    type Target = Arrivals;

    fn deref(&self) -> &Arrivals {
        self.arrivals.as_deref().expect("invariant: it is let go of by `drop` alone")
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut all = self.all.locked();
        self.arrivals = None;
        // Closed while nobody can want one there: two listeners at one address are an error.
        if all.get(&self.at).is_some_and(|arrivals| Arc::strong_count(arrivals) == 1) {
            all.remove(&self.at);
        }
    }
}

/// The address of an Internet socket in its one form.
pub(super) fn endpoint(address: SocketAddrAny) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    fn listen(at: SocketAddr) -> io::Result<OwnedFd> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        Ok(listener.into())
    }

    /// An address of the loopback that nobody listens at.
    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn each_takes_its_own_end_in_any_order_and_the_last_closes() {
        let all = Listeners::default();
        let at = free();
        let (first, second) = (all.at(at, listen).unwrap(), all.at(at, listen).unwrap());
        let programs = [(); 3].map(|()| TcpStream::connect(at).unwrap());
        for (program, place) in programs.iter().rev().zip([&first, &second, &first]) {
            let taken = TcpStream::from(place.of(program.as_fd()).unwrap());
            assert_eq!(taken.peer_addr().unwrap(), program.local_addr().unwrap());
        }
        drop(first);
        TcpStream::connect(at).unwrap();
        drop(second);
        assert!(TcpStream::connect(at).is_err(), "nobody is left there");
        assert!(all.locked().is_empty());
    }

    #[test]
    fn strangers_are_sent_away() {
        let at = free();
        let arrivals = Arrivals::at(listen(at).unwrap());
        let strangers: Vec<_> =
            (0..WAITING_MAX + 2).map(|_| TcpStream::connect(at).unwrap()).collect();
        let program = TcpStream::connect(at).unwrap();
        arrivals.of(program.as_fd()).unwrap();
        assert!(matches!({ &strangers[0] }.read(&mut [0]), Ok(0) | Err(_)), "the oldest went");
        drop(arrivals);
        assert!(matches!({ strangers.last().unwrap() }.read(&mut [0]), Ok(0) | Err(_)));
    }

    #[test]
    fn who_does_not_arrive_is_not_waited_for_by_others() {
        let all = Listeners::default();
        let at = free();
        let place = all.at(at, listen).unwrap();
        // Bound, and never connected: as if its handshake did not end.
        let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| place.of(stuck.as_fd()));
            for _ in 0..50 {
                let program = TcpStream::connect(at).unwrap();
                place.of(program.as_fd()).unwrap();
            }
            assert!(!waits.is_finished());
            assert_eq!(waits.join().unwrap().unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        });
    }
}
