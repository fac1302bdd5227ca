//! What is done in a machine: the work, checks.

use std::ffi::OsString;
use std::time::Instant;

use stockade_agents::{AgentError, HandsError, Task};

use super::{Files, Running, Work};
use crate::ended::Ended;
use crate::instructions::Instructions;
use crate::place::Vm;
use crate::record::{Check, Event, Message, Role, State};
use crate::session::{Session, Typed};
use crate::store::StoreError;
use crate::surroundings;

/// Why there is nothing more to be done in the machine.
pub(super) enum WorkEnd {
    Ended(Ended),
    Store(StoreError),
}

impl From<StoreError> for WorkEnd {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Running<'_> {
    pub(super) fn work(&self, session: &Session<'_>, vm: &Vm) -> Result<Ended, WorkEnd> {
        match (&self.task.work, &self.agent) {
            (Work::Agent { prompt, budget, .. }, Some(agent)) => {
                let folders: Vec<_> =
                    self.inner.ancestors().map(|inner| self.place().join(inner)).collect();
                let instructions = Instructions::new(session, budget.context_tokens).read(&folders);
                let place = (self.place(), self.inner.as_path());
                let before = self.before.as_ref();
                let work = Task {
                    prompt: before.map_or_else(|| prompt.clone(), |before| before.task(prompt)),
                    system: surroundings::describe_machine(&self.task.judge, place, &instructions),
                    max_turns: budget.max_turns,
                    max_tokens: budget.max_tokens,
                    context_tokens: budget.context_tokens,
                    command_timeout: budget.command_timeout,
                };
                let stop = &self.user.wishes.stop;
                let result = agent.run(&work, session, &mut |event| session.heard(event), stop);
                Ok(Ended::of_agent(self.thread, result))
            }
            (Work::External(agent), _) => self.external((session, vm), agent),
            (Work::Command(argv), _) => Ok(self.command(session, argv)),
            (Work::Agent { .. }, None) => {
                unreachable!("an agent's task has an agent from the start")
            }
        }
    }

    /// What the user wants, as soon as there is a record: it is gone on with even when no machine came up.
    pub(super) fn record_task(&self) -> Result<(), StoreError> {
        let text = match &self.task.work {
            Work::Agent { prompt, .. } => prompt,
            Work::External(agent) => &agent.prompt,
            Work::Command(_) => return Ok(()),
        };
        let said = Message { role: Role::User, text: text.clone() };
        self.journal.record(&Event::Message(said))
    }

    fn command(&self, session: &Session<'_>, argv: &[OsString]) -> Ended {
        let environment = self.task.files.as_ref().map(Files::environment);
        let command = Typed { argv, folder: &self.inner, environment };
        match session.typed(command, (self.user.screen, self.user.feed)) {
            Ok(end) => {
                let state = if end.status == 0 { State::Completed } else { State::Failed };
                let said = format!("the command ended with status {}", end.status);
                self.ended(state, end.status, end.failure.unwrap_or(said))
            }
            Err(HandsError::Interrupted) => {
                Ended::of_agent(self.thread, Err(AgentError::Interrupted))
            }
            Err(
                HandsError::Lost(words) | HandsError::Refused(words) | HandsError::Failed(words),
            ) => Ended::of_agent(self.thread, Err(AgentError::Lost(words))),
        }
    }

    /// Runs all checks; those that fail are in words. A task with one is not done.
    pub(super) fn check(&self, session: &Session<'_>) -> Result<Vec<String>, WorkEnd> {
        let mut failures = Vec::new();
        for line in &self.task.checks {
            let began = Instant::now();
            let exit = match session.unasked(line, (&self.inner, &[])) {
                Ok(exit) => exit,
                Err(HandsError::Interrupted) => {
                    let ended = Ended::of_agent(self.thread, Err(AgentError::Interrupted));
                    return Err(WorkEnd::Ended(ended));
                }
                Err(
                    HandsError::Lost(words)
                    | HandsError::Refused(words)
                    | HandsError::Failed(words),
                ) => {
                    let ended = Ended::of_agent(self.thread, Err(AgentError::Lost(words)));
                    return Err(WorkEnd::Ended(ended));
                }
            };
            let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
            self.journal.record(&Event::Check(Check { name: line.clone(), exit, seconds }))?;
            if exit != 0 {
                failures.push(format!("the check `{line}` ended with status {exit}"));
            }
        }
        Ok(failures)
    }
}
