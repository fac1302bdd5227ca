//! What scripts may rely on: the events of `--json` and their keys, as DESIGN section 10 lists them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, told, users};

/// Each type with the keys that it has at least. One of `argv` and `line` is the command's.
const KEYS: &[(&str, &[&str])] = &[
    ("thread.started", &["schema", "thread", "kind", "workspace", "mode", "policy", "enforcement"]),
    ("phase", &["name", "state", "seconds"]),
    ("message", &["role", "text"]),
    ("command.started", &["id", "decision"]),
    ("command.finished", &["id", "exit", "output", "truncated", "denials"]),
    ("edit", &["path", "kind"]),
    ("slip", &["why"]),
    ("question", &["id", "effect", "choices"]),
    ("answer", &["id", "answer", "by"]),
    ("used", &["grant"]),
    ("denial", &["op", "target", "decided_by", "alternatives"]),
    ("connection", &["host", "port"]),
    ("usage", &["input_tokens", "output_tokens"]),
    ("thread.finished", &["state", "exit", "summary"]),
];

/// Those that the run below cannot but have.
const SEEN: &[&str] = &[
    "thread.started",
    "message",
    "command.started",
    "command.finished",
    "edit",
    "slip",
    "denial",
    "usage",
    "thread.finished",
];

fn steps(marks: [&str; 2]) -> Value {
    let [first, second] = marks;
    json!({"steps": [{"text": "look\n around", "state": first}, {"text": "repair", "state": second}]})
}

#[test]
fn events_have_the_types_and_keys_that_scripts_rely_on() {
    let place = Place::new(*users().last().unwrap());
    let edit = json!({"path": "src/new.py", "content": "x = 1\n"});
    let model = FakeModel::start(vec![
        Step::tool("plan", steps(["doing", "pending"])),
        Step::tool("plan", steps(["finished", "pending"])),
        Step::Shell("echo hello; mkdir ../made; true".to_owned()),
        Step::Shell("docker ps".to_owned()),
        Step::tool("write", edit),
        Step::tool("plan", steps(["done", "done"])),
        Step::tool("teleport", json!({"to": "/"})),
        Step::tool("shell", json!("{\"command\": \u{1b}[2J")),
        Step::say("done"),
    ])
    .unwrap();
    let output = place.stockade(&model, &["local", "--json", "the task"]);
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut seen = BTreeSet::new();
    for event in &events {
        let kind = event["type"].as_str().unwrap();
        let keys = KEYS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
        for key in keys {
            assert!(event.get(key).is_some(), "{kind} without `{key}`: {event}");
        }
        if kind == "command.started" {
            assert!(event.get("argv").is_some() || event.get("line").is_some(), "{event}");
            // Of a command that a rule decided about.
            assert_eq!(event.get("rule").is_some(), event["decision"] == "deny", "{event}");
        }
        seen.insert(kind);
    }
    for kind in SEEN {
        assert!(seen.contains(kind), "no {kind}: {seen:?}");
    }
    assert_eq!(events[0]["schema"], 1);
    assert_eq!(events.last().unwrap()["type"], "thread.finished");
    let decisions = events.iter().filter(|event| event["type"] == "command.started");
    let decisions: Vec<_> = decisions.map(|event| event["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["allow", "deny"]);
    plans(&events, &told(&model));
    slips(&events);
    // The same later, and for a person.
    let log = place.stockade(&model, &["log"]);
    let log = text(&log);
    assert!(log.contains("not carried out: there is no tool `teleport`"), "{log}");
}

/// What could not be carried out is told by its reason, in the order of the calls.
fn slips(events: &[Value]) {
    let slips = events.iter().filter(|event| event["type"] == "slip");
    let why: Vec<&str> = slips.map(|event| event["why"].as_str().unwrap()).collect();
    let starts =
        ["the arguments of `plan`", "there is no tool `teleport`", "the arguments of `shell`"];
    assert_eq!(why.len(), starts.len(), "{why:?}");
    for (why, start) in why.iter().zip(starts) {
        assert!(why.starts_with(start) && !why.contains(char::is_control), "{why}");
    }
}

/// The plan is told as what the agent says; one that does not fit is a slip.
fn plans(events: &[Value], told: &[String]) {
    let said: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "message" && event["role"] == "assistant")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    let wanted =
        ["Plan:\n[>] look around\n[ ] repair", "Plan:\n[x] look around\n[x] repair", "done"];
    assert_eq!(said, wanted);
    assert!(told[0].contains("noted: 0 of 2 steps are done"), "{}", told[0]);
    assert!(told[1].contains("error: the arguments of `plan` do not fit"), "{}", told[1]);
    assert!(told[5].contains("noted: 2 of 2"), "{}", told[5]);
}
