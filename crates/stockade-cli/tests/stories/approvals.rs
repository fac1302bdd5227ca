//! Questions that are answered from elsewhere, or by nobody, and what a yes opens.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::time::Duration;
use std::{fs, thread};

use rustix::fs::FlockOperation::NonBlockingLockExclusive;
use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, told, users};

/// Somebody in another terminal.
struct Client {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(place: &Place, model: &FakeModel) -> Self {
        let mut child = place.start(model, &["approvals", "list", "--wait", "--json"]);
        let lines = BufReader::new(child.stdout.take().unwrap());
        // Only who has registered is somebody to ask.
        let lock = place.home().join(".local/state/stockade/clients.lock");
        while !lock.exists() {
            thread::yield_now();
        }
        let held = || rustix::fs::flock(fs::File::open(&lock).unwrap(), NonBlockingLockExclusive);
        while held().is_ok() {
            thread::yield_now();
        }
        Self { child, lines }
    }

    fn last_words(&mut self) -> String {
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        format!("{:?}: {words}", self.child.wait())
    }

    fn question(&mut self) -> Value {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        assert_ne!(count, 0, "nobody waits any more: {}", self.last_words());
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn shell(line: &str) -> Step {
    Step::Shell(line.to_owned())
}

fn events(place: &Place) -> Vec<Value> {
    let threads = place.home().join(".local/state/stockade/threads");
    let newest = fs::read_dir(threads).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let text = fs::read_to_string(newest.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_client_answers_for_a_thread_without_a_terminal() {
    for uid in users() {
        let place = Place::new(uid);
        let model = FakeModel::start(vec![
            shell("cargo fetch"),
            shell("cargo fetch --locked"),
            shell("cargo fetch --offline"),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "--json", "x"]);
        let question = client.question();
        assert_eq!(question["action"], "run: cargo fetch");
        assert_eq!(question["choices"], json!(["once", "thread", "project", "deny"]));
        assert_eq!(question["prefixes"][0], json!(["cargo", "fetch"]));
        let listed = place.stockade(&model, &["approvals", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed, json!([question]));
        let id = question["id"].as_str().unwrap();
        for wrong in [
            &["approvals", "answer", id, "project"][..],
            &["approvals", "answer", id, "thread", "--prefix", "cargo build"],
            &["approvals", "answer", "q9", "once"],
        ] {
            let output = place.stockade(&model, wrong);
            assert_eq!(output.status.code(), Some(1), "{wrong:?}: {}", text(&output));
        }
        // For all that begin so: the next one is not asked about.
        let answer = ["approvals", "answer", id, "thread", "--prefix", "1"];
        let output = place.stockade(&model, &answer);
        assert!(output.status.success(), "{}", text(&output));
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        assert!(told(&model).iter().all(|told| told.contains("exit status")), "{:?}", told(&model));
        let events = events(&place);
        let answers: Vec<_> = events.iter().filter(|event| event["type"] == "answer").collect();
        let [answer] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((&answer["by"], &answer["answer"]), (&json!("client"), &json!("thread")));
        assert_eq!(answer["prefix"], json!(["cargo", "fetch"]));
        let none = place.stockade(&model, &["approvals", "--json"]);
        assert_eq!(none.stdout, b"[]\n");
    }
}

#[test]
fn a_no_from_elsewhere_reaches_the_agent_and_no_answer_is_a_no_that_says_so() {
    let place = Place::new(*users().last().unwrap());
    let model =
        FakeModel::start(vec![shell("cargo fetch"), shell("cargo fetch"), Step::say("The end.")])
            .unwrap();
    let mut client = Client::start(&place, &model);
    let thread =
        place.start(&model, &["local", "-c", "agent.question_timeout='3s'", "--json", "x"]);
    let question = client.question();
    assert_eq!(question["limit_seconds"], 3);
    let id = question["id"].as_str().unwrap();
    let answer = ["approvals", "answer", id, "deny", "use", "the", "vendored", "ones"];
    assert!(place.stockade(&model, &answer).status.success());
    // The second is answered by nobody.
    client.question();
    let output = thread.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(told[0].contains("the user said no: use the vendored ones"), "{told:?}");
    assert!(told[1].contains("nobody answered in time"), "{told:?}");
    let by: Vec<Value> = events(&place)
        .iter()
        .filter(|event| event["type"] == "answer")
        .map(|event| event["by"].clone())
        .collect();
    assert_eq!(by, [json!("client"), json!("timeout")]);
}

#[test]
fn without_a_terminal_and_a_client_a_question_is_a_denial_at_once() {
    let place = Place::new(*users().last().unwrap());
    let model = FakeModel::start(vec![shell("cargo fetch"), Step::say("The end.")]).unwrap();
    let output = place.stockade(&model, &["local", "--json", "x"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(told(&model)[0].contains("there is nobody here to ask"), "{:?}", told(&model));
    let events = events(&place);
    let answer = events.iter().find(|event| event["type"] == "answer").unwrap();
    assert_eq!(answer["by"], "no-terminal");
}

#[test]
fn a_yes_opens_exactly_the_file_that_was_asked_about() {
    for uid in users() {
        let place = Place::new(uid);
        let model = FakeModel::start(vec![
            shell("echo one > ../notes.txt; echo two > ../other.txt || true; touch ../third.txt"),
            shell("echo x > ../notes.txt"),
            shell("echo key > ~/.ssh/new"),
            Step::tool("write", json!({"path": "../made.txt", "content": "made\n"})),
            Step::tool("write", json!({"path": "../notes.txt", "content": "again\n"})),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "--json", "x"]);
        let answer = |question: &Value, answer: &str| {
            let id = question["id"].as_str().unwrap();
            let output = place.stockade(&model, &["approvals", "answer", id, answer]);
            assert!(output.status.success(), "{}", text(&output));
        };
        let home = place.home().canonicalize().unwrap();
        let first = client.question();
        let effect = first["effect"].as_str().unwrap();
        for name in ["notes.txt", "other.txt"] {
            let opens = format!("a write to {}", home.join(name).display());
            assert!(effect.contains(&opens), "{effect}");
        }
        assert!(!effect.contains("home/third.txt"), "{effect}");
        answer(&first, "once");
        // What no redirection says is asked about where it happens.
        let third = client.question();
        assert_eq!(third["action"], json!(format!("write {}", home.join("third.txt").display())));
        answer(&third, "deny");
        // Once was once.
        answer(&client.question(), "deny");
        // Of the secret nobody was asked; the next question is the edit.
        let edit = client.question();
        let made = format!("write {}", home.join("made.txt").display());
        assert_eq!(edit["action"], json!(made));
        answer(&edit, "once");
        answer(&client.question(), "deny");
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        let read = |name: &str| fs::read_to_string(home.join(name)).ok();
        let told = told(&model);
        assert_eq!(read("notes.txt").as_deref(), Some("one\n"), "{told:?}");
        assert_eq!(read("other.txt").as_deref(), Some("two\n"));
        assert_eq!(read("made.txt").as_deref(), Some("made\n"), "{told:?}");
        assert_eq!(read("third.txt"), None);
        assert_eq!(read(".ssh/new"), None);
        assert!(told[0].contains("Read-only file system"), "{told:?}");
        assert!(told[2].contains("Read-only file system"), "{told:?}");
        let no = format!("write to {}: the user said no;", home.join("notes.txt").display());
        assert!(told[4].contains(&no), "{told:?}");
    }
}

#[test]
fn a_yes_opens_the_hosts_of_the_rule_for_one_command() {
    for uid in users() {
        let place = Place::new(uid);
        let model = FakeModel::start(vec![
            shell(
                "cargo fetch; getent hosts crates.io; (: < /dev/tcp/other.example/80) || echo NOT",
            ),
            shell("(: < /dev/tcp/crates.io/443) || echo CLOSED"),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "--json", "x"]);
        let question = client.question();
        let effect = question["effect"].as_str().unwrap();
        assert!(effect.contains("opens registries for it"), "{effect}");
        let id = question["id"].as_str().unwrap();
        assert!(place.stockade(&model, &["approvals", "answer", id, "once"]).status.success());
        // Of the rule for that one command, and nobody's afterwards.
        let asked: [(&str, &[&str]); 2] =
            [("connect to other.example:80", &["deny"]), ("connect to crates.io:443", &["deny"])];
        answered(&mut client, &place, &model, &asked);
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        let told = told(&model);
        let is_known = told[0].contains("198.18.") || told[0].contains("fd53:");
        assert!(is_known && told[0].contains("NOT"), "{told:?}");
        assert!(told[1].contains("CLOSED"), "{told:?}");
    }
}

#[test]
fn an_answer_for_the_project_is_a_rule_of_the_users() {
    let place = Place::new(*users().last().unwrap());
    let script =
        || vec![shell("python3 --version; true"), shell("make all"), Step::say("The end.")];
    let model = FakeModel::start(script()).unwrap();
    let mut client = Client::start(&place, &model);
    let thread = place.start(&model, &["local", "-a", "untrusted", "--json", "x"]);
    let question = client.question();
    assert_eq!(question["action"], "run: make all");
    let id = question["id"].as_str().unwrap();
    let answer = ["approvals", "answer", id, "project", "--prefix", "1"];
    let output = place.stockade(&model, &answer);
    assert!(output.status.success(), "{}", text(&output));
    assert!(thread.wait_with_output().unwrap().status.success());
    let listed = place.stockade(&model, &["rules", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let rule = listed.as_array().unwrap().iter().find(|rule| rule["scope"] == "project").unwrap();
    assert_eq!((&rule["prefix"], &rule["decision"]), (&json!("make all"), &json!("allow")));
    // The next thread here does not ask.
    let model = FakeModel::start(script()).unwrap();
    let output = place.stockade(&model, &["local", "-a", "untrusted", "--json", "x"]);
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"type\":\"question\""));

    // Where a rule asks, it is an answer to that rule.
    let script = || vec![shell("cargo fetch --locked"), Step::say("The end.")];
    let model = FakeModel::start(script()).unwrap();
    let thread = place.start(&model, &["local", "--json", "x"]);
    let question = client.question();
    let id = question["id"].as_str().unwrap();
    let answer = ["approvals", "answer", id, "project", "--prefix", "cargo fetch"];
    assert!(place.stockade(&model, &answer).status.success());
    assert!(thread.wait_with_output().unwrap().status.success());
    assert!(told(&model).iter().all(|told| told.contains("exit status")), "{:?}", told(&model));
    let model = FakeModel::start(script()).unwrap();
    let output = place.stockade(&model, &["local", "--json", "x"]);
    assert!(told(&model).iter().all(|told| told.contains("exit status")), "{:?}", told(&model));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"type\":\"question\""));
}

#[test]
fn a_grant_of_a_port_is_open_for_the_command_that_was_approved_and_no_other() {
    for uid in users() {
        let place = Place::new(uid);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                std::io::Write::write_all(&mut stream.unwrap(), b"reached").ok();
            }
        });
        place.configure(&format!(
            "\n[[rules]]\nprefix = 'python3 src/dial.py'\ndecision = 'ask'\ngrant = {{ ports = [{port}] }}\n"
        ));
        let dial = format!(
            "import socket\nprint(socket.create_connection(('127.0.0.1', {port})).recv(9).decode())\n"
        );
        let model = FakeModel::start(vec![
            Step::tool("write", json!({"path": "src/dial.py", "content": dial})),
            shell("python3 src/dial.py"),
            shell("python3 -B src/dial.py"),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "--json", "x"]);
        let question = client.question();
        let effect = question["effect"].as_str().unwrap();
        assert!(effect.contains(&format!("opens localhost:{port} for it")), "{effect}");
        let id = question["id"].as_str().unwrap();
        assert!(place.stockade(&model, &["approvals", "answer", id, "once"]).status.success());
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        let told = told(&model);
        assert!(told[1].contains("reached"), "{uid}: {told:?}");
        // The same program in other words is not what was approved.
        assert!(told[2].contains("refused") && !told[2].contains("reached"), "{told:?}");
    }
}

#[test]
fn a_host_that_a_person_refused_is_told_to_the_agent_in_words() {
    for uid in users() {
        let place = Place::new(uid);
        // It hides the failure, as the last program of a pipe does.
        let dial = "python3 -c \"import socket; socket.create_connection(('host.example', 80), 9)\" \
                    2> /dev/null | cat";
        let model = FakeModel::start(vec![shell(dial), Step::say("The end.")]).unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "x"]);
        answered(&mut client, &place, &model, &[("host.example:80", &["deny"])]);
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        let words = "refused: connect to host.example:80: not allowed: asked, and the user said no";
        assert!(told(&model)[0].contains(words), "{uid}: {:?}", told(&model));
        assert_eq!(text(&output).matches(words).count(), 1, "{uid}: {}", text(&output));
    }
}

/// Asks in place for what commands of a thread start, each with its answer.
fn answered(client: &mut Client, place: &Place, model: &FakeModel, answers: &[(&str, &[&str])]) {
    for (action, words) in answers {
        let question = client.question();
        assert!(question["action"].as_str().unwrap().ends_with(action), "{action}: {question}");
        let answer = [&["approvals", "answer", question["id"].as_str().unwrap()], *words].concat();
        let output = place.stockade(model, &answer);
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Issue 6, item 7, for what the agent's commands start: "a write outside … a rule `ask` pauses the
/// one thread that does it, asks, and on yes goes on with exactly that path".
#[test]
fn what_a_command_of_a_thread_starts_is_asked_about_in_place() {
    for (uid, way) in
        users().into_iter().flat_map(|uid| [None, Some("--draft")].map(|it| (uid, it)))
    {
        let place = Place::new(uid);
        let fetch = "#!/bin/sh\necho fetched \"$@\"\n";
        let model = FakeModel::start(vec![
            Step::tool("write", json!({"path": "src/cargo", "content": fetch})),
            shell(
                "cp src/cargo ../notes.txt; cp src/cargo ../notes.txt; cp src/cargo ../third.txt",
            ),
            shell(
                "chmod +x src/cargo; echo 'src/cargo fetch \"$@\"' > src/build; sh src/build all",
            ),
            shell("sh src/build all; sh src/build none; src/cargo fetch all"),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let mut words = vec!["local", "--json", "x"];
        words.extend(way);
        let thread = place.start(&model, &words);
        answered(
            &mut client,
            &place,
            &model,
            &[
                ("/home/notes.txt", &["once"]),
                ("/home/notes.txt", &["deny", "once", "is", "enough"]),
                ("/home/third.txt", &["deny"]),
                ("run: src/cargo fetch all", &["thread"]),
                // The line, and then not again what it was read to start.
                ("sh src/build none; src/cargo fetch all", &["once"]),
                ("run: src/cargo fetch none", &["deny", "not", "these"]),
            ],
        );
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid} {way:?}: {}", text(&output));
        let told = told(&model);
        assert_eq!(fs::read_to_string(place.home().join("notes.txt")).unwrap(), fetch, "{told:?}");
        assert!(!place.home().join("third.txt").exists());
        assert!(told[1].contains("the user said no: once is enough"), "{told:?}");
        assert!(told[2].contains("fetched fetch all"), "{told:?}");
        assert_eq!(told[3].matches("fetched fetch all").count(), 2, "{told:?}");
        assert!(told[3].contains("not these") && !told[3].contains("fetch none"), "{told:?}");
        let events = events(&place);
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        assert_eq!((count("question"), count("answer")), (6, 6));
        let verified = place.stockade(&model, &["log", "last", "--verify"]);
        assert!(verified.status.success(), "{}", text(&verified));
    }
}

/// Issue 6: "by name, once, with an answer that fits the next hundred cases", for redirections.
#[test]
fn a_folder_that_is_allowed_is_not_asked_about_by_the_next_redirection() {
    for uid in users() {
        let place = Place::new(uid);
        let folder = place.home().join("notes");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(uid), None).unwrap();
        let model = FakeModel::start(vec![
            shell("echo one > ../notes/one"),
            shell("echo two > ../notes/two && cat ../notes/two"),
            shell("echo three >> ../notes/deep/three; mkdir ../notes/deep && echo three >> ../notes/deep/three && echo made"),
            shell("echo four > ../third.txt"),
            Step::say("The end."),
        ])
        .unwrap();
        let mut client = Client::start(&place, &model);
        let thread = place.start(&model, &["local", "--json", "x"]);
        let question = client.question();
        let paths: Vec<&str> =
            question["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(paths[0].ends_with("/notes/one") && paths[1].ends_with("/notes"), "{question}");
        let id = question["id"].as_str().unwrap();
        let answer = ["approvals", "answer", id, "thread", "--prefix", "2"];
        assert!(place.stockade(&model, &answer).status.success());
        // None of the next, and what lies elsewhere is a question of its own.
        answered(&mut client, &place, &model, &[("echo four > ../third.txt", &["deny"])]);
        let output = thread.wait_with_output().unwrap();
        assert!(output.status.success(), "{uid}: {}", text(&output));
        let told = told(&model);
        assert!(told[1].contains("two") && told[2].contains("made"), "{uid}: {told:?}");
        for (name, content) in [("one", "one\n"), ("two", "two\n"), ("deep/three", "three\n")] {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), content, "{uid}: {told:?}");
        }
        assert!(!place.home().join("third.txt").exists());
    }
}

#[test]
fn a_command_is_not_late_while_somebody_is_asked() {
    let place = Place::new(*users().last().unwrap());
    let limit = Duration::from_secs(4);
    let line =
        |line: &str| Step::tool("shell", json!({"command": line, "timeout_s": limit.as_secs()}));
    let model = FakeModel::start(vec![
        line("echo x > src/new; cp src/new ../notes.txt; echo went on"),
        line("sleep 60; echo went on"),
        Step::say("The end."),
    ])
    .unwrap();
    let mut client = Client::start(&place, &model);
    let thread = place.start(&model, &["local", "--json", "x"]);
    let question = client.question();
    thread::park_timeout(limit + Duration::from_secs(1));
    let answer = ["approvals", "answer", question["id"].as_str().unwrap(), "once"];
    assert!(place.stockade(&model, &answer).status.success());
    let output = thread.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(told[0].contains("went on"), "{told:?}");
    assert!(!told[1].contains("went on") && told[1].contains("time"), "{told:?}");
    assert_eq!(fs::read_to_string(place.home().join("notes.txt")).unwrap(), "x\n");
}

#[test]
fn with_nobody_to_ask_what_a_command_starts_is_denied_as_before() {
    let place = Place::new(*users().last().unwrap());
    let model = FakeModel::start(vec![
        shell("echo x > src/new; cp src/new ../notes.txt"),
        shell("printf '#!/bin/sh\necho ran\n' > src/cargo; chmod +x src/cargo; sh -c 'src/$0 fetch' cargo"),
        Step::say("The end."),
    ])
    .unwrap();
    let output = place.stockade(&model, &["local", "--json", "x"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&model);
    assert!(told[0].contains("outside the writable roots"), "{told:?}");
    assert!(told[1].contains("nobody can be asked here") && !told[1].contains("ran"), "{told:?}");
    assert_eq!(fs::read_to_string(place.home().join("notes.txt")).unwrap(), "mine\n");
    assert!(events(&place).iter().all(|event| event["type"] != "question"));
}
