//! The tool `plan`: what the model means to do, for whoever watches and for itself.

use serde::Deserialize;
use serde_json::json;

use super::{Bench, ToolError, object};
use crate::event::AgentEvent;
use crate::model::Tool;

const DESCRIPTION: &str = "\
Notes the steps of a task that takes several, and how far each is, for the user to see. Call it \
again, with all steps, whenever one is done or the plan changes. It does nothing else.";

/// More than a person reads.
const STEPS_MAX: usize = 30;

/// What the model is offered.
pub(super) fn tool() -> Tool {
    let step = object(
        &["text", "state"],
        &json!({
            "text": {"type": "string", "description": "A few words."},
            "state": {"type": "string", "enum": ["pending", "doing", "done"]},
        }),
    );
    let steps = json!({"type": "array", "description": "All of them, in order.", "items": step});
    let schema = object(&["steps"], &json!({"steps": steps}));
    Tool { name: "plan", description: DESCRIPTION, schema }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    text: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Pending,
    Doing,
    Done,
}

impl Bench<'_> {
    pub(super) fn plan(&mut self, arguments: &Arguments) -> Result<String, ToolError> {
        let steps = &arguments.steps;
        if steps.is_empty() || steps.len() > STEPS_MAX {
            return Err(ToolError::Slip(format!("a plan has 1 to {STEPS_MAX} steps")));
        }
        let line = |step: &Step| {
            let mark = match step.state {
                State::Pending => "[ ]",
                State::Doing => "[>]",
                State::Done => "[x]",
            };
            let words: Vec<&str> = step.text.split_whitespace().collect();
            format!("{mark} {}", words.join(" "))
        };
        let lines: Vec<String> = steps.iter().map(line).collect();
        (self.events)(AgentEvent::Plan { text: lines.join("\n") });
        let done = steps.iter().filter(|step| step.state == State::Done).count();
        Ok(format!("noted: {done} of {} steps are done", steps.len()))
    }
}
