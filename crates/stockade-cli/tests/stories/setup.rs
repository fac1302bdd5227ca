//! The set-up of a cloud thread: a script that reaches the hosts of its list while it runs, and
//! nothing of the machine that does so afterwards. Judged by what arrives at a server.
//!
//! The server and Stockade are in a network namespace of their own, without any other host.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::Value;
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::{is_there, nobody, shown, small};
use crate::place::{Place, text};

/// Serves at two ports of 203.0.113.10 and one of the loopback, and writes down what it is asked, a line a request.
const SERVER: &str = r#"
import http.server, socketserver, sys, threading
log = open(sys.argv[1], "a", buffering=1)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        log.write(f"{self.server.server_address[1]} {self.command} {self.path} {len(body)}\n")
        answer = b"x" * 3000000 if self.path == "/large" else b"left-pad\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_GET
    def log_message(self, *words): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
for at in (("203.0.113.10", 8080), ("203.0.113.10", 9090), ("127.0.0.1", 7070)):
    threading.Thread(target=Server(at, Handler).serve_forever).start()
log.write("ready\n")
"#;

/// Where a place keeps what the server saw.
fn log(place: &Place) -> PathBuf {
    place.home().join("../server.log")
}

/// `stockade cloud ARGUMENTS` with the server as the only other host.
fn beside_server(place: &Place, arguments: &[&str]) -> Output {
    let model = FakeModel::start(vec![Step::say("not asked")]).unwrap();
    let command = place.command(&model, &[&["cloud"], arguments].concat());
    fs::write(log(place), "").unwrap();
    let mut network = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        network.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    let words = "log=$1 server=$2; shift 2
        ip link set lo up && ip address add 203.0.113.10/32 dev lo || exit 99
        PATH=$PATH:/usr/bin python3 -c \"$server\" \"$log\" & started=$!
        until grep -q ready \"$log\"; do sleep 0.1; done
        \"$@\"; status=$?; kill $started; exit $status";
    network.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", words]);
    network.arg("sh").arg(log(place)).arg(SERVER);
    network.arg(command.get_program()).args(command.get_args());
    network.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let path = format!("/usr/local/bin:/usr/bin:/bin:{}", env::var("PATH").unwrap());
    network.env("PATH", path).current_dir(place.work()).output().unwrap()
}

fn events(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// A set-up that fetches, tries what is not on its list, and leaves a process that tries again when the
/// work has begun: by a new connection, and by one that it kept.
const REACHING: &str = r#"set -e
mkdir -p node_modules
curl -sSf http://203.0.113.10:8080/dep -o node_modules/dep
curl -sSf http://203.0.113.10:8080/large -o node_modules/large
head -c 2000000 /dev/zero | curl -sSf --data-binary @- http://203.0.113.10:8080/take
curl -sS http://203.0.113.10:9090/unlisted
! curl -sS --noproxy '*' --max-time 5 http://203.0.113.10:8080/direct
for own in 127.0.0.1 localhost; do
  curl -sS -x "$HTTPS_PROXY" --noproxy '' http://$own:7070/loopback
done
ls /sys/class/net
echo "$HTTPS_PROXY" > /tmp/proxy
cat > /tmp/late.py <<'END'
import os, socket, sys, time
host, port = open("/tmp/proxy").read().strip().removeprefix("http://").split(":")
kept = socket.create_connection((host, int(port)))
kept.sendall(b"CONNECT 203.0.113.10:8080 HTTP/1.1\r\nHost: 203.0.113.10:8080\r\n\r\n")
assert b"200" in kept.recv(999)
open("/tmp/kept", "w").close()
while not os.path.exists("/tmp/work"): time.sleep(0.05)
said = []
try:
    kept.sendall(b"GET /kept HTTP/1.1\r\nHost: 203.0.113.10:8080\r\nContent-Length: 0\r\n\r\n")
    said.append("heard %r" % kept.recv(999))
except OSError as error: said.append(type(error).__name__)
try:
    socket.create_connection((host, int(port)), 5); said.append("connected")
except OSError as error: said.append(type(error).__name__)
open("/tmp/said.new", "w").write(" ".join(said)); os.rename("/tmp/said.new", "/tmp/said")
END
setsid python3 /tmp/late.py > /tmp/late.log 2>&1 < /dev/null &
for _ in $(seq 60); do test -e /tmp/kept && break; sleep 0.5; done
cat /tmp/late.log
test -e /tmp/kept
"#;

/// The work after it.
const WORK: &str = "touch /tmp/work; wc -c < node_modules/large; cat node_modules/dep; \
                env | grep -ci proxy; for _ in $(seq 60); do test -e /tmp/said && break; sleep 0.5; done; \
                cat /tmp/said /tmp/late.log; \
                curl -sS -x \"$(cat /tmp/proxy)\" --max-time 5 http://203.0.113.10:8080/again; ls /sys/class/net";

/// Threat model, V7: "The programs of a machine reach hosts while its set-up runs, those of its
/// list, and none before or afterwards."
#[test]
fn a_set_up_reaches_the_hosts_of_its_list_and_the_work_reaches_none() {
    if !is_there() {
        return;
    }
    let place = small();
    let set = format!("cloud.setup={}", toml(REACHING));
    let arguments = [
        "--json",
        "-c",
        &set,
        "-c",
        "cloud.setup_network=[\"203.0.113.10:8080\"]",
        "--",
        "sh",
        "-c",
        WORK,
    ];
    let output = beside_server(&place, &arguments);
    let events = events(&output);
    let said = text(&output);
    let finished = of_kind(&events, "command.finished");
    let [set_up, worked] = finished.as_slice() else { panic!("{said}") };
    assert_eq!(set_up["exit"], 0, "{said}");
    let log = fs::read_to_string(log(&place)).unwrap();
    let asked: Vec<&str> = log.lines().skip(1).collect();
    let expected = ["8080 GET /dep 0", "8080 GET /large 0", "8080 POST /take 2000000"];
    assert_eq!(asked, expected, "{said}");
    let printed = set_up["output"].as_str().unwrap();
    let refused = "refused by Stockade: 203.0.113.10:9090 is not allowed";
    let remedy = "(`--allow-host 203.0.113.10:9090` would allow it)";
    assert!(printed.contains(refused) && printed.contains(remedy), "{printed}");
    assert!(printed.ends_with("lo\n"), "{printed}");
    let of_work = worked["output"].as_str().unwrap();
    assert!(of_work.starts_with("3000000\nleft-pad\n0\n"), "{of_work}");
    let cut = [
        "heard b'' ConnectionRefusedError",
        "BrokenPipeError ConnectionRefusedError",
        "ConnectionResetError ConnectionRefusedError",
    ];
    assert!(cut.iter().any(|cut| of_work.contains(cut)), "{of_work}");
    assert!(of_work.ends_with("lo\n"), "{of_work}");
    is_recorded(&events);
    let shown = shown(&place);
    assert_eq!(shown["changes"], 0, "{shown}");
}

fn is_recorded(events: &[Value]) {
    let connections = of_kind(events, "connection");
    let with = |port: u16, decision: &str| {
        let it = connections.iter().find(|it| it["port"] == port && it["decision"] == decision);
        assert!(it.is_some(), "{port} {decision}: {connections:#?}");
        *it.unwrap()
    };
    assert!(with(8080, "allow")["rule"].as_str().unwrap().contains("203.0.113.10:8080"));
    with(9090, "deny");
    let sent: u64 = connections.iter().filter_map(|it| it["sent"].as_u64()).sum();
    assert!(sent >= 2_000_000, "{connections:#?}");
    let denials = of_kind(events, "command.finished")[0]["denials"].clone();
    assert_eq!(denials[0]["op"], "connect", "{denials}");
    assert_eq!(denials[0]["target"], "203.0.113.10:9090", "{denials}");
    let alternative = denials[0]["alternatives"][0].as_str().unwrap();
    assert!(alternative.contains("setup_network = [\"203.0.113.10:9090\"]"), "{denials}");
    let phases = of_kind(events, "phase");
    let is_done = |it: &&&Value| it["name"] == "setup" && it["state"] == "finished";
    let done = phases.iter().find(is_done).unwrap();
    assert!(done["seconds"].as_f64().unwrap() > 0.0, "{done}");
}

#[test]
fn a_set_up_that_needs_another_host_fails_and_says_which_line_would_allow_it() {
    if !is_there() {
        return;
    }
    let place = small();
    let arguments = [
        "-c",
        "cloud.setup=\"curl -sSf http://203.0.113.10:9090/dep\"",
        "--allow-host",
        "203.0.113.10:8080",
        "--",
        "touch",
        "ran",
    ];
    let output = beside_server(&place, &arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    for words in [
        "the set-up script failed: it ended with status 22",
        "`203.0.113.10:9090` was refused: it is not allowed",
        "`[cloud] setup_network = [\"203.0.113.10:9090\"]`, or `--allow-host 203.0.113.10:9090`, would allow it",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(fs::read_to_string(log(&place)).unwrap(), "ready\n");
    let shown = shown(&place);
    assert_eq!((shown["state"].as_str(), shown["changes"].as_u64()), (Some("failed"), Some(0)));
}

/// A second thread with the same script, lockfiles and system has what the first one's set-up
/// left; one whose lockfile differs is set up anew.
#[test]
fn a_set_up_is_done_once_for_the_same_lockfiles() {
    if !is_there() {
        return;
    }
    let place = small();
    let lock = |text: &str| {
        fs::write(place.work().join("package-lock.json"), text).unwrap();
        place.commit();
    };
    lock("{}\n");
    let script = "set -e; mkdir -p node_modules/empty ~/.tool; \
                  curl -sSf http://203.0.113.10:8080/dep -o node_modules/dep; \
                  ln -s dep node_modules/link; echo '#!/bin/sh' > ~/.tool/run; chmod 750 ~/.tool/run";
    let set = format!("cloud.setup={}", toml(script));
    let work = "cat node_modules/link; stat -c %a ~/.tool/run; ls -d node_modules/empty; \
                git status --porcelain; ls -A /tmp";
    let hosts = "cloud.setup_network=[\"203.0.113.10:8080\"]";
    let run = |script: &str| {
        let arguments = ["--json", "-c", script, "-c", hosts, "--", "sh", "-c", work];
        let output = beside_server(&place, &arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let events = events(&output);
        let finished = of_kind(&events, "command.finished");
        let printed = finished.last().unwrap()["output"].as_str().unwrap().to_owned();
        let phases = of_kind(&events, "phase");
        let states = phases.iter().filter(|it| it["name"] == "setup").map(|it| it["state"].clone());
        let log = fs::read_to_string(log(&place)).unwrap();
        (printed, states.collect::<Vec<_>>(), log.contains("GET /dep"), said)
    };
    let as_it_is = "left-pad\n750\nnode_modules/empty\n";
    let first = run(&set);
    assert_eq!((first.0.as_str(), first.2), (as_it_is, true), "{}", first.3);
    let second = run(&set);
    assert_eq!((second.0.as_str(), second.2), (as_it_is, false), "{}", second.3);
    assert_eq!(second.1, ["skipped"], "{}", second.3);
    lock("{ }\n");
    let third = run(&set);
    assert_eq!((third.0.as_str(), third.2), (as_it_is, true), "{}", third.3);
    assert_eq!(third.1, ["started", "finished"], "{}", third.3);
}

/// What an archive cannot hold is done anew each time, and said.
#[test]
fn a_set_up_that_cannot_be_kept_says_so() {
    if !is_there() {
        return;
    }
    let place = small();
    for (script, why) in [
        ("git config user.name somebody", "it has changed files that git tracks, or git's"),
        ("setsid sleep 600 > /dev/null 2>&1 < /dev/null &", "it has left processes that run"),
    ] {
        let set = format!("cloud.setup={}", toml(script));
        let output = beside_server(&place, &["-c", &set, "--", "true"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let line = format!("set-up: its result is not kept for the next thread: {why}");
        assert!(said.contains(&line), "{line}: {said}");
        let log = place.stockade(&nobody(), &["log"]);
        assert!(text(&log).contains(&format!("note: {line}")), "{}", text(&log));
    }
}

/// Without a terminal nobody is asked, and a project cannot open the network for itself.
#[test]
fn a_project_does_not_say_what_its_set_up_reaches() {
    let place = small();
    let project = place.work().join(".stockade");
    fs::create_dir_all(&project).unwrap();
    let config = "[cloud]\nsetup_network = ['203.0.113.10']\n";
    fs::write(project.join("config.toml"), config).unwrap();
    let model = FakeModel::start(vec![Step::say("not asked")]).unwrap();
    let output = place.stockade(&model, &["config", "show"]);
    let said = text(&output);
    assert!(said.contains("may not open the network"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("203.0.113.10"), "{said}");
    let output = place.stockade(&model, &["cloud", "--allow-host", "a.org", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("is for its set-up, and there is none"), "{}", text(&output));
    let local =
        ["cloud", "-c", "cloud.setup=\"true\"", "--allow-host", "localhost:80", "--", "true"];
    let output = place.stockade(&model, &local);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("not yet: `localhost:80`"), "{}", text(&output));
}

/// As a string of TOML, whose basic strings JSON's are among.
fn toml(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
