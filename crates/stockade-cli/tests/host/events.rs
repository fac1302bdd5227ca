//! What scripts hear of another agent's thread.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::{Home, text};

const AGENT: &str = "#!/bin/sh\necho \"said $1\"\necho new > src/new\n(echo x > ../outside/file) 2> /dev/null\nexit 3\n";

#[test]
fn another_agents_events_are_on_stdout_and_what_it_prints_is_not() {
    for is_draft in [false, true] {
        let home = Home::new();
        fs::create_dir(home.path("bin")).unwrap();
        fs::write(home.path("bin/mine"), AGENT).unwrap();
        fs::set_permissions(home.path("bin/mine"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = home.command_of("local");
        command.arg("--agent").arg(home.path("bin/mine")).args(["--json", "the task"]);
        command.arg("--json-file").arg(home.path("events.jsonl"));
        command.args(is_draft.then_some("--draft"));
        let output = command.output().unwrap();
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(3), "{shown}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("said the task\n"), "{shown}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let events: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let at = |kind: &str| kinds.iter().position(|found| *found == kind).expect(kind);
        let order = ["message", "command.started", "command.finished", "changes"].map(at);
        assert!(order.is_sorted(), "{kinds:?}");
        assert_eq!((at("thread.started"), at("thread.finished")), (0, kinds.len() - 1));
        let find = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap();
        assert_eq!(find("thread.started")["schema"], 1);
        assert_eq!(find("thread.started")["kind"], "local");
        assert_eq!(find("message")["text"], "the task");
        let finished = find("command.finished");
        assert_eq!(finished["exit"], 3, "{finished}");
        assert_eq!(finished["denials"][0]["op"], "write", "{finished}");
        assert_eq!(find("changes")["files"], 1);
        let last = find("thread.finished");
        assert_eq!((&last["state"], &last["exit"]), (&"failed".into(), &3.into()));
        assert_eq!(fs::read_to_string(home.path("events.jsonl")).unwrap(), lines);
        assert_eq!(home.path("work/src/new").exists(), !is_draft);
    }
}
