//! A command that the user typed, which is the whole task of its thread.

use std::ffi::OsString;
use std::path::Path;

use stockade_agents::HandsError;
use stockade_guest::{CallError, End, Exec, Stream};
use stockade_policy::{Approved, Review, Verdict, review};

use super::shell::{NOT_EXECUTABLE, Ran};
use super::{Session, failed};
use crate::journal::Live;
use crate::record::{CommandStarted, Decision, Denial, Event};
use crate::screen::{Feed, Lent, Screen};

/// What is kept as the answer of an agent's program, in bytes: the end of what it prints.
const PRINTED_MAX: usize = 16 << 10;

/// A command that was typed.
#[derive(Debug)]
pub(crate) struct Typed<'a> {
    pub(crate) argv: &'a [OsString],
    /// Of the place; relative to its own.
    pub(crate) folder: &'a Path,
    /// All of it; `None`: the place's own.
    pub(crate) environment: Option<Vec<(OsString, OsString)>>,
}

/// How a typed command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypedEnd {
    /// As a shell has it.
    pub(crate) status: u8,
    /// Why it did not start, if it did not.
    pub(crate) failure: Option<String>,
}

impl Session<'_> {
    /// Runs a line of the configuration's in `folder` of the place, with `variables` beside the
    /// place's own; the value is its status.
    pub(crate) fn unasked(
        &self,
        line: &str,
        (folder, variables): (&Path, &[(&str, String)]),
    ) -> Result<u8, HandsError> {
        self.not_stopped()?;
        let id = self.next_command();
        let shell = self.parts.place.shell();
        let ruling = self.parts.judge.line(shell, line, |_target| false);
        let is_denied = ruling.verdict == Verdict::Deny;
        self.record(&Event::CommandStarted(CommandStarted {
            id: id.clone(),
            argv: None,
            line: Some(line.to_owned()),
            decision: if is_denied { Decision::Deny } else { Decision::Allow },
            rule: ruling.rule.as_ref().map(|rule| rule.source.clone()),
        }))?;
        let mut argv: Vec<OsString> = vec![shell.into(), "-c".into(), line.into()];
        if !variables.is_empty() {
            // The rest of its environment is the place's affair.
            let set = variables.iter().map(|(name, value)| format!("{name}={value}").into());
            argv = ["/usr/bin/env".into()].into_iter().chain(set).chain(argv).collect();
        }
        let folder = (!folder.as_os_str().is_empty()).then(|| folder.to_owned());
        let exec = Exec { argv, folder, ..Exec::default() };
        // What a rule would ask about was written into the configuration by who would answer.
        let (_, reason) = ruling.reviewed();
        let verdict = if is_denied { Verdict::Deny } else { Verdict::Allow };
        let Review::Allowed(exec) = review(exec, &[(verdict, reason)]) else {
            let by = ruling.rule.as_ref().map_or("rules", |rule| rule.source.as_str());
            self.record(&Event::Denial(Denial::new("exec", line.as_ref(), by)))?;
            return Ok(NOT_EXECUTABLE);
        };
        let ran = self.carry_out(exec, (id, self.parts.place), &mut |_stream, bytes| {
            self.parts.journal.show(&Live::Output(bytes));
        })?;
        match ran.end {
            Ok(End::Stopped) => Err(HandsError::Interrupted),
            Ok(_) => Ok(ran.status),
            Err(error) => Err(failed(error)),
        }
    }

    /// Runs `argv` in `folder` of the place. What it writes to its standard output is shown as
    /// [`Live::Answer`]; with a terminal all that it writes, as [`Live::Screen`].
    pub(crate) fn typed(
        &self,
        typed: Typed<'_>,
        user: (Option<&dyn Screen>, Option<&dyn Feed>),
    ) -> Result<TypedEnd, HandsError> {
        let journal = self.parts.journal;
        self.as_typed(typed, user, &mut |stream, bytes| {
            journal.show(&match stream {
                Stream::Stdout => Live::Answer(bytes),
                Stream::Stderr => Live::Output(bytes),
            });
        })
    }

    fn as_typed(
        &self,
        Typed { argv, folder, environment }: Typed<'_>,
        (screen, feed): (Option<&dyn Screen>, Option<&dyn Feed>),
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<TypedEnd, HandsError> {
        let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into()).collect();
        let ruling = self.parts.judge.typed(&words);
        let id = self.next_command();
        let decision =
            if ruling.verdict == Verdict::Deny { Decision::Deny } else { Decision::Allow };
        self.record(&Event::CommandStarted(CommandStarted {
            id: id.clone(),
            argv: Some(words.clone()),
            line: None,
            decision,
            rule: ruling.rule.as_ref().map(|rule| rule.source.clone()),
        }))?;
        let folder = (!folder.as_os_str().is_empty()).then(|| folder.to_owned());
        let lent = screen.filter(|_| decision == Decision::Allow).and_then(Screen::lend);
        let terminal = lent.as_ref().map(|lent| lent.terminal());
        let feed = feed.filter(|_| decision == Decision::Allow && terminal.is_none());
        let input = feed.map(Feed::begin);
        let argv = argv.to_vec();
        let exec = Exec { argv, folder, environment, terminal, input, ..Exec::default() };
        let Review::Allowed(exec) = review(exec, &[ruling.reviewed()]) else {
            drop(lent);
            let by = ruling.rule.as_ref().map_or("rules", |rule| rule.source.as_str());
            self.record(&Event::Denial(Denial::new("exec", words.join(" ").as_ref(), by)))?;
            return Ok(TypedEnd { status: NOT_EXECUTABLE, failure: Some(ruling.reason) });
        };
        let ran = self.shown(exec, id, lent, output)?;
        match ran.end {
            Ok(End::Stopped) => Err(HandsError::Interrupted),
            Ok(_) => Ok(TypedEnd { status: ran.status, failure: None }),
            Err(CallError::Refused { text, .. }) => {
                Ok(TypedEnd { status: ran.status, failure: Some(text) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Runs an agent's program, of which a person sees all that it writes, escaped. The value is also the end
    /// of what it wrote to its standard output.
    pub(crate) fn agent(&self, typed: Typed<'_>) -> Result<(TypedEnd, Vec<u8>), HandsError> {
        let mut printed = Vec::new();
        let end = self.as_typed(typed, (None, None), &mut |stream, bytes| {
            self.parts.journal.show(&Live::Output(bytes));
            if stream == Stream::Stdout {
                printed.extend(bytes);
                let over = printed.len().saturating_sub(PRINTED_MAX);
                printed.drain(..over);
            }
        })?;
        Ok((end, printed))
    }

    /// Has it run before the user's eyes: on their terminal, if that is lent.
    fn shown(
        &self,
        exec: Approved<Exec>,
        id: String,
        lent: Option<Box<dyn Lent>>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, HandsError> {
        let (journal, place) = (self.parts.journal, self.parts.place);
        let Some(lent) = lent else {
            return self.carry_out(exec, (id, place), output);
        };
        journal.show(&Live::Screen(&[]));
        let show = &mut |_, bytes: &[u8]| journal.show(&Live::Screen(bytes));
        let done = self.have_done(exec, (&id, place), show);
        // Before anything is said about its end: what is said stands on lines.
        drop(lent);
        self.note_end(done, (id, place))
    }
}
