//! `stockade threads resume`: a thread goes on, or is followed up.

use clap::Args;
use stockade_config::Request;
use stockade_policy::Mode;
use stockade_sandbox::Interrupts;
use stockade_threads::ThreadId;
use stockade_threads::cloud::{self, Wishes};
use stockade_threads::record::{Event, Kind};
use stockade_threads::store::Store;

use super::{Desk, FAILED, MISUSED, Place, of_store};
use crate::cli::BoundaryArgs;
use crate::commands::{boundary, cloud as machine, local};
use crate::failure::Failure;
use crate::ui;
use crate::ui::prompt::Prompt;

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

pub(super) fn run(arguments: &ResumeArgs) -> Result<u8, Failure> {
    go_on(arguments).map_err(|failure| failure.unless_status(MISUSED, FAILED))
}

fn go_on(arguments: &ResumeArgs) -> Result<u8, Failure> {
    let flags = &arguments.boundary;
    machine::refuse_walls(flags)?;
    let interrupts = Interrupts::hold()
        .map_err(|error| Failure::new(format!("cannot hold signals: {error}"), ""))?;
    let env = boundary::surroundings(flags)?;
    let desk = Desk::open(&Place { folder: flags.folder.clone() })?;
    let store = local::store(&env)?;
    let id = desk.find(&arguments.id)?;
    let detail = desk.detail(&id)?;
    if detail.summary.kind != Kind::Cloud {
        let text = "not yet: `stockade threads resume` of a local thread";
        return Err(Failure::new(text, "`stockade local \"PROMPT\"` begins another"));
    }
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
    let loaded = stockade_config::load_with_rules(&env, &request)
        .map_err(|error| Failure::from(error).with_status(MISUSED))?;
    if !flags.quiet {
        loaded.warnings.iter().for_each(|warning| ui::say("warning", warning));
    }
    let work = machine::agents_work(prompt, &loaded, &env)?;
    let task = machine::task_of(work, &loaded, &request, &env)?;
    let wishes = Wishes::default();
    machine::on_interrupt(interrupts, &wishes);
    let ask = Prompt::new(wishes.stop.clone());
    let watch = local::watch((arguments.json, flags.quiet), &env, &wishes.stop);
    let mut watch = boundary::watched(flags, &loaded.policy, watch)?;
    let outcome = cloud::resume(&task, &store, &id, watch.as_mut(), (&ask, &wishes))?;
    if !flags.quiet {
        machine::report(&outcome, &store);
    }
    Ok(outcome.ended.exit)
}

/// Whether an agent has worked on it.
fn is_agents(store: &Store, id: &ThreadId) -> Result<bool, Failure> {
    let mut records = store.records(id).map_err(of_store)?.map_while(Result::ok);
    Ok(records.any(|record| matches!(record.event, Event::Message(_))))
}
