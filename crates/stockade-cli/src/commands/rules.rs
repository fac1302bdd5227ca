//! `stockade rules`: which command rules there are, where each came from, and how to change them.

mod change;
mod import;
mod list;
mod settings;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stockade_config::{Env, Layer, RuleFile, RuleText};

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

/// A verb that failed, and its usage or configuration that is wrong.
const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Flags of `stockade rules`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    verb: Option<RulesVerb>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(Debug, Subcommand)]
enum RulesVerb {
    /// All rules that hold here: where each stands, until when, how often it decided
    List(Box<list::ListArgs>),
    /// Add a rule to your own file, or to your answers for this project
    Add(Box<change::AddArgs>),
    /// Take a rule out, by where it stands or by its words
    Revoke(Box<change::RevokeArgs>),
    /// Check the rules of a file, or all that hold here, with their examples
    Test(Box<list::TestArgs>),
    /// Take over the rules of another tool (`*.rules`)
    Import(Box<import::ImportArgs>),
}

/// Does it; the value is the exit status.
pub(crate) fn run(arguments: &RulesArgs) -> Result<u8, Failure> {
    match &arguments.verb {
        None => list::list(&arguments.list),
        Some(RulesVerb::List(arguments)) => list::list(arguments),
        Some(RulesVerb::Add(arguments)) => change::add(arguments),
        Some(RulesVerb::Revoke(arguments)) => change::revoke(arguments),
        Some(RulesVerb::Test(arguments)) => list::test(arguments),
        Some(RulesVerb::Import(arguments)) => import::import(arguments),
    }
}

/// Where a rule is written that the user adds.
#[derive(Debug, Args)]
struct Target {
    /// For you (`user`), or for you in this workspace (`project`)
    #[arg(long, value_name = "SCOPE", default_value = "user", value_parser = ["user", "project"])]
    scope: String,
    /// The workspace, instead of the current folder
    #[arg(short = 'C', long = "cd", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Target {
    fn file(&self, env: &Env) -> Result<RuleFile, Failure> {
        let homeless = || {
            Failure::new("no place for your rules: no home is known", "set `HOME`")
                .with_status(FAILED)
        };
        if self.scope == "user" {
            let path = env.user_folder().ok_or_else(homeless)?.join("config.toml");
            return Ok(RuleFile { path, layer: Layer::User, workspace: None });
        }
        let folder = self.folder.as_ref().unwrap_or(&env.current);
        let workspace = env.current.join(folder);
        let workspace = std::fs::canonicalize(&workspace).map_err(|error| {
            Failure::new(format!("cannot open `{}`: {error}", workspace.display()), "")
                .with_status(FAILED)
        })?;
        let path = env.answers_file(&workspace).ok_or_else(homeless)?;
        Ok(RuleFile { path, layer: Layer::Answers, workspace: Some(workspace) })
    }
}

fn surroundings() -> Result<Env, Failure> {
    Env::snapshot().map_err(|error| {
        Failure::new(format!("cannot find the current folder: {error}"), "").with_status(FAILED)
    })
}

/// The rules that hold where the user stands, and those that no longer do.
fn loaded(arguments: &BoundaryArgs) -> Result<(Env, stockade_config::Loaded), Failure> {
    let misused = |failure: Failure| failure.with_status(MISUSED);
    let env = boundary::surroundings(arguments).map_err(misused)?;
    let request = boundary::request(arguments).map_err(misused)?;
    let loaded = stockade_config::load(&env, &request);
    let loaded = loaded.map_err(|error| misused(error.into()))?;
    boundary::announce(arguments, &loaded, None, &env);
    Ok((env, loaded))
}

/// The words of a rule; alternatives with `|` between.
fn words(rule: &RuleText) -> String {
    rule.rule().map(|rule| rule.named().prefix).unwrap_or_default()
}

fn printed(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(format!("cannot print: {error}"), "").with_status(FAILED))
}

fn say_backup(edited: &stockade_config::Edited) {
    if let Some(backup) = &edited.backup {
        ui::say("stockade", &format!("the text before is kept in {}", backup.display()));
    }
}
