//! Answers to a question about a path outside that fit the next ones: a folder, for the run or the project.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, end, events, of_type, start, stockade};
use crate::{Home, also_as_ordinary_user, text};

/// What an editor does to save one file, and what it must not.
const SAVES: &str = "cd ../outside && echo new > .file.tmp && mv .file.tmp file && mkdir -p a && \
                     echo x > a/x && rm a/x && rmdir a && echo saved; mkdir ../outside/.git; \
                     mkdir ../outside/g && mv ../outside/g ../outside/hooks; \
                     cd ../work && python3 -c '
for path in \"../.ssh/id\", \"../notes.txt\":
    try:
        open(path, \"w\")
        print(\"opened\", path)
    except OSError:
        pass'";

fn paths(question: &Value, home: &Home) -> Vec<String> {
    let top = home.path("").canonicalize().unwrap();
    let path = |path: &Value| {
        let path = std::path::Path::new(path.as_str().unwrap());
        path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned()
    };
    question["paths"].as_array().unwrap().iter().map(path).collect()
}

#[test]
#[ignore = "run by the other test, as each user"]
fn as_this_user() {
    let home = Home::new();
    let client = Client::of(&home);
    let rules = |words: &[&str]| text(&stockade(&home, words).output().unwrap());
    let outside = home.path("outside").canonicalize().unwrap();
    let outside = outside.to_str().unwrap();
    let run = |script: &str| start(&home, &[], &["sh", "-c", script]);

    // For the run.
    let saves = run(SAVES);
    let question = client.question();
    assert_eq!(question["choices"], json!(["once", "thread", "project", "deny"]));
    assert_eq!(paths(&question, &home), ["outside/.file.tmp", "outside"], "never home");
    let id = question["id"].as_str().unwrap();
    for wrong in
        ["../outside", &format!("{outside}/other"), &home.path("notes.txt").display().to_string()]
    {
        let output = stockade(&home, &["approvals", "answer", id, "thread", "--prefix", wrong]);
        assert_eq!({ output }.output().unwrap().status.code(), Some(1), "{wrong}");
    }
    client.answer(&question, &["thread", "--prefix", "2"]);
    // What is no part of the folder is a question of its own.
    let other = client.question();
    assert!(other["action"].as_str().unwrap().ends_with("/notes.txt"), "{other}");
    assert_eq!(paths(&other, &home), ["notes.txt"]);
    client.answer(&other, &["deny"]);
    let said = text(&end(saves));
    assert!(said.contains("saved") && !said.contains("opened"), "{said}");
    assert_eq!(fs::read_to_string(home.path("outside/file")).unwrap(), "new\n");
    let is_there = |name: &str| home.path(name).exists();
    assert!(is_there("outside/g") && !is_there("outside/hooks") && !is_there("outside/.git"));

    let used = |all: &[Value], key: &str| -> Vec<Value> {
        let used = of_type(all, "used").into_iter().map(|event| event[key].clone());
        used.filter(|value| !value.is_null()).collect()
    };
    let all = events(&home);
    assert!(used(&all, "action").contains(&json!(format!("remove {outside}/a/x"))), "{all:?}");
    let log = text(&stockade(&home, &["log"]).output().unwrap());
    let answer = format!("answer: thread for `{outside}`, by client");
    assert!(log.contains(&answer), "{log}");
    let line = format!("went on: make folder {outside}/a, as {outside} was allowed");
    assert!(log.contains(&line), "{log}");
    // However many there are, the record stays short, and says how many.
    let many = run("for i in $(seq 150); do echo > ../outside/$i; done");
    client.answer(&client.question(), &["thread", "--prefix", "2"]);
    assert!(end(many).status.success());
    let all = events(&home);
    assert_eq!((used(&all, "action").len(), used(&all, "calls")), (100, vec![json!(149)]));

    // For the project: now, and in the next run without a question.
    let first = run("echo 1 > ../outside/one && echo 2 > ../outside/two");
    client.answer(&client.question(), &["project", "--prefix", outside]);
    assert!(end(first).status.success());
    let next = end(run("echo 3 > ../outside/three && mkdir ../outside/.vscode"));
    assert!(home.path("outside/three").exists(), "{}", text(&next));
    assert!(!home.path("outside/.vscode").exists(), "protected as in any writable root");
    assert!(client.questions.recv_timeout(Duration::from_secs(1)).is_err());
    assert!(!home.path("work/.stockade").exists(), "never in the project");
    let listed = rules(&["rules", "list"]);
    assert!(listed.contains(&format!("allow  path {outside}  (")), "{listed}");
    let taken = rules(&["rules", "revoke", outside]);
    assert!(taken.contains(&format!("revoked: allow path {outside}")), "{taken}");
    let again = run("echo 4 > ../outside/four");
    client.answer(&client.question(), &["deny"]);
    assert!(!end(again).status.success());

    // Taken back while it runs.
    let script = "echo 5 > ../outside/five; until test -e go; do :; done; echo 6 > ../outside/six";
    let slow = run(script);
    client.answer(&client.question(), &["thread", "--prefix", "2"]);
    while !home.path("outside/five").exists() {
        std::thread::yield_now();
    }
    let taken = rules(&["rules", "revoke", outside]);
    assert!(taken.contains(&format!("revoked: path {outside}")), "{taken}");
    fs::write(home.path("work/go"), "").unwrap();
    client.answer(&client.question(), &["deny"]);
    assert!(!end(slow).status.success());
}

/// Issue 6, item 6: "Answers: once, thread, project (three or four generalised prefixes to choose from,
/// editable)", for a path outside.
#[test]
fn a_folder_is_allowed_for_the_run_or_the_project_and_taken_back() {
    as_this_user();
    also_as_ordinary_user("asking::paths::as_this_user");
}
