//! Characters: a cursor that reads them as the shell does, and the forms that need no stack.

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes before the place.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next character outside of single quotes, comments and here-documents: a backslash
    /// before a line break joins the lines, wherever it stands.
    pub(super) fn peek(&mut self) -> Option<char> {
        while self.rest().starts_with("\\\n") {
            self.at += 2;
        }
        self.rest().chars().next()
    }

    /// Whether `character` comes after the next one.
    pub(super) fn second_is(&self, character: char) -> bool {
        let mut ahead = self.clone();
        ahead.take();
        ahead.peek() == Some(character)
    }

    /// Takes the next character as [`Cursor::peek`] sees it.
    pub(super) fn take(&mut self) -> Option<char> {
        self.peek()?;
        self.take_raw()
    }

    /// Takes the next character as it stands.
    pub(super) fn take_raw(&mut self) -> Option<char> {
        let character = self.rest().chars().next()?;
        self.at += character.len_utf8();
        Some(character)
    }

    /// Takes `character` if it is next.
    pub(super) fn takes(&mut self, character: char) -> bool {
        let is_next = self.peek() == Some(character);
        if is_next {
            self.take_raw();
        }
        is_next
    }

    /// Takes what stands before the next `end`, and `end`; `None` when there is none.
    pub(super) fn take_until(&mut self, end: char) -> Option<&'a str> {
        let (text, _) = self.rest().split_once(end)?;
        self.at += text.len() + end.len_utf8();
        Some(text)
    }

    /// Skips blanks.
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.take_raw();
        }
    }

    /// Skips to the end of the line, which no backslash continues in a comment.
    pub(super) fn skip_comment(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Takes a name of a variable, if one is next.
    pub(super) fn take_name(&mut self) -> Option<String> {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            let is_part = character == '_'
                || character.is_ascii_alphabetic()
                || (character.is_ascii_digit() && !name.is_empty());
            if !is_part {
                break;
            }
            name.extend(self.take_raw());
        }
        (!name.is_empty()).then_some(name)
    }

    /// Takes digits, if some are next.
    pub(super) fn take_digits(&mut self) -> bool {
        let mut any = false;
        while self.peek().is_some_and(|character| character.is_ascii_digit()) {
            self.take_raw();
            any = true;
        }
        any
    }

    /// Takes the body of a here-document, up to and with the line that is `end`.
    pub(super) fn take_body(&mut self, end: &str, strips_tabs: bool) -> Option<&'a str> {
        let start = self.at;
        while !self.rest().is_empty() {
            let body = self.since(start);
            let line = self.rest().split('\n').next().unwrap_or_default();
            self.at += line.len();
            let is_last = self.rest().is_empty();
            self.take_raw();
            let line = if strips_tabs { line.trim_start_matches('\t') } else { line };
            if line == end {
                return Some(body);
            }
            if is_last {
                return None;
            }
        }
        None
    }
}

/// What `$'…'` means; `None` for escapes whose meaning depends on more than the text.
pub(super) fn ansi_c(body: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = body.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let kind = characters.next()?;
        let (radix, most) = match kind {
            'n' | 't' | 'r' | '\\' | '\'' | '"' | '?' => {
                text.push(match kind {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                });
                continue;
            }
            '0'..='7' => (8, 2),
            'x' => (16, 2),
            'u' => (16, 4),
            'U' => (16, 8),
            _ => return None,
        };
        let mut code = if radix == 8 { kind.to_digit(8)? } else { 0 };
        let mut digits = u32::from(radix == 8);
        for _ in 0..most {
            let Some(digit) = characters.peek().and_then(|next| next.to_digit(radix)) else {
                break;
            };
            characters.next();
            code = code * radix + digit;
            digits += 1;
        }
        // Zero ends the string, other controls are marks inside the shell, and what is above
        // depends on the locale.
        let is_plain = (0x20..0x7f).contains(&code) || matches!(code, 9 | 10 | 13);
        if digits == 0 || !is_plain {
            return None;
        }
        text.extend(char::from_u32(code));
    }
    Some(text)
}

/// Whether `text` is the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.take_name().is_some() && cursor.rest().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ansi_c_quotes_mean_what_they_mean_in_bash() {
        for (body, expected) in [
            (r"r\x6d", Some("rm")),
            (r"\162m", Some("rm")),
            (r"\u0072m", Some("rm")),
            (r"a\'b\\c\n", Some("a'b\\c\n")),
            (r"\x", None),
            (r"\x00", None),
            (r"\0", None),
            (r"\cA", None),
            (r"\z", None),
            (r"\u00e9", None),
            (r"\x7f", None),
        ] {
            assert_eq!(ansi_c(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_here_document_ends_at_its_own_line() {
        let mut cursor = Cursor::new("a\n\tE\nE\nb");
        assert_eq!(cursor.clone().take_body("E", true), Some("a\n"));
        assert_eq!(cursor.take_body("E", false), Some("a\n\tE\n"));
        assert_eq!(cursor.take(), Some('b'));
        assert_eq!(Cursor::new("a\nE").take_body("E", false), Some("a\n"));
        assert_eq!(Cursor::new("a\nEE").take_body("E", false), None);
    }
}
