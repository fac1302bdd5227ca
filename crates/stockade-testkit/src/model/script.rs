//! What the model says, and where in its script a conversation stands.

use serde::Deserialize;
use serde_json::{Value, json};

/// What the model does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Asks for a shell command, by whatever tool the client has for that.
    Shell(String),
    /// Calls a tool. Arguments that are a string are sent as they are, JSON or not.
    Tool {
        /// The tool's name, offered or not.
        name: String,
        /// What it is given.
        arguments: Value,
    },
    /// Calls several tools at once.
    Tools(Vec<(String, Value)>),
    /// Says something, and thereby ends its turn.
    Say(String),
}

impl Step {
    /// Calls `name`.
    pub fn tool(name: &str, arguments: Value) -> Self {
        Self::Tool { name: name.to_owned(), arguments }
    }

    /// Says `text`.
    pub fn say(text: &str) -> Self {
        Self::Say(text.to_owned())
    }

    /// Reads a list of `{"shell": …}`, `{"tool": …, "arguments": …}` and `{"say": …}`.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn read_script(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        let written: Vec<Written> = serde_json::from_str(text)?;
        Ok(written.into_iter().map(Self::from).collect())
    }

    fn calls(&self) -> usize {
        match self {
            Self::Shell(_) | Self::Tool { .. } => 1,
            Self::Tools(calls) => calls.len(),
            Self::Say(_) => 0,
        }
    }
}

/// A step as it stands in a file.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Written {
    Shell { shell: String },
    Tool { tool: String, arguments: Value },
    Say { say: String },
}

impl From<Written> for Step {
    fn from(written: Written) -> Self {
        match written {
            Written::Shell { shell } => Self::Shell(shell),
            Written::Tool { tool, arguments } => Self::Tool { name: tool, arguments },
            Written::Say { say } => Self::Say(say),
        }
    }
}

/// One answer, the same for every API.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) text: Option<String>,
    pub(super) calls: Vec<Call>,
    /// Ends at the limit of its length.
    pub(super) is_short: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    /// Counts the calls of the conversation.
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Turn {
    pub(super) fn say(text: &str) -> Self {
        Self { text: Some(text.to_owned()), calls: Vec::new(), is_short: false }
    }

    /// The answer to the conversation in `body`, which holds `results` results of tools. What was
    /// said before, and has something after it, is passed: the user has followed up.
    pub(super) fn of(script: &[Step], results: usize, body: &Value) -> Self {
        let tools = &body["tools"];
        let spoken = format!("{}{}", body["messages"], body["input"]);
        let mut before = results;
        for (at, step) in script.iter().enumerate() {
            let was_said =
                |text: &str| spoken.contains(Value::from(text).to_string().trim_matches('"'));
            match step.calls() {
                count if count > 0 && count <= before => before -= count,
                0 if at + 1 < script.len() && matches!(step, Step::Say(text) if was_said(text)) => {
                }
                _ => return Self::step(step, results, tools),
            }
        }
        Self::say("The script is at its end.")
    }

    fn step(step: &Step, results: usize, tools: &Value) -> Self {
        let calls = match step {
            Step::Say(text) => return Self::say(text),
            Step::Shell(command) => vec![shell(tools, command)],
            Step::Tool { name, arguments } => vec![(name.clone(), arguments.clone())],
            Step::Tools(calls) => calls.clone(),
        };
        let call = |(offset, (name, arguments)): (usize, (String, Value))| {
            let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
            Call { number: results + offset, name, arguments }
        };
        let calls = calls.into_iter().enumerate().map(call).collect();
        Self { text: None, calls, is_short: false }
    }
}

/// The tool among those offered that runs a shell command, and its arguments.
fn shell(tools: &Value, command: &str) -> (String, Value) {
    let (name, arguments) = if is_offered(tools, "Bash") {
        ("Bash", json!({"command": command, "description": "a step"}))
    } else if is_offered(tools, "exec_command") {
        ("exec_command", json!({"cmd": command, "yield_time_ms": 20000}))
    } else if is_offered(tools, "shell_command") {
        ("shell_command", json!({"command": command}))
    } else if is_offered(tools, "bash") {
        ("bash", json!({"command": command, "description": "a step"}))
    } else if is_offered(tools, "run_shell_command") {
        ("run_shell_command", json!({"command": command, "description": "a step"}))
    } else if is_builtin(tools) {
        ("shell", json!({"command": command}))
    } else {
        ("shell", json!({"command": ["bash", "-lc", command]}))
    };
    (name.to_owned(), arguments)
}

/// Whether the client is Stockade's own agent.
pub(super) fn is_builtin(tools: &Value) -> bool {
    ["shell", "search", "edit"].iter().all(|name| is_offered(tools, name))
}

pub(super) fn is_offered(tools: &Value, name: &str) -> bool {
    let is = |tool: &Value| tool["name"] == name || tool["function"]["name"] == name;
    tools.as_array().is_some_and(|tools| tools.iter().any(is))
}

/// `text` in two pieces, as a stream brings it.
pub(super) fn halves(text: &str) -> [&str; 2] {
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.split_at(middle).into()
}
