//! Answers for the project to a rule that asks.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::{Client, end, start, stockade};
use crate::{Home, also_as_ordinary_user, execs, text};

const RULES: &str = r#"
[[rules]]
prefix = "cargo"
decision = "ask"

[[rules]]
prefix = "cargo publish"
decision = "deny"
"#;

const MORE: &str = r#"
[[rules]]
prefix = "cargo fetch --all"
decision = "ask"
"#;

#[test]
#[ignore = "run by the other test, as each user"]
fn as_this_user() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/stockade")).unwrap();
    let configure =
        |rules: &str| fs::write(home.path(".config/stockade/config.toml"), rules).unwrap();
    configure(RULES);
    execs::program(&home.path("bin/cargo"), "echo \"ran $*\"");
    let client = Client::of(&home);
    let run = |line: &str| start(&home, &[], &["sh", "-c", line]);
    let nobody_is_asked = || client.questions.recv_timeout(Duration::from_secs(1)).is_err();

    let first = run("cargo fetch -q");
    let question = client.question();
    assert_eq!(question["choices"], json!(["once", "thread", "project", "deny"]));
    let offered = question["prefixes"].as_array().unwrap();
    let at = offered.iter().position(|words| words.as_array().unwrap().len() == 2).unwrap();
    client.answer(&question, &["project", "--prefix", &(at + 1).to_string()]);
    assert!(text(&end(first)).contains("ran fetch -q"));
    assert!(!home.path("work/.stockade").exists(), "never in the project");
    let listed = text(&stockade(&home, &["rules", "list"]).output().unwrap());
    let hits = |line: &str| line.starts_with("ask    cargo ") && line.contains("matched once");
    assert!(listed.lines().any(hits), "a yes is a match as well: {listed}");

    let next = text(&end(run("cargo fetch --locked; cargo publish")));
    assert!(next.contains("ran fetch --locked") && !next.contains("ran publish"), "{next}");
    assert!(nobody_is_asked(), "answered, and denied");
    let other = run("cargo build");
    client.answer(&client.question(), &["deny"]);
    assert!(!end(other).status.success(), "the rule asks about the rest");

    let check = text(&stockade(&home, &["check", "--", "cargo", "fetch", "x"]).output().unwrap());
    assert!(check.contains("ask: rule \"cargo\"") && check.contains("you answered ("), "{check}");
    let check = text(&stockade(&home, &["check", "--", "cargo", "build"]).output().unwrap());
    assert!(!check.contains("you answered"), "{check}");

    // Another rule asks for itself.
    configure(&format!("{RULES}{MORE}"));
    let other = run("cargo fetch --all");
    let question = client.question();
    assert!(question["effect"].as_str().unwrap().contains("\"cargo fetch --all\""), "{question}");
    client.answer(&question, &["deny"]);
    end(other);

    let rules = |words: &[&str]| text(&stockade(&home, words).output().unwrap());
    let listed = rules(&["rules", "list"]);
    assert!(listed.contains("cargo fetch …, about which rule \"cargo\" asks"), "{listed}");
    let place = listed.lines().find(|line| line.contains("about which")).unwrap();
    let place = place.rsplit_once('(').unwrap().1.split(';').next().unwrap();
    let taken = rules(&["rules", "revoke", place]);
    assert!(taken.contains("revoked: allow "), "{taken}");
    let again = run("cargo fetch --locked");
    client.answer(&client.question(), &["deny"]);
    assert!(!end(again).status.success());
}

/// Issue 6, item 6: "Answers: once, thread, project", where a rule asks.
#[test]
fn an_answer_for_the_project_is_to_the_rule_that_asked() {
    as_this_user();
    also_as_ordinary_user("asking::answers::as_this_user");
}
