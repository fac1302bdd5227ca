//! `stockade cloud`: an agent, or one command, at work on a clone in a machine of its own.

mod external;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::thread;

use clap::Args;
use stockade_agents::Stop;
use stockade_config::{Env, Loaded, Request};
use stockade_policy::Mode;
use stockade_threads::changes::ChangeSet;
use stockade_threads::cloud::{self, CloudTask, Machine, Outcome, SetUp, User, Wishes, Work};
use stockade_threads::flags::{Weight, flags};
use stockade_threads::record::Changes;
use stockade_threads::screen::{Feed, Screen};
use stockade_threads::store::Store;
use stockade_threads::{Judge, ThreadId, Watch, quoted};

use super::attached::{self, Begun, Front, Noted, Person};
use super::attempts::{self, ATTEMPTS_MAX, Copies, Shown};
use super::{agent, boundary, local};
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;
use crate::ui::feed::Stdin;
use crate::ui::prompt::Prompt;
use crate::ui::screen::OwnTerminal;
use crate::ui::status::Status;

/// The machine, when the configuration says nothing: half of the host's memory at most.
const MEMORY: u64 = 2 << 30;
const CPUS: usize = 4;
const DISK: u64 = 10 << 30;

/// Flags of `stockade cloud`.
#[derive(Debug, Args)]
pub(crate) struct CloudArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Who works: `builtin`, the name of a recipe (`stockade agents`), or a program
    #[arg(long, value_name = "NAME", default_value = "builtin")]
    agent: String,
    /// Print one JSON object a line for everything that happens
    #[arg(long)]
    json: bool,
    /// Work on the task so many times, each a thread of its own
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Clone what is not committed too; hidden and ignored files never
    #[arg(long)]
    with_changes: bool,
    /// The task; `-` reads it from standard input
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    /// Instead of a task: a command and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the thread to its end; the value is the exit status.
pub(crate) fn run(arguments: &CloudArgs, front: Option<Front>) -> Result<u8, Failure> {
    refuse(arguments)?;
    if front.is_none() && attached::is_wanted(arguments.json) {
        return attached::in_front();
    }
    // Before the first thread, so that all of them hold the signals back.
    let interrupts = local::hold()?;
    let env = boundary::surroundings(&arguments.boundary)?;
    // No wall of this machine has anything to do with it.
    let mode = Some(Mode::DangerFullAccess);
    let request = Request { mode, ..boundary::request(&arguments.boundary)? };
    let loaded = stockade_config::load(&env, &request)?;
    let is_quiet = arguments.boundary.quiet;
    if !is_quiet {
        loaded.warnings.iter().for_each(|warning| ui::say("warning", warning));
    }
    let task = task(arguments, &loaded, &request, &env)?;
    let store = local::store(&env)?;
    let wishes = Wishes::default();
    let ask = Prompt::new(wishes.stop.clone());
    let terminal = OwnTerminal::of_user(&env, ask.turns()).filter(|_| !arguments.json);
    let screen = terminal.as_ref().map(|terminal| terminal as &dyn Screen);
    // Of a terminal the keys are heeded here, and a task has been read.
    let reads = !arguments.command.is_empty() && !std::io::stdin().is_terminal();
    let feed = reads.then_some(&Stdin as &dyn Feed);
    let user = User { ask: &ask, wishes: &wishes, screen, feed };
    let (watch, status) = watch((arguments.json, is_quiet), &env, &wishes.stop);
    let begun = Begun::default();
    let (turns, wishes) = (ask.turns(), wishes.clone());
    attached::heed(interrupts, front, Person { wishes, turns, status, begun: begun.clone() });
    if let Some(attempts) = arguments.attempts {
        let file = boundary::json_file(&arguments.boundary, &loaded.policy)?;
        let file = file.map(|(file, _)| Copies::to(file)).unwrap_or_default();
        let shown = Shown { is_json: arguments.json, is_quiet, begun, file };
        return attempts::run(&task, attempts, &store, user, &shown);
    }
    let watch = boundary::watched(&arguments.boundary, &loaded.policy, watch)?;
    let outcome = cloud::run(&task, &store, &mut Noted { watch, begun }, user)?;
    if !is_quiet {
        report(&outcome, &store);
    }
    Ok(outcome.ended.exit)
}

/// Who watches, and what is waited for when it is a person.
pub(super) fn watch(
    (is_json, is_quiet): (bool, bool),
    env: &Env,
    stop: &Stop,
) -> (Box<dyn Watch>, Option<Arc<Status>>) {
    if is_json {
        return (local::watch((true, is_quiet), env, stop), None);
    }
    let text = local::text(is_quiet, env);
    let status = text.status();
    (Box::new(text), Some(status))
}

/// Refuses what a cloud thread cannot do, or not yet.
fn refuse(arguments: &CloudArgs) -> Result<(), Failure> {
    if arguments.agent != agent::BUILT_IN && !arguments.command.is_empty() {
        let hint = "what stands after `--` is what runs; leave one of them out";
        return Err(Failure::new("`--agent` is for a task", hint));
    }
    if let Some(attempts) = arguments.attempts {
        if !(1..=ATTEMPTS_MAX).contains(&attempts) {
            let text = format!("`--attempts` takes a number from 1 to {ATTEMPTS_MAX}");
            return Err(Failure::new(text, ""));
        }
        if !arguments.command.is_empty() {
            let hint = "a command does the same each time; leave the flag out";
            return Err(Failure::new("`--attempts` is for a task", hint));
        }
    }
    if arguments.with_changes && !arguments.boundary.hide.is_empty() {
        let flags = BoundaryWalls { hides: false, ..BoundaryWalls::of(&arguments.boundary) };
        return flags.refuse();
    }
    refuse_walls(&arguments.boundary)
}

/// Refuses flags of a boundary that no machine has.
pub(super) fn refuse_walls(flags: &BoundaryArgs) -> Result<(), Failure> {
    BoundaryWalls::of(flags).refuse()
}

struct BoundaryWalls {
    not_yet: Option<&'static str>,
    has_sandbox: bool,
    adds: bool,
    hides: bool,
}

impl BoundaryWalls {
    fn of(flags: &BoundaryArgs) -> Self {
        let not_yet = [(!flags.env.is_empty(), "--env"), (!flags.publish.is_empty(), "--publish")];
        Self {
            not_yet: not_yet.into_iter().find(|(used, _)| *used).map(|(_, flag)| flag),
            has_sandbox: flags.sandbox.is_some(),
            adds: !flags.add_dir.is_empty(),
            hides: !flags.hide.is_empty(),
        }
    }

    fn refuse(&self) -> Result<(), Failure> {
        if let Some(flag) = self.not_yet {
            let text = format!("not yet: `{flag}` of `stockade cloud`");
            return Err(Failure::new(text, "nothing was run; leave the flag out"));
        }
        let walls =
            [(self.has_sandbox, "--sandbox"), (self.adds, "--add-dir"), (self.hides, "--hide")];
        let Some((_, flag)) = walls.iter().find(|(used, _)| *used) else { return Ok(()) };
        let hint = "the machine is the boundary, and nothing of your files is in it but what is \
                    committed";
        Err(Failure::new(format!("`{flag}` says nothing to `stockade cloud`"), hint))
    }
}

fn task(
    arguments: &CloudArgs,
    loaded: &Loaded,
    request: &Request,
    env: &Env,
) -> Result<CloudTask, Failure> {
    let work = match (&arguments.prompt, arguments.command.as_slice()) {
        (Some(prompt), []) => {
            agents_work((&arguments.agent, local::read_prompt(prompt)?), loaded, env)?
        }
        (None, []) => {
            let hint = "`stockade cloud \"PROMPT\"`, or `stockade cloud -- CMD ARG…`";
            return Err(Failure::new("a cloud thread needs a task or a command", hint));
        }
        (None, command) => Work::Command(command.to_vec()),
        (Some(_), _) => {
            let text = "either a task or a command";
            return Err(Failure::new(text, "what stands after `--` is the command"));
        }
    };
    let hidden = || loaded.policy.hidden.iter().map(|path| path.as_path().to_owned()).collect();
    let with_changes = arguments.with_changes.then(hidden);
    Ok(CloudTask { with_changes, ..task_of(work, loaded, request, env)? })
}

/// A task of the agent called `name`, with the model that is configured.
pub(super) fn agents_work(
    (name, prompt): (&str, String),
    loaded: &Loaded,
    env: &Env,
) -> Result<Work, Failure> {
    if name != agent::BUILT_IN {
        return external::work((name, prompt), loaded, env);
    }
    let (model, budget) = (agent::model(loaded, env)?, agent::budget(loaded));
    Ok(Work::Agent { prompt, model, budget })
}

/// The rest of a task, by the configuration.
pub(super) fn task_of(
    work: Work,
    loaded: &Loaded,
    request: &Request,
    env: &Env,
) -> Result<CloudTask, Failure> {
    let config = &loaded.cloud;
    let machine = built_in(env)?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let at_most = &config.at_most;
    Ok(CloudTask {
        work,
        judge: Judge {
            rules: loaded.rule_set(),
            mode: Mode::DangerFullAccess,
            approval: loaded.approval,
        },
        workspace: loaded.policy.workspace.as_path().to_owned(),
        machine: Machine {
            memory_bytes: or(config.memory, machine.memory_bytes, at_most.memory),
            cpus: or(config.cpus, machine.cpus, at_most.cpus),
            disk_bytes: or(config.disk, machine.disk_bytes, at_most.disk),
            ..machine
        },
        wall_time: match request.timeout {
            Some(timeout) => Some(timeout),
            None => config.wall_time.or(loaded.policy.limits.wall_time),
        },
        with_changes: None,
        files: None,
        setup: set_up(loaded, request, env)?,
        checks: config.checks.clone(),
        // Half of the processors' worth, so that the machine stays the user's.
        parallel: or(config.parallel, few(cores / 2), at_most.parallel),
        attempt: None,
    })
}

/// The set-up that is configured. Hosts for none would be said to be reachable, and are not.
fn set_up(loaded: &Loaded, request: &Request, env: &Env) -> Result<Option<SetUp>, Failure> {
    let network = loaded.setup_network(env, request)?;
    match (&loaded.cloud.setup, request.allow_hosts.is_empty()) {
        (Some(script), _) => Ok(Some(SetUp { script: script.clone(), network })),
        (None, true) => Ok(None),
        (None, false) => Err(Failure::new(
            "`--allow-host` of a cloud thread is for its set-up, and there is none",
            "`[cloud] setup` is the script; the work itself has no network",
        )),
    }
}

/// The machine, when the configuration says nothing.
pub(super) fn built_in(env: &Env) -> Result<Machine, Failure> {
    let cache = env.cache_folder().ok_or_else(|| {
        Failure::new("no place for the machine's system: no home is known", "set `HOME`")
    })?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Machine {
        cache,
        memory_bytes: MEMORY.min(env.memory_bytes / 2),
        cpus: few(cores.min(CPUS)),
        disk_bytes: DISK,
        home: env.home.clone(),
    })
}

fn few(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(1).max(1)
}

/// What is configured, or the built-in value, of which a project's file may want less.
fn or<T: Ord + Copy>(configured: Option<T>, built_in: T, at_most: Option<T>) -> T {
    configured.unwrap_or_else(|| at_most.map_or(built_in, |most| built_in.min(most)))
}

/// How it ended, what came out, and what the user can do with it.
pub(super) fn report(outcome: &Outcome, store: &Store) {
    let Outcome { ended, changes, .. } = outcome;
    let Some(changes) = changes else { return local::report(ended, "") };
    held(changes, &ended.thread, store);
    let (count, id) = (changes.files, &ended.thread);
    let files = if count == 1 { "file" } else { "files" };
    local::report(ended, &format!("; {count} {files} changed"));
    if count > 0 && ended.hint.is_none() {
        ui::hint(&format!(
            "`stockade threads diff {id}` shows the changes, `stockade threads apply {id}` takes \
             them into your files"
        ));
    }
}

/// Says what in the result waits for a look.
fn held(changes: &Changes, id: &str, store: &Store) {
    let Ok(folder) = id.parse::<ThreadId>().map(|id| store.folder(&id)) else { return };
    // A look at what was just written; `threads show` says why it fails, if it does.
    let found = ChangeSet::open(&folder, changes).and_then(|changes| flags(&changes));
    for flag in found.unwrap_or_default() {
        if flag.weight == Weight::Hold {
            let path = quoted(flag.path.to_path().as_os_str().as_encoded_bytes());
            ui::say("stockade", &format!("waits for `--accept`: {path} ({})", flag.flag.as_str()));
        }
    }
}
