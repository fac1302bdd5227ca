//! A thread that can outlive the command that began it: at a terminal the work is done by a process
//! behind the one that the user's shell waits for.
//!
//! The one in front holds nothing but the other one and passes signals on; the one behind has the
//! terminal, until the user detaches it. Then it is in a session of its own, without a terminal, and
//! the one in front ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stockade_sandbox::{Interrupts, OWN_PROGRAM};
use stockade_threads::cloud::Wishes;
use stockade_threads::record::Event;
use stockade_threads::{Live, Watch};

use super::local;
use crate::failure::{Failure, of_signal};
use crate::ui;
use crate::ui::choice::{Choice, choose};
use crate::ui::prompt::{Turns, terminal};
use crate::ui::status::Status;

/// How the process behind is told apart.
const MARK: &str = "#behind";

/// The exit status of a thread that goes on: for its caller it has no result.
const DETACHED: u8 = 130;

/// What the one behind says when it has left the terminal.
const LEFT: u8 = b'd';

/// Signals that come closer together are one wish: timeout(1) and others pass on to their child
/// what its group, and so the child, was sent as well.
const SAME_WISH: Duration = Duration::from_millis(500);

/// To the process in front.
#[derive(Debug)]
pub(crate) struct Front {
    channel: UnixStream,
}

/// Whether this is the process behind, and the words of the command line.
pub(crate) fn enter(mut words: Vec<OsString>) -> (Option<Front>, Vec<OsString>) {
    if words.get(1).is_none_or(|word| word != OsStr::new(MARK)) {
        return (None, words);
    }
    // Somebody who typed the word is told what is wrong with it.
    let front = Front::of_stdin();
    if front.is_some() {
        words.remove(1);
    }
    (front, words)
}

impl Front {
    /// Takes the channel from standard input, and puts the terminal there.
    fn of_stdin() -> Option<Self> {
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        // Only the process that started this one can have made the socket.
        let maker = rustix::net::sockopt::socket_peercred(&channel).ok()?.pid;
        if Some(maker) != rustix::process::getppid() {
            return None;
        }
        rustix::stdio::dup2_stdin(terminal()?).ok()?;
        Some(Self { channel })
    }
}

/// Whether somebody is there who could detach it.
pub(super) fn is_wanted(is_json: bool) -> bool {
    !is_json && io::stdin().is_terminal() && terminal().is_some()
}

/// Does the same in a process behind, and waits until it ends or is detached. The value is the exit
/// status.
pub(super) fn in_front() -> Result<u8, Failure> {
    let failed = |error| Failure::new(format!("cannot start the process of a thread: {error}"), "");
    let interrupts = local::hold()?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut behind = Command::new(OWN_PROGRAM)
        .arg0("stockade")
        .arg(MARK)
        .args(std::env::args_os().skip(1))
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .map_err(failed)?;
    let mut told = ours.try_clone().map_err(failed)?;
    let (tell, hear) = mpsc::channel();
    local::on_signal(interrupts, move |signal| {
        // Who has ended needs no signal.
        (&ours).write_all(&[u8::try_from(signal).unwrap_or_default()]).ok();
    });
    let left = tell.clone();
    thread::spawn(move || {
        let mut word = [0];
        if told.read_exact(&mut word).is_ok() && word == [LEFT] {
            left.send(Ok(DETACHED)).ok();
        }
    });
    thread::spawn(move || tell.send(behind.wait().map(status)).ok());
    match hear.recv() {
        Ok(ended) => ended.map_err(failed),
        Err(_) => Err(Failure::new("the process of the thread is lost", "")),
    }
}

/// As a shell tells it.
fn status(ended: ExitStatus) -> u8 {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    code.or_else(|| ended.signal().map(of_signal)).unwrap_or(1)
}

/// The threads that this process has begun, for who leaves them.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<String>>>);

impl Begun {
    /// One more.
    pub(super) fn add(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }

    /// One more, when it is its first event.
    pub(super) fn see(&self, live: &Live<'_>) {
        if let Live::Event(Event::ThreadStarted(started), _) = live {
            self.add(&started.thread);
        }
    }

    /// What is said of them, and how they are had again.
    fn told(&self) -> (String, String) {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match threads.as_slice() {
            [id] => (
                format!("detached; thread {id} goes on in the background"),
                format!(
                    "`stockade threads log -f {id}` follows it, `stockade threads cancel {id}` \
                     ends it"
                ),
            ),
            threads => (
                format!("detached; {} threads go on in the background", threads.len()),
                "`stockade threads list --here` shows them, `stockade threads log -f ID` follows \
                 one"
                .to_owned(),
            ),
        }
    }
}

/// One who watches, and the names of what is watched.
pub(super) struct Noted<'a> {
    pub(super) watch: Box<dyn Watch + 'a>,
    pub(super) begun: Begun,
}

impl Watch for Noted<'_> {
    fn see(&mut self, live: &Live<'_>) {
        self.begun.see(live);
        self.watch.see(live);
    }
}

/// What there is at the terminal of a thread that can be detached.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) wishes: Wishes,
    pub(super) turns: Arc<Turns>,
    pub(super) status: Option<Arc<Status>>,
    pub(super) begun: Begun,
}

/// What the wishes of a person have come to.
#[derive(Debug)]
struct Wishing {
    wishes: Wishes,
    ended_at: Option<Instant>,
}

impl Wishing {
    /// The first ends the work, and the second does without the result.
    fn one_more(&mut self) {
        if self.ended_at.get_or_insert_with(Instant::now).elapsed() > SAME_WISH {
            self.wishes.abandon.request();
        } else {
            self.wishes.stop.request();
        }
    }
}

/// Heeds signals: each is a wish that it ends; those of a terminal ask the user first, where the
/// thread could go on without them.
pub(super) fn heed(interrupts: Interrupts, front: Option<Front>, person: Person) {
    let wishing = Wishing { wishes: person.wishes.clone(), ended_at: None };
    let wishing = Arc::new(Mutex::new(wishing));
    let is_attached = Arc::new(AtomicBool::new(front.is_some()));
    let own = (Arc::clone(&wishing), Arc::clone(&is_attached), person.wishes.clone());
    local::on_signal(interrupts, move |signal| {
        let (wishing, is_attached, wishes) = &own;
        if !is_attached.load(Ordering::SeqCst) {
            wishing.lock().unwrap_or_else(PoisonError::into_inner).one_more();
        } else if signal == Signal::TERM.as_raw() {
            // For this process, or for both; whatever else the terminal sends, the one in front
            // got as well.
            wishes.stop.request();
        }
    });
    if let Some(Front { channel }) = front {
        let attached = Attached { channel, person, wishing, is_there: is_attached };
        let name = "front".to_owned();
        // Without a thread for it the end of the one in front would not be seen.
        if thread::Builder::new().name(name).spawn(move || attached.listen()).is_err() {
            ui::say("warning", "Ctrl-C will not be heard; `stockade threads cancel` ends it");
        }
    }
}

/// The one behind, as long as there is one in front.
struct Attached {
    channel: UnixStream,
    person: Person,
    wishing: Arc<Mutex<Wishing>>,
    is_there: Arc<AtomicBool>,
}

impl Attached {
    fn listen(mut self) {
        loop {
            let mut signal = [0];
            if self.channel.read_exact(&mut signal).is_err() {
                // Killed, and with it everything else: as a terminal that is gone.
                self.is_there.store(false, Ordering::SeqCst);
                return self.person.wishes.stop.request();
            }
            let is_key = i32::from(signal[0]) == Signal::INT.as_raw();
            let is_over = self.person.wishes.stop.is_requested();
            match if is_key && !is_over { self.ask() } else { Choice::Cancel } {
                Choice::GoOn => {}
                Choice::Cancel => self.one_more(),
                Choice::Detach if self.leave() => return,
                Choice::Detach => ui::say("warning", "cannot leave the terminal; it goes on here"),
            }
        }
    }

    fn one_more(&self) {
        self.wishing.lock().unwrap_or_else(PoisonError::into_inner).one_more();
    }

    fn ask(&mut self) -> Choice {
        let Person { turns, status, wishes, .. } = &self.person;
        let shown = (turns.as_ref(), status.as_deref());
        let chosen = choose(shown, self.channel.as_fd(), &|| wishes.stop.is_requested());
        chosen.unwrap_or(Choice::Cancel)
    }

    /// Leaves the terminal, and whoever waits there.
    fn leave(&mut self) -> bool {
        let (text, hint) = self.person.begun.told();
        let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
            return false;
        };
        // The terminal's signals from here on are for others.
        if rustix::process::setsid().is_err() {
            return false;
        }
        self.is_there.store(false, Ordering::SeqCst);
        self.person.turns.leave();
        ui::say("stockade", &text);
        ui::hint(&hint);
        for put in
            [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr]
        {
            // There is nobody any more who could be told.
            put(&null).ok();
        }
        // It may have been killed meanwhile, which changes nothing any more.
        self.channel.write_all(&[LEFT]).ok();
        true
    }
}
