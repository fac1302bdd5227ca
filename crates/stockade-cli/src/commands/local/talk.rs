//! A thread with a person at its terminal: what they say next, and what Ctrl-C means.
//!
//! While the agent is at work, Ctrl-C interrupts the turn and a second one ends the thread; at the
//! prompt the first takes the line back. What a session manager sends ends the thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use stockade_agents::Stop;
use stockade_sandbox::Interrupts;
use stockade_threads::local::{Ended, LocalTask};
use stockade_threads::record::State;

use crate::failure::Failure;
use crate::ui;
use crate::ui::prompt::{Line, Look, Turns};
use crate::ui::status::Status;

/// The person.
#[derive(Debug)]
pub(super) struct Talk {
    line: Line,
    keys: Arc<Keys>,
}

/// What was pressed, and when.
#[derive(Debug)]
struct Keys {
    stop: Stop,
    pressed: Mutex<Pressed>,
}

#[derive(Debug, Default)]
struct Pressed {
    is_at_prompt: bool,
    /// Ctrl-C at this prompt.
    times: u32,
    is_anew: bool,
    is_over: bool,
}

impl Talk {
    /// Takes the terminal.
    pub(super) fn begin(
        interrupts: Interrupts,
        stop: &Stop,
        turns: Arc<Turns>,
    ) -> Result<Self, Failure> {
        let line = Line::open(turns).ok_or_else(|| {
            let hint = "give the task: `stockade local \"PROMPT\"`, or `-` to read it";
            Failure::new("a thread without a prompt needs a terminal", hint)
        })?;
        let keys = Arc::new(Keys { stop: stop.clone(), pressed: Mutex::default() });
        let heard = Arc::clone(&keys);
        // Without a thread for it the signals would only be held back; the process can still be
        // killed, and the place goes with it.
        thread::Builder::new()
            .name("interrupts".to_owned())
            .spawn(move || {
                while let Ok(signal) = interrupts.next() {
                    heard.hear(signal == rustix::process::Signal::INT.as_raw());
                }
            })
            .ok();
        Ok(Self { line, keys })
    }

    /// Says where the user is.
    pub(super) fn greet(task: &LocalTask) {
        let writable = task.bounds.writable_here();
        let kind = if task.is_draft { ", as a draft" } else { "" };
        ui::say("stockade", &format!("{}{kind}; writable here: {writable}", task.judge.mode));
        ui::say("stockade", "say what is to be done; Ctrl-C interrupts, Ctrl-D ends");
    }

    /// What is to be done; `None`: nothing more.
    pub(super) fn ask(&self) -> Option<String> {
        let mut pressed = self.keys.pressed();
        if pressed.is_over {
            return None;
        }
        (pressed.is_at_prompt, pressed.times, pressed.is_anew) = (true, 0, false);
        drop(pressed);
        let said = self.line.read(&|| self.keys.look());
        self.keys.pressed().is_at_prompt = false;
        said
    }

    /// Says how the turn ended, and asks for the next.
    pub(super) fn next(&self, ended: &Ended, status: &Status) -> Option<String> {
        status.hide();
        status.end_line();
        match ended.state {
            State::Completed => {}
            State::Interrupted => ui::say("stockade", "interrupted"),
            State::Queued | State::Running | State::Waiting | State::Failed | State::Cancelled => {
                ui::say("error", &ended.summary);
                ended.hint.iter().for_each(|hint| ui::hint(hint));
            }
        }
        if ended.is_at_a_limit() {
            return None;
        }
        ui::say("stockade", &status.sum());
        // That was about the turn.
        self.keys.stop.withdraw();
        self.ask()
    }
}

impl Keys {
    fn pressed(&self) -> MutexGuard<'_, Pressed> {
        self.pressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, is_key: bool) {
        let mut pressed = self.pressed();
        if !is_key {
            pressed.is_over = true;
            self.stop.request();
        } else if pressed.is_at_prompt {
            pressed.times += 1;
            pressed.is_over |= pressed.times > 1;
            pressed.is_anew = true;
        } else {
            pressed.is_over |= self.stop.is_requested();
            self.stop.request();
        }
    }

    fn look(&self) -> Look {
        let mut pressed = self.pressed();
        // At the prompt the wish is that of a limit, or of another process.
        if pressed.is_over || self.stop.is_requested() {
            Look::Over
        } else if std::mem::take(&mut pressed.is_anew) {
            Look::Anew
        } else {
            Look::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys { stop: Stop::default(), pressed: Mutex::default() }
    }

    #[test]
    fn one_ctrl_c_interrupts_the_turn_and_a_second_ends_the_thread() {
        let keys = keys();
        keys.hear(true);
        assert!(keys.stop.is_requested() && !keys.pressed().is_over);
        keys.hear(true);
        assert!(keys.pressed().is_over);
    }

    #[test]
    fn at_the_prompt_the_first_takes_the_line_back() {
        let keys = keys();
        keys.pressed().is_at_prompt = true;
        keys.hear(true);
        assert_eq!((keys.look(), keys.look()), (Look::Anew, Look::Wait));
        assert!(!keys.stop.is_requested());
        keys.hear(true);
        assert_eq!(keys.look(), Look::Over);
    }

    #[test]
    fn a_session_that_ends_ends_the_thread() {
        let keys = keys();
        keys.hear(false);
        assert!(keys.stop.is_requested() && keys.pressed().is_over);
    }
}
