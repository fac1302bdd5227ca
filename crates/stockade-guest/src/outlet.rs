//! The host's side of a place's way out: connections of its programs, each carried to a socket.
//!
//! Every connection is a call of the host's that waits for one. A place cannot begin anything, so
//! that after [`Outlet::close`] there is no message by which it could reach out.
//!
//! Invariants:
//! - nothing waits for a connection once the outlet is closed, and every connection is over;
//! - a place that does not end its connections when it is told to is lost.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::CallError;
use crate::frame::Malformed;
use crate::inbox::{Arrival, Broken, Inbox};
use crate::link::{GRACE, Link};
use crate::lock;
use crate::message::{CHUNK, CREDIT_STEP, Finish, Message, Request};

/// Connections at one time; a further program waits. All their windows together are less than
/// what may wait for a place to read it.
const CONNECTIONS_MAX: usize = 48;

/// How long a place may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that waits is woken when something comes or the channel ends; this is no limit.
const LONG: Duration = Duration::from_hours(1);

/// Carrying bytes needs no more.
const STACK: usize = 128 * 1024;

type Connect = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// A way out for the programs of a place. It closes when it is dropped.
#[derive(Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
    port: u16,
    listening: (u32, Arc<Inbox>),
}

struct Shared {
    link: Arc<Link>,
    connect: Connect,
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    /// Whether a call waits for the next program.
    is_waiting: bool,
    /// Calls that are not over, the one that waits among them, with what they are carried to.
    open: HashMap<u32, Option<UnixStream>>,
}

impl Outlet {
    pub(crate) fn open(link: Arc<Link>, connect: Connect) -> Result<Self, CallError> {
        let (number, inbox) = link.start(Request::Listen)?;
        let port = match inbox.next(false, PATIENCE) {
            Arrival::Output(_, port) => port.try_into().map(u16::from_le_bytes).ok(),
            Arrival::Finish(Finish::Refused { errno, text }) => {
                link.forget(number);
                return Err(CallError::Refused { errno, text });
            }
            Arrival::Broken(broken) => return Err(broken.into()),
            Arrival::Opened | Arrival::OutputEnd | Arrival::Finish(_) | Arrival::Nothing => None,
        };
        let Some(port) = port.filter(|port| *port != 0) else {
            let malformed = Malformed::Unexpected("no port, where one was asked for");
            link.break_off(&Broken::Malformed(malformed.clone()));
            return Err(malformed.into());
        };
        let shared = Shared { link, connect, state: Mutex::default(), changed: Condvar::new() };
        let outlet = Self { shared: Arc::new(shared), port, listening: (number, inbox) };
        outlet.shared.await_next()?;
        Ok(outlet)
    }

    /// The port of the place's loopback that programs connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, and the listening; when this returns nothing of it is left.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the place does not end them within five seconds, and is lost.
    pub fn close(self) -> Result<(), CallError> {
        self.end()
    }

    fn end(&self) -> Result<(), CallError> {
        let Shared { link, state, changed, .. } = &*self.shared;
        let (number, inbox) = &self.listening;
        let deadline = Instant::now() + GRACE;
        {
            let mut state = lock(state);
            if state.is_closed {
                return Ok(());
            }
            state.is_closed = true;
            for number in state.open.keys().chain([number]) {
                link.send(*number, &Message::Stop)?;
            }
            // Who waits for the other end to take something is told as well.
            for socket in state.open.values().flatten() {
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        let left = || deadline.saturating_duration_since(Instant::now());
        let is_open = |state: &mut State| !state.open.is_empty();
        let waited = changed.wait_timeout_while(lock(state), left(), is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_open = !state.open.is_empty();
        drop(state);
        let ended = inbox.next(false, left());
        link.forget(*number);
        match ended {
            Arrival::Finish(_) if !is_open => Ok(()),
            Arrival::Broken(broken) => Err(broken.into()),
            Arrival::Finish(_)
            | Arrival::Output(..)
            | Arrival::Opened
            | Arrival::OutputEnd
            | Arrival::Nothing => {
                link.break_off(&Broken::Lost);
                Err(CallError::Lost)
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // A place that is lost has no connections either.
        self.end().ok();
    }
}

impl Shared {
    /// Has one call wait for the next program, unless one does, or there are as many as may be.
    fn await_next(self: &Arc<Self>) -> Result<(), CallError> {
        let (number, inbox) = {
            let mut state = lock(&self.state);
            if state.is_closed || state.is_waiting || state.open.len() >= CONNECTIONS_MAX {
                return Ok(());
            }
            // Within the lock: what is closed starts nothing more.
            let (number, inbox) = self.link.start(Request::Accept)?;
            state.is_waiting = true;
            state.open.insert(number, None);
            (number, inbox)
        };
        let shared = Arc::clone(self);
        let serve = move || {
            let connection = Connection { shared: &shared, number, inbox: &inbox };
            let has_come = connection.serve();
            shared.link.forget(number);
            let mut state = lock(&shared.state);
            state.open.remove(&number);
            if !has_come {
                state.is_waiting = false;
            }
            drop(state);
            shared.changed.notify_all();
            // A place that refuses to wait for one would refuse at once again. Without a channel
            // nobody waits.
            if has_come {
                shared.await_next().ok();
            }
        };
        let started = thread::Builder::new().name(format!("out-{number}")).stack_size(STACK);
        started.spawn(serve).map(drop).map_err(|_error| {
            // Its place among the open ones keeps it: at the end it is stopped and found missing.
            self.link.break_off(&Broken::Lost);
            CallError::Lost
        })
    }
}

/// One call, from the wait for a program to its end.
#[derive(Debug, Clone, Copy)]
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    number: u32,
    inbox: &'a Inbox,
}

impl Connection<'_> {
    /// Whether a program has come.
    fn serve(self) -> bool {
        loop {
            match self.inbox.next(false, LONG) {
                Arrival::Opened => break,
                Arrival::Nothing => {}
                Arrival::Output(..) | Arrival::OutputEnd => {
                    let malformed = Malformed::Unexpected("words of a program that is not there");
                    self.shared.link.break_off(&Broken::Malformed(malformed));
                    return false;
                }
                Arrival::Finish(_) | Arrival::Broken(_) => return false,
            }
        }
        lock(&self.shared.state).is_waiting = false;
        // Fails with the channel only, which ends this one as well.
        self.shared.await_next().ok();
        if let Ok([reading, writing]) = self.connect() {
            self.carry(&reading, &writing);
        } else {
            // To the program it is as if its connection had been reset.
            self.stop();
            self.hear(None);
        }
        true
    }

    /// What this connection is carried to, for who reads of it and for who writes.
    fn connect(self) -> io::Result<[UnixStream; 2]> {
        // A program that came while the end was being said is late: nothing is opened for it.
        if lock(&self.shared.state).is_closed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let socket = (self.shared.connect)()?;
        let ends = [socket.try_clone()?, socket.try_clone()?];
        let mut state = lock(&self.shared.state);
        if state.is_closed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.open.insert(self.number, Some(socket));
        Ok(ends)
    }

    fn stop(self) {
        // A channel that cannot be written to has ended the call already.
        self.shared.link.send(self.number, &Message::Stop).ok();
    }

    fn carry(self, reading: &UnixStream, writing: &UnixStream) {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("in-{}", self.number));
            let speaking = thread.stack_size(STACK).spawn_scoped(scope, || self.speak(reading));
            if speaking.is_err() {
                self.stop();
            }
            self.hear(Some(writing));
            // Wakes who reads.
            writing.shutdown(Shutdown::Both).ok();
        });
    }

    /// Passes on what the program says, until the call is over.
    fn hear(self, mut socket: Option<&UnixStream>) {
        let mut taken = 0;
        loop {
            match self.inbox.next(false, LONG) {
                Arrival::Output(_, data) => {
                    // Where nobody listens any more the rest is for nobody.
                    socket = socket.filter(|socket| { *socket }.write_all(&data).is_ok());
                    taken += data.len();
                    if taken >= CREDIT_STEP {
                        let credit = Message::Credit(u32::try_from(taken).unwrap_or(u32::MAX));
                        self.shared.link.send(self.number, &credit).ok();
                        taken = 0;
                    }
                }
                Arrival::OutputEnd => {
                    socket.map(|socket| socket.shutdown(Shutdown::Write));
                }
                Arrival::Nothing | Arrival::Opened => {}
                Arrival::Finish(_) | Arrival::Broken(_) => return,
            }
        }
    }

    /// Passes on what the program is to hear, as it takes it.
    fn speak(self, mut socket: &UnixStream) {
        let mut buffer = vec![0; CHUNK];
        loop {
            // An end that was reset is an end.
            let count = socket.read(&mut buffer).unwrap_or(0);
            let mut rest = buffer.get(..count).unwrap_or_default();
            if rest.is_empty() {
                self.shared.link.send(self.number, &Message::InputEnd).ok();
                return;
            }
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.inbox.await_credit(rest.len()));
                if now.is_empty() || self.say(now).is_err() {
                    return;
                }
                rest = later;
            }
        }
    }

    fn say(self, data: &[u8]) -> Result<(), CallError> {
        self.shared.link.send(self.number, &Message::Input(data.to_vec()))
    }
}
