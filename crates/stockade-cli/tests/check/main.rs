//! `stockade check` as a script and a person meet it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rules;
mod session;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A home with a workspace and the rules of the manual.
struct Home {
    folder: tempfile::TempDir,
}

const RULES: &str = "\
[[rules]]
prefix = 'npm test'
allow = true
match = ['npm test -- -u']

[[rules]]
prefix = 'cargo fetch'
decision = 'ask'
reason = 'fetches from the registry'

[[rules]]
prefix = 'docker'
allow = false
";

impl Home {
    fn new(rules: &str) -> Self {
        // Outside the folders that are private in a sandbox, so that nothing is special here.
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        fs::create_dir_all(folder.path().join("work")).unwrap();
        fs::create_dir_all(folder.path().join("config/stockade")).unwrap();
        fs::write(folder.path().join("config/stockade/config.toml"), rules).unwrap();
        Self { folder }
    }

    fn check(&self, arguments: &[&str]) -> Output {
        self.run(&[&["check"], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(arguments)
            .current_dir(self.folder.path().join("work"))
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap()
    }

    fn said(&self, arguments: &[&str]) -> (i32, String, String) {
        self.shown(&self.check(arguments))
    }

    /// The same for any verb.
    fn told(&self, arguments: &[&str]) -> (i32, String, String) {
        self.shown(&self.run(arguments))
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("config/stockade/config.toml")
    }

    fn shown(&self, output: &Output) -> (i32, String, String) {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(self.folder.path().to_str().unwrap(), "HOME")
        };
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn the_exit_status_is_the_decision() {
    let home = Home::new(RULES);
    for (arguments, expected) in [
        (vec!["--", "npm", "test"], 0),
        (vec!["--", "cargo", "fetch"], 3),
        (vec!["docker", "ps"], 4),
        (vec!["--", "bash", "-lc", "npm test && docker ps"], 4),
        (vec!["--line", "npm test; cargo fetch"], 3),
        (vec!["--line", "make"], 0),
        (vec!["-a", "untrusted", "--line", "make"], 3),
        (vec!["-a", "untrusted", "--line", "ls | wc -l"], 0),
        (vec!["-a", "never", "--line", "cargo fetch"], 4),
        (vec!["-s", "read-only", "--line", "make"], 3),
        (vec!["-s", "read-only", "-a", "never", "--line", "make"], 4),
        (vec!["-c", "approval_policy=untrusted", "--line", "$x"], 3),
        (vec!["--line", ""], 0),
        (vec![], 2),
        (vec!["--line", "a", "--", "b"], 2),
        (vec!["--no-such-flag"], 2),
        (vec!["-a", "perhaps", "--line", "a"], 2),
        (vec!["-c", "no_such_key=1", "--line", "a"], 2),
        (vec!["-C", "no/such/folder", "--line", "a"], 2),
        (vec!["--replay", "no-log"], 1),
        (vec!["--line", "ls > out"], 0),
        (vec!["--line", "ls > ../out"], 3),
        (vec!["-a", "never", "--line", "ls > ../out"], 4),
        (vec!["--line", "ls > /tmp/out 2>/dev/null"], 0),
        (vec!["-C", "..", "--no-project-config", "--line", "ls"], 2),
    ] {
        let (status, out, err) = home.said(&arguments);
        assert_eq!(status, expected, "{arguments:?}: {out}{err}");
    }
}

#[test]
fn a_person_reads_the_decision_and_each_part_with_its_line() {
    let home = Home::new(RULES);
    let line = "npm test && docker ps > out; cargo fetch\nmake $x | $y \u{1b}[2J";
    let (status, out, err) = home.said(&["-a", "untrusted", "--line", line]);
    assert_eq!((status, err.as_str()), (4, ""));
    let expected = "\
deny: rule \"docker\" (HOME/config/stockade/config.toml:11) denies this command
  allow  npm test  (rule \"npm test\", HOME/config/stockade/config.toml:1)
  ask    out  (written by a redirection)
  deny   docker ps  (rule \"docker\", HOME/config/stockade/config.toml:11)
  ask    cargo fetch  (rule \"cargo fetch\", HOME/config/stockade/config.toml:6)
  ask    make $x  (no rule)
  ask    $y \\u{1b}[2J  (opaque: the name of the program is not known)
";
    assert_eq!(out, expected);
}

#[test]
fn a_script_reads_one_object() {
    let home = Home::new(RULES);
    let (status, out, _) = home.said(&["--json", "--line", "cargo fetch; ls 'a b'"]);
    assert_eq!(status, 3);
    let place = "HOME/config/stockade/config.toml:6";
    let reason = format!(
        "rule \"cargo fetch\" ({place}) asks about this command: fetches from the registry"
    );
    let rule = json!({
        "source": place, "prefix": "cargo fetch", "decision": "ask",
        "reason": "fetches from the registry",
    });
    let expected = json!({
        "decision": "ask",
        "opaque": false,
        "reason": reason,
        "parts": [
            {"kind": "command", "argv": ["cargo", "fetch"], "decision": "ask", "rule": rule},
            {"kind": "command", "argv": ["ls", "a b"], "decision": "allow", "rule": null},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
    let (status, out, _) = home.said(&["--json", "-a", "untrusted", "--line", "$x"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &value["opaque"], &value["decision"]), (3, &json!(true), &json!("ask")));
}

#[test]
fn a_projects_rule_tightens_and_never_allows() {
    let home = Home::new(RULES);
    let folder = home.folder.path().join("work/.stockade");
    fs::create_dir(&folder).unwrap();
    let rules =
        "[[rules]]\nprefix = 'docker'\nallow = true\n[[rules]]\nprefix = 'npm'\nallow = false\n";
    fs::write(folder.join("config.toml"), rules).unwrap();
    assert_eq!(home.said(&["--", "docker"]).0, 4);
    let (status, _, err) = home.said(&["--", "npm", "test"]);
    assert_eq!(status, 4);
    assert!(err.contains("a project file may not allow commands"), "{err}");
    assert_eq!(home.said(&["--no-project-config", "--", "npm", "test"]).0, 0);
}

#[test]
fn a_failing_example_is_bad_configuration() {
    let home = Home::new("[[rules]]\nprefix = 'a'\nallow = true\nmatch = ['b']\n");
    let (status, out, err) = home.said(&["--", "a"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(
        err.contains("config.toml:4:10") && err.contains("does not match its example `b`"),
        "{err}"
    );
}

#[test]
fn a_log_is_replayed_under_each_policy_and_grouped_by_the_rule_that_would_end_the_asking() {
    let home = Home::new(RULES);
    let log = [
        r#"{"line": "cargo test -p a", "cwd": "/x", "time": 3}"#,
        r#"{"line": "cargo test --all && cargo test -p b"}"#,
        r#"{"argv": ["cargo", "test", "-q"]}"#,
        r#"{"line": "npm test"}"#,
        r#"{"line": "ls | wc -l"}"#,
        r#"{"line": "cargo fetch"}"#,
        r#"{"argv": ["docker", "ps"]}"#,
        r#"{"line": "$x"}"#,
        r#"{"line": "ls > /elsewhere/x"}"#,
        r#"{"line": "./build.sh"}"#,
        "",
        "no json",
        r#"{"argv": []}"#,
        r#"{"cwd": "/x"}"#,
    ];
    fs::write(home.folder.path().join("work/log"), log.join("\n")).unwrap();
    let (status, out, err) = home.said(&["--replay", "log", "--json"]);
    assert_eq!(status, 0, "{err}");
    assert!(err.contains("3 lines are no command") && err.contains("line 12"), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["commands"], &report["skipped"]), (&json!(10), &json!([12, 13, 14])));
    let counts =
        |run: u64, ask: u64, refused: u64| json!({"run": run, "ask": ask, "refused": refused});
    assert_eq!(report["policies"]["untrusted"], counts(2, 7, 1));
    assert_eq!(report["policies"]["on-request"], counts(7, 2, 1));
    assert_eq!(report["policies"]["never"], counts(7, 0, 3));
    let group = &report["groups"][0];
    assert_eq!((&group["prefix"], &group["commands"]), (&json!("cargo test"), &json!(3)));
    assert_eq!(group["words"], json!(["cargo", "test"]));
    // The rule that it names ends the asking.
    assert_eq!(home.said(&["-a", "untrusted", "--line", "cargo test --all && cargo test"]).0, 3);
    let add = ["rules", "add", "--decision", "allow", "--", "cargo", "test"];
    assert_eq!(home.told(&add).0, 0);
    assert_eq!(home.said(&["-a", "untrusted", "--line", "cargo test --all && cargo test"]).0, 0);
    let (_, out, _) = home.said(&["--replay", "log"]);
    let head = "10 commands\n  untrusted         5 run        4 ask        1 refused\n";
    assert!(out.starts_with(head), "{out}");
    assert!(out.contains("no rule: `./build.sh` runs what it is told"), "{out}");
}
