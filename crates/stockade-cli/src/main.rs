//! The binary `stockade`.
//!
//! `stockade run` clones straight from this process, which therefore starts no thread and no
//! runtime before the boundary is up. A verb with threads starts this binary again for it.

mod cli;
mod commands;
mod failure;
mod ui;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use cli::Verb;
use commands::attached::Front;
use failure::Failure;

fn main() -> ExitCode {
    // Before anything else: it may be the parent of a sandbox, which must have one thread.
    if let Some(code) = stockade_sandbox::enter_if_helper(commands::revive) {
        return code;
    }
    // Or the hands of a thread, inside one.
    if let Some(code) = stockade_threads::place::enter_if_hands() {
        return code;
    }
    // Or at work behind the one that the user's shell waits for.
    let (front, words) = commands::attached::enter(std::env::args_os().collect());
    match cli::parse(words.into_iter()) {
        Ok(verb) => match run(&verb, front) {
            Ok(status) => {
                if leaves_records(&verb) {
                    commands::clean::automatic();
                }
                ExitCode::from(status)
            }
            Err(failure) => failure.report(),
        },
        Err(shown) => shown.show(),
    }
}

/// Whether old records are looked for after it. A script's many runs do not wait for that.
fn leaves_records(verb: &Verb) -> bool {
    let is_run = matches!(verb, Verb::Run(_));
    matches!(verb, Verb::Local(_) | Verb::Cloud(_)) || (is_run && std::io::stderr().is_terminal())
}

/// Does what was asked for; the value is the exit status.
fn run(verb: &Verb, front: Option<Front>) -> Result<u8, Failure> {
    match verb {
        Verb::Run(arguments) => commands::run::run(arguments),
        Verb::Local(arguments) => commands::local::run(arguments),
        Verb::Check(arguments) => commands::check::run(arguments),
        Verb::Agents(arguments) => commands::agents::run(arguments),
        Verb::Approvals(arguments) => commands::approvals::run(arguments),
        Verb::Rules(arguments) => commands::rules::run(arguments),
        Verb::Cloud(arguments) => commands::cloud::run(arguments, front),
        Verb::Clean(arguments) => commands::clean::run(arguments),
        Verb::Explain(arguments) => commands::explain::run(arguments),
        Verb::Config(arguments) => commands::config::run(arguments),
        Verb::Threads(arguments) => commands::threads::run(arguments, front),
        Verb::Undo(arguments) => commands::undo::run(arguments),
        Verb::Log(arguments) => commands::threads::log(arguments),
        Verb::Doctor(arguments) => commands::doctor::run(arguments),
        Verb::Text(text) => ui::whole(text)
            .map(|()| 0)
            .map_err(|error| Failure::new(format!("cannot print: {error}"), "").with_status(1)),
        Verb::NotYet(verb) => Err(Failure::not_yet_verb(verb)),
    }
}
