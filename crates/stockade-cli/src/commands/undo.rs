//! `stockade undo`: takes back what a thread changed, or takes that back.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use stockade_policy::Mode;
use stockade_threads::record::PathText;
use stockade_threads::store::Detail;
use stockade_threads::undo::{self, Options, Outcome, Taken, UndoError, Why};
use stockade_threads::{ThreadId, quoted};

use super::threads::{Desk, FAILED, File, Place, of_store, unprinted};
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade undo`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    place: Place,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Also what was changed since
    #[arg(long)]
    force: bool,
    /// Take the last undo of the thread back instead
    #[arg(long)]
    redo: bool,
    /// Print one JSON array of files
    #[arg(long)]
    json: bool,
    /// The thread: its ID, the start of it, or `last`; none: the latest here that is not yet undone
    #[arg(default_value = "last")]
    id: String,
    /// Files or folders; none: all
    paths: Vec<PathBuf>,
}

/// Takes back; the value is the exit status.
pub(crate) fn run(arguments: &UndoArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = find(&desk, arguments)?;
    let options = Options {
        paths: desk.absolute(&arguments.paths),
        is_forced: arguments.force,
        is_preview: arguments.dry_run,
        is_redo: arguments.redo,
    };
    let taken = undo::undo(desk.store(), &id, &options).map_err(|error| of_undo(&error))?;
    tell(arguments, (&id, desk.here()), &taken)?;
    if undo::is_cut(desk.store(), &id) {
        let text = "not all of it: from some point on nothing could be kept (a full disk), and what \
                    the thread changed after that stays";
        ui::say("stockade", text);
    }
    let is_left = |taken: &Taken| matches!(taken.outcome, Outcome::Left(_));
    Ok(u8::from(taken.iter().any(is_left)))
}

fn find(desk: &Desk, arguments: &UndoArgs) -> Result<ThreadId, Failure> {
    if arguments.id == "last" {
        let found = undo::latest(desk.store(), desk.here(), arguments.redo);
        let id = found.map_err(|error| of_undo(&error))?;
        if !arguments.redo {
            say_unkept(desk, &id);
        }
        return Ok(id);
    }
    desk.store().find(&arguments.id, desk.here()).map_err(|error| {
        let failure = of_store(error);
        if desk.here().join(&arguments.id).exists() {
            let hint =
                format!("paths come after the thread: `stockade undo last {}`", arguments.id);
            return failure.with_hint(&hint);
        }
        failure
    })
}

/// Says that the last run here kept nothing, where that is not the one that is taken back.
fn say_unkept(desk: &Desk, id: &ThreadId) {
    // Somebody who only wants to know less is told less, not refused.
    let all = desk.store().list(Some(desk.here())).unwrap_or_default();
    let last = all.first().and_then(|last| last.id.parse::<ThreadId>().ok());
    let last = last.filter(|last| last != id).and_then(|last| desk.store().detail(&last).ok());
    let is_free = |detail: &&Detail| detail.started.mode == Mode::DangerFullAccess.as_str();
    if let Some(detail) = last.as_ref().filter(is_free) {
        let text = format!(
            "the last run here, {}, was without a boundary: nothing of it is kept, and this is an \
             earlier one",
            detail.summary.id
        );
        ui::say("stockade", &text);
    }
}

fn tell(
    arguments: &UndoArgs,
    (id, here): (&ThreadId, &Path),
    taken: &[Taken],
) -> Result<(), Failure> {
    let words = |outcome: &Outcome| match outcome {
        Outcome::Restored => "restored",
        Outcome::Removed => "removed",
        Outcome::Left(_) => "left",
    };
    if arguments.json {
        let files = taken.iter().map(|taken| File {
            path: PathText::from(taken.path.as_path()),
            outcome: words(&taken.outcome),
            why: match &taken.outcome {
                Outcome::Left(why) => Some(why.to_string()),
                Outcome::Restored | Outcome::Removed => None,
            },
        });
        return ui::json(&files.collect::<Vec<_>>()).map_err(unprinted);
    }
    let is_done = !arguments.dry_run;
    let wish = |outcome: &Outcome| match outcome {
        Outcome::Restored => "restore",
        Outcome::Removed => "remove",
        Outcome::Left(_) => "leave",
    };
    for Taken { path, outcome } in taken {
        let why = match outcome {
            Outcome::Left(why) => format!(": {why}"),
            Outcome::Restored | Outcome::Removed => String::new(),
        };
        let path = path.strip_prefix(here).ok().filter(|path| *path != "").unwrap_or(path);
        let path = quoted(path.as_os_str().as_bytes());
        let word = if is_done { words(outcome) } else { wish(outcome) };
        ui::line(&format!("{word:<8} {path}{why}")).map_err(unprinted)?;
    }
    let left = taken.iter().filter(|taken| matches!(taken.outcome, Outcome::Left(_))).count();
    let done = taken.len() - left;
    let would = if arguments.dry_run { "would be " } else { "" };
    let verb = if arguments.redo { "brought back" } else { "taken back" };
    let text = match (done, left) {
        (0, 0) => format!("nothing to do: the files are as they were; thread {id}"),
        (1, _) => format!("1 name {would}{verb}; thread {id}"),
        _ => format!("{done} names {would}{verb}; thread {id}"),
    };
    ui::say("stockade", &text);
    if taken.iter().any(|it| it.outcome == Outcome::Left(Why::Changed)) {
        ui::hint("what changed since was left; `--force` takes that back too");
    }
    Ok(())
}

fn of_undo(error: &UndoError) -> Failure {
    Failure::of(error, FAILED, error.hint())
}
