//! `stockade clean`: removes what is old or too much of what Stockade itself keeps.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::Args;
use stockade_config::Env;
use stockade_threads::clean;

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
    let found = clean::find(&state, env.cache_folder().as_deref(), SystemTime::now());
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
