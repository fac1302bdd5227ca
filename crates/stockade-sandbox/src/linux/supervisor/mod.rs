//! Carrying out trapped calls on behalf of the programs inside.
//!
//! A trapped call waits until PID 1 answers. Whatever decides about the call is copied out of
//! the caller once, judged, and then used from that copy: the caller cannot change it in
//! between. PID 1 itself stands behind the same walls as the caller, so that a mistake here
//! opens no more than the boundary allows.
//!
//! Invariant: no error leaves a caller waiting; it is answered with an errno.

mod asking;
mod caller;
mod connectors;
mod denials;
mod execs;
mod files;
mod in_hand;
mod known;
mod led;
mod messages;
pub(super) mod peers;
mod place;
#[cfg(test)]
mod scripted;
mod sockets;
pub(super) mod system_v;
mod unix_peers;
mod weights;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;

use super::asks::Asker;
use super::gate::Gate;
use super::sys::process_unsafe;
use super::sys::seccomp_unsafe::{self as seccomp, Answer, Notification};
use crate::execs::Execs;

use caller::{Caller, Masks};
use connectors::Connectors;
pub(crate) use denials::Denials;
pub use files::disk;
pub(crate) use files::{Around, Beneath, Files, Fixed, Terminals};
use files::{Done, Looked, Stop, Waiting};
use in_hand::InHand;
use led::Led;
pub(crate) use peers::Peers;

/// Stack of a thread; the deepest path copies its data to the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Threads that answer, at most. Two suffice for builds (no difference to four was measured); the others
/// are for calls that a slow file system holds up.
const WORKERS: usize = 3;

/// Answers the notifications of one listener.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    /// Whether somebody answers. A program that does nothing that is trapped needs no thread.
    has_begun: bool,
}

#[derive(Debug)]
struct Shared {
    listener: OwnedFd,
    /// Threads that answer, and those of them that have nothing to do.
    workers: AtomicUsize,
    idle: AtomicUsize,
    /// Judges calls that write; `None` where the filter traps none.
    files: Option<Files>,
    /// Files that callers have already and that are still open here.
    in_hand: InHand,
    /// Judges what is executed; `None` where the filter traps no such call.
    execs: Option<Execs>,
    /// Threads that make a call with another path.
    led: Led,
    /// What was told last of what is executed, and to which thread.
    told: Mutex<(i32, String)>,
    /// Where connections to hosts get out.
    gate: Option<Arc<Gate>>,
    /// Who may be spoken to, where the network is the host's.
    peers: Option<Arc<Peers>>,
    /// For whom Unix sockets were connected.
    connectors: Connectors,
    /// Whether each thread has an umask of its own.
    has_own_settings: bool,
    /// Who is told of what is refused.
    denials: Arc<Denials>,
    /// Who may be asked first.
    asker: Option<Asker>,
}

impl Supervisor {
    /// Takes over `listener` and begins to answer.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub(crate) fn start(
        listener: OwnedFd,
        judges: (Option<Files>, Option<Execs>),
        ways: (Option<Gate>, Option<Arc<Peers>>),
        told: (Arc<Denials>, Option<Asker>),
    ) -> io::Result<Self> {
        let mut supervisor = Self::of(listener, judges, ways, told);
        supervisor.shared.hire()?;
        supervisor.has_begun = true;
        Ok(supervisor)
    }

    /// Takes over `listener`, for [`Self::attend`] to answer, in a process that does nothing else.
    pub(crate) fn new(
        listener: OwnedFd,
        judges: (Option<Files>, Option<Execs>),
        ways: (Option<Gate>, Option<Arc<Peers>>),
        told: (Arc<Denials>, Option<Asker>),
    ) -> Self {
        known::begin();
        Self::of(listener, judges, ways, told)
    }

    fn of(
        listener: OwnedFd,
        (files, execs): (Option<Files>, Option<Execs>),
        (gate, peers): (Option<Gate>, Option<Arc<Peers>>),
        (denials, asker): (Arc<Denials>, Option<Asker>),
    ) -> Self {
        seccomp::prefer_same_cpu(listener.as_fd());
        let shared = Shared {
            listener,
            workers: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            files,
            in_hand: InHand::default(),
            execs,
            led: Led::default(),
            told: Mutex::default(),
            gate: gate.map(Arc::new),
            peers,
            connectors: Connectors::default(),
            // Filters of containers refuse that; then one thread does it all.
            has_own_settings: process_unsafe::own_file_settings().is_ok(),
            denials,
            asker,
        };
        Self { shared: Arc::new(shared), has_begun: false }
    }

    /// What is to be polled for on [`Self::listener`], besides its end.
    pub(crate) fn awaited(&self) -> PollFlags {
        if self.has_begun { PollFlags::empty() } else { PollFlags::IN }
    }

    /// Sees to it that the call that waits is answered; `runs` says whether the command does.
    ///
    /// # Errors
    ///
    /// When it could not be answered.
    pub(crate) fn attend(&mut self, runs: bool) -> io::Result<()> {
        // Before, only the canaries make calls, which wait for nobody, and nobody is asked about. To
        // judge what is executed is to read it, from a disk that may be slow.
        if !runs && self.shared.execs.is_none() {
            return match seccomp::receive(self.shared.listener.as_fd())? {
                Some(call) => match self.shared.serve(&call, &mut Umask::current())? {
                    Some(action) => {
                        self.shared.aside(call.id, move |shared| shared.perform(&call, action))
                    }
                    None => Ok(()),
                },
                None => Ok(()),
            };
        }
        match self.shared.hire() {
            Ok(()) => {
                self.has_begun = true;
                Ok(())
            }
            // At the process limit a call fails as a fork would; the next one tries again.
            Err(error) => match seccomp::receive(self.shared.listener.as_fd())? {
                Some(call) => self.shared.answer(call.id, errno(&error)),
                None => Ok(()),
            },
        }
    }

    /// Whether the state change `status` of `pid` was waited for here.
    pub(crate) fn hears(&self, pid: i32, status: i32) -> bool {
        self.shared.led.hear(pid, status)
    }

    /// The descriptor that hangs up when every process under the filter has ended.
    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.shared.listener
    }
}

/// Answers until every process under the filter has ended.
fn work(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.has_own_settings {
        process_unsafe::own_file_settings()?;
    }
    let mut umask = Umask::current();
    loop {
        shared.idle.fetch_add(1, Ordering::AcqRel);
        let received = seccomp::receive(shared.listener.as_fd());
        if shared.idle.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The next call finds somebody, unless there are as many as there may be.
            shared.hire().ok();
        }
        match received? {
            Some(call) => {
                if let Some(action) = shared.serve(&call, &mut umask)?
                    && !shared.step_out(&call, action)?
                {
                    return Ok(());
                }
            }
            None if shared.has_ended() => return Ok(()),
            None => {}
        }
    }
}

/// The umask of this thread, which is that of the caller it works for.
#[derive(Debug)]
struct Umask {
    own: u32,
    callers: Masks,
}

impl Umask {
    fn current() -> Self {
        let mask = rustix::process::umask(Mode::empty());
        rustix::process::umask(mask);
        Self { own: mask.as_raw_mode(), callers: Masks::default() }
    }

    fn follow(&mut self, caller: &Caller<'_>) -> io::Result<()> {
        let mask = self.callers.of(caller)?;
        if self.own != mask {
            rustix::process::umask(Mode::from_raw_mode(mask));
            self.own = mask;
        }
        Ok(())
    }
}

impl Shared {
    /// Starts one more thread that answers, unless there are enough.
    fn hire(self: &Arc<Self>) -> io::Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let work = move || {
            if work(&shared).is_err() {
                // Nobody would answer: the run ends here, rather than hang.
                process_unsafe::exit_now(1);
            }
        };
        let hired = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        if hired.is_err() {
            self.workers.fetch_sub(1, Ordering::AcqRel);
        }
        hired.map(drop)
    }

    /// Counts one more thread that answers, unless there are enough.
    fn has_room(&self) -> bool {
        let most = if self.has_own_settings { WORKERS } else { 1 };
        let more = |count: usize| (count < most).then_some(count + 1);
        self.workers.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.listener, PollFlags::empty())];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Answers one call; the value is what is left to be carried out, which may take long.
    fn serve(
        self: &Arc<Self>,
        call: &Notification,
        umask: &mut Umask,
    ) -> io::Result<Option<sockets::Action>> {
        let moved = self.files.as_ref().and_then(Files::moved);
        let caller = Caller::new(&self.listener, call).with(self.peers.as_deref()).among(moved);
        if let Some(answered) = moved.and_then(|_| self.look(&caller, call)) {
            return answered.map(|()| None);
        }
        let prepared = match call.call {
            libc::SYS_listen => peers::listen(&caller).map_err(Stop::from),
            libc::SYS_connect => sockets::connect(&caller, self.gate.as_ref(), &self.connectors),
            libc::SYS_getsockopt => {
                self.connectors.tell(&caller).map(Prepared::Answer).map_err(Stop::from)
            }
            libc::SYS_sendto => messages::sendto(&caller),
            libc::SYS_sendmsg => messages::sendmsg(&caller),
            libc::SYS_sendmmsg => messages::sendmmsg(&caller),
            libc::SYS_execve | libc::SYS_execveat => {
                return self.execute(&caller, call).map(|()| None);
            }
            // A lock is let go with the last descriptor, which is the caller's.
            libc::SYS_flock | libc::SYS_fcntl => {
                self.in_hand.wait();
                Ok(Prepared::Answer(Answer::Continue))
            }
            number if system_v::is_one(number) => system_v::serve(&caller).map_err(Stop::from),
            number if weights::is_one(number) => weights::set(&caller).map_err(Stop::from),
            _ => return self.write(&caller, call, umask).map(|()| None),
        };
        match prepared {
            Ok(Prepared::Act(action)) if action.may_block() => return Ok(Some(action)),
            Ok(Prepared::Act(action)) => self.answer(call.id, action.perform(&|| Ok(()))),
            Ok(Prepared::Answer(answer)) => self.answer(call.id, answer),
            Err(stop) => self.finish(call.id, Err(stop)),
        }
        .map(|()| None)
    }

    /// Carries out what may take long in this thread, which is none of those that answer meanwhile: to
    /// begin another one would cost a connection as much again. The value is whether it answers again.
    fn step_out(
        self: &Arc<Self>,
        call: &Notification,
        action: sockets::Action,
    ) -> io::Result<bool> {
        self.workers.fetch_sub(1, Ordering::AcqRel);
        if self.idle.load(Ordering::Acquire) == 0 && self.hire().is_err() {
            // At the process limit a call fails as a fork would; somebody has to answer the next.
            self.workers.fetch_add(1, Ordering::AcqRel);
            return self.answer(call.id, Answer::Errno(libc::EAGAIN)).map(|()| true);
        }
        // The caller may be gone by then, and nobody waits for the answer.
        self.perform(call, action).ok();
        Ok(self.has_room())
    }

    fn perform(&self, call: &Notification, action: sockets::Action) -> io::Result<()> {
        let caller = Caller::new(&self.listener, call).with(self.peers.as_deref());
        let answer = action.perform(&|| asking::goes_on(&caller));
        self.answer(call.id, answer)
    }

    /// Answers a call that reads, where folders are others by name; `None` for any other call.
    fn look(self: &Arc<Self>, caller: &Caller<'_>, call: &Notification) -> Option<io::Result<()>> {
        let is_execution = matches!(call.call, libc::SYS_execve | libc::SYS_execveat);
        Some(match self.files.as_ref()?.look(caller, call.call) {
            Looked::Other => return None,
            Looked::GoesOn if is_execution && self.execs.is_some() => return None,
            Looked::GoesOn => self.answer(call.id, Answer::Continue),
            // Another thread's program takes the number of the first one, and would not be found.
            Looked::Led { otherwise, .. }
                if is_execution && caller.process().ok() != Some(call.pid) =>
            {
                self.finish(call.id, Err(otherwise))
            }
            Looked::Led { path, index, otherwise } => self.lead(call, (path, index), otherwise),
            Looked::Done(Ok(Done::Waits(waiting))) => self.wait(call, waiting),
            Looked::Done(done) => self.finish(call.id, done),
        })
    }

    /// Has the kernel carry out the caller's call with another path, or refuses it.
    fn lead(
        self: &Arc<Self>,
        call: &Notification,
        (path, index): (Vec<u8>, usize),
        otherwise: Stop,
    ) -> io::Result<()> {
        let call = *call;
        self.aside(call.id, move |shared| {
            let confirm = || Caller::new(&shared.listener, &call).confirm();
            let answer = || shared.answer(call.id, Answer::Errno(led::AGAIN));
            match shared.led.lead(call.pid, (call.call, index), &path, (&confirm, &answer)) {
                Ok(()) => Ok(()),
                Err(_) => shared.finish(call.id, Err(otherwise)),
            }
        })
    }

    /// Waits for the other end of a FIFO.
    fn wait(self: &Arc<Self>, call: &Notification, waiting: Waiting) -> io::Result<()> {
        let call = *call;
        self.aside(call.id, move |shared| {
            let caller = Caller::new(&shared.listener, &call).with(shared.peers.as_deref());
            shared.finish(call.id, waiting.wait(&caller))
        })
    }

    /// Has the kernel execute the caller's program, or refuses it with a line that says why.
    fn execute(self: &Arc<Self>, caller: &Caller<'_>, call: &Notification) -> io::Result<()> {
        let Some(execs) = &self.execs else {
            // The filter traps nothing of the kind.
            return self.answer(call.id, Answer::Errno(libc::ENOSYS));
        };
        let refused = match execs::refusal(caller, execs) {
            Ok(None) => return self.answer(call.id, Answer::Continue),
            Ok(Some(refused)) => refused,
            Err(error) => return self.answer(call.id, errno(&error)),
        };
        let call = *call;
        // Who reads the line may have stopped reading.
        self.aside(call.id, move |shared| {
            let (answer, line) = shared.asked_to_execute(&call, &refused);
            if let Some(line) = line {
                // Where nobody can be told, the errno has to do.
                execs::tell(
                    &Caller::new(&shared.listener, &call).with(shared.peers.as_deref()),
                    &line,
                    &shared.told,
                )
                .ok();
            }
            shared.answer(call.id, answer)
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
        if files::may_make_executable(caller, call.call) {
            self.in_hand.wait();
        }
        // To ask for the umask costs a part of a call, and only what makes something needs it.
        let needs_umask = files::needs_umask(caller, call.call);
        let ready = if needs_umask { umask.follow(caller) } else { Ok(()) };
        let done = ready.map_err(Stop::from).and_then(|()| files.serve(caller, call.call));
        if let Some(error) = files.not_kept() {
            self.denials.say(&format!("from here on `stockade undo` has nothing: {error}"));
        }
        match done {
            Ok(Done::Waits(waiting)) => self.wait(call, waiting),
            Ok(Done::Staged { close_on_exec, staged }) => {
                let call = *call;
                self.aside(call.id, move |shared| {
                    // The caller's close is to be the last one.
                    staged
                        .hand_over(|file| shared.give_and_answer(call.id, file, close_on_exec))?;
                    let caller = Caller::new(&shared.listener, &call).with(shared.peers.as_deref());
                    // What is refused now is not written; the caller has closed it.
                    if let Some(files) = &shared.files
                        && let Err(Stop::Denied(denial)) = files.settle(&caller, &staged)
                    {
                        shared.denials.note(&denial);
                    }
                    Ok(())
                })
            }
            Err(Stop::Outside(outside)) if self.asks_about(call, &outside) => {
                self.ask_to_write(call, outside)
            }
            done => self.finish(call.id, done),
        }
    }

    fn finish(&self, id: u64, done: Result<Done, Stop>) -> io::Result<()> {
        let answer = match done {
            Ok(Done::Answer(answer)) => answer,
            Ok(Done::File { file, close_on_exec }) => return self.give(id, file, close_on_exec),
            Err(Stop::Error(error)) => errno(&error),
            // Noted first: who gets the answer finds it in the list.
            Err(Stop::Denied(denial)) => {
                self.denials.note(&denial);
                Answer::Errno(libc::EACCES)
            }
            Err(Stop::Outside(outside)) => {
                if !outside.is_quiet {
                    self.denials.note(&outside.denial);
                }
                Answer::Errno(libc::EROFS)
            }
            // Both are for others to deal with, who have by now.
            Err(Stop::Notable) | Ok(Done::Waits(_) | Done::Staged { .. }) => {
                Answer::Errno(libc::EPERM)
            }
        };
        self.answer(id, answer)
    }

    /// Gives the caller `file` and lets it go on.
    fn give(&self, id: u64, file: OwnedFd, close_on_exec: bool) -> io::Result<()> {
        let Some(held) = self.in_hand.take(&file) else {
            return self.give_and_answer(id, file, close_on_exec);
        };
        match seccomp::answer_with_file(self.listener.as_fd(), id, file.as_fd(), close_on_exec) {
            // Linux 5.14.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.give_and_answer(id, file, close_on_exec)
            }
            given => {
                drop(file);
                drop(held);
                given.or_else(|error| self.answer(id, errno(&error)))
            }
        }
    }

    /// The same, but that the caller goes on when the file is closed here.
    fn give_and_answer(&self, id: u64, file: OwnedFd, close_on_exec: bool) -> io::Result<()> {
        let given = seccomp::give_file(self.listener.as_fd(), id, file.as_fd(), close_on_exec);
        drop(file);
        let answer =
            given.map_or_else(|error| errno(&error), |number| Answer::Value(number.into()));
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
