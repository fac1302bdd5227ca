//! Gemini's `generateContent`, as Gemini CLI speaks it.

use serde_json::{Value, json};

use super::script::{Step, Turn, halves, is_offered};

/// The answer to one request.
pub(super) fn turn(body: &Value, script: &[Step]) -> Turn {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results = contents
        .iter()
        .filter_map(|content| content["parts"].as_array())
        .flatten()
        .filter(|part| part["functionResponse"].is_object())
        .count();
    // The declarations lie one level deeper than those of other interfaces.
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let declared =
        tools.iter().filter_map(|tool| tool["functionDeclarations"].as_array()).flatten();
    let tools = Value::from(declared.cloned().collect::<Vec<_>>());
    if is_offered(&tools, "run_shell_command") {
        Turn::of(script, results, &json!({"tools": tools, "messages": contents}))
    } else {
        // A side question: who speaks next, which model is to be asked.
        let answer = json!({"reasoning": "", "next_speaker": "user", "model_choice": "flash"});
        Turn::say(&answer.to_string())
    }
}

/// The events of an answer. They have no names, and a call comes whole.
pub(super) fn events(_body: &Value, turn: &Turn) -> String {
    let text = turn.text.iter().flat_map(|text| halves(text));
    let mut parts: Vec<Value> =
        text.filter(|half| !half.is_empty()).map(|half| json!({"text": half})).collect();
    parts.extend(turn.calls.iter().map(|call| {
        let args: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        json!({"functionCall": {"id": format!("call_{}", call.number), "name": call.name, "args": args}})
    }));
    let reason = if turn.is_short { "MAX_TOKENS" } else { "STOP" };
    let last = parts.len().saturating_sub(1);
    let chunks = parts.into_iter().enumerate().map(|(at, part)| {
        let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [part]}});
        if at == last {
            candidate["finishReason"] = reason.into();
        }
        let usage = json!({"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2});
        json!({"candidates": [candidate], "usageMetadata": usage})
    });
    let events: Vec<String> = chunks.map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    events.concat()
}

/// The same for a request that wants no stream.
pub(super) fn whole(turn: &Turn) -> String {
    let text = turn.text.clone().unwrap_or_default();
    let content = json!({"role": "model", "parts": [{"text": text}]});
    let candidate = json!({"index": 0, "finishReason": "STOP", "content": content});
    json!({"candidates": [candidate]}).to_string()
}
