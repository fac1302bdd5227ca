//! A Rust source without its words: comments and literals become spaces, so that what is
//! looked for in it is code. Line breaks stay where they are.

/// `text` with comments, strings and characters blanked out.
pub(super) fn of(text: &str) -> String {
    let mut reader = Reader { rest: text, code: String::with_capacity(text.len()), before: ' ' };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.code
}

/// Whether `word` stands in `line` as a whole word.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.split(|character: char| !character.is_alphanumeric() && character != '_')
        .any(|found| found == word)
}

struct Reader<'a> {
    rest: &'a str,
    code: String,
    /// The character before `rest`: an `r` inside a name starts no raw string.
    before: char,
}

impl Reader<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let length = self.rest.find('\n').unwrap_or(self.rest.len());
            self.blank(length);
        } else if self.rest.starts_with("/*") {
            let length = nested_comment(self.rest);
            self.blank(length);
        } else if let Some(length) = self.literal() {
            self.blank(length);
        } else {
            let first = self.rest.chars().next().unwrap_or(' ');
            self.code.push(first);
            self.advance(first.len_utf8());
        }
    }

    /// The length of the string or character that starts here.
    fn literal(&self) -> Option<usize> {
        let in_name = self.before.is_alphanumeric() || self.before == '_';
        let rest = self.rest;
        if rest.starts_with('"') {
            return Some(1 + quoted(rest.get(1..)?, '"'));
        }
        if rest.starts_with('\'') {
            return character(rest);
        }
        let prefix = ["b", "c", "br", "cr", "r"].into_iter().rev().find(|prefix| {
            let after = rest.strip_prefix(prefix).unwrap_or_default();
            after.starts_with('"') || (prefix.ends_with('r') && after.starts_with('#'))
        })?;
        if in_name {
            return None;
        }
        let after = rest.get(prefix.len()..)?;
        if !prefix.ends_with('r') {
            return Some(prefix.len() + 1 + quoted(after.get(1..)?, '"'));
        }
        let hashes = after.len() - after.trim_start_matches('#').len();
        // `r#name` is a raw name, not a string.
        let body = after.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        Some(prefix.len() + hashes + 1 + length)
    }

    fn blank(&mut self, length: usize) {
        let gone = self.rest.get(..length).unwrap_or(self.rest);
        let spaces = gone.chars().map(|character| if character == '\n' { '\n' } else { ' ' });
        self.code.extend(spaces);
        self.advance(gone.len());
    }

    fn advance(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.before = gone.chars().next_back().unwrap_or(self.before);
        self.rest = rest;
    }
}

/// Bytes up to and with the closing quote of what started one byte before `body`.
fn quoted(body: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in body.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            found if found == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// The length of a character literal; `None` for a lifetime or a label.
fn character(rest: &str) -> Option<usize> {
    let body = rest.get(1..)?;
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(1 + quoted(body, '\''));
    }
    body.get(first.len_utf8()..)?.starts_with('\'').then(|| first.len_utf8() + 2)
}

fn nested_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_not_code() {
        for text in [
            "// unsafe\n",
            "/* a /* unsafe */ unsafe */",
            "\"unsafe \\\" unsafe\"",
            "r#\"unsafe \" unsafe\"#",
            "br\"unsafe\"",
            "b\"unsafe\"",
            "c\"unsafe\"",
            "'\\'' // unsafe",
        ] {
            assert!(!has_word(&of(text), "unsafe"), "{text:?} gives {:?}", of(text));
        }
    }

    #[test]
    fn code_after_a_literal_is_code() {
        for text in [
            "let a = '\"'; unsafe {}",
            "fn f<'a>(x: &'a str) { unsafe {} }",
            "let r#type = 1; unsafe {}",
            "let bar = \"\\\\\"; unsafe {}",
            "/* x */ unsafe {}",
            "'é' ; unsafe {}",
        ] {
            assert!(has_word(&of(text), "unsafe"), "{text:?} gives {:?}", of(text));
        }
        assert!(!has_word("unsafe_code", "unsafe") && has_word("a unsafe{", "unsafe"));
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "a\n/* b\nc */ d\n\"e\nf\" g\n";
        assert_eq!(of(text).lines().count(), text.lines().count());
        assert_eq!(of(text).lines().nth(2).map(str::trim), Some("d"));
    }
}
