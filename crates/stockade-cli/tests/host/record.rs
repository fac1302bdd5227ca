//! The record of a run, from outside.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{Home, text};

pub(super) fn stockade(home: &Home, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(arguments)
        .current_dir(home.path("work"))
        .env_clear()
        .env("HOME", home.path(""))
        .output()
        .unwrap()
}

pub(super) fn records(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.path(".local/state/stockade/threads"));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_run_is_recorded_and_nothing_of_it_is_seen_inside() {
    let home = Home::new();
    // The first run of all: its folder was not there when the start looked for what to hide.
    for _ in 0..2 {
        let output = home.run(&[], "cat ~/.local/state/stockade/threads/* | head -c 100; exit 7");
        assert_eq!(output.status.code(), Some(7), "{}", text(&output));
        assert!(output.stdout.is_empty(), "{}", text(&output));
    }
    assert_eq!(records(&home).len(), 2);
    let log = text(&stockade(&home, &["log"]));
    assert!(log.contains("failed, exit 7") && log.contains("policy: 2 writable"), "{log}");
    let verified = stockade(&home, &["log", "--verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
    let list = text(&stockade(&home, &["threads", "list", "--json"]));
    assert_eq!(list.matches(r#""kind":"run""#).count(), 2, "{list}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "looks now and then for what another process writes")]
fn the_policy_of_a_run_is_recorded_while_it_runs() {
    let home = Home::new();
    let mut command = home.command();
    let script = "while [ ! -e seen ]; do sleep 0.02; done";
    let mut run = command.args(["-q", "--", "sh", "-c", script]).spawn().unwrap();
    let is_told = || {
        let all = records(&home).into_iter().filter_map(|path| fs::read_to_string(path).ok());
        all.into_iter().any(|record| record.contains(r#""type":"policy""#))
    };
    let patience = Instant::now() + Duration::from_mins(1);
    while !is_told() && Instant::now() < patience && run.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(10));
    }
    let (told, ended) = (is_told(), run.try_wait().unwrap().is_some());
    fs::write(home.path("work/seen"), "").unwrap();
    assert!(run.wait().unwrap().success() && told && !ended, "told: {told}, ended: {ended}");
    let verified = stockade(&home, &["log", "--verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}

/// Threat model, R4: "… and a killed writer loses nothing acknowledged."
#[test]
fn a_run_killed_at_any_moment_leaves_records_that_open() {
    let home = Home::new();
    for round in 0..24_u32 {
        let mut command = home.command();
        // Some are killed while they start, some while they run, some at the end.
        let script = if round % 3 == 0 { "exec sleep 10" } else { ":" };
        let mut child = command.args(["-q", "--", "sh", "-c", script]).spawn().unwrap();
        for _ in 0..round * 400_000 {
            std::hint::black_box(round);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for path in records(&home) {
            let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let whole = fs::read_to_string(&path).unwrap();
            if whole.contains('\n') {
                let verified = stockade(&home, &["log", "--verify", &id]);
                assert!(verified.status.success(), "round {round}: {}", text(&verified));
            }
        }
    }
    let list = stockade(&home, &["threads", "list", "--json"]);
    assert!(list.status.success(), "{}", text(&list));
    assert!(!text(&list).contains("\"running\""), "{}", text(&list));
    assert!(text(&list).contains("\"interrupted\""), "one was killed at least: {}", text(&list));
}

#[test]
fn a_record_that_cannot_be_kept_is_said_and_costs_the_run_only_where_it_is_required() {
    let home = Home::new();
    fs::create_dir_all(home.path(".local/state")).unwrap();
    // Nobody, root included, makes a folder in a file.
    fs::write(home.path(".local/state/stockade"), "").unwrap();
    let output = home.run(&[], "echo ran");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains(
            "this run is not recorded, and `stockade undo` will have nothing of it: cannot make"
        ),
        "{}",
        text(&output)
    );
    let copy = home.path("copy.jsonl");
    let options = ["--json-file".as_ref(), copy.as_os_str()];
    assert!(home.run(&options, "echo ran").status.success());
    assert!(fs::read_to_string(&copy).unwrap().ends_with('\n'), "the copy is there all the same");
    let required: [&OsStr; 2] = ["-c".as_ref(), "log.required=true".as_ref()];
    let output = home.run(&required, "touch ran-all-the-same");
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("log.required"), "{}", text(&output));
    assert!(!home.path("work/ran-all-the-same").exists());
}

#[test]
fn a_file_for_events_does_not_lie_where_the_command_writes() {
    let home = Home::new();
    for place in ["events.jsonl", "src/../events.jsonl", "link"] {
        std::os::unix::fs::symlink("src/events.jsonl", home.path("work/link")).ok();
        let options = ["--json-file".as_ref(), OsStr::new(place)];
        let output = home.run(&options, "touch ran");
        assert_eq!(output.status.code(), Some(125), "{place}: {}", text(&output));
        assert!(!home.path("work/ran").exists(), "{place}");
    }
    let outside = home.path("outside/events.jsonl");
    let output = home.run(&["--json-file".as_ref(), outside.as_os_str()], "exit 3");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let events = fs::read_to_string(&outside).unwrap();
    assert!(events.lines().next().unwrap().contains(r#""schema":1"#), "{events}");
    assert!(events.lines().last().unwrap().contains(r#""exit":3"#), "{events}");
}
