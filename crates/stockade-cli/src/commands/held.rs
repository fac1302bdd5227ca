//! What a run left behind that may not stay: looked for when it is over, told always.

use std::path::{Path, PathBuf};

use stockade_config::Env;
use stockade_policy::{Mode, Policy};
use stockade_threads::ThreadId;
use stockade_threads::held::{self, Settled, Watched};

use crate::ui;

/// Looks after those whose Stockade was killed.
pub(super) fn settle_lost(env: &Env) {
    for (id, settled) in env.state_folder().iter().flat_map(|root| held::settle_lost(root)) {
        say(&settled, &id);
    }
}

/// Begins to watch the run `id`, if there is anything in it to be looked at.
pub(super) fn watch(env: &Env, id: Option<&ThreadId>, policy: &Policy) -> Option<Watched> {
    if policy.mode != Mode::WorkspaceWrite || policy.writable.is_empty() {
        return None;
    }
    let (root, id) = (env.state_folder()?, id?);
    match Watched::begin(&root, id) {
        Ok(watched) => Some(watched),
        Err(error) => {
            let text = format!(
                "nothing is held back at the end of this run: cannot write in `{}`: {error}",
                root.display()
            );
            ui::say("warning", &text);
            None
        }
    }
}

/// The run is over.
pub(super) fn settle(watched: Option<Watched>, id: Option<&ThreadId>) -> Settled {
    let settled = watched.map(Watched::settle).unwrap_or_default();
    if let Some(id) = id {
        say(&settled, id);
    }
    settled
}

fn say(settled: &Settled, id: &ThreadId) {
    if let Some(line) = settled.line(id) {
        ui::say("stockade", &line);
    }
}

/// What was not meant, and what was put back, or why not.
pub(super) type Released = (Vec<String>, Vec<(PathBuf, Result<(), std::io::Error>)>);

/// Puts back what of `id` is held and named in `accept`, by its whole path or from where the user
/// stands or from the workspace.
pub(super) fn release(
    root: &Path,
    id: &ThreadId,
    (accept, here, workspace): (&[String], &Path, &Path),
) -> Released {
    let held: Vec<PathBuf> = held::list(root, id).iter().map(|held| held.path.to_path()).collect();
    let (mut rest, mut done) = (Vec::new(), Vec::new());
    for name in accept {
        let meant = [here.join(name), workspace.join(name)];
        match held.iter().find(|path| meant.contains(path)) {
            Some(path) => {
                let released = held::release(root, id, path).map(drop);
                done.push((path.clone(), released));
            }
            None => rest.push(name.clone()),
        }
    }
    (rest, done)
}
