//! Carrying bytes between a program inside and a server outside.
//!
//! One thread a connection, which keeps one buffer: what a slow reader has not taken yet is all
//! that is ever held, and no more is read for it. Each way is closed on its own.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::watch::{Refusal, Watch};

/// Read at once; in bytes.
const BUFFER: usize = 64 * 1024;
/// The same where more than [`MANY`] carry: a connection whose two ends take nothing holds this
/// three times, and all of them together stay within what the gateway may use.
const SMALL: usize = 16 * 1024;
const MANY: usize = 64;
/// How long a connection may be silent of which one way is closed.
const HALF_CLOSED: Timespec = Timespec { tv_sec: 300, tv_nsec: 0 };

/// How much went which way; in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// One way of a connection.
#[derive(Debug, Default)]
struct Way {
    /// Read and not written yet.
    pending: Vec<u8>,
    /// How much of `pending` is written.
    written: usize,
    /// The one end said that nothing follows.
    is_ended: bool,
    /// The other end knows.
    is_closed: bool,
    bytes: u64,
}

impl Way {
    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes what is pending, as much as `to` takes.
    fn flush(&mut self, to: &TcpStream) -> io::Result<()> {
        while self.written < self.pending.len() {
            let rest = self.pending.get(self.written..).unwrap_or_default();
            match rustix::net::send(to, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.written += count;
                    self.bytes += count as u64;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.written = 0;
        // What one burst needed is not kept for the rest of a quiet connection.
        if self.pending.capacity() > 2 * BUFFER {
            self.pending = Vec::new();
        } else {
            self.pending.clear();
        }
        if self.is_ended && !self.is_closed {
            self.is_closed = true;
            // Gone already, perhaps.
            to.shutdown(Shutdown::Write).ok();
        }
        Ok(())
    }

    /// Writes `bytes`, of which what `to` does not take now becomes pending.
    fn write(&mut self, bytes: &[u8], to: &TcpStream) -> io::Result<()> {
        let mut rest = bytes;
        while self.is_idle() && !rest.is_empty() {
            match rustix::net::send(to, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.bytes += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.pending.extend(rest);
        Ok(())
    }
}

/// Those that carry.
static CARRYING: AtomicUsize = AtomicUsize::new(0);

/// One of them, as long as it lives.
struct Carrying {
    read_size: usize,
}

impl Carrying {
    fn begin() -> Self {
        Self { read_size: read_size(CARRYING.fetch_add(1, Ordering::Relaxed)) }
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        CARRYING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one reads at once beside so many others.
fn read_size(others: usize) -> usize {
    if others < MANY { BUFFER } else { SMALL }
}

/// Carries until both ways are closed, one end is gone, or `watch` refuses.
pub(crate) fn pump(
    inside: &TcpStream,
    outside: &TcpStream,
    watch: &mut Watch,
) -> (Carried, Option<Refusal>) {
    let (mut up, mut down) = (Way::default(), Way::default());
    let refusal = match carry((inside, outside), (&mut up, &mut down), watch) {
        // An end that is gone ends the connection; there is nobody to tell.
        Ok(()) | Err(Ended::Broken) => None,
        Err(Ended::Refused(refusal)) => Some(refusal),
    };
    (Carried { sent: up.bytes, received: down.bytes }, refusal)
}

enum Ended {
    Broken,
    Refused(Refusal),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn carry(
    (inside, outside): (&TcpStream, &TcpStream),
    (up, down): (&mut Way, &mut Way),
    watch: &mut Watch,
) -> Result<(), Ended> {
    inside.set_nonblocking(true)?;
    outside.set_nonblocking(true)?;
    // Not filled with zeros: a quiet connection touches none of it.
    let carrying = Carrying::begin();
    let mut buffer = Vec::with_capacity(carrying.read_size);
    while !(up.is_closed && down.is_closed) {
        let wants = |reads: &Way, waits: bool, writes: &Way| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads.is_idle() && !reads.is_ended && !waits);
            flags.set(PollFlags::OUT, !writes.is_idle());
            flags
        };
        let (of_inside, of_outside) = (wants(up, watch.waits(), down), wants(down, false, up));
        let timeout = (up.is_ended || down.is_ended).then_some(&HALF_CLOSED);
        // Who has said everything may still be listening; who is gone is not.
        let is_asked = !of_inside.is_empty() || up.is_closed;
        let inside_or_gone = is_asked.then_some((inside, of_inside));
        let (of_inside, of_outside) = wait(inside_or_gone, (outside, of_outside), timeout)?;
        if of_outside.contains(PollFlags::OUT) {
            up.flush(outside)?;
        }
        if of_inside.contains(PollFlags::OUT) {
            down.flush(inside)?;
        }
        if of_inside.contains(PollFlags::IN) {
            match read(inside, &mut buffer)? {
                Some([]) => {
                    up.is_ended = true;
                    up.flush(outside)?;
                }
                Some(bytes) if watch.is_over() => up.write(bytes, outside)?,
                Some(bytes) => {
                    watch.take(bytes, &mut up.pending)?;
                    up.flush(outside)?;
                }
                None => {}
            }
        }
        if of_outside.contains(PollFlags::IN) {
            match read(outside, &mut buffer)? {
                Some([]) => {
                    down.is_ended = true;
                    down.flush(inside)?;
                }
                Some(bytes) => {
                    if !watch.is_over() {
                        watch.hear(bytes, &mut up.pending)?;
                        up.flush(outside)?;
                    }
                    down.write(bytes, inside)?;
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// Waits for either. An end that is not asked about, or of which nothing is wanted, is left out:
/// it would answer that it is hung up, again and again. The first may be asked for that alone,
/// which then ends the connection.
fn wait(
    inside: Option<(&TcpStream, PollFlags)>,
    (outside, of_outside): (&TcpStream, PollFlags),
    timeout: Option<&Timespec>,
) -> io::Result<(PollFlags, PollFlags)> {
    let of_inside = inside.map(|(_, wanted)| wanted);
    let outside = Some((outside, of_outside)).filter(|(_, wanted)| !wanted.is_empty());
    let ends = inside.into_iter().chain(outside);
    let mut fds: Vec<PollFd<'_>> = ends.map(|(end, wanted)| PollFd::new(end, wanted)).collect();
    match poll(&mut fds, timeout) {
        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((PollFlags::empty(), PollFlags::empty())),
        Err(error) => return Err(error.into()),
    }
    let mut found = fds.iter().map(PollFd::revents);
    let mut of = |wanted: PollFlags| {
        let flags = found.next().unwrap_or(PollFlags::empty());
        if !flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(flags);
        }
        // Reading or writing tells what it is.
        if wanted.is_empty() { Err(io::ErrorKind::ConnectionReset) } else { Ok(wanted) }
    };
    let of_inside = of_inside.map_or(Ok(PollFlags::empty()), &mut of)?;
    let of_outside = if of_outside.is_empty() { of_outside } else { of(of_outside)? };
    Ok((of_inside, of_outside))
}

/// `None` when there is nothing now.
fn read<'b>(from: &TcpStream, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
    buffer.clear();
    match rustix::io::read(from, rustix::buffer::spare_capacity(buffer)) {
        Ok(_count) => Ok(Some(buffer.as_slice())),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends a connection with `reply`, so that it arrives before the end.
pub(crate) fn refuse(inside: &TcpStream, reply: &[u8]) {
    let answer = || -> io::Result<()> {
        inside.set_nonblocking(false)?;
        inside.set_write_timeout(Some(Duration::from_secs(1)))?;
        inside.set_read_timeout(Some(Duration::from_millis(200)))?;
        io::Write::write_all(&mut &*inside, reply)?;
        inside.shutdown(Shutdown::Write)?;
        // What is not read would make the kernel take the reply back.
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if io::Read::read(&mut &*inside, &mut rest)? == 0 {
                break;
            }
        }
        Ok(())
    };
    answer().ok();
}

/// Ends a connection the way a server that is not there does.
pub(crate) fn reset(inside: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(inside, Some(Duration::ZERO)).ok();
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::slots::CONNECTIONS_MAX;

    /// docs/budgets.md: 64 MiB at 512 connections, whatever their ends take. Stacks and the program
    /// itself need a part of it.
    #[test]
    fn connections_that_nobody_reads_hold_half_of_what_there_is() {
        let held: usize = (0..CONNECTIONS_MAX).map(|others| 3 * read_size(others)).sum();
        assert!(held < 40 << 20, "{} MiB", held >> 20);
    }
    use crate::dialled::Dialled;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn started(
        dialled: &'static str,
    ) -> (TcpStream, TcpStream, std::thread::JoinHandle<(Carried, Option<Refusal>)>) {
        let ((program, inside), (outside, server)) = (pair(), pair());
        let mut watch = Watch::new(Dialled::only(dialled));
        let carrying = std::thread::spawn(move || pump(&inside, &outside, &mut watch));
        (program, server, carrying)
    }

    #[test]
    fn bytes_go_both_ways_and_each_way_ends_by_itself() {
        let (mut program, mut server, carrying) = started("a.org:9000");
        server.write_all(b"hello").unwrap();
        let mut first = [0; 5];
        program.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"hello", "a server may speak first");
        program.write_all(b"question").unwrap();
        program.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "question");
        server.write_all(b"answer").unwrap();
        drop(server);
        let mut rest = String::new();
        program.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "answer");
        assert_eq!(carrying.join().unwrap(), (Carried { sent: 8, received: 11 }, None));
    }

    #[test]
    fn a_reader_that_is_slow_stops_the_writer_and_loses_nothing() {
        let (mut program, server, carrying) = started("a.org:9000");
        let writing = std::thread::spawn(move || {
            let mut server = server;
            let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
            for _ in 0..32 {
                server.write_all(&block).unwrap();
            }
        });
        let mut received = Vec::new();
        program.read_to_end(&mut received).unwrap_or_default();
        writing.join().unwrap();
        drop(program);
        assert_eq!(received.len(), 32 << 20);
        assert!(received.iter().zip((0..=255_u8).cycle()).all(|(got, want)| *got == want));
        assert_eq!(carrying.join().unwrap().0.received, 32 << 20);
    }

    #[test]
    fn a_program_that_is_gone_ends_the_connection() {
        let (program, server, carrying) = started("a.org:9000");
        reset(&program);
        drop(program);
        carrying.join().unwrap();
        drop(server);
    }

    #[test]
    fn a_program_that_said_everything_and_is_gone_ends_a_connection_that_the_server_keeps() {
        use std::os::fd::OwnedFd;
        use std::os::unix::net::UnixStream;

        let (mut program, inside) = UnixStream::pair().unwrap();
        let inside = TcpStream::from(OwnedFd::from(inside));
        let (outside, mut server) = pair();
        let mut watch = Watch::new(Dialled::only("a.org:9000"));
        let carrying = std::thread::spawn(move || pump(&inside, &outside, &mut watch));
        program.write_all(b"all of it").unwrap();
        drop(program);
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "all of it");
        assert_eq!(carrying.join().unwrap().0, Carried { sent: 9, received: 0 });
    }

    #[test]
    fn what_is_refused_does_not_arrive() {
        let (mut program, mut server, carrying) = started("a.org:80");
        program.write_all(b"GET / HTTP/1.1\r\nHost: b.org\r\n\r\n").unwrap();
        let (_, refusal) = carrying.join().unwrap();
        assert!(refusal.is_some());
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty());
    }
}
