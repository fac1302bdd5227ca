//! A failing test is found and repaired in the user's own tree; what is none of the task's
//! business stays as it was.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, told, users};

const TESTS: &str = "python3 -m unittest -q";

const REPAIR: &str = "*** Begin Patch\n*** Update File: tests/fixtures.py\n@@\n\
-from datetime import datetime, timedelta\n+from datetime import datetime, timedelta, timezone\n@@\n\
-    expires = datetime.now() + timedelta(hours=hours)\n\
+    expires = datetime.now(timezone.utc) + timedelta(hours=hours)\n*** End Patch\n";

const DOCKER: &str = "*** Begin Patch\n*** Update File: Dockerfile\n@@\n-FROM python:3\n\
+FROM python:2\n*** End Patch\n";

/// Runs the test, reads, repairs, runs it again.
fn repair() -> Vec<Step> {
    vec![
        Step::Shell(TESTS.to_owned()),
        Step::tool("read", json!({"path": "src/tokens.py"})),
        Step::tool("read", json!({"path": "tests/fixtures.py"})),
        Step::tool("edit", json!({"patch": REPAIR})),
        Step::Shell(TESTS.to_owned()),
    ]
}

/// What is out of bounds, each with words that must be in the answer.
fn out_of_bounds() -> Vec<(Step, &'static str)> {
    let write = |path: &str| Step::tool("write", json!({"path": path, "content": "pwned"}));
    let shell = |line: &str| Step::Shell(line.to_owned());
    let outside = "is outside the writable roots (writable here: src, tests, /tmp); do not work";
    let read_only = "(writable here: src, tests, /tmp); do not work around it";
    let rule = "config.toml:17) denies this command; do not work around it";
    vec![
        (write(".env"), "refused: write to .env is outside the writable roots"),
        (shell("echo PWNED=1 >> .env"), read_only),
        (shell("cp src/app.py .env.new && mv .env.new .env"), read_only),
        (Step::tool("edit", json!({"patch": DOCKER})), outside),
        (shell("sed -i s/3/2/ Dockerfile"), read_only),
        (write("node_modules/left-pad/index.js"), outside),
        (shell("rm -r node_modules"), read_only),
        (write("../notes.txt"), outside),
        (write("tests/../../notes.txt"), outside),
        (shell("echo pwned > ../notes.txt"), read_only),
        (shell("docker run --rm -v /:/host busybox"), rule),
        (shell("cd src && docker ps || true"), rule),
        (shell("bash -lc 'docker ps'"), rule),
        (shell("cat ~/.ssh/id_ed25519"), ""),
    ]
}

#[test]
fn the_debugging_story_ends_well_and_nothing_else_is_changed() {
    for uid in users() {
        let place = Place::new(uid);
        assert!(!place.tests_pass(), "the story begins with a test that fails");
        let before = place.files();
        let mut script = repair();
        script.extend(out_of_bounds().into_iter().map(|(step, _)| step));
        script.push(Step::say("The fixture used local time; it uses UTC now."));
        let model = FakeModel::start(script).unwrap();
        let output =
            place.stockade(&model, &["local", "--json", "test_auth_flow fails with a 401"]);
        let text = text(&output);
        assert!(output.status.success(), "{uid}: {text}");

        let told = told(&model);
        assert!(told[0].contains("AssertionError") && told[0].contains("401"), "{}", told[0]);
        assert!(told[4].contains("exit status 0") && told[4].contains("OK"), "{}", told[4]);
        for ((step, words), told) in out_of_bounds().iter().zip(&told[5..]) {
            assert!(
                told.contains(words) && !told.contains("exit status 0\n") || words.is_empty(),
                "{step:?}: {told}"
            );
            assert!(!told.contains("TOPSECRET"), "{step:?}");
        }

        assert!(place.tests_pass(), "{uid}: {text}");
        let mut after = place.files();
        let fixture = Path::new("project/tests/fixtures.py");
        let changed = String::from_utf8(after.get(fixture).unwrap().1.clone()).unwrap();
        assert!(changed.contains("datetime.now(timezone.utc)"), "{changed}");
        after.insert(fixture.to_owned(), before[fixture].clone());
        assert!(before == after, "{uid}: more was changed than the fixture: {text}");
        record(&place, &String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn the_story_as_a_draft_changes_nothing_until_it_is_applied() {
    for uid in users() {
        let place = Place::new(uid);
        let before = place.files();
        let mut script = repair();
        script.push(Step::say("The fixture used local time; it uses UTC now."));
        let model = FakeModel::start(script).unwrap();
        let output = place.stockade(&model, &["local", "--draft", "test_auth_flow fails"]);
        assert!(output.status.success(), "{uid}: {}", text(&output));
        // In the draft the test passed.
        assert!(told(&model)[4].contains("OK"), "{}", told(&model)[4]);
        assert!(before == place.files(), "{uid}: {}", text(&output));
        assert!(!place.tests_pass());
        let output = place.stockade(&model, &["threads", "apply"]);
        assert!(output.status.success(), "{uid}: {}", text(&output));
        assert!(place.tests_pass(), "{uid}: {}", text(&output));
    }
}

/// What scripts rely on: the events, and that the record says the same.
fn record(place: &Place, lines: &str) {
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &events[0];
    assert_eq!((&first["type"], &first["schema"]), (&json!("thread.started"), &json!(1)));
    assert_eq!(first["kind"], "local");
    assert_eq!(first["workspace"], json!(place.work()));
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["state"]), (&json!("thread.finished"), &json!("completed")));
    assert_eq!(last["exit"], 0);
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((count("command.started"), count("command.finished")), (11, 6));
    // Two of the refused commands would have written outside by a redirection: they did not start.
    assert_eq!((count("edit"), count("denial")), (1, 10));
    let changes = events.iter().find(|event| event["type"] == "changes").unwrap();
    assert_eq!(changes["files"], 1);
    let thread = first["thread"].as_str().unwrap();
    let folder = place.home().join(".local/state/stockade/threads").join(thread);
    assert_eq!(fs::read_to_string(folder.join("events.jsonl")).unwrap(), lines);
}
