//! A conversation, as far as it is the same in every API.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::ModelError;

/// One turn of the conversation.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The user says something.
    User(String),
    /// The model answers.
    Model(Answer),
    /// What came of the calls of the answer before.
    Results(Vec<CallResult>),
}

/// All of the model's answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What it says.
    pub(crate) text: String,
    /// What it asks for, in its order.
    pub(crate) calls: Vec<Call>,
    /// The answer in the form in which its API wants to see it again.
    pub(super) replay: Vec<Value>,
    pub(crate) usage: Usage,
    /// Whether it ended at a limit of length.
    pub(crate) is_cut: bool,
}

impl Answer {
    /// Whether nothing was said and nothing asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }

    /// What it takes when it is sent again, in bytes, about.
    pub(crate) fn size(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.arguments.len() + call.name.len());
        let replayed: usize = self.replay.iter().map(|value| value.to_string().len()).sum();
        replayed.max(self.text.len() + calls.sum::<usize>())
    }
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// As the model wrote them: JSON, if all is well.
    pub(crate) arguments: String,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallResult {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

/// A tool that the model may call.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// JSON Schema of its arguments.
    pub(crate) schema: Value,
}

/// What is asked: all of the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) system: &'a str,
    pub(crate) turns: &'a [Turn],
    pub(crate) tools: &'a [Tool],
    /// What the model can read at once, its answer included.
    pub(crate) window: u64,
}

/// Reads the events of one answer.
pub(super) trait Decode {
    /// Takes in one event; new text, never empty, goes to `text`.
    fn event(
        &mut self,
        name: &str,
        data: &[u8],
        text: &mut dyn FnMut(&str),
    ) -> Result<(), ModelError>;

    /// Whether nothing more is to come.
    fn is_over(&self) -> bool;

    /// The answer, once the stream has ended; [`ModelError::Cut`] when it ended too early.
    fn answer(self: Box<Self>) -> Result<Answer, ModelError>;
}

/// Calls in one answer; more than anybody means.
const CALLS_MAX: usize = 128;

/// The pieces of a call, as they come.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Makes calls of drafts, each with an id of its own and a name that every server takes back.
/// Some servers give no ids, or the same one twice.
pub(super) fn calls(drafts: Vec<Draft>) -> Result<Vec<Call>, ModelError> {
    if drafts.len() > CALLS_MAX {
        return Err(ModelError::Nonsense(format!("{} calls at once", drafts.len())));
    }
    let mut seen = HashSet::new();
    let mut calls = Vec::new();
    for draft in drafts {
        let mut id = draft.id;
        while id.is_empty() || seen.contains(&id) {
            id = format!("call_{}{id}", seen.len());
        }
        seen.insert(id.clone());
        calls.push(Call { id, name: plain_name(&draft.name), arguments: draft.arguments });
    }
    Ok(calls)
}

fn plain_name(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = name.chars().filter(is_plain).take(64).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

impl Call {
    /// The arguments as the object that servers insist on when they see the call again: a slip
    /// of the model's must not make the next question one that is refused.
    pub(super) fn arguments_object(&self) -> Value {
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(object)) => Value::Object(object),
            _ => Value::Object(Map::new()),
        }
    }
}

/// One event as JSON.
pub(super) fn json(data: &[u8]) -> Result<Value, ModelError> {
    serde_json::from_slice(data).map_err(|error| {
        let start: String = String::from_utf8_lossy(data).chars().take(80).collect();
        ModelError::Nonsense(format!("an event is not JSON ({error}): {start:?}"))
    })
}

/// What a server says about its failure.
pub(super) fn failure(error: &Value) -> ModelError {
    let (kind, message) = reason(error);
    ModelError::Failed { kind, message }
}

/// The name of a failure and its explanation.
pub(super) fn reason(error: &Value) -> (String, String) {
    let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
    let kind = text("code").or_else(|| text("type")).unwrap_or("error");
    let message = text("message").or_else(|| error.as_str()).unwrap_or("no reason given");
    (shown(kind), shown(message))
}

/// A stranger's words, short and harmless to a terminal.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS: usize = 500;
    let mut short: String = crate::tools::harmless(text).replace('\n', " ");
    if let Some((end, _)) = short.char_indices().nth(CHARACTERS) {
        short.truncate(end);
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{chat, messages, responses};
    use super::*;

    fn decoders() -> [Box<dyn Decode>; 3] {
        [
            Box::<responses::Decoder>::default(),
            Box::<chat::Decoder>::default(),
            Box::<messages::Decoder>::default(),
        ]
    }

    /// Values in which what the decoders look for turns up in all places and with all types.
    fn any_event() -> impl Strategy<Value = Value> {
        let words = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "message_delta",
            "message_stop",
            "response.output_item.done",
            "response.output_text.delta",
            "response.completed",
            "response.incomplete",
            "function_call",
            "tool_use",
            "text",
            "thinking",
            "stop",
            "{}",
        ];
        let keys = [
            "type",
            "index",
            "delta",
            "content_block",
            "text",
            "partial_json",
            "item",
            "response",
            "output",
            "choices",
            "tool_calls",
            "function",
            "arguments",
            "name",
            "id",
            "call_id",
            "usage",
            "input_tokens",
            "finish_reason",
            "content",
            "input",
        ];
        let leaf = prop_oneof![
            proptest::sample::select(words.to_vec()).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::hash_map(
                    proptest::sample::select(keys.to_vec()),
                    inner,
                    0..6
                )
                .prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_answer_or_an_error(
            events in proptest::collection::vec(any_event(), 0..8),
            names in proptest::collection::vec("[a-z_.]{0,20}", 8),
        ) {
            for mut decoder in decoders() {
                for (event, name) in events.iter().zip(&names) {
                    decoder.event(name, event.to_string().as_bytes(), &mut |_| {}).ok();
                }
                if let Ok(answer) = decoder.answer() {
                    let ids: HashSet<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
                    prop_assert_eq!(ids.len(), answer.calls.len(), "each call has an id of its own");
                    prop_assert!(answer.calls.iter().all(|call| !call.name.is_empty()));
                }
            }
        }
    }

    #[test]
    fn servers_that_count_every_call_as_the_first_are_understood() {
        let call = |id: &str, arguments: &str| {
            let function = json!({"name": "read", "arguments": arguments});
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": id, "function": function}]}}]})
        };
        let more = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
                                       "finish_reason": "tool_calls"}]});
        let mut decoder = Box::<chat::Decoder>::default();
        for event in [call("a", "{}"), call("b", "{"), more] {
            decoder.event("", event.to_string().as_bytes(), &mut |_| {}).unwrap();
        }
        let answer = decoder.answer().unwrap();
        let calls: Vec<_> =
            answer.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("a", "{}"), ("b", "{}")]);
    }
}
