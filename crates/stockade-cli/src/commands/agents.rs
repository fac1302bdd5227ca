//! `stockade agents`: the recipes of known agents.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use stockade_agents::{Recipe, Recipes};
use stockade_config::Env;
use stockade_sandbox::Outcome;

use super::refused::Refused;
use super::{boundary, run};
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

/// A verb that failed, and its usage that is wrong.
const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Flags of `stockade agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    verb: Option<AgentsVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum AgentsVerb {
    /// All recipes, and whether the agent is installed
    List(ListArgs),
    /// What one agent needs, and what is done for it
    Show(ShowArgs),
    /// Start an agent inside the boundary, and let it tell its version
    Probe(ProbeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The name of a recipe
    name: String,
}

#[derive(Debug, Args)]
struct ProbeArgs {
    /// The name of a recipe
    name: String,
}

/// A recipe as it is told.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// The user's own file, or nothing for one that is built in.
    source: Option<&'a Path>,
    /// Where the program was found.
    program: Option<PathBuf>,
    programs: &'a [String],
    state: Vec<PathBuf>,
    hosts: &'a [String],
    environment: Environment<'a>,
    flags: Vec<&'a str>,
    prompt: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Environment<'a> {
    pass: &'a [String],
    set: Vec<String>,
}

/// Runs the verb; the value is the exit status.
pub(crate) fn run(arguments: &AgentsArgs) -> Result<u8, Failure> {
    run_verb(arguments).map_err(|failure| failure.unless_status(MISUSED, FAILED))
}

fn run_verb(arguments: &AgentsArgs) -> Result<u8, Failure> {
    let env = Env::snapshot();
    let env = env.map_err(|error| Failure::new(format!("cannot find the folder: {error}"), ""))?;
    let recipes = boundary::recipes(&env).map_err(|failure| failure.with_status(MISUSED))?;
    match &arguments.verb {
        None => list(&arguments.list, &recipes, &env),
        Some(AgentsVerb::List(arguments)) => list(arguments, &recipes, &env),
        Some(AgentsVerb::Show(arguments)) => show(arguments, &recipes, &env),
        Some(AgentsVerb::Probe(arguments)) => probe(arguments, &recipes),
    }
}

/// The recipe called `name`.
pub(super) fn named<'a>(recipes: &'a Recipes, name: &str) -> Result<&'a Recipe, Failure> {
    recipes.named(name).ok_or_else(|| {
        let names: Vec<&str> = recipes.all().map(|(recipe, _)| recipe.name()).collect();
        let hint = format!(
            "there are {}; `~/.config/stockade/agents/NAME.toml` makes another",
            names.join(", ")
        );
        Failure::new(format!("no recipe is called `{name}`"), hint)
    })
}

fn list(arguments: &ListArgs, recipes: &Recipes, env: &Env) -> Result<u8, Failure> {
    let shown: Vec<Shown<'_>> =
        recipes.all().map(|(recipe, source)| shown(recipe, source, env)).collect();
    if arguments.json {
        ui::json(&shown).map_err(unprinted)?;
        return Ok(0);
    }
    for recipe in &shown {
        let found = recipe.program.as_ref().map(|path| path.display().to_string());
        let found = found.unwrap_or_else(|| "not found".to_owned());
        let source = recipe.source.map_or("built in".to_owned(), |path| path.display().to_string());
        ui::line(&format!("{:<10}  {found:<40}  {source}", recipe.name)).map_err(unprinted)?;
    }
    Ok(0)
}

fn show(arguments: &ShowArgs, recipes: &Recipes, env: &Env) -> Result<u8, Failure> {
    let recipe = named(recipes, &arguments.name)?;
    let source = recipes.all().find(|(other, _)| other.name() == recipe.name());
    let shown = shown(recipe, source.and_then(|(_, source)| source), env);
    if arguments.json {
        ui::json(&shown).map_err(unprinted)?;
        return Ok(0);
    }
    let mut lines = vec![format!("name       {}", shown.name)];
    lines.push(match shown.source {
        Some(path) => format!("recipe     {}", path.display()),
        None => "recipe     built in".to_owned(),
    });
    lines.push(match &shown.program {
        Some(path) => format!("program    {}", path.display()),
        None => format!("program    not found: {}", shown.programs.join(", ")),
    });
    lines.extend(shown.state.iter().map(|path| format!("state      {}", path.display())));
    lines.extend(shown.hosts.iter().map(|host| format!("host       {host}")));
    lines.extend(shown.environment.pass.iter().map(|name| format!("passes     {name}")));
    lines.extend(shown.environment.set.iter().map(|set| format!("sets       {set}")));
    lines.extend(shown.flags.iter().map(|flag| format!("flag       {flag}")));
    lines.extend(shown.prompt.iter().map(|words| format!("task by    {}", words.join(" "))));
    for line in lines {
        ui::line(&line).map_err(unprinted)?;
    }
    Ok(0)
}

/// Whether the agent starts inside the boundary, in an empty folder.
fn probe(arguments: &ProbeArgs, recipes: &Recipes) -> Result<u8, Failure> {
    let flags = BoundaryArgs { quiet: true, ..BoundaryArgs::default() };
    let env = boundary::surroundings(&flags)?;
    let recipe = named(recipes, &arguments.name)?;
    let program: OsString = recipe.programs().first().map(OsString::from).unwrap_or_default();
    let words = recipe.for_version().iter().map(OsString::from).collect();
    let ready = run::ready((&flags, &env), recipes, (program.clone(), words), &[])?;
    if !ready.is_known {
        return Err(run::not_the_users(&program));
    }
    let seen = run::Seen {
        connections: &Arc::default(),
        refused: &mut Refused::default(),
        asked: None,
        meanwhile: &mut || {},
        unkept: &|| {},
    };
    let outcome = run::typed(ready.launch, &flags, &env, seen)?;
    let name = recipe.name();
    match outcome {
        Outcome::Exited(0) => {
            ui::say("stockade", &format!("{name} starts inside the boundary"));
            Ok(0)
        }
        outcome @ (Outcome::Exited(_)
        | Outcome::Killed(_)
        | Outcome::TimedOut(_)
        | Outcome::OverLimit(_)) => {
            let text = format!("{name} does not start inside the boundary: {outcome:?}");
            Err(Failure::new(text, "`stockade run -v -- PROGRAM --version` shows more"))
        }
    }
}

fn shown<'a>(recipe: &'a Recipe, source: Option<&'a Path>, env: &Env) -> Shown<'a> {
    let path = env.vars.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let find = |name: &String| {
        let mut places = folders.iter().map(|folder| folder.join(name));
        places.find(|place| place.is_file())
    };
    let variable = |name: &str| env.vars.get(OsStr::new(name)).cloned();
    let state = env.home.as_ref().map(|home| recipe.state(home, variable)).unwrap_or_default();
    let prompt = recipe
        .for_task(OsStr::new("PROMPT"))
        .map(|words| words.iter().map(|word| word.to_string_lossy().into_owned()).collect());
    Shown {
        name: recipe.name(),
        source,
        program: recipe.programs().iter().find_map(find),
        programs: recipe.programs(),
        state: state.into_iter().map(|state| state.path).collect(),
        hosts: recipe.hosts(),
        environment: Environment {
            pass: recipe.environment_passed(),
            set: recipe.environment_set().map(|(name, value)| format!("{name}={value}")).collect(),
        },
        flags: recipe.flags().collect(),
        prompt,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unprinted(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot write to standard output: {error}"), "")
}
