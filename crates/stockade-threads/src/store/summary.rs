//! What a record adds up to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Records;
use super::thread::is_alive;
use crate::record::{
    Branched, Changes, Check, Cloned, Event, Kind, PathText, Phase, PhaseState, State,
    ThreadStarted, Usage,
};

/// One line of `threads list`; the keys are those of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The thread's ID.
    pub id: String,
    /// How it runs.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// The folder given to the agent, lossy where it is not UTF-8.
    pub workspace: String,
    /// Its bytes, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_b64: Option<String>,
    /// What it is about.
    pub title: String,
    /// When it began (RFC 3339, UTC).
    pub created: String,
    /// When the last record was written.
    pub updated: String,
    /// How many files it changed.
    pub changes: u64,
}

/// One phase as `threads show` tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseSeen {
    /// Which.
    pub name: String,
    /// What became of it.
    pub state: PhaseState,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
}

/// All that a record says about a thread, without what was said and printed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Detail {
    /// As in the list.
    pub summary: Summary,
    /// The beginning.
    pub started: ThreadStarted,
    /// Each phase once, in order.
    pub phases: Vec<PhaseSeen>,
    /// Results of checks.
    pub checks: Vec<Check>,
    /// All tokens together.
    pub usage: Usage,
    /// Of a thread in a machine: what it works on.
    pub cloned: Option<Cloned>,
    /// What changed, if anything was looked at.
    pub changes: Option<Changes>,
    /// When that was recorded.
    pub changed: String,
    /// The last branch that was made of it.
    pub branched: Option<Branched>,
    /// Whether they were dropped.
    pub is_discarded: bool,
    /// The exit status and the summary, once it ended.
    pub finished: Option<(u8, String)>,
    questions: BTreeSet<String>,
}

impl Summary {
    /// The workspace as it was.
    pub fn workspace(&self) -> PathBuf {
        PathText::whole(&self.workspace, self.workspace_b64.as_deref())
    }

    /// With the state that only the lock knows: a thread without a process is interrupted.
    pub(super) fn settled(mut self, folder: &Path) -> Self {
        if !self.state.is_final() && !is_alive(folder) {
            self.state = State::Interrupted;
        }
        self
    }
}

impl Detail {
    /// Where the thread stood before this process took it.
    pub(crate) fn before_now(&self) -> State {
        if self.summary.state.is_final() { self.summary.state } else { State::Interrupted }
    }

    /// Adds up the records in `folder`, to the first that does not fit. `None` when not even
    /// the first does.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let mut records = Records::open(folder).ok()?;
        let first = records.next()?.ok()?;
        let Event::ThreadStarted(started) = first.event else { return None };
        let mut detail = Self::new(started, first.time);
        for record in records.map_while(Result::ok) {
            detail.summary.updated = record.time;
            detail.add(record.event);
        }
        Some(detail)
    }

    fn new(started: ThreadStarted, time: String) -> Self {
        let summary = Summary {
            id: started.thread.clone(),
            kind: started.kind,
            state: State::Running,
            workspace: started.workspace.clone(),
            workspace_b64: started.workspace_b64.clone(),
            title: started.title.clone(),
            created: time.clone(),
            updated: time,
            changes: 0,
        };
        Self {
            summary,
            started,
            phases: Vec::new(),
            checks: Vec::new(),
            usage: Usage::default(),
            cloned: None,
            changes: None,
            changed: String::new(),
            branched: None,
            is_discarded: false,
            finished: None,
            questions: BTreeSet::new(),
        }
    }

    fn add(&mut self, event: Event) {
        match event {
            Event::ThreadStarted(_) | Event::ThreadResumed(_) => {
                self.summary.state = State::Running;
                self.finished = None;
                self.questions.clear();
                self.checks.clear();
            }
            Event::Phase(phase) => self.phase(phase),
            Event::Question(question) => {
                self.questions.insert(question.id);
                self.summary.state = State::Waiting;
            }
            Event::Answer(answer) => {
                self.questions.remove(&answer.id);
                if self.questions.is_empty() {
                    self.summary.state = State::Running;
                }
            }
            Event::Usage(usage) => {
                self.usage.input_tokens += usage.input_tokens;
                self.usage.output_tokens += usage.output_tokens;
            }
            Event::Check(check) => self.checks.push(check),
            Event::Changes(changes) => {
                self.changed.clone_from(&self.summary.updated);
                // That was of an earlier result.
                self.branched = None;
                self.summary.changes = changes.files;
                self.changes = Some(changes);
                self.is_discarded = false;
            }
            Event::Discarded(_) => {
                self.summary.changes = 0;
                self.changes = None;
                self.is_discarded = true;
            }
            Event::Cloned(cloned) => self.cloned = Some(cloned),
            Event::Branched(branched) => self.branched = Some(branched),
            Event::ThreadFinished(finished) => {
                self.summary.state = finished.state;
                self.finished = Some((finished.exit, finished.summary));
            }
            Event::Policy(_)
            | Event::Note { .. }
            | Event::Message(_)
            | Event::CommandStarted(_)
            | Event::CommandFinished(_)
            | Event::Edit(_)
            | Event::Slip { .. }
            | Event::Used(_)
            | Event::Denial(_)
            | Event::Held(_)
            | Event::ConnectionOpened(_)
            | Event::Connection(_)
            | Event::Applied(_)
            | Event::Proposed(_)
            | Event::Recovered(_)
            | Event::Unknown => {}
        }
    }

    fn phase(&mut self, phase: Phase) {
        if phase.name == "queue" {
            let waits = phase.state == PhaseState::Started;
            self.summary.state = if waits { State::Queued } else { State::Running };
        }
        let Phase { name, state, seconds } = phase;
        let running = self.phases.iter_mut().rev().find(|seen| seen.name == name);
        match running.filter(|seen| seen.state == PhaseState::Started) {
            Some(seen) => (seen.state, seen.seconds) = (state, seconds),
            None => self.phases.push(PhaseSeen { name, state, seconds }),
        }
    }
}
