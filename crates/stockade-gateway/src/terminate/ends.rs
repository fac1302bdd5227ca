//! One end of a connection whose requests are looked at: by TLS, or as it comes.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use rustix::io::Errno;

use super::Ended;
use crate::pump;

/// Read at once; in bytes.
const BUFFER: usize = 16 * 1024;

/// A stream that does not block, and what was read of it and has to be written to it.
pub(super) trait End {
    fn stream(&self) -> &TcpStream;

    /// It said that nothing follows.
    fn is_ended(&self) -> bool;

    /// It knows that nothing follows.
    fn is_closed(&self) -> bool;

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
    stream: &'a TcpStream,
    session: C,
    is_ended: bool,
    is_closed: bool,
}

impl<'a, C> Tls<'a, C> {
    pub(super) fn new(stream: &'a TcpStream, session: C) -> Self {
        Self { stream, session, is_ended: false, is_closed: false }
    }
}

impl<C, D> End for Tls<'_, C>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    fn stream(&self) -> &TcpStream {
        self.stream
    }

    fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn is_behind(&self) -> bool {
        self.session.wants_write()
    }

    fn fill(&mut self) -> Result<(), Ended> {
        match self.session.read_tls(&mut self.stream) {
            Ok(0) => self.is_ended = true,
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
                self.is_ended = true;
                Ok(None)
            }
            Ok(count) => Ok(buffer.get(..count)),
            Err(error) if is_for_later(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.is_ended = true;
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
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_closed {
            // Gone already, perhaps.
            self.stream.shutdown(Shutdown::Write).ok();
        }
        Ok(())
    }

    fn close(&mut self) {
        if !self.is_closed {
            self.session.send_close_notify();
            self.is_closed = true;
        }
    }

    fn refuse(&mut self, reply: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(reply)?;
        self.session.send_close_notify();
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records)?;
        }
        pump::refuse(self.stream, &records);
        Ok(())
    }
}

/// One end without TLS.
pub(super) struct Plain<'a> {
    stream: &'a TcpStream,
    heard: Vec<u8>,
    pending: Vec<u8>,
    is_ended: bool,
    is_closed: bool,
}

impl<'a> Plain<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Self {
        let (heard, pending) = (Vec::new(), Vec::new());
        Self { stream, heard, pending, is_ended: false, is_closed: false }
    }
}

impl End for Plain<'_> {
    fn stream(&self) -> &TcpStream {
        self.stream
    }

    fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    fn fill(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; BUFFER];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_ended = true,
            Ok(count) => self.heard.extend(buffer.iter().take(count)),
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Ended> {
        let count = self.heard.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.heard.drain(..count)) {
            *to = from;
        }
        Ok(buffer.get(..count).filter(|bytes| !bytes.is_empty()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match rustix::net::send(self.stream, &self.pending, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_closed {
            // Gone already, perhaps.
            self.stream.shutdown(Shutdown::Write).ok();
        }
        Ok(())
    }

    fn close(&mut self) {
        self.is_closed = true;
    }

    fn refuse(&mut self, reply: &[u8]) -> io::Result<()> {
        self.pending.extend(reply);
        pump::refuse(self.stream, &self.pending);
        Ok(())
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
