//! The side of the place of its way out: programs connect to a port of the loopback, and what
//! they say goes to the host as the output of a call, what they hear comes as its input.
//!
//! The place only ever answers: without a call of the host's that waits, a program that connects
//! is kept waiting, and without one that listens there is no port.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::call::{Call, Ended, timespec};
use crate::lock;
use crate::message::{CHUNK, Finish, Stream};
use crate::serve::Refusal;

/// How long a program may go on saying nothing when nobody answers any more.
const SILENCE: Duration = Duration::from_secs(30);

/// Between two attempts when descriptors are lacking.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The port that programs connect to, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<Option<Arc<TcpListener>>>);

impl Listening {
    /// Answers with the port, and listens until the call is stopped.
    pub(crate) fn listen(&self, call: &Call) -> Result<Finish, Refusal> {
        let failed = |error: io::Error| Refusal::at("listen at", "127.0.0.1".as_ref(), &error);
        {
            let mut listening = lock(&self.0);
            if listening.is_some() {
                return Err(Refusal::new(libc::EBUSY, "the place listens already"));
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            *listening = Some(Arc::new(listener));
        }
        let told = self.tell(call);
        while told.is_ok() && !call.is_stopped() {
            call.wait();
        }
        *lock(&self.0) = None;
        told.map(|()| Finish::Stopped).map_err(failed)
    }

    fn tell(&self, call: &Call) -> io::Result<()> {
        let Some(listener) = lock(&self.0).clone() else { return Ok(()) };
        let port = listener.local_addr()?.port();
        // A host that is gone stops the call.
        call.send_all(&port.to_le_bytes()).ok();
        Ok(())
    }

    /// Waits for one program, and carries until it or the host is done.
    pub(crate) fn accept(&self, call: &Call) -> Result<Finish, Refusal> {
        let Some(listener) = lock(&self.0).clone() else {
            return Err(Refusal::new(libc::EINVAL, "the place does not listen"));
        };
        let Some(program) = next(&listener, call) else { return Ok(Finish::Stopped) };
        drop(listener);
        call.opened();
        let relay = Relay { program, unwritten: Vec::new(), written: 0, ended: Both::default() };
        Ok(relay.run(call))
    }
}

/// The next program that connects; `None` when the call was stopped.
fn next(listener: &TcpListener, call: &Call) -> Option<TcpStream> {
    loop {
        let bell = call.bell();
        let mut waited =
            [PollFd::from_borrowed_fd(bell, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        // Woken for nothing is no harm: both are looked at.
        poll(&mut waited, None).ok();
        call.answer_bell();
        if call.is_stopped() {
            return None;
        }
        match listener.accept() {
            Ok((program, _)) => {
                if program.set_nonblocking(true).is_ok() {
                    program.set_nodelay(true).ok();
                    return Some(program);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A program that is gone already, or no descriptor for it.
            Err(_) => drop(poll(&mut [], Some(&MOMENT))),
        }
    }
}

/// Who says nothing more.
#[derive(Debug, Default)]
struct Both {
    program: bool,
    host: bool,
}

/// One program's connection.
#[derive(Debug)]
struct Relay {
    program: TcpStream,
    /// A piece of the host's, and how much of it the program has.
    unwritten: Vec<u8>,
    written: usize,
    ended: Both,
}

impl Relay {
    fn run(mut self, call: &Call) -> Finish {
        let mut buffer = vec![0; CHUNK];
        loop {
            let is_silent = !self.wait(call);
            call.answer_bell();
            if call.is_stopped() {
                return Finish::Stopped;
            }
            // A program that is gone, or has nothing to say to nobody, is done.
            if is_silent || self.feed(call).is_err() || self.forward(call, &mut buffer).is_err() {
                return Finish::Done;
            }
            if self.ended.program && self.ended.host {
                return Finish::Done;
            }
        }
    }

    /// Waits until something can be done; false when nothing came in the time.
    fn wait(&self, call: &Call) -> bool {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !self.ended.program && call.credit() > 0);
        wanted.set(PollFlags::OUT, !self.unwritten.is_empty());
        let mut waited = vec![PollFd::from_borrowed_fd(call.bell(), PollFlags::IN)];
        // Unasked it would answer that it is hung up, again and again.
        if !wanted.is_empty() {
            waited.push(PollFd::new(&self.program, wanted));
        }
        let limit = (self.ended.host && wanted.contains(PollFlags::IN)).then_some(SILENCE);
        !matches!(poll(&mut waited, timespec(limit).as_ref()), Ok(0))
    }

    /// Writes what the program takes of the host's words.
    fn feed(&mut self, call: &Call) -> io::Result<()> {
        while !self.ended.host {
            if self.unwritten.is_empty() {
                match call.try_input() {
                    Ok(Some(data)) => self.unwritten = data,
                    Ok(None) => return Ok(()),
                    Err(Ended) => {
                        self.ended.host = true;
                        return self.program.shutdown(Shutdown::Write);
                    }
                }
            }
            match self.program.write(self.unwritten.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    self.written += count;
                    call.took(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.written >= self.unwritten.len() {
                self.unwritten.clear();
                self.written = 0;
            }
        }
        Ok(())
    }

    /// Moves one piece of what the program says on, if there is any.
    fn forward(&mut self, call: &Call, buffer: &mut [u8]) -> io::Result<()> {
        let room = buffer.len().min(call.credit());
        if room == 0 || self.ended.program {
            return Ok(());
        }
        match self.program.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => {
                self.ended.program = true;
                call.end_output();
            }
            Ok(count) => {
                let mut rest = buffer.get(..count).unwrap_or_default();
                // The credit was there a moment ago, and only this thread takes of it.
                while !rest.is_empty() {
                    let sent = call.send_some(Stream::Stdout, rest);
                    rest = rest.get(sent.max(1)..).unwrap_or_default();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
