//! The text of a pull request. Words of the agent and of commands stand in code blocks, where a
//! forge neither notifies people, nor closes issues, nor shows markup.

use std::fmt::Write as _;

use stockade_policy::acts_on_terminals;

use crate::flags::{Flag, Weight};
use crate::quote::quoted;
use crate::record::{Check, Decision, Event, Role};

/// What is shown of the agent's last words, in characters; forges take 65,536 in all.
const WORDS_MAX: usize = 8_000;
/// Lines of one list.
const LINES_MAX: usize = 50;
/// What is shown of one line, in characters.
const LINE_MAX: usize = 300;

/// What is told of a thread.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the agent said last.
    pub words: String,
    /// Checks and how they ended.
    pub checks: Vec<Check>,
    /// What was refused: to commands, and to connections.
    pub blocked: Vec<String>,
}

impl Report {
    /// Takes in what happened next.
    pub fn add(&mut self, event: &Event) {
        if let Event::Message(message) = event
            && message.role == Role::Assistant
        {
            self.words.clone_from(&message.text);
        }
        if let Event::ThreadResumed(_) = event {
            // They were of the result before.
            self.checks.clear();
        }
        if let Event::Check(check) = event {
            self.checks.push(check.clone());
        }
        if let Event::Denial(denial) = event {
            let by = &denial.decided_by;
            self.blocked.push(format!("{} {} ({by})", denial.op, denial.target));
        }
        if let Event::Connection(connection) = event
            && connection.decision == Decision::Deny
        {
            self.blocked.push(format!("connect {}", connection.place()));
        }
    }
}

/// The text for what `report` says, with what in the result deserves a look.
pub fn body(report: &Report, flags: &[Flag], thread: &str) -> String {
    let mut text = String::new();
    let words: String = report.words.trim().chars().take(WORDS_MAX).collect();
    if !words.is_empty() {
        text.push_str("The agent says:\n\n");
        block(&mut text, words.lines());
    }
    if !report.checks.is_empty() {
        text.push_str("Checks:\n\n");
        let check = |check: &Check| {
            let end =
                if check.exit == 0 { "ok".to_owned() } else { format!("exit {}", check.exit) };
            format!("{end:<8} {:>7.1} s  {}", check.seconds, check.name)
        };
        block(&mut text, report.checks.iter().map(check));
    }
    if !report.blocked.is_empty() {
        text.push_str("Refused while it worked:\n\n");
        block(&mut text, report.blocked.iter());
    }
    let held: Vec<String> = flags
        .iter()
        .filter(|flag| flag.weight == Weight::Hold)
        .map(|flag| {
            let path = quoted(flag.path.to_path().as_os_str().as_encoded_bytes());
            format!("{path}: {}", flag.flag.as_str())
        })
        .collect();
    if !held.is_empty() {
        text.push_str("Look at these first, they run or are trusted later:\n\n");
        block(&mut text, held.iter());
    }
    // A String cannot refuse to be written to.
    writeln!(text, "Made by an agent in a machine of its own; Stockade thread `{thread}`.").ok();
    text
}

/// A code block that its content cannot end.
fn block<L: AsRef<str>>(text: &mut String, lines: impl Iterator<Item = L>) {
    let plain = |line: L| -> String {
        let plain = line.as_ref().chars().filter(|c| !acts_on_terminals(*c));
        plain.take(LINE_MAX).collect()
    };
    let lines: Vec<String> = lines.map(plain).collect();
    let longest = lines.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    writeln!(text, "{fence}text").ok();
    for line in lines.iter().take(LINES_MAX) {
        writeln!(text, "{line}").ok();
    }
    if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        writeln!(text, "… {more} more lines").ok();
    }
    writeln!(text, "{fence}\n").ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Denial;

    #[test]
    fn hostile_words_stay_in_their_block() {
        let mut report = Report {
            words: "done\n````\n@everyone <img src=x> Fixes #1\u{1b}[2J".to_owned(),
            ..Report::default()
        };
        report.add(&Event::Denial(Denial::new("exec", "docker ps".as_ref(), "config.toml:17")));
        report.add(&Event::Check(Check { name: "make".to_owned(), exit: 2, seconds: 1.25 }));
        let text = body(&report, &[], "01abc");
        assert_eq!(
            text,
            "The agent says:\n\n`````text\ndone\n````\n@everyone <img src=x> Fixes #1[2J\n`````\n\n\
             Checks:\n\n```text\nexit 2       1.2 s  make\n```\n\n\
             Refused while it worked:\n\n```text\nexec docker ps (config.toml:17)\n```\n\n\
             Made by an agent in a machine of its own; Stockade thread `01abc`.\n"
        );
    }
}
