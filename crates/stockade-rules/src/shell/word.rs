//! Words: quotes, escapes and expansions, and what of them is known.

use super::lex::{Cursor, ansi_c};
use super::parse::{Doubt, Frame, Kind, ListKind, Parser};
use super::script::Word;
use super::variables::assigned;

/// A word as far as it is read.
#[derive(Debug)]
pub(super) struct Reading {
    start: usize,
    /// Its text without quotes, up to here.
    text: String,
    /// How much of the text came before the first quote or expansion.
    plain: Option<usize>,
    /// How much of the text came before the first thing that is not known.
    sure: Option<usize>,
    /// How much of the text came before the first `[` or `{`, which may start a pattern.
    pattern: Option<usize>,
    /// Its value is split into words where it has blanks, so that nothing is known of them.
    splits: bool,
    /// It may become several words, or none.
    is_several: bool,
    is_in_quotes: bool,
}

/// A word that has been read.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) word: Word,
    /// Where it starts.
    pub(super) start: usize,
    /// The whole of it, when nothing in it was quoted or expanded: only then is it reserved.
    pub(super) plain: Option<String>,
    /// What it assigns, were it in front of a command.
    pub(super) assignment: Option<Assigned>,
    pub(super) written: String,
}

#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) name: String,
    pub(super) value: Word,
    /// `+=`
    pub(super) adds: bool,
}

impl Reading {
    pub(super) fn new(start: usize) -> Self {
        Self {
            start,
            text: String::new(),
            plain: None,
            sure: None,
            pattern: None,
            splits: false,
            is_several: false,
            is_in_quotes: false,
        }
    }

    fn quote(&mut self) {
        self.plain.get_or_insert(self.text.len());
    }

    /// What comes now is not known.
    fn doubt(&mut self, splits: bool) {
        self.quote();
        self.sure.get_or_insert(self.text.len());
        self.splits |= splits;
        self.is_several |= splits;
    }

    /// What comes now is a pattern of file names.
    fn glob(&mut self) {
        self.doubt(false);
        self.is_several = true;
    }

    fn end(self, cursor: &Cursor<'_>) -> Ended {
        let written = cursor.since(self.start).to_owned();
        let is_plain = self.plain.is_none();
        let is_word = is_plain && ["[", "[[", "{", "{}"].contains(&self.text.as_str());
        let pattern = self.pattern.filter(|_| !is_word);
        let sure = self.sure.into_iter().chain(pattern).min();
        let prefix = self.text.get(..self.plain.unwrap_or(self.text.len())).unwrap_or_default();
        let part = |from: usize| -> Word {
            let text = self.text.get(from..).unwrap_or_default();
            match sure {
                None => Word::Known(text.to_owned()),
                Some(sure) => {
                    let start = text.get(..sure.saturating_sub(from)).unwrap_or_default();
                    let start = if self.splits { "" } else { start };
                    Word::Unknown {
                        written: written.clone(),
                        start: start.to_owned(),
                        is_one: !self.is_several && pattern.is_none(),
                    }
                }
            }
        };
        let assignment = assigned(prefix).map(|(name, value)| Assigned {
            name: name.to_owned(),
            value: part(value),
            adds: prefix.get(..value).is_some_and(|name| name.ends_with("+=")),
        });
        let plain = (is_plain && sure.is_none()).then(|| self.text.clone());
        Ended { word: part(0), start: self.start, plain, assignment, written }
    }
}

impl Ended {
    /// The end of a here-document, and whether its body is literal.
    pub(super) fn delimiter(&self) -> Option<(String, bool)> {
        let is_simple = |text: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            !text.is_empty() && text.bytes().all(is_part)
        };
        let written = self.written.as_str();
        if is_simple(written) {
            return Some((written.to_owned(), false));
        }
        let quoted = ['\'', '"'].iter().find_map(|&quote| {
            written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        });
        let quoted = quoted.or_else(|| written.strip_prefix('\\'));
        quoted.filter(|text| is_simple(text)).map(|text| (text.to_owned(), true))
    }

    /// `<(…)`, which is read from.
    pub(super) fn is_output_of_process(&self) -> bool {
        self.written.starts_with("<(")
    }

    /// A subscript is arithmetic, which may run what variables hold.
    pub(super) fn word_of_array(&self) -> Result<(), Doubt> {
        if self.written.starts_with('[') { Err("an array is not understood") } else { Ok(()) }
    }
}

const EVALUATED: Doubt = "arithmetic may run what variables hold";

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Parser<'_> {
    fn word(&mut self) -> Result<&mut Reading, Doubt> {
        if let Some(Frame::Word(word)) = self.stack.last_mut() {
            Ok(word)
        } else {
            Err("no word is being read")
        }
    }

    pub(super) fn word_step(&mut self) -> Result<(), Doubt> {
        if self.word()?.is_in_quotes {
            return self.quoted_step();
        }
        let next = self.cursor.peek();
        match next {
            Some('<' | '>') if self.cursor.second_is('(') => {
                self.only_bash()?;
                self.cursor.take();
                self.cursor.take();
                let word = self.word()?;
                word.quote();
                word.text.push_str("/dev/fd/");
                word.doubt(false);
                // `<()` is no word at all.
                word.is_several = true;
                self.push_list(ListKind::Substitution)
            }
            None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>') => {
                self.end_word()
            }
            Some('$') => self.dollar(false),
            Some('`') => self.backquote(true),
            Some('\'') => {
                self.cursor.take();
                let text = self.cursor.take_until('\'').ok_or("a quote stays open")?;
                if text.contains('\n') {
                    self.quoted_line_break()?;
                }
                let word = self.word()?;
                word.quote();
                word.text.push_str(text);
                Ok(())
            }
            Some('"') => {
                self.cursor.take();
                let word = self.word()?;
                word.quote();
                word.is_in_quotes = true;
                Ok(())
            }
            Some('\\') => {
                self.cursor.take();
                let escaped = self.cursor.take_raw().ok_or("it ends in a backslash")?;
                let word = self.word()?;
                word.quote();
                word.text.push(escaped);
                Ok(())
            }
            Some(character) => {
                self.cursor.take();
                self.plain_character(character)
            }
        }
    }

    fn plain_character(&mut self, character: char) -> Result<(), Doubt> {
        // Braces around nothing are no pattern.
        let is_pair = character == '{' && self.cursor.peek() == Some('}');
        let word = self.word()?;
        match character {
            '{' if is_pair => {}
            '*' | '?' => word.glob(),
            '[' | '{' => {
                word.pattern.get_or_insert(word.text.len());
            }
            '~' if word.text.is_empty() || word.text.ends_with(['=', ':']) => word.doubt(false),
            _ => {}
        }
        word.text.push(character);
        Ok(())
    }

    fn quoted_step(&mut self) -> Result<(), Doubt> {
        let character = self.cursor.peek().ok_or("a quote stays open")?;
        match character {
            '$' => return self.dollar(true),
            '`' => return self.backquote(false),
            '\n' => self.quoted_line_break()?,
            _ => {}
        }
        self.cursor.take();
        let escaped = if character == '\\' { self.escaped_in_quotes(true) } else { None };
        let word = self.word()?;
        if character == '"' {
            word.is_in_quotes = false;
        } else {
            word.text.push(escaped.unwrap_or(character));
        }
        Ok(())
    }

    /// What a backslash inside double quotes escapes.
    fn escaped_in_quotes(&mut self, is_word: bool) -> Option<char> {
        let next = self.cursor.peek()?;
        let is_escaped = matches!(next, '$' | '`' | '\\') || (is_word && next == '"');
        is_escaped.then(|| self.cursor.take()).flatten()
    }

    pub(super) fn body_step(&mut self) -> Result<(), Doubt> {
        match self.cursor.peek() {
            None => {
                self.stack.pop();
                Ok(())
            }
            Some('$') => self.dollar(true),
            Some('`') => self.backquote(false),
            Some('\\') => {
                self.cursor.take();
                self.escaped_in_quotes(false);
                Ok(())
            }
            Some(_) => {
                self.cursor.take();
                Ok(())
            }
        }
    }

    /// What may stand in `${name-…}` so that its end is the same to every reader.
    pub(super) fn parameter_step(&mut self) -> Result<(), Doubt> {
        match self.cursor.peek() {
            Some('}') => {
                self.cursor.take();
                self.stack.pop();
                Ok(())
            }
            Some('$') => self.dollar(true),
            None | Some('\'' | '"' | '\\' | '`' | '{' | '<' | '>' | '\n') => {
                Err("an expansion is not understood")
            }
            Some(_) => {
                self.cursor.take();
                Ok(())
            }
        }
    }

    /// Marks the word on top, if one is, as not known.
    fn doubt(&mut self, splits: bool) {
        if let Some(Frame::Word(word)) = self.stack.last_mut() {
            word.doubt(splits);
        }
    }

    fn end_word(&mut self) -> Result<(), Doubt> {
        let Some(Frame::Word(word)) = self.stack.pop() else {
            return Err("no word is being read");
        };
        let ended = word.end(&self.cursor);
        if matches!(self.cursor.peek(), Some('<' | '>')) {
            if let Some(number) = ended.plain.as_deref().filter(|text| is_number(text)) {
                // dash takes one digit for a descriptor and more for a word.
                return if number.len() == 1 { Ok(()) } else { self.only_bash() };
            }
            if ended.written.starts_with('{') && ended.written.ends_with('}') {
                return Err("a redirection sets a variable");
            }
        }
        self.deliver(ended)
    }

    /// `$` and what follows it.
    fn dollar(&mut self, is_quoted: bool) -> Result<(), Doubt> {
        let start = self.cursor.at();
        self.cursor.take();
        match self.cursor.peek() {
            Some('(') if self.cursor.second_is('(') => self.arithmetic(start),
            Some('(') => {
                self.cursor.take();
                self.doubt(!is_quoted);
                self.push_list(ListKind::Substitution)
            }
            Some('{') => {
                self.cursor.take();
                self.doubt(!is_quoted);
                self.parameter()
            }
            Some('[') => Err(EVALUATED),
            Some('"') if !is_quoted => Err("a translated text"),
            Some('\'') if !is_quoted => self.ansi_c(),
            Some(character) if character == '_' || character.is_ascii_alphabetic() => {
                let name = self.cursor.take_name().unwrap_or_default();
                let splits = !is_quoted && !self.is_number(&name);
                self.doubt(splits);
                Ok(())
            }
            Some(character @ ('0'..='9' | '@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.cursor.take();
                self.doubt(!is_quoted || character == '@');
                Ok(())
            }
            _ => {
                if let Some(Frame::Word(word)) = self.stack.last_mut() {
                    word.text.push('$');
                }
                Ok(())
            }
        }
    }

    fn arithmetic(&mut self, start: usize) -> Result<(), Doubt> {
        if self.takes_arithmetic().is_some() {
            self.doubt(false);
            return Ok(());
        }
        self.cursor.take();
        self.opaque(start, EVALUATED);
        self.doubt(true);
        self.push_guess(ListKind::Substitution)
    }

    fn ansi_c(&mut self) -> Result<(), Doubt> {
        self.only_bash()?;
        self.cursor.take();
        let start = self.cursor.at();
        loop {
            match self.cursor.take_raw().ok_or("a quote stays open")? {
                '\'' => break,
                '\\' => {
                    self.cursor.take_raw();
                }
                '\n' => self.quoted_line_break()?,
                _ => {}
            }
        }
        let body = self.cursor.since(start).strip_suffix('\'').unwrap_or_default();
        let text = ansi_c(body);
        let word = self.word()?;
        word.quote();
        match text {
            Some(text) => word.text.push_str(&text),
            None => word.doubt(false),
        }
        Ok(())
    }

    /// `${` has been read.
    fn parameter(&mut self) -> Result<(), Doubt> {
        const DOUBT: Doubt = "an expansion is not understood";
        if self.cursor.peek() == Some('#') && !self.cursor.second_is('}') {
            self.cursor.take();
            let is_known = self.cursor.take_name().is_some()
                || self.cursor.take_digits()
                || matches!(self.cursor.take(), Some('@' | '*' | '?' | '-' | '$' | '!'));
            self.subscript()?;
            return if is_known && self.cursor.takes('}') { Ok(()) } else { Err(DOUBT) };
        }
        let name = self.cursor.take_name();
        let is_numbered = name.is_none() && self.cursor.take_digits();
        let is_special = name.is_none() && !is_numbered;
        if is_special {
            match self.cursor.take() {
                Some('@' | '*') => self.doubt(true),
                Some('#' | '?' | '-' | '$' | '!') => {}
                _ => return Err(DOUBT),
            }
        }
        self.subscript()?;
        if self.cursor.takes('}') {
            return Ok(());
        }
        // What follows may be "$@" again.
        self.doubt(true);
        let has_colon = self.cursor.takes(':');
        let is_name = |it: char| it == '$' || it == '_' || it.is_ascii_alphabetic();
        if has_colon && !is_special && self.cursor.peek().is_some_and(is_name) {
            return self.substring();
        }
        match self.cursor.take() {
            _ if is_special => return Err(DOUBT),
            Some('-' | '+' | '?') => {}
            Some('=') if !is_numbered => {
                let name = name.as_deref().unwrap_or_default();
                self.assign(name);
                self.numbers.doubt(name);
            }
            Some('#' | '%') if !has_colon => {}
            Some('/' | '^' | ',') if !has_colon => self.only_bash()?,
            Some('0'..='9' | ' ' | '(') if has_colon => return self.substring(),
            _ => return Err(DOUBT),
        }
        self.push(Frame::Parameter)
    }

    /// `[@]`, `[*]` or arithmetic.
    fn subscript(&mut self) -> Result<(), Doubt> {
        if !self.cursor.takes('[') {
            return Ok(());
        }
        self.only_bash()?;
        self.doubt(true);
        if self.cursor.takes('@') || self.cursor.takes('*') {
            return if self.cursor.takes(']') { Ok(()) } else { Err(EVALUATED) };
        }
        self.evaluated(']')
    }

    /// What follows `${name:`.
    fn substring(&mut self) -> Result<(), Doubt> {
        self.only_bash()?;
        self.evaluated('}')
    }

    /// Takes arithmetic up to `end`, and that; in `${name:` a colon divides it.
    fn evaluated(&mut self, end: char) -> Result<(), Doubt> {
        let mut ahead = self.cursor.clone();
        let text = ahead.take_until(end).filter(|text| !text.is_empty()).ok_or(EVALUATED)?;
        self.understands(text).ok_or(EVALUATED)?;
        self.cursor = ahead;
        Ok(())
    }

    /// A command in backquotes, which is a text of its own once its backslashes are gone. Where
    /// it ends is the same to every reader only while nothing in it is quoted.
    fn backquote(&mut self, splits: bool) -> Result<(), Doubt> {
        self.cursor.take();
        let text = self.cursor.take_until('`').ok_or("a backquote stays open")?;
        if text.contains(['\\', '\'', '"', '#', '<']) {
            return Err("a command in backquotes holds quotes");
        }
        if text.contains('\n') {
            self.quoted_line_break()?;
        }
        self.read.nested.push((text.to_owned(), Kind::Commands));
        self.doubt(splits);
        Ok(())
    }
}
