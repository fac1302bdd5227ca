//! `stockade threads resume`: a thread goes on, or is followed up.

use std::sync::Arc;

use clap::Args;
use stockade_config::{Env, Request};
use stockade_policy::Mode;
use stockade_sandbox::Interrupts;
use stockade_threads::ThreadId;
use stockade_threads::cloud::{self, User, Wishes};
use stockade_threads::draft::Draft;
use stockade_threads::local::LocalTask;
use stockade_threads::record::{Event, Kind, State};
use stockade_threads::store::{Detail, Store};

use super::{Desk, FAILED, MISUSED, Place, of_draft, of_store};
use crate::cli::BoundaryArgs;
use crate::commands::attached::{self, Begun, Front, Person};
use crate::commands::{agent, boundary, cloud as machine, local};
use crate::failure::Failure;
use crate::ui;
use crate::ui::prompt::{Line, Prompt};

/// What is said to an agent that just goes on.
const GO_ON: &str = "Go on with the task.";

/// Flags of `stockade threads resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON object a line for everything that happens
    #[arg(long)]
    json: bool,
    /// The thread: its ID, the start of it, or `last`
    id: String,
    /// What is to be done now; without it, the task goes on
    prompt: Option<String>,
}

pub(super) fn run(arguments: &ResumeArgs, front: Option<Front>) -> Result<u8, Failure> {
    go_on(arguments, front).map_err(|failure| failure.unless_status(MISUSED, FAILED))
}

fn go_on(arguments: &ResumeArgs, front: Option<Front>) -> Result<u8, Failure> {
    let flags = &arguments.boundary;
    let env = boundary::surroundings(flags)?;
    let desk = Desk::open(&Place { folder: flags.folder.clone() })?;
    let id = desk.find(&arguments.id)?;
    let detail = desk.detail(&id)?;
    let is_cloud = detail.summary.kind == Kind::Cloud;
    if is_cloud && front.is_none() && attached::is_wanted(arguments.json) {
        return attached::in_front();
    }
    let interrupts = local::hold()?;
    let thread = Stood { detail, store: local::store(&env)?, id, env };
    match thread.detail.summary.kind {
        Kind::Local => thread.local(arguments, interrupts),
        Kind::Cloud => thread.cloud(arguments, (interrupts, front)),
        Kind::Run => {
            let text = format!("thread `{}` was one command, and has no task", thread.id);
            Err(Failure::new(text, "`stockade run` starts another"))
        }
    }
}

/// A thread that is to go on.
struct Stood {
    env: Env,
    store: Store,
    id: ThreadId,
    detail: Detail,
}

impl Stood {
    /// On these files: at once with what the user said, or asking them, as `stockade local` does.
    fn local(self, arguments: &ResumeArgs, interrupts: Interrupts) -> Result<u8, Failure> {
        let Self { env, store, id, detail } = self;
        let flags = &arguments.boundary;
        if detail.is_discarded {
            // Without its draft it would write to the files.
            let text = format!("the draft of thread `{id}` was discarded");
            return Err(Failure::new(text, "`stockade local --draft` starts another"));
        }
        let mut prompt = arguments.prompt.as_deref().map(local::read_prompt).transpose()?;
        let is_watched = !arguments.json && !flags.quiet && Line::open(Arc::default()).is_some();
        if prompt.is_none() && !is_watched {
            if detail.summary.state == State::Completed {
                let text = format!("thread `{id}` has finished its task");
                return Err(Failure::new(text, "say what else is to be done"));
            }
            prompt = Some(GO_ON.to_owned());
        }
        let request = boundary::request(flags)?;
        // As it began, unless the user says otherwise.
        let request = Request {
            workspace: Some(detail.started.workspace()),
            mode: request.mode.or(detail.started.mode.parse().ok()),
            approval: request.approval.or(detail.started.policy.parse().ok()),
            ..request
        };
        let mut loaded = stockade_config::load(&env, &request)
            .map_err(|error| Failure::from(error).with_status(MISUSED))?;
        boundary::announce(flags, &loaded, None, &env);
        let is_draft = Draft::open(&store.folder(&id)).map_err(of_draft)?.is_some();
        let caches = boundary::caches(flags, &mut loaded.policy, (&env, "builtin"));
        let task = local::task(&loaded, &env)?;
        let start = local::Start {
            task: LocalTask { is_draft, caches, goes_on: Some(id), ..task },
            store,
            prompt,
            is_json: arguments.json,
            flags,
            loaded: &loaded,
            env: &env,
        };
        start.run(interrupts)
    }

    /// In a new machine.
    fn cloud(
        self,
        arguments: &ResumeArgs,
        (interrupts, front): (Interrupts, Option<Front>),
    ) -> Result<u8, Failure> {
        let Self { env, store, id, detail } = self;
        let flags = &arguments.boundary;
        machine::refuse_walls(flags)?;
        let prompt = match &arguments.prompt {
            Some(prompt) => local::read_prompt(prompt)?,
            None if is_agents(&store, &id)? => GO_ON.to_owned(),
            None => {
                let text = format!("thread `{id}` was one command");
                let hint = "say what is to be done now: `stockade threads resume ID \"PROMPT\"`";
                return Err(Failure::new(text, hint).with_status(MISUSED));
            }
        };
        let workspace = Some(detail.started.workspace());
        let mode = Some(Mode::DangerFullAccess);
        let request = Request { mode, workspace, ..boundary::request(flags)? };
        let loaded = stockade_config::load(&env, &request)
            .map_err(|error| Failure::from(error).with_status(MISUSED))?;
        if !flags.quiet {
            loaded.warnings.iter().for_each(|warning| ui::say("warning", warning));
        }
        // By whom it was begun.
        let agent = detail.started.agent.as_deref().unwrap_or(agent::BUILT_IN);
        let work = machine::agents_work((agent, prompt), &loaded, &env)?;
        let task = machine::task_of(work, &loaded, &request, &env)?;
        let wishes = Wishes::default();
        let ask = Prompt::new(wishes.stop.clone());
        let (watch, status) = machine::watch((arguments.json, flags.quiet), &env, &wishes.stop);
        let begun = Begun::default();
        begun.add(&id.to_string());
        let person = Person { wishes: wishes.clone(), turns: ask.turns(), status, begun };
        attached::heed(interrupts, front, person);
        let mut watch = boundary::watched(flags, &loaded.policy, watch)?;
        let user = User { ask: &ask, wishes: &wishes, screen: None, feed: None };
        let outcome = cloud::resume(&task, &store, &id, watch.as_mut(), user)?;
        if !flags.quiet {
            machine::report(&outcome, &store);
        }
        Ok(outcome.ended.exit)
    }
}

/// Whether an agent has worked on it.
fn is_agents(store: &Store, id: &ThreadId) -> Result<bool, Failure> {
    let mut records = store.records(id).map_err(of_store)?.map_while(Result::ok);
    Ok(records.any(|record| matches!(record.event, Event::Message(_))))
}
