//! Hosts that a running program is asked about, where none was named and where some were.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::{Client, end, events, of_type, start};
use crate::{Home, text};

const CONNECTS: &str = r#"
import errno, socket, sys
def connect(host, port):
    try:
        socket.create_connection((host, port), 60)
        return "connected"
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
for host, port in ("new.example.org", 443), ("denied.example.org", 443), ("10.0.0.1", 443):
    print(host, connect(host, port))
"#;

/// Says no to the one host that a run of [`CONNECTS`] may be asked about.
fn is_asked_about_one(client: &Client<'_>, asked: Child) {
    let question = client.question();
    assert_eq!(question["action"], "connect to new.example.org:443");
    client.answer(&question, &["deny", "no network"]);
    let said = text(&end(asked));
    for line in
        ["new.example.org ECONNREFUSED", "denied.example.org no such name", "10.0.0.1 ENETUNREACH"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert!(client.questions.try_recv().is_err(), "each host once, and no other");
}

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"
#[test]
fn a_new_host_is_asked_about_where_it_is_connected_to() {
    let home = Home::new();
    let options = ["--allow-host", "a.example.org", "-c", "network.deny=['denied.example.org:*']"];
    let run = || start(&home, &options, &["python3", "-c", CONNECTS]);
    let alone = text(&end(run()));
    assert!(alone.contains("new.example.org no such name"), "{alone}");
    let client = Client::of(&home);
    let asked = run();
    is_asked_about_one(&client, asked);
    let events = events(&home);
    let refused = of_type(&events, "connection");
    let rule = "not allowed: asked, and the user said no: no network";
    assert!(refused.iter().any(|event| event["rule"] == rule), "{refused:?}");
}

/// Issue 6, item 7: a run that names no host has a way to ask about one.
#[test]
fn a_new_host_is_asked_about_where_none_was_named() {
    let home = Home::new();
    let run = |options: &[&str]| start(&home, options, &["python3", "-c", CONNECTS]);
    let alone = text(&end(run(&[])));
    assert!(alone.contains("new.example.org no such name"), "{alone}");
    let client = Client::of(&home);
    let never = text(&end(run(&["-a", "never"])));
    assert!(never.contains("new.example.org no such name"), "{never}");
    let asked = run(&["-c", "network.deny=['denied.example.org:*']"]);
    is_asked_about_one(&client, asked);
}

/// Issue 6, item 6: "JSON events for clients". One that reads the events of a run, or comes to a run
/// whose user has said who is asked, begins to wait after the start.
#[test]
fn a_client_that_comes_after_the_start_is_asked_about_hosts() {
    let home = Home::new();
    let wait =
        "import os, time\nopen('up', 'w').close()\nwhile not os.path.exists('go'): time.sleep(.01)";
    let script = format!("{wait}\n{CONNECTS}");
    let log = home.path("events.jsonl");
    for options in [["-a", "on-request"], ["--json-file", log.to_str().unwrap()]] {
        let denied = "network.deny=['denied.example.org:*']";
        let run = || {
            let options = [&options[..], &["-c", denied]].concat();
            start(&home, &options, &["python3", "-c", &script])
        };
        let go = home.path("work/go");
        std::fs::write(&go, "").unwrap();
        let alone = text(&end(run()));
        assert!(alone.contains("new.example.org no such name"), "{options:?}: {alone}");
        std::fs::remove_file(&go).unwrap();
        std::fs::remove_file(home.path("work/up")).unwrap();
        let run = run();
        // By then it runs, and whether it has a way out is decided.
        while !home.path("work/up").exists() {
            std::thread::yield_now();
        }
        let client = Client::of(&home);
        std::fs::write(&go, "").unwrap();
        is_asked_about_one(&client, run);
        std::fs::remove_file(&go).unwrap();
    }
}

/// Issue 6, item 6: an answer that fits the next cases. A host that was allowed for the project is not
/// asked about in the next run there, is listed, and can be taken back.
#[test]
fn a_host_is_allowed_for_the_project_and_taken_back() {
    let home = Home::new();
    let client = Client::of(&home);
    let (port, dialled) = upstream();
    let run = |host: &str| {
        let script = format!(
            "import socket
print(socket.create_connection(('{host}', 7001), 60).recv(99).decode().strip())"
        );
        let mut command = home.command();
        command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
        command.args(["--", "python3", "-c", &script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = run("a.new.example.org");
    let question = client.question();
    let offered = ["a.new.example.org:7001", "*.new.example.org:7001"];
    assert_eq!(question["hosts"], serde_json::json!(offered));
    let id = question["id"].as_str().unwrap();
    let other = ["approvals", "answer", id, "project", "--prefix", "other.example.org"];
    assert_eq!(super::stockade(&home, &other).output().unwrap().status.code(), Some(1));
    client.answer(&question, &["project", "--prefix", "2"]);
    let said = text(&end(first));
    assert!(said.contains("greetings"), "{said}");
    assert_eq!(dialled.try_recv().unwrap(), "a.new.example.org:7001");
    assert!(!home.path("work/.stockade").exists(), "never in the project");

    let again = text(&end(run("b.new.example.org")));
    assert!(again.contains("greetings"), "{again}");
    assert!(client.questions.try_recv().is_err(), "allowed, so nobody is asked");
    let rules = |words: &[&str]| text(&super::stockade(&home, words).output().unwrap());
    let listed = rules(&["rules", "list"]);
    assert!(listed.contains("allow  host *.new.example.org:7001  ("), "{listed}");
    let taken = rules(&["rules", "revoke", "*.new.example.org:7001"]);
    assert!(taken.contains("revoked: allow host *.new.example.org:7001"), "{taken}");
    let asked = run("b.new.example.org");
    client.answer(&client.question(), &["deny"]);
    assert!(!text(&end(asked)).contains("greetings"));
}

#[test]
fn a_host_is_reached_after_a_yes_where_none_was_named() {
    let home = Home::new();
    let client = Client::of(&home);
    let (port, dialled) = upstream();
    let script = "
import os, socket
print(socket.create_connection(('new.example.org', 7001), 60).recv(99).decode().strip())
print(os.environ['STOCKADE_NETWORK'])
";
    let mut command = home.command();
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
    command.args(["--", "python3", "-c", script]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let question = client.question();
    assert!(dialled.try_recv().is_err(), "nothing is dialled before the answer");
    client.answer(&question, &["once"]);
    let said = text(&end(run));
    assert!(said.contains("greetings\nnone\n"), "{said}");
    assert_eq!(dialled.try_recv().unwrap(), "new.example.org:7001");
}

/// The user's own proxy, which connects to nobody and greets whoever asks for a host.
fn upstream() -> (u16, Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            sender.send(line.split(' ').nth(1).unwrap_or_default().to_owned()).ok();
            (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\ngreetings\n").ok();
        }
    });
    (port, asked)
}

#[test]
fn a_host_that_is_allowed_is_reached_as_long_as_the_answer_says() {
    let home = Home::new();
    let client = Client::of(&home);
    let (port, dialled) = upstream();
    let script = "
import os, socket, time
def greeted(port):
    try:
        return socket.create_connection(('new.example.org', port), 60).recv(99).decode().strip()
    except OSError as error:
        return type(error).__name__
print(greeted(7001), greeted(7001), greeted(7002))
time.sleep(2)
print(greeted(7002))
proxy = socket.create_connection(os.environ['HTTPS_PROXY'].removeprefix('http://').split(':'))
proxy.sendall(b'CONNECT 203.0.113.9:7003 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
print(proxy.recv(99).decode().split('\\r')[0])
";
    let mut command = home.command();
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
    command.args(["--allow-host", "a.example.org", "--", "python3", "-c", script]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for (action, answer) in [
        ("connect to new.example.org:7001", "thread"),
        ("connect to new.example.org:7002", "once"),
        ("connect to new.example.org:7002", "deny"),
        ("connect to 203.0.113.9:7003", "once"),
    ] {
        let question = client.question();
        assert_eq!(question["action"], action);
        let host = action.rsplit(' ').next().unwrap();
        let dialled: Vec<String> = dialled.try_iter().collect();
        assert!(answer == "deny" || !dialled.iter().any(|it| it == host), "{action}: {dialled:?}");
        client.answer(&question, &[answer]);
    }
    let said = text(&end(run));
    let expected = "greetings greetings greetings\nConnectionRefusedError\nHTTP/1.1 200 Connection";
    assert!(said.contains(expected), "{said}");
    let events = events(&home);
    let allowed = of_type(&events, "connection");
    assert!(allowed.iter().any(|event| event["rule"] == "allowed by an answer"), "{allowed:?}");
}

/// Issue 7: "a grant can be given and taken while the run goes on".
#[test]
fn a_connection_ends_when_the_answer_that_allowed_it_is_taken_back() {
    let home = Home::new();
    let client = Client::of(&home);
    // The user's own proxy, which keeps every connection that it greets.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(&stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                head.read_line(&mut line).unwrap();
            }
            (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\ngreetings\n").unwrap();
            line.clear();
            head.read_line(&mut line).unwrap();
            sender.send(line).ok();
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut head, &mut rest).ok();
            sender.send(rest).ok();
        }
    });
    let script = "
import socket, time
first = socket.create_connection(('new.example.org', 7001), 60)
first.sendall(b'mine\\n'); print(first.recv(99).decode().strip(), flush=True)
began = time.monotonic(); first.settimeout(60)
try: end = first.recv(99)
except ConnectionResetError: end = b''
print('ended' if end == b'' and time.monotonic() - began < 30 else 'open', flush=True)
try: socket.create_connection(('new.example.org', 7001), 60); print('connected')
except OSError as error: print(type(error).__name__)
";
    let mut command = home.command();
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
    command.args(["--allow-host", "a.example.org", "--", "python3", "-c", script]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let action = "connect to new.example.org:7001";
    let question = client.question();
    assert_eq!(question["action"], action);
    client.answer(&question, &["thread"]);
    assert_eq!(heard.recv().unwrap(), "mine\n");
    let taken = super::stockade(&home, &["rules", "revoke", action]).output().unwrap();
    assert!(taken.status.success(), "{}", text(&taken));
    assert_eq!(heard.recv().unwrap(), "", "the server hears the end");
    let question = client.question();
    assert_eq!(question["action"], action, "a new one is asked about again");
    client.answer(&question, &["deny"]);
    let said = text(&end(run));
    assert!(said.contains("greetings\nended\nConnectionRefusedError\n"), "{said}");
    let events = events(&home);
    let rules: Vec<_> =
        of_type(&events, "connection").iter().map(|event| event["rule"].to_string()).collect();
    assert!(rules[0].contains("the answer that allowed it was taken back"), "{rules:?}");
    assert!(rules.iter().any(|rule| rule.contains("not allowed")), "{rules:?}");
}
