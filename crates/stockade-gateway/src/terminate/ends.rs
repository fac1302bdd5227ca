//! One end of a connection whose requests are looked at: by TLS, or as it comes.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use rustix::io::Errno;

use super::{BUFFER, Ended};
use crate::pump;

/// A stream that does not block, and how far it is.
pub(super) struct Side<'a> {
    pub(super) stream: &'a TcpStream,
    /// It said that nothing follows.
    pub(super) is_ended: bool,
    /// It knows that nothing follows.
    pub(super) is_closed: bool,
}

impl<'a> Side<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self { stream, is_ended: false, is_closed: false }
    }

    /// It has taken all that it was told.
    fn flushed(&self) {
        if self.is_closed {
            // Gone already, perhaps.
            self.stream.shutdown(Shutdown::Write).ok();
        }
    }
}

/// What was read of a stream and has to be written to it.
pub(super) trait End {
    fn side(&self) -> &Side<'_>;

    /// Whether it has not taken yet all that it was told.
    fn is_behind(&self) -> bool;

    /// Takes from the socket what is there now.
    fn fill(&mut self) -> Result<(), Ended>;

    /// The next of what it said.
    fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Ended>;

    /// Tells it `bytes`, by the next [`flush`](Self::flush).
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes what is pending, as much as the socket takes.
    fn flush(&mut self) -> io::Result<()>;

    fn close(&mut self);

    /// Ends it with `reply`, so that it arrives before the end.
    fn refuse(&mut self, reply: &[u8]) -> io::Result<()>;
}

/// One end by TLS, after its handshake.
pub(super) struct Tls<'a, C> {
    side: Side<'a>,
    session: C,
}

impl<'a, C> Tls<'a, C> {
    pub(super) fn new(stream: &'a TcpStream, session: C) -> Self {
        Self { side: Side::new(stream), session }
    }
}

impl<C, D> End for Tls<'_, C>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    fn side(&self) -> &Side<'_> {
        &self.side
    }

    fn is_behind(&self) -> bool {
        self.session.wants_write()
    }

    fn fill(&mut self) -> Result<(), Ended> {
        match self.session.read_tls(&mut self.side.stream) {
            Ok(0) => self.side.is_ended = true,
            Ok(_) => {
                if let Err(error) = self.session.process_new_packets() {
                    // The alert that says why.
                    self.flush().ok();
                    return Err(error.into());
                }
            }
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Ended> {
        match self.session.reader().read(buffer) {
            Ok(0) => {
                self.side.is_ended = true;
                Ok(None)
            }
            Ok(count) => Ok(buffer.get(..count)),
            Err(error) if is_for_later(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.side.is_ended = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.side.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.side.flushed();
        Ok(())
    }

    fn close(&mut self) {
        if !self.side.is_closed {
            self.session.send_close_notify();
            self.side.is_closed = true;
        }
    }

    fn refuse(&mut self, reply: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(reply)?;
        self.session.send_close_notify();
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records)?;
        }
        pump::refuse(self.side.stream, &records);
        Ok(())
    }
}

/// One end without TLS.
pub(super) struct Plain<'a> {
    side: Side<'a>,
    heard: VecDeque<u8>,
    pending: Vec<u8>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Self {
        Self { side: Side::new(stream), heard: VecDeque::new(), pending: Vec::new() }
    }
}

impl End for Plain<'_> {
    fn side(&self) -> &Side<'_> {
        &self.side
    }

    fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    fn fill(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; BUFFER];
        match self.side.stream.read(&mut buffer) {
            Ok(0) => self.side.is_ended = true,
            Ok(count) => self.heard.extend(buffer.iter().take(count)),
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Ended> {
        let count = self.heard.read(buffer)?;
        Ok(buffer.get(..count).filter(|bytes| !bytes.is_empty()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match rustix::net::send(
                self.side.stream,
                &self.pending,
                rustix::net::SendFlags::NOSIGNAL,
            ) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.side.flushed();
        Ok(())
    }

    fn close(&mut self) {
        self.side.is_closed = true;
    }

    fn refuse(&mut self, reply: &[u8]) -> io::Result<()> {
        self.pending.extend(reply);
        pump::refuse(self.side.stream, &self.pending);
        Ok(())
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
