//! What a thread's record tells the model that goes on with it.
//!
//! The record has what was said, what ran and what it printed, and which files the agent wrote;
//! not what it read. So it is told as text, and the model looks again at what it needs.

use std::fmt::Write as _;

use crate::record::{Decision, EditKind, Event, Role};
use crate::store::Records;

/// What is told in all, and of one command, in bytes.
const TOLD_MAX: usize = 60_000;
const OUTPUT_MAX: usize = 2_000;

/// The record as a text, shortened in its middle.
pub(super) fn told(records: Records) -> String {
    // A record that is damaged is told to where it is.
    let parts: Vec<String> =
        records.map_while(Result::ok).filter_map(|record| part(record.event)).collect();
    let mut last = Vec::new();
    let mut bytes = 0;
    for part in parts.iter().skip(1).rev() {
        bytes += part.len();
        if bytes > TOLD_MAX {
            last.push("[What was in between is left out.]\n");
            break;
        }
        last.push(part.as_str());
    }
    last.reverse();
    let first = parts.first().map(String::as_str).unwrap_or_default();
    format!(
        "This conversation goes on after a pause. From its record, what was said, run and written \
         until then; what you read is not in it:\n\n{first}{}\nThe files may have been changed \
         since. Now the user says:",
        last.concat()
    )
}

fn part(event: Event) -> Option<String> {
    let mut text = String::new();
    match event {
        Event::Message(message) => {
            let who = match message.role {
                Role::User => "The user said",
                Role::Assistant => "You said",
            };
            writeln!(text, "{who}: {}", message.text).ok()?;
        }
        Event::CommandStarted(started) => {
            let argv = started.argv.map(|argv| argv.join(" "));
            let line = started.line.or(argv).unwrap_or_default();
            let what = match started.decision {
                Decision::Allow | Decision::Ask => "You ran",
                Decision::Deny => "You were refused",
            };
            writeln!(text, "{what}: {line}").ok()?;
        }
        Event::CommandFinished(finished) => {
            let output = without_middle(&finished.output);
            writeln!(text, "It ended with status {} and printed:\n{output}", finished.exit).ok()?;
        }
        Event::Edit(edit) => {
            let what = match edit.kind {
                EditKind::Created => "created",
                EditKind::Modified => "changed",
                EditKind::Deleted => "deleted",
            };
            writeln!(text, "You {what} {}", edit.path.to_path().display()).ok()?;
        }
        Event::Denial(denial) => {
            writeln!(text, "Refused: {} of {}", denial.op, denial.target).ok()?;
        }
        Event::ThreadFinished(finished) => {
            writeln!(text, "(The thread ended there: {}.)", finished.summary).ok()?;
        }
        Event::Applied(_) => text.push_str("The user applied changes of this thread.\n"),
        Event::Discarded(_) => text.push_str("The user dropped the changes of this thread.\n"),
        Event::ThreadStarted(_)
        | Event::ThreadResumed(_)
        | Event::Policy(_)
        | Event::Phase(_)
        | Event::Question(_)
        | Event::Answer(_)
        | Event::Used(_)
        | Event::Held(_)
        | Event::ConnectionOpened(_)
        | Event::Connection(_)
        | Event::Usage(_)
        | Event::Note { .. }
        | Event::Slip { .. }
        | Event::Check(_)
        | Event::Cloned(_)
        | Event::Changes(_)
        | Event::Branched(_)
        | Event::Proposed(_)
        | Event::Recovered(_)
        | Event::Unknown => return None,
    }
    Some(text)
}

fn without_middle(text: &str) -> String {
    if text.len() <= OUTPUT_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(OUTPUT_MAX / 2).collect();
    let tail: Vec<char> = text.chars().rev().take(OUTPUT_MAX / 2).collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("{head}\n[...]\n{tail}")
}
