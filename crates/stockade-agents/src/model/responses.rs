//! The Responses API.
//!
//! Nothing is kept at the server (`store: false`): its items, the encrypted reasoning too, are
//! sent back as they came.

use serde_json::{Value, json};

use super::ModelError;
use super::turn::{
    Answer, Call, Decode, Draft, Question, Turn, Usage, calls, failure, json as parse,
};

/// The body of a request.
pub(super) fn request(model: &str, question: Question<'_>) -> Value {
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({"type": "function", "name": tool.name, "description": tool.description,
                   "parameters": tool.schema, "strict": false})
        })
        .collect();
    json!({
        "model": model,
        "instructions": question.system,
        "input": question.turns.iter().flat_map(items).collect::<Vec<Value>>(),
        "tools": tools,
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "stream": true,
    })
}

fn items(turn: &Turn) -> Vec<Value> {
    match turn {
        Turn::User(text) => vec![json!({"type": "message", "role": "user",
                                        "content": [{"type": "input_text", "text": text}]})],
        Turn::Model(answer) => answer.replay.clone(),
        Turn::Results(results) => results
            .iter()
            .map(|result| {
                json!({"type": "function_call_output", "call_id": result.id, "output": result.text})
            })
            .collect(),
    }
}

/// An answer while it comes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    items: Vec<Value>,
    text: String,
    usage: Usage,
    is_cut: bool,
    is_over: bool,
}

impl Decode for Decoder {
    fn event(
        &mut self,
        name: &str,
        data: &[u8],
        text: &mut dyn FnMut(&str),
    ) -> Result<(), ModelError> {
        if data == b"[DONE]" {
            return Ok(());
        }
        let event = parse(data)?;
        match event["type"].as_str().unwrap_or(name) {
            "response.output_text.delta" | "response.refusal.delta" => {
                let delta = event["delta"].as_str().unwrap_or_default();
                if !delta.is_empty() {
                    self.text.push_str(delta);
                    text(delta);
                }
            }
            "response.output_item.done" => self.items.push(event["item"].clone()),
            kind @ ("response.completed" | "response.incomplete") => {
                self.is_cut = kind == "response.incomplete";
                self.end(&event["response"]);
            }
            "response.failed" => return Err(failure(&event["response"]["error"])),
            // Its fields stand in the event itself, or one level down.
            "error" if event["error"].is_object() => return Err(failure(&event["error"])),
            "error" => {
                // Here `type` is "error" and says nothing more.
                let code = event["code"].as_str().unwrap_or("error");
                return Err(failure(&json!({"code": code, "message": event["message"]})));
            }
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn answer(self: Box<Self>) -> Result<Answer, ModelError> {
        if !self.is_over {
            return Err(ModelError::Cut);
        }
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let draft = |item: &Value| Draft {
            id: text(item, "call_id"),
            name: text(item, "name"),
            arguments: text(item, "arguments"),
        };
        let asked = self.items.iter().filter(|item| item["type"] == "function_call");
        let calls = calls(asked.map(draft).collect())?;
        let mut named = calls.iter();
        let replay = self.items.iter().filter_map(|item| match item["type"].as_str() {
            Some("function_call") => named.next().map(call_item),
            // Without its content the server looks for it where nothing was kept.
            Some("reasoning") if !item["encrypted_content"].is_string() => None,
            _ => Some(unnamed(item)),
        });
        Ok(Answer {
            replay: replay.collect(),
            text: said(&self.items).unwrap_or(self.text),
            calls,
            usage: self.usage,
            is_cut: self.is_cut,
        })
    }
}

impl Decoder {
    fn end(&mut self, response: &Value) {
        self.is_over = true;
        // Some servers send the items only here.
        if self.items.is_empty() {
            self.items = response["output"].as_array().cloned().unwrap_or_default();
        }
        let usage = &response["usage"];
        self.usage = Usage {
            input_tokens: usage["input_tokens"].as_u64().unwrap_or(0),
            output_tokens: usage["output_tokens"].as_u64().unwrap_or(0),
        };
    }
}

/// The text of all messages, if there is one.
fn said(items: &[Value]) -> Option<String> {
    let messages = items.iter().filter(|item| item["type"] == "message");
    let parts = messages.filter_map(|item| item["content"].as_array()).flatten();
    let text = parts.filter_map(|part| part["text"].as_str().or_else(|| part["refusal"].as_str()));
    Some(text.collect::<String>()).filter(|text| !text.is_empty())
}

fn call_item(call: &Call) -> Value {
    json!({"type": "function_call", "call_id": call.id, "name": call.name,
           "arguments": call.arguments_object().to_string()})
}

/// An item without what names it at the server, where it was not kept.
fn unnamed(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(item) = item.as_object_mut() {
        item.remove("id");
        item.remove("status");
    }
    item
}
