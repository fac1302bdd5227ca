//! An hour of an agent's work, command by command, as agents do it: who is asked about what.
//!
//! The log says of each line what it is: it only `reads`, it `acts` inside the boundary, or it
//! `crosses` it.

use std::fs;

use serde_json::{Value, json};

use super::Home;

const SESSION: &str = include_str!("session.jsonl");

/// The lines of the session that are `kind`, replayed.
fn replayed(home: &Home, kind: &str) -> (Value, u64) {
    let lines = SESSION.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["is"] == kind
    });
    let lines: Vec<&str> = lines.collect();
    fs::write(home.folder.path().join("work/log"), lines.join("\n")).unwrap();
    let (status, out, err) = home.said(&["--replay", "log", "--json"]);
    assert_eq!(status, 0, "{err}");
    (serde_json::from_str(&out).unwrap(), lines.len().try_into().unwrap())
}

fn counts(run: u64, ask: u64, refused: u64) -> Value {
    json!({"run": run, "ask": ask, "refused": refused})
}

/// Issue 6, item 9: "Fatigue is measured"; and item 3: the table of reading commands.
#[test]
fn nobody_is_asked_about_an_hour_but_for_what_crosses_the_boundary() {
    let home = Home::new("");
    let (reads, count) = replayed(&home, "reads");
    assert!(count > 200, "{count}");
    for policy in ["untrusted", "on-request", "never"] {
        assert_eq!(
            reads["policies"][policy],
            counts(count, 0, 0),
            "{policy}: {:#}",
            reads["groups"]
        );
    }
    let (acts, count) = replayed(&home, "acts");
    assert_eq!(acts["policies"]["untrusted"], counts(0, count, 0), "{acts:#}");
    for policy in ["on-request", "never"] {
        assert_eq!(acts["policies"][policy], counts(count, 0, 0), "{policy}: {:#}", acts["groups"]);
    }
    let (crosses, count) = replayed(&home, "crosses");
    for policy in ["untrusted", "on-request"] {
        assert_eq!(crosses["policies"][policy], counts(0, count, 0), "{policy}: {crosses:#}");
    }
    assert_eq!(crosses["policies"]["never"], counts(0, 0, count), "{crosses:#}");
}
