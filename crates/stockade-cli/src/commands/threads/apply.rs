//! `stockade threads apply`: what a thread changed, into the present files.

use std::path::{Path, PathBuf};

use clap::Args;
use stockade_config::Request;
use stockade_threads::apply::{ApplyError, ApplyOptions, FileOutcome, Outcome, apply};
use stockade_threads::record::{Applied, Event, PathText};
use stockade_threads::{ThreadId, quoted};

use super::{Desk, FAILED, File, MISUSED, Place, of_store, unprinted};
use crate::commands::held;
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade threads apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    place: Place,
    /// Apply what is held: a path, or a flag such as `ci-file`
    #[arg(long, value_name = "PATH|FLAG")]
    accept: Vec<String>,
    /// Write conflict markers into files whose lines both sides changed
    #[arg(long)]
    markers: bool,
    /// Print one JSON array of files
    #[arg(long)]
    json: bool,
    /// With the files that git ignores: of a draft
    #[arg(long)]
    ignored: bool,
    /// The thread: its ID, the start of it, or `last`
    #[arg(default_value = "last")]
    id: String,
    /// Files or folders; none: all
    paths: Vec<PathBuf>,
}

pub(super) fn run(arguments: &ApplyArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let workspace = desk.detail(&id)?.started.workspace();
    let (accept, clean) = release(arguments, (&desk, &id), &workspace)?;
    if let Some(clean) = clean
        && accept.is_empty()
    {
        return Ok(u8::from(!clean));
    }
    let changes = desk.result(&id, arguments.ignored)?;
    // What the user hides from threads, no thread writes to either.
    let request = Request { workspace: Some(workspace), ..Request::default() };
    let loaded = stockade_config::load(&desk.env, &request)
        .map_err(|error| Failure::from(error).with_status(MISUSED))?;
    let hidden = loaded.policy.hidden.iter().map(|path| path.as_path().to_owned());
    let options = ApplyOptions {
        paths: desk.relative(&arguments.paths, changes.root()),
        accept,
        never: hidden.collect(),
        markers: arguments.markers,
        ..ApplyOptions::default()
    };
    let thread = desk.store.resume(&id).map_err(of_store)?;
    let outcomes = apply(&changes, &thread, &options).map_err(|error| of_apply(&error))?;
    note(&thread, &outcomes)?;
    tell(arguments, &outcomes)?;
    let is_clean = outcomes.iter().all(|file| file.outcome.is_clean()) && clean != Some(false);
    Ok(u8::from(!is_clean))
}

/// Puts back what was held at the thread's end and is accepted. The rest of what is accepted, and
/// whether all went well, if anything was meant.
fn release(
    arguments: &ApplyArgs,
    (desk, id): (&Desk, &ThreadId),
    workspace: &Path,
) -> Result<(Vec<String>, Option<bool>), Failure> {
    let names = (arguments.accept.as_slice(), desk.here.as_path(), workspace);
    let (rest, released) = held::release(desk.store.root(), id, names);
    if arguments.json && rest.is_empty() && !released.is_empty() {
        let files = released.iter().map(|(path, done)| File {
            path: PathText::from(path.as_path()),
            outcome: if done.is_ok() { "released" } else { "held" },
            why: done.as_ref().err().map(ToString::to_string),
        });
        ui::json(&files.collect::<Vec<_>>()).map_err(unprinted)?;
    }
    for (path, done) in &released {
        let path = quoted(path.as_os_str().as_encoded_bytes());
        match done {
            Ok(()) if !arguments.json => {
                ui::line(&format!("released  {path}")).map_err(unprinted)?;
            }
            Ok(()) => {}
            Err(error) => ui::say("error", &format!("held as before: `{path}`: {error}")),
        }
    }
    let is_clean = released.iter().all(|(_, done)| done.is_ok());
    Ok((rest, (!released.is_empty()).then_some(is_clean)))
}

/// Records what was done, if anything was.
fn note(thread: &stockade_threads::store::Thread, outcomes: &[FileOutcome]) -> Result<(), Failure> {
    let mut applied = Applied { applied: Vec::new(), left: Vec::new() };
    for file in outcomes {
        let path = PathText::from(file.path());
        match file.outcome {
            Outcome::Applied | Outcome::Merged | Outcome::Marked => applied.applied.push(path),
            Outcome::Conflict(_) | Outcome::Held(_) | Outcome::Refused(_) => {
                applied.left.push(path);
            }
            Outcome::Unchanged => {}
        }
    }
    if applied.applied.is_empty() {
        return Ok(());
    }
    thread.record(&Event::Applied(applied)).map(drop).map_err(of_store)
}

fn tell(arguments: &ApplyArgs, outcomes: &[FileOutcome]) -> Result<(), Failure> {
    let files = outcomes.iter().map(|file| {
        let (outcome, why) = words(&file.outcome);
        File { path: PathText::from(file.path()), outcome, why }
    });
    if arguments.json {
        return ui::json(&files.collect::<Vec<_>>()).map_err(unprinted);
    }
    for (file, outcome) in files.zip(outcomes) {
        if outcome.outcome == Outcome::Unchanged {
            continue;
        }
        let why = file.why.map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("{:<9} {}{why}", file.outcome, quoted(&outcome.path));
        ui::line(&text).map_err(unprinted)?;
    }
    if outcomes.iter().all(|file| file.outcome == Outcome::Unchanged) {
        ui::say("stockade", "nothing to apply: the files are as the thread left them");
    }
    if outcomes.iter().any(|file| matches!(file.outcome, Outcome::Held(_))) {
        ui::hint("look at what is held, then `--accept PATH` or `--accept FLAG`");
    }
    Ok(())
}

fn words(outcome: &Outcome) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Applied => ("applied", None),
        Outcome::Merged => ("merged", None),
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Marked => ("marked", Some("both changed the same lines".to_owned())),
        Outcome::Conflict(why) => ("conflict", Some((*why).to_owned())),
        Outcome::Refused(why) => ("refused", Some((*why).to_owned())),
        Outcome::Held(kinds) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            ("held", Some(names.join(", ")))
        }
    }
}

fn of_apply(error: &ApplyError) -> Failure {
    Failure::of(error, FAILED, None)
}
