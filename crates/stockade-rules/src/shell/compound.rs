//! Compound commands: what their reserved words open, divide and close.

use super::parse::{After, Doubt, Frame, ListKind, Parser, State};
use super::word::Ended;

/// `for NAME in WORDS` up to its `do`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Name,
    /// `in`, `do`, `;` or a line break may follow.
    Named,
    Words,
    /// `do` must follow.
    Listed,
}

/// `case WORD in` and its patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Word,
    In,
    /// A pattern, `(` or `esac` may follow.
    Branch,
    /// A pattern must follow.
    Pattern,
    /// `|` or `)` must follow.
    Matched,
}

/// Operators of `[[ … ]]` that evaluate what variables hold, or change how words are read.
const EVALUATING: &[&str] = &["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R", "=~"];

impl Parser<'_> {
    /// Acts on the first word of a command if it is reserved.
    pub(super) fn reserved(&mut self, ended: &Ended, after: After) -> Result<bool, Doubt> {
        let Some(word) = ended.plain.as_deref() else { return Ok(false) };
        let opens = match word {
            "if" => Some(ListKind::IfCondition),
            "while" | "until" => Some(ListKind::LoopCondition),
            "{" => Some(ListKind::Group),
            _ => None,
        };
        if let Some(kind) = opens {
            self.list()?.state = State::Compound;
            self.push_list(kind)?;
            return Ok(true);
        }
        let frame = match word {
            "for" => Frame::For(For::Name),
            "select" => {
                self.only_bash()?;
                Frame::For(For::Name)
            }
            "case" => Frame::Case(Case::Word),
            "[[" => {
                self.only_bash()?;
                Frame::Condition
            }
            "!" => {
                self.list()?.state = State::Start(After::Operator);
                return Ok(true);
            }
            "time" => return self.time(after),
            "coproc" => {
                self.only_bash()?;
                self.opaque(ended.start, "a coprocess may have a name");
                self.list()?.state = State::Start(After::Operator);
                return Ok(true);
            }
            "function" => {
                self.only_bash()?;
                self.list()?.names_function = true;
                return Ok(true);
            }
            "then" | "elif" | "else" | "fi" | "do" | "done" | "esac" | "}" => {
                let may_close =
                    after == After::Separator || (after, word) == (After::Nothing, "esac");
                return if may_close && self.closes(word) {
                    Ok(true)
                } else {
                    Err("an unexpected word")
                };
            }
            _ => return Ok(false),
        };
        self.list()?.state = State::Compound;
        self.push(frame)?;
        Ok(true)
    }

    /// bash times a pipeline; another `sh` runs a program of that name.
    fn time(&mut self, after: After) -> Result<bool, Doubt> {
        self.only_bash()?;
        // `a | time b` runs the program there as well.
        if after == After::Operator {
            return Err("`time` is reserved at the start of a pipeline only");
        }
        self.cursor.skip_blanks();
        if self.cursor.peek() == Some('-') {
            return Err("`time` has options");
        }
        self.list()?.state = State::Start(After::Operator);
        Ok(true)
    }

    /// Acts on a reserved word that divides or closes the list on top; `false` if it does not.
    pub(super) fn closes(&mut self, word: &str) -> bool {
        let Some(Frame::List(list)) = self.stack.last_mut() else { return false };
        let next = match (list.kind, word) {
            (ListKind::IfCondition, "then") => Some(ListKind::IfBody),
            (ListKind::IfBody, "elif") => Some(ListKind::IfCondition),
            (ListKind::IfBody, "else") => Some(ListKind::ElseBody),
            (ListKind::LoopCondition, "do") => Some(ListKind::LoopBody),
            (ListKind::IfBody | ListKind::ElseBody, "fi")
            | (ListKind::LoopBody, "done")
            | (ListKind::Group, "}")
            | (ListKind::CaseBody, "esac") => None,
            _ => return false,
        };
        if let Some(kind) = next {
            list.kind = kind;
            list.state = State::Start(After::Nothing);
            return true;
        }
        let is_case = list.kind == ListKind::CaseBody;
        self.stack.pop();
        if is_case {
            self.stack.pop();
        }
        true
    }

    pub(super) fn for_step(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        let Some(Frame::For(state)) = self.stack.last_mut() else { return Err("no `for`") };
        match self.cursor.peek() {
            Some('#') => {
                self.cursor.skip_comment();
                Ok(())
            }
            Some('\n') => {
                match state {
                    For::Name => return Err("`for` has no name"),
                    For::Words => *state = For::Listed,
                    For::Named | For::Listed => {}
                }
                self.line_break()
            }
            Some(';') => {
                if !matches!(state, For::Named | For::Words) {
                    return Err("an unexpected `;`");
                }
                *state = For::Listed;
                self.cursor.take();
                Ok(())
            }
            Some('<' | '>') if self.cursor.second_is('(') => self.start_word(),
            None | Some('&' | '|' | '(' | ')' | '<' | '>') => Err("`for` is not understood"),
            Some(_) => self.start_word(),
        }
    }

    pub(super) fn word_of_for(&mut self, ended: &Ended) -> Result<(), Doubt> {
        let Some(Frame::For(state)) = self.stack.last_mut() else { return Err("no `for`") };
        let plain = ended.plain.as_deref();
        match (*state, plain) {
            (For::Name, Some(name)) if super::lex::is_name(name) => {
                *state = For::Named;
                self.assign(name);
                Ok(())
            }
            (For::Named, Some("in")) => {
                *state = For::Words;
                Ok(())
            }
            (For::Named | For::Listed, Some("do")) => {
                self.stack.pop();
                self.push_list(ListKind::LoopBody)
            }
            (For::Words, _) => Ok(()),
            (For::Name | For::Named | For::Listed, _) => Err("`for` is not understood"),
        }
    }

    pub(super) fn case_step(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        let Some(Frame::Case(state)) = self.stack.last_mut() else { return Err("no `case`") };
        match (self.cursor.peek(), *state) {
            (Some('#'), _) => {
                self.cursor.skip_comment();
                Ok(())
            }
            (Some('\n'), Case::In | Case::Branch) => self.line_break(),
            (Some('('), Case::Branch) | (Some('|'), Case::Matched) => {
                *state = Case::Pattern;
                self.cursor.take();
                Ok(())
            }
            (Some(')'), Case::Matched) => {
                *state = Case::Branch;
                self.cursor.take();
                self.push_list(ListKind::CaseBody)
            }
            (None | Some('\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>'), _)
            | (_, Case::Matched) => Err("`case` is not understood"),
            (Some(_), _) => self.start_word(),
        }
    }

    pub(super) fn word_of_case(&mut self, ended: &Ended) -> Result<(), Doubt> {
        let Some(Frame::Case(state)) = self.stack.last_mut() else { return Err("no `case`") };
        *state = match (*state, ended.plain.as_deref()) {
            (Case::Word, _) => Case::In,
            (Case::In, Some("in")) => Case::Branch,
            (Case::Branch, Some("esac")) => {
                self.stack.pop();
                return Ok(());
            }
            (Case::In | Case::Matched, _) | (Case::Pattern, Some("esac")) => {
                return Err("`case` is not understood");
            }
            (Case::Branch | Case::Pattern, _) => Case::Matched,
        };
        Ok(())
    }

    pub(super) fn array_step(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        match self.cursor.peek() {
            Some('#') => {
                self.cursor.skip_comment();
                Ok(())
            }
            Some('\n') => self.line_break(),
            Some(')') => {
                self.cursor.take();
                self.stack.pop();
                match self.cursor.peek() {
                    None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | ')') => Ok(()),
                    Some(_) => Err("an array is not understood"),
                }
            }
            None | Some(';' | '&' | '|' | '(' | '<' | '>') => Err("an array is not understood"),
            Some(_) => self.start_word(),
        }
    }

    pub(super) fn condition_step(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        let next = self.cursor.peek();
        match next {
            Some('\n') => self.line_break(),
            Some('&' | '|') => {
                self.cursor.take();
                if self.cursor.peek() != next {
                    return Err("a condition is not understood");
                }
                self.cursor.take();
                Ok(())
            }
            Some('<' | '>') if self.cursor.second_is('(') => Err("a condition is not understood"),
            Some('(' | ')' | '<' | '>') => {
                self.cursor.take();
                Ok(())
            }
            None | Some(';' | '#') => Err("a condition is not understood"),
            Some(_) => self.start_word(),
        }
    }

    pub(super) fn word_of_condition(&mut self, ended: &Ended) -> Result<(), Doubt> {
        match ended.plain.as_deref() {
            Some("]]") => {
                self.stack.pop();
                Ok(())
            }
            Some(word) if EVALUATING.contains(&word) => {
                Err("a condition may run what variables hold")
            }
            _ => Ok(()),
        }
    }
}
