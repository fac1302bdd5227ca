//! Everything that has to hold before a change is merged, in the order in which it fails
//! fastest.
//!
//! Each stage prints the command that runs it again alone. What a test could not try is
//! counted and shown at the end; it is never counted as passed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One stage.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    command: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Whether it can be left out on a machine without its tool, and how that is found out.
    needs: Option<&'static [&'static str]>,
}

const fn stage(name: &'static str, command: &'static [&'static str]) -> Stage {
    Stage { name, command, environment: &[], needs: None }
}

/// A test prints this in front of what it could not try, and why.
const SKIPPED: &str = "skipped:";

const STAGES: &[Stage] = &[
    stage("format", &["cargo", "fmt", "--all", "--check"]),
    stage("tidy", &["cargo", "xtask", "tidy"]),
    stage(
        "lints",
        &["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
    ),
    Stage {
        needs: Some(&["shellcheck", "--version"]),
        ..stage(
            "scripts",
            &[
                "shellcheck",
                ".ci/run",
                "bench/vm",
                "packaging/debian/postinst",
                "packaging/debian/postrm",
                "scripts/demo",
                "scripts/install-agents",
                "scripts/make-deb",
                "scripts/share-toolchain",
                "scripts/test",
            ],
        )
    },
    // The targets of the fuzzers are a workspace of their own, which nothing above looks at; the
    // flag is what cargo-fuzz sets.
    Stage {
        environment: &[("RUSTFLAGS", "--cfg fuzzing")],
        ..stage(
            "fuzz targets",
            &["cargo", "check", "--locked", "--manifest-path", "fuzz/Cargo.toml"],
        )
    },
    stage("tests", &["cargo", "test", "--locked", "--workspace", "--", "--show-output"]),
    Stage {
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
        ..stage("documentation", &["cargo", "doc", "--locked", "--workspace", "--no-deps"])
    },
    Stage {
        needs: Some(&["cargo", "deny", "--version"]),
        ..stage(
            "dependencies",
            &["cargo", "deny", "--workspace", "check", "bans", "licenses", "sources"],
        )
    },
];

/// Seconds for each fuzz target: enough to run the corpus and to notice a target that broke.
const FUZZ_SECONDS: u32 = 10;

/// What one stage came to.
#[derive(Debug)]
struct Done {
    name: String,
    took: Duration,
    /// Lines that say what was not tried.
    skipped: Vec<String>,
}

/// Runs every stage; stops at the first that fails.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut done = Vec::new();
    for stage in STAGES {
        let words: Vec<String> = stage.command.iter().map(|&word| word.to_owned()).collect();
        done.push(perform(root, stage, &words)?);
    }
    for target in fuzz_targets(root) {
        let stage = Stage {
            needs: Some(&["cargo", "+nightly", "fuzz", "--version"]),
            ..stage("fuzzing", &[])
        };
        let limit = format!("-max_total_time={FUZZ_SECONDS}");
        let mut words: Vec<String> =
            ["cargo", "+nightly", "fuzz", "run", &target].map(str::to_owned).into();
        words.extend(fuzz_inputs(root, &target)?);
        words.extend(["--".to_owned(), limit]);
        done.push(perform(root, &stage, &words)?);
    }
    summary(&done);
    Ok(())
}

/// Names of the fuzz targets, which live in a workspace of their own.
fn fuzz_targets(root: &Path) -> Vec<String> {
    let folder = std::fs::read_dir(root.join("fuzz/fuzz_targets"));
    let mut names: Vec<String> = folder
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Where a target's inputs are: what was found so far, which it adds to, and what it begins with.
fn fuzz_inputs(root: &Path, target: &str) -> Result<Vec<String>, String> {
    let found = root.join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let seeds = root.join("fuzz/seeds").join(target);
    let folders = [Some(found), Some(seeds).filter(|seeds| seeds.is_dir())];
    Ok(folders.into_iter().flatten().map(|folder| folder.display().to_string()).collect())
}

fn perform(root: &Path, stage: &Stage, words: &[String]) -> Result<Done, String> {
    let again = again(stage, words);
    println!("\n== {}: {again}", stage.name);
    let name = stage.name.to_owned();
    if let Some(missing) = stage.needs.filter(|probe| !answers(root, probe)) {
        let line = format!("{SKIPPED} {}: `{}` is not here", stage.name, missing.join(" "));
        println!("{line}");
        return Ok(Done { name, took: Duration::ZERO, skipped: vec![line] });
    }
    let started = Instant::now();
    let (succeeded, skipped) =
        watch(root, stage, words).map_err(|error| format!("cannot run `{again}`: {error}"))?;
    let took = started.elapsed();
    if !succeeded {
        return Err(format!("stage `{}` failed; run it again with\n  {again}", stage.name));
    }
    Ok(Done { name, took, skipped })
}

/// The command as a person would type it.
fn again(stage: &Stage, words: &[String]) -> String {
    let variables = stage.environment.iter().map(|(name, value)| format!("{name}='{value}' "));
    variables.collect::<String>() + &words.join(" ")
}

fn answers(root: &Path, probe: &[&str]) -> bool {
    let Some((program, arguments)) = probe.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the command with its output shown, and keeps the lines that speak of skips.
fn watch(root: &Path, stage: &Stage, words: &[String]) -> std::io::Result<(bool, Vec<String>)> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(stage.environment.iter().copied())
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut skipped = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let mut shown = std::io::stdout().lock();
            shown.write_all(&line)?;
            shown.write_all(b"\n")?;
            skipped.extend(skip(&String::from_utf8_lossy(&line)));
        }
    }
    Ok((child.wait()?.success(), skipped))
}

/// What `line` of a test's output says was not tried.
fn skip(line: &str) -> Option<String> {
    let is_ignored = line.starts_with("test ") && line.contains(" ... ignored");
    (is_ignored || line.starts_with(SKIPPED)).then(|| line.to_owned())
}

fn summary(done: &[Done]) {
    println!("\n== all stages passed");
    for Done { name, took, skipped } in done {
        println!("{:>7.1} s  {name}, {} skipped", took.as_secs_f64(), skipped.len());
    }
    let total: Duration = done.iter().map(|done| done.took).sum();
    let skipped: Vec<&String> = done.iter().flat_map(|done| &done.skipped).collect();
    println!("{:>7.1} s  in all, {} skipped", total.as_secs_f64(), skipped.len());
    for line in skipped {
        println!("           {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_told_from_results() {
        for line in ["skipped: job as user: this machine lacks java", "test a::b ... ignored, why"]
        {
            assert!(skip(line).is_some(), "{line}");
        }
        for line in ["test a::b ... ok", "test result: ok. 3 passed; 1 ignored", ""] {
            assert!(skip(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_command_that_fails_or_is_not_there_is_told() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let watched = |word: &str| watch(root, &stage("x", &[]), &[word.to_owned()]);
        assert!(watched("true").unwrap().0);
        assert!(!watched("false").unwrap().0);
        assert!(watched("no-such-program-here").is_err());
        assert!(answers(root, &["true"]) && !answers(root, &["false"]));
        assert!(!answers(root, &["no-such-program-here"]));
    }

    #[test]
    fn a_failed_stage_names_the_command_that_runs_it_again() {
        let stage = Stage { environment: &[("A", "b c")], ..stage("x", &["cargo", "y"]) };
        assert_eq!(again(&stage, &["cargo".to_owned(), "y".to_owned()]), "A='b c' cargo y");
    }
}
