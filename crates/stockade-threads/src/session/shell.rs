//! Commands.

use std::sync::atomic::Ordering;

use stockade_agents::{Exit, HandsError, ShellCall, ShellOutcome};
use stockade_guest::{End, Exec};
use stockade_policy::{Approved, Verdict, review};
use stockade_rules::Ruling;

use super::capture::Capture;
use super::{Declined, Session, failed};
use crate::journal::Live;
use crate::judge::refused;
use crate::question::Asked;
use crate::record::{CommandFinished, CommandStarted, Decision, Denial, Event};

/// As a shell tells a time limit, timeout(1).
const TIMED_OUT: u8 = 124;

/// What programs print when the boundary, or the owner of a file, refuses a write.
const REFUSED_BY_KERNEL: &str = "Read-only file system";

impl Session<'_> {
    pub(super) fn run_line(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        let id = format!("c{}", self.commands.fetch_add(1, Ordering::Relaxed) + 1);
        let ruling = self.parts.judge.line(&call.line);
        let exec = Exec {
            argv: vec![self.parts.place.shell().into(), "-c".into(), (&call.line).into()],
            folder: call.folder.clone(),
            timeout: call.timeout,
            ..Exec::default()
        };
        let asked = self.question(call, &ruling);
        let decision = match ruling.verdict {
            Verdict::Allow => Decision::Allow,
            Verdict::Ask => Decision::Ask,
            Verdict::Deny => Decision::Deny,
        };
        let started = |decision| {
            Event::CommandStarted(CommandStarted {
                id: id.clone(),
                argv: None,
                line: Some(call.line.clone()),
                decision,
                rule: ruling.rule.as_ref().map(|rule| rule.source.clone()),
            })
        };
        match self.approve(review(exec, &[ruling.reviewed()]), &asked) {
            Ok(approved) => {
                self.record(&started(decision))?;
                self.execute(approved, id, output)
            }
            Err(Declined::No(why)) => {
                self.record(&started(Decision::Deny))?;
                Err(self.decline(call, &ruling, &why))
            }
            Err(Declined::Lost(error)) => Err(error),
        }
    }

    fn question(&self, call: &ShellCall, ruling: &Ruling) -> Asked {
        let place = call
            .folder
            .as_ref()
            .map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let action = format!("run{place}: {}", call.line);
        let mode = self.parts.judge.mode;
        let effect = format!(
            "{action}\n{}\nA yes runs it inside the boundary ({mode}), and opens nothing else.",
            ruling.reason
        );
        Asked { action, effect }
    }

    fn decline(&self, call: &ShellCall, ruling: &Ruling, why: &str) -> HandsError {
        let decided_by = ruling.rule.as_ref().map_or("approval_policy", |rule| &rule.source);
        let denial = Denial::new("exec", call.line.as_ref(), decided_by);
        let words = if why.is_empty() {
            ruling.reason.clone()
        } else {
            format!("{}: {why}", ruling.reason)
        };
        self.deny(denial, &words)
    }

    fn execute(
        &self,
        exec: Approved<Exec>,
        id: String,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        let mut capture = Capture::default();
        let result = self.parts.place.client().exec(
            &exec.into_action(),
            &|| self.parts.stop.is_requested(),
            &mut |_stream, bytes| {
                capture.add(bytes);
                self.parts.journal.show(&Live::Output(bytes));
                output(bytes);
            },
        );
        let (mut printed, is_truncated) = capture.finish();
        let (exit, status) = match result.as_ref().map(|outcome| outcome.end) {
            Ok(End::Exited(status)) => (Exit::Status(status), status),
            Ok(End::Killed(signal)) => (Exit::Signal(signal), of_signal(signal)),
            Ok(End::TimedOut) => (Exit::TimedOut, TIMED_OUT),
            Ok(End::Stopped) | Err(_) => (Exit::Signal(9), of_signal(9)),
        };
        self.record(&Event::CommandFinished(CommandFinished {
            id,
            exit: status,
            output: String::from_utf8_lossy(&printed).into_owned(),
            truncated: is_truncated,
            denials: Vec::new(),
        }))?;
        match result {
            Ok(outcome) if outcome.end == End::Stopped => Err(HandsError::Interrupted),
            Ok(_) => {
                printed.extend(self.remark(&printed, exit).bytes());
                Ok(ShellOutcome { exit, output: printed, is_truncated })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// What is added for the agent when a command failed on something that is read-only.
    fn remark(&self, printed: &[u8], exit: Exit) -> String {
        let Some(bounds) = &self.parts.bounds else { return String::new() };
        let is_refused = printed
            .windows(REFUSED_BY_KERNEL.len())
            .any(|window| window == REFUSED_BY_KERNEL.as_bytes());
        if exit == Exit::Status(0) || !is_refused {
            return String::new();
        }
        let words = format!(
            "a write was outside what may be written (writable here: {})",
            bounds.writable_here()
        );
        let words = refused(&words);
        self.parts.journal.show(&Live::Refused(&words));
        format!("\n{words}\n")
    }
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
}
