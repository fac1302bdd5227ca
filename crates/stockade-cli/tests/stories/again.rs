//! Cloud threads beside the simplest: uncommitted work, set-up, checks, a second machine that goes
//! on, several attempts in a queue.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::{is_there, shown, small};
use crate::place::{Place, text, told};

fn shell(line: &str) -> Step {
    Step::Shell(line.to_owned())
}

fn git(place: &Place, words: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*"]).args(words).current_dir(place.work());
    String::from_utf8(git.output().unwrap().stdout).unwrap()
}

/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn uncommitted_work_is_cloned_checked_and_gone_on_with() {
    if !is_there() {
        return;
    }
    let place = small();
    for (name, content) in [
        ("src/a.txt", "changed\n"),
        ("new.txt", "new\n"),
        ("ignored.txt", "IGNORED"),
        ("secret.txt", "HIDDEN"),
    ] {
        fs::write(place.work().join(name), content).unwrap();
    }
    fs::write(place.home().join(".gitconfig"), "[user]\nname = T\nemail = t@example.org\n")
        .unwrap();
    let before = place.files();
    let script = vec![
        shell("cat src/a.txt new.txt prepared; ls -A; git status --short"),
        shell("echo by-agent > agent.txt; git add -A; git commit -qm 'first of two'"),
        shell("echo loose >> src/a.txt"),
        Step::say("half of it is done"),
    ];
    let model = FakeModel::start(script).unwrap();
    let checks =
        "cloud.checks=[\"test -f agent.txt\", \"echo seen-by-check; exit 3\", \"docker ps\"]";
    let words = ["cloud", "--with-changes", "--hide", "secret.txt"];
    let setup = "cloud.setup=\"echo prepared-in-$(pwd) > prepared\"";
    let words = [&words[..], &["-c", setup, "-c", checks, "make it so"]].concat();
    let output = place.stockade(&model, &words);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let told_first = told(&model);
    assert!(told_first[0].contains("changed\nnew\nprepared-in-/workspace"), "{}", told_first[0]);
    for name in ["ignored.txt", "secret.txt", ".env"] {
        assert!(!told_first[0].contains(name), "{name}: {}", told_first[0]);
    }
    assert!(told_first[0].contains("?? prepared") && !told_first[0].contains("M src/a.txt"));
    assert!(said.contains("and on what is not committed"), "{said}");
    let first = shown(&place);
    assert_eq!(first["state"], "failed", "{first}");
    let ended: Vec<_> = first["checks"].as_array().unwrap().iter().map(|c| &c["exit"]).collect();
    assert_eq!(ended, [&json!(0), &json!(3), &json!(126)], "a rule holds for checks too: {first}");
    let phases = first["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]);
    let names: Vec<_> = phases.map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, ["clone", "image", "disk", "boot", "setup", "agent", "checks", "diff"]);
    // The agent's work, without the user's own.
    assert_eq!(first["changes"], 3, "{first}");

    let script = vec![
        shell("cat src/a.txt agent.txt new.txt; git log --format=%s; ls prepared"),
        shell("echo more > more.txt; git add -A; git commit -qm 'second of two'"),
        Step::say("all of it is done"),
    ];
    let model = FakeModel::start(script).unwrap();
    let words = ["threads", "resume", "last", "and the rest, please"];
    let output = place.stockade(&model, &words);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let asked = model.requests()[0].to_string();
    for words in ["make it so", "half of it is done", "git commit", "and the rest, please"] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let told = told(&model);
    assert!(told[0].contains("changed\nloose\nby-agent\nnew\nfirst of two\n"), "{}", told[0]);
    let second = shown(&place);
    assert_eq!((&second["id"], &second["state"]), (&first["id"], &json!("completed")));
    assert_eq!((&second["changes"], second["checks"].as_array().unwrap().len()), (&json!(4), 0));
    assert!(before == place.files(), "the user's files and `.git` are as they were: {said}");
    goes_on_here(&place);
}

/// Its branch, and its changes in the user's files, which still have the uncommitted work.
fn goes_on_here(place: &Place) {
    let model = FakeModel::start(vec![Step::say("not asked")]).unwrap();
    let branched = place.stockade(&model, &["threads", "branch", "last", "results"]);
    assert!(branched.status.success(), "{}", text(&branched));
    let log = git(place, &["log", "--format=%s", "results"]);
    let expected = "second of two\nfirst of two\nWork that was not committed when the thread \
                    began\nstart\n";
    assert_eq!(log, expected);
    assert_eq!(git(place, &["show", "results:src/a.txt"]), "changed\nloose\n");
    let applied = place.stockade(&model, &["threads", "apply", "last"]);
    assert!(applied.status.success(), "{}", text(&applied));
    let read = |name: &str| fs::read_to_string(place.work().join(name)).unwrap();
    assert_eq!(
        (read("src/a.txt").as_str(), read("agent.txt").as_str()),
        ("changed\nloose\n", "by-agent\n")
    );
    assert_eq!((read("secret.txt").as_str(), read("more.txt").as_str()), ("HIDDEN", "more\n"));
    let log = place.stockade(&model, &["log", "--verify"]);
    assert!(log.status.success(), "{}", text(&log));
}

#[test]
fn attempts_have_threads_of_their_own_and_wait_for_a_place() {
    if !is_there() {
        return;
    }
    let place = small();
    let model = FakeModel::start(vec![Step::say("one way"), Step::say("another way")]).unwrap();
    let file = place.home().join("events.jsonl");
    let words = ["cloud", "--json", "--json-file", file.to_str().unwrap(), "--attempts", "2"];
    let words = [&words[..], &["-c", "cloud.parallel=1", "think"]].concat();
    let output = place.stockade(&model, &words);
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |number: u32, kind: &str| {
        let is_it = |event: &&Value| event["attempt"] == number && event["type"] == kind;
        events.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let mut queued = 0;
    for number in [1, 2] {
        assert_eq!(of(number, "thread.finished")[0]["state"], "completed", "{lines}");
        let title = of(number, "thread.started")[0]["title"].clone();
        assert_eq!(title, format!("think ({number} of 2)"));
        let note = of(number, "note")[0]["text"].as_str().unwrap().to_owned();
        assert!(note.contains("what is not committed stays here"), "{note}");
        let waits = |phase: &Value| phase["name"] == "queue" && phase["state"] == "started";
        queued += of(number, "phase").iter().filter(|phase| waits(phase)).count();
    }
    assert_eq!(queued, 1, "one had the place, the other waited: {lines}");
    // The file has the same lines of each, whole ones.
    let copied = fs::read_to_string(&file).unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&copied), sorted(&lines));
    let listed = place.stockade(&model, &["threads", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

/// A crash before anybody was told of the task.
#[test]
fn a_thread_that_is_killed_before_its_machine_is_up_goes_on_with_its_task() {
    if !is_there() {
        return;
    }
    let place = small();
    let before = place.files();
    let model = FakeModel::start(vec![Step::say("done")]).unwrap();
    let mut child = place.start(&model, &["cloud", "--json", "mend the fence"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"clone\"") && line.contains("finished")));
    // The child of timeout(1).
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let stockade = fs::read_to_string(children).unwrap();
    assert!(Command::new("kill").args(["-KILL", stockade.trim()]).status().unwrap().success());
    lines.for_each(drop);
    child.wait().unwrap();
    assert_eq!(shown(&place)["state"], "interrupted");
    assert_eq!(model.requests().len(), 0);
    let output = place.stockade(&model, &["threads", "resume", "last"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let asked = model.requests()[0].to_string();
    assert!(asked.contains("mend the fence"), "{asked}");
    assert_eq!(shown(&place)["state"], "completed");
    assert!(before == place.files());
}
