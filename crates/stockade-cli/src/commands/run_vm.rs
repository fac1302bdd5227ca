//! `stockade run --vm`: one command on the user's own files, in a machine of its own.
//!
//! The files go in and what was changed comes back by `stockade_threads::cloud`; here is what the flags
//! mean, and who sees what the command prints.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;

use stockade_config::{Env, Loaded, Request};
use stockade_policy::{Mode, Network};
use stockade_threads::Bounds;
use stockade_threads::cloud::{self, CloudTask, Files, Outcome, User, Wishes, Work};
use stockade_threads::record::{Event, State};
use stockade_threads::screen::Screen;
use stockade_threads::{Live, Watch};

use super::attached::{self, Begun, Person};
use super::{boundary, cloud as machine, held, local, run};
use crate::cli::{BoundaryArgs, MachineUser, RunArgs};
use crate::failure::Failure;
use crate::ui;
use crate::ui::feed::Stdin;
use crate::ui::live::Text;
use crate::ui::prompt::Prompt;
use crate::ui::screen::OwnTerminal;

/// Runs the command; the value is the exit status.
pub(super) fn run(arguments: &RunArgs) -> Result<u8, Failure> {
    let flags = &arguments.boundary;
    refuse(flags)?;
    // Before the first thread, so that all of them hold the signals back.
    let interrupts = local::hold()?;
    let env = boundary::surroundings_of_machine(flags)?;
    held::settle_lost(&env);
    let request = boundary::request(flags)?;
    let loaded = stockade_config::load(&env, &request)?;
    if loaded.policy.mode == Mode::DangerFullAccess {
        let hint = "leave `--vm` out, or the mode: `-s workspace-write`";
        let text = "`danger-full-access` is without a boundary, and a machine is one";
        return Err(Failure::new(text, hint));
    }
    boundary::announce(flags, &loaded, None, &env);
    if !flags.quiet && loaded.policy.network.word() != Network::default().word() {
        ui::say("warning", "the machine has no network: no allowed host is reached");
    }
    let task = task(arguments, &loaded, &request, &env)?;
    let store = local::store(&env)?;
    let wishes = Wishes::default();
    let ask = Prompt::new(wishes.stop.clone());
    let terminal = OwnTerminal::of_user(&env, ask.turns());
    let screen = terminal.as_ref().map(|terminal| terminal as &dyn Screen);
    let user = User { ask: &ask, wishes: &wishes, screen, feed: Some(&Stdin) };
    let (turns, status, begun) = (ask.turns(), None, Begun::default());
    attached::heed(interrupts, None, Person { wishes: wishes.clone(), turns, status, begun });
    let streams = Box::new(Streams::new(flags.quiet, &env));
    let mut watch = boundary::watched(flags, &loaded.policy, streams)?;
    let outcome = cloud::run(&task, &store, watch.as_mut(), user)?;
    report(&outcome, flags.quiet, arguments.draft);
    if outcome.ended.exit != 0
        && let Some(hint) = lacks(&run::command(arguments, &env).0, flags.vm)
    {
        ui::hint(&hint);
    }
    Ok(outcome.ended.exit)
}

/// Refuses what no machine has.
fn refuse(flags: &BoundaryArgs) -> Result<(), Failure> {
    let used = [
        (!flags.allow_host.is_empty(), "--allow-host", "the machine has no network"),
        (!flags.publish.is_empty(), "--publish", "the machine has no network"),
        (!flags.add_dir.is_empty(), "--add-dir", "only the workspace goes into the machine"),
    ];
    match used.into_iter().find(|(used, ..)| *used) {
        None => Ok(()),
        Some((_, flag, why)) => {
            let text = format!("`{flag}` cannot be had with `--vm`: {why}");
            Err(Failure::new(text, "leave one of them out"))
        }
    }
}

fn task(
    arguments: &RunArgs,
    loaded: &Loaded,
    request: &Request,
    env: &Env,
) -> Result<CloudTask, Failure> {
    let (program, words) = run::command(arguments, env);
    let argv = std::iter::once(program).chain(words).collect();
    let files = Files {
        bounds: Bounds::new(loaded.policy.clone(), loaded.unprotected.clone()),
        is_draft: arguments.draft,
        is_root: arguments.boundary.vm == Some(MachineUser::Root),
        variables: variables(&arguments.boundary, loaded),
    };
    let task = machine::task_of(Work::Command(argv), loaded, request, env)?;
    let wall_time = request.timeout.or(loaded.policy.limits.wall_time);
    // A set-up and checks are of a task that ends in a diff.
    Ok(CloudTask { setup: None, checks: Vec::new(), files: Some(files), wall_time, ..task })
}

/// What of the environment is as true in the machine as here, and what the flags name.
fn variables(flags: &BoundaryArgs, loaded: &Loaded) -> Vec<(OsString, OsString)> {
    const SAME: [&str; 8] =
        ["COLORTERM", "LANG", "LANGUAGE", "NO_COLOR", "STOCKADE", "STOCKADE_MODE", "TZ", "CI"];
    let named = |name: &OsStr| {
        flags.env.iter().any(|flag| {
            let bytes = flag.as_encoded_bytes();
            bytes.split(|byte| *byte == b'=').next() == Some(name.as_encoded_bytes())
        })
    };
    let passes = |name: &OsStr| {
        named(name)
            || SAME.iter().any(|same| name == *same)
            || name.as_encoded_bytes().starts_with(b"LC_")
    };
    let all = loaded.environment.iter().filter(|(name, _)| passes(name)).cloned();
    let network = ("STOCKADE_NETWORK".into(), Network::default().word().into());
    all.chain([network]).collect()
}

/// What a command has missed that failed, as far as its name tells.
fn lacks(program: &OsStr, user: Option<MachineUser>) -> Option<String> {
    const CONTAINERS: [&str; 6] =
        ["buildah", "docker", "docker-compose", "dockerd", "nerdctl", "podman"];
    const FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let name = Path::new(program).file_name()?.to_str()?;
    if !CONTAINERS.contains(&name) {
        return None;
    }
    if user != Some(MachineUser::Root) {
        return Some(format!("`{name}` needs root of the machine: `--vm=root`"));
    }
    let is_there = FOLDERS.iter().any(|folder| Path::new(folder).join("dockerd").exists());
    (name.starts_with("docker") && !is_there).then(|| {
        "the machine has the programs of your system, and Docker's service is none of them: \
         `sudo apt install docker.io`"
            .to_owned()
    })
}

/// How it ended, and what of the result waits.
fn report(outcome: &Outcome, is_quiet: bool, is_draft: bool) {
    let Outcome { ended, changes, left, .. } = outcome;
    let usual = format!("the command ended with status {}", ended.exit);
    if ended.state == State::Failed && ended.summary != usual {
        ui::say("error", &ended.summary);
    }
    if let Some(hint) = &ended.hint {
        ui::hint(hint);
    }
    for line in left {
        ui::say("stockade", line);
    }
    let id = &ended.thread;
    if !left.is_empty() {
        ui::hint(&format!(
            "`stockade threads diff {id}` shows it, `stockade threads apply {id}` takes it"
        ));
    }
    if is_quiet {
        return;
    }
    for note in &ended.notes {
        ui::say("stockade", note);
    }
    if let Some(changes) = changes {
        let files = if changes.files == 1 { "file" } else { "files" };
        let kept = if is_draft { local::KEPT } else { "" };
        ui::say("stockade", &format!("{} {files} changed{kept}; thread {id}", changes.files));
    }
}

/// Who watches: both outputs are the command's, as they come, and beside them the phases are told.
struct Streams {
    phases: Text,
    rest: Text,
}

impl Streams {
    fn new(is_quiet: bool, env: &Env) -> Self {
        Self { phases: local::text(is_quiet, env), rest: local::text(true, env) }
    }
}

impl Watch for Streams {
    fn see(&mut self, live: &Live<'_>) {
        if let Live::Output(bytes) = live {
            let mut error = std::io::stderr().lock();
            // Nobody reads it any more.
            return drop((error.write_all(bytes), error.flush()));
        }
        let is_told = matches!(live, Live::Note(_))
            || matches!(live, Live::Event(Event::Phase(phase), _) if phase.name != "agent");
        if is_told {
            self.phases.see(live);
        } else {
            self.rest.see(live);
        }
    }
}
