//! The channel on the host's side: two threads, and the conversation of each call.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{CallError, ChannelError};
use crate::frame::{self, Malformed, ReadError};
use crate::inbox::{Arrival, Broken, Inbox, Outbox};
use crate::lock;
use crate::message::{CHUNK, CREDIT_STEP, Finish, Message, Request, Stream};
use crate::typing::Typing;
use crate::version::Generation;

/// How often a waiting call asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How long a place may take to end a call that was stopped, or to notice that a command's own
/// time is over. After that it is lost.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Closes the channel when the last client is dropped. The threads of the channel hold the
/// [`Link`] only.
#[derive(Debug)]
pub(crate) struct Channel(Arc<Link>);

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    calls: Mutex<Calls>,
    outbox: Outbox,
}

#[derive(Debug, Default)]
struct Calls {
    open: HashMap<u32, Arc<Inbox>>,
    last: u32,
    broken: Option<Broken>,
}

impl Link {
    pub(crate) fn open(&self) -> Result<(u32, Arc<Inbox>), CallError> {
        let mut calls = lock(&self.calls);
        if let Some(broken) = calls.broken.clone() {
            return Err(broken.into());
        }
        let number = calls.last.checked_add(1).ok_or(CallError::Lost)?;
        calls.last = number;
        let inbox = Arc::new(Inbox::new());
        calls.open.insert(number, Arc::clone(&inbox));
        Ok((number, inbox))
    }

    /// Opens a call that takes longer than its answer.
    pub(crate) fn start(&self, request: Request) -> Result<(u32, Arc<Inbox>), CallError> {
        let (number, inbox) = self.open()?;
        self.send(number, &Message::Request(request))?;
        Ok((number, inbox))
    }

    /// The call is over.
    pub(crate) fn forget(&self, number: u32) {
        lock(&self.calls).open.remove(&number);
    }

    pub(crate) fn send(&self, number: u32, message: &Message) -> Result<(), CallError> {
        self.send_raw(&message.encode(number).unwrap_or_default())
    }

    fn send_raw(&self, frame: &[u8]) -> Result<(), CallError> {
        if self.outbox.put(frame) {
            return Ok(());
        }
        self.break_off(&Broken::Lost);
        Err(lock(&self.calls).broken.clone().unwrap_or(Broken::Lost).into())
    }

    pub(crate) fn break_off(&self, why: &Broken) {
        let mut calls = lock(&self.calls);
        calls.broken.get_or_insert(why.clone());
        calls.open.values().for_each(|inbox| inbox.break_off(why.clone()));
        self.outbox.close();
    }

    /// Hands a frame to the call that it is for. One for a call that has ended is late, and
    /// dropped; one for a call that never was ends the channel.
    pub(crate) fn dispatch(&self, frame: frame::Frame) -> Result<(), Malformed> {
        let stream = frame.stream;
        let inbox = {
            let calls = lock(&self.calls);
            if stream == 0 || stream > calls.last {
                return Err(Malformed::Unexpected("an answer to no call"));
            }
            calls.open.get(&stream).cloned()
        };
        let message = Message::decode(frame)?;
        let Some(inbox) = inbox else { return Ok(()) };
        match message {
            Message::Output(stream, data) => inbox.output(stream, data),
            Message::Credit(bytes) => inbox.credit(bytes),
            Message::Opened => inbox.opened(),
            Message::OutputEnd => inbox.output_end(),
            Message::Finish(finish) => inbox.finish(finish),
            Message::Hello(_)
            | Message::Start(_)
            | Message::Close
            | Message::Request(_)
            | Message::Input(_)
            | Message::InputEnd
            | Message::Resize(_)
            | Message::Stop => Err(Malformed::Unexpected("a message for the other side")),
        }
    }
}

impl From<Broken> for CallError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lost => Self::Lost,
            Broken::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(_) => Self::Lost,
            ReadError::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

/// Reads what comes, until the channel ends or breaks. Its first act is the greeting.
fn receive(mut reader: impl Read, link: &Link, greeted: &mpsc::Sender<ToConnect>) {
    let mut first = Some(greeted);
    let broken = loop {
        let frame = match frame::read(&mut reader) {
            Ok(Some(frame)) => frame,
            Ok(None) => break Broken::Lost,
            Err(error) => break error.into(),
        };
        let handled = match first.take() {
            Some(greeted) => greeting(frame).map(|generation| {
                // Nobody listens any more when the caller has given up.
                drop(greeted.send(Ok(generation)));
            }),
            None => link.dispatch(frame),
        };
        if let Err(malformed) = handled {
            break Broken::Malformed(malformed);
        }
    };
    link.break_off(&broken);
    drop(greeted.send(Err(broken)));
}

type ToConnect = Result<Generation, Broken>;

fn greeting(frame: frame::Frame) -> Result<Generation, Malformed> {
    Message::decode(frame)?.greeting()
}

fn send(mut writer: impl Write, link: &Link) {
    while let Some(frames) = link.outbox.take() {
        if writer.write_all(&frames).and_then(|()| writer.flush()).is_err() {
            link.break_off(&Broken::Lost);
            return;
        }
    }
}

/// What goes to a call in the place.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// The rest of what was there from the start.
    Whole(&'a [u8]),
    /// What a user types meanwhile.
    Typed(&'a Typing),
}

impl Input<'_> {
    /// How many bytes wait.
    fn waiting(self) -> usize {
        match self {
            Self::Whole(rest) => rest.len(),
            Self::Typed(typing) => typing.waiting(),
        }
    }

    /// Takes the next `count` bytes.
    fn take(&mut self, count: usize) -> Vec<u8> {
        match self {
            Self::Whole(whole) => {
                let (now, later) = whole.split_at(count.min(whole.len()));
                *whole = later;
                now.to_vec()
            }
            Self::Typed(typing) => typing.take_keys(count),
        }
    }

    fn is_over(self) -> bool {
        match self {
            Self::Whole(rest) => rest.is_empty(),
            Self::Typed(typing) => typing.is_over(),
        }
    }
}

/// What a call needs besides its request.
pub(crate) struct Call<'a> {
    pub(crate) input: Input<'a>,
    /// After this long the call is stopped, and the place lost if it does not even do that.
    pub(crate) patience: Option<Duration>,
    /// Whether the patience begins anew with each piece of output.
    pub(crate) is_renewed: bool,
    pub(crate) stop: &'a dyn Fn() -> bool,
}

impl Channel {
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.0)
    }

    /// Tells the other side, and lets nothing more in or out.
    pub(crate) fn close(&self) {
        if let Some(close) = Message::Close.encode(0) {
            self.0.outbox.put(&close);
        }
        self.0.break_off(&Broken::Lost);
    }

    /// Starts the channel's two threads and waits for the greeting of the other side.
    pub(crate) fn open(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        patience: Duration,
    ) -> Result<Self, ChannelError> {
        let link = Arc::<Link>::default();
        let channel = Self(Arc::clone(&link));
        let hello = Message::Hello(Generation::CURRENT).encode(0).unwrap_or_default();
        link.outbox.put(&hello);
        let (greeted, greeting) = mpsc::channel();
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        let receiving = Arc::clone(&link);
        thread("channel-in")
            .spawn(move || receive(reader, &receiving, &greeted))
            .map_err(ChannelError::Thread)?;
        thread("channel-out").spawn(move || send(writer, &link)).map_err(ChannelError::Thread)?;
        match greeting.recv_timeout(patience) {
            Ok(Ok(Generation::CURRENT)) => Ok(channel),
            Ok(Ok(theirs)) => Err(ChannelError::Generation { ours: Generation::CURRENT, theirs }),
            Ok(Err(Broken::Malformed(malformed))) => Err(ChannelError::Malformed(malformed)),
            Ok(Err(Broken::Lost)) | Err(RecvTimeoutError::Disconnected) => Err(ChannelError::Lost),
            Err(RecvTimeoutError::Timeout) => Err(ChannelError::Silent(patience)),
        }
    }

    /// Carries out one call, from its request to its end.
    pub(crate) fn call(
        &self,
        request: Request,
        call: &Call<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Finish, CallError> {
        let link = &self.0;
        let Some(frame) = Message::Request(request).encode(0) else {
            let text = "the request is longer than the channel takes (256 KiB)".to_owned();
            return Err(CallError::Refused { errno: libc::E2BIG, text });
        };
        let (number, inbox) = link.open()?;
        let speaking = Speaking { link, number, inbox };
        speaking.send_raw(frame)?;
        let wake = |inbox| {
            if let Input::Typed(typing) = call.input {
                typing.wake(inbox);
            }
        };
        wake(Some(Arc::clone(&speaking.inbox)));
        let finish = speaking.converse(call, output);
        wake(None);
        link.forget(number);
        finish
    }
}

/// One call under way.
struct Speaking<'a> {
    link: &'a Link,
    number: u32,
    inbox: Arc<Inbox>,
}

impl Speaking<'_> {
    /// Puts the number of this call into a frame, and the frame on its way.
    fn send_raw(&self, mut frame: Vec<u8>) -> Result<(), CallError> {
        if let Some(stream) = frame.get_mut(4..8) {
            stream.copy_from_slice(&self.number.to_le_bytes());
        }
        self.link.send_raw(&frame)
    }

    fn send(&self, message: &Message) -> Result<(), CallError> {
        self.link.send(self.number, message)
    }

    fn converse(
        &self,
        call: &Call<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Finish, CallError> {
        let mut input = Some(call.input);
        let mut taken = 0;
        let after = |patience| Instant::now().checked_add(patience);
        let mut deadline = call.patience.and_then(after);
        let mut is_stopped = false;
        loop {
            input = self.feed(input)?;
            let wants_credit = input.is_some_and(|input| input.waiting() > 0);
            match self.inbox.next(wants_credit, STOP_POLL) {
                Arrival::Output(stream, data) => {
                    output(stream, &data);
                    taken += data.len();
                    if taken >= CREDIT_STEP {
                        self.send(&Message::Credit(u32::try_from(taken).unwrap_or(u32::MAX)))?;
                        taken = 0;
                    }
                    if call.is_renewed && !is_stopped {
                        deadline = call.patience.and_then(after);
                    }
                }
                Arrival::Opened | Arrival::OutputEnd => {
                    let malformed = Malformed::Unexpected("a connection that nobody waits for");
                    self.link.break_off(&Broken::Malformed(malformed.clone()));
                    return Err(malformed.into());
                }
                Arrival::Finish(finish) => return Ok(finish),
                Arrival::Broken(broken) => return Err(broken.into()),
                Arrival::Nothing => {}
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late && is_stopped {
                self.link.break_off(&Broken::Lost);
                return Err(CallError::Lost);
            }
            if !is_stopped && (is_late || (call.stop)()) {
                is_stopped = true;
                input = None;
                deadline = after(GRACE);
                self.send(&Message::Stop)?;
            }
        }
    }

    /// Sends as much of the input as the place takes at present; `None` when that was all.
    fn feed<'a>(&self, input: Option<Input<'a>>) -> Result<Option<Input<'a>>, CallError> {
        let Some(mut input) = input else { return Ok(None) };
        if let Input::Typed(typing) = input
            && let Some(size) = typing.take_size()
        {
            self.send(&Message::Resize(size))?;
        }
        while !input.is_over() {
            let now = input.take(self.inbox.take_credit(input.waiting().min(CHUNK)));
            if now.is_empty() {
                return Ok(Some(input));
            }
            self.send(&Message::Input(now))?;
        }
        self.send(&Message::InputEnd)?;
        Ok(None)
    }
}
