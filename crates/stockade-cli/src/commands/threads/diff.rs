//! `stockade threads diff`: a patch, line counts, or JSON.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stockade_threads::ThreadId;
use stockade_threads::changes::{Change, ChangeSet, Lines};
use stockade_threads::git::GitError;
use stockade_threads::record::{Changes, EditKind, PathText, Permissions};
use stockade_threads::wrote::Wrote;
use stockade_threads::{not_in_diff, quoted};

use super::{Desk, FAILED, Place, unprinted};
use crate::failure::Failure;
use crate::ui::{self, patch::Patch};

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
    /// With the files that git ignores
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
    /// Of a folder, and of permissions that git has no word for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    folder: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_mode: Option<Permissions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_mode: Option<Permissions>,
}

pub(super) fn run(arguments: &DiffArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find_changed(&arguments.id)?;
    let (changes, recorded, since) = seen(&desk, &id, arguments.ignored)?;
    for note in recorded.iter().flat_map(|changes| not_in_diff(changes, usize::MAX)) {
        ui::say("stockade", &note);
    }
    for path in since {
        let path = quoted(path.as_os_str().as_encoded_bytes());
        ui::say("stockade", &format!("changed since, and shown as it is now: `{path}`"));
    }
    let paths = desk.relative(&arguments.paths, changes.root());
    if arguments.json {
        let files = files(&changes, &paths).map_err(of_git)?;
        ui::json(&files).map_err(unprinted)?;
    } else if arguments.stat {
        stat(&changes, &paths)?;
    } else {
        let (is_plain, is_dumb) = super::super::local::of_terminal(&desk.env);
        let mut patch = Patch::new(!is_plain && !is_dumb);
        match changes.patch(&paths, &mut |part| patch.add(part)) {
            Ok(()) => patch.finish().map_err(unprinted)?,
            Err(GitError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(of_git(error)),
        }
    }
    Ok(0)
}

/// What changed, what the record says of it, and what is shown as it is now.
type Seen = (ChangeSet, Option<Changes>, Vec<PathBuf>);

fn seen(desk: &Desk, id: &ThreadId, with_ignored: bool) -> Result<Seen, Failure> {
    if let Some(Wrote { changes, recorded, since, .. }) = desk.wrote(id, with_ignored)? {
        return Ok((changes, Some(recorded), since));
    }
    let changes = desk.result(id, with_ignored)?;
    let mut recorded = desk.detail(id)?.changes;
    if let Some(recorded) = recorded.as_mut().filter(|_| with_ignored) {
        recorded.ignored = 0;
    }
    Ok((changes, recorded, Vec::new()))
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
    for change in changes.modes(paths) {
        let name = quoted(change.path.to_path().as_os_str().as_encoded_bytes());
        ui::line(&format!(" {name:<width$} | {}", change.words())).map_err(unprinted)?;
    }
    let (count, (added, removed)) = (stockade_threads::files(lines.len() as u64), sum);
    ui::line(&format!(" {count}, +{added} -{removed}")).map_err(unprinted)
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
            folder: false,
            old_mode: None,
            new_mode: None,
        }
    };
    let mut files: Vec<File> = changes.files(paths)?.into_iter().map(file).collect();
    for change in changes.modes(paths) {
        // What has a line of its own gets it there.
        let known = files.iter_mut().find(|file| file.path == change.path && !change.folder);
        if let Some(file) = known {
            (file.old_mode, file.new_mode) = (change.before, change.after);
            continue;
        }
        files.push(File {
            path: change.path.clone(),
            kind: match (change.before, change.after) {
                (None, _) => EditKind::Created,
                (_, None) => EditKind::Deleted,
                (Some(_), Some(_)) => EditKind::Modified,
            },
            added: None,
            removed: None,
            folder: change.folder,
            old_mode: change.before,
            new_mode: change.after,
        });
    }
    Ok(files)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_git(error: GitError) -> Failure {
    Failure::of(&error, FAILED, error.hint())
}
