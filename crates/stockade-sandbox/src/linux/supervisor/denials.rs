//! What was refused: told to the parent, and written where the programs inside can read it.
//!
//! Invariants: nobody waits for a reader; what is kept does not grow with what is asked.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use stockade_policy::{Denial, Operation};

use crate::linux::canary::CANARY;
use crate::linux::control::{End, Report};

/// As many different refusals as are told of one run.
const KINDS_MAX: usize = 1000;

/// Takes refusals down.
#[derive(Debug)]
pub(crate) struct Denials {
    /// The socket to the parent.
    channel: OwnedFd,
    /// The list inside, if the view has a place for it.
    list: Option<File>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    kinds: HashSet<(Operation, PathBuf)>,
    /// Those for which the socket had no room yet.
    untold: Vec<Denial>,
    /// Calls beyond the kinds that are kept.
    more: u64,
    /// Where Stockade tries the walls itself before the command: its first write there is its own.
    canary: Option<PathBuf>,
}

impl Denials {
    pub(crate) fn new(channel: OwnedFd, list: Option<File>, canary: Option<PathBuf>) -> Self {
        let known = Known { canary, ..Known::default() };
        Self { channel, list, known: Mutex::new(known) }
    }

    /// Whether programs inside have a list to read.
    pub(crate) fn has_list(&self) -> bool {
        self.list.is_some()
    }

    /// Whether it is of the write by which Stockade tries the walls itself.
    pub(super) fn is_canary(&self, denial: &Denial) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.canary.as_ref().is_some_and(|at| *at == denial.target)
    }

    /// Tells the parent something for the user, if that does not block.
    pub(super) fn say(&self, text: &str) {
        Report::Note(text.to_owned()).try_send(&self.channel).ok();
    }

    /// Takes one down. Never waits for the parent.
    pub(super) fn note(&self, denial: &Denial) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.canary.take_if(|at| is_canary(at, denial)).is_some() {
            return;
        }
        let kind = (denial.op, denial.target.clone());
        if known.kinds.contains(&kind) {
            return;
        }
        if known.kinds.len() >= KINDS_MAX {
            known.more = known.more.saturating_add(1);
            return;
        }
        known.kinds.insert(kind);
        if let Some(mut list) = self.list.as_ref() {
            // A full private /tmp has no room for it; the parent is told all the same.
            list.write_all(line(denial).as_bytes()).ok();
        }
        if Report::Denied(denial.clone()).try_send(&self.channel).is_err() {
            known.untold.push(denial.clone());
        }
    }

    /// Tells what is still to be told: the command has ended, and the parent reads.
    pub(crate) fn finish(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = std::mem::take(&mut known.untold).into_iter().map(Report::Denied);
        let more = (known.more > 0).then_some(Report::DeniedMore(known.more));
        for report in rest.chain(more) {
            // A parent that is gone needs no report.
            report.send(&self.channel, &[]).ok();
        }
    }

    /// Says that nothing more is told, where the parent hears of no other end.
    pub(crate) fn close(&self) {
        Report::Ended(End::Exited(0)).send(&self.channel, &[]).ok();
    }
}

/// A file without a name, or a folder where everybody can make one.
fn is_canary(at: &Path, denial: &Denial) -> bool {
    let is_folder = || {
        let name = denial.target.file_name().unwrap_or_default().to_string_lossy();
        denial.target.parent() == Some(at) && name.starts_with(CANARY)
    };
    (denial.op == Operation::Write && denial.target == at)
        || (denial.op == Operation::Create && is_folder())
}

/// One line of the list: a JSON object.
fn line(denial: &Denial) -> String {
    let alternatives: Vec<String> = denial.alternatives.iter().map(|text| quoted(text)).collect();
    format!(
        "{{\"op\":{},\"target\":{},\"decided_by\":{},\"alternatives\":[{}],\"message\":{}}}\n",
        quoted(denial.op.as_str()),
        quoted(&denial.target.to_string_lossy()),
        quoted(&denial.decided_by),
        alternatives.join(","),
        quoted(&denial.message()),
    )
}

/// A JSON string (RFC 8259, 7), with nothing in it that acts on a terminal.
fn quoted(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => result.extend(['\\', character]),
            // All of them are below U+FFFF.
            _ if character.is_control() => {
                write!(result, "\\u{:04x}", u32::from(character)).ok();
            }
            _ => result.push(character),
        }
    }
    result.push('"');
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::control;

    fn denial(target: &str) -> Denial {
        Denial {
            op: Operation::Write,
            target: target.into(),
            decided_by: "a \"name\"\n".to_owned(),
            alternatives: vec!["\\".to_owned()],
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_the_names() {
        assert_eq!(
            line(&denial("/a\u{1b}")),
            "{\"op\":\"write\",\"target\":\"/a\\u001b\",\"decided_by\":\"a \\\"name\\\"\\u000a\",\
             \"alternatives\":[\"\\\\\"],\"message\":\"refused: write of /a\\u001b: \
             a \\\"name\\\"\\u000a (\\\\); do not work around it\"}\n"
        );
    }

    #[test]
    fn a_flood_that_nobody_reads_neither_blocks_nor_grows() {
        let (near, far) = control::pair().unwrap();
        let denials = Denials::new(near, None, None);
        for number in 0..3000 {
            denials.note(&denial(&format!("/{number}")));
            denials.note(&denial("/0"));
        }
        assert!(!denials.known.lock().unwrap().untold.is_empty(), "the socket is full");
        let reader = std::thread::spawn(move || {
            let mut told = 0;
            loop {
                match Report::receive(&far).unwrap() {
                    Some((Report::Denied(_), _)) => told += 1,
                    Some((Report::DeniedMore(more), _)) => return (told, more),
                    other => panic!("{other:?}"),
                }
            }
        });
        denials.finish();
        assert_eq!(reader.join().unwrap(), (KINDS_MAX, 2000));
    }
}
