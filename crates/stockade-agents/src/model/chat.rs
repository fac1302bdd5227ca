//! The Chat Completions API, as many servers speak it, each a little differently.

use serde_json::{Map, Value, json};

use super::ModelError;
use super::turn::{Answer, Decode, Draft, Question, Turn, Usage, calls, failure, json as parse};

/// The body of a request.
pub(super) fn request(model: &str, question: Question<'_>) -> Value {
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({"type": "function", "function": {"name": tool.name,
                   "description": tool.description, "parameters": tool.schema}})
        })
        .collect();
    let system = json!({"role": "system", "content": question.system});
    let messages = question.turns.iter().flat_map(messages);
    json!({
        "model": model,
        "messages": std::iter::once(system).chain(messages).collect::<Vec<Value>>(),
        "tools": tools,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

fn messages(turn: &Turn) -> Vec<Value> {
    match turn {
        Turn::User(text) => vec![json!({"role": "user", "content": text})],
        // Several servers refuse a message of the model's with neither text nor a call.
        Turn::Model(answer) if answer.is_empty() => Vec::new(),
        Turn::Model(answer) => answer.replay.clone(),
        Turn::Results(results) => results
            .iter()
            .map(
                |result| json!({"role": "tool", "tool_call_id": result.id, "content": result.text}),
            )
            .collect(),
    }
}

/// An answer while it comes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    text: String,
    reasoning: String,
    calls: Vec<Slot>,
    usage: Usage,
    is_cut: bool,
    has_finished: bool,
    is_over: bool,
}

/// A call while it comes.
#[derive(Debug)]
struct Slot {
    index: u64,
    draft: Draft,
    /// What a server wants to see again with the call (Gemini: signatures of its thoughts).
    extra: Option<Value>,
}

impl Decode for Decoder {
    fn event(
        &mut self,
        name: &str,
        data: &[u8],
        text: &mut dyn FnMut(&str),
    ) -> Result<(), ModelError> {
        if data == b"[DONE]" {
            self.is_over = true;
            return Ok(());
        }
        let event = parse(data)?;
        if !event["error"].is_null() {
            return Err(failure(&event["error"]));
        }
        // Its fields stand in the event itself.
        if name == "error" || event["object"] == "error" {
            return Err(failure(&event));
        }
        let usage = &event["usage"];
        if usage.is_object() {
            self.usage = Usage {
                input_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0),
                output_tokens: usage["completion_tokens"].as_u64().unwrap_or(0),
            };
        }
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        for key in ["content", "refusal"] {
            for piece in pieces(&delta[key]) {
                self.text.push_str(piece);
                text(piece);
            }
        }
        self.reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(piece);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.has_finished = true;
            self.is_cut = reason == "length";
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn answer(self: Box<Self>) -> Result<Answer, ModelError> {
        // Some servers leave `[DONE]` out.
        if !self.is_over && !self.has_finished {
            return Err(ModelError::Cut);
        }
        let (drafts, extras): (Vec<Draft>, Vec<Option<Value>>) =
            self.calls.into_iter().map(|slot| (slot.draft, slot.extra)).unzip();
        let calls = calls(drafts)?;
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.text.as_str().into());
        if !calls.is_empty() {
            let replayed = calls.iter().zip(extras).map(|(call, extra)| {
                let arguments = call.arguments_object().to_string();
                let mut object = json!({"id": call.id, "type": "function",
                    "function": {"name": call.name, "arguments": arguments}});
                if let Some(extra) = extra {
                    object["extra_content"] = extra;
                }
                object
            });
            message.insert("tool_calls".to_owned(), replayed.collect());
            // DeepSeek wants its thoughts back together with calls, and only then.
            if !self.reasoning.is_empty() {
                message.insert("reasoning_content".to_owned(), self.reasoning.into());
            }
        }
        Ok(Answer {
            replay: vec![Value::Object(message)],
            text: self.text,
            calls,
            usage: self.usage,
            is_cut: self.is_cut,
        })
    }
}

/// What is said in a piece of content: a text, or a list of parts (Mistral), of which thoughts are
/// not said.
fn pieces(content: &Value) -> impl Iterator<Item = &str> {
    let parts = content.as_array().into_iter().flatten().filter(|part| part["type"] == "text");
    let parts = parts.filter_map(|part| part["text"].as_str());
    content.as_str().into_iter().chain(parts).filter(|piece| !piece.is_empty())
}

impl Decoder {
    /// Takes in a piece of a call. It belongs to the call of its index, unless it brings another
    /// id: some servers count every call as the first.
    fn call(&mut self, piece: &Value) {
        let function = &piece["function"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, name) = (text(&piece["id"]), text(&function["name"]));
        let index = piece["index"].as_u64();
        let same = self.calls.iter_mut().rev().find(|slot| match index {
            Some(index) => slot.index == index,
            None => id.is_empty(),
        });
        let continues =
            |slot: &Slot| id.is_empty() || slot.draft.id.is_empty() || slot.draft.id == id;
        let slot = match same {
            Some(slot) if continues(slot) => slot,
            _ => {
                let next = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
                let index = index.unwrap_or(next);
                self.calls.push(Slot { index, draft: Draft::default(), extra: None });
                let Some(slot) = self.calls.last_mut() else { return };
                slot
            }
        };
        if !id.is_empty() {
            slot.draft.id = id;
        }
        // A name comes once; a server that repeats it with every piece means the same.
        if slot.draft.name.is_empty() {
            slot.draft.name = name;
        }
        slot.draft.arguments.push_str(function["arguments"].as_str().unwrap_or_default());
        // Ollama before 0.4 and others: the object itself.
        if function["arguments"].is_object() {
            slot.draft.arguments = function["arguments"].to_string();
        }
        if piece["extra_content"].is_object() {
            slot.extra = Some(piece["extra_content"].clone());
        }
    }
}
