//! `stockade log`, which is also `stockade threads log`: the record of a thread.

use std::collections::HashMap;
use std::io;

use clap::Args;
use stockade_threads::files;
use stockade_threads::record::{
    Answer, CommandStarted, Connection, ConnectionOpened, Decision, Event, Role, Used,
};
use stockade_threads::store::{Record, Seen};

use super::{Desk, Place, of_store, one_line, unprinted};
use crate::failure::Failure;
use crate::ui;
use crate::ui::printed::Printed;

/// Flags of `stockade log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    place: Place,
    /// Print the record's own lines, one JSON object each
    #[arg(long, conflicts_with = "verify")]
    json: bool,
    /// Check that no line was changed, removed or put in
    #[arg(long)]
    verify: bool,
    /// Go on as the record grows, until the thread ends
    #[arg(short, long, conflicts_with = "verify")]
    follow: bool,
    /// The thread: its ID, the start of it, or `last`
    #[arg(default_value = "last")]
    id: String,
}

/// Prints the record; the value is the exit status.
pub(crate) fn log(arguments: &LogArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.store.find_record(&arguments.id, &desk.here).map_err(of_store)?;
    if arguments.verify {
        let verified = desk.store.verify(&id).map_err(of_store)?;
        ui::line(&format!("{id}: {} records fit together", verified.records)).map_err(unprinted)?;
        if verified.torn_bytes > 0 {
            let bytes = verified.torn_bytes;
            ui::say("stockade", &format!("{bytes} bytes after the last are half a record"));
        }
        return Ok(0);
    }
    let line = |record: &Record| {
        if arguments.json {
            ui::json_line(&record.line)
        } else {
            ui::line(&one_line(&told(record)))
        }
    };
    if !arguments.follow {
        for record in desk.store.records(&id).map_err(of_store)? {
            line(&record.map_err(of_store)?).map_err(unprinted)?;
        }
        return Ok(0);
    }
    let mut commands = Commands::default();
    for seen in desk.store.follow(&id).map_err(of_store)? {
        match seen.map_err(of_store)? {
            Seen::Record(record) => {
                commands.rest(&record.event)?;
                line(&record)
            }
            // The record has it when the command has ended.
            Seen::Printed { .. } if arguments.json => Ok(()),
            Seen::Printed { id, bytes } => commands.print(&id, &bytes),
        }
        .map_err(unprinted)?;
    }
    commands.end_line().map_err(unprinted)?;
    Ok(0)
}

/// What commands print while they are followed, set in under the lines of the record.
#[derive(Debug, Default)]
struct Commands {
    running: HashMap<String, Printed>,
    /// Whether the last that was written has not ended its line.
    is_open: bool,
}

impl Commands {
    fn print(&mut self, id: &str, bytes: &[u8]) -> io::Result<()> {
        let text = self.running.entry(id.to_owned()).or_default().add(bytes);
        self.write(&text)
    }

    /// Before a record: what is left of the command that it ends, and the end of the line.
    fn rest(&mut self, event: &Event) -> Result<(), Failure> {
        if let Event::CommandFinished(finished) = event
            && let Some(mut printed) = self.running.remove(&finished.id)
        {
            self.write(&printed.finish()).map_err(unprinted)?;
        }
        self.end_line().map_err(unprinted)
    }

    fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) { ui::whole(b"\n") } else { Ok(()) }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut lines = String::new();
        for line in text.split_inclusive('\n') {
            if !self.is_open {
                lines.push_str("          ");
            }
            lines.push_str(line);
            self.is_open = !line.ends_with('\n');
        }
        ui::whole(lines.as_bytes())
    }
}

/// A record in one line, for a person.
fn told(record: &Record) -> String {
    let time = record.time.get(11..19).unwrap_or(&record.time);
    format!("{time}  {}", event(&record.event))
}

fn event(event: &Event) -> String {
    match event {
        Event::ThreadStarted(started) => {
            let walls = started.enforcement.join(", ");
            format!(
                "started in {} ({}, {}; {walls})",
                started.workspace, started.mode, started.policy
            )
        }
        Event::ThreadResumed(resumed) => format!("resumed, was {}", resumed.from.as_str()),
        Event::Policy(policy) => format!(
            "policy: {} writable, {} protected, {} hidden paths",
            policy.writable.len(),
            policy.protected.len(),
            policy.hidden.len()
        ),
        Event::Phase(phase) => {
            let seconds = phase.seconds.map(|seconds| format!(", {seconds:.1} s"));
            let state = format!("{:?}", phase.state).to_lowercase();
            format!("phase {} {state}{}", phase.name, seconds.unwrap_or_default())
        }
        Event::Message(message) => {
            let role = if message.role == Role::User { "user" } else { "agent" };
            format!("{role}: {}", message.text)
        }
        Event::CommandStarted(command) => started(command),
        Event::CommandFinished(command) => format!("[{}] exit {}", command.id, command.exit),
        Event::Edit(edit) => {
            let kind = format!("{:?}", edit.kind).to_lowercase();
            format!("{kind} {}", edit.path.to_path().display())
        }
        Event::Slip { why } => format!("not carried out: {why}"),
        Event::Question(question) => format!("question: {}", question.effect),
        Event::Answer(answer) => answered(answer),
        Event::Used(used) => went_on(used),
        Event::Denial(denial) => {
            format!("denied: {} {} ({})", denial.op, denial.target, denial.decided_by)
        }
        Event::Held(held) => {
            format!("held back: {} ({})", held.path.to_path().display(), held.why)
        }
        Event::ConnectionOpened(opened) => began(opened),
        Event::Connection(connection) => connected(connection),
        Event::Usage(usage) => {
            format!("tokens: {} read, {} written", usage.input_tokens, usage.output_tokens)
        }
        Event::Note { text } => format!("note: {text}"),
        Event::Check(check) => format!("check {}: exit {}", check.name, check.exit),
        Event::Changes(changes) => format!("{} changed", files(changes.files)),
        Event::Applied(applied) => {
            format!("applied {}, left {}", files(applied.applied.len() as u64), applied.left.len())
        }
        Event::Cloned(cloned) => {
            let of = cloned.branch.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            format!("works on commit {}{of}", cloned.commit)
        }
        Event::Branched(made) => format!("branch {} at {}", made.branch, made.commit),
        Event::Proposed(pull) => format!("pull request {} for {}", pull.url, pull.branch),
        Event::Discarded(dropped) => format!("changes of {} dropped", files(dropped.files)),
        Event::Recovered(torn) => format!("{} torn bytes put aside in {}", torn.bytes, torn.kept),
        Event::ThreadFinished(end) => {
            format!("{}, exit {}: {}", end.state.as_str(), end.exit, end.summary)
        }
        // Of a later version.
        Event::Unknown | _ => {
            "something that this version does not know; `--json` shows it".to_owned()
        }
    }
}

fn answered(Answer { answer, by, prefix, word, .. }: &Answer) -> String {
    let meant = prefix.as_ref().map(|words| format!(" for `{}`", words.join(" ")));
    let word = word.as_ref().filter(|word| !word.is_empty());
    let word = word.map(|word| format!(": {word}")).unwrap_or_default();
    format!("answer: {answer}{}, by {by}{word}", meant.unwrap_or_default())
}

fn began(ConnectionOpened { id, host, port, command, .. }: &ConnectionOpened) -> String {
    let by = command.as_ref().map(|command| format!(" by {command}")).unwrap_or_default();
    format!("connection {id} to {host}:{port}{by} begins")
}

fn connected(connection: &Connection) -> String {
    let id = connection.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    let by = connection.command.as_ref().map(|command| format!(" by {command}"));
    let (by, decision) = (by.unwrap_or_default(), word(connection.decision));
    format!("connection{id} to {}{by}: {decision}", connection.place())
}

fn went_on(Used { grant, action, calls }: &Used) -> String {
    let all = || format!("{} calls in all", calls.unwrap_or_default());
    format!("went on: {}, as {grant} was allowed", action.clone().unwrap_or_else(all))
}

fn started(command: &CommandStarted) -> String {
    let line = command.line.clone();
    let line = line.or_else(|| command.argv.as_ref().map(|words| words.join(" ")));
    let rule = command.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let decision = word(command.decision);
    format!("[{}] {decision}{rule}: {}", command.id, line.unwrap_or_default())
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Ask => "ask",
        Decision::Deny => "deny",
    }
}
