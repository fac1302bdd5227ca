//! Where the questions of a thread's boundaries come together.
//!
//! Boundaries and their networks outlive any one borrow; what answers them borrows the thread's
//! record and whoever asks a person. Between the two is a channel: one end is handed to each boundary,
//! the other is attended as long as the thread is at work. What comes before waits, what comes
//! afterwards is a denial.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use stockade_gateway::{AskHost, Given, Login};
use stockade_sandbox::{Asks, Question};

use super::InPlace;

type Call = Box<dyn FnOnce(&InPlace<'_>) + Send>;

enum Job {
    Question(Question),
    /// Answered at once.
    Look(Call),
    /// Waits for a person.
    Ask(Call),
    End,
}

/// The end for boundaries.
#[derive(Clone)]
pub struct Counter(Sender<Job>);

/// The end for who answers.
pub(crate) struct Coming(Receiver<Job>, Counter);

/// Both ends.
pub(crate) fn counter() -> (Counter, Coming) {
    let (sender, receiver) = mpsc::channel();
    (Counter(sender.clone()), Coming(receiver, Counter(sender)))
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter")
    }
}

impl Counter {
    /// Takes what `asks` brings until its boundary is gone.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub(crate) fn serve(&self, asks: Asks) -> io::Result<()> {
        let sender = self.0.clone();
        let run = move || {
            // What goes wrong here leaves every denial what it is.
            while let Ok(Some(question)) = asks.next() {
                // Dropped when nobody attends any more, which PID 1 sees.
                sender.send(Job::Question(question)).ok();
            }
        };
        Builder::new().name("questions".to_owned()).spawn(run).map(drop)
    }

    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(Call) -> Job,
        call: impl FnOnce(&InPlace<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = mpsc::channel();
        let call: Call = Box::new(move |place| drop(sender.send(call(place))));
        self.0.send(job(call)).ok()?;
        answer.recv().ok()
    }
}

impl AskHost for Counter {
    fn is_present(&self) -> bool {
        self.call(Job::Look, |place| place.is_present()).unwrap_or(false)
    }

    fn is_granted(&self, host: &str, port: u16) -> bool {
        let host = host.to_owned();
        self.call(Job::Look, move |place| place.is_granted(&host, port)).unwrap_or(false)
    }

    fn ask(&self, host: &str, port: u16, process: Option<u32>) -> Given {
        let host = host.to_owned();
        let given = self.call(Job::Ask, move |place| AskHost::ask(place, &host, port, process));
        given.unwrap_or_else(|| Given::No("not allowed".to_owned()))
    }

    fn ask_login(&self, login: &Login) -> Given {
        let login = login.clone();
        let given = self.call(Job::Ask, move |place| place.ask_login(&login));
        given.unwrap_or_else(|| Given::No("not allowed".to_owned()))
    }
}

/// Somebody answers as long as this lives. Then what is open is taken back.
#[derive(Debug)]
pub(crate) struct Attended<'s> {
    place: &'s InPlace<'s>,
    counter: Counter,
    thread: Option<ScopedJoinHandle<'s, ()>>,
}

impl Coming {
    /// Has `place` answer what comes, in threads of `scope`.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub(crate) fn attend<'s>(
        self,
        scope: &'s Scope<'s, '_>,
        place: &'s InPlace<'s>,
    ) -> io::Result<Attended<'s>> {
        let Self(coming, counter) = self;
        let ask = move |call: Box<dyn FnOnce() + Send + 's>| {
            // At the limit of threads the question is dropped, which nobody answers then.
            Builder::new().name("question".to_owned()).spawn_scoped(scope, call).ok();
        };
        let one = move |question| ask(Box::new(move || place.answer(question)));
        let run = move || {
            for job in coming {
                match job {
                    Job::End => break,
                    Job::Look(call) => call(place),
                    Job::Ask(call) => ask(Box::new(move || call(place))),
                    Job::Question(question) => drop(place.at_once(question).map(one)),
                }
            }
        };
        let thread = Builder::new().name("counter".to_owned()).spawn_scoped(scope, run)?;
        Ok(Attended { place, counter, thread: Some(thread) })
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.place.is_over.store(true, Ordering::Relaxed);
        self.counter.0.send(Job::End).ok();
        // It has no error; the threads of its questions end with the scope.
        self.thread.take().map(ScopedJoinHandle::join);
    }
}
