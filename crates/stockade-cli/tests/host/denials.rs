//! What is refused is told: to the programs inside, in the record, and to nobody's script.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Home, also_as_ordinary_user, text};

fn denials(home: &Home) -> Vec<Value> {
    let log = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["log", "--json"])
        .current_dir(home.path("work"))
        .env_clear()
        .env("HOME", home.path(""))
        .output()
        .unwrap();
    let lines = String::from_utf8(log.stdout).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["type"] == "denial").collect()
}

/// Each refusal is made twice and told once, before the call returns.
const REFUSED: &str = r#"
import errno, json, os
seen = []
def refused(number, call, *arguments):
    for _ in range(2):
        try:
            call(*arguments)
        except OSError as error:
            assert error.errno == number, error
        else:
            raise SystemExit(f"not refused: {arguments}")
    lines = open(os.environ["STOCKADE_DENIALS"]).read().splitlines()
    seen.append(json.loads(lines[-1]))
    assert len(lines) == len(seen), lines
open("made", "w").write("x")
refused(errno.EACCES, open, ".git/hooks/pre-commit", "w")
refused(errno.EROFS, open, "../outside/file", "w")
os.symlink("../outside/new", "link")
refused(errno.EROFS, open, "link", "w")
refused(errno.EROFS, os.mkdir, "../outside/d\n\x1b")
refused(errno.EROFS, os.unlink, "../outside/file")
refused(errno.EROFS, os.rename, "../outside/file", "../outside/made")
refused(errno.EROFS, os.chmod, "../outside/file", 0o700)
os.unlink("made")
for entry in seen:
    print(entry["op"], os.path.relpath(entry["target"]), entry["decided_by"], sep="|")
    assert entry["message"].startswith("refused: ") and "work around" in entry["message"], entry
assert "writable here: " in seen[1]["message"] and "--add-dir" in seen[1]["message"], seen[1]
list = os.environ["STOCKADE_DENIALS"]
for change in (lambda: open(list, "a"), lambda: os.unlink(list), lambda: os.chmod(list, 0o666),
               lambda: os.rename("/tmp", list), lambda: open("/run/other", "w")):
    try:
        change()
    except OSError:
        pass
    else:
        raise SystemExit("the list was changed from inside")
"#;

#[test]
#[ignore = "run by the other tests, as each user"]
fn as_this_user() {
    let home = Home::new();
    let output = home.command().args(["--", "python3", "-c", REFUSED]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    let wanted = [
        "write|.git/hooks/pre-commit|protected name",
        "write|../outside/file|writable_roots",
        "write|../outside/new|writable_roots",
        "create|../outside/d",
        "remove|../outside/file|writable_roots",
        "rename|../outside/file|writable_roots",
        "mode|../outside/file|writable_roots",
    ];
    for line in wanted {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("calls were refused"), "nobody watches: {said}");
    assert_eq!(fs::read_to_string(home.path("outside/file")).unwrap(), "original\n");
    let recorded = denials(&home);
    let record = serde_json::to_string(&recorded).unwrap();
    let (op, target) = (&recorded[0]["op"], recorded[0]["target"].as_str().unwrap());
    assert!(op == "write" && target.ends_with("/work/.git/hooks/pre-commit"), "{record}");
    assert!(recorded[1]["alternatives"][0].as_str().unwrap().contains("writable here"), "{record}");
    assert!(recorded.len() >= wanted.len(), "{record}");
    // The control: what is not refused is not told, the walls' own attempts included.
    let output = home.run(&[], "touch made; rm made; echo list=$(cat $STOCKADE_DENIALS)");
    assert!(text(&output).contains("list=\n"), "{}", text(&output));
    assert_eq!(denials(&home), Vec::<Value>::new());
    let reading = ["-s".as_ref(), "read-only".as_ref()];
    let script = "echo x > /tmp/free; mkdir src/made; echo x > ../outside/file; \
                  cat /tmp/free $STOCKADE_DENIALS";
    let output = home.run(&reading, script);
    let shown = text(&output);
    assert!(shown.contains("\nx\n") && shown.contains("writable here: /"), "{shown}");
    assert!(shown.contains("--sandbox workspace-write") && !shown.contains("--add-dir"), "{shown}");
    let told: Vec<_> = denials(&home)
        .iter()
        .map(|denial| {
            let target = denial["target"].as_str().unwrap().rsplit_once('/').unwrap().1;
            format!("{} {target}", denial["op"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, ["create made", "write file"]);
    let free = ["-s".as_ref(), "danger-full-access".as_ref()];
    let output = home.run(&free, "echo list=$STOCKADE_DENIALS");
    assert!(text(&output).contains("list=\n"), "none is named that is not kept: {}", text(&output));
}

#[test]
fn what_is_refused_is_told_inside_and_in_the_record() {
    as_this_user();
}

#[test]
fn the_same_for_an_ordinary_user() {
    also_as_ordinary_user("denials::as_this_user");
}

/// A socket that somebody outside binds while the run goes on.
#[test]
fn a_program_or_a_socket_that_is_refused_is_in_the_list_and_in_the_record() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/stockade")).unwrap();
    let rule = "[[rules]]\nprefix = 'docker'\nallow = false\nreason = 'not here'\n";
    fs::write(home.path(".config/stockade/config.toml"), rule).unwrap();
    fs::write(home.path("work/docker"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(home.path("work/docker"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = r#"
import json, os, socket, subprocess, time
print("ready", flush=True)
while not os.path.exists("../outside/socket"):
    time.sleep(0.01)
for kind, name in ((socket.SOCK_STREAM, "connect"), (socket.SOCK_DGRAM, "sendto")):
    try:
        peer = socket.socket(socket.AF_UNIX, kind)
        getattr(peer, name)(*([b"x"] if name == "sendto" else []), "../outside/socket")
    except PermissionError:
        continue
    raise SystemExit("reached")
subprocess.run(["sh", "-c", "./docker ps; ./docker ps"], stderr=subprocess.DEVNULL)
print(open(os.environ["STOCKADE_DENIALS"]).read())
"#;
    let mut command = home.command();
    command.args(["--", "python3", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let _listener = UnixListener::bind(home.path("outside/socket")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && !said.contains("ran"), "{said}");
    let listed: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let recorded = denials(&home);
    for all in [&listed, &recorded] {
        let all: Vec<_> = all
            .iter()
            .map(|denial| {
                let target = denial["target"].as_str().unwrap();
                let by = denial["decided_by"].as_str().unwrap();
                (denial["op"].as_str().unwrap(), target.rsplit('/').next().unwrap(), by)
            })
            .collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0], ("connect", "socket", "no program inside has bound this socket"));
        assert!(all[1].0 == "execute" && all[1].1 == "docker", "{all:?}");
        assert!(
            all[1].2.contains("rule \"docker\" (") && all[1].2.ends_with("not here"),
            "{all:?}"
        );
    }
}

#[test]
fn a_flood_of_refusals_neither_hangs_nor_grows() {
    let home = Home::new();
    let script = r#"
import os
for number in range(100_000):
    try:
        os.mkdir(f"../outside/{number}")
    except OSError:
        continue
    raise SystemExit("made")
print("lines", len(open(os.environ["STOCKADE_DENIALS"]).readlines()))
"#;
    let output = home.command().args(["--", "python3", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("lines 1000\n"), "{}", text(&output));
    let recorded = denials(&home);
    assert_eq!(recorded.len(), 1001);
    let last = recorded.last().unwrap();
    let counts = ["more", "99000 further calls"];
    assert_eq!([&last["op"], &last["target"]], counts, "{last}");
}
