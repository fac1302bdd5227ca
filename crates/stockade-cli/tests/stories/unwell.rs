//! Model servers and commands that behave badly, with the real loop, boundary and record: told,
//! bounded, and nothing runs twice.

use std::fs;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::place::{Place, text, told, users};

fn place() -> Place {
    Place::new(*users().last().unwrap())
}

fn shell(line: &str) -> Step {
    Step::Shell(line.to_owned())
}

fn events(lines: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_server_that_is_busy_cuts_and_breaks_off_is_asked_again_and_nothing_runs_twice() {
    let place = place();
    let busy = |code, head: &str| {
        let body = r#"{"error": {"message": "busy"}}"#.to_owned();
        Fault::Status { code, head: head.to_owned(), body }
    };
    let faults = vec![
        busy(429, "Retry-After: 1\r\n"),
        Fault::None,
        // In the middle of the second call's arguments.
        Fault::Cut { is_proper: false },
        busy(503, "retry-after-ms: 10\r\n"),
        Fault::None,
        Fault::HangUp,
    ];
    let edit = json!({"path": "src/whole.txt", "content": "whole\n".repeat(200)});
    let script = vec![shell("echo x >> src/count"), Step::tool("write", edit), Step::say("Done.")];
    let model = FakeModel::start_faulty(script, faults).unwrap();
    let output = place.stockade(&model, &["local", "go"]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("429: busy; again in 1.0 s"), "{said}");
    assert_eq!(said.matches("; again in ").count(), 4, "{said}");
    assert_eq!(fs::read_to_string(place.work().join("src/count")).unwrap(), "x\n");
    let whole = fs::read_to_string(place.work().join("src/whole.txt")).unwrap();
    assert_eq!(whole, "whole\n".repeat(200));
    assert_eq!(model.requests().len(), 7);
}

#[test]
fn a_server_that_is_down_is_named_and_the_thread_can_go_on_later() {
    let place = place();
    let down = FakeModel::start_faulty(vec![], vec![Fault::HangUp; 9]).unwrap();
    let output = place.stockade(&down, &["local", "--json", "go"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let url = format!("cannot reach the model at `http://127.0.0.1:{}/", down.port());
    assert!(text(&output).contains(&url), "{}", text(&output));
    let last = events(&output.stdout).pop().unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("failed"), &json!(1)), "{last}");
    assert!(last["summary"].as_str().unwrap().contains(&url), "{last}");
    let up = FakeModel::start(vec![shell("echo x > src/on"), Step::say("Done.")]).unwrap();
    let output = place.stockade(&up, &["threads", "resume", "last"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(place.work().join("src/on").exists());
    assert!(up.requests()[0].to_string().contains("go"), "{}", up.requests()[0]);
}

#[test]
fn a_command_that_never_ends_is_ended_at_its_limit_and_the_agent_goes_on() {
    let place = place();
    place.configure("\n[agent]\ncommand_timeout = \"1s\"\n");
    let deaf = "trap '' INT TERM HUP; echo up; while :; do sleep 1; done";
    let script = vec![shell(deaf), shell("yes"), shell("echo on"), Step::say("Done.")];
    let model = FakeModel::start(script).unwrap();
    let output = place.stockade(&model, &["local", "--json", "go"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(told[0].starts_with("ended after 1 s, the time limit") && told[0].contains("up"));
    assert!(told[1].starts_with("ended after 1 s, the time limit"), "{}", told[1]);
    assert!(told[1].len() < 41_000 && told[1].contains(" bytes left out ...]"));
    assert!(told[2].contains("on"), "{}", told[2]);
    let events = events(&output.stdout);
    let finished: Vec<_> = events.iter().filter(|it| it["type"] == "command.finished").collect();
    assert_eq!(finished.len(), 3);
    assert!(finished[1]["truncated"] == json!(true), "what `yes` prints is bounded");
    assert!(finished[..2].iter().all(|it| it["timed_out"] == json!(true)), "{events:?}");
}

#[test]
fn ten_megabytes_of_anything_are_bounded_for_the_model_and_in_the_record() {
    let place = place();
    let script = vec![
        shell("head -c 10000000 /dev/zero | tr '\\0' x"),
        shell("head -c 10000000 /dev/urandom"),
        shell("head -c 10000000 /dev/zero | tr '\\0' '\\033' >&2; exit 3"),
        shell("echo after"),
        Step::say("Done."),
    ];
    let model = FakeModel::start(script).unwrap();
    let output = place.stockade(&model, &["local", "--json", "go"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    for told in &told[..3] {
        assert!(told.len() < 200_000, "{}", told.len());
        assert!(told.contains("it printed more than is kept"));
    }
    assert!(told[2].starts_with("exit status 3") && !told[2].contains('\u{1b}'));
    assert!(told[3].contains("after"), "{}", told[3]);
    for event in events(&output.stdout).iter().filter(|it| it["type"] == "command.finished") {
        let length = event["output"].as_str().unwrap().len();
        assert!(length < 2_000_000, "{length}");
        let is_short = event["output"].as_str().unwrap() == "after\n";
        assert_eq!(event["truncated"] == json!(true), !is_short, "{length}");
    }
    let verified = place.stockade(&model, &["log", "--verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn a_budget_of_turns_or_tokens_ends_the_thread_and_says_which_key_it_is() {
    for (key, words) in [
        ("max_turns = 3", "not finished after 3 turns"),
        ("max_tokens = 5", "not finished within 5 tokens"),
    ] {
        let place = place();
        place.configure(&format!("\n[agent]\n{key}\n"));
        let model = FakeModel::start(vec![shell("echo x >> src/count"); 20]).unwrap();
        let output = place.stockade(&model, &["local", "go"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let name = key.split(' ').next().unwrap();
        assert!(text(&output).contains(words), "{}", text(&output));
        assert!(text(&output).contains(&format!("`[agent] {name}`")), "{}", text(&output));
        let count = fs::read_to_string(place.work().join("src/count")).unwrap().lines().count();
        assert!((2..=3).contains(&count), "{count}: {}", text(&output));
        let shown = place.stockade(&model, &["threads", "show", "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["state"], "failed");
    }
}

/// A file that its owner has made read-only, or another user's, is no matter of the boundary.
#[test]
fn a_file_that_the_user_may_not_write_is_told_as_that() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let path = place.work().join("src/tokens.py");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let write = |path: &str| Step::tool("write", json!({"path": path, "content": "x\n"}));
    let script = vec![write("src/tokens.py"), write(".env"), Step::say("Done.")];
    let model = FakeModel::start(script).unwrap();
    let output = place.stockade(&model, &["local", "go"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(told[0].contains("cannot write `src/tokens.py`: its mode is 0444"), "{}", told[0]);
    assert!(told[1].starts_with("refused: write to .env is outside"), "{}", told[1]);
}
