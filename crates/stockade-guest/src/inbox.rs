//! What has come for one call and was not taken yet, and what is to go out: the two queues
//! between the callers' threads and the channel's, on the host's side.
//!
//! Invariants: an inbox holds at most one window of output (more ends the channel); putting
//! something out never waits, so that a place which does not read holds up nobody.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::frame::Malformed;
use crate::lock;
use crate::message::{Finish, Stream, WINDOW};

/// Why the channel is of no use any more.
#[derive(Debug, Clone)]
pub(crate) enum Broken {
    Lost,
    Malformed(Malformed),
}

/// Something for the caller.
#[derive(Debug)]
pub(crate) enum Arrival {
    Output(Stream, Vec<u8>),
    /// A program has connected.
    Opened,
    /// No output follows.
    OutputEnd,
    Finish(Finish),
    Broken(Broken),
    /// Nothing came in the time, or the caller has something to send.
    Nothing,
}

#[derive(Debug, Default)]
struct Content {
    output: VecDeque<(Stream, Vec<u8>)>,
    unread: usize,
    /// Bytes of input that the place takes at present.
    credit: usize,
    opened: Sign,
    output_end: Sign,
    finish: Option<Finish>,
    broken: Option<Broken>,
    /// Whether the caller is to look at what it has to send.
    is_woken: bool,
}

/// Something that comes once, and is told once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sign {
    #[default]
    Awaited,
    Come,
    Told,
}

impl Sign {
    fn come(&mut self) -> Result<(), Malformed> {
        if *self != Self::Awaited {
            return Err(Malformed::Unexpected("what comes once, a second time"));
        }
        *self = Self::Come;
        Ok(())
    }

    /// Whether it is to be told now.
    fn take(&mut self) -> bool {
        let has_come = *self == Self::Come;
        if has_come {
            *self = Self::Told;
        }
        has_come
    }
}

/// What has come for one call.
#[derive(Debug)]
pub(crate) struct Inbox {
    content: Mutex<Content>,
    changed: Condvar,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let content = Content { credit: WINDOW, ..Content::default() };
        Self { content: Mutex::new(content), changed: Condvar::new() }
    }

    pub(crate) fn output(&self, stream: Stream, mut data: Vec<u8>) -> Result<(), Malformed> {
        let mut content = lock(&self.content);
        let is_over = content.finish.is_some() || content.output_end != Sign::Awaited;
        if is_over || data.is_empty() {
            return Err(Malformed::Unexpected("output that cannot be"));
        }
        content.unread += data.len();
        if content.unread > WINDOW {
            return Err(Malformed::Unexpected("more output than there was credit for"));
        }
        // Joined, so that a flood of tiny pieces takes no more room than its bytes.
        match content.output.back_mut() {
            Some((last, joined)) if *last == stream => joined.append(&mut data),
            _ => content.output.push_back((stream, data)),
        }
        self.changed.notify_all();
        Ok(())
    }

    pub(crate) fn credit(&self, bytes: u32) -> Result<(), Malformed> {
        let mut content = lock(&self.content);
        content.credit = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| content.credit.checked_add(bytes))
            .filter(|credit| *credit <= WINDOW)
            .ok_or(Malformed::Unexpected("credit for what was not sent"))?;
        self.changed.notify_all();
        Ok(())
    }

    pub(crate) fn opened(&self) -> Result<(), Malformed> {
        let mut content = lock(&self.content);
        content.opened.come()?;
        self.changed.notify_all();
        Ok(())
    }

    pub(crate) fn output_end(&self) -> Result<(), Malformed> {
        let mut content = lock(&self.content);
        content.output_end.come()?;
        self.changed.notify_all();
        Ok(())
    }

    pub(crate) fn finish(&self, finish: Finish) -> Result<(), Malformed> {
        let mut content = lock(&self.content);
        if content.finish.is_some() {
            return Err(Malformed::Unexpected("a second end"));
        }
        content.finish = Some(finish);
        self.changed.notify_all();
        Ok(())
    }

    pub(crate) fn break_off(&self, why: Broken) {
        lock(&self.content).broken.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Ends the wait of the caller.
    pub(crate) fn wake(&self) {
        lock(&self.content).is_woken = true;
        self.changed.notify_all();
    }

    /// Takes up to `wanted` bytes of the credit for input.
    pub(crate) fn take_credit(&self, wanted: usize) -> usize {
        let mut content = lock(&self.content);
        let taken = content.credit.min(wanted);
        content.credit -= taken;
        taken
    }

    /// Waits until up to `wanted` bytes of input may be sent, and takes them off the credit; 0 when
    /// the call is over.
    pub(crate) fn await_credit(&self, wanted: usize) -> usize {
        let is_idle = |content: &mut Content| {
            content.credit == 0 && content.finish.is_none() && content.broken.is_none()
        };
        let waited = self.changed.wait_while(lock(&self.content), is_idle);
        let mut content = waited.unwrap_or_else(PoisonError::into_inner);
        if content.finish.is_some() || content.broken.is_some() {
            return 0;
        }
        let taken = content.credit.min(wanted);
        content.credit -= taken;
        taken
    }

    /// The next arrival; output before the end, both before a break. With `wants_credit` it also
    /// returns when input may be sent.
    pub(crate) fn next(&self, wants_credit: bool, patience: Duration) -> Arrival {
        let is_idle = |content: &mut Content| {
            content.output.is_empty()
                && content.opened != Sign::Come
                && content.output_end != Sign::Come
                && content.finish.is_none()
                && content.broken.is_none()
                && !content.is_woken
                && !(wants_credit && content.credit > 0)
        };
        let guard = lock(&self.content);
        let waited = self.changed.wait_timeout_while(guard, patience, is_idle);
        let (mut content, _) = waited.unwrap_or_else(PoisonError::into_inner);
        content.is_woken = false;
        if content.opened.take() {
            return Arrival::Opened;
        }
        if let Some((stream, data)) = content.output.pop_front() {
            content.unread -= data.len();
            return Arrival::Output(stream, data);
        }
        if content.output_end.take() {
            return Arrival::OutputEnd;
        }
        if let Some(finish) = content.finish.clone() {
            return Arrival::Finish(finish);
        }
        content.broken.clone().map_or(Arrival::Nothing, Arrival::Broken)
    }
}

/// Bytes that may wait for a place to read them. Callers send a window of input and a request
/// each, so that this many mean a place that does not read.
const OUTBOX_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    is_closed: bool,
}

/// Frames on their way out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Outbox {
    /// False when it is closed, or full.
    pub(crate) fn put(&self, frame: &[u8]) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed || waiting.frames.len() + frame.len() > OUTBOX_MAX {
            return false;
        }
        waiting.frames.extend_from_slice(frame);
        self.changed.notify_all();
        true
    }

    /// Nothing more goes in; what is there still goes out.
    pub(crate) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for frames, and takes all there are: small ones then go in one write. `None` when it is
    /// closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let is_idle = |waiting: &mut Waiting| waiting.frames.is_empty() && !waiting.is_closed;
        let waited = self.changed.wait_while(lock(&self.waiting), is_idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        let frames = std::mem::take(&mut waiting.frames);
        (!frames.is_empty()).then_some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_window_is_refused_and_small_pieces_are_joined() {
        let inbox = Inbox::new();
        for _ in 0..WINDOW {
            inbox.output(Stream::Stdout, vec![1]).unwrap();
        }
        assert_eq!(lock(&inbox.content).output.len(), 1);
        assert!(inbox.output(Stream::Stdout, vec![1]).is_err());
        assert!(Inbox::new().output(Stream::Stdout, Vec::new()).is_err());
    }

    #[test]
    fn credit_comes_only_for_what_was_sent() {
        let inbox = Inbox::new();
        assert!(inbox.credit(1).is_err());
        assert_eq!(inbox.take_credit(10), 10);
        assert!(inbox.credit(10).is_ok());
        assert!(inbox.credit(u32::MAX).is_err());
    }

    #[test]
    fn output_comes_before_the_end_and_nothing_after_it() {
        let inbox = Inbox::new();
        inbox.output(Stream::Stderr, vec![7]).unwrap();
        inbox.finish(Finish::Exited(0)).unwrap();
        assert!(inbox.output(Stream::Stdout, vec![8]).is_err());
        assert!(inbox.finish(Finish::Exited(1)).is_err());
        let first = inbox.next(false, Duration::ZERO);
        assert!(matches!(first, Arrival::Output(Stream::Stderr, data) if data == [7]));
        let second = inbox.next(false, Duration::ZERO);
        assert!(matches!(second, Arrival::Finish(Finish::Exited(0))));
    }

    #[test]
    fn a_full_outbox_refuses_instead_of_waiting() {
        let outbox = Outbox::default();
        assert!(outbox.put(&vec![0; OUTBOX_MAX]));
        assert!(!outbox.put(&[0]));
        outbox.close();
        assert!(outbox.take().is_some());
        assert!(outbox.take().is_none());
    }
}
