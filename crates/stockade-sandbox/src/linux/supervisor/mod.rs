//! Carrying out trapped calls on behalf of the programs inside.
//!
//! A trapped call waits until PID 1 answers. Whatever decides about the call is copied out of
//! the caller once, judged, and then used from that copy: the caller cannot change it in
//! between. PID 1 itself stands behind the same walls as the caller, so that a mistake here
//! opens no more than the boundary allows.
//!
//! Invariant: no error leaves a caller waiting; it is answered with an errno.

mod caller;
mod denials;
mod execs;
mod files;
mod messages;
mod place;
mod sockets;
mod unix_peers;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;

use super::gate::Gate;
use super::sys::process_unsafe;
use super::sys::seccomp_unsafe::{self as seccomp, Answer, Notification};
use crate::execs::Execs;

use caller::Caller;
pub(crate) use denials::Denials;
pub(crate) use files::{Beneath, Files};
use files::{Done, Stop};

/// Stack of a thread; the deepest path copies its data to the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Threads that answer. Two suffice for builds (no difference to four was measured); the others
/// are for calls that a slow file system holds up.
const WORKERS: usize = 3;

/// Answers the notifications of one listener.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    listener: OwnedFd,
    /// Judges calls that write; `None` where the filter traps none.
    files: Option<Files>,
    /// Judges what is executed; `None` where the filter traps no such call.
    execs: Option<Execs>,
    /// What was told last of what is executed, and to which thread.
    told: Mutex<(i32, String)>,
    /// Where connections to hosts get out.
    gate: Option<Arc<Gate>>,
    /// Who is told of what is refused.
    denials: Arc<Denials>,
}

impl Supervisor {
    /// Takes over `listener` and begins to answer.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub(crate) fn start(
        listener: OwnedFd,
        (files, execs): (Option<Files>, Option<Execs>),
        gate: Option<Gate>,
        denials: Arc<Denials>,
    ) -> io::Result<Self> {
        seccomp::prefer_same_cpu(listener.as_fd());
        let told = Mutex::default();
        let gate = gate.map(Arc::new);
        let shared = Arc::new(Shared { listener, files, execs, told, gate, denials });
        for _ in 0..WORKERS {
            let shared = Arc::clone(&shared);
            let work = move || {
                if work(&shared).is_err() {
                    // Nobody would answer: the run ends here, rather than hang.
                    process_unsafe::exit_now(1);
                }
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work)?;
        }
        Ok(Self { shared })
    }

    /// The descriptor that hangs up when every process under the filter has ended.
    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.shared.listener
    }
}

/// Answers until every process under the filter has ended.
fn work(shared: &Arc<Shared>) -> io::Result<()> {
    process_unsafe::own_file_settings()?;
    let mut umask = Umask::current();
    loop {
        match seccomp::receive(shared.listener.as_fd())? {
            Some(call) => shared.serve(&call, &mut umask)?,
            None if shared.has_ended() => return Ok(()),
            None => {}
        }
    }
}

/// The umask of this thread, which is that of the caller it works for.
#[derive(Debug)]
struct Umask(u32);

impl Umask {
    fn current() -> Self {
        let mask = rustix::process::umask(Mode::empty());
        rustix::process::umask(mask);
        Self(mask.as_raw_mode())
    }

    fn set(&mut self, mask: u32) {
        if self.0 != mask {
            rustix::process::umask(Mode::from_raw_mode(mask));
            self.0 = mask;
        }
    }
}

impl Shared {
    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.listener, PollFlags::empty())];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Answers one call, in a thread of its own if it may block.
    fn serve(self: &Arc<Self>, call: &Notification, umask: &mut Umask) -> io::Result<()> {
        let caller = Caller::new(&self.listener, call);
        let prepared = match call.call {
            libc::SYS_connect => sockets::connect(&caller, self.gate.as_ref()),
            libc::SYS_sendto => messages::sendto(&caller),
            libc::SYS_sendmsg => messages::sendmsg(&caller),
            libc::SYS_sendmmsg => messages::sendmmsg(&caller),
            libc::SYS_execve | libc::SYS_execveat => return self.execute(&caller, call),
            _ => return self.write(&caller, call, umask),
        };
        match prepared {
            Ok(Prepared::Answer(answer)) => self.answer(call.id, answer),
            Ok(Prepared::Act(action)) if !action.may_block() => {
                self.answer(call.id, action.perform())
            }
            Ok(Prepared::Act(action)) => {
                let call = *call;
                self.aside(call.id, move |shared| shared.answer(call.id, action.perform()))
            }
            Err(error) => self.answer(call.id, errno(&error)),
        }
    }

    /// Has the kernel execute the caller's program, or refuses it with a line that says why.
    fn execute(self: &Arc<Self>, caller: &Caller<'_>, call: &Notification) -> io::Result<()> {
        let Some(execs) = &self.execs else {
            // The filter traps nothing of the kind.
            return self.answer(call.id, Answer::Errno(libc::ENOSYS));
        };
        let line = match execs::refusal(caller, call.call, execs) {
            Ok(None) => return self.answer(call.id, Answer::Continue),
            Ok(Some(line)) => line,
            Err(error) => return self.answer(call.id, errno(&error)),
        };
        let call = *call;
        // Who reads the line may have stopped reading.
        self.aside(call.id, move |shared| {
            // Where nobody can be told, the errno has to do.
            execs::tell(&Caller::new(&shared.listener, &call), &line, &shared.told).ok();
            shared.answer(call.id, Answer::Errno(libc::EACCES))
        })
    }

    fn write(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        call: &Notification,
        umask: &mut Umask,
    ) -> io::Result<()> {
        let Some(files) = &self.files else {
            // The filter traps nothing else.
            return self.answer(call.id, Answer::Errno(libc::ENOSYS));
        };
        // To ask for the umask costs a quarter of a call, and only what makes something needs it.
        let ready = if files::needs_umask(caller, call.call) {
            caller.status().map(|status| umask.set(status.umask))
        } else {
            Ok(())
        };
        let done = ready.map_err(Stop::from).and_then(|()| files.serve(caller, call.call));
        match done {
            Ok(Done::Waits(waiting)) => {
                let call = *call;
                self.aside(call.id, move |shared| {
                    let caller = Caller::new(&shared.listener, &call);
                    shared.finish(call.id, waiting.wait(&caller))
                })
            }
            Ok(Done::Staged { close_on_exec, staged }) => {
                let call = *call;
                self.aside(call.id, move |shared| {
                    staged.hand_over(|file| {
                        shared.finish(call.id, Ok(Done::File { file, close_on_exec }))
                    })?;
                    let caller = Caller::new(&shared.listener, &call);
                    // What is refused now is not written; the caller has closed it.
                    if let Some(files) = &shared.files
                        && let Err(Stop::Denied(denial)) = files.settle(&caller, &staged)
                    {
                        shared.denials.note(&denial);
                    }
                    Ok(())
                })
            }
            done => self.finish(call.id, done),
        }
    }

    fn finish(&self, id: u64, done: Result<Done, Stop>) -> io::Result<()> {
        let answer = match done {
            Ok(Done::Answer(answer)) => answer,
            Ok(Done::File { file, close_on_exec }) => {
                let sent = seccomp::respond_with_file(
                    self.listener.as_fd(),
                    id,
                    file.as_fd(),
                    close_on_exec,
                );
                match sent {
                    Ok(_) => return Ok(()),
                    Err(error) => errno(&error),
                }
            }
            Err(Stop::Error(error)) => errno(&error),
            // Noted first: who gets the answer finds it in the list.
            Err(Stop::Denied(denial)) => {
                self.denials.note(&denial);
                Answer::Errno(libc::EACCES)
            }
            Err(Stop::Outside(denial)) => {
                self.denials.note(&denial);
                Answer::Errno(libc::EROFS)
            }
            // Both are for others to deal with, who have by now.
            Err(Stop::Notable) | Ok(Done::Waits(_) | Done::Staged { .. }) => {
                Answer::Errno(libc::EPERM)
            }
        };
        self.answer(id, answer)
    }

    fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        seccomp::respond(self.listener.as_fd(), id, answer)
    }

    fn aside(
        self: &Arc<Self>,
        id: u64,
        perform: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        // The caller may be gone by then, and nobody waits for the answer.
        let perform = move || drop(perform(&shared));
        match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(perform) {
            Ok(_detached) => Ok(()),
            // At the process limit a call fails as a fork would.
            Err(error) => self.answer(id, errno(&error)),
        }
    }
}

/// What a look at the call's arguments led to.
enum Prepared {
    Answer(Answer),
    Act(sockets::Action),
}

fn errno(error: &io::Error) -> Answer {
    Answer::Errno(error.raw_os_error().unwrap_or(libc::EPERM))
}
