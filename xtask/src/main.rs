//! Repository chores.
//!
//! ```text
//! cargo xtask tidy    what no compiler checks: sizes, walls between crates, claims and tests
//! cargo xtask ci      everything, in order, with the time of each stage
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod claims;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Each stage by the command that runs it again.
const STAGES: &[(&str, &[&str])] = &[
    ("format", &["cargo", "fmt", "--all", "--check"]),
    ("tidy", &["cargo", "xtask", "tidy"]),
    ("clippy", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("tests", &["cargo", "test", "--workspace", "--quiet"]),
    ("documentation", &["cargo", "doc", "--workspace", "--no-deps", "--quiet"]),
];

fn main() -> ExitCode {
    let root = root();
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let problems = tidy::run(&root);
            for problem in &problems {
                eprintln!("tidy: {problem}");
            }
            if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("ci") => ci(&root),
        _ => {
            eprintln!("usage: cargo xtask tidy | ci");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn ci(root: &Path) -> ExitCode {
    for (name, command) in STAGES {
        let started = Instant::now();
        println!("== {name}: {}", command.join(" "));
        let [program, arguments @ ..] = command else { continue };
        let status = Command::new(program).args(arguments).current_dir(root).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("== {name} FAILED; again: {}", command.join(" "));
            return ExitCode::FAILURE;
        }
        println!("== {name}: {} s", started.elapsed().as_secs());
    }
    ExitCode::SUCCESS
}
