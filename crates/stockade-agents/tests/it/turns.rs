//! Conversations of several turns, and such that grow too long.

use serde_json::json;
use stockade_agents::{
    AgentError, AgentEvent, Api, Builtin, Conversation, Exit, Finished, ShellOutcome, Stop, Task,
};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::memory::{APIS, Memory, Run, model, patience, task};

fn go_on(
    (api, server): (Api, &FakeModel),
    conversation: &mut Conversation,
    prompt: &str,
    (hands, stop): (&Memory, &Stop),
) -> Result<Finished, AgentError> {
    let agent = Builtin::with_patience(model(api, server.port()), patience(&[])).unwrap();
    let task = Task { prompt: prompt.to_owned(), ..task() };
    agent.go_on((conversation, &task), hands, &mut |_| {}, stop)
}

#[test]
fn a_follow_up_knows_what_was_before() {
    for api in APIS {
        let script = [
            Step::Shell("one".to_owned()),
            Step::say("First part."),
            Step::Shell("two".to_owned()),
            Step::say("Second part."),
        ];
        let server = FakeModel::start(script.to_vec()).unwrap();
        let (hands, stop) = (Memory::default(), Stop::default());
        let mut talk = Conversation::new();
        let first = go_on((api, &server), &mut talk, "Do one.", (&hands, &stop)).unwrap();
        let second = go_on((api, &server), &mut talk, "Now two.", (&hands, &stop)).unwrap();
        assert_eq!((first.text.as_str(), second.text.as_str()), ("First part.", "Second part."));
        assert_eq!(hands.lines_run(), ["one", "two"], "{api:?}");
        let last = server.requests().last().unwrap().to_string();
        for words in ["Do one.", "ran one", "First part.", "Now two."] {
            assert!(last.contains(words), "{api:?}: {words} in {last}");
        }
    }
}

/// The call that was interrupted has an answer: without one a server refuses the follow-up.
#[test]
fn after_an_interruption_the_conversation_goes_on() {
    for api in APIS {
        let calls = ["one", "two"].map(|line| ("shell".to_owned(), json!({"command": line})));
        let script = [Step::Tools(calls.to_vec()), Step::say("Then so be it.")];
        let server = FakeModel::start(script.to_vec()).unwrap();
        let mut hands = Memory::default();
        hands.answers.insert("one".to_owned(), Err(stockade_agents::HandsError::Interrupted));
        let (stop, mut talk) = (Stop::default(), Conversation::new());
        stop.request();
        let stopped = go_on((api, &server), &mut talk, "Do it.", (&hands, &stop));
        assert!(matches!(stopped, Err(AgentError::Interrupted)));
        assert!(server.requests().is_empty(), "a wish from before asks nobody");
        stop.withdraw();
        let stopped = go_on((api, &server), &mut talk, "Do it now.", (&hands, &stop));
        assert!(matches!(stopped, Err(AgentError::Interrupted)), "{stopped:?}");
        let finished = go_on((api, &server), &mut talk, "Leave it.", (&hands, &stop)).unwrap();
        assert_eq!(finished.text, "Then so be it.", "{api:?}");
        assert_eq!(hands.lines_run(), ["one"], "{api:?}");
        let last = server.requests().last().unwrap().to_string();
        assert_eq!(last.matches("interrupted: whether").count(), 2, "{api:?}: {last}");
    }
}

fn long_outputs() -> (Memory, Vec<Step>) {
    let mut hands = Memory::default();
    let mut script = Vec::new();
    for number in 0..12 {
        let line = format!("step {number}");
        let output = format!("{number}:{}", "x".repeat(9_000)).into_bytes();
        let outcome = ShellOutcome { exit: Exit::Status(0), output, is_truncated: false };
        hands.answers.insert(line.clone(), Ok(outcome));
        script.push(Step::Shell(line));
    }
    script.push(Step::say("Done."));
    (hands, script)
}

#[test]
fn a_conversation_stays_within_the_window_and_keeps_what_is_new() {
    for api in APIS {
        let (hands, script) = long_outputs();
        let task = Task { context_tokens: 20_000, ..task() };
        let run = Run::of_task(api, &script, &[], (&task, &hands));
        assert_eq!(run.finished(), "Done.", "{api:?}");
        assert_eq!(hands.lines_run().len(), 12, "{api:?}: nothing was done twice");
        let longest = run.requests.iter().map(|request| request.to_string().len()).max();
        assert!(longest.unwrap() < 95_000, "{api:?}: {longest:?}");
        let told = run.told();
        assert!(told[0].contains("of this earlier output left out"), "{api:?}: {}", told[0]);
        assert!(told[11].len() > 9_000, "{api:?}");
        assert!(run.events.iter().any(|event| matches!(event, AgentEvent::Shortened { .. })));
    }
}

/// The control: with a window that is big enough, everything is there.
#[test]
fn what_fits_is_not_left_out() {
    let (hands, script) = long_outputs();
    let run = Run::new(APIS[0], &script, &[], &hands);
    assert_eq!(run.finished(), "Done.");
    assert!(run.told().iter().all(|told| told.len() > 9_000));
}

#[test]
fn a_server_that_would_not_have_it_gets_less() {
    let error = r#"{"error": {"type": "invalid_request_error", "code": "context_length_exceeded",
        "message": "This model's maximum context length is 8192 tokens"}}"#;
    let overflow = Fault::Status { code: 400, head: String::new(), body: error.to_owned() };
    for api in APIS {
        let (hands, script) = long_outputs();
        let mut faults = vec![Fault::None; 8];
        faults.push(overflow.clone());
        let run = Run::new(api, &script, &faults, &hands);
        assert_eq!(run.finished(), "Done.", "{api:?}");
        assert_eq!(hands.lines_run().len(), 12, "{api:?}");
        let told = run.told();
        assert!(told[0].contains("left out to save space"), "{api:?}: {}", told[0]);
        // What is too long by itself is told, not tried for ever.
        let run = Run::new(api, &script, &vec![overflow.clone(); 30], &Memory::default());
        assert!(run.failed().contains("maximum context length"), "{}", run.failed());
        assert!(run.requests.len() < 4);
    }
}

/// What an answer may take is asked for beside the question, and both have to have room.
#[test]
fn a_small_window_leaves_room_for_the_answer() {
    for (context_tokens, most) in [(1_000_000, 32_000), (20_000, 4_000)] {
        let task = Task { context_tokens, ..task() };
        let (hands, script) = (Memory::default(), [Step::say("Done.")]);
        let run = Run::of_task(Api::Messages, &script, &[], (&task, &hands));
        assert_eq!(run.requests[0]["max_tokens"], json!(most));
    }
}
