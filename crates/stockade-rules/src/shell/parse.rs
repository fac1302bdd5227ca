//! The grammar: lists, pipelines, compound commands, redirections, here-documents.
//!
//! One text is read from left to right over an explicit stack of [`Frame`]s, so that nesting
//! costs memory, never the stack of the process. A word that holds `$(…)` is a frame below the
//! list of commands inside it. What the grammar does not have, or what shells read differently,
//! is a [`Doubt`]: the text is then broken, and whatever else is found in it is a hint for rules
//! that ask or deny, no more.
//!
//! Source: bash(1) and its parse.y 5.2; POSIX.1-2024, Shell Command Language.

use super::arithmetic::{Numbers, Scope};
use super::compound::{Case, Condition, Loop};
use super::lex::Cursor;
use super::redirect::{Awaited, Redirection};
use super::script::{Assignment, Word};
use super::simple::Draft;
use super::variables::is_own;
use super::word::{Ended, Reading};

/// Frames on the stack: 200 levels of nesting, each a word, an expansion and a list, fit.
const FRAMES_MAX: usize = 800;

/// Which shell reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// bash.
    Bash,
    /// `sh`, which may be dash, bash or another: what they read differently is a doubt.
    Sh,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Commands.
    Commands,
    /// The body of a here-document, in which only expansions count.
    Body,
}

/// Why something cannot be known.
pub(super) type Doubt = &'static str;

/// A here-document in a substitution that holds more.
const BESIDE_HERE_DOCUMENT: Doubt = "a here-document in a substitution has commands beside it";

/// What was found in one text.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// In order; what is inside a word comes before the command that has the word.
    pub(super) found: Vec<Found>,
    /// Texts inside it that are read by themselves.
    pub(super) nested: Vec<(String, Kind)>,
    /// A function was defined, or a variable set that changes what runs.
    pub(super) is_redefined: bool,
    /// It was not understood from some place on.
    pub(super) is_broken: bool,
}

#[derive(Debug)]
pub(super) enum Found {
    Command { words: Vec<Word>, assignments: Vec<Assignment>, is_guess: bool },
    Write(Word),
    Opaque { written: String, why: Doubt },
}

/// One level of what is being read.
#[derive(Debug)]
pub(super) enum Frame {
    List(List),
    Word(Reading),
    /// The rest of `${name…}`.
    Parameter,
    /// A here-document.
    Body,
    For(Loop),
    Case(Case),
    /// `name=(…)`.
    Array,
    /// `[[ … ]]`.
    Condition(Condition),
}

/// Commands up to whatever ends them.
#[derive(Debug)]
pub(super) struct List {
    pub(super) kind: ListKind,
    pub(super) state: State,
    /// A redirection that waits for its word.
    pub(super) redirection: Option<Redirection>,
    /// `function` was read, its name was not.
    pub(super) names_function: bool,
    /// It is a substitution, and one of its commands has a here-document. bash 5.2 keeps such
    /// a list as text that it writes itself, in which it leaves separators out: `b` and `c`
    /// are one command in `$(a <<E`, `E`, `b; c)`. One pipeline, then, and nothing else.
    pub(super) has_here_document: bool,
    /// Only because of an earlier doubt is this read as commands.
    is_guess: bool,
    pub(super) scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    Top,
    /// `( … )`
    Subshell,
    /// `$( … )`, `<( … )`
    Substitution,
    /// `{ … }`
    Group,
    IfCondition,
    IfBody,
    ElseBody,
    LoopCondition,
    LoopBody,
    CaseBody,
}

/// Where in a list the reader is.
#[derive(Debug)]
pub(super) enum State {
    /// A command may start. It must, after an operator.
    Start(After),
    /// In a simple command.
    Simple(Draft),
    /// After a compound command.
    Compound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Separator,
    Operator,
}

/// Reads `text` whole. Never fails; see [`Read::is_broken`].
pub(super) fn read(text: &str, dialect: Dialect, kind: Kind, are_unknown: bool) -> Read {
    let (read, is_doubtful) = parse(text, dialect, kind, Numbers::new(are_unknown));
    if is_doubtful { parse(text, dialect, kind, Numbers::new(true)).0 } else { read }
}

/// Reads `text`, and tells whether that took for a number what may be none.
fn parse(text: &str, dialect: Dialect, kind: Kind, numbers: Numbers) -> (Read, bool) {
    let mut parser = Parser::new(text, dialect, numbers);
    // Marks that bash itself puts into words, and the end of a C string.
    if text.contains(['\0', '\u{1}', '\u{7f}']) {
        parser.fail("it holds control characters");
    }
    parser.stack = match kind {
        Kind::Commands => vec![Frame::List(List::new(ListKind::Top, false))],
        Kind::Body => vec![Frame::Body],
    };
    while let Some(frame) = parser.stack.last() {
        let step = match frame {
            Frame::List(_) => parser.list_step(),
            Frame::Word(_) => parser.word_step(),
            Frame::Parameter => parser.parameter_step(),
            Frame::Body => parser.body_step(),
            Frame::For(_) => parser.for_step(),
            Frame::Case(_) => parser.case_step(),
            Frame::Array => parser.array_step(),
            Frame::Condition(_) => parser.condition_step(),
        };
        if let Err(why) = step {
            parser.fail(why);
        }
    }
    let Parser { read, numbers, .. } = parser;
    let is_doubtful = numbers.are_doubtful(&read);
    (read, is_doubtful)
}

pub(super) struct Parser<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) dialect: Dialect,
    pub(super) stack: Vec<Frame>,
    pub(super) read: Read,
    pub(super) awaited: Vec<Awaited>,
    /// Substitutions on the stack.
    pub(super) level: usize,
    pub(super) numbers: Numbers,
    /// Where the last doubt was; the next one is further on.
    failed_at: Option<usize>,
}

impl List {
    fn new(kind: ListKind, is_guess: bool) -> Self {
        let state = State::Start(After::Nothing);
        Self {
            kind,
            state,
            redirection: None,
            names_function: false,
            has_here_document: false,
            is_guess,
            scope: Scope::new(),
        }
    }
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, dialect: Dialect, numbers: Numbers) -> Self {
        Self {
            cursor: Cursor::new(text),
            dialect,
            stack: Vec::new(),
            read: Read::default(),
            awaited: Vec::new(),
            level: 0,
            numbers,
            failed_at: None,
        }
    }

    /// Gives the text up as known, and goes on behind the doubtful place to look for hints.
    fn fail(&mut self, why: Doubt) {
        if !self.read.is_broken {
            self.read.is_broken = true;
            self.opaque(self.cursor.at(), why);
        }
        for frame in std::mem::take(&mut self.stack) {
            if let Frame::List(List { state: State::Simple(draft), .. }) = frame {
                self.emit(draft, true);
            }
        }
        if self.failed_at == Some(self.cursor.at()) {
            self.cursor.take_raw();
        }
        self.failed_at = Some(self.cursor.at());
        self.awaited.clear();
        self.level = 0;
        self.stack.push(Frame::List(List::new(ListKind::Top, true)));
    }

    /// Notes a part that cannot be known without giving up the rest; it ends about here.
    pub(super) fn opaque(&mut self, start: usize, why: Doubt) {
        let mut ahead = self.cursor.clone();
        ahead.skip_comment();
        let written = ahead.since(start).chars().take(60).collect();
        self.read.found.push(Found::Opaque { written, why });
    }

    pub(super) fn push(&mut self, frame: Frame) -> Result<(), Doubt> {
        if self.stack.len() >= FRAMES_MAX {
            return Err("it is nested too deeply");
        }
        if let Some(Frame::List(list)) = self.stack.last()
            && list.has_here_document
            && !matches!(frame, Frame::Word(_) | Frame::Array)
        {
            return Err(BESIDE_HERE_DOCUMENT);
        }
        self.stack.push(frame);
        Ok(())
    }

    /// Starts to read commands inside what is being read.
    pub(super) fn push_list(&mut self, kind: ListKind) -> Result<(), Doubt> {
        let is_guess = self.is_guess();
        self.push(Frame::List(List::new(kind, is_guess)))?;
        self.level += usize::from(kind == ListKind::Substitution);
        Ok(())
    }

    pub(super) fn is_guess(&self) -> bool {
        let lists = self.stack.iter().rev();
        let list =
            lists.filter_map(|frame| if let Frame::List(list) = frame { Some(list) } else { None });
        list.map(|list| list.is_guess).next().unwrap_or(false)
    }

    /// The same for what is no list of commands, so that rules that ask or deny see into it.
    pub(super) fn push_guess(&mut self, kind: ListKind) -> Result<(), Doubt> {
        self.push_list(kind)?;
        self.list()?.is_guess = true;
        Ok(())
    }

    /// The list on top; every caller is a step of one.
    pub(super) fn list(&mut self) -> Result<&mut List, Doubt> {
        if let Some(Frame::List(list)) = self.stack.last_mut() {
            Ok(list)
        } else {
            Err("a word stands where none can")
        }
    }

    /// A construct that not every `sh` has.
    pub(super) fn only_bash(&self) -> Result<(), Doubt> {
        match self.dialect {
            Dialect::Bash => Ok(()),
            Dialect::Sh => Err("shells read it differently"),
        }
    }

    /// A variable is set for the rest of the script.
    pub(super) fn assign(&mut self, name: &str) {
        self.read.is_redefined |= !is_own(name);
        self.numbers.are_others |= name == "IFS";
    }

    fn list_step(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        let next = self.cursor.peek();
        let list = self.list()?;
        let is_waiting = list.redirection.is_some();
        let is_new = matches!(list.state, State::Start(After::Nothing | After::Separator));
        if list.has_here_document && is_new && !matches!(next, None | Some('\n' | '#' | ')')) {
            return Err(BESIDE_HERE_DOCUMENT);
        }
        match next {
            Some('<' | '>') if self.cursor.second_is('(') => self.start_word(),
            None | Some('\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>') if is_waiting => {
                Err("a redirection has no file")
            }
            None => self.end_of_text(),
            Some('\n') => {
                self.finish()?;
                let list = self.list()?;
                if list.names_function {
                    return Err("a function has no name");
                }
                list.ends_line();
                self.line_break()
            }
            Some('#') => {
                self.cursor.skip_comment();
                Ok(())
            }
            Some(';') => self.semicolon(),
            Some('&') => self.ampersand(),
            Some('|') => self.bar(),
            Some('(') => self.parenthesis(),
            Some(')') => self.closing_parenthesis(),
            Some('<' | '>') => self.redirection(),
            Some(_) => self.start_word(),
        }
    }

    pub(super) fn start_word(&mut self) -> Result<(), Doubt> {
        self.push(Frame::Word(Reading::new(self.cursor.at())))
    }

    /// Ends a command, if one is being read. What may follow is a separator's business.
    fn finish(&mut self) -> Result<(), Doubt> {
        let list = self.list()?;
        let is_guess = list.is_guess;
        match std::mem::replace(&mut list.state, State::Start(After::Separator)) {
            State::Simple(draft) => self.emit(draft, is_guess),
            State::Compound => {}
            State::Start(after) => {
                list.state = State::Start(after);
                return Ok(());
            }
        }
        self.list()?.ends_command();
        Ok(())
    }

    /// Ends the command before an operator or a `;`, which need one.
    fn finish_before(&mut self, after: After) -> Result<(), Doubt> {
        if matches!(self.list()?.state, State::Start(_)) {
            return Err("an operator has no command before it");
        }
        self.finish()?;
        let list = self.list()?;
        list.state = State::Start(after);
        if list.has_here_document && after == After::Separator {
            return Err(BESIDE_HERE_DOCUMENT);
        }
        Ok(())
    }

    fn end_of_text(&mut self) -> Result<(), Doubt> {
        self.finish()?;
        let list = self.list()?;
        let is_done = list.kind == ListKind::Top
            && !list.names_function
            && !matches!(list.state, State::Start(After::Operator));
        if !is_done {
            // Nothing is left to look at.
            self.fail("it ends too early");
            self.stack.clear();
        } else if self.awaited.is_empty() {
            self.stack.clear();
        } else {
            self.fail("a here-document has no end");
            self.stack.clear();
        }
        Ok(())
    }

    fn semicolon(&mut self) -> Result<(), Doubt> {
        self.cursor.take();
        let next = self.cursor.peek();
        if !matches!(next, Some(';' | '&')) {
            return self.finish_before(After::Separator);
        }
        if next == Some('&') {
            self.only_bash()?;
        }
        self.cursor.take();
        if next == Some(';') && self.cursor.takes('&') {
            self.only_bash()?;
        }
        self.finish()?;
        let list = self.list()?;
        if list.kind != ListKind::CaseBody || matches!(list.state, State::Start(After::Operator)) {
            return Err("`;;` stands outside of `case`");
        }
        self.stack.pop();
        Ok(())
    }

    fn ampersand(&mut self) -> Result<(), Doubt> {
        self.cursor.take();
        if self.cursor.takes('&') {
            return self.finish_before(After::Operator);
        }
        if self.cursor.takes('>') {
            self.only_bash()?;
            self.cursor.takes('>');
            return self.redirect(Redirection::Output);
        }
        self.list()?.scope.is_apart = true;
        self.finish_before(After::Separator)
    }

    fn bar(&mut self) -> Result<(), Doubt> {
        self.cursor.take();
        if !self.cursor.takes('|') {
            self.list()?.scope.is_apart = true;
            if self.cursor.takes('&') {
                self.only_bash()?;
            }
        }
        self.finish_before(After::Operator)
    }

    fn parenthesis(&mut self) -> Result<(), Doubt> {
        let start = self.cursor.at();
        if self.takes_command_of_numbers()? {
            return Ok(());
        }
        self.cursor.take();
        let list = self.list()?;
        match &list.state {
            State::Start(_) if !list.names_function => {
                list.state = State::Compound;
                if self.cursor.peek() == Some('(') {
                    self.opaque(start, "arithmetic may run what variables hold");
                    return self.push_guess(ListKind::Subshell);
                }
                self.push_list(ListKind::Subshell)
            }
            State::Simple(Draft { words, assignments, has_redirection: false, .. })
                if words.len() == 1 && assignments.is_empty() =>
            {
                list.state = State::Start(After::Operator);
                self.cursor.skip_blanks();
                self.read.is_redefined = true;
                if self.cursor.takes(')') { Ok(()) } else { Err("an unexpected `(`") }
            }
            State::Start(_) | State::Simple(_) | State::Compound => Err("an unexpected `(`"),
        }
    }

    fn closing_parenthesis(&mut self) -> Result<(), Doubt> {
        let list = self.list()?;
        let is_complete = match (list.kind, &list.state) {
            (ListKind::Substitution, State::Start(After::Nothing)) => true,
            (ListKind::Substitution | ListKind::Subshell, state) => {
                !matches!(state, State::Start(After::Nothing | After::Operator))
            }
            _ => false,
        };
        if !is_complete || list.names_function {
            return Err("an unexpected `)`");
        }
        let is_substitution = list.kind == ListKind::Substitution;
        self.finish()?;
        self.cursor.take();
        self.stack.pop();
        if is_substitution {
            if self.awaited.iter().any(|awaited| awaited.level == self.level) {
                return Err("a here-document has no end");
            }
            self.level -= 1;
        }
        Ok(())
    }

    /// Takes a word that has been read to where it belongs.
    pub(super) fn deliver(&mut self, ended: Ended) -> Result<(), Doubt> {
        match self.stack.last_mut() {
            Some(Frame::List(list)) => match list.redirection.take() {
                Some(redirection) => self.redirected(redirection, &ended),
                None => self.word_of_list(ended),
            },
            Some(Frame::For(_)) => self.word_of_for(&ended),
            Some(Frame::Case(_)) => self.word_of_case(&ended),
            Some(Frame::Array) => ended.word_of_array(),
            Some(Frame::Condition(_)) => self.word_of_condition(&ended),
            Some(Frame::Word(_) | Frame::Parameter | Frame::Body) | None => {
                Err("a word stands where none can")
            }
        }
    }

    fn word_of_list(&mut self, ended: Ended) -> Result<(), Doubt> {
        let list = self.list()?;
        if std::mem::take(&mut list.names_function) {
            list.state = State::Start(After::Operator);
            self.read.is_redefined = true;
            self.cursor.skip_blanks();
            if self.cursor.takes('(') {
                self.cursor.skip_blanks();
                if !self.cursor.takes(')') {
                    return Err("an unexpected `(`");
                }
            }
            return Ok(());
        }
        match &list.state {
            State::Start(after) => {
                let after = *after;
                if self.reserved(&ended, after)? {
                    return Ok(());
                }
                let is_passed = after != After::Operator;
                self.list()?.state = State::Simple(Draft { is_passed, ..Draft::default() });
            }
            State::Compound => {
                let is_closed = ended.plain.as_deref().is_some_and(|word| self.closes(word));
                return if is_closed { Ok(()) } else { Err("an unexpected word") };
            }
            State::Simple(_) => {}
        }
        self.word_of_simple(ended)
    }
}
