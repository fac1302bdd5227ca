//! What an agent says, broken between words where the terminal would break within one.
//!
//! It comes in pieces that end anywhere, so the last word waits until it is whole. Blocks of code
//! stay as they are: whoever copies one wants its lines. Characters count as the columns that they
//! take: two for a wide one, none for one that is put over another.

use unicode_width::UnicodeWidthStr as _;

/// Text on its way to a terminal.
#[derive(Debug, Default)]
pub(super) struct Wrap {
    /// The word that may go on.
    word: String,
    /// Spaces before it, which nobody needs at the end of a line.
    gap: String,
    /// How many columns of the line are taken.
    column: usize,
    /// Where the text of a list's item begins, below which its next lines begin too.
    indent: usize,
    is_code: bool,
}

impl Wrap {
    /// What can be shown of all so far, on a terminal of `width` columns; `None`: nothing is broken.
    pub(super) fn add(&mut self, text: &str, width: Option<usize>) -> String {
        let Some(width) = width else {
            let before = self.finish(None);
            return before + text;
        };
        let mut ready = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\n' => {
                    self.end_word(width, &mut ready);
                    self.gap.clear();
                    ready.push('\n');
                    (self.column, self.indent) = (0, 0);
                }
                ' ' if !self.word.is_empty() || self.column > 0 || !self.is_code => {
                    self.end_word(width, &mut ready);
                    self.gap.push(' ');
                }
                _ => self.word.push(character),
            }
        }
        ready
    }

    /// The rest: nothing more is said.
    pub(super) fn finish(&mut self, width: Option<usize>) -> String {
        let mut ready = String::new();
        self.end_word(width.unwrap_or(usize::MAX), &mut ready);
        let gap = std::mem::take(&mut self.gap);
        if width.is_none() {
            ready.push_str(&gap);
        }
        *self = Self::default();
        ready
    }

    fn end_word(&mut self, width: usize, ready: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let is_first = self.column == 0;
        if is_first && self.word.starts_with("```") {
            self.is_code = !self.is_code;
        }
        let (gap, length) = (self.gap.len(), self.word.width());
        let would_break = self.column + gap + length > width;
        if would_break && !is_first && !self.is_code && self.indent + length <= width {
            ready.push('\n');
            ready.extend(std::iter::repeat_n(' ', self.indent));
            self.column = self.indent + length;
        } else {
            ready.push_str(&self.gap);
            self.column += gap + length;
        }
        if is_first {
            let is_item = matches!(&*self.word, "-" | "*" | "+")
                || self.word.strip_suffix('.').is_some_and(|it| it.parse::<u16>().is_ok());
            self.indent = if is_item { self.column + 1 } else { gap };
            // A terminal that narrow has no room for it.
            self.indent = if self.indent * 2 > width { 0 } else { self.indent };
        }
        ready.push_str(&std::mem::take(&mut self.word));
        self.gap.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> String {
        let mut whole = Wrap::default();
        let at_once = whole.add(text, Some(width)) + &whole.finish(Some(width));
        let mut pieces = Wrap::default();
        let mut shown = String::new();
        for character in text.chars() {
            shown.push_str(&pieces.add(&character.to_string(), Some(width)));
        }
        shown.push_str(&pieces.finish(Some(width)));
        assert_eq!(shown, at_once, "however it comes");
        shown
    }

    #[test]
    fn lines_end_between_words_and_words_that_are_too_long_stay() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("one two three", 80), "one two three");
        assert_eq!(wrapped("a  b\n\n  c\n", 80), "a  b\n\n  c\n");
        assert_eq!(wrapped("see https://example.org/a/b", 10), "see https://example.org/a/b");
        assert_eq!(wrapped("- one two\n  x y z", 7), "- one\n  two\n  x y z");
        assert_eq!(wrapped("12. ab cd", 8), "12. ab\n    cd");
        assert_eq!(wrapped("日本 日本 x", 8), "日本\n日本 x");
        assert_eq!(
            wrapped("e\u{301}e\u{301} e\u{301}e\u{301} x", 5),
            "e\u{301}e\u{301} e\u{301}e\u{301}\nx"
        );
    }

    #[test]
    fn code_keeps_its_lines() {
        let code = "```sh\n    long line of code\n```\n";
        assert_eq!(wrapped(code, 10), code);
        assert_eq!(wrapped("```\na b c d\n```\na b c d", 5), "```\na b c d\n```\na b c\nd");
    }

    #[test]
    fn without_a_terminal_nothing_waits() {
        let mut wrap = Wrap::default();
        assert_eq!(wrap.add("half a wo", None), "half a wo");
        assert_eq!(wrap.add("one ", Some(80)), "one");
        assert_eq!(wrap.add("two", None), " two");
    }
}
