//! The record of a run: begun before anything runs, ended when nothing is left of it.
//!
//! A disk that is full or read-only is said and costs the record, not the run, unless
//! `log.required` wants it otherwise.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use stockade_config::{Env, Loaded};
use stockade_policy::{AbsPath, Mode, Policy};
use stockade_sandbox::{Keeping, Outcome};
use stockade_threads::network::Connections;
use stockade_threads::record::{Denial, Event, Held, State};
use stockade_threads::undo::{self, Segment};
use stockade_threads::{NewRun, RunEnd, RunRecord, ThreadId, place};

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::{Failure, of_signal};
use crate::ui;

/// A run's record, if there is one.
pub(super) struct RunLog {
    record: Arc<Mutex<Option<RunRecord>>>,
    /// The store that it is in.
    root: Option<PathBuf>,
    is_quiet: bool,
    kept: Option<Segment>,
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
    let mut kept = None;
    let record = match RunRecord::begin((root.as_deref(), copy), &new, is_required) {
        Ok(record) => {
            kept.clone_from(&root);
            Some(record)
        }
        Err(error) if is_required => {
            let failure = Failure::from(error);
            return Err(failure.with_hint("`log.required` lets nothing run that is not recorded"));
        }
        Err(error) => {
            if !arguments.quiet {
                // What it replaces is kept beside its record.
                let has_undo = loaded.policy.mode == Mode::WorkspaceWrite;
                let undo =
                    if has_undo { ", and `stockade undo` will have nothing of it" } else { "" };
                let why = ui::chain(&error);
                ui::say("warning", &format!("this run is not recorded{undo}: {why}"));
            }
            // The copy is there all the same.
            spare.and_then(|spare| RunRecord::begin((None, Some(spare)), &new, false).ok())
        }
    };
    // A folder that is new was not there to be hidden.
    let made = root.filter(|_| !was_there).and_then(|root| root.canonicalize().ok());
    policy.hidden.extend(made.and_then(|root| AbsPath::new(root).ok()));
    let record = Arc::new(Mutex::new(record));
    let connections = Arc::new(Connections::written(notes_in(&record)));
    Ok(RunLog { record, root: kept, is_quiet: arguments.quiet, kept: None, connections })
}

/// Takes down what happens, as long as the record is open.
fn notes_in(
    record: &Arc<Mutex<Option<RunRecord>>>,
) -> impl Fn(&Event) + Send + Sync + use<> + 'static {
    let record = Arc::clone(record);
    move |event| {
        if let Some(record) = &mut *record.lock().unwrap_or_else(PoisonError::into_inner) {
            record.note(event);
        }
    }
}

impl RunLog {
    /// The run's name, if it is recorded.
    pub(super) fn id(&self) -> Option<ThreadId> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.as_ref().map(|record| record.id().clone())
    }

    /// The store that it is in, and its name there.
    pub(super) fn place(&self) -> Option<(PathBuf, ThreadId)> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.root.clone()?, record.as_ref()?.id().clone()))
    }

    /// Takes down what happens while the command runs.
    pub(super) fn notes(&self) -> impl Fn(&Event) + Send + Sync + use<> {
        notes_in(&self.record)
    }

    /// Takes down the policy.
    pub(super) fn tell_policy(&self, loaded: &Loaded) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &mut *record {
            record.tell_policy(&loaded.policy, loaded.sources());
        }
    }

    /// Where what the run replaces is to be kept, if it can be.
    pub(super) fn keep(
        &mut self,
        env: &Env,
        policy: &Policy,
        direct: &[PathBuf],
    ) -> Option<Keeping> {
        let root = env.state_folder();
        let kept = self.record.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.keeps(
            root.as_deref(),
            policy,
            direct,
        );
        self.kept = kept.unwrap_or_else(|why| {
            if !self.is_quiet {
                ui::say("warning", &why);
            }
            None
        });
        self.kept.as_ref().map(Segment::keeping)
    }

    /// Ends it with how the run ended, or why it could not begin, and what was refused.
    pub(super) fn end(
        self,
        loaded: &Loaded,
        outcome: &Result<Outcome, Failure>,
        (denials, held): (Vec<Denial>, Vec<Held>),
    ) {
        if let Some(kept) = &self.kept {
            match outcome {
                Ok(_) => {
                    if let Some(text) = undo::missing(kept).filter(|_| !self.is_quiet) {
                        ui::say("stockade", &text);
                    }
                }
                Err(_) => kept.forget(),
            }
        }
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut record) = record else { return };
        let left_out = self.connections.left_out();
        if left_out > 0 {
            let text = format!("{left_out} further connections and refusals are not in the record");
            record.note(&Event::Note { text });
        }
        let (state, exit, summary) = match outcome {
            Ok(Outcome::Exited(0)) => (State::Completed, 0, "exit 0".to_owned()),
            Ok(Outcome::Exited(status)) => (State::Failed, *status, format!("exit {status}")),
            Ok(Outcome::Killed(signal)) => {
                (State::Interrupted, of_signal(*signal), format!("ended by signal {signal}"))
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
                held,
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
