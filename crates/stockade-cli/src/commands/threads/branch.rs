//! `stockade threads branch`: a branch of the user's repository, made of what a thread changed.

use clap::Args;
use stockade_threads::ThreadId;
use stockade_threads::branch::{BranchError, BranchTask, branch};
use stockade_threads::flags::{Weight, flags};
use stockade_threads::quoted;
use stockade_threads::record::{Branched, Event};
use stockade_threads::store::Detail;

use super::{Desk, FAILED, Place, no_changes, of_store, unprinted};
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade threads branch`.
#[derive(Debug, Args)]
pub(crate) struct BranchArgs {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object: `branch`, `commit`
    #[arg(long)]
    json: bool,
    /// The thread: its ID, the start of it, or `last`
    #[arg(default_value = "last")]
    id: String,
    /// The branch's name; without one, `stockade/TITLE`
    name: Option<String>,
}

pub(super) fn run(arguments: &BranchArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let branched = make(&desk, &id, arguments.name.as_deref())?;
    if arguments.json {
        ui::json(&branched).map_err(unprinted)?;
    } else {
        let commit = branched.commit.get(..12).unwrap_or(&branched.commit);
        ui::line(&format!("{} {commit}", branched.branch)).map_err(unprinted)?;
        ui::hint(&format!("`git switch {}` takes it up", branched.branch));
    }
    Ok(0)
}

/// Makes the branch, records it, and says what in it deserves a look.
pub(super) fn make(desk: &Desk, id: &ThreadId, name: Option<&str>) -> Result<Branched, Failure> {
    // Held while the branch is made, so that nobody drops the changes meanwhile.
    let thread = desk.store.resume(id).map_err(of_store)?;
    let detail = desk.detail(id)?;
    let Detail { summary, changes, changed, finished, .. } = &detail;
    let Some(changes) = changes else { return Err(no_changes(id, &detail)) };
    let said = finished.as_ref().map(|(_, words)| words.as_str()).unwrap_or_default();
    let task = BranchTask {
        thread: id.as_str(),
        folder: thread.folder(),
        changes,
        when: changed,
        title: &summary.title,
        summary: said,
        name,
    };
    let branched = branch(&task).map_err(|error| of_branch(&error))?;
    if detail.branched.as_ref() != Some(&branched) {
        thread.record(&Event::Branched(branched.clone())).map_err(of_store)?;
    }
    if let Some(changes) = desk.changes(id, &detail)? {
        for flag in flags(&changes).map_err(|error| Failure::of(&error, FAILED, None))? {
            if flag.weight == Weight::Hold {
                let path = quoted(flag.path.to_path().as_os_str().as_encoded_bytes());
                let what = flag.flag.as_str();
                ui::say(
                    "stockade",
                    &format!("look at this before you take it up: {path} ({what})"),
                );
            }
        }
    }
    Ok(branched)
}

fn of_branch(error: &BranchError) -> Failure {
    Failure::of(error, FAILED, error.hint())
}
