//! `stockade local --agent NAME`: another agent's program at work on these files.
//!
//! It has the terminal, and its own way to talk; the boundary holds what it does, and the record
//! has what it changed. With `--json` what it prints goes to standard error.

use std::ffi::OsString;

use stockade_threads::Program;
use stockade_threads::record::Kind;

use super::read_prompt;
use crate::cli::LocalArgs;
use crate::commands::{boundary, events::Events, held, run};
use crate::failure::Failure;

/// Runs the agent to its end; the value is its exit status.
pub(super) fn run(arguments: &LocalArgs) -> Result<u8, Failure> {
    let flags = &arguments.boundary;
    // Before anything can print there.
    let events = arguments.json.then(Events::on_stdout).transpose()?;
    let env = boundary::surroundings(flags)?;
    held::settle_lost(&env);
    let recipes = boundary::recipes(&env)?;
    let prompt = arguments.prompt.as_deref().map(read_prompt).transpose()?;
    let task = prompt.as_ref().map(OsString::from);
    let (command, hosts) = match recipes.named(&arguments.agent) {
        Some(recipe) => {
            let program = recipe.programs().first().map(OsString::from).unwrap_or_default();
            let words = match &task {
                None => Vec::new(),
                Some(task) => recipe.for_task(task).ok_or_else(|| {
                    let text = format!("the recipe `{}` has no `prompt`", recipe.name());
                    Failure::new(text, "start it without a task, and say it there")
                })?,
            };
            ((program, words), recipe.hosts())
        }
        None => ((OsString::from(&arguments.agent), task.into_iter().collect()), &[][..]),
    };
    let is_recipe = recipes.named(&arguments.agent).is_some();
    let program = command.0.clone();
    let ready = run::ready((flags, &env), &recipes, command, hosts)?;
    if is_recipe && !ready.is_known {
        return Err(run::not_the_users(&program));
    }
    let program = Program {
        kind: Kind::Local,
        task: prompt.as_deref(),
        argv: &ready.argv.clone(),
        direct: &ready.needs.state.clone(),
        is_draft: arguments.draft,
    };
    run::recorded((flags, &env), ready, (&program, events))
}
