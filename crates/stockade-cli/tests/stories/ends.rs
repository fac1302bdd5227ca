//! How a thread ends, and what it refuses to begin.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::place::{Place, text, told, users};

fn place() -> Place {
    Place::new(*users().last().unwrap())
}

fn says(words: &str) -> FakeModel {
    FakeModel::start(vec![Step::say(words)]).unwrap()
}

#[test]
fn what_cannot_begin_says_why_and_nothing_has_run() {
    let place = place();
    let model = says("hello");
    for (arguments, words) in [
        (&["local"][..], "without a prompt"),
        (&["local", "  "], "empty"),
        (&["local", "--agent", "aider", "x"], "is not installed"),
        (&["local", "--draft", "-s", "read-only", "x"], "a draft is for `workspace-write`"),
        (&["local", "-s", "sometimes", "x"], "--sandbox"),
        (&["local", "-C", "/", "x"], "/"),
        (&["local", "--no-such-flag", "x"], "--no-such-flag"),
    ] {
        let output = place.stockade(&model, arguments);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    place.configure("\n[[rules]]\nprefix = \"ls\"\nallow = true\nmatch = [\"rm x\"]\n");
    let output = place.stockade(&model, &["local", "x"]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("config.toml:24:10"), "{}", text(&output));
    assert_eq!(model.requests().len(), 0);
}

#[test]
fn the_prompt_may_come_from_standard_input_and_words_go_to_standard_output() {
    let place = place();
    let model = says("a\u{1b}[2Jb");
    let mut command = place.command(&model, &["local", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("say something\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\\u{1b}[2Jb\n");
    // One that changed nothing has a diff, which is empty.
    assert!(!text(&output).contains("diff"), "{}", text(&output));
    let diff = place.stockade(&model, &["threads", "diff"]);
    assert!(diff.status.success() && diff.stdout.is_empty(), "{}", text(&diff));
    let asked = model.requests()[0].to_string();
    assert!(asked.contains("say something") && asked.contains("Writable: src, tests"), "{asked}");
}

#[test]
fn a_model_that_cannot_be_used_fails_the_thread_and_says_why() {
    let place = place();
    let model = FakeModel::start_faulty(vec![], vec![Fault::status(401)]).unwrap();
    let output = place.stockade(&model, &["local", "x"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("401"), "{}", text(&output));
}

#[test]
fn a_question_without_a_terminal_is_a_denial_at_once() {
    let place = place();
    let script = vec![Step::Shell("cargo fetch".to_owned()), Step::say("so be it")];
    let model = FakeModel::start(script).unwrap();
    let output = place.stockade(&model, &["local", "--json", "x"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(
        told[0].starts_with("refused: rule \"cargo fetch\"") && told[0].contains("nobody"),
        "{told:?}"
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let answer = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let answer = answer.into_iter().find(|event| event["type"] == "answer").unwrap();
    assert_eq!((&answer["answer"], &answer["by"]), (&json!("deny"), &json!("no-terminal")));
    let never = FakeModel::start(vec![Step::Shell("cargo fetch".to_owned())]).unwrap();
    place.stockade(&never, &["local", "-a", "never", "x"]);
    assert!(crate::place::told(&never)[0].contains("never"), "{:?}", crate::place::told(&never));
}

#[test]
fn an_interrupt_ends_the_command_and_is_recorded() {
    let place = place();
    let model = FakeModel::start(vec![Step::Shell("echo up; sleep 60".to_owned())]).unwrap();
    let mut child = place.start(&model, &["local", "--json", "x"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.by_ref().map(Result::unwrap).find(|line| line.contains("command.started"));
    assert!(started.is_some());
    // timeout(1) passes it on.
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let last = lines.map(Result::unwrap).last().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("interrupted"), &json!(130)), "{last}");
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{error}");
}

#[test]
fn a_thread_is_followed_and_cancelled_from_another_terminal() {
    let place = place();
    let model = FakeModel::start(vec![Step::Shell("echo up; sleep 60".to_owned())]).unwrap();
    let mut child = place.start(&model, &["local", "--json", "x"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let started = lines.by_ref().find(|line| line.contains("thread.started")).unwrap();
    let started: Value = serde_json::from_str(&started).unwrap();
    let id = started["thread"].as_str().unwrap();
    let mut follower = place.start(&model, &["log", "--json", "--follow", id]);
    assert!(lines.by_ref().any(|line| line.contains("command.started")));
    let cancelled = place.stockade(&model, &["threads", "cancel", id]);
    assert!(cancelled.status.success(), "{}", text(&cancelled));
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("cancelled"), &json!(1)), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut seen = String::new();
    follower.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(follower.wait().unwrap().success());
    let whole = place.stockade(&model, &["log", "--json", id]);
    assert_eq!(seen, String::from_utf8_lossy(&whole.stdout), "to the last line");
    assert!(seen.contains("thread.finished"), "{seen}");
}

/// What a program that has ended says on its standard error.
fn left(child: &mut std::process::Child) -> String {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn what_a_command_prints_is_followed_as_it_comes() {
    let place = place();
    // It waits until the follower has seen what it printed.
    let line = "echo one; printf two; while [ ! -e src/seen ]; do sleep 0.05; done; echo; \
                printf '\\033[2Jthree\\n'";
    let model = FakeModel::start(vec![Step::Shell(line.to_owned()), Step::say("done")]).unwrap();
    let mut child = place.start(&model, &["local", "--json", "x"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let started = lines.by_ref().find(|line| line.contains("thread.started")).unwrap();
    let started: Value = serde_json::from_str(&started).unwrap();
    let id = started["thread"].as_str().unwrap();
    let mut follower = place.start(&model, &["threads", "log", "-f", id]);
    let mut out = follower.stdout.take().unwrap();
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains("          two") {
        let count = out.read(&mut piece).unwrap();
        assert!(count > 0, "it printed, and nobody saw it: {seen}{}", left(&mut follower));
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    assert!(seen.contains("\n          one\n          two"), "{seen}");
    assert!(!seen.contains("exit 0"), "it goes on: {seen}");
    fs::write(place.work().join("src/seen"), "").unwrap();
    out.read_to_string(&mut seen).unwrap();
    assert!(follower.wait().unwrap().success());
    let rest = seen.split_once("two\n          \\u{1b}[2Jthree\n").map(|(_, rest)| rest);
    assert!(rest.is_some_and(|rest| rest.contains("exit 0")), "once, and before its end: {seen}");
    assert_eq!(seen.matches("three\n").count(), 1, "{seen}");
    assert!(lines.last().unwrap().contains("completed"));
    child.wait().unwrap();
    // Whoever comes late gets it from the record, and nothing is left beside that.
    let late = text(&place.stockade(&model, &["threads", "log", "-f", id]));
    assert!(late.contains("          one\n          two\n          \\u{1b}[2Jthree\n"), "{late}");
    let folder = place.home().join(".local/state/stockade/threads").join(id).join("printing");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_wall_time_limit_ends_the_command_and_the_wait_for_the_model() {
    let place = place();
    let slow = FakeModel::start(vec![Step::Shell("sleep 60".to_owned())]).unwrap();
    let silent = FakeModel::start_faulty(vec![], vec![Fault::Silent]).unwrap();
    for model in [slow, silent] {
        let output = place.stockade(&model, &["local", "--timeout", "1s", "x"]);
        assert_eq!(output.status.code(), Some(124), "{}", text(&output));
        assert!(text(&output).contains("wall-time limit of 1s"), "{}", text(&output));
    }
}

#[test]
fn a_kill_takes_everything_inside_along_and_leaves_a_record_that_reads() {
    let place = place();
    let line = "(setsid sh -c 'sleep 2; echo x > src/late' &); echo > src/up; sleep 60";
    let model = FakeModel::start(vec![Step::Shell(line.to_owned())]).unwrap();
    let mut child = place.start(&model, &["local", "--json", "x"]);
    let up = place.work().join("src/up");
    let began = Instant::now();
    while !up.exists() && began.elapsed() < Duration::from_secs(30) {
        thread::yield_now();
    }
    assert!(up.exists());
    // The child of timeout(1).
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let stockade = fs::read_to_string(children).unwrap();
    assert!(Command::new("kill").args(["-KILL", stockade.trim()]).status().unwrap().success());
    let mut lines = String::new();
    child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    child.wait().unwrap();
    Command::new("sleep").arg("3").status().unwrap();
    assert!(!place.work().join("src/late").exists(), "the boundary came down with its owner");
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let threads = place.home().join(".local/state/stockade/threads");
    let record = threads.join(first["thread"].as_str().unwrap()).join("events.jsonl");
    assert_eq!(fs::read_to_string(record).unwrap(), lines);
    assert!(lines.lines().last().unwrap().contains("command.started"), "{lines}");
}
