//! `stockade run`: one command, or a whole agent, inside the boundary.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use stockade_agents::{Kind, Recipe, Recipes, State};
use stockade_config::{Env, Loaded, Needs, Request};
use stockade_policy::{Mode, Reason, Review, Verdict, review};
use stockade_sandbox::{Ask, Command, Exceeded, Launch, Outcome, SetupError, Shared, Told};
use stockade_threads::caches::Held;
use stockade_threads::held::Watched;
use stockade_threads::hits::Hits;
use stockade_threads::local::Ended;
use stockade_threads::network::{AskHost, Blocked, Connections, Event, NetworkService};
use stockade_threads::{Bounds, Judge, Program, Programmed, record};

use super::events::{Events, Growing};
use super::refused::Refused;
use super::{asking, boundary, execs, found, held, local, run_log, run_vm};
use crate::cli::{BoundaryArgs, RunArgs};
use crate::failure::{Failure, of_signal};
use crate::ui;

/// The wall-time limit ended the run.
const TIMED_OUT: u8 = 124;
/// What a shell says of SIGKILL, by which a limit ends a run.
const ENDED_BY_LIMIT: u8 = 137;

/// Runs the command; the value is the exit status.
pub(crate) fn run(arguments: &RunArgs) -> Result<u8, Failure> {
    if arguments.json {
        return Err(Failure::new(
            "`stockade run` has no `--json`: its output is the command's",
            "`--json-file PATH` writes the events beside it",
        ));
    }
    if arguments.boundary.vm.is_some() {
        return run_vm::run(arguments);
    }
    let env = boundary::surroundings(&arguments.boundary)?;
    held::settle_lost(&env);
    let recipes = boundary::recipes(&env)?;
    let mut ready = ready((&arguments.boundary, &env), &recipes, command(arguments, &env), &[])?;
    if arguments.draft {
        let program = Program {
            kind: record::Kind::Run,
            task: None,
            argv: &ready.argv.clone(),
            direct: &ready.needs.state.clone(),
            is_draft: true,
        };
        return recorded((&arguments.boundary, &env), ready, (&program, None));
    }
    let (loaded, policy) = (&ready.loaded, &mut ready.launch.policy);
    let mut log = run_log::begin(&arguments.boundary, (&env, &ready.argv), loaded, policy)?;
    let id = log.id();
    let watched = held::watch(&env, id.as_ref(), policy);
    ready.launch.notes = watched.as_ref().map(Watched::path);
    ready.launch.keeping = log.keep(&env, policy, &ready.needs.state);
    let mut refused = Refused::default();
    let asked = asking::of_run(&log, (&env, &ready.loaded), policy);
    let seen = Seen {
        connections: &log.connections,
        refused: &mut refused,
        asked: asked.as_ref(),
        meanwhile: &mut || log.tell_policy(&ready.loaded),
        unkept: &|| {},
    };
    let outcome = typed(ready.launch, &arguments.boundary, &env, seen);
    if let Some(asked) = asked {
        asked.tell_kept(arguments.boundary.quiet);
    }
    let denials = refused.recorded();
    if let Some(state) = env.state_folder() {
        Hits::of(&state).count_denials(&ready.loaded.rule_set(), &denials);
    }
    let held = held::settle(watched, id.as_ref());
    log.end(&ready.loaded, &outcome, (denials, held.held));
    Ok(status(outcome?))
}

/// A command line that only has to be started.
pub(super) struct Ready {
    pub(super) loaded: Loaded,
    pub(super) argv: Vec<OsString>,
    pub(super) needs: Needs,
    /// Whether a recipe was applied to it.
    pub(super) is_known: bool,
    pub(super) launch: Launch,
    /// Held until it has ended.
    _caches: Option<Held>,
}

/// Resolves what `(program, words)` is started with; `hosts` are opened beside those that the user
/// names.
pub(super) fn ready(
    (flags, env): (&BoundaryArgs, &Env),
    recipes: &Recipes,
    (program, mut words): (OsString, Vec<OsString>),
    hosts: &[String],
) -> Result<Ready, Failure> {
    let mut request = boundary::request(flags)?;
    request.allow_hosts.extend_from_slice(hosts);
    let mut loaded = stockade_config::load(env, &request)?;
    let recipe = recipes.recognise(&program, &words);
    let recipe = recipe.filter(|recipe| {
        let state = state(recipe, env);
        // What a run like this one, or the one before, may have written.
        let writing = match loaded.policy.mode {
            Mode::ReadOnly => {
                let request = Request { mode: Some(Mode::WorkspaceWrite), ..request.clone() };
                stockade_config::load(env, &request).ok()
            }
            Mode::WorkspaceWrite | Mode::DangerFullAccess => Some(loaded.clone()),
        };
        writing.is_some_and(|loaded| is_the_users(&program, &words, &loaded, &state))
    });
    if let Some(recipe) = recipe {
        request.needs = needs(recipe, env)?;
        loaded = stockade_config::load(env, &request)?;
        if loaded.policy.mode != Mode::DangerFullAccess {
            words = recipe.apply(&program, &words);
        }
    }
    boundary::announce(flags, &loaded, recipe, env);
    let mut argv = vec![program.clone()];
    argv.extend_from_slice(&words);
    let agent = recipe.map_or("", Recipe::name);
    let caches = boundary::caches(flags, &mut loaded.policy, (env, agent));
    let execs = execs::held(&loaded);
    let command = Command {
        program,
        arguments: words,
        environment: std::mem::take(&mut loaded.environment),
        folder: loaded.policy.workspace.as_path().to_owned(),
    };
    let policy = loaded.policy.clone();
    let caches_layer = caches.as_ref().map(Held::layer);
    let launch = Launch {
        command,
        policy,
        layers: Vec::new(),
        caches: caches_layer,
        execs,
        notes: None,
        keeping: None,
        may_degrade: flags.degrade,
    };
    let is_known = recipe.is_some();
    Ok(Ready { loaded, argv, needs: request.needs, is_known, launch, _caches: caches })
}

/// Runs it as a thread with a record of its changes; the value is the exit status.
pub(super) fn recorded(
    (flags, env): (&BoundaryArgs, &Env),
    ready: Ready,
    (program, events): (&Program<'_>, Option<Events>),
) -> Result<u8, Failure> {
    let events = events.unwrap_or_default().and_file(flags, &ready.loaded.policy)?;
    let Ready { loaded, mut launch, .. } = ready;
    let policy = loaded.policy.clone();
    let judge = Judge { rules: loaded.rule_set(), mode: policy.mode, approval: loaded.approval };
    let bounds = Bounds::new(policy, loaded.unprotected.clone());
    let store = local::store(env)?;
    let thread = Programmed::begin(&store, (&judge, &bounds), program)?;
    let events = Growing::of(events, &store, thread.id());
    events.tell();
    store.hide(&mut launch.policy);
    launch.layers = thread.layers();
    launch.notes = thread.list();
    launch.keeping = thread.keeping();
    let mut refused = Refused::default();
    let told = events.clone();
    let told = move || told.tell();
    let asked = asking::of_thread((&thread, store.root(), told), (env, &loaded), &launch.policy);
    let seen = Seen {
        connections: &Arc::default(),
        refused: &mut refused,
        asked: asked.as_ref(),
        meanwhile: &mut || {},
        unkept: &|| thread.look(&bounds),
    };
    let outcome = typed(launch, flags, env, seen);
    if let Some(asked) = asked {
        asked.tell_kept(flags.quiet);
    }
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            thread.forget(&store);
            return Err(failure);
        }
    };
    let exit = status(outcome);
    let state = match outcome {
        Outcome::Exited(0) => record::State::Completed,
        Outcome::Killed(_) => record::State::Interrupted,
        Outcome::Exited(_) | Outcome::TimedOut(_) | Outcome::OverLimit(_) => record::State::Failed,
    };
    let denials = refused.recorded();
    Hits::of(store.root()).count_denials(&judge.rules, &denials);
    let (ended, held) = thread.finish(state, exit, denials);
    events.tell();
    if let Some(line) = held {
        ui::say("stockade", &line);
    }
    if !flags.quiet {
        for note in &ended.notes {
            ui::say("stockade", note);
        }
        let Ended { summary, thread, .. } = &ended;
        let kept = if program.is_draft { local::KEPT } else { "" };
        ui::say("stockade", &format!("{summary}{kept}; thread {thread}"));
    }
    Ok(exit)
}

/// Who sees what a run does that the boundary does not let through.
pub(super) struct Seen<'a> {
    pub(super) connections: &'a Arc<Connections>,
    pub(super) refused: &'a mut Refused,
    /// Who is asked first.
    pub(super) asked: Option<&'a asking::Asked>,
    /// What is done while the walls are put up.
    pub(super) meanwhile: &'a mut dyn FnMut(),
    /// What is done before the command starts when nothing will be kept of what it replaces.
    pub(super) unkept: &'a dyn Fn(),
}

/// Has the command run that the user typed: boundary and rules hold it, nobody questions it
/// (DESIGN §7).
pub(super) fn typed(
    mut launch: Launch,
    arguments: &BoundaryArgs,
    env: &Env,
    Seen { connections, refused, asked, meanwhile, unkept }: Seen<'_>,
) -> Result<Outcome, Failure> {
    let workspace = launch.policy.workspace.clone();
    let mut tell = |text: &str| {
        if !arguments.quiet {
            ui::say("stockade", text);
        }
    };
    let connections = Arc::clone(connections);
    let note = move |event: &Event| connections.note(event);
    // A way out costs a start a little; where nobody is to be expected who could be asked there is
    // none. It cannot be made later, so that who follows the events, or says who is asked, has one.
    let may_come = std::io::stdin().is_terminal()
        || arguments.json_file.is_some()
        || arguments.ask_for_approval.is_some();
    let may_ask = |asked: &asking::Asked| asked.questions.may_ask_about_hosts(may_come);
    launch.policy.network.asks = asked.is_some_and(may_ask);
    let network = NetworkService::prepare(&launch.policy.network, note)?;
    if let Some(asked) = asked {
        network.ask_by(Arc::clone(&asked.questions) as Arc<dyn AskHost>);
    }
    network.introduce(&mut launch.policy.network, &mut launch.command.environment);
    let serve = |doors| network.serve(doors);
    let ask = asked.map(|asked| Ask {
        serve: Box::new(|asks| asked.questions.serve(asks)),
        pauser: asked.pauser.clone(),
    });
    match review(launch, &[(Verdict::Allow, Reason::Typed)]) {
        Review::Allowed(launch) => {
            let mut take = |told: Told<'_>| match told {
                Told::Note(text) => tell(text),
                Told::Unkept => unkept(),
                Told::Denied(_) | Told::DeniedMore(_) => refused.take(told),
            };
            let outcome =
                launched(stockade_sandbox::launch(launch, &mut take, serve, ask, meanwhile), env);
            if std::io::stderr().is_terminal()
                && let Some(line) = refused.line(workspace.as_path())
            {
                tell(&line);
            }
            say_blocked(&network.blocked(), &mut tell);
            say_unreached(&network.unreached(), &mut tell);
            outcome
        }
        Review::Ask(_) | Review::Denied(_) => {
            unreachable!("a typed command has one verdict, which allows it")
        }
    }
}

/// The exit status of a run that ended so; what ended it is said, when it was a limit.
fn status(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Exited(status) => status,
        Outcome::Killed(signal) => of_signal(signal),
        Outcome::TimedOut(limit) => {
            let text = format!("the run reached its wall-time limit of {limit:?} and was ended");
            ui::say("stockade", &text);
            ui::hint("`--timeout TIME` or `limits.wall_time` in the configuration sets it");
            TIMED_OUT
        }
        Outcome::OverLimit(exceeded) => {
            let (text, key) = over_limit(exceeded);
            ui::say("stockade", &text);
            if let Some(key) = key {
                let raises =
                    format!("`-c {key}=…` raises it, for all runs `{key}` in the configuration");
                ui::hint(&raises);
            }
            ENDED_BY_LIMIT
        }
    }
}

/// What happened, and the key of the limit, where there is one.
pub(super) fn over_limit(exceeded: Exceeded) -> (String, Option<&'static str>) {
    match exceeded {
        Exceeded::Memory { limit, used } => {
            let [limit, used] = [limit, used].map(|bytes| bytes.div_ceil(1 << 20));
            let text = format!(
                "the run used {used} MiB of memory, more than its limit of {limit} MiB, and was ended"
            );
            (text, Some("limits.memory"))
        }
        Exceeded::Temporary { limit, used } => {
            let [limit, used] = [limit, used].map(|bytes| bytes.div_ceil(1 << 20));
            let text = format!(
                "the run had {used} MiB of temporary files, more than its limit of {limit} MiB, and was ended"
            );
            (text, Some("limits.tmp_size"))
        }
        Exceeded::OpenFiles { limit } => {
            let text = format!(
                "the run had more than {limit} files open, sixteen times the limit of a process, \
                 and was ended"
            );
            (text, Some("limits.open_files"))
        }
        Exceeded::OfUser(shared) => {
            let what = match shared {
                Shared::Descriptors => "descriptors in messages that nobody has taken",
                Shared::Watches => "watches of `epoll`",
            };
            let text = format!(
                "your programs together had so many {what} that none was left to any of them, \
                 and the run was ended"
            );
            (text, None)
        }
    }
}

/// As many refused hosts as one line names.
const NAMED: usize = 3;

/// What of the network was refused, with what would allow it, in one line.
fn say_blocked(blocked: &[Blocked], tell: &mut dyn FnMut(&str)) {
    if blocked.is_empty() {
        return;
    }
    // A name that was asked for, and a connection there by the proxy, are one when one entry allows both.
    let mut told: Vec<&Blocked> = Vec::new();
    for one in blocked {
        if one.remedy.is_none() || told.iter().all(|it| it.remedy != one.remedy) {
            told.push(one);
        }
    }
    let one = |blocked: &&Blocked| match &blocked.remedy {
        Some(entry) => format!("{} (`--allow-host {entry}` would allow it)", blocked.host),
        None => format!("{} ({})", blocked.host, blocked.why),
    };
    let named: Vec<_> = told.iter().take(NAMED).map(one).collect();
    let more = told.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    tell(&format!("blocked: {}{more}", named.join(", ")));
}

/// What could not be reached although it may: the program was told no more than that.
fn say_unreached(unreached: &[(String, String)], tell: &mut dyn FnMut(&str)) {
    if let Some((host, why)) = unreached.first() {
        let more = unreached.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tell(&format!("not reached: {host} ({why}){more}"));
    }
}

/// Inside another Stockade namespaces are refused on purpose, and no setting of the machine
/// that the general hint names would help.
fn launched(outcome: Result<Outcome, SetupError>, env: &Env) -> Result<Outcome, Failure> {
    match outcome {
        Err(SetupError::Namespaces(_) | SetupError::Unheld { .. })
            if env.vars.contains_key(OsStr::new("STOCKADE")) =>
        {
            Err(Failure::new(
                "this already runs inside Stockade, which gives nobody inside new namespaces",
                "run the command itself: the boundary around it holds",
            ))
        }
        outcome => Ok(outcome?),
    }
}

pub(super) fn command(arguments: &RunArgs, env: &Env) -> (OsString, Vec<OsString>) {
    if let Some((program, words)) = arguments.command.split_first() {
        (program.clone(), words.to_vec())
    } else {
        let shell = env.vars.get(OsStr::new("SHELL")).filter(|shell| !shell.is_empty());
        (shell.cloned().unwrap_or_else(|| "/bin/sh".into()), Vec::new())
    }
}

/// Whether the agent is one that the user has installed: what lies where a task may write may be
/// anything under an agent's name, and a recipe opens that agent's log-in to it.
fn is_the_users(program: &OsStr, words: &[OsString], loaded: &Loaded, state: &[State]) -> bool {
    let state: Vec<_> = state.iter().filter_map(|state| state.path.canonicalize().ok()).collect();
    found::files(program, words, loaded).is_some_and(|files| {
        files.iter().all(|file| !found::can_be_replaced(file, &loaded.policy, &state))
    })
}

/// Why no recipe is applied to `program`.
pub(super) fn not_the_users(program: &OsStr) -> Failure {
    let name = program.to_string_lossy();
    Failure::new(
        format!("`{name}` is not installed, or lies where a task may write"),
        "a recipe opens the agent's log-in, so the program has to be the user's own",
    )
}

/// Where an agent keeps its state.
fn state(recipe: &Recipe, env: &Env) -> Vec<State> {
    let variable = |name: &str| env.vars.get(OsStr::new(name)).cloned();
    env.home.as_ref().map(|home| recipe.state(home, variable)).unwrap_or_default()
}

/// What a recipe needs, with its state made where it is missing: the boundary can open only
/// what is there.
fn needs(recipe: &Recipe, env: &Env) -> Result<Needs, Failure> {
    let state = state(recipe, env);
    for state in &state {
        let made = match state.kind {
            Kind::Folder => fs::DirBuilder::new().recursive(true).mode(0o700).create(&state.path),
            Kind::File => make_file(&state.path, &state.initial),
        };
        made.map_err(|error| {
            let path = state.path.display();
            Failure::new(
                format!("cannot make `{path}`, which {} needs: {error}", recipe.name()),
                "",
            )
        })?;
    }
    Ok(Needs {
        state: state.into_iter().map(|state| state.path).collect(),
        env_pass: recipe.environment_passed().to_vec(),
        env_set: recipe
            .environment_set()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

fn make_file(path: &Path, initial: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(initial.as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
