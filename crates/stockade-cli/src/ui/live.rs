//! A thread at work, before the eyes of those who watch.
//!
//! What the agent says is the output; what it does is talk, on standard error. Everything that
//! comes from a model or a command is escaped: neither may draw on the user's terminal.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stockade_agents::Stop;
use stockade_sandbox::Modes;
use stockade_threads::record::{CommandStarted, Decision, Event, Message, Phase, PhaseState, Role};
use stockade_threads::{Live, Watch};

use super::patch::{BOLD, DIM, PLAIN, Part, RED};
use super::printed::Printed;
use super::status::Status;
use super::wrap::Wrap;
use super::{columns, columns_of, printable};
use crate::ui;

/// Lines of a change that are shown; the rest is counted.
const CHANGE_MAX: usize = 40;

/// One JSON object a line, as the record has it.
#[derive(Debug)]
pub(crate) struct Json {
    stop: Stop,
}

impl Json {
    /// Stops the thread by `stop` when nobody reads any more.
    pub(crate) fn new(stop: Stop) -> Self {
        Self { stop }
    }
}

impl Watch for Json {
    fn see(&mut self, live: &Live<'_>) {
        if let Live::Event(_, line) = live
            && writeln!(std::io::stdout().lock(), "{line}").is_err()
        {
            self.stop.request();
        }
    }
}

/// One who watches, and a file that gets the lines of the record as well.
pub(crate) struct Copied<'a> {
    watch: Box<dyn Watch + 'a>,
    /// `None` after a write that failed, which was said.
    file: Option<File>,
}

impl<'a> Copied<'a> {
    /// What `watch` sees goes to `file` too.
    pub(crate) fn new(watch: Box<dyn Watch + 'a>, file: File) -> Self {
        Self { watch, file: Some(file) }
    }
}

impl Watch for Copied<'_> {
    fn see(&mut self, live: &Live<'_>) {
        if let (Live::Event(_, line), Some(file)) = (live, &mut self.file)
            && let Err(error) = writeln!(file, "{line}")
        {
            ui::say("warning", &format!("--json-file: nothing more is written: {error}"));
            self.file = None;
        }
        self.watch.see(live);
    }
}

/// Text for a person.
#[derive(Debug)]
pub(crate) struct Text {
    is_coloured: bool,
    is_quiet: bool,
    /// Whether the last that was written ended its line.
    is_fresh: bool,
    spoken: Pieces,
    said: Wrap,
    printed: Printed,
    status: Arc<Status>,
    /// What a command has set of the terminal that it was lent.
    lent: Option<Modes>,
}

impl Text {
    /// `is_quiet` leaves out what the agent does; `is_plain` colours, `is_dumb` what takes a line
    /// back.
    pub(crate) fn new(is_quiet: bool, is_plain: bool, is_dumb: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self {
            is_coloured: !is_plain && !is_dumb && is_terminal,
            is_quiet,
            is_fresh: true,
            spoken: Pieces::default(),
            said: Wrap::default(),
            printed: Printed::default(),
            status: Arc::new(Status::new(is_terminal && !is_quiet && !is_dumb)),
            lent: None,
        }
    }

    /// What the task may use up, which is shown beside what it has: tokens, and time in all.
    pub(crate) fn within(self, tokens: Option<u64>, time: Option<Duration>) -> Self {
        self.status.within(tokens, time);
        self
    }

    /// The terminal cuts lines when it becomes narrower, and breaks none.
    pub(crate) fn cut(self, cuts: bool) -> Self {
        if cuts {
            self.status.cuts();
        }
        self
    }

    /// What is waited for, for who asks the user in between.
    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Writes what the agent says.
    fn speak(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        write_out(text.as_bytes());
        self.set_fresh(text.ends_with('\n'));
    }

    /// Writes the rest of what the agent said, which has its end or is broken off.
    fn end_speech(&mut self) {
        let rest = self.spoken.finish();
        let rest = self.said.add(&rest, columns()) + &self.said.finish(columns());
        self.speak(&rest);
        self.end_line();
    }

    fn end_line(&mut self) {
        if !self.is_fresh {
            self.speak("\n");
        }
    }

    fn set_fresh(&mut self, is_fresh: bool) {
        self.is_fresh = is_fresh;
        self.status.set_open(!is_fresh);
    }

    /// Writes whole lines about what the agent does.
    fn tell(&mut self, text: &str, colour: &str) {
        if self.is_quiet {
            return;
        }
        self.end_line();
        let (on, off) = if self.is_coloured { (colour, PLAIN) } else { ("", "") };
        let mut error = std::io::stderr().lock();
        for line in text.lines() {
            writeln!(error, "{on}{line}{off}").ok();
        }
    }

    /// The same of a sentence, which is broken between its words.
    fn remark(&mut self, text: &str, colour: &str) {
        let width = columns_of(&std::io::stderr());
        let mut wrap = Wrap::default();
        let text = wrap.add(&printable(text), width) + &wrap.finish(width);
        self.tell(&text, colour);
    }

    fn event(&mut self, event: &Event) {
        if let Event::Message(Message { role: Role::User, .. }) = event {
            // What was broken off belongs to the turn before, and a key has ended its line.
            (self.spoken, self.said, self.is_fresh) = (Pieces::default(), Wrap::default(), true);
            self.status.begin();
        } else if let Event::Message(_) = event {
            self.end_speech();
        }
        if let Event::Usage(usage) = event {
            self.status.used(usage.input_tokens, usage.output_tokens);
        }
        if let Event::CommandStarted(started) = event {
            self.command(started);
        }
        if let Event::Phase(phase) = event {
            self.phase(phase);
        }
        if let Event::Slip { why } = event {
            let text = format!("stockade: a call of the model's was not carried out: {why}");
            self.remark(&text, DIM);
        }
        if let Event::CommandFinished(finished) = event {
            if let Some(modes) = self.lent.take() {
                // One that was killed has left them as they were.
                write_out(modes.suspended().as_bytes());
            }
            let rest = self.printed.finish();
            self.output(&rest);
            self.output(if self.is_fresh { "" } else { "\n" });
            if finished.exit != 0 {
                let limit = if finished.timed_out { ": ended at its time limit" } else { "" };
                self.tell(&format!("[exit status {}{limit}]", finished.exit), DIM);
            }
        }
    }

    /// The time of each phase, and on a terminal also that it began. The agent's own begins with
    /// what it does.
    fn phase(&mut self, phase: &Phase) {
        let name = printable(&phase.name);
        let took = phase.seconds.map_or_else(String::new, |seconds| format!(" {seconds:.1} s"));
        match phase.state {
            PhaseState::Started if !std::io::stderr().is_terminal() || name == "agent" => {}
            PhaseState::Started => self.tell(&format!("{name} …"), DIM),
            PhaseState::Finished => self.tell(&format!("{name}{took}"), DIM),
            PhaseState::Failed => self.tell(&format!("{name} failed{took}"), DIM),
            PhaseState::Skipped => {}
        }
    }

    fn command(&mut self, started: &CommandStarted) {
        let words = started.argv.as_ref().map(|argv| argv.join(" "));
        let line = printable(started.line.as_deref().or(words.as_deref()).unwrap_or_default());
        let line = line.trim_end().replace('\n', "\n  ");
        match started.decision {
            Decision::Allow => self.tell(&format!("$ {line}"), BOLD),
            Decision::Ask => self.tell(&format!("$ {line}    (you said yes)"), BOLD),
            Decision::Deny => self.tell(&format!("$ {line}    (not run)"), BOLD),
        }
    }

    fn output(&mut self, text: &str) {
        if self.is_quiet || text.is_empty() {
            return;
        }
        let mut error = std::io::stderr().lock();
        drop((error.write_all(text.as_bytes()), error.flush()));
        drop(error);
        self.set_fresh(text.ends_with('\n'));
    }

    /// What a command with the terminal writes to it.
    fn draw(&mut self, bytes: &[u8]) {
        self.lent.get_or_insert_default().see(bytes);
        write_out(bytes);
        self.set_fresh(bytes.last().map_or(self.is_fresh, |last| *last == b'\n'));
    }

    fn change(&mut self, path: &Path, before: Option<&[u8]>, after: Option<&[u8]>) {
        let verb = match (before, after) {
            (_, None) => "deleted",
            (None, Some(_)) => "created",
            (Some(_), Some(_)) => "changed",
        };
        self.tell(&printable(&format!("{verb} {}", path.display())), BOLD);
        let text = |bytes: Option<&[u8]>| {
            std::str::from_utf8(bytes.unwrap_or_default()).ok().map(str::to_owned)
        };
        let (Some(before), Some(after)) = (text(before), text(after)) else {
            return self.tell("  (not text)", DIM);
        };
        let diff = similar::TextDiff::from_lines(&before, &after);
        let diff = diff.unified_diff().context_radius(1).to_string();
        let lines: Vec<&str> = diff.lines().collect();
        let mut part = Part::Hunk;
        for line in lines.iter().take(CHANGE_MAX) {
            let colour = part.colour(line.as_bytes());
            self.tell(&format!("  {}", printable(line)), colour);
        }
        if let Some(more) = lines.len().checked_sub(CHANGE_MAX).filter(|more| *more > 0) {
            self.tell(&format!("  … {more} more lines"), DIM);
        }
    }
}

/// Writes to standard output at once.
fn write_out(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    // Who closed it does not want to read it.
    drop((output.write_all(bytes), output.flush()));
}

impl Watch for Text {
    fn see(&mut self, live: &Live<'_>) {
        self.status.hide();
        self.show(live);
        // Not while a question is open, and not behind what has no end yet.
        let is_asked =
            matches!(live, Live::Event(Event::Question(_) | Event::ThreadFinished(_), _));
        if self.is_fresh && !is_asked && self.lent.is_none() {
            self.status.allow();
        }
    }
}

impl Text {
    fn show(&mut self, live: &Live<'_>) {
        match live {
            Live::Asking { turn, max_turns } => self.status.asking(*turn, *max_turns),
            Live::Event(event, _) => self.event(event),
            Live::Text(text) => {
                let text = self.spoken.add(text.as_bytes());
                let text = self.said.add(&text, columns());
                self.speak(&text);
            }
            Live::Output(bytes) => {
                let text = self.printed.add(bytes);
                self.output(&text);
            }
            // Of a command that is the whole task: data, as it came.
            Live::Answer(bytes) => drop(ui::bytes(bytes)),
            Live::Screen(bytes) => self.draw(bytes),
            Live::Note(text) => self.remark(&format!("stockade: {text}"), DIM),
            Live::Plan(text) => {
                for line in text.lines() {
                    self.tell(&printable(&format!("  {line}")), DIM);
                }
            }
            Live::Change { path, before, after } => self.change(path, *before, *after),
            Live::Refused(words) => self.remark(words, RED),
            Live::Step(text) => self.remark(text, DIM),
            Live::Retrying { why, after } => {
                self.end_speech();
                let after = after.as_secs_f64();
                self.remark(&format!("{why}; again in {after:.1} s"), DIM);
            }
        }
    }
}

/// Text that comes in pieces, which may end in the middle of a character.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    rest: Vec<u8>,
}

impl Pieces {
    /// What can be shown of all so far, escaped.
    pub(super) fn add(&mut self, bytes: &[u8]) -> String {
        self.rest.extend(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            // The start of a character whose end is still to come.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => self.rest.len(),
        };
        let ready: Vec<u8> = self.rest.drain(..whole).collect();
        shown(&ready)
    }

    pub(super) fn finish(&mut self) -> String {
        shown(&std::mem::take(&mut self.rest))
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    // A tab moves to the right and nothing else.
    text.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_characters_are_put_together_and_controls_are_not_passed_on() {
        let mut pieces = Pieces::default();
        let text = "a\té\u{1b}[2J€\r\n\u{202e}".as_bytes();
        let mut seen = String::new();
        for byte in text {
            seen.push_str(&pieces.add(&[*byte]));
        }
        seen.push_str(&pieces.finish());
        assert_eq!(seen.replace("\\u{d}", ""), "a\té\\u{1b}[2J€\n\\u{202e}");
        assert_eq!(
            pieces.add(b"\xff\xfex\xe2\x82") + &pieces.finish(),
            "\u{fffd}\u{fffd}x\u{fffd}"
        );
    }
}
