//! The binary `stockade`.
//!
//! `stockade run` clones straight from this process, which therefore starts no thread and no
//! runtime before the boundary is up. A verb with threads starts this binary again for it.

mod cli;
mod commands;
mod failure;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: it may be the parent of a sandbox, which must have one thread.
    if let Some(code) = stockade_sandbox::enter_if_helper() {
        return code;
    }
    // Or the hands of a thread, inside one.
    if let Some(code) = stockade_threads::place::enter_if_hands() {
        return code;
    }
    match cli::parse(std::env::args_os()) {
        Ok(cli::Verb::Run(arguments)) => match commands::run::run(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::Local(arguments)) => match commands::local::run(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::Cloud(arguments)) => match commands::cloud::run(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::Check(arguments)) => match commands::check::run(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::Threads(arguments)) => match commands::threads::run(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::Log(arguments)) => match commands::threads::log(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(failure) => failure.report(),
        },
        Ok(cli::Verb::NotYet(verb)) => failure::Failure::not_yet_verb(&verb).report(),
        Err(shown) => shown.show(),
    }
}
