//! What a running program is asked about in place: a file outside, a program that a rule asks
//! about, a new host; answered from another terminal.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Home, also_as_ordinary_user, text};

mod answers;
mod changes;
mod hosts;
mod kept;
mod paths;

fn stockade(home: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(words).current_dir(home.path("work")).env_clear().env("HOME", home.path(""));
    command
}

fn events(home: &Home) -> Vec<Value> {
    let log = stockade(home, &["log", "--json"]).output().unwrap();
    let lines = String::from_utf8(log.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// Somebody who waits for questions in another terminal.
pub(super) struct Client<'a> {
    home: &'a Home,
    child: Child,
    questions: Receiver<Value>,
}

impl<'a> Client<'a> {
    pub(super) fn of(home: &'a Home) -> Self {
        let mut command = stockade(home, &["approvals", "list", "--wait", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, questions) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                sender.send(serde_json::from_str(&line).unwrap()).ok();
            }
        });
        // It holds the lock by which it is known.
        let lock = home.path(".local/state/stockade/clients.lock");
        let flag = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        while !fs::File::open(&lock)
            .is_ok_and(|file| rustix::fs::flock(&file, flag) == Err(rustix::io::Errno::WOULDBLOCK))
        {
            std::thread::yield_now();
        }
        Self { home, child, questions }
    }

    pub(super) fn question(&self) -> Value {
        self.questions.recv_timeout(Duration::from_mins(1)).expect("no question came")
    }

    pub(super) fn answer(&self, question: &Value, words: &[&str]) {
        let id = question["id"].as_str().unwrap();
        let words = [&["approvals", "answer", id], words].concat();
        let output = stockade(self.home, &words).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the words inside; the run goes on.
fn start(home: &Home, options: &[&str], words: &[&str]) -> Child {
    let mut command = home.command();
    let path = format!("{}:/usr/bin:/bin", home.path("bin").display());
    command.env("PATH", path).args(options).arg("--").args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(run: Child) -> Output {
    run.wait_with_output().unwrap()
}

const WRITES: &str = r#"
import errno, json, os
def write(text):
    try:
        with open("../outside/file", "w") as file:
            file.write(text)
        return "written"
    except OSError as error:
        return errno.errorcode[error.errno]
print(write("first"), write("second"), write("third"))
print(json.loads(open(os.environ["STOCKADE_DENIALS"]).read().splitlines()[-1])["decided_by"])
for path in "../.ssh/new", "../.ssh/id", ".git/hooks/x", "../other/.git/config", "/etc/new":
    try:
        open(path, "w")
        print("opened", path)
    except OSError:
        pass
"#;

#[test]
#[ignore = "run by the other test, as each user"]
fn as_this_user() {
    let home = Home::new();
    let alone = end(start(&home, &[], &["python3", "-c", WRITES]));
    assert!(text(&alone).contains("EROFS EROFS EROFS\nwritable_roots\n"), "{}", text(&alone));
    assert!(of_type(&events(&home), "question").is_empty(), "nobody was there");

    let client = Client::of(&home);
    let run = start(&home, &[], &["python3", "-c", WRITES]);
    let first = client.question();
    let effect = first["effect"].as_str().unwrap();
    let file = home.path("outside/file").canonicalize().unwrap();
    assert!(effect.starts_with(&format!("write {}\n`python3 -c", file.display())), "{effect}");
    client.answer(&first, &["once"]);
    let second = client.question();
    assert_eq!(fs::read_to_string(&file).unwrap(), "first");
    client.answer(&second, &["deny", "leave", "it"]);
    // Nothing else is asked: secrets and protected names are not, and the same
    // that was refused a moment ago is refused without a question.
    let more = client.questions.recv_timeout(Duration::from_secs(2));
    assert!(more.is_err(), "{more:?}");
    let said = text(&end(run));
    assert!(
        said.contains("written EROFS EROFS\nasked, and the user said no: leave it\n"),
        "{said}"
    );
    assert!(!said.contains("opened"), "secrets and protected names are not asked about: {said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "first");
    let events = events(&home);
    assert_eq!(of_type(&events, "question").len(), 2);
    let answers = of_type(&events, "answer");
    assert_eq!(answers[0]["answer"], "once");
    assert_eq!((&answers[1]["answer"], &answers[1]["word"]), (&"deny".into(), &"leave it".into()));
    assert!(answers.iter().all(|answer| answer["by"] == "client"));
    let left = fs::read_dir(home.path(".local/state/stockade/asks")).unwrap().count();
    assert_eq!(left, 0, "questions go with their run");
    assert!(stockade(&home, &["log", "--verify"]).status().unwrap().success());
}

#[test]
#[ignore = "run by the other test, as each user"]
fn names_as_this_user() {
    let home = Home::new();
    let client = Client::of(&home);
    let outside = home.path("outside").canonicalize().unwrap();
    let script = "sed -i s/original/changed/ ../outside/file && mkdir ../outside/new && \
                  echo x > ../outside/new/x && mv ../outside/new/x ../outside/y && \
                  rmdir ../outside/new && rm ../outside/y; rm ../outside/file; \
                  mv ../outside/file ../outside/gone; mkdir ../outside/no";
    let run = start(&home, &[], &["sh", "-c", script]);
    let at = |name: &str| outside.join(name).display().to_string();
    let made = client.question();
    let temporary = made["action"].as_str().unwrap().strip_prefix("write ").unwrap().to_owned();
    assert!(temporary.starts_with(&at("sed")), "{made}");
    client.answer(&made, &["once"]);
    for (action, answer) in [
        (format!("rename {temporary} to {}", at("file")), &["once"][..]),
        (format!("make folder {}", at("new")), &["once"]),
        (format!("write {}", at("new/x")), &["once"]),
        (format!("rename {} to {}", at("new/x"), at("y")), &["once"]),
        (format!("remove folder {}", at("new")), &["once"]),
        (format!("remove {}", at("y")), &["once"]),
        (format!("remove {}", at("file")), &["deny", "keep", "it"]),
        (format!("rename {} to {}", at("file"), at("gone")), &["deny"]),
        (format!("make folder {}", at("no")), &["deny"]),
    ] {
        let question = client.question();
        assert_eq!(question["action"], action.as_str());
        client.answer(&question, answer);
    }
    let said = text(&end(run));
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["file"], "{said}");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "changed\n", "{said}");
    // What nothing may open, and what leads in or out, is not asked about.
    fs::create_dir_all(home.path("other/.git")).unwrap();
    let script =
        "mv ../.ssh ../ssh; rm ../.ssh/id; mkdir ../.ssh/new; mv ../outside/file ../.bash_history; \
                  mkdir ../other/.git/hooks; python3 -c 'import os
for one, other in (\"src/x\", \"../outside/x\"), (\"../outside/file\", \"src/y\"):
    try:
        os.rename(one, other)
        print(\"renamed\", one)
    except OSError:
        pass'";
    fs::write(home.path("work/src/x"), "x").unwrap();
    let said = text(&end(start(&home, &[], &["sh", "-c", script])));
    let more = client.questions.recv_timeout(Duration::from_secs(1));
    assert!(more.is_err() && !said.contains("renamed"), "{more:?}: {said}");
}

/// Issue 6, item 7, for names: "on yes goes on with exactly that path".
#[test]
fn names_outside_are_asked_about_and_changed() {
    names_as_this_user();
    also_as_ordinary_user("asking::names_as_this_user");
}

/// Issue 6, item 7: "a write outside … pauses the one thread that does it, asks, and on yes goes on
/// with exactly that path".
#[test]
fn a_write_outside_is_asked_about_and_goes_on() {
    as_this_user();
    also_as_ordinary_user("asking::as_this_user");
}

#[test]
fn a_yes_for_the_run_holds_for_that_path_alone() {
    let home = Home::new();
    let client = Client::of(&home);
    let script = "for n in 1 2 3; do echo $n >> ../outside/file; done; echo x > ../notes.txt";
    let run = start(&home, &[], &["sh", "-c", script]);
    client.answer(&client.question(), &["thread"]);
    let other = client.question();
    assert!(other["effect"].as_str().unwrap().contains("notes.txt"), "{other}");
    client.answer(&other, &["deny"]);
    assert!(!end(run).status.success());
    let file = |name: &str| fs::read_to_string(home.path(name)).unwrap();
    assert_eq!(file("outside/file"), "original\n1\n2\n3\n");
    assert_eq!(file("notes.txt"), "original\n");
}

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"
#[test]
fn links_lead_where_the_question_says_and_a_swap_wins_nothing() {
    let home = Home::new();
    let client = Client::of(&home);
    symlink("../outside/file", home.path("work/way")).unwrap();
    let run = start(&home, &[], &["sh", "-c", "echo x > way"]);
    let question = client.question();
    let file = home.path("outside/file").canonicalize().unwrap();
    assert!(question["action"].as_str().unwrap().ends_with(file.to_str().unwrap()), "{question}");
    // What the program can swap is not what is opened.
    fs::remove_file(home.path("work/way")).unwrap();
    symlink("../.ssh/id", home.path("work/way")).unwrap();
    client.answer(&question, &["once"]);
    assert!(end(run).status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\n");

    let run = start(&home, &[], &["sh", "-c", "echo y > ../outside/file"]);
    let question = client.question();
    fs::remove_file(&file).unwrap();
    symlink("../.ssh/id", &file).unwrap();
    client.answer(&question, &["once"]);
    let output = end(run);
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(fs::read_to_string(home.path(".ssh/id")).unwrap(), "original\n");
}

/// One thread opens, another one rewrites the path all the time.
const RACE: &str = r#"
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
asked, other = b"../outside/file\0", b"../notes.txt\0\0\0\0"
path = ctypes.create_string_buffer(asked, len(other))
stop = False
def rewrite():
    while not stop:
        ctypes.memmove(path, other, len(other))
        ctypes.memmove(path, asked, len(asked))
thread = threading.Thread(target=rewrite)
thread.start()
for turn in range(20):
    number = libc.open(path, os.O_WRONLY | os.O_TRUNC)
    if number >= 0:
        print(os.readlink(f"/proc/self/fd/{number}"))
        os.close(number)
stop = True
thread.join()
"#;

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"
#[test]
fn two_threads_on_one_buffer_win_nothing() {
    let home = Home::new();
    let client = Client::of(&home);
    let run = start(&home, &[], &["python3", "-c", RACE]);
    let mut allowed = 0;
    while let Ok(question) = client.questions.recv_timeout(Duration::from_secs(3)) {
        if question["action"].as_str().unwrap().ends_with("/outside/file") {
            client.answer(&question, &["thread"]);
            allowed += 1;
        } else {
            client.answer(&question, &["deny"]);
        }
    }
    let output = end(run);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(allowed == 1 && !said.is_empty(), "{allowed}: {}", text(&output));
    assert!(said.lines().all(|line| line.ends_with("/outside/file")), "{said}");
    assert_eq!(fs::read_to_string(home.path("notes.txt")).unwrap(), "original\n");
}

const RULES: &str = r#"
[agent]
question_timeout = "1s"

[[rules]]
prefix = "cargo fetch"
decision = "ask"
reason = "fetches from the registry"

[[rules]]
prefix = "cargo publish"
decision = "deny"
"#;

#[test]
fn a_program_that_a_rule_asks_about_waits() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/stockade")).unwrap();
    let configure = |rules: &str| {
        fs::write(home.path(".config/stockade/config.toml"), rules).unwrap();
    };
    configure(&RULES.replace("\"1s\"", "\"5m\""));
    super::execs::program(&home.path("bin/cargo"), "echo \"ran $*\"");
    super::execs::program(&home.path("cargo"), "echo \"other $*\"");
    let client = Client::of(&home);
    let run = |line: &str| start(&home, &[], &["sh", "-c", line]);
    let yes = run("cargo fetch --locked");
    let question = client.question();
    assert_eq!(question["action"], "run: cargo fetch --locked");
    assert!(question["effect"].as_str().unwrap().contains("fetches from the registry"));
    client.answer(&question, &["once"]);
    assert!(text(&end(yes)).contains("ran fetch --locked"));

    let no = run("cargo fetch; echo status $?");
    client.answer(&client.question(), &["deny", "offline"]);
    let said = text(&end(no));
    assert!(said.contains("the user said no: offline") && said.contains("status 126"), "{said}");
    assert!(!said.contains("ran "), "{said}");

    // A yes for all that begins so is for the program that the beginning finds.
    let beginning = run("cargo fetch --frozen; cargo fetch --offline; sh -c 'exec ../cargo fetch'");
    let question = client.question();
    let program = home.path("bin/cargo").display().to_string();
    assert_eq!(question["prefixes"][1], json!([program, "fetch"]));
    client.answer(&question, &["thread", "--prefix", "2"]);
    let other = client.question();
    assert_eq!(other["action"], "run: ../cargo fetch", "{other}");
    client.answer(&other, &["deny"]);
    let said = text(&end(beginning));
    assert!(said.contains("ran fetch --frozen\nran fetch --offline\n"), "{said}");
    assert!(!said.contains("other fetch"), "{said}");

    let denied = text(&end(run("cargo publish")));
    assert!(denied.contains("denies this command"), "{denied}");
    let never = end(start(&home, &["-a", "never"], &["sh", "-c", "cargo fetch"]));
    assert!(text(&never).contains("refused: rule"), "{}", text(&never));
    assert!(client.questions.try_recv().is_err(), "neither was asked");

    configure(RULES);
    let late = text(&end(run("cargo fetch")));
    assert!(late.contains("nobody answered in time"), "{late}");
    client.question();
    drop(client);
    let nobody = text(&end(run("cargo fetch")));
    assert!(nobody.contains("nobody can be asked here"), "{nobody}");
}

#[test]
fn a_question_goes_with_the_one_who_asked() {
    let home = Home::new();
    let client = Client::of(&home);
    let script = "timeout -s KILL 1 sh -c 'echo x > ../outside/file'; echo went on";
    let run = start(&home, &[], &["sh", "-c", script]);
    let question = client.question();
    assert!(text(&end(run)).contains("went on"));
    let id = question["id"].as_str().unwrap();
    let late = stockade(&home, &["approvals", "answer", id, "once"]).output().unwrap();
    assert!(!late.status.success(), "{}", text(&late));
    assert_eq!(fs::read_to_string(home.path("outside/file")).unwrap(), "original\n");
    let all = events(&home);
    let by: Vec<_> = of_type(&all, "answer").into_iter().map(|answer| &answer["by"]).collect();
    assert_eq!(by, ["withdrawn"], "nobody has answered");
    // A signal with a handler is handled while the call waits.
    let script = "trap 'echo handled; exit 3' TERM; (sleep 1; kill $$) & echo x > ../outside/file";
    let run = start(&home, &[], &["sh", "-c", script]);
    client.question();
    let output = end(run);
    assert!(text(&output).contains("handled"), "{}", text(&output));
}

/// Issue 6, item 7, for an agent's own program and for a draft.
#[test]
fn an_agent_s_program_and_a_draft_are_asked_about_in_place() {
    let home = Home::new();
    let client = Client::of(&home);
    super::execs::program(&home.path("bin/agent"), "echo x >> ../outside/file; echo y > src/new");
    let agent = home.path("bin/agent");
    let ways = [
        vec!["local", "--agent", agent.to_str().unwrap(), "task"],
        vec!["run", "--draft", "--", agent.to_str().unwrap()],
    ];
    for (times, way) in (1..).zip(ways) {
        let mut command = stockade(&home, &way);
        command.env("PATH", "/usr/bin:/bin").stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = command.spawn().unwrap();
        let question = client.question();
        client.answer(&question, &["once"]);
        let said = text(&end(run));
        let file = fs::read_to_string(home.path("outside/file")).unwrap();
        assert_eq!(file, format!("original\n{}", "x\n".repeat(times)), "{said}");
        let thread = stockade(&home, &["log", "last", "--json"]).output().unwrap();
        let thread = String::from_utf8(thread.stdout).unwrap();
        assert!(thread.contains("\"type\":\"question\"") && thread.contains("\"answer\":\"once\""));
        let verified = stockade(&home, &["log", "last", "--verify"]).output().unwrap();
        assert!(verified.status.success(), "{}", text(&verified));
    }
}

#[test]
fn without_user_namespaces_a_file_and_a_program_are_asked_about_too() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/stockade")).unwrap();
    fs::write(home.path(".config/stockade/config.toml"), RULES.replace("1s", "5m")).unwrap();
    super::execs::program(&home.path("bin/cargo"), "echo \"ran $*\"");
    fs::write(home.path("work/src/moved"), "z").unwrap();
    let client = Client::of(&home);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"").arg("sh");
    command.args([env!("CARGO_BIN_EXE_stockade"), "run", "--", "sh", "-c"]);
    command.arg(
        "echo x > ../outside/file; echo y > ../notes.txt; cargo fetch; \
                 mv src/moved ../outside/moved; \
                 python3 -c 'import socket; socket.create_connection((\"new.example.org\", 443))'",
    );
    command.current_dir(home.path("work")).env_clear().env("HOME", home.path(""));
    command.env("PATH", format!("{}:/usr/bin:/bin", home.path("bin").display()));
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let host = "connect to new.example.org:443";
    for (action, answer) in [
        ("outside/file", "once"),
        ("notes.txt", "deny"),
        ("fetch", "once"),
        ("outside/moved", "t"),
        (host, "deny"),
    ] {
        let question = client.question();
        assert!(question["action"].as_str().unwrap().ends_with(action), "{question}");
        let words = if answer == "t" { &["thread", "--prefix", "1"][..] } else { &[answer] };
        client.answer(&question, words);
    }
    let said = text(&end(run));
    assert!(said.contains("no user namespaces here") && said.contains("ran fetch"), "{said}");
    assert!(said.contains("ConnectionRefusedError"), "{said}");
    assert!(!said.contains("allowed hosts are reached"), "nobody has allowed any: {said}");
    let read = |name: &str| fs::read_to_string(home.path(name)).unwrap();
    assert_eq!((read("outside/file").as_str(), read("notes.txt").as_str()), ("x\n", "original\n"));
    assert!(!home.path("work/src/moved").exists() && read("outside/moved") == "z", "{said}");
}

/// Issue 6, item 8: "grants listed and revocable while a thread runs".
#[test]
fn a_yes_for_the_run_is_listed_and_taken_back_while_it_runs() {
    let home = Home::new();
    let client = Client::of(&home);
    let script =
        "for n in 1 2; do echo $n >> ../outside/file; done; read line; echo 3 >> ../outside/file";
    let mut command = home.command();
    command.args(["--", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = command.stderr(Stdio::piped()).spawn().unwrap();
    client.answer(&client.question(), &["thread"]);
    let grants = || {
        let listed = stockade(&home, &["rules", "list", "--grants", "--json"]).output().unwrap();
        serde_json::from_slice::<Vec<Value>>(&listed.stdout).unwrap()
    };
    let file = home.path("outside/file").canonicalize().unwrap();
    while fs::read_to_string(&file).unwrap() != "original\n1\n2\n" {
        std::thread::yield_now();
    }
    let [grant] = &grants()[..] else { panic!("{:?}", grants()) };
    let action = format!("write {}", file.display());
    assert_eq!((&grant["action"], &grant["prefix"]), (&json!(action), &Value::Null));
    let all = text(&stockade(&home, &["rules"]).output().unwrap());
    let id = grant["id"].as_str().unwrap();
    assert!(all.contains(&format!("allow  {action}  ({id}; thread)")), "{all}");
    let wrong = stockade(&home, &["rules", "revoke", "g2"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong));
    let revoked = stockade(&home, &["rules", "revoke", id]).output().unwrap();
    assert!(revoked.status.success() && text(&revoked).contains(&action), "{}", text(&revoked));
    assert!(grants().is_empty());
    run.stdin.take().unwrap().write_all(b"\n").unwrap();
    client.answer(&client.question(), &["deny"]);
    assert!(!end(run).status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "original\n1\n2\n");
    assert!(grants().is_empty(), "what has ended has none");
}

/// DESIGN §10: what scripts read of a thread comes as it happens, for other agents' programs too.
#[test]
fn a_question_of_an_agent_s_program_is_an_event_before_its_answer() {
    let home = Home::new();
    let client = Client::of(&home);
    super::execs::program(&home.path("bin/agent"), "echo x >> ../outside/file");
    let agent = home.path("bin/agent");
    let file = home.path("events");
    let words = ["local", "--json", "--json-file", file.to_str().unwrap(), "--agent"];
    let mut command = stockade(&home, &words);
    command.arg(&agent).arg("task").env("PATH", "/usr/bin:/bin");
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let question = client.question();
    let mut events = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut next = |kind: &str| {
        let events = events.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()));
        events.map(Result::unwrap).find(|event| event["type"] == kind).expect("no such event")
    };
    let told = next("question");
    assert_eq!(question["id"].as_str().unwrap().rsplit(':').next(), told["id"].as_str());
    let so_far = fs::read_to_string(&file).unwrap();
    assert!(so_far.ends_with("}\n") && so_far.contains("\"type\":\"question\""), "{so_far}");
    client.answer(&question, &["once"]);
    assert_eq!(next("answer")["answer"], "once");
    assert_eq!(next("thread.finished")["exit"], 0);
    assert!(run.wait().unwrap().success());
    let log = stockade(&home, &["log", "last", "--json"]).output().unwrap();
    let types = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let whole = types(std::str::from_utf8(&log.stdout).unwrap());
    assert_eq!(types(&fs::read_to_string(&file).unwrap()), whole, "each event once, in order");
}
