//! Threads that take turns at what comes out of a sandbox, for a gateway.
//!
//! One waits for what comes next. When that is a connection it serves it itself, and another one of
//! the line waits instead: to hand it to a thread of its own is one more wake-up for each connection
//! (docs/adr/0027). What is answered at once is answered in the turn.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stockade_gateway::{Caller, Gateway, Judgement, STACK};
use stockade_sandbox::{Answer, Doors, Knock, Program, Protocol, SocketMaker};

/// Threads that wait for their turn, at most, while nothing is to be served.
const IDLE_MAX: usize = 2;

/// The line of one sandbox.
#[derive(Debug)]
pub(crate) struct Line {
    gateway: Gateway,
    turn: Mutex<Turn>,
    /// Threads that wait for their turn, and the one that has it.
    idle: AtomicUsize,
}

#[derive(Debug)]
struct Turn {
    doors: Doors,
    /// Listeners outside, with the ports inside that they lead to.
    published: Vec<(TcpListener, u16)>,
    /// The sandbox is gone, or said what it never would.
    is_over: bool,
}

/// A connection that came out.
enum Arrived {
    Resolving(TcpStream),
    Proxying(TcpStream, Caller),
    LoggingIn(UnixStream, Caller),
    Connection(TcpStream, SocketAddr, Caller),
}

impl Line {
    /// Begins to serve `doors`, until the sandbox is gone.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub(crate) fn begin(
        gateway: Gateway,
        doors: Doors,
        published: Vec<(TcpListener, u16)>,
    ) -> io::Result<()> {
        let turn = Mutex::new(Turn { doors, published, is_over: false });
        Arc::new(Self { gateway, turn, idle: AtomicUsize::new(0) }).join()
    }

    /// One more thread in the line.
    fn join(self: Arc<Self>) -> io::Result<()> {
        self.idle.fetch_add(1, Ordering::AcqRel);
        let line = Arc::clone(&self);
        let thread = std::thread::Builder::new().name("doors".to_owned()).stack_size(STACK);
        thread.spawn(move || line.wait_and_serve()).map(drop).inspect_err(|_| {
            self.idle.fetch_sub(1, Ordering::AcqRel);
        })
    }

    fn wait_and_serve(self: Arc<Self>) {
        while let Some(arrived) = self.next() {
            match arrived {
                Arrived::Resolving(stream) => self.gateway.serve_resolving(&stream),
                Arrived::Proxying(stream, by) => self.gateway.serve_proxying(&stream, &by),
                Arrived::LoggingIn(stream, by) => self.gateway.serve_logging_in(stream, by),
                Arrived::Connection(stream, to, by) => {
                    self.gateway.serve_connection(&stream, to, by);
                }
            }
            if self.idle.load(Ordering::Acquire) >= IDLE_MAX {
                return;
            }
            self.idle.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits for the turn and for a connection, which is then this thread's; `None` when there will be none.
    fn next(self: &Arc<Self>) -> Option<Arrived> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while !turn.is_over {
            match turn.take(&self.gateway) {
                // While the connection is made inside.
                Ok(Some(Next::Expected)) => drop(self.has_successor()),
                Ok(Some(Next::Arrived(arrived))) if self.has_successor() => {
                    self.idle.fetch_sub(1, Ordering::AcqRel);
                    return Some(arrived);
                }
                // At the limit of threads a connection is dropped, and so closed.
                Ok(Some(Next::Served | Next::Arrived(_))) => {}
                // What goes wrong here leaves the sandbox without a network, which its programs notice.
                Ok(None) | Err(_) => turn.is_over = true,
            }
        }
        None
    }

    /// Whether another thread takes the turn when this one lets go of it.
    fn has_successor(self: &Arc<Self>) -> bool {
        self.idle.load(Ordering::Acquire) > 1 || Arc::clone(self).join().is_ok()
    }
}

/// What a turn led to.
enum Next {
    Served,
    /// A connection comes next, most likely.
    Expected,
    Arrived(Arrived),
}

impl Turn {
    fn take(&mut self, gateway: &Gateway) -> io::Result<Option<Next>> {
        let Some(knock) = self.doors.next()? else { return Ok(None) };
        match knock {
            Knock::Names(datagrams, streams) => gateway.serve_names(datagrams, streams)?,
            Knock::KnownHosts(file) => gateway.introduce_by(file),
            Knock::Shared => {
                // What listens there inside is on the host's loopback already.
                self.published.retain(|(listener, port)| {
                    !listener.local_addr().is_ok_and(|address| address.port() == *port)
                });
                self.doors.answer(Answer::Come)?;
            }
            Knock::SharedNames(datagrams) => gateway.serve_shared_names(datagrams)?,
            Knock::Question(to, program) => {
                let judgement = gateway.judge(to, &caller(program));
                self.doors.answer(match judgement {
                    Judgement::Allowed => Answer::Come,
                    Judgement::Asked => Answer::Wait,
                    Judgement::Refused => Answer::Refused,
                    Judgement::Unreachable => Answer::Unreachable,
                })?;
                if judgement == Judgement::Allowed {
                    return Ok(Some(Next::Expected));
                }
            }
            Knock::Sockets(maker) => self.open_ways_in(gateway, maker)?,
            Knock::Resolving(stream) => {
                return Ok(Some(Next::Arrived(Arrived::Resolving(stream))));
            }
            Knock::Proxying(stream, program) => {
                return Ok(Some(Next::Arrived(Arrived::Proxying(stream, caller(program)))));
            }
            Knock::LoggingIn(stream, program) => {
                return Ok(Some(Next::Arrived(Arrived::LoggingIn(stream, caller(program)))));
            }
            Knock::Connection(stream, to, program) => {
                let arrived = Arrived::Connection(stream, to, caller(program));
                return Ok(Some(Next::Arrived(arrived)));
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(Some(Next::Served))
    }

    fn open_ways_in(&mut self, gateway: &Gateway, maker: SocketMaker) -> io::Result<()> {
        // One conversation at a time.
        let maker = Arc::new(Mutex::new(maker));
        let shared = Arc::clone(&maker);
        gateway.reach_inside(move |port| {
            shared.lock().unwrap_or_else(PoisonError::into_inner).connect(port)
        });
        let asked = Arc::clone(&maker);
        gateway.ask_parents_by(move |process| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).parents(process)
        });
        gateway.ask_who_by(move |is_datagram, port| {
            let protocol = if is_datagram { Protocol::Udp } else { Protocol::Tcp };
            // A name is answered at once, whatever others wait for.
            maker.try_lock().ok()?.who(protocol, port).map(caller)
        });
        self.published.drain(..).try_for_each(|(listener, port)| gateway.publish(listener, port))
    }
}

fn caller(Program { process, command }: Program) -> Caller {
    Caller { process, command }
}
