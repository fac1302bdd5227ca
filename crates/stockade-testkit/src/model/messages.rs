//! The Messages API, as Claude Code speaks it.

use serde_json::{Value, json};

use super::{Step, event};

/// The events that answer one request.
pub(super) fn answer(body: &Value, script: &[Step]) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results = messages
        .iter()
        .filter_map(|message| message["content"].as_array())
        .flatten()
        .filter(|block| block["type"] == "tool_result")
        .count();
    let has_shell = body["tools"]
        .as_array()
        .is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash"));
    // A side question: a title, a summary, a check of the quota.
    let step =
        if has_shell { script.get(results).cloned() } else { Some(Step::Say("ok".to_owned())) };
    let step = step.unwrap_or_else(|| Step::Say("The script is at its end.".to_owned()));
    let (block, delta, reason) = match &step {
        Step::Shell(command) => (
            json!({"type": "tool_use", "id": format!("toolu_{results}"), "name": "Bash", "input": {}}),
            json!({"type": "input_json_delta",
                   "partial_json": json!({"command": command, "description": "a step"}).to_string()}),
            "tool_use",
        ),
        Step::Say(text) => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": text}),
            "end_turn",
        ),
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let message = json!({"id": format!("msg_{results}"), "type": "message", "role": "assistant", "model": body["model"],
                         "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
    let send = |kind: &str, mut data: Value| {
        data["type"] = kind.into();
        event(kind, &data)
    };
    if body["stream"] != true {
        // Side questions come unstreamed; the same content in one piece.
        let mut message = message;
        message["content"] = json!([{"type": "text", "text": "ok"}]);
        message["stop_reason"] = "end_turn".into();
        return message.to_string();
    }
    [
        send("message_start", json!({"message": message})),
        send("content_block_start", json!({"index": 0, "content_block": block})),
        send("content_block_delta", json!({"index": 0, "delta": delta})),
        send("content_block_stop", json!({"index": 0})),
        send(
            "message_delta",
            json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 1}}),
        ),
        send("message_stop", json!({})),
    ]
    .concat()
}
