//! Repository chores, for people and for CI.
//!
//! ```text
//! cargo xtask tidy              what no compiler checks: sizes, walls between crates, claims
//! cargo xtask ci                everything, in order, with the time of each stage
//! cargo xtask readme HEADING    the one command line that stands under a heading of the README
//! cargo xtask claims            writes the table of proofs in docs/threat-model.md anew
//! ```
//!
//! The standard library only: this is built before anything else can be checked, on every
//! machine that runs the tests.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod ci;
mod readme;
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidy::{Tree, claims};

const USAGE: &str = "usage: cargo xtask tidy | ci | readme HEADING | claims";

fn main() -> ExitCode {
    let root = root();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy(&root),
        ["ci"] => ci::run(&root),
        ["readme", heading] => readme(&root, heading),
        ["claims"] => write_proofs(&root),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository: the folder that holds this crate's.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn tidy(root: &Path) -> Result<(), String> {
    let tree = Tree::of_repository(root)?;
    let findings = tidy::check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", tree.len(), findings.len());
    if findings.is_empty() { Ok(()) } else { Err("the tree is not tidy".to_owned()) }
}

fn readme(root: &Path, heading: &str) -> Result<(), String> {
    let text = read(&root.join("README.md"))?;
    println!("{}", readme::command_under(&text, heading)?);
    Ok(())
}

fn write_proofs(root: &Path) -> Result<(), String> {
    let tree = Tree::of_repository(root)?;
    let path = root.join(claims::MODEL);
    let text = claims::with_proofs(&read(&path)?, &claims::proofs(&tree))?;
    fs::write(&path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}
