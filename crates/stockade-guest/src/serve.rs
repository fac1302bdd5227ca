//! The side of the place: reads requests, carries each out in a thread of its own.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::call::{Call, Output};
use crate::frame::{self, Malformed, ReadError};
use crate::lock;
use crate::message::{Finish, Message, Request};
use crate::version::Generation;
use crate::{command, files, relay, search};

/// Calls at a time. Each has a thread and may hold a window of input.
const CALLS_MAX: usize = 64;

/// How long commands that were killed at the end of the channel may take to go.
const END: Duration = Duration::from_secs(2);

/// What [`serve`] has to know.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where relative paths start, and commands that name no folder.
    pub folder: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Place {
    options: ServeOptions,
    output: Arc<Output>,
    calls: Mutex<HashMap<u32, Arc<Call>>>,
    /// Where programs reach the host, while it wants that.
    outlet: relay::Listening,
    /// Told when a call has ended.
    ended: Condvar,
}

/// Serves until the host hangs up or closes the channel. Then every command that still runs is
/// killed with its group.
///
/// # Errors
///
/// When the channel breaks, or the host does not speak this protocol. The commands are gone then
/// as well.
pub fn serve(
    mut reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    options: ServeOptions,
) -> io::Result<()> {
    let place = Arc::new(Place::new(writer, options));
    let open = |number, request| place.open(number, request);
    let result = greet(&mut reader, &place).and_then(|()| place.listen(&mut reader, &open));
    place.end();
    Ok(result?)
}

fn greet(reader: &mut impl Read, place: &Place) -> Result<(), ReadError> {
    // Both greet at once, so that each can name the generation of the other.
    place.output.send(0, &Message::Hello(Generation::CURRENT))?;
    let Some(frame) = frame::read(reader)? else { return Ok(()) };
    if Message::decode(frame)?.greeting()? == Generation::CURRENT {
        return Ok(());
    }
    Err(Malformed::Unexpected("the greeting of another generation").into())
}

impl Place {
    pub(crate) fn new(writer: impl Write + Send + 'static, options: ServeOptions) -> Self {
        let output = Arc::new(Output::new(writer));
        Self {
            options,
            output,
            calls: Mutex::default(),
            outlet: relay::Listening::default(),
            ended: Condvar::default(),
        }
    }

    /// Takes what the host says until it closes the channel; `open` begins a call.
    pub(crate) fn listen(
        &self,
        reader: &mut impl Read,
        open: &dyn Fn(u32, Request) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        while let Some(frame) = frame::read(reader)? {
            let number = frame.stream;
            let message = Message::decode(frame)?;
            if number == 0 {
                let is_close = message == Message::Close;
                let wrong = Malformed::Unexpected("a call without a number");
                return if is_close { Ok(()) } else { Err(wrong.into()) };
            }
            if let Some(request) = self.receive(number, message)? {
                open(number, request)?;
            }
        }
        Ok(())
    }

    /// Hands a message to the call that it is for. A request is for none yet, and comes back.
    fn receive(&self, number: u32, message: Message) -> Result<Option<Request>, ReadError> {
        let call = lock(&self.calls).get(&number).cloned();
        match (message, call) {
            (Message::Request(request), None) => return Ok(Some(request)),
            (Message::Request(_), Some(_)) => {
                return Err(Malformed::Unexpected("a number that is in use").into());
            }
            (Message::Input(data), Some(call)) => call.add_input(data)?,
            (Message::InputEnd, Some(call)) => call.end_input(),
            (Message::Resize(size), Some(call)) => call.resize(size),
            (Message::Stop, Some(call)) => call.stop(),
            (Message::Credit(bytes), Some(call)) => call.add_credit(bytes)?,
            // For a call that has just ended: sent before its end was known.
            (
                Message::Input(_)
                | Message::InputEnd
                | Message::Resize(_)
                | Message::Stop
                | Message::Credit(_),
                None,
            ) => {}
            (
                Message::Hello(_)
                | Message::Start(_)
                | Message::Close
                | Message::Output(..)
                | Message::Opened
                | Message::OutputEnd
                | Message::Finish(_),
                _,
            ) => {
                return Err(Malformed::Unexpected("a message for the other side").into());
            }
        }
        Ok(None)
    }

    /// Takes another call in, if there is room for one.
    pub(crate) fn enter(&self, number: u32) -> io::Result<Arc<Call>> {
        let mut calls = lock(&self.calls);
        if calls.len() >= CALLS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let call = Arc::new(Call::new(number, Arc::clone(&self.output))?);
        calls.insert(number, Arc::clone(&call));
        Ok(call)
    }

    fn open(self: &Arc<Self>, number: u32, request: Request) -> io::Result<()> {
        if request == Request::Ping {
            return self.output.send(number, &Message::Finish(Finish::Done));
        }
        let refuse = |error: &io::Error| {
            let text = format!("the place cannot take another call: {error}");
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            self.output.send(number, &Message::Finish(Finish::Refused { errno, text }))
        };
        let call = match self.enter(number) {
            Ok(call) => call,
            Err(error) => return refuse(&error),
        };
        let place = Arc::clone(self);
        let started = thread::Builder::new().name(format!("call-{number}")).spawn(move || {
            let _leaving = Leaving { place: &place, number };
            let finish = place.perform(&call, request);
            call.finish(finish);
        });
        if let Err(error) = started {
            lock(&self.calls).remove(&number);
            return refuse(&error);
        }
        Ok(())
    }

    fn perform(&self, call: &Call, request: Request) -> Finish {
        let folder = &self.options.folder;
        let done = match request {
            Request::Exec { argv, folder: at, environment, timeout, screen } => {
                let at = at.map_or_else(|| folder.clone(), |at| folder.join(at));
                command::Command { argv, folder: at, environment, timeout, screen }.run(call)
            }
            Request::Read { path, max_bytes } => files::read(call, &folder.join(path), max_bytes),
            Request::Write { path, length: Some(length) } => {
                files::write(call, &folder.join(path), length)
            }
            Request::Write { path, length: None } => files::delete(&folder.join(path)),
            Request::List { path } => files::list(call, &folder.join(path)),
            Request::Search { pattern, path, max } => {
                search::Search { pattern, folder: folder.clone(), path, max }.run(call)
            }
            Request::Ping => Ok(Finish::Done),
            Request::Listen => self.outlet.listen(call),
            Request::Accept => self.outlet.accept(call),
        };
        done.unwrap_or_else(|refusal| Finish::Refused { errno: refusal.errno, text: refusal.text })
    }

    /// Ends every call, and waits a little for their commands to be gone.
    fn end(&self) {
        let calls = lock(&self.calls);
        calls.values().for_each(|call| call.stop());
        drop(self.ended.wait_timeout_while(calls, END, |calls| !calls.is_empty()));
    }
}

/// Takes a call off the list when its thread ends, by whatever way.
struct Leaving<'a> {
    place: &'a Place,
    number: u32,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut calls = self.place.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.remove(&self.number);
        self.place.ended.notify_all();
    }
}

/// Why something was not done, for the host.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) text: String,
}

impl Refusal {
    /// `error`, met while doing `step` to `path`.
    pub(crate) fn at(step: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        // The system's words without "(os error 2)", which is in `errno`.
        let words = error.to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        Self { errno, text: format!("cannot {step} `{}`: {words}", path.display()) }
    }

    pub(crate) fn new(errno: i32, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}
