//! The Messages API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ModelError;
use super::turn::{Answer, Decode, Draft, Question, Turn, Usage, calls, failure, json as parse};

/// What the API wants to be told: the longest answer. Every current model can do this much.
const ANSWER_TOKENS: u64 = 32_000;
/// And what part of the model's window it may be: servers refuse what has no room beside the question.
const ANSWER_SHARE: u64 = 5;

/// The body of a request.
pub(super) fn request(model: &str, question: Question<'_>) -> Value {
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({"name": tool.name, "description": tool.description, "input_schema": tool.schema})
        })
        .collect();
    let mut messages: Vec<Value> = question.turns.iter().filter_map(message).collect();
    // What stands before a mark is read from the cache the next time: with one at the end of
    // each question, all of the conversation is.
    let mark = json!({"type": "ephemeral"});
    let last = messages.last_mut().and_then(|message| message["content"].as_array_mut());
    if let Some(block) = last.and_then(|blocks| blocks.last_mut()) {
        block["cache_control"] = mark.clone();
    }
    json!({
        "model": model,
        "max_tokens": ANSWER_TOKENS.min(question.window / ANSWER_SHARE).max(1),
        "system": [{"type": "text", "text": question.system, "cache_control": mark}],
        "messages": messages,
        "tools": tools,
        "stream": true,
    })
}

/// `None` for an answer of which nothing can be sent again: a message without content is refused.
fn message(turn: &Turn) -> Option<Value> {
    Some(match turn {
        Turn::Model(answer) if answer.replay.is_empty() => return None,
        Turn::User(text) => json!({"role": "user", "content": [{"type": "text", "text": text}]}),
        Turn::Model(answer) => json!({"role": "assistant", "content": answer.replay}),
        Turn::Results(results) => {
            let block = |result: &super::turn::CallResult| {
                json!({"type": "tool_result", "tool_use_id": result.id, "content": result.text,
                       "is_error": result.is_error})
            };
            json!({"role": "user", "content": results.iter().map(block).collect::<Vec<Value>>()})
        }
    })
}

/// An answer while it comes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    blocks: BTreeMap<u64, Block>,
    usage: Usage,
    is_cut: bool,
    is_over: bool,
}

/// A block of content: as it started, and what came after.
#[derive(Debug, Default)]
struct Block {
    start: Value,
    text: String,
    signature: String,
}

impl Decode for Decoder {
    fn event(
        &mut self,
        name: &str,
        data: &[u8],
        text: &mut dyn FnMut(&str),
    ) -> Result<(), ModelError> {
        let event = parse(data)?;
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap_or(name) {
            "message_start" => self.usage(&event["message"]["usage"]),
            "content_block_start" => {
                let start = event["content_block"].clone();
                start["text"].as_str().filter(|said| !said.is_empty()).map(&mut *text);
                self.blocks.insert(index, Block { start, ..Block::default() });
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                let block = self.blocks.get_mut(&index).ok_or_else(|| {
                    ModelError::Nonsense(format!("block {index} goes on before it starts"))
                })?;
                for key in ["text", "partial_json", "thinking"] {
                    block.text.push_str(delta[key].as_str().unwrap_or_default());
                }
                block.signature.push_str(delta["signature"].as_str().unwrap_or_default());
                delta["text"].as_str().filter(|said| !said.is_empty()).map(&mut *text);
            }
            "message_delta" => {
                self.usage(&event["usage"]);
                let reason = event["delta"]["stop_reason"].as_str();
                self.is_cut |=
                    matches!(reason, Some("max_tokens" | "model_context_window_exceeded"));
            }
            "message_stop" => self.is_over = true,
            "error" => return Err(failure(&event["error"])),
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
        let blocks: Vec<Block> = self.blocks.into_values().collect();
        let asked = blocks.iter().filter(|block| block.kind() == "tool_use");
        let calls = calls(asked.map(Block::draft).collect())?;
        let mut named = calls.iter();
        let replay = blocks.iter().filter_map(|block| {
            match block.kind() {
            "tool_use" => named.next().map(|call| {
                json!({"type": "tool_use", "id": call.id, "name": call.name,
                       "input": call.arguments_object()})
            }),
            // Empty text is refused, and so are thoughts without their signature.
            "text" => Some(block.said())
                .filter(|text| !text.is_empty())
                .map(|text| json!({"type": "text", "text": text})),
            "thinking" => Some(block.signature()).filter(|signature| !signature.is_empty()).map(
                |signature| {
                    json!({"type": "thinking", "thinking": block.said(), "signature": signature})
                },
            ),
            "redacted_thinking" => Some(block.start.clone()),
            _ => None,
        }
        });
        Ok(Answer {
            replay: replay.collect(),
            text: blocks.iter().filter(|block| block.kind() == "text").map(Block::said).collect(),
            calls,
            usage: self.usage,
            is_cut: self.is_cut,
        })
    }
}

impl Decoder {
    /// Takes in the numbers that are there; the last ones count. Input that came from the cache
    /// or went into it is counted apart by the API.
    fn usage(&mut self, usage: &Value) {
        let keys = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
        let input = keys.iter().filter_map(|key| usage[key].as_u64());
        let input = input.fold(0, u64::saturating_add);
        if input > 0 {
            self.usage.input_tokens = input;
        }
        if let Some(output) = usage["output_tokens"].as_u64() {
            self.usage.output_tokens = output;
        }
    }
}

impl Block {
    fn kind(&self) -> &str {
        self.start["type"].as_str().unwrap_or_default()
    }

    /// Text or thoughts; a block may start with some.
    fn said(&self) -> String {
        let start = self.start["text"].as_str().or_else(|| self.start["thinking"].as_str());
        format!("{}{}", start.unwrap_or_default(), self.text)
    }

    fn signature(&self) -> String {
        format!("{}{}", self.start["signature"].as_str().unwrap_or_default(), self.signature)
    }

    fn draft(&self) -> Draft {
        let text = |key: &str| self.start[key].as_str().unwrap_or_default().to_owned();
        // Some servers send the input whole with the start.
        let input = &self.start["input"];
        let is_whole = self.text.is_empty() && input.as_object().is_some_and(|map| !map.is_empty());
        let arguments = if is_whole { input.to_string() } else { self.text.clone() };
        Draft { id: text("id"), name: text("name"), arguments }
    }
}
