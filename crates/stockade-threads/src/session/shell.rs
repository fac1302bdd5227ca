//! Commands.

use std::sync::atomic::Ordering;

use stockade_agents::{Exit, HandsError, ShellCall, ShellOutcome};
use stockade_guest::{CallError, End, Exec, Stream};
use stockade_policy::{Approved, Verdict, review};
use stockade_rules::Ruling;

use super::capture::Capture;
use super::{Declined, NO_ENTRY, Session, failed};
use crate::journal::Live;
use crate::judge::refused;
use crate::question::Asked;
use crate::record::{CommandFinished, CommandStarted, Decision, Denial, Event};

/// As a shell tells a time limit, timeout(1).
const TIMED_OUT: u8 = 124;
/// As a shell tells that a program cannot be run, or is not there.
pub(super) const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What programs print when the boundary, or the owner of a file, refuses a write.
const REFUSED_BY_KERNEL: &str = "Read-only file system";

/// What came of a command.
pub(super) struct Ran {
    pub(super) end: Result<End, CallError>,
    /// As a shell has it.
    pub(super) status: u8,
    printed: Vec<u8>,
    is_truncated: bool,
}

impl Session<'_> {
    pub(super) fn next_command(&self) -> String {
        format!("c{}", self.commands.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn run_line(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        let id = self.next_command();
        let ruling = self.judged(call);
        if let Some(hits) = &self.parts.hits {
            hits.count(&ruling);
        }
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

    /// What is decided about a line, where it would run.
    fn judged(&self, call: &ShellCall) -> Ruling {
        self.parts.judge.line(self.parts.place.shell(), &call.line, |_target| false)
    }

    fn question(&self, call: &ShellCall, ruling: &Ruling) -> Asked {
        let place = call
            .folder
            .as_ref()
            .map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let action = format!("run{place}: {}", call.line);
        let inside = match self.parts.bounds {
            Some(_) => format!("inside the boundary ({})", self.parts.judge.mode),
            None => "in the thread's machine".to_owned(),
        };
        let reason = &ruling.reason;
        let effect = format!("{action}\n{reason}\nA yes runs it {inside}, and opens nothing else.");
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
        let ran = self.carry_out(exec, id, &mut |_stream, bytes| {
            self.parts.journal.show(&Live::Output(bytes));
            output(bytes);
        })?;
        let exit = match ran.end {
            Ok(End::Exited(status)) => Exit::Status(status),
            Ok(End::Killed(signal)) => Exit::Signal(signal),
            Ok(End::TimedOut) => Exit::TimedOut,
            Ok(End::Stopped) => return Err(HandsError::Interrupted),
            Err(error) => return Err(failed(error)),
        };
        let Ran { mut printed, is_truncated, .. } = ran;
        printed.extend(self.remark(&printed, exit).bytes());
        Ok(ShellOutcome { exit, output: printed, is_truncated })
    }

    /// Has it run, and records its end.
    pub(super) fn carry_out(
        &self,
        exec: Approved<Exec>,
        id: String,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, HandsError> {
        let mut capture = Capture::default();
        let outcome = self.parts.place.client().exec(
            &exec.into_action(),
            &|| self.parts.stop.is_requested(),
            &mut |stream, bytes| {
                capture.add(bytes);
                output(stream, bytes);
            },
        );
        let (printed, is_truncated) = capture.finish();
        let end = outcome.map(|outcome| outcome.end);
        let status = match &end {
            Ok(End::Exited(status)) => *status,
            Ok(End::Killed(signal)) => of_signal(*signal),
            Ok(End::TimedOut) => TIMED_OUT,
            Err(CallError::Refused { errno: NO_ENTRY, .. }) => NOT_FOUND,
            Err(CallError::Refused { .. }) => NOT_EXECUTABLE,
            Ok(End::Stopped) | Err(_) => of_signal(9),
        };
        self.record(&Event::CommandFinished(CommandFinished {
            id,
            exit: status,
            output: String::from_utf8_lossy(&printed).into_owned(),
            truncated: is_truncated,
            denials: Vec::new(),
        }))?;
        Ok(Ran { end, status, printed, is_truncated })
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
