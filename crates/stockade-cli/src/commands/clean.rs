//! `stockade clean`: removes what is old or too much of what Stockade itself keeps.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::Args;
use stockade_config::{Env, Retention, retention};
use stockade_threads::clean::{self, Item, Kept};

use crate::failure::Failure;
use crate::ui;

const FAILED: u8 = 1;

/// Flags of `stockade clean`.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// Only say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Name each file and folder
    #[arg(short, long)]
    verbose: bool,
}

/// Cleans; the value is the exit status.
pub(crate) fn run(arguments: &CleanArgs) -> Result<u8, Failure> {
    let failed = |failure: Failure| failure.with_status(FAILED);
    let env = Env::snapshot().map_err(|error| {
        failed(Failure::new(format!("cannot find the current folder: {error}"), ""))
    })?;
    let Some(state) = env.state_folder() else {
        return Err(failed(Failure::new("no home is known", "set `HOME`")));
    };
    let kept = kept(&retention(&env).map_err(|error| failed(error.into()))?);
    let found = clean::find(&state, env.cache_folder().as_deref(), (&kept, SystemTime::now()));
    let found = found.map_err(|error| failed(error.into()))?;
    let mut sums: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let mut status = 0;
    let line = |text: &str| {
        ui::line(text).map_err(|error| failed(Failure::new(format!("cannot print: {error}"), "")))
    };
    for item in found {
        let is_gone = arguments.dry_run
            || item.remove().unwrap_or_else(|error| {
                let path = item.path.display();
                ui::say("error", &format!("cannot remove `{path}`: {error}"));
                status = FAILED;
                false
            });
        if !is_gone {
            continue;
        }
        if arguments.verbose {
            line(&format!("{}  {}", item.path.display(), item.why))?;
        }
        let (count, bytes) = sums.entry((item.sort, item.why)).or_default();
        (*count, *bytes) = (*count + 1, *bytes + item.bytes);
    }
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    for ((sort, why), (count, bytes)) in &sums {
        let mib = bytes.div_ceil(1 << 20);
        line(&format!("{verb} {count} {sort}, {mib} MiB: {why}"))?;
    }
    if sums.is_empty() {
        line("nothing to clean")?;
    }
    Ok(status)
}

fn kept(retention: &Retention) -> Kept {
    let Retention { runs, threads, undo, undo_bytes, .. } = *retention;
    Kept { runs, threads, undo, undo_bytes }
}

/// Removes what is old of the records after a run or a thread, once a day, and says so. Nothing that
/// fails here is about the run: it is told, and the exit status stays.
pub(crate) fn automatic() {
    let Ok(env) = Env::snapshot() else { return };
    let Some(state) = env.state_folder() else { return };
    let now = SystemTime::now();
    if !clean::is_due(&state, now) {
        return;
    }
    // A file that is wrong has been told of by the run, or is not this user's to be told of.
    let Ok(retention) = retention(&env) else { return };
    if !retention.is_automatic {
        return;
    }
    let found = clean::find_old(&state, (&kept(&retention), now)).unwrap_or_default();
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for item in found {
        let Item { sort, bytes, .. } = item;
        match item.remove() {
            Ok(true) => {
                let (count, sum) = sums.entry(sort).or_default();
                (*count, *sum) = (*count + 1, *sum + bytes);
            }
            Ok(false) => {}
            Err(error) => {
                let path = item.path.display();
                ui::say("warning", &format!("cannot remove the old `{path}`: {error}"));
            }
        }
    }
    let told: Vec<String> = sums
        .iter()
        .map(|(sort, (count, bytes))| format!("{count} {sort} ({} MiB)", bytes.div_ceil(1 << 20)))
        .collect();
    if !told.is_empty() {
        let told = told.join(", ");
        ui::say(
            "stockade",
            &format!("old records removed: {told}; `[retention]` in your configuration says when"),
        );
    }
}
