//! The tool `shell`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Bench, ToolError};
use crate::event::AgentEvent;
use crate::hands::{Exit, ShellCall};

pub(super) const DESCRIPTION: &str = "\
Runs a command line with bash in the workspace, without a terminal or standard input, and shows \
what it prints. What it leaves in the background has to print into a file; it may run until the \
task ends.";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    command: String,
    timeout_s: Option<u64>,
    /// What many models say beside a command, because other agents' tools have it.
    #[expect(
        dead_code,
        reason = "taken, so that the call is no slip; what is done is the command"
    )]
    description: Option<serde::de::IgnoredAny>,
    cwd: Option<PathBuf>,
}

impl Bench<'_> {
    pub(super) fn shell(&mut self, arguments: Arguments) -> Result<String, ToolError> {
        if arguments.command.trim().is_empty() {
            return Err(ToolError::Slip("`command` is empty".to_owned()));
        }
        if arguments.command.contains('\0') {
            return Err(ToolError::Slip("`command` holds a NUL character".to_owned()));
        }
        let asked = arguments.timeout_s.map(|seconds| Duration::from_secs(seconds.max(1)));
        let timeout = asked.map_or(self.command_timeout, |asked| asked.min(self.command_timeout));
        let call =
            ShellCall { line: arguments.command, folder: arguments.cwd, timeout: Some(timeout) };
        let events = &mut self.events;
        let outcome =
            self.hands.shell(&call, &mut |piece| events(AgentEvent::Output(piece.to_vec())))?;
        let mut text = match outcome.exit {
            Exit::Status(status) => format!("exit status {status}"),
            Exit::Signal(signal) => format!("ended by signal {signal}"),
            Exit::TimedOut => format!("ended after {} s, the time limit", timeout.as_secs_f64()),
        };
        if outcome.is_truncated {
            text.push_str(" (it printed more than is kept)");
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&outcome.output));
        Ok(text)
    }
}
