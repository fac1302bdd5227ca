//! Proof by attack, and proof by honest work: every case of `corpus/` as every user in every
//! walled mode. A cell counts only when its control, the same case unconfined, had its effect
//! in this run.
//!
//! `STOCKADE_BACKEND=second` does so where there are no user namespaces, against `corpus/second/`.
//! `STOCKADE_CASE=part-of-a-name,another` runs a part; `STOCKADE_UPDATE_MATRIX=1` writes what was run into the matrix;
//! `STOCKADE_EXPECT=corpus` makes a case that lacks a program a failure instead of a skip.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use stockade_testkit::{Case, Kind, Lab, Mode, User, is_second_backend, load};

/// One line of the matrix.
#[derive(Debug, Clone)]
struct Row {
    case: Case,
    user: User,
    /// `Err` says why there is no result.
    cells: Result<Vec<(Mode, bool)>, Skip>,
    /// What the laboratory printed where something is wrong.
    trouble: String,
}

#[derive(Debug, Clone)]
enum Skip {
    Lacks(String),
    ControlFailed,
    NeedsRoot,
}

fn selected(kind: Kind) -> Vec<Case> {
    load(kind).into_iter().filter(|case| is_meant(&case.area, &case.name)).collect()
}

fn is_meant(area: &str, name: &str) -> bool {
    let parts = env::var("STOCKADE_CASE").unwrap_or_default();
    parts.split(',').any(|part| name.contains(part) || area.contains(part))
}

/// Whether the case has its effect unconfined, at one of three tries: what depends on time may come
/// too late on a busy machine. `Err` is what the laboratory printed.
fn control(lab: &Lab, case: &Case, user: User) -> Result<(), String> {
    let mut output = String::new();
    for _ in 0..3 {
        let seen = lab.run(case, user, Mode::Control);
        if seen.effect && !seen.broken {
            return Ok(());
        }
        output.push_str(&seen.output);
    }
    Err(output)
}

fn run_row(lab: &Lab, kind: Kind, case: &Case, user: User) -> Row {
    let row = |cells, trouble| Row { case: case.clone(), user, cells, trouble };
    if !lab.can_be(user, case) {
        return row(Err(Skip::NeedsRoot), String::new());
    }
    let missing = lab.missing(case);
    if !missing.is_empty() {
        return row(Err(Skip::Lacks(missing.join(", "))), String::new());
    }
    if let Err(output) = control(lab, case, user) {
        return row(Err(Skip::ControlFailed), output);
    }
    let (mut cells, mut trouble) = (Vec::new(), String::new());
    for mode in case.modes() {
        let seen = lab.run(case, user, mode);
        let wanted = kind == Kind::Everyday;
        let good = !seen.broken && seen.effect == wanted;
        if !good {
            write!(trouble, "[{}] {}", mode.as_str(), seen.output).unwrap();
        }
        cells.push((mode, good));
    }
    row(Ok(cells), trouble)
}

/// Held by whoever runs cases: what wants the machine to itself has it.
static MACHINE: Mutex<()> = Mutex::new(());

/// Every selected case, and then those that want the machine to themselves. Most of a case is
/// waiting, so that four share a processor.
fn run_all(kind: Kind) -> Vec<Row> {
    // Where the others have failed these are run all the same.
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new(env!("CARGO_BIN_EXE_stockade"));
    let work = selected(kind).into_iter().enumerate().flat_map(|(index, case)| {
        case.users().into_iter().map(move |user| (index, case.clone(), user))
    });
    let (alone, crowd): (VecDeque<_>, VecDeque<_>) = work.partition(|(_, case, _)| case.alone);
    let workers = thread::available_parallelism().map_or(4, |count| (4 * count.get()).min(12));
    let rows = Mutex::new(Vec::new());
    for (work, workers) in [(crowd, workers), (alone, 1)] {
        let work = Mutex::new(work);
        let next = || work.lock().unwrap().pop_front();
        let serve = || {
            while let Some((index, case, user)) = next() {
                let started = Instant::now();
                let row = run_row(&lab, kind, &case, user);
                rows.lock().unwrap().push((index, started.elapsed(), row));
            }
        };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(serve);
            }
        });
    }
    let mut rows = rows.into_inner().unwrap();
    say_slowest(&mut rows);
    rows.sort_by_key(|(index, _, row)| (*index, row.user.as_str() == "root"));
    rows.into_iter().map(|(_, _, row)| row).collect()
}

/// Where the time went, for whoever wants the corpus to end sooner.
fn say_slowest(rows: &mut [(usize, Duration, Row)]) {
    rows.sort_by_key(|(_, took, _)| Reverse(*took));
    for (_, took, row) in rows.iter().take(12) {
        let Row { case, user, .. } = row;
        say(&format!(
            "{:>6.1} s  {}/{} as {}",
            took.as_secs_f64(),
            case.area,
            case.name,
            user.as_str()
        ));
    }
}

/// The matrix as it is committed: what was proven, a line a case and user.
fn matrix(rows: &[Row], word: &str) -> String {
    let mut text = String::new();
    for row in rows {
        let proven: Vec<&str> = row
            .cells
            .iter()
            .flatten()
            .filter(|(_, good)| *good)
            .map(|(mode, _)| mode.as_str())
            .collect();
        if !proven.is_empty() {
            let name = &row.case.name;
            writeln!(
                text,
                "{:<10} {:<5} {name:<50} {word} {}",
                row.case.area,
                row.user.as_str(),
                proven.join(" ")
            )
            .unwrap();
        }
    }
    text
}

fn judge(kind: Kind, file: &str, word: &str) {
    let rows = run_all(kind);
    let text = matrix(&rows, word);
    let mut problems = String::new();
    let (mut cells, mut proven, mut skipped) = (0, 0, 0);
    let strict = env::var("STOCKADE_EXPECT").is_ok_and(|list| list.contains("corpus"));
    for row in &rows {
        let name = format!("{}/{} as {}", row.case.area, row.case.name, row.user.as_str());
        match &row.cells {
            Ok(found) => {
                cells += found.len();
                proven += found.iter().filter(|(_, good)| *good).count();
                for (mode, good) in found {
                    // There the matrix says what holds, and nothing promises the rest.
                    if !good && is_second_backend() {
                        let shown = env::var_os("LAB_SHOW").map_or("", |_| row.trouble.as_str());
                        say(&format!("not {word}: {name} in {}\n{shown}", mode.as_str()));
                    } else if !good {
                        writeln!(
                            problems,
                            "NOT {word}: {name} in {}\n{}",
                            mode.as_str(),
                            row.trouble
                        )
                        .unwrap();
                    }
                }
            }
            Err(Skip::ControlFailed) => {
                writeln!(problems, "THE CONTROL FAILED: {name}\n{}", row.trouble).unwrap();
            }
            Err(Skip::Lacks(what)) => {
                say(&format!("skipped: {name}: this machine lacks {what}"));
                skipped += 1;
                if strict {
                    writeln!(problems, "SKIPPED although expected: {name}: {what} is missing")
                        .unwrap();
                }
            }
            Err(Skip::NeedsRoot) => skipped += 1,
        }
    }
    say(&format!(
        "{text}{proven} of {cells} cells {word}, {skipped} rows skipped (root's rows need root)"
    ));
    compare(&text, (kind, file), &rows, &mut problems);
    assert!(problems.is_empty(), "\n{problems}");
}

/// Past the harness, which swallows what a passing test prints: the matrix is what CI shows.
fn say(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}

/// What the committed matrix has, this run must have shown as well.
fn compare(text: &str, (kind, file): (Kind, &str), rows: &[Row], problems: &mut String) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus").join(file);
    let committed = fs::read_to_string(&path).expect("the committed matrix");
    if env::var_os("STOCKADE_UPDATE_MATRIX").is_some() {
        fs::write(&path, updated(&committed, text, kind)).unwrap();
        return;
    }
    let skipped = |line: &str| {
        rows.iter().any(|row| {
            let (user, name) = (row.user.as_str(), row.case.name.as_str());
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&user)
                && words.get(2) == Some(&name)
                && matches!(row.cells, Err(Skip::Lacks(_) | Skip::NeedsRoot))
        })
    };
    for line in committed.lines().filter(|line| named(line).is_some_and(|it| is_meant(it.0, it.1)))
    {
        if !text.lines().any(|found| found == line) && !skipped(line) {
            writeln!(problems, "THE MATRIX SHRANK: {line}").unwrap();
        }
    }
}

/// Area and name in a line of the matrix.
fn named(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.nth(1)?))
}

/// The matrix with what was run, and without what no case is named after; what was not run stays.
fn updated(committed: &str, text: &str, kind: Kind) -> String {
    let cases = load(kind);
    let place =
        |line: &str| cases.iter().position(|case| named(line) == Some((&case.area, &case.name)));
    let kept = |line: &&str| named(line).is_some_and(|it| !is_meant(it.0, it.1));
    let mut lines: Vec<&str> = committed.lines().filter(kept).chain(text.lines()).collect();
    lines.retain(|line| place(line).is_some());
    lines.sort_by_key(|line| (place(line), line.split_whitespace().nth(1) == Some("root")));
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The matrix of a backend.
fn matrix_file(name: &str) -> String {
    if is_second_backend() { format!("second/{name}") } else { name.to_owned() }
}

#[test]
fn no_attack_has_an_effect() {
    judge(Kind::Attack, &matrix_file("attacks.txt"), "held");
}

#[test]
fn every_honest_job_works() {
    judge(Kind::Everyday, &matrix_file("everyday.txt"), "works");
}
