//! Simple commands: their words and what they assign.

use super::parse::{Dialect, Doubt, Found, Frame, Parser, State};
use super::script::{Assignment, Word};
use super::word::{Assigned, Ended};

/// A simple command as far as it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) words: Vec<Word>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) has_redirection: bool,
    /// It is run whenever the list before it was.
    pub(super) is_passed: bool,
    /// Names that are set to numbers, and whether all are written out.
    pub(super) numbers: Vec<String>,
    pub(super) has_expansion: bool,
}

impl Parser<'_> {
    pub(super) fn emit(&mut self, draft: Draft, is_guess: bool) {
        self.doubt_what_is_set_by(&draft);
        let Draft { words, assignments, has_redirection, is_passed, .. } = draft;
        if let Some(names) = self.takes_let(&words).filter(|_| assignments.is_empty() && !is_guess)
        {
            return self.has_set(names, is_passed && !has_redirection, false);
        }
        if words.is_empty() {
            for assignment in &assignments {
                self.assign(&assignment.name);
            }
            self.has_set(draft.numbers, is_passed && !has_redirection, !draft.has_expansion);
        } else {
            self.read.found.push(Found::Command { words, assignments, is_guess });
        }
    }

    pub(super) fn word_of_simple(&mut self, ended: Ended) -> Result<(), Doubt> {
        let is_next_open = self.cursor.peek() == Some('(');
        let dialect = self.dialect;
        let written = ended.written.split_once('=').map_or("", |(_, value)| value);
        let State::Simple(draft) = &mut self.list()?.state else {
            return Err("a word stands where none can");
        };
        let Some(assignment) = ended.assignment.filter(|_| draft.words.is_empty()) else {
            draft.words.push(ended.word);
            return Ok(());
        };
        if assignment.adds && dialect == Dialect::Sh {
            return Err("shells read it differently");
        }
        let Assigned { name, value, adds } = assignment;
        let is_array = is_next_open && value.known() == Some("");
        draft.has_expansion |= value.known().is_none();
        draft.assignments.push(Assignment { name: name.clone(), value });
        let is_number = self.sets(&name, if is_array { "(" } else { written });
        if is_number
            && !adds
            && let State::Simple(draft) = &mut self.list()?.state
        {
            draft.numbers.push(name);
        }
        if is_array {
            self.only_bash()?;
            self.cursor.take();
            return self.push(Frame::Array);
        }
        Ok(())
    }
}
