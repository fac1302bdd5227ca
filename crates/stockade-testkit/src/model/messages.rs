//! The Messages API, as Claude Code and Stockade's own agent speak it.

use serde_json::{Value, json};

use super::event;
use super::script::{Step, Turn, halves, is_builtin, is_offered};

/// The answer to one request.
pub(super) fn turn(body: &Value, script: &[Step]) -> Turn {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results = messages
        .iter()
        .filter_map(|message| message["content"].as_array())
        .flatten()
        .filter(|block| block["type"] == "tool_result")
        .count();
    let tools = &body["tools"];
    if is_offered(tools, "Bash") || is_builtin(tools) {
        Turn::of(script, results, body)
    } else {
        // A side question: a title, a summary, a check of the quota.
        Turn::say("ok")
    }
}

/// The events of an answer, or all of it in one piece.
pub(super) fn events(body: &Value, turn: &Turn) -> String {
    let number = turn.calls.first().map_or(0, |call| call.number);
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let mut message = json!({"id": format!("msg_{number}"), "type": "message", "role": "assistant",
                             "model": body["model"], "content": [], "stop_reason": null,
                             "stop_sequence": null, "usage": usage});
    if body["stream"] != true {
        // Side questions come unstreamed.
        message["content"] = json!([{"type": "text", "text": "ok"}]);
        message["stop_reason"] = "end_turn".into();
        return message.to_string();
    }
    let send = |kind: &str, mut data: Value| {
        data["type"] = kind.into();
        event(kind, &data)
    };
    let mut events = vec![send("message_start", json!({"message": message}))];
    for (index, (block, deltas)) in blocks(turn).into_iter().enumerate() {
        events.push(send("content_block_start", json!({"index": index, "content_block": block})));
        for delta in deltas {
            events.push(send("content_block_delta", json!({"index": index, "delta": delta})));
        }
        events.push(send("content_block_stop", json!({"index": index})));
    }
    let reason = match (turn.is_short, turn.calls.is_empty()) {
        (true, _) => "max_tokens",
        (false, true) => "end_turn",
        (false, false) => "tool_use",
    };
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    events.push(send("message_delta", json!({"delta": delta, "usage": {"output_tokens": 1}})));
    events.push(send("message_stop", json!({})));
    events.concat()
}

/// The blocks of an answer, each as it starts and what comes after.
fn blocks(turn: &Turn) -> Vec<(Value, [Value; 2])> {
    let said = turn.text.iter().map(|text| {
        let deltas = halves(text).map(|half| json!({"type": "text_delta", "text": half}));
        (json!({"type": "text", "text": ""}), deltas)
    });
    let calls = turn.calls.iter().map(|call| {
        let id = format!("toolu_{}", call.number);
        let deltas = halves(&call.arguments)
            .map(|half| json!({"type": "input_json_delta", "partial_json": half}));
        (json!({"type": "tool_use", "id": id, "name": call.name, "input": {}}), deltas)
    });
    said.chain(calls).collect()
}
