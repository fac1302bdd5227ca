//! What the model does wrong, and what it may not: it is told, and goes on.

use std::time::Duration;

use serde_json::json;
use stockade_agents::{AgentEvent, Exit, HandsError, ShellOutcome};
use stockade_testkit::model::Step;

use crate::memory::{APIS, Memory, Run, task};

#[test]
fn a_call_that_is_not_the_schemas_is_answered_as_an_error() {
    let huge = "x".repeat(300_000);
    let script = vec![
        Step::tool("shell", json!("{\"command\": \"echo")),
        Step::tool("shell", json!("")),
        Step::tool("shell", json!({"command": ["ls"]})),
        Step::tool("shell", json!({"cmd": "ls"})),
        Step::tool("shell", json!(["ls"])),
        Step::tool("shell", json!({"command": "  "})),
        Step::tool("shell", json!({"command": "ls", "timeout_s": -1})),
        Step::tool("delete everything!", json!({})),
        Step::tool("", json!({})),
        Step::tool("read", json!({"path": "a\u{0}b"})),
        Step::tool("read", json!(huge)),
        Step::tool("edit", json!({"patch": "--- a\n+++ b\n"})),
        Step::say("I give up."),
    ];
    for api in APIS {
        let place = Memory::default();
        let run = Run::new(api, &script, &[], &place);
        assert_eq!(run.finished(), "I give up.");
        let told = run.told();
        assert_eq!(told.len(), 12, "{api:?}: {told:#?}");
        let starts = [
            "error: the arguments of `shell` do not fit: EOF while parsing a string",
            "error: the arguments of `shell` do not fit: missing field `command`",
            "error: the arguments of `shell` do not fit: invalid type: sequence",
            "error: the arguments of `shell` do not fit: unknown field `cmd`",
            "error: the arguments of `shell` do not fit: ",
            "error: `command` is empty",
            "error: the arguments of `shell` do not fit: invalid value: integer `-1`",
            "error: there is no tool `deleteeverything`",
            "error: there is no tool `unnamed`",
            "error: `path` names nothing",
            "error: the arguments of `read` do not fit: expected value",
            "error: a patch starts with the line `*** Begin Patch`",
        ];
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start), "{api:?}: {told:?} and not {start:?}");
            assert!(told.len() < 1000, "{}", told.len());
        }
        let is_slip = |event: &&AgentEvent| matches!(event, AgentEvent::Slip { .. });
        assert_eq!(run.events.iter().filter(is_slip).count(), 12, "who watches is told too");
        assert!(place.lines_run().is_empty() && place.files.lock().unwrap().is_empty());
        assert_eq!(run.retries(), 0);
    }
}

#[test]
fn what_models_are_used_to_put_around_a_call_is_borne_with() {
    let patch = "```diff\n*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch\n```\n";
    let script = [
        Step::tool("shell", json!({"command": "ls", "description": "Looks around"})),
        Step::tool("edit", json!({"patch": patch})),
        Step::say("Done."),
    ];
    let place = Memory::default();
    let run = Run::new(APIS[0], &script, &[], &place);
    assert_eq!(run.finished(), "Done.");
    assert_eq!(
        (place.lines_run(), place.text("a.txt").as_deref()),
        (vec!["ls".to_owned()], Some("one\n"))
    );
}

#[test]
fn a_refusal_is_told_in_its_own_words_and_nothing_is_changed() {
    let words = "refused: write to .env is outside the writable roots (writable here: src, tests); \
                 do not work around it";
    let patch = "*** Begin Patch\n*** Add File: .env\n+A=1\n*** End Patch";
    let script = [
        Step::Shell("docker ps".to_owned()),
        Step::tool("edit", json!({"patch": patch})),
        Step::tool("write", json!({"path": ".env", "content": "A=1"})),
        Step::say("It is refused."),
    ];
    for api in APIS {
        let mut place = Memory::default();
        let docker = "refused: rule \"docker\" (config.toml:12) denies this command";
        place.answers.insert("docker ps".to_owned(), Err(HandsError::Refused(docker.to_owned())));
        place.refused.insert(".env".into(), words.to_owned());
        let run = Run::new(api, &script, &[], &place);
        assert_eq!(run.told(), [docker, words, words], "{api:?}");
        assert!(place.files.lock().unwrap().is_empty());
    }
}

#[test]
fn what_a_command_did_is_told_bounded_and_harmless() {
    let mut place = Memory::default();
    let outcome = |exit, output: &[u8]| {
        Ok(ShellOutcome { exit, output: output.to_vec(), is_truncated: output.len() > 100_000 })
    };
    let mut long = b"first line\n".to_vec();
    long.extend(vec![b'x'; 500_000]);
    long.extend(b"\nlast line");
    for (line, answer) in [
        ("fails", outcome(Exit::Status(3), b"no\xff \x1b[31mred\x1b[0m\r\nend")),
        ("dies", outcome(Exit::Signal(9), b"")),
        ("hangs", outcome(Exit::TimedOut, b"")),
        ("talks", outcome(Exit::Status(0), &long)),
        ("breaks", Err(HandsError::Failed("no such folder".to_owned()))),
    ] {
        place.answers.insert(line.to_owned(), answer);
    }
    let hangs = json!({"command": "hangs", "timeout_s": 7, "cwd": "sub"});
    let mut script: Vec<Step> =
        ["fails", "dies", "talks", "breaks"].map(|line| Step::Shell(line.to_owned())).into();
    script.push(Step::tool("shell", hangs));
    script.push(Step::tool("shell", json!({"command": "long", "timeout_s": 100_000})));
    script.push(Step::say("ok"));
    let run = Run::new(APIS[0], &script, &[], &place);
    let told = run.told();
    assert_eq!(told[0], "exit status 3\nno\u{fffd} \\u{1b}[31mred\\u{1b}[0m\nend");
    assert_eq!(told[1], "ended by signal 9\n");
    assert!(told[2].starts_with("exit status 0 (it printed more than is kept)\nfirst line\nxx"));
    assert!(told[2].ends_with("xx\nlast line") && told[2].contains(" bytes left out ...]"));
    assert!(told[2].len() < 41_000);
    assert_eq!(told[3], "error: no such folder");
    assert_eq!(told[4], "ended after 7 s, the time limit\n");
    let ran = place.ran.lock().unwrap();
    assert_eq!(ran[4].timeout, Some(Duration::from_secs(7)));
    assert_eq!(ran[4].folder.as_deref(), Some(std::path::Path::new("sub")));
    assert_eq!(ran[5].timeout, Some(task().command_timeout), "never more than the task's");
}

#[test]
fn a_file_is_shown_in_parts_that_say_what_they_are() {
    let long = (1..=9_000).map(|line| format!("line {line}\n")).collect::<Vec<_>>().concat();
    let place = Memory::with(&[("long", &long), ("empty", ""), ("short", "a\nb")]);
    place.files.lock().unwrap().insert("binary".into(), b"\x7fELF\0".to_vec());
    let read = |arguments| Step::tool("read", arguments);
    let script = [
        read(json!({"path": "long"})),
        read(json!({"path": "long", "offset": 8_999})),
        read(json!({"path": "long", "offset": 3, "limit": 2})),
        read(json!({"path": "long", "offset": 9_001})),
        read(json!({"path": "empty"})),
        read(json!({"path": "short"})),
        read(json!({"path": "binary"})),
        Step::say("ok"),
    ];
    let run = Run::new(APIS[1], &script, &[], &place);
    let told = run.told();
    assert!(told[0].starts_with("line 1\nline 2\n") && told[0].ends_with(" of 9000]"));
    assert!(!told[0].contains("left out"), "it is cut between lines");
    assert_eq!(told[1], "line 8999\nline 9000\n[lines 8999 to 9000 of 9000]");
    assert_eq!(told[2], "line 3\nline 4\n[lines 3 to 4 of 9000]");
    assert_eq!(told[3], "error: `long` has 9000 lines");
    assert_eq!(told[4], "[the file is empty]");
    assert_eq!(told[5], "a\nb");
    assert_eq!(told[6], "error: `binary` is not text (5 bytes)");
}

#[test]
fn a_patch_that_does_not_fit_changes_nothing_and_says_what_is_there() {
    let text = "a\nb\nc\nb\nc\n";
    let update = |file: &str, hunk: &str| {
        let patch = format!("*** Begin Patch\n*** Update File: {file}\n{hunk}\n*** End Patch");
        Step::tool("edit", json!({"patch": patch}))
    };
    let two = "*** Begin Patch\n*** Add File: new\n+x\n*** Update File: f\n@@\n-q\n*** End Patch";
    let script = [
        update("f", "@@\n a\n-x\n+y"),
        update("f", "@@\n b\n-c\n+d"),
        update("missing", "@@\n-x"),
        update("f", "@@ z\n-b"),
        update("f", "@@\n-  b\n+y"),
        Step::tool("edit", json!({"patch": two})),
        Step::tool("edit", json!({"patch": "*** Begin Patch\n*** Add File: f\n+x\n*** End Patch"})),
        Step::say("ok"),
    ];
    let place = Memory::with(&[("f", text)]);
    let run = Run::new(APIS[2], &script, &[], &place);
    let nothing = "nothing of the patch was applied";
    assert_eq!(
        run.told(),
        [
            format!(
                "error: f: hunk 1: its first lines stand at line 1, but then line 2 is \"b\", and \
                 \"x\" was expected; {nothing}"
            ),
            format!(
                "error: f: hunk 1: its lines stand more than once (at 2, 4): give more lines \
                 around it, or name a line above it with `@@ LINE`; {nothing}"
            ),
            "error: there is no `missing`".to_owned(),
            format!("error: f: hunk 1: there is no line `z`; {nothing}"),
            format!(
                "error: f: hunk 1: line 2 is \"b\", and \"  b\" was expected: it differs in \
                 spaces; {nothing}"
            ),
            format!("error: f: hunk 1: there is no line \"q\" in the file; {nothing}"),
            "error: `f` is there already; use `*** Update File`".to_owned(),
        ]
    );
    assert_eq!(place.text("f").unwrap(), text);
    assert_eq!(place.text("new"), None, "all of a patch fits or nothing is written");
}

#[test]
fn a_patch_adds_deletes_renames_and_says_what_was_done_before_a_refusal() {
    let patch = "*** Begin Patch\n*** Update File: a\n*** Move to: b\n@@\n-one\n+two\n\
                 *** Delete File: c\n*** Add File: d\n+new\n*** Update File: d\n@@\n-new\n+newer\n\
                 *** End Patch";
    let script = [Step::tool("edit", json!({"patch": patch})), Step::say("ok")];
    let files = [("a", "one\n"), ("c", "x")];
    let place = Memory::with(&files);
    let run = Run::new(APIS[0], &script, &[], &place);
    assert_eq!(run.told(), ["wrote `b`\nwrote `d`\ndeleted `a`\ndeleted `c`"]);
    assert_eq!(place.text("b").as_deref(), Some("two\n"));
    assert_eq!(place.text("d").as_deref(), Some("newer\n"));
    assert_eq!((place.text("a"), place.text("c")), (None, None));

    let mut place = Memory::with(&files);
    place.refused.insert("d".into(), "refused: d".to_owned());
    let patch =
        "*** Begin Patch\n*** Update File: a\n@@\n-one\n+two\n*** Delete File: c\n*** End Patch";
    place.refused.insert("c".into(), "refused: c".to_owned());
    let script = [Step::tool("edit", json!({"patch": patch})), Step::say("ok")];
    let run = Run::new(APIS[0], &script, &[], &place);
    assert_eq!(run.told(), ["refused: c"]);
    assert_eq!(place.text("a").as_deref(), Some("one\n"), "refused before anything was written");
}

#[test]
fn a_place_that_is_lost_ends_the_task() {
    let mut place = Memory::default();
    let lost = Err(HandsError::Lost("the machine is gone".to_owned()));
    place.answers.insert("x".to_owned(), lost);
    let script = [Step::Shell("x".to_owned()), Step::say("never")];
    for api in APIS {
        let run = Run::new(api, &script, &[], &place);
        assert_eq!(run.failed(), "the place is lost: the machine is gone");
        assert_eq!(run.requests.len(), 1);
    }
}
