//! `stockade threads diff`: a patch, line counts, or JSON.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stockade_threads::changes::{Change, ChangeSet, Lines};
use stockade_threads::git::GitError;
use stockade_threads::record::{EditKind, PathText};
use stockade_threads::{not_in_diff, quoted};

use super::{Desk, FAILED, Place, unprinted};
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade threads diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    place: Place,
    /// Count lines instead
    #[arg(long)]
    stat: bool,
    /// Print one JSON array of files
    #[arg(long, conflicts_with = "stat")]
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

#[derive(Debug, Serialize)]
struct File {
    #[serde(flatten)]
    path: PathText,
    kind: EditKind,
    /// Missing for content that is no text.
    added: Option<u64>,
    removed: Option<u64>,
}

pub(super) fn run(arguments: &DiffArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let changes = desk.result(&id, arguments.ignored)?;
    let mut recorded = desk.detail(&id)?.changes;
    if let Some(recorded) = recorded.as_mut().filter(|_| arguments.ignored) {
        recorded.ignored = 0;
    }
    for note in recorded.iter().flat_map(not_in_diff) {
        ui::say("stockade", &note);
    }
    let paths = desk.relative(&arguments.paths, changes.root());
    if arguments.json {
        let files = files(&changes, &paths).map_err(of_git)?;
        ui::json(&files).map_err(unprinted)?;
    } else if arguments.stat {
        stat(&changes, &paths)?;
    } else {
        match changes.patch(&paths, &mut |part| ui::bytes(part)) {
            Err(GitError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
            done => done.map_err(of_git)?,
        }
    }
    Ok(0)
}

fn stat(changes: &ChangeSet, paths: &[PathBuf]) -> Result<(), Failure> {
    let lines = changes.lines(paths).map_err(of_git)?;
    let names: Vec<String> = lines.iter().map(|lines| quoted(&lines.path)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut sum = (0, 0);
    for (name, Lines { counts, .. }) in names.iter().zip(&lines) {
        let text = match counts {
            Some((added, removed)) => {
                sum = (sum.0 + added, sum.1 + removed);
                format!("+{added} -{removed}")
            }
            None => "binary".to_owned(),
        };
        ui::line(&format!(" {name:<width$} | {text}")).map_err(unprinted)?;
    }
    let (count, (added, removed)) = (lines.len(), sum);
    ui::line(&format!(" {count} files, +{added} -{removed}")).map_err(unprinted)
}

fn files(changes: &ChangeSet, paths: &[PathBuf]) -> Result<Vec<File>, GitError> {
    let lines = changes.lines(paths)?.into_iter();
    let counts: BTreeMap<Vec<u8>, Option<(u64, u64)>> =
        lines.map(|lines| (lines.path, lines.counts)).collect();
    let file = |change: Change| {
        let counts = counts.get(&change.path).copied().flatten();
        File {
            path: PathText::from(change.path()),
            kind: match (&change.before, &change.after) {
                (None, _) => EditKind::Created,
                (_, None) => EditKind::Deleted,
                (Some(_), Some(_)) => EditKind::Modified,
            },
            added: counts.map(|counts| counts.0),
            removed: counts.map(|counts| counts.1),
        }
    };
    Ok(changes.files(paths)?.into_iter().map(file).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_git(error: GitError) -> Failure {
    Failure::of(&error, FAILED, error.hint())
}
