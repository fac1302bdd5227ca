//! The record of a run: begun before anything runs, ended when nothing is left of it.
//!
//! A disk that is full or read-only is said and costs the record, not the run, unless
//! `log.required` wants it otherwise.

use std::ffi::OsString;
use std::sync::Arc;

use stockade_config::{Env, Loaded};
use stockade_policy::{AbsPath, Policy};
use stockade_sandbox::Outcome;
use stockade_threads::network::Connections;
use stockade_threads::record::{Denial, State};
use stockade_threads::{NewRun, RunEnd, RunRecord, place};

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

/// A run's record, if there is one.
pub(super) struct RunLog {
    record: Option<RunRecord>,
    is_quiet: bool,
    /// What of the network is to be recorded.
    pub(super) connections: Arc<Connections>,
}

/// Begins it. What it makes in the user's folders is hidden in the run.
pub(super) fn begin(
    arguments: &BoundaryArgs,
    (env, words): (&Env, &[OsString]),
    loaded: &Loaded,
    policy: &mut Policy,
) -> Result<RunLog, Failure> {
    let copy = boundary::json_file(arguments, &loaded.policy)?;
    let root = env.state_folder();
    let was_there = root.as_ref().is_some_and(|root| root.exists());
    let new = NewRun {
        words,
        policy: &loaded.policy,
        approval: loaded.approval,
        enforcement: place::walls(loaded.policy.mode),
    };
    let is_required = loaded.is_record_required;
    if root.is_none() && is_required {
        let text = "`log.required`, and there is no place for the record: no home is known";
        return Err(Failure::new(text, "set `HOME`"));
    }
    let spare = copy.as_ref().and_then(|(file, path)| Some((file.try_clone().ok()?, path.clone())));
    let record = match RunRecord::begin((root.as_deref(), copy), &new, is_required) {
        Ok(record) => Some(record),
        Err(error) if is_required => {
            let failure = Failure::from(error);
            return Err(failure.with_hint("`log.required` lets nothing run that is not recorded"));
        }
        Err(error) => {
            if !arguments.quiet {
                ui::say("warning", &format!("this run is not recorded: {}", ui::chain(&error)));
            }
            // The copy is there all the same.
            spare.and_then(|spare| RunRecord::begin((None, Some(spare)), &new, false).ok())
        }
    };
    // A folder that is new was not there to be hidden.
    let made = root.filter(|_| !was_there).and_then(|root| root.canonicalize().ok());
    policy.hidden.extend(made.and_then(|root| AbsPath::new(root).ok()));
    Ok(RunLog { record, is_quiet: arguments.quiet, connections: Arc::default() })
}

impl RunLog {
    /// Ends it with how the run ended, or why it could not begin, and what was refused.
    pub(super) fn end(
        self,
        loaded: &Loaded,
        outcome: &Result<Outcome, Failure>,
        denials: Vec<Denial>,
    ) {
        let Some(record) = self.record else { return };
        let (state, exit, summary) = match outcome {
            Ok(Outcome::Exited(0)) => (State::Completed, 0, "exit 0".to_owned()),
            Ok(Outcome::Exited(status)) => (State::Failed, *status, format!("exit {status}")),
            Ok(Outcome::Killed(signal)) => {
                let exit = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                (State::Interrupted, exit, format!("ended by signal {signal}"))
            }
            Ok(Outcome::TimedOut(limit)) => {
                (State::Failed, 124, format!("ended at its wall-time limit of {limit:?}"))
            }
            Ok(Outcome::OverLimit(exceeded)) => {
                (State::Failed, 137, super::run::over_limit(*exceeded).0)
            }
            Err(failure) => (State::Failed, failure.status(), failure.text().to_owned()),
        };
        let ended = record.end(
            &loaded.policy,
            RunEnd {
                state,
                exit,
                summary,
                has_run: outcome.is_ok(),
                denials,
                connections: self.connections.take(),
                sources: loaded.sources(),
            },
        );
        if let Err(error) = ended
            && (!self.is_quiet || loaded.is_record_required)
        {
            let text = format!("the end of this run is not recorded: {}", ui::chain(&error));
            ui::say("warning", &text);
        }
    }
}
