//! The Responses API, as Codex CLI speaks it.

use serde_json::{Value, json};

use super::{Step, event};

/// The events that answer one request.
pub(super) fn answer(body: &Value, script: &[Step]) -> String {
    let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_output =
        |item: &&Value| item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"));
    let index = items.iter().filter(is_output).count();
    let id = format!("resp_{index}");
    let item = match script.get(index) {
        Some(Step::Shell(command)) => {
            let (name, arguments) = shell_tool(&body["tools"], command);
            json!({"type": "function_call", "id": format!("fc_{index}"), "call_id": format!("call_{index}"),
                   "name": name, "arguments": arguments.to_string()})
        }
        Some(Step::Say(text)) => said(text),
        None => said("The script is at its end."),
    };
    let usage = json!({"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                       "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2});
    [
        event("response.created", &json!({"type": "response.created", "response": {"id": id}})),
        event(
            "response.output_item.added",
            &json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        ),
        event(
            "response.output_item.done",
            &json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        ),
        event(
            "response.completed",
            &json!({"type": "response.completed", "response": {"id": id, "usage": usage, "output": [item]}}),
        ),
    ]
    .concat()
}

fn said(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant",
           "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

/// The tool among those offered that runs a shell command, and its arguments.
fn shell_tool(tools: &Value, command: &str) -> (String, Value) {
    let offered = |name: &str| {
        tools.as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == name))
    };
    if offered("exec_command") {
        ("exec_command".to_owned(), json!({"cmd": command, "yield_time_ms": 20000}))
    } else if offered("shell_command") {
        ("shell_command".to_owned(), json!({"command": command}))
    } else {
        ("shell".to_owned(), json!({"command": ["bash", "-lc", command]}))
    }
}
