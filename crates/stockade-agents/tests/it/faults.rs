//! Everything that can be wrong with a model server, over each API.

use std::time::{Duration, Instant};

use serde_json::json;
use stockade_agents::{AgentError, AgentEvent, Api, Builtin, Model, Secret, Stop, Task};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::memory::{APIS, Memory, Run, model, patience, said, task};

/// Two commands, so that one that runs twice is seen.
fn script() -> Vec<Step> {
    vec![Step::Shell("one".to_owned()), Step::Shell("two".to_owned()), Step::say("Done.")]
}

fn body(kind: &str, body: &str) -> Fault {
    Fault::Body { kind: kind.to_owned(), body: body.to_owned() }
}

fn stream(events: &str) -> Fault {
    body("text/event-stream", events)
}

fn status(code: u16, head: &str) -> Fault {
    let body = r#"{"error": {"message": "as the script says"}}"#.to_owned();
    Fault::Status { code, head: head.to_owned(), body }
}

/// What passes when it is borne with.
fn passing() -> Vec<Fault> {
    vec![
        Fault::HangUp,
        Fault::Silent,
        Fault::Stall,
        Fault::Cut { is_proper: false },
        Fault::Cut { is_proper: true },
        status(429, ""),
        status(429, "Retry-After: 0\r\n"),
        status(429, "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n"),
        status(500, ""),
        status(503, ""),
        status(529, ""),
        Fault::Status { code: 502, head: String::new(), body: "<html>\u{1b}[2J".repeat(9_000) },
        stream(""),
        stream("data: nonsense\n\n"),
        stream("event: message_start\ndata: {\"type\": \"mess\n\n"),
        body("text/html", "<html>Log in to the Wi-Fi</html>"),
        body(
            "application/json",
            "{\"error\": {\"type\": \"overloaded_error\", \"message\": \"busy\"}}",
        ),
        stream(
            "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"busy\"}}\n\n",
        ),
    ]
}

#[test]
fn a_fault_that_passes_is_borne_and_no_call_runs_twice() {
    for api in APIS {
        for fault in passing() {
            let name = format!("{api:?} {fault:?}").chars().take(120).collect::<String>();
            for before in [0, 2] {
                let mut faults = vec![Fault::None; before];
                faults.push(fault.clone());
                let place = Memory::default();
                let run = Run::new(api, &script(), &faults, &place);
                assert_eq!(run.finished(), "Done.", "{name}");
                assert_eq!(place.lines_run(), ["one", "two"], "{name}");
                assert_eq!((run.retries(), run.requests.len()), (1, 4), "{name}");
            }
        }
    }
}

#[test]
fn a_fault_that_stays_is_told_after_the_last_try() {
    let told = [
        (Fault::HangUp, "cannot reach the model at `http://127.0.0.1:"),
        (Fault::Silent, "the model server was silent for 700 ms"),
        (Fault::Stall, "the model server was silent for 700 ms"),
        (Fault::Cut { is_proper: true }, "the answer was cut off"),
        (status(500, ""), "the model server answered 500: as the script says"),
        (status(429, ""), "the model server answered 429: as the script says"),
        (stream(""), "the answer was cut off"),
        (stream("data: nonsense\n\n"), "the answer makes no sense: an event is not JSON"),
        (body("text/html", ""), "the answer makes no sense: `text/html` instead of a stream"),
    ];
    for api in APIS {
        for (fault, expected) in &told {
            let place = Memory::default();
            let run = Run::new(api, &script(), &vec![fault.clone(); 9], &place);
            let text = run.failed();
            assert!(text.starts_with(expected), "{api:?}: {text}");
            assert_eq!((run.requests.len(), run.retries()), (3, 2), "{api:?}: {text}");
            assert!(place.lines_run().is_empty());
        }
    }
}

#[test]
fn what_another_try_cannot_help_is_told_at_once() {
    let quota = r#"{"error": {"code": "insufficient_quota", "message": "pay first"}}"#;
    let quota = Fault::Status { code: 429, head: String::new(), body: quota.to_owned() };
    let key =
        Fault::Status { code: 401, head: String::new(), body: "bad sk-very-secret".to_owned() };
    let told = [
        (key, "the model server answered 401: bad *** / hint: look at `[model] key`"),
        (
            status(403, ""),
            "the model server answered 403: as the script says / hint: look at `[model] key`",
        ),
        (
            status(404, ""),
            "the model server answered 404: as the script says / hint: look at `[model] base_url`",
        ),
        (status(400, ""), "the model server answered 400: as the script says"),
        (
            status(302, "Location: http://evil.example/\r\n"),
            "the model server answered 302: see http://evil.example/ / hint: a redirect",
        ),
        (quota, "the model server answered 429: pay first"),
        (
            status(429, "Retry-After: 3600\r\n"),
            "the model server answered 429: as the script says / hint: it asks to wait 3600 s",
        ),
        (Fault::Comments, "the model server did not end its answer within 1500 ms"),
        (Fault::Flood, "the answer is longer than 8388608 bytes"),
    ];
    for api in APIS {
        for (fault, expected) in &told {
            let run = Run::new(api, &script(), &vec![fault.clone(); 9], &Memory::default());
            let text = run.failed();
            assert!(text.starts_with(expected), "{api:?}: {text}");
            assert_eq!((run.requests.len(), run.retries()), (1, 0), "{api:?}: {text}");
        }
    }
}

#[test]
fn a_model_that_does_not_reason_is_asked_without_that() {
    let body = r#"{"error": {"message": "Encrypted content is not supported with this model."}}"#;
    let refusal = Fault::Status { code: 400, head: String::new(), body: body.to_owned() };
    let run =
        Run::new(Api::Responses, &script(), std::slice::from_ref(&refusal), &Memory::default());
    assert_eq!(run.finished(), "Done.");
    let asked: Vec<_> = run.requests.iter().map(|request| request["include"].clone()).collect();
    let reasoning = json!(["reasoning.encrypted_content"]);
    assert_eq!(asked, [reasoning, json!([]), json!([]), json!([])]);
    let run = Run::new(Api::Responses, &script(), &vec![refusal; 9], &Memory::default());
    assert!(run.failed().contains("answered 400: Encrypted content"), "{}", run.failed());
    assert_eq!(run.requests.len(), 2);
}

#[test]
fn a_limit_of_tokens_that_cannot_be_counted_is_said() {
    let answers = [
        "data: {\"choices\": [{\"delta\": {\"content\": \"x\"}, \"finish_reason\": \"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    ];
    let answer = [stream(&answers.concat())];
    let place = Memory::default();
    let limited = Task { max_tokens: Some(5), ..task() };
    let run = Run::of_task(Api::Chat, &script(), &answer, (&limited, &place));
    assert!(run.failed().starts_with("the model server does not say how many tokens"));
    let run = Run::of_task(Api::Chat, &script(), &answer, (&task(), &place));
    assert_eq!(run.finished(), "x");
}

#[test]
fn what_the_server_asks_to_wait_is_waited() {
    for api in APIS {
        for head in ["Retry-After: 0.3\r\n", "retry-after-ms: 300\r\nRetry-After: 60\r\n"] {
            let start = Instant::now();
            let run = Run::new(api, &script(), &[status(429, head)], &Memory::default());
            assert_eq!(run.finished(), "Done.");
            let after = Duration::from_millis(300);
            let why = "the model server answered 429: as the script says".to_owned();
            assert!(run.events.contains(&AgentEvent::Retrying { why, after }), "{:?}", run.events);
            assert!(start.elapsed() >= after);
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // A port that was just free.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for api in APIS {
        let agent = Builtin::with_patience(model(api, port), patience(&[])).unwrap();
        let mut retries = 0;
        let mut count =
            |event| retries += usize::from(matches!(event, AgentEvent::Retrying { .. }));
        let error = agent.run(&task(), &Memory::default(), &mut count, &Stop::default());
        let text = said(&error.unwrap_err());
        assert!(
            text.contains(&format!("cannot reach the model at `http://127.0.0.1:{port}/")),
            "{text}"
        );
        assert!(text.contains("/ Connection refused"), "{text}");
        assert!(
            text.ends_with("hint: look at `[model] base_url`, and whether the server runs"),
            "{text}"
        );
        assert_eq!(retries, 2);
    }
}

/// JSON, but not the API's.
#[test]
fn odd_events_neither_crash_nor_hang() {
    let odd = [
        json!(null),
        json!([1, 2]),
        json!({"choices": 5}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 4_000_000_000_u64, "id": "c", "function": {"name": 7, "arguments": []}}]}}]}),
        json!({"choices": [{"delta": {"content": ["x"]}, "finish_reason": 9}], "usage": {"prompt_tokens": -4}}),
        json!({"type": "content_block_delta", "index": 1e300, "delta": {"text": "x"}}),
        json!({"type": "content_block_start", "index": u64::MAX, "content_block": {"type": "tool_use"}}),
        json!({"type": "message_stop"}),
        json!({"type": "message_start", "message": {"usage": {"input_tokens": u64::MAX, "cache_read_input_tokens": u64::MAX}}}),
        json!({"type": "response.output_item.done", "output_index": -1, "item": 5}),
        json!({"type": "response.completed", "response": {"output": {"a": 1}}}),
        json!({"type": "response.failed"}),
        json!({"type": "error"}),
    ];
    let events = odd.each_ref().map(|event| format!("data: {event}\n\n")).concat();
    let one_each = odd.iter().map(|event| stream(&format!("data: {event}\n\n")));
    let deep = format!("data: {}\n\n", "[".repeat(200_000));
    let faults: Vec<Fault> = one_each.chain([stream(&events), stream(&deep)]).collect();
    for api in APIS {
        for fault in &faults {
            let run = Run::new(api, &script(), std::slice::from_ref(fault), &Memory::default());
            // Some of it is an answer in one API or another; most of it is a fault that passes.
            assert!(matches!(&run.result, Ok(_) | Err(AgentError::Model(_))), "{}", run.failed());
        }
    }
}

#[test]
fn a_call_in_many_thousand_pieces_is_one_call() {
    let piece = |arguments: &str| {
        let call = json!({"index": 0, "function": {"name": "shell", "arguments": arguments}});
        format!("data: {}\n\n", json!({"choices": [{"delta": {"tool_calls": [call]}}]}))
    };
    let pieces = piece("0123456789").repeat(10_000);
    let events = [piece("{\"command\": \""), pieces, piece("\"}"), "data: [DONE]\n\n".to_owned()];
    let place = Memory::default();
    let run = Run::new(Api::Chat, &script(), &[stream(&events.concat())], &place);
    assert_eq!(run.finished(), "Done.");
    assert_eq!(place.lines_run()[0].len(), 100_000);
}

#[test]
fn an_answer_with_neither_text_nor_call_is_no_end() {
    for api in APIS {
        let run = Run::new(api, &[Step::Tools(Vec::new())], &[], &Memory::default());
        assert!(run.failed().contains("it holds neither text nor a call"), "{}", run.failed());
        // The same twice, then in words, twice.
        assert_eq!(run.requests.len(), 4);
        let told = |at: usize| run.requests[at].to_string().contains("Your answer was empty");
        assert_eq!([0, 1, 2, 3].map(told), [false, false, true, true]);
    }
}

#[test]
fn after_an_empty_answer_or_two_the_task_goes_on() {
    let empty = [
        r#"data: {"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}"#,
        r#"data: {"choices":[{"delta":{"role":"assistant","content":null},"finish_reason":"stop"}]}"#,
    ];
    let faults = empty.map(|event| stream(&format!("{event}\n\ndata: [DONE]\n\n")));
    let place = Memory::default();
    let run = Run::new(Api::Chat, &script(), &faults, &place);
    assert_eq!(run.finished(), "Done.");
    assert_eq!(place.lines_run(), ["one", "two"]);
    // An empty message of the model's would be refused by some servers.
    for request in &run.requests {
        for message in request["messages"].as_array().unwrap() {
            let is_empty = message["content"] == "" && message["tool_calls"].is_null();
            assert!(!is_empty, "{request}");
        }
    }
}

/// An answer that ends at the limit of its length before anything is said, over each API.
fn spent() -> [(Api, Fault); 3] {
    let start =
        r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":0}}}"#;
    let thought = r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"hm"}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":9}}"#;
    let messages = [start, thought, end, r#"{"type":"message_stop"}"#]
        .map(|event| format!("data: {event}\n\n"))
        .concat();
    let incomplete = r#"data: {"type":"response.incomplete","response":{"output":[]}}"#;
    let length = r#"data: {"choices":[{"delta":{},"finish_reason":"length"}]}"#;
    [
        (Api::Messages, stream(&messages)),
        (Api::Responses, stream(&format!("{incomplete}\n\n"))),
        (Api::Chat, stream(&format!("{length}\n\ndata: [DONE]\n\n"))),
    ]
}

#[test]
fn an_answer_that_is_all_thoughts_is_gone_on_with_and_not_sent_back_empty() {
    for (api, fault) in spent() {
        let fault_once = std::slice::from_ref(&fault);
        let run = Run::new(api, &script(), fault_once, &Memory::default());
        assert_eq!(run.finished(), "Done.", "{api:?}");
        let second = run.requests[1].to_string();
        assert!(second.contains("reached the limit of its length"), "{api:?}: {second}");
        assert!(!second.contains(r#""content":[],"role":"assistant""#), "{api:?}: {second}");
        assert!(!second.contains(r#""content":"","role":"assistant""#), "{api:?}: {second}");
        let run = Run::new(api, &script(), &vec![fault; 9], &Memory::default());
        assert!(run.failed().contains("before they say anything"), "{}", run.failed());
        assert_eq!(run.requests.len(), 3, "{api:?}: not until the limit of turns");
    }
}

#[test]
fn a_call_that_the_limit_of_length_has_cut_is_not_done_and_told_as_that() {
    let call = |end: &str| {
        let arguments = r#"{\"path\":\"a.txt\",\"content\":\"half"#;
        let call = format!(
            r#"{{"index":0,"id":"c1","function":{{"name":"write","arguments":"{arguments}"}}}}"#
        );
        stream(&format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{call}]}},\"finish_reason\":\"{end}\"}}]}}\n\ndata: [DONE]\n\n"
        ))
    };
    for (end, words) in [("length", "reached the limit of its length"), ("stop", "do not fit")] {
        let place = Memory::default();
        let run = Run::new(Api::Chat, &[Step::say("Done.")], &[call(end)], &place);
        let told = &run.requests[1].to_string();
        assert!(told.contains(words), "{end}: {told}");
        assert!(place.text("a.txt").is_none());
    }
}

#[test]
fn odd_ends_and_errors_of_streams_are_understood() {
    let piece = r#"data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"Do"}]}}]}"#;
    let rest = r#"data: {"choices":[{"delta":{"content":"ne."},"finish_reason":"stop"}]}"#;
    for (end, tries) in [("", 1), ("\n", 1), ("\n\n", 1), ("\n\ndata: [DONE]", 1)] {
        let whole = stream(&format!("\u{feff}: hello\n\n{piece}\n\n: keep-alive\n\n{rest}{end}"));
        let run = Run::new(Api::Chat, &[Step::say("Other.")], &[whole], &Memory::default());
        assert_eq!((run.finished(), run.requests.len()), ("Done.", tries), "{end:?}");
    }
    // One that was cut within its last event is asked for again.
    let cut = stream(&format!("{piece}\n\n{}", rest.strip_suffix("}]}").unwrap()));
    let completed = r#"data: {"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"Done."}]}]}}"#;
    for (api, fault, tries) in [(Api::Chat, cut, 2), (Api::Responses, stream(completed), 1)] {
        let run = Run::new(api, &[Step::say("Done.")], &[fault], &Memory::default());
        assert_eq!((run.finished(), run.requests.len()), ("Done.", tries), "{api:?}");
    }
    let errors = [
        "event: error\ndata: {\"message\":\"out of memory\",\"code\":\"server_error\"}\n\n",
        "data: {\"object\":\"error\",\"message\":\"out of memory\"}\n\n",
    ];
    for error in errors {
        let fault = stream(&format!("{piece}\n\n{error}"));
        let run = Run::new(Api::Chat, &script(), &vec![fault; 9], &Memory::default());
        assert!(run.failed().contains("out of memory"), "{}", run.failed());
    }
}

#[test]
fn where_the_key_may_go_and_what_it_may_be_is_looked_at_first() {
    let refused = |base_url: &str, key: Option<&str>| {
        let key = key.map(Secret::new);
        let model = Model { base_url: base_url.to_owned(), key, ..model(APIS[0], 1) };
        said(&Builtin::new(model).unwrap_err())
    };
    let text = refused("http://example.org/v1", None);
    assert!(text.starts_with("`http://example.org/v1` cannot be used"), "{text}");
    assert!(text.contains("plain `http` to another machine") && text.contains("hint: use `https`"));
    for key in ["", "two\nlines", "näh", "a b"] {
        assert!(
            refused("https://example.org", Some(key)).contains("the key is not one line"),
            "{key}"
        );
    }
    assert_eq!(format!("{:?}", Secret::new("sk-1")), "***");
    let shown = format!("{:?}", model(APIS[0], 1));
    assert!(!shown.contains("sk-very-secret"), "{shown}");
}

#[test]
fn a_version_that_stands_in_the_endpoint_already_is_told() {
    for (end, expected) in [("/v1", "leave the `/v1` at its end out"), ("", "look at `[model]")] {
        let server = FakeModel::start_faulty(script(), vec![status(404, "")]).unwrap();
        let known = model(Api::Messages, server.port());
        let known = Model { base_url: format!("{}{end}", known.base_url), ..known };
        let agent = Builtin::with_patience(known, patience(&[])).unwrap();
        let hands = Memory::default();
        let failed = agent.run(&task(), &hands, &mut |_| {}, &Stop::default()).unwrap_err();
        let text = said(&failed);
        assert!(
            text.starts_with("the model server answered 404") && text.contains(expected),
            "{text}"
        );
    }
}
