//! Several attempts at the same task, each a thread of its own.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use stockade_agents::Stop;
use stockade_threads::cloud::{self, CloudError, CloudTask, Outcome, User};
use stockade_threads::record::{Decision, Event, PhaseState, Role, State};
use stockade_threads::store::Store;
use stockade_threads::{Live, Watch};

use super::attached::Begun;
use crate::failure::Failure;
use crate::ui;

/// More would be a mistake in a script.
pub(super) const ATTEMPTS_MAX: u32 = 32;

/// How it is shown: as JSON, or not at all; and who is told which threads there are.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) is_json: bool,
    pub(super) is_quiet: bool,
    pub(super) begun: Begun,
    /// Where the lines of all records go as well.
    pub(super) file: Copies,
}

/// The file of `--json-file`; none after a write that failed, which was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies(Arc<Mutex<Option<File>>>);

impl Copies {
    pub(super) fn to(file: File) -> Self {
        Self(Arc::new(Mutex::new(Some(file))))
    }

    fn line(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece, and with the lock: attempts write at the same time.
        if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(line.as_bytes())) {
            ui::say("warning", &format!("--json-file: nothing more is written: {error}"));
            *file = None;
        }
    }
}

/// Runs all of them; the value is the exit status: 0 when one has completed.
pub(super) fn run(
    task: &CloudTask,
    of: u32,
    store: &Store,
    user: User<'_>,
    shown: &Shown,
) -> Result<u8, Failure> {
    let attempt = |number: u32| {
        let task = CloudTask { attempt: Some((number, of)), ..task.clone() };
        let mut watch = Tagged { number, shown: shown.clone(), stop: user.wishes.stop.clone() };
        cloud::run(&task, store, &mut watch, user)
    };
    let attempt = &attempt;
    let outcomes: Vec<Result<Outcome, CloudError>> = thread::scope(|scope| {
        let running: Vec<_> = (1..=of).map(|number| scope.spawn(move || attempt(number))).collect();
        let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|outcome| outcome.unwrap_or(Err(CloudError::Interrupted))).collect()
    });
    let mut status = None;
    let mut failure = None;
    for (number, outcome) in (1..).zip(outcomes) {
        match outcome {
            Ok(outcome) => {
                let exit = outcome.ended.exit;
                status = Some(status.map_or(exit, |before: u8| before.min(exit)));
                if !shown.is_quiet {
                    report(number, &outcome);
                }
            }
            Err(error) => {
                let error = Failure::from(error);
                ui::say("error", &format!("attempt {number} did not begin"));
                failure.get_or_insert(error);
            }
        }
    }
    match (status, failure) {
        (Some(status), _) => Ok(status),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(0),
    }
}

fn report(number: u32, outcome: &Outcome) {
    let Outcome { ended, changes, .. } = outcome;
    let files = match changes.as_ref().map(|changes| changes.files) {
        None => "no result".to_owned(),
        Some(1) => "1 file changed".to_owned(),
        Some(count) => format!("{count} files changed"),
    };
    let how = if ended.state == State::Completed {
        "finished".to_owned()
    } else {
        format!("{}: {}", ended.state.as_str(), ended.summary)
    };
    ui::say("stockade", &format!("attempt {number} {how}; {files}; thread {}", ended.thread));
}

/// What one attempt does, in whole lines that say which it is.
struct Tagged {
    number: u32,
    shown: Shown,
    stop: Stop,
}

impl Watch for Tagged {
    fn see(&mut self, live: &Live<'_>) {
        let number = self.number;
        self.shown.begun.see(live);
        if let Live::Event(_, line) = live
            && let Some(rest) = line.strip_prefix('{')
        {
            let line = format!("{{\"attempt\":{number},{rest}");
            if self.shown.is_json && ui::json_line(&line).is_err() {
                self.stop.request();
            }
            self.shown.file.line(&(line + "\n"));
        }
        if self.shown.is_json {
            return;
        }
        let line = match live {
            Live::Event(event, _) => told(event),
            Live::Note(note) => Some((*note).to_owned()),
            Live::Text(_)
            | Live::Output(_)
            | Live::Answer(_)
            | Live::Screen(_)
            | Live::Change { .. }
            | Live::Refused(_)
            | Live::Asking { .. }
            | Live::Plan(_)
            | Live::Step(_)
            | Live::Retrying { .. } => None,
        };
        if let Some(line) = line.filter(|_| !self.shown.is_quiet) {
            ui::say(&format!("[{number}]"), &line.replace('\n', "\\n"));
        }
    }
}

/// An event in a line, if it is one that several attempts have room for.
fn told(event: &Event) -> Option<String> {
    if let Event::Phase(phase) = event {
        return match phase.state {
            PhaseState::Finished => {
                Some(format!("{} {:.1} s", phase.name, phase.seconds.unwrap_or_default()))
            }
            PhaseState::Failed => Some(format!("{} failed", phase.name)),
            PhaseState::Started if phase.name == "queue" => Some("waits for a place".to_owned()),
            PhaseState::Started | PhaseState::Skipped => None,
        };
    }
    if let Event::CommandStarted(started) = event {
        let words = started.argv.as_ref().map(|argv| argv.join(" "));
        let line = started.line.clone().or(words).unwrap_or_default();
        let end = if started.decision == Decision::Deny { "    (not run)" } else { "" };
        return Some(format!("$ {line}{end}"));
    }
    let Event::Message(message) = event else { return None };
    (message.role == Role::Assistant).then(|| message.text.clone())
}
