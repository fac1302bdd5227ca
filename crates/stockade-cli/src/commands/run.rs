//! `stockade run`: one command, or a whole agent, inside the boundary.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use stockade_agents::{Kind, Recipe, recognise};
use stockade_config::{Env, Needs};
use stockade_policy::{Mode, Reason, Review, Verdict, review};
use stockade_sandbox::{Command, Launch, Outcome, SetupError};

use super::boundary;
use crate::cli::RunArgs;
use crate::failure::Failure;
use crate::ui;

/// The wall-time limit ended the run.
const TIMED_OUT: u8 = 124;

/// Runs the command; the value is the exit status.
pub(crate) fn run(arguments: &RunArgs) -> Result<u8, Failure> {
    if arguments.json {
        return Err(Failure::new(
            "`stockade run` has no `--json`: its output is the command's",
            "`--json-file PATH` will write the events beside it",
        ));
    }
    let env = boundary::surroundings(&arguments.boundary)?;
    let (program, mut words) = command(arguments, &env);
    let recipe = recognise(&program, &words);
    let mut request = boundary::request(&arguments.boundary)?;
    if let Some(recipe) = recipe {
        request.needs = needs(recipe, &env)?;
    }
    let loaded = stockade_config::load(&env, &request)?;
    if let Some(recipe) = recipe
        && loaded.policy.mode != Mode::DangerFullAccess
    {
        words = recipe.apply(&program, &words);
    }
    boundary::announce(&arguments.boundary, &loaded, recipe, &env);
    let command = Command {
        program,
        arguments: words,
        environment: loaded.environment,
        folder: loaded.policy.workspace.as_path().to_owned(),
    };
    let launch = Launch { command, policy: loaded.policy, layers: Vec::new() };
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

fn command(arguments: &RunArgs, env: &Env) -> (OsString, Vec<OsString>) {
    if let Some((program, words)) = arguments.command.split_first() {
        (program.clone(), words.to_vec())
    } else {
        let shell = env.vars.get(OsStr::new("SHELL")).filter(|shell| !shell.is_empty());
        (shell.cloned().unwrap_or_else(|| "/bin/sh".into()), Vec::new())
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
