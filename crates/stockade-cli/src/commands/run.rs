//! `stockade run`: one command, or a whole agent, inside the boundary.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use stockade_agents::{Kind, Recipe, recognise};
use stockade_config::{Env, EnvFlag, Loaded, Needs, Request};
use stockade_policy::{Mode, Reason, Review, Verdict, parse_time, review};
use stockade_sandbox::{Command, Launch, Outcome, SetupError};

use crate::cli::RunArgs;
use crate::failure::Failure;
use crate::ui;

/// The wall-time limit ended the run.
const TIMED_OUT: u8 = 124;

/// Runs the command; the value is the exit status.
pub(crate) fn run(arguments: &RunArgs) -> Result<u8, Failure> {
    refuse_planned(arguments)?;
    let mut env = Env::snapshot()
        .map_err(|error| Failure::new(format!("cannot find the current folder: {error}"), ""))?;
    become_owner(&mut env, arguments)?;
    let (program, mut words) = command(arguments, &env);
    let recipe = recognise(&program, &words);
    let mut request = request(arguments)?;
    if let Some(recipe) = recipe {
        request.needs = needs(recipe, &env)?;
    }
    let loaded = stockade_config::load(&env, &request)?;
    if let Some(recipe) = recipe
        && loaded.policy.mode != Mode::DangerFullAccess
    {
        words = recipe.apply(&program, &words);
    }
    announce(arguments, &loaded, recipe, &env);
    let command = Command {
        program,
        arguments: words,
        environment: loaded.environment,
        folder: loaded.policy.workspace.as_path().to_owned(),
    };
    let launch = Launch { command, policy: loaded.policy };
    // The user typed it: boundary and rules hold it, nobody questions it (DESIGN §7).
    match review(launch, &[(Verdict::Allow, Reason::Typed)]) {
        Review::Allowed(launch) => match launched(stockade_sandbox::launch(launch), &env)? {
            Outcome::Exited(status) => Ok(status),
            Outcome::Killed(signal) => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            Outcome::TimedOut(limit) => {
                let text =
                    format!("the run reached its wall-time limit of {limit:?} and was ended");
                ui::say("stockade", &text);
                Ok(TIMED_OUT)
            }
        },
        Review::Ask(_) | Review::Denied(_) => {
            unreachable!("a typed command has one verdict, which allows it")
        }
    }
}

/// Inside another Stockade namespaces are refused on purpose, and no setting of the machine
/// that the general hint names would help.
fn launched(outcome: Result<Outcome, SetupError>, env: &Env) -> Result<Outcome, Failure> {
    match outcome {
        Err(SetupError::Namespaces(_)) if env.vars.contains_key(OsStr::new("STOCKADE")) => {
            Err(Failure::new(
                "this already runs inside Stockade, which gives nobody inside new namespaces",
                "run the command itself: the boundary around it holds",
            ))
        }
        outcome => Ok(outcome?),
    }
}

fn refuse_planned(arguments: &RunArgs) -> Result<(), Failure> {
    if arguments.planned.json() {
        return Err(Failure::new(
            "`stockade run` has no `--json`: its output is the command's",
            "`--json-file PATH` will write the events beside it",
        ));
    }
    match arguments.planned.used() {
        Some(flag) => {
            Err(Failure::new(format!("not yet: `{flag}`"), "nothing was run; leave the flag out"))
        }
        None => Ok(()),
    }
}

/// Root at work on somebody else's folder works as its owner, so that nothing in it ends up
/// belonging to root.
fn become_owner(env: &mut Env, arguments: &RunArgs) -> Result<(), Failure> {
    if env.uid != 0 || arguments.sandbox.as_deref() == Some(Mode::DangerFullAccess.as_str()) {
        return Ok(());
    }
    let folder = arguments.folder.as_deref().unwrap_or(Path::new("."));
    let folder = env.current.join(folder);
    let Some(owner) = stockade_sandbox::owner_of(&folder).filter(|owner| owner.uid != 0) else {
        return Ok(());
    };
    let home = owner.home.clone();
    let name = owner.name.clone();
    stockade_sandbox::become_user(&owner)?;
    env.uid = owner.uid;
    env.vars.insert("HOME".into(), home.clone().into());
    env.vars.insert("USER".into(), name.clone());
    env.vars.insert("LOGNAME".into(), name.clone());
    env.vars.remove(OsStr::new("XDG_CONFIG_HOME"));
    env.home = Some(home);
    if !arguments.quiet {
        let text = format!("running as `{}`, who owns the workspace", name.to_string_lossy());
        ui::say("stockade", &text);
    }
    Ok(())
}

fn command(arguments: &RunArgs, env: &Env) -> (OsString, Vec<OsString>) {
    if let Some((program, words)) = arguments.command.split_first() {
        (program.clone(), words.to_vec())
    } else {
        let shell = env.vars.get(OsStr::new("SHELL")).filter(|shell| !shell.is_empty());
        (shell.cloned().unwrap_or_else(|| "/bin/sh".into()), Vec::new())
    }
}

fn request(arguments: &RunArgs) -> Result<Request, Failure> {
    let wrong =
        |flag: &str, error: &dyn std::fmt::Display| Failure::new(format!("{flag}: {error}"), "");
    let mode = arguments.sandbox.as_deref().map(str::parse).transpose();
    let approval = arguments.ask_for_approval.as_deref().map(str::parse).transpose();
    let timeout = arguments.timeout.as_deref().map(parse_time).transpose();
    Ok(Request {
        mode: mode.map_err(|error| wrong("--sandbox", &error))?,
        approval: approval.map_err(|error| wrong("--ask-for-approval", &error))?,
        workspace: arguments.folder.clone(),
        add_dirs: arguments.add_dir.clone(),
        hide: arguments.hide.clone(),
        env: arguments.env.iter().map(|flag| env_flag(flag)).collect::<Result<_, _>>()?,
        allow_hosts: arguments.allow_host.clone(),
        timeout: timeout.map_err(|error| wrong("--timeout", &error))?,
        options: arguments.config.clone(),
        profile: arguments.profile.clone(),
        no_project_config: arguments.no_project_config,
        needs: Needs::default(),
    })
}

fn env_flag(flag: &OsStr) -> Result<EnvFlag, Failure> {
    let bytes = flag.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    };
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok(match value {
            Some(value) => EnvFlag::Set(name.to_owned(), OsStr::from_bytes(value).to_owned()),
            None => EnvFlag::Pass(name.to_owned()),
        }),
        _ => Err(Failure::new("`--env` needs a name", "write `--env NAME` or `--env NAME=VALUE`")),
    }
}

/// What a recipe needs, with its state made where it is missing: the boundary can open only
/// what is there.
fn needs(recipe: &Recipe, env: &Env) -> Result<Needs, Failure> {
    let Some(home) = &env.home else { return Ok(Needs::default()) };
    let state = recipe.state(home, |name| env.vars.get(OsStr::new(name)).cloned());
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

fn announce(arguments: &RunArgs, loaded: &Loaded, recipe: Option<&Recipe>, env: &Env) {
    if arguments.quiet {
        return;
    }
    for warning in &loaded.warnings {
        ui::say("warning", warning);
    }
    let policy = &loaded.policy;
    if policy.mode == Mode::DangerFullAccess && !is_disposable(env) {
        ui::say("warning", "danger-full-access: no boundary; the command can do what you can");
    }
    if !arguments.verbose {
        return;
    }
    ui::say("stockade", &format!("mode {}, network {}", policy.mode, policy.network.word()));
    for root in &policy.writable {
        ui::say("stockade", &format!("writable {}", root.as_path().display()));
    }
    let counts = format!("{} protected, {} hidden", policy.protected.len(), policy.hidden.len());
    ui::say("stockade", &counts);
    if let Some(recipe) = recipe {
        ui::say("stockade", &format!("recipe {}", recipe.name()));
    }
    for (name, place) in &loaded.provenance {
        ui::say("stockade", &format!("{name} from {place}"));
    }
}

/// A place that is thrown away after use: CI, a container.
fn is_disposable(env: &Env) -> bool {
    env.vars.contains_key(OsStr::new("CI"))
        || Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
}
