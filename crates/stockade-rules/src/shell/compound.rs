//! Compound commands: what their reserved words open, divide and close.

use super::parse::{After, Doubt, Frame, ListKind, Parser, State};
use super::word::Ended;

/// A `for` up to its `do`.
#[derive(Debug)]
pub(super) struct Loop {
    state: For,
    /// What its body can take for numbers, if `are_numbers`.
    names: Vec<String>,
    are_numbers: bool,
    /// `select`, which sets its name to nothing as well.
    is_select: bool,
}

/// `for NAME in WORDS`, or `for ((…))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Name,
    /// `in`, `do`, `;` or a line break may follow.
    Named,
    Words,
    /// `((…))` was read; `do`, `;` or a line break may follow.
    Counted,
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

/// What was last read of a `[[ … ]]`.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// A word that is a number.
    is_number: bool,
    /// An operator that compares numbers.
    compares: bool,
}

/// Operators of `[[ … ]]` that evaluate what is on both sides.
const COMPARING: &[&str] = &["-eq", "-ne", "-lt", "-le", "-gt", "-ge"];

/// Those that evaluate what variables hold, or change how words are read.
const EVALUATING: &[&str] = &["-v", "-R", "=~"];

impl Loop {
    fn new() -> Self {
        Self { state: For::Name, names: Vec::new(), are_numbers: false, is_select: false }
    }
}

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
            "for" => Frame::For(Loop::new()),
            "select" => {
                self.only_bash()?;
                Frame::For(Loop { is_select: true, ..Loop::new() })
            }
            "case" => Frame::Case(Case::Word),
            "[[" => {
                self.only_bash()?;
                Frame::Condition(Condition::default())
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
            if list.kind == ListKind::IfBody {
                list.scope.numbers.clear();
                list.scope.setting.clear();
            }
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
        let Some(Frame::For(Loop { state, is_select, .. })) = self.stack.last_mut() else {
            return Err("no `for`");
        };
        match self.cursor.peek() {
            Some('(') if *state == For::Name && !*is_select => self.counting(),
            Some('#') => {
                self.cursor.skip_comment();
                Ok(())
            }
            Some('\n') => {
                match state {
                    For::Name => return Err("`for` has no name"),
                    For::Words => *state = For::Listed,
                    For::Named | For::Counted | For::Listed => {}
                }
                self.line_break()
            }
            Some(';') => {
                if !matches!(state, For::Named | For::Words | For::Counted) {
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
        let is_word = matches!(self.stack.last(), Some(Frame::For(it)) if it.state == For::Words);
        let is_number = is_word && self.are_numeric(&ended.written);
        let Some(Frame::For(it)) = self.stack.last_mut() else { return Err("no `for`") };
        let plain = ended.plain.as_deref();
        match (it.state, plain) {
            (For::Name, Some(name)) if super::lex::is_name(name) => {
                it.state = For::Named;
                it.names.push(name.to_owned());
                self.assign(name);
                Ok(())
            }
            (For::Named, Some("in")) => {
                it.state = For::Words;
                it.are_numbers = !it.is_select;
                Ok(())
            }
            (For::Named | For::Counted | For::Listed, Some("do")) => {
                let (names, are_numbers) = (std::mem::take(&mut it.names), it.are_numbers);
                self.stack.pop();
                self.enters_body(names, are_numbers)
            }
            (For::Words, _) => {
                it.are_numbers &= is_number;
                Ok(())
            }
            (For::Name | For::Named | For::Counted | For::Listed, _) => {
                Err("`for` is not understood")
            }
        }
    }

    fn enters_body(&mut self, names: Vec<String>, are_numbers: bool) -> Result<(), Doubt> {
        self.push_list(ListKind::LoopBody)?;
        if are_numbers {
            self.list()?.scope.numbers.extend(names.into_iter().map(|name| (name, true)));
        } else {
            for name in &names {
                self.numbers.doubt(name);
            }
        }
        Ok(())
    }

    /// `for ((…; …; …))`
    fn counting(&mut self) -> Result<(), Doubt> {
        self.only_bash()?;
        let names = self.takes_counting().ok_or("arithmetic may run what variables hold")?;
        let Some(Frame::For(it)) = self.stack.last_mut() else { return Err("no `for`") };
        *it = Loop { state: For::Counted, names, are_numbers: true, is_select: false };
        Ok(())
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
        if let Some('\n' | '&' | '|' | '(' | ')' | '<' | '>') = next {
            self.ends_operand()?;
        }
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
        const DOUBT: Doubt = "a condition may run what variables hold";
        let is_number = self.is_numeric(&ended.written);
        let Some(Frame::Condition(condition)) = self.stack.last_mut() else {
            return Err("no condition");
        };
        let before = std::mem::replace(condition, Condition { is_number, compares: false });
        if before.compares && !is_number {
            return Err(DOUBT);
        }
        match ended.plain.as_deref() {
            Some("]]") => {
                self.stack.pop();
                Ok(())
            }
            Some(word) if COMPARING.contains(&word) && before.is_number && !before.compares => {
                condition.compares = true;
                Ok(())
            }
            Some(word) if COMPARING.contains(&word) || EVALUATING.contains(&word) => Err(DOUBT),
            _ => Ok(()),
        }
    }

    /// A part of a condition ends.
    fn ends_operand(&mut self) -> Result<(), Doubt> {
        let Some(Frame::Condition(condition)) = self.stack.last_mut() else {
            return Err("no condition");
        };
        let before = std::mem::take(condition);
        if before.compares { Err("a condition is not understood") } else { Ok(()) }
    }
}
