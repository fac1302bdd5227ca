//! Questions of what runs under `stockade run`, and of agents' own programs: who is asked, and what configuration says to a yes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use stockade_agents::Stop;
use stockade_config::{Env, Loaded, Openings};
use stockade_policy::{Grant, Mode, Policy};
use stockade_sandbox::Pauser;
use stockade_threads::approvals::{Asking, Keep};
use stockade_threads::hits::Hits;
use stockade_threads::record::Event;
use stockade_threads::{Ask, Bounds, InPlace, InPlaceOf, Nobody, Programmed};

use super::keep;
use super::run_log::RunLog;
use crate::ui::{self, relay::Relay};

/// What configuration says of opening a path, looked up when somebody asks.
struct Opening {
    env: Env,
    loaded: Loaded,
    openings: OnceLock<Openings>,
}

impl stockade_threads::Openings for Opening {
    fn open(&self, path: &Path) -> Result<Grant, String> {
        let openings = self.openings.get_or_init(|| Openings::of(&self.env, &self.loaded));
        openings.open(path).map_err(|error| error.to_string())
    }
}

/// Who is asked what a run tries beyond its boundary.
pub(super) struct Asked {
    pub(super) questions: Arc<InPlace<'static>>,
    /// How its terminal is had for a question.
    pub(super) pauser: Option<Pauser>,
}

impl Asked {
    /// Nothing of the run is left: takes its last questions back.
    pub(super) fn tell_kept(&self, is_quiet: bool) {
        for text in self.questions.finish().iter().filter(|_| !is_quiet) {
            ui::say("stockade", text);
        }
    }
}

/// The questions of a run; `None` where nobody is asked, or nothing would keep what was.
pub(super) fn of_run(
    log: &RunLog,
    (env, loaded): (&Env, &Loaded),
    policy: &Policy,
) -> Option<Asked> {
    if !asks(loaded) {
        return None;
    }
    let (root, id) = log.place()?;
    let of = of((env, loaded), policy, Box::new(log.notes()));
    let of = InPlaceOf { undo: Some((root.clone(), id.clone())), ..of };
    let openings = of.openings;
    Some(asked((env, loaded), openings, |asking, stop| {
        InPlace::of_run((&root, &id), asking, stop, of)
    }))
}

/// The questions of a program that is a thread, whose record `told` is called about when it has
/// grown; `None` where nobody is asked.
pub(super) fn of_thread(
    (thread, store, told): (&Programmed, &Path, impl Fn() + Send + Sync + 'static),
    (env, loaded): (&Env, &Loaded),
    policy: &Policy,
) -> Option<Asked> {
    if !asks(loaded) {
        return None;
    }
    let note = thread.notes();
    let note = move |event: &Event| {
        note(event);
        told();
    };
    let of = of((env, loaded), policy, Box::new(note));
    let undo = Some((store.to_owned(), thread.id().clone()));
    let of = InPlaceOf { drafts: thread.drafts(), undo, ..of };
    let place = (thread.id(), thread.folder());
    let openings = of.openings;
    Some(asked((env, loaded), openings, |asking, stop| InPlace::of_thread(place, asking, stop, of)))
}

fn asks(loaded: &Loaded) -> bool {
    let approval = loaded.approval;
    loaded.policy.mode != Mode::DangerFullAccess
        && (approval.asks_to_cross() || approval.asks_by_rule())
}

fn of(
    (env, loaded): (&Env, &Loaded),
    policy: &Policy,
    note: Box<dyn Fn(&Event) + Send + Sync>,
) -> InPlaceOf<'static> {
    let opening = Opening { env: env.clone(), loaded: loaded.clone(), openings: OnceLock::new() };
    InPlaceOf {
        bounds: Bounds::new(policy.clone(), loaded.unprotected.clone()),
        // As long as this process, which ends with the run.
        openings: Some(Box::leak(Box::new(opening))),
        rules: loaded.rule_set(),
        approval: loaded.approval,
        note,
        drafts: Vec::new(),
        hits: env.state_folder().map(|state| Hits::of(&state)),
        undo: None,
    }
}

fn asked(
    (env, loaded): (&Env, &Loaded),
    openings: Option<&'static dyn stockade_threads::Openings>,
    questions: impl FnOnce(&Asking<'static>, &'static Stop) -> Arc<InPlace<'static>>,
) -> Asked {
    let stop: &'static Stop = Box::leak(Box::default());
    let pauser = Pauser::new().ok();
    let relay = pauser.clone().map(|pauser| Relay::new(pauser, loaded.agent.notify));
    let ask: &'static dyn Ask = match relay {
        Some(relay) => Box::leak(Box::new(relay)),
        None => &Nobody,
    };
    // As long as this process, as the rest.
    let keep: &'static Keep = Box::leak(Box::new(keep::keep(env, loaded)));
    let limit = loaded.agent.question_timeout;
    let answers = keep::answered(loaded);
    let asking = Asking { limit, keep: Some(keep), openings, answers, ..Asking::of(ask) };
    Asked { questions: questions(&asking, stop), pauser }
}
