//! The tools of the built-in agent: what the model is offered, and how its calls become acts.
//!
//! A call is checked here as far as it can be without the place: its name and its arguments.
//! Whether it may be done is not decided here; the hands judge each call.

mod edit;
mod files;
mod output;
mod patch;
mod plan;
mod shell;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use output::{floor, harmless};

use crate::event::AgentEvent;
use crate::hands::{Hands, HandsError};
use crate::model::{Call, CallResult, Tool};

/// What calls are carried out with.
pub(crate) struct Bench<'a> {
    pub(crate) hands: &'a dyn Hands,
    pub(crate) events: &'a mut dyn FnMut(AgentEvent),
    pub(crate) command_timeout: Duration,
    /// Whether the answer that holds the calls ended at the limit of its length.
    pub(crate) is_cut: bool,
}

/// Why a call showed no result.
#[derive(Debug)]
enum ToolError {
    /// The model made a slip; it is told, and may try again.
    Slip(String),
    Hands(HandsError),
}

impl From<HandsError> for ToolError {
    fn from(error: HandsError) -> Self {
        Self::Hands(error)
    }
}

/// What the model is offered.
pub(crate) fn tools() -> Vec<Tool> {
    let path = |text: &str| json!({"type": "string", "description": text});
    let number = |text: &str| json!({"type": "integer", "minimum": 1, "description": text});
    vec![
        Tool {
            name: "shell",
            description: shell::DESCRIPTION,
            schema: object(
                &["command"],
                &json!({
                    "command": {"type": "string", "description": "A line for bash."},
                    "timeout_s": number("Seconds after which it is ended; the limit of the task otherwise."),
                    "cwd": path("Where it starts; the workspace otherwise."),
                }),
            ),
        },
        Tool {
            name: "read",
            description: "Shows a text file, or a part of it.",
            schema: object(
                &["path"],
                &json!({
                    "path": path("The file."),
                    "offset": number("The first line to show, counted from 1."),
                    "limit": number("How many lines to show."),
                }),
            ),
        },
        Tool {
            name: "list",
            description: "Shows what is in a folder.",
            schema: object(&["path"], &json!({"path": path("The folder; `.` is the workspace.")})),
        },
        Tool {
            name: "search",
            description: "Finds the lines that match a regular expression (Rust syntax), in all \
                          text files that git does not ignore.",
            schema: object(
                &["pattern"],
                &json!({
                    "pattern": {"type": "string", "description": "The regular expression."},
                    "path": path("A file or a folder; the workspace otherwise."),
                }),
            ),
        },
        Tool {
            name: "edit",
            description: edit::DESCRIPTION,
            schema: object(
                &["patch"],
                &json!({"patch": {"type": "string", "description": "The patch, all of it."}}),
            ),
        },
        Tool {
            name: "write",
            description: "Gives a file its whole content, and makes it where it is missing. To \
                          change a part of a file, use `edit`.",
            schema: object(
                &["path", "content"],
                &json!({
                    "path": path("The file."),
                    "content": {"type": "string", "description": "All of its new content."},
                }),
            ),
        },
        plan::tool(),
    ]
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required,
           "additionalProperties": false})
}

impl Bench<'_> {
    /// Carries out `call`.
    ///
    /// # Errors
    ///
    /// Only [`HandsError::Lost`] and [`HandsError::Interrupted`]: everything else is told to the
    /// model, which goes on with it.
    pub(crate) fn carry_out(&mut self, call: &Call) -> Result<CallResult, HandsError> {
        let result = match call.name.as_str() {
            _ if self.is_cut && is_unfinished(&call.arguments) => Err(ToolError::Slip(format!(
                "the answer reached the limit of its length within this call of `{}`: nothing of \
                 it was done. Make it shorter, a long file in several steps",
                call.name
            ))),
            "shell" => arguments(call).and_then(|arguments| self.shell(arguments)),
            "read" => arguments(call).and_then(|arguments| self.read(&arguments)),
            "list" => arguments(call).and_then(|arguments| self.list(&arguments)),
            "search" => arguments(call).and_then(|arguments| self.search(arguments)),
            "edit" => arguments(call).and_then(|arguments| self.edit(&arguments)),
            "write" => arguments(call).and_then(|arguments| self.write(&arguments)),
            "plan" => arguments(call).and_then(|arguments| self.plan(&arguments)),
            name => Err(ToolError::Slip(format!(
                "there is no tool `{name}`; there are shell, read, list, search, edit, write, \
                 plan"
            ))),
        };
        if let Err(ToolError::Slip(why)) = &result {
            (self.events)(AgentEvent::Slip {
                why: harmless(why.lines().next().unwrap_or_default()),
            });
        }
        // What was refused is told by whoever refused it.
        if let Err(ToolError::Hands(HandsError::Failed(why))) = &result {
            self.step(why);
        }
        let (text, is_error) = match result {
            Ok(text) => (text, false),
            Err(ToolError::Slip(why) | ToolError::Hands(HandsError::Failed(why))) => {
                (format!("error: {why}"), true)
            }
            Err(ToolError::Hands(HandsError::Refused(words))) => (words, true),
            Err(ToolError::Hands(end @ (HandsError::Lost(_) | HandsError::Interrupted))) => {
                return Err(end);
            }
        };
        let text = output::head_and_tail(&harmless(&text), output::SHOWN_BYTES);
        Ok(CallResult { id: call.id.clone(), text, is_error })
    }
}

impl Bench<'_> {
    /// Tells the user of a call that nothing else tells of.
    fn step(&mut self, text: &str) {
        let text = harmless(text.lines().next().unwrap_or_default());
        (self.events)(AgentEvent::Step { text });
    }
}

/// Whether `arguments` end before they are JSON.
fn is_unfinished(arguments: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_err_and(|error| error.is_eof())
}

fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, ToolError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    serde_json::from_str(text).map_err(|error| {
        let start: String = text.chars().take(200).collect();
        ToolError::Slip(format!("the arguments of `{}` do not fit: {error}: {start}", call.name))
    })
}
