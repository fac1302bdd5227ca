//! One call as the place sees it: what it may send, what has come for it, whether it is to stop.
//!
//! The thread that reads the channel puts things in; the thread that carries the call out waits
//! for them, on a descriptor, because it waits for a command's pipes at the same time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::frame::Malformed;
use crate::lock;
use crate::message::{CHUNK, CREDIT_STEP, Finish, Message, Stream, WINDOW, WindowSize};

/// The way out of the place; frames are written whole.
pub(crate) struct Output(Mutex<Box<dyn Write + Send>>);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    pub(crate) fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(writer)))
    }

    pub(crate) fn send(&self, stream: u32, message: &Message) -> io::Result<()> {
        let frame = message.encode(stream).ok_or(io::ErrorKind::InvalidInput)?;
        let mut writer = lock(&self.0);
        writer.write_all(&frame)?;
        writer.flush()
    }
}

#[derive(Debug)]
struct State {
    /// Bytes of output that the host takes at present.
    credit: usize,
    input: VecDeque<Vec<u8>>,
    unread: usize,
    /// Bytes of the input that were taken and not credited yet.
    taken: usize,
    is_input_ended: bool,
    /// The terminal's size, until it was taken.
    size: Option<WindowSize>,
    is_stopped: bool,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    number: u32,
    output: Arc<Output>,
    state: Mutex<State>,
    /// Readable when the state has changed.
    bell: OwnedFd,
}

/// The call cannot go on: it was stopped, or the host is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Call {
    pub(crate) fn new(number: u32, output: Arc<Output>) -> io::Result<Self> {
        let state = State {
            credit: WINDOW,
            input: VecDeque::new(),
            unread: 0,
            taken: 0,
            is_input_ended: false,
            size: None,
            is_stopped: false,
        };
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { number, output, state: Mutex::new(state), bell })
    }

    fn ring(&self) {
        // The counter cannot overflow within 2^64 rings, and a bell that rings already does.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
    }

    pub(crate) fn add_credit(&self, bytes: u32) -> Result<(), Malformed> {
        let mut state = lock(&self.state);
        state.credit = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| state.credit.checked_add(bytes))
            .filter(|credit| *credit <= WINDOW)
            .ok_or(Malformed::Unexpected("credit for what was not sent"))?;
        self.ring();
        Ok(())
    }

    pub(crate) fn add_input(&self, data: Vec<u8>) -> Result<(), Malformed> {
        let mut state = lock(&self.state);
        state.unread += data.len();
        if state.is_input_ended || data.is_empty() || state.unread > WINDOW {
            return Err(Malformed::Unexpected("input that there was no credit for"));
        }
        state.input.push_back(data);
        self.ring();
        Ok(())
    }

    pub(crate) fn end_input(&self) {
        lock(&self.state).is_input_ended = true;
        self.ring();
    }

    pub(crate) fn resize(&self, size: WindowSize) {
        lock(&self.state).size = Some(size);
        self.ring();
    }

    /// The size that the terminal has from now on, when that has changed.
    pub(crate) fn new_size(&self) -> Option<WindowSize> {
        lock(&self.state).size.take()
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.ring();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).is_stopped
    }

    pub(crate) fn credit(&self) -> usize {
        lock(&self.state).credit
    }

    /// The descriptor that becomes readable when something of the above has changed.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell, before the state is looked at.
    pub(crate) fn answer_bell(&self) {
        let mut count = [0; 8];
        // Nothing to be read means that it did not ring.
        rustix::io::read(&self.bell, &mut count).ok();
    }

    pub(crate) fn wait(&self) {
        let mut waited = [PollFd::new(&self.bell, PollFlags::IN)];
        // Woken for nothing is no harm: every caller looks at the state in a loop.
        poll(&mut waited, None).ok();
        self.answer_bell();
    }

    /// Some of the input; `Ok(None)` when none is there yet, `Err` when it has ended.
    pub(crate) fn try_input(&self) -> Result<Option<Vec<u8>>, Ended> {
        let mut state = lock(&self.state);
        let data = state.input.pop_front();
        if data.is_none() && state.is_input_ended {
            return Err(Ended);
        }
        state.unread -= data.as_ref().map_or(0, Vec::len);
        Ok(data)
    }

    /// So much of the host's input was taken, which it is told from time to time.
    pub(crate) fn took(&self, bytes: usize) {
        let taken = {
            let mut state = lock(&self.state);
            state.taken += bytes;
            if state.taken < CREDIT_STEP {
                return;
            }
            std::mem::take(&mut state.taken)
        };
        self.send(&Message::Credit(u32::try_from(taken).unwrap_or(u32::MAX)));
    }

    /// All of the input, which must be `length` bytes.
    pub(crate) fn whole_input(&self, length: usize) -> Result<Option<Vec<u8>>, Ended> {
        let mut whole = Vec::new();
        loop {
            match self.try_input() {
                Ok(Some(data)) => {
                    self.took(data.len());
                    whole.extend(data);
                    if whole.len() > length {
                        return Ok(None);
                    }
                }
                Ok(None) if self.is_stopped() => return Err(Ended),
                Ok(None) => self.wait(),
                Err(Ended) => return Ok((whole.len() == length).then_some(whole)),
            }
        }
    }

    /// Sends output, up to the present credit; returns how much that was.
    pub(crate) fn send_some(&self, stream: Stream, data: &[u8]) -> usize {
        let length = {
            let mut state = lock(&self.state);
            let length = data.len().min(CHUNK).min(state.credit);
            state.credit -= length;
            length
        };
        if length > 0 {
            let data = data.iter().take(length).copied().collect();
            self.send(&Message::Output(stream, data));
        }
        length
    }

    /// Sends all of `data`, waiting for credit.
    pub(crate) fn send_all(&self, mut data: &[u8]) -> Result<(), Ended> {
        while !data.is_empty() {
            if self.is_stopped() {
                return Err(Ended);
            }
            match self.send_some(Stream::Stdout, data) {
                0 => self.wait(),
                sent => data = data.get(sent..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Tells that a program has connected.
    pub(crate) fn opened(&self) {
        self.send(&Message::Opened);
    }

    /// Tells that no output follows.
    pub(crate) fn end_output(&self) {
        self.send(&Message::OutputEnd);
    }

    pub(crate) fn finish(&self, finish: Finish) {
        self.send(&Message::Finish(finish));
    }

    /// A host that cannot be written to is gone: the call ends.
    fn send(&self, message: &Message) {
        if self.output.send(self.number, message).is_err() {
            self.stop();
        }
    }
}

/// A wait for poll(2); `None` waits without end.
pub(crate) fn timespec(wait: Option<Duration>) -> Option<Timespec> {
    wait.map(|wait| Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    })
}
