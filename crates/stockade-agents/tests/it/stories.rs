//! Tasks that come to their end.

use serde_json::json;
use stockade_agents::{AgentEvent, Api};
use stockade_testkit::model::{Fault, Step};

use crate::memory::{APIS, Memory, Run, task};

const PATCH: &str = "*** Begin Patch\n*** Update File: src/clock.py\n@@\n def now():\n\
                     -    return local()\n+    return utc()\n*** End Patch\n";

/// Looks, repairs, tests; the second step is two calls at once.
fn script() -> Vec<Step> {
    vec![
        Step::tool("list", json!({"path": "."})),
        Step::Tools(vec![
            ("search".to_owned(), json!({"pattern": "local"})),
            ("read".to_owned(), json!({"path": "src/clock.py"})),
        ]),
        Step::tool("edit", json!({"patch": PATCH})),
        Step::tool("write", json!({"path": "notes/größe.md", "content": "ä€😀\n"})),
        Step::Shell("pytest -q".to_owned()),
        Step::say("Done: größe, € and 😀."),
    ]
}

fn place() -> Memory {
    Memory::with(&[("src/clock.py", "def now():\n    return local()\n")])
}

fn check(run: &Run, place: &Memory, name: &str) {
    assert_eq!(run.finished(), "Done: größe, € and 😀.", "{name}");
    assert_eq!(place.text("src/clock.py").unwrap(), "def now():\n    return utc()\n", "{name}");
    assert_eq!(place.text("notes/größe.md").unwrap(), "ä€😀\n", "{name}");
    assert_eq!(place.lines_run(), ["pytest -q"], "{name}");
}

#[test]
fn a_task_with_every_tool_comes_to_its_end_over_each_api() {
    for api in APIS {
        let place = place();
        let run = Run::new(api, &script(), &[], &place);
        let name = format!("{api:?}");
        check(&run, &place, &name);
        assert_eq!(
            run.told(),
            [
                "src/clock.py  30 bytes\n",
                "src/clock.py:2:     return local()\n",
                "def now():\n    return local()\n",
                "wrote `src/clock.py`",
                "wrote `notes/größe.md`: 10 bytes",
                "exit status 0\nran pytest -q",
            ],
            "{name}"
        );
        let mut text = String::new();
        for event in &run.events {
            if let AgentEvent::TextDelta(delta) = event {
                text.push_str(delta);
            }
        }
        assert_eq!(text, run.finished(), "{name}");
        let count =
            |wanted: &AgentEvent| run.events.iter().filter(|event| *event == wanted).count();
        assert_eq!(count(&AgentEvent::Message { text }), 1, "{name}");
        assert_eq!(count(&AgentEvent::Usage { input_tokens: 1, output_tokens: 1 }), 6, "{name}");
        assert_eq!(count(&AgentEvent::Output(b"pytest -q".to_vec())), 1, "{name}");
        assert_eq!(run.retries(), 0, "{name}");
    }
}

#[test]
fn where_the_pieces_of_a_stream_end_makes_no_difference() {
    for api in APIS {
        for line_end in ["\n", "\r\n", "\r"] {
            for bytes in [1, 7] {
                let place = place();
                let faults = vec![Fault::Pieces { bytes, line_end }; 6];
                let run = Run::new(api, &script(), &faults, &place);
                check(&run, &place, &format!("{api:?} {line_end:?} {bytes}"));
                assert_eq!(run.retries(), 0);
            }
        }
    }
}

#[test]
fn the_model_is_told_where_it_is_and_sees_its_own_calls_again() {
    for api in APIS {
        let run = Run::new(api, &script(), &[], &place());
        for request in &run.requests {
            let text = request.to_string();
            assert!(
                text.contains("do not work around it") || text.contains("Do not work around it")
            );
            assert!(text.contains("The workspace is /work.") && text.contains("Do it."), "{text}");
            assert!(!text.contains("sk-very-secret"));
            assert_eq!((&request["model"], &request["stream"]), (&json!("fake-1"), &json!(true)));
        }
        let last = run.requests.last().unwrap().to_string();
        for id in 0..6 {
            let id = match api {
                Api::Messages => format!("\"toolu_{id}\""),
                Api::Responses | Api::Chat => format!("\"call_{id}\""),
            };
            assert_eq!(last.matches(&id).count(), 2, "{api:?}: {id} in {last}");
        }
    }
}

#[test]
fn an_answer_that_ends_at_its_limit_is_gone_on_with() {
    for api in APIS {
        let place = Memory::default();
        let run = Run::new(api, &[Step::say("half")], &[Fault::Short], &place);
        assert_eq!(run.finished(), "half");
        let last = run.requests.last().unwrap().to_string();
        assert!(last.contains("reached the limit of its length"), "{api:?} {last}");
        assert_eq!(run.requests.len(), 2);
    }
}

#[test]
fn turns_and_tokens_are_bounded() {
    let place = Memory::default();
    let script = vec![Step::Shell("true".to_owned()); 50];
    for api in APIS {
        let mut task = task();
        task.max_turns = 3;
        let run = Run::of_task(api, &script, &[], (&task, &place));
        assert!(run.failed().starts_with("not finished after 3 turns / hint: `[agent] max_turns`"));
        assert_eq!(run.requests.len(), 3);
        task.max_turns = 20;
        task.max_tokens = Some(5);
        let run = Run::of_task(api, &script, &[], (&task, &place));
        assert!(run.failed().starts_with("not finished within 5 tokens (6 used)"));
    }
}
