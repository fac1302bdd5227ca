//! Questions on the terminal of a command that runs on it.
//!
//! The command's screen is put aside meanwhile. What is no clear yes is a no, and what was typed
//! before the question could be read is no answer.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};
use stockade_config::Notify;
use stockade_sandbox::Pauser;
use stockade_threads::{Ask, Asked, Reply};

use super::columns_of;
use super::prompt::{call, line, offered, reply, taken_for_a_no, turn};
use super::question::shown;

/// How long a question is shown before keys count: those of somebody who types to the command do not.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 400_000_000 };

/// Who asks, where a command has the terminal.
const CALLED: &str = "stockade: ";

/// Asks on the terminal that a run relays.
#[derive(Debug)]
pub(crate) struct Relay {
    pauser: Pauser,
    notify: Notify,
    is_silent: AtomicBool,
    turn: Mutex<()>,
}

impl Relay {
    pub(crate) fn new(pauser: Pauser, notify: Notify) -> Self {
        Self { pauser, notify, is_silent: AtomicBool::new(false), turn: Mutex::default() }
    }

    fn put(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Option<Reply> {
        let held = self.pauser.hold()?;
        let terminal = held.terminal();
        let mut out = terminal;
        let width = columns_of(terminal).map(|width| width.saturating_sub(CALLED.len()));
        let effect = shown(&question.action, &question.effect, width);
        let bell = call(self.notify, &question.action);
        let choices =
            "[y] once  [t] for this run  [n] no, or type why not  [q] no, and ask no more";
        let more = offered(question, "this run");
        write!(out, "\n{bell}? {CALLED}{effect}\n  {choices}\n{more}").ok()?;
        poll(&mut [], Some(&MOMENT)).ok();
        tcflush(terminal, QueueSelector::IFlush).ok();
        write!(out, "  no> ").ok()?;
        let came = std::cell::RefCell::new(None);
        let is_given_up = || {
            came.replace(elsewhere());
            came.borrow().is_some()
        };
        let answer = line(terminal, &is_given_up);
        let reply = match (came.into_inner(), answer) {
            (Some(reply), _) => {
                writeln!(out, "{}", said(&reply)).ok();
                reply
            }
            (None, Some(answer)) if answer == "q" => {
                self.is_silent.store(true, Ordering::Relaxed);
                Reply::Deny("no more questions in this run".to_owned())
            }
            (None, Some(answer)) => {
                let reply = reply(&answer, question);
                if let Some(text) = taken_for_a_no(&answer, &reply) {
                    writeln!(out, "  {text}").ok();
                }
                reply
            }
            (None, None) => Reply::Deny(String::new()),
        };
        Some(reply)
    }
}

fn said(reply: &Reply) -> &'static str {
    match reply {
        Reply::Late => "nobody answered in time: no",
        Reply::Deny(_) => "answered elsewhere: no",
        Reply::Once | Reply::Thread(_) | Reply::Project(_) => "answered elsewhere: yes",
        Reply::Nobody | Reply::Stop => "the program waits no more",
    }
}

impl Ask for Relay {
    fn is_present(&self) -> bool {
        self.pauser.has_keys() && !self.is_silent.load(Ordering::Relaxed)
    }

    fn ask(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        let _turn = match turn(&self.turn, elsewhere) {
            Ok(turn) => turn,
            Err(reply) => return reply,
        };
        // Somebody may have had enough meanwhile, or the terminal is gone.
        let shown = self.is_present().then(|| self.put(question, elsewhere)).flatten();
        shown.unwrap_or(Reply::Nobody)
    }
}
