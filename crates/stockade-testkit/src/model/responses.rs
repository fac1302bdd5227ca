//! The Responses API, as Codex CLI and Stockade's own agent speak it.

use serde_json::{Value, json};

use super::event;
use super::script::{Step, Turn, halves, is_builtin};

/// The answer to one request.
pub(super) fn turn(body: &Value, script: &[Step]) -> Turn {
    let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_output =
        |item: &&Value| item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"));
    Turn::of(script, items.iter().filter(is_output).count(), body)
}

/// The events of an answer.
pub(super) fn events(body: &Value, turn: &Turn) -> String {
    let number = turn.calls.first().map_or(0, |call| call.number);
    let id = format!("resp_{number}");
    let usage = json!({"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                       "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2});
    let items = items(turn);
    let mut events = vec![event(
        "response.created",
        &json!({"type": "response.created", "response": {"id": id}}),
    )];
    for (index, item) in items.iter().enumerate() {
        let place = |kind: &str| json!({"type": kind, "output_index": index, "item": item});
        events.push(event("response.output_item.added", &place("response.output_item.added")));
        if is_builtin(&body["tools"]) {
            events.extend(deltas(index, item));
        }
        events.push(event("response.output_item.done", &place("response.output_item.done")));
    }
    let end = if turn.is_short { "response.incomplete" } else { "response.completed" };
    let response = json!({"id": id, "usage": usage, "output": items});
    events.push(event(end, &json!({"type": end, "response": response})));
    events.concat()
}

fn items(turn: &Turn) -> Vec<Value> {
    let said = turn.text.iter().map(|text| {
        json!({"type": "message", "id": "msg_1", "role": "assistant",
               "content": [{"type": "output_text", "text": text, "annotations": []}]})
    });
    let calls = turn.calls.iter().map(|call| {
        let number = call.number;
        json!({"type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"),
               "name": call.name, "arguments": call.arguments})
    });
    said.chain(calls).collect()
}

/// What comes between the beginning of an item and its end.
fn deltas(index: usize, item: &Value) -> Vec<String> {
    let (kind, text) = match item["arguments"].as_str() {
        Some(arguments) => ("response.function_call_arguments.delta", arguments),
        None => {
            ("response.output_text.delta", item["content"][0]["text"].as_str().unwrap_or_default())
        }
    };
    let delta =
        |delta: &str| event(kind, &json!({"type": kind, "output_index": index, "delta": delta}));
    halves(text).map(delta).into()
}
