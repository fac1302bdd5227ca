//! Carrying out trapped calls on behalf of the programs inside.
//!
//! A trapped call waits until PID 1 answers. Whatever decides about the call is copied out of
//! the caller once, judged, and then used from that copy: the caller cannot change it in
//! between. PID 1 itself stands behind the same walls as the caller, so that a mistake here
//! opens no more than the boundary allows.
//!
//! Invariant: no error leaves a caller waiting; it is answered with an errno.

mod caller;
mod messages;
mod sockets;
mod unix_peers;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::gate::Gate;
use super::sys::seccomp_unsafe::{self as seccomp, Answer, Notification};

use caller::Caller;

/// Stack of a thread that carries out one blocking call; the deepest path copies its data to
/// the heap.
const STACK_BYTES: usize = 128 * 1024;

/// Answers the notifications of one listener.
#[derive(Debug)]
pub(crate) struct Supervisor {
    listener: Arc<OwnedFd>,
    /// Where connections to hosts get out.
    gate: Option<Arc<Gate>>,
}

impl Supervisor {
    /// Takes over `listener`.
    pub(crate) fn new(listener: OwnedFd, gate: Option<Gate>) -> Self {
        seccomp::prefer_same_cpu(listener.as_fd());
        Self { listener: Arc::new(listener), gate: gate.map(Arc::new) }
    }

    /// The descriptor that is readable when a call waits.
    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    /// Takes one waiting call and answers it, in a thread of its own if it may block.
    ///
    /// # Errors
    ///
    /// Only when the listener itself is broken.
    pub(crate) fn serve_one(&self) -> io::Result<()> {
        let Some(call) = seccomp::receive(self.listener.as_fd())? else { return Ok(()) };
        match prepare(&self.listener, &call, self.gate.as_ref()) {
            Ok(Prepared::Answer(answer)) => self.answer(call.id, answer),
            Ok(Prepared::Act(action)) if !action.may_block() => {
                self.answer(call.id, action.perform())
            }
            Ok(Prepared::Act(action)) => self.perform_aside(call, action),
            Err(error) => self.answer(call.id, errno(&error)),
        }
    }

    fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        seccomp::respond(self.listener.as_fd(), id, answer)
    }

    fn perform_aside(&self, call: Notification, action: sockets::Action) -> io::Result<()> {
        let listener = Arc::clone(&self.listener);
        let perform = move || {
            let answer = action.perform();
            // The caller may be gone by now, and then nobody waits for the answer.
            seccomp::respond(listener.as_fd(), call.id, answer).ok();
        };
        match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(perform) {
            Ok(_detached) => Ok(()),
            // At the process limit a call fails as a fork would.
            Err(error) => self.answer(call.id, errno(&error)),
        }
    }
}

/// What a look at the call's arguments led to.
enum Prepared {
    Answer(Answer),
    Act(sockets::Action),
}

fn prepare(
    listener: &OwnedFd,
    call: &Notification,
    gate: Option<&Arc<Gate>>,
) -> io::Result<Prepared> {
    let caller = Caller::new(listener, call);
    match call.call {
        libc::SYS_connect => sockets::connect(&caller, gate),
        libc::SYS_sendto => messages::sendto(&caller),
        libc::SYS_sendmsg => messages::sendmsg(&caller),
        libc::SYS_sendmmsg => messages::sendmmsg(&caller),
        // The filter traps nothing else.
        _ => Ok(Prepared::Answer(Answer::Errno(libc::ENOSYS))),
    }
}

fn errno(error: &io::Error) -> Answer {
    Answer::Errno(error.raw_os_error().unwrap_or(libc::EPERM))
}
