//! `stockade local`: an agent at work on these files, inside the boundary.

mod external;
mod talk;

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::thread;

use stockade_agents::Stop;
use stockade_config::{Env, Loaded, Openings};
use stockade_policy::Grant;
use stockade_sandbox::Interrupts;
use stockade_threads::approvals::Asking;
use stockade_threads::local::{self, Company, Ended, LocalTask};
use stockade_threads::record::State;
use stockade_threads::store::Store;
use stockade_threads::{Bounds, Judge, Watch};

use super::{agent, boundary, execs, held, keep};
use crate::cli::{BoundaryArgs, LocalArgs};
use crate::failure::Failure;
use crate::ui;
use crate::ui::live::{Json, Text};
use crate::ui::prompt::Prompt;
use talk::Talk;

/// The longest prompt, in bytes.
const PROMPT_MAX: u64 = 1024 * 1024;

/// What is said of a draft.
pub(super) const KEPT: &str = "; the draft waits for `stockade threads apply`";

/// Runs the thread to its end; the value is the exit status.
pub(crate) fn run(arguments: &LocalArgs) -> Result<u8, Failure> {
    if arguments.agent != agent::BUILT_IN {
        return external::run(arguments);
    }
    let prompt = arguments.prompt.as_deref().map(read_prompt).transpose()?;
    if prompt.is_none() && (arguments.json || arguments.boundary.quiet) {
        let hint = "give the task: `stockade local \"PROMPT\"`, or `-` to read it";
        return Err(Failure::new("a thread without a prompt is for a person to watch", hint));
    }
    let interrupts = hold()?;
    let env = boundary::surroundings(&arguments.boundary)?;
    held::settle_lost(&env);
    let request = boundary::request(&arguments.boundary)?;
    let mut loaded = stockade_config::load(&env, &request)?;
    boundary::announce(&arguments.boundary, &loaded, None, &env);
    let caches = boundary::caches(&arguments.boundary, &mut loaded.policy, (&env, "builtin"));
    let task = task(&loaded, &env)?;
    let start = Start {
        task: LocalTask { is_draft: arguments.draft, caches, ..task },
        store: store(&env)?,
        prompt,
        is_json: arguments.json,
        flags: &arguments.boundary,
        loaded: &loaded,
        env: &env,
    };
    start.run(interrupts)
}

/// Before the first thread, so that all of them hold the signals back.
pub(super) fn hold() -> Result<Interrupts, Failure> {
    Interrupts::hold().map_err(|error| Failure::new(format!("cannot hold signals: {error}"), ""))
}

/// All that a thread begins with, or goes on with.
pub(super) struct Start<'a> {
    pub(super) task: LocalTask,
    pub(super) store: Store,
    /// Without one the user is asked, and again after each turn.
    pub(super) prompt: Option<String>,
    pub(super) is_json: bool,
    pub(super) flags: &'a BoundaryArgs,
    pub(super) loaded: &'a Loaded,
    pub(super) env: &'a Env,
}

impl Start<'_> {
    /// Runs the thread; the value is the exit status.
    pub(super) fn run(mut self, interrupts: Interrupts) -> Result<u8, Failure> {
        let Self { flags, loaded, env, .. } = self;
        let stop = Stop::default();
        let ask = Prompt::new(stop.clone()).calling(loaded.agent.notify);
        let (openings, keep) = (Opening(Openings::of(env, loaded)), keep::keep(env, loaded));
        let asking = &Asking {
            ask: &ask,
            limit: loaded.agent.question_timeout,
            keep: Some(&keep),
            openings: Some(&openings),
            answers: keep::answered(loaded),
        };
        let is_draft = self.task.is_draft;
        let (tokens, time) = (self.task.budget.max_tokens, loaded.policy.limits.wall_time);
        let ended = if let Some(prompt) = self.prompt {
            self.task.prompt = prompt;
            let wish = stop.clone();
            on_interrupt(interrupts, move || wish.request());
            let text = text(flags.quiet, env).within(tokens, time);
            let status = text.status();
            let watch: Box<dyn Watch> =
                if self.is_json { Box::new(Json::new(stop.clone())) } else { Box::new(text) };
            let mut watch = boundary::watched(flags, &loaded.policy, watch)?;
            let next = &mut |_: &Ended| {
                status.hide();
                status.end_line();
                None
            };
            let company = Company { watch: watch.as_mut(), asking, stop: &stop, next };
            let ended = local::run(self.task, &self.store, company)?;
            // Where it was shown while the agent was at work, and in a log nobody misses it.
            if status.is_on() && !self.is_json {
                ui::say("stockade", &status.sum());
            }
            ended
        } else {
            let talk = Talk::begin(interrupts, &stop, ask.turns())?;
            Talk::greet(&self.task);
            let Some(prompt) = talk.ask() else { return Ok(0) };
            self.task.prompt = prompt;
            // The time is the thread's, and what is shown that of a turn.
            let text = text(false, env).within(tokens, None);
            let status = text.status();
            let mut watch = boundary::watched(flags, &loaded.policy, Box::new(text))?;
            let (watch, next) = (watch.as_mut(), &mut |ended: &Ended| talk.next(ended, &status));
            let company = Company { watch, asking, stop: &stop, next };
            local::run(self.task, &self.store, company)?
        };
        if !flags.quiet {
            report(&ended, if is_draft { KEPT } else { "" });
            if ended.state == State::Interrupted {
                ui::hint(&format!("`stockade threads resume {}` goes on with it", ended.thread));
            }
        }
        Ok(ended.exit)
    }
}

/// What configuration says of opening a path.
struct Opening(Openings);

impl stockade_threads::Openings for Opening {
    fn open(&self, path: &Path) -> Result<Grant, String> {
        self.0.open(path).map_err(|error| error.to_string())
    }
}

/// The task, from standard input when it is `-`.
pub(super) fn read_prompt(prompt: &str) -> Result<String, Failure> {
    let mut text = prompt.to_owned();
    if prompt == "-" {
        text.clear();
        let read = std::io::stdin().take(PROMPT_MAX).read_to_string(&mut text);
        read.map_err(|error| Failure::new(format!("cannot read the prompt: {error}"), ""))?;
    }
    if text.trim().is_empty() {
        return Err(Failure::new("the prompt is empty", "say what is to be done"));
    }
    Ok(text)
}

pub(super) fn task(loaded: &Loaded, env: &Env) -> Result<LocalTask, Failure> {
    let policy = loaded.policy.clone();
    Ok(LocalTask {
        prompt: String::new(),
        model: agent::model(loaded, env)?,
        judge: Judge { rules: loaded.rule_set(), mode: policy.mode, approval: loaded.approval },
        bounds: Bounds::new(policy, loaded.unprotected.clone()),
        environment: loaded.environment.clone(),
        caches: None,
        execs: execs::held_in_thread(loaded),
        budget: agent::budget(loaded),
        is_draft: false,
        goes_on: None,
    })
}

/// Where threads are kept.
pub(super) fn store(env: &Env) -> Result<Store, Failure> {
    let folder = env.state_folder().ok_or_else(|| {
        Failure::new("no place for the thread's record: no home is known", "set `HOME`")
    })?;
    Ok(Store::open(&folder)?)
}

/// Calls `wish` for each signal by which the user, or a session manager, asks to end.
pub(super) fn on_interrupt(interrupts: Interrupts, mut wish: impl FnMut() + Send + 'static) {
    on_signal(interrupts, move |_| wish());
}

/// The same with the signal's number.
pub(super) fn on_signal(interrupts: Interrupts, mut wish: impl FnMut(i32) + Send + 'static) {
    // Without a thread for it the signals would only be held back; the process can still be
    // killed, and the place goes with it.
    thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || {
            while let Ok(signal) = interrupts.next() {
                wish(signal);
            }
        })
        .ok();
}

/// Who watches: a script, or a person.
pub(super) fn watch((json, quiet): (bool, bool), env: &Env, stop: &Stop) -> Box<dyn Watch> {
    if json {
        return Box::new(Json::new(stop.clone()));
    }
    Box::new(text(quiet, env))
}

/// Whether the user wants no colours, and whether their terminal takes nothing back.
pub(super) fn of_terminal(env: &Env) -> (bool, bool) {
    let is_plain = env.vars.contains_key(OsStr::new("NO_COLOR"));
    let is_dumb = env.vars.get(OsStr::new("TERM")).is_none_or(|term| term == "dumb");
    (is_plain, is_dumb)
}

/// Whether their terminal, made narrower, cuts lines instead of breaking them anew.
fn cuts_lines(env: &Env) -> bool {
    let has = |name: &str| env.vars.contains_key(OsStr::new(name));
    let is_console = env.vars.get(OsStr::new("TERM")).is_some_and(|term| term == "linux");
    // Inside tmux the outer terminal's own variables say nothing.
    !has("TMUX") && (is_console || has("XTERM_VERSION") || has("STY"))
}

/// For a person, with what their terminal can.
pub(super) fn text(is_quiet: bool, env: &Env) -> Text {
    let (is_plain, is_dumb) = of_terminal(env);
    Text::new(is_quiet, is_plain, is_dumb).cut(cuts_lines(env))
}

/// How it ended; `rest` is said after that.
pub(super) fn report(ended: &Ended, rest: &str) {
    for note in &ended.notes {
        ui::say("stockade", note);
    }
    let kind = if ended.state == State::Failed { "error" } else { "stockade" };
    let text = match ended.state {
        State::Completed => "finished",
        State::Interrupted => "interrupted",
        State::Queued | State::Running | State::Waiting | State::Failed | State::Cancelled => {
            &ended.summary
        }
    };
    ui::say(kind, &format!("{text}{rest}; thread {}", ended.thread));
    if let Some(hint) = &ended.hint {
        ui::hint(hint);
    }
}
