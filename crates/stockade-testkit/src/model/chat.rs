//! The Chat Completions API, as Stockade's own agent speaks it.

use serde_json::{Value, json};

use super::script::{Step, Turn, halves};

/// The answer to one request.
pub(super) fn turn(body: &Value, script: &[Step]) -> Turn {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results = messages.iter().filter(|message| message["role"] == "tool").count();
    Turn::of(script, results, body)
}

/// The events of an answer. They have no names.
pub(super) fn events(body: &Value, turn: &Turn) -> String {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    if body["stream"] != true {
        // A side question: the message of a commit.
        let message = json!({"role": "assistant", "content": turn.text});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        return json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                      "model": body["model"], "choices": [choice], "usage": usage})
        .to_string();
    }
    let send = |event: Value| {
        let mut event = event;
        event["id"] = "chatcmpl-1".into();
        event["object"] = "chat.completion.chunk".into();
        event["model"] = body["model"].clone();
        format!("data: {event}\n\n")
    };
    let choice = |delta: Value, reason: Value| {
        send(json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
    };
    let mut events = vec![choice(json!({"role": "assistant", "content": ""}), Value::Null)];
    if let Some(text) = &turn.text {
        events.extend(halves(text).map(|half| choice(json!({"content": half}), Value::Null)));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let id = format!("call_{}", call.number);
        let start = json!({"index": index, "id": id, "type": "function", "function": function});
        events.push(choice(json!({"tool_calls": [start]}), Value::Null));
        events.extend(halves(&call.arguments).map(|half| {
            let piece = json!({"index": index, "function": {"arguments": half}});
            choice(json!({"tool_calls": [piece]}), Value::Null)
        }));
    }
    let reason = match (turn.is_short, turn.calls.is_empty()) {
        (true, _) => "length",
        (false, true) => "stop",
        (false, false) => "tool_calls",
    };
    events.push(choice(json!({}), reason.into()));
    events.push(send(json!({"choices": [], "usage": usage})));
    events.push("data: [DONE]\n\n".to_owned());
    events.concat()
}
