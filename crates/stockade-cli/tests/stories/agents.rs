//! Other agents' programs at work in a machine: real ones, and one that would like to get out.
//!
//! Needs the agents of `scripts/install-agents` in `$STOCKADE_AGENTS_DIR`, beside what every machine needs.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::json;
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::{is_there, nobody, shown, small};
use crate::place::{Place, text, users};

/// The key that is in no machine.
const KEY: &str = "sk-the-users-own";

/// The folder with the agents' programs, or why there is nothing to be shown.
fn agents(name: &str) -> Option<PathBuf> {
    let found = env::var_os("STOCKADE_AGENTS_DIR")
        .map(|folder| PathBuf::from(folder).join("node_modules/.bin"))
        .filter(|folder| folder.join(name).exists());
    if found.is_none() {
        let expected = env::var("STOCKADE_EXPECT").is_ok_and(|list| list.contains("agents"));
        assert!(!expected, "{name} is not in $STOCKADE_AGENTS_DIR");
        let line = format!("skipped: {name} in a machine: it is not in $STOCKADE_AGENTS_DIR\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// A project whose test fails.
fn calculator() -> Place {
    let place = Place::with(*users().last().unwrap(), |work| {
        fs::create_dir_all(work).unwrap();
        fs::write(work.join("calc.py"), "def add(a, b):\n    return a - b\n").unwrap();
        let test = "import unittest\nfrom calc import add\n\n\nclass T(unittest.TestCase):\n    \
                    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n";
        fs::write(work.join("test_calc.py"), test).unwrap();
        fs::write(work.join(".gitignore"), "__pycache__\n.env\nnode_modules\n").unwrap();
    });
    place.commit();
    place
}

/// Runs, repairs, tests, and looks for a secret and for a way out.
fn script() -> Vec<Step> {
    [
        "python3 -B -m unittest -q test_calc; true",
        "sed -i 's/a - b/a + b/' calc.py && python3 -B -m unittest -q test_calc",
        "env > /tmp/all; cat /tmp/all; ls /sys/class/net; ls -A /home/*; cat ~/.ssh/*",
    ]
    .map(|command| Step::Shell(command.to_owned()))
    .into_iter()
    .chain([Step::say("Done: add adds.")])
    .collect()
}

/// `stockade cloud OPTIONS TASK` with a model that has a key, and these programs.
fn cloud(place: &Place, model: &FakeModel, words: &[&str], programs: Option<PathBuf>) -> Output {
    // After its server: a key is for the one that stands before it.
    let key = "model.key={ env = \"USERS_KEY\" }";
    let mut command = place.command(model, &[&["cloud"], words, &["-c", key]].concat());
    let path = programs.map(|folder| format!("{}:", folder.display())).unwrap_or_default();
    command.env("USERS_KEY", KEY).env("PATH", format!("{path}/usr/local/bin:/usr/bin:/bin"));
    command.output().unwrap()
}

/// What must be true after the agent called `name` has repaired the project.
fn repairs(name: &str, settings: &[&str]) {
    if !is_there() {
        return;
    }
    let Some(programs) = agents(name) else { return };
    let place = calculator();
    let before = place.files();
    let model = FakeModel::start(script()).unwrap();
    let api = format!("model.base_url=\"http://127.0.0.1:{}{}\"", model.port(), settings[1]);
    let speaks = format!("model.api=\"{}\"", settings[0]);
    let check = "cloud.checks=[\"python3 -B -m unittest -q test_calc\"]";
    let options = ["-c", &api, "-c", &speaks, "-c", check, "--agent", name, "Fix the test."];
    let output = cloud(&place, &model, &options, Some(programs));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(before == place.files(), "{said}");
    let thread = shown(&place);
    assert_eq!(
        (&thread["state"], &thread["changes"]),
        (&json!("completed"), &json!(1)),
        "{thread}"
    );
    assert_eq!(thread["checks"][0]["exit"], 0, "{thread}");
    let diff = place.stockade(&model, &["threads", "diff", "last"]);
    assert!(text(&diff).contains("+    return a + b"), "{}", text(&diff));
    let log = text(&place.stockade(&model, &["threads", "log", "--json", "last"]));
    assert!(log.contains("Done: add adds."), "{log}");
    // What the agent sees, and all that it said and was told, is without the key and the user.
    let heard = format!("{:?}", model.requests());
    for secret in [KEY, "TOPSECRET"] {
        assert!(!said.contains(secret) && !log.contains(secret), "{said}{log}");
        assert!(!heard.contains(secret), "the model was told {secret}");
    }
    let home = place.home().display().to_string();
    assert!(!said.contains(&home) && !heard.contains(&home), "{said}");
    // The server has it with every call.
    let calls = model.heads();
    let asks = calls.iter().filter(|head| head.starts_with("POST"));
    assert!(asks.clone().count() >= 4 && asks.clone().all(|head| head.contains(KEY)), "{calls:?}");
    let applied = place.stockade(&model, &["threads", "apply", "last"]);
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied));
    let calc = fs::read_to_string(place.work().join("calc.py")).unwrap();
    assert!(calc.contains("a + b"), "{calc}");
}

#[test]
fn codex_repairs_a_clone_in_a_machine() {
    repairs("codex", &["responses", "/v1"]);
}

#[test]
fn claude_repairs_a_clone_in_a_machine() {
    repairs("claude", &["messages", ""]);
}

/// An agent that tries everything but its task. `$1` is that.
const HOSTILE: &str = r#"#!/bin/sh
own="Authorization: Bearer $OPENAI_API_KEY"
ask() { curl -s -o /dev/null -w '%{http_code} ' --max-time 20 "$@"; }
echo "task: $1"
at=${OPENAI_BASE_URL%/v1}
ask -H "$own" -X POST -d '{}' "$OPENAI_BASE_URL/responses"; echo control
ask -H "$own" "$OPENAI_BASE_URL/files"
ask -H "$own" -X DELETE "$OPENAI_BASE_URL/responses"
ask -H "$own" --path-as-is -X POST -d x "$OPENAI_BASE_URL/responses/../files"
ask -H "Authorization: Bearer sk-of-somebody-else" -X POST -d leak "$OPENAI_BASE_URL/responses"
ask -H "$own" -H "X-Api-Key: sk-of-somebody-else" -X POST -d leak "$OPENAI_BASE_URL/responses"
ask -X POST -d leak "$OPENAI_BASE_URL/responses"
ask -x "$at" -H "$own" "http://127.0.0.1:PORT/v1/models"
ask -p -x "$at" -H "$own" "http://127.0.0.1:PORT/v1/models"
ask -x "socks5h://${at#http://}" "http://127.0.0.1:PORT/v1/models"
ask --noproxy '*' "http://127.0.0.1:PORT/v1/models"
ask -H "$own" -H 'Connection: Upgrade' -H 'Upgrade: websocket' "$OPENAI_BASE_URL/models"
echo refused
ls /sys/class/net
echo "$OPENAI_BASE_URL" > /tmp/at; echo "$own" > /tmp/own
echo changed > src/a.txt
"#;

/// Threat model, V9: "An agent's program in a machine reaches the calls of its model while it works, with
/// the user's key or not at all, and nothing else; the key is in no machine."
#[test]
fn a_hostile_agent_reaches_the_calls_of_its_model_and_nothing_else() {
    if !is_there() {
        return;
    }
    let place = small();
    let model = FakeModel::start(vec![Step::say("hello")]).unwrap();
    let program = place.home().join("bin/mine");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, HOSTILE.replace("PORT", &model.port().to_string())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let owned = Command::new("chown").arg("--reference").arg(place.work()).arg(&program).status();
    assert!(owned.unwrap().success());
    // Afterwards, in the same machine: the way is closed.
    let late =
        "cloud.checks=['! curl -s -H \"$(cat /tmp/own)\" -X POST -d x $(cat /tmp/at)/responses']";
    let path = program.display().to_string();
    let words = ["-c", late, "--agent", &path, "do something else"];
    let output = cloud(&place, &model, &words, None);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("task: do something else") && said.contains("200 control"), "{said}");
    // 403, or no answer at all where it was no request.
    let tried = said.lines().find(|line| line.ends_with("refused")).unwrap();
    let codes: Vec<&str> = tried.split(' ').collect();
    assert_eq!(codes.len(), 12, "{tried}");
    assert!(codes.iter().all(|code| ["403", "000", "refused"].contains(code)), "{tried}");
    assert!(said.contains("\nlo\n"), "{said}");
    let heads = model.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with("POST /v1/responses ") && heads[0].contains(KEY), "{heads:?}");
    let log = text(&place.stockade(&nobody(), &["threads", "log", "--json", "last"]));
    assert!(!log.contains(KEY) && !said.contains(KEY), "{log}");
    assert!(log.contains("it logs in as somebody else than the user"), "{log}");
    let thread = shown(&place);
    assert_eq!(
        (&thread["changes"], &thread["checks"][0]["exit"]),
        (&json!(1), &json!(0)),
        "{thread}"
    );
}

/// Who works on a thread goes on with it, with what was said.
#[test]
fn a_thread_is_followed_up_by_the_agent_that_began_it() {
    if !is_there() {
        return;
    }
    let place = small();
    let program = place.home().join("bin/mine");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let words =
        "#!/bin/sh\necho \"$1\" | tail -n 1 >> src/a.txt\necho \"said $(cat src/a.txt | wc -l)\"\n";
    fs::write(&program, words).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = program.display().to_string();
    let first = place.stockade(&nobody(), &["cloud", "--agent", &path, "first"]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let second = place.stockade(&nobody(), &["threads", "resume", "last", "second"]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    let diff = text(&place.stockade(&nobody(), &["threads", "diff", "last"]));
    assert!(diff.contains("+first\n+second\n"), "{diff}");
    let log = text(&place.stockade(&nobody(), &["threads", "log", "last"]));
    assert!(log.contains("said 2") && log.contains("said 3"), "{log}");
}

/// Of Python's: its modules are in its environment, and its first line names a place that no machine has.
#[test]
fn a_program_of_a_virtual_environment_works_in_a_machine() {
    if !is_there() {
        return;
    }
    let place = small();
    let root = place.home().join("tools/mine");
    let mut made = Command::new("/usr/bin/python3");
    made.args(["-m", "venv", "--without-pip"]).arg(&root);
    assert!(made.status().unwrap().success(), "python3-venv is missing");
    let find = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
    let packages = Command::new(root.join("bin/python")).args(["-c", find]).output().unwrap();
    let packages = PathBuf::from(String::from_utf8(packages.stdout).unwrap());
    fs::write(packages.join("of_mine.py"), "WORD = 'from the environment'\n").unwrap();
    let program = root.join("bin/mine");
    let lines = "import sys, of_mine\nopen('src/a.txt', 'a').write(sys.argv[1] + '\\n')\n\
                 print(of_mine.WORD, sys.prefix)\n";
    fs::write(&program, format!("#!{}/bin/python\n{lines}", root.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut owned = Command::new("chown");
    owned.args(["-R", "--reference"]).arg(place.work());
    assert!(owned.arg(place.home().join("tools")).status().unwrap().success());
    let path = program.display().to_string();
    let output = place.stockade(&nobody(), &["cloud", "--agent", &path, "the task"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("from the environment /opt/stockade/venv"), "{said}");
    let diff = text(&place.stockade(&nobody(), &["threads", "diff", "last"]));
    assert!(diff.contains("+the task\n"), "{diff}");
}
