//! The only place that prints: talk goes to standard error, escaped.

pub(crate) mod live;
pub(crate) mod prompt;

use std::io::Write as _;

/// One line of talk on standard error.
pub(crate) fn say(kind: &str, text: &str) {
    let mut error = std::io::stderr().lock();
    // Nobody can be told that standard error is closed.
    writeln!(error, "{kind}: {}", printable(text)).ok();
}

/// A blank line and a hint below a failure.
pub(crate) fn hint(text: &str) {
    let mut error = std::io::stderr().lock();
    writeln!(error, "\nhint: {}", printable(text)).ok();
}

/// The cause of a failure, indented below it.
pub(crate) fn cause(text: &str) {
    let mut error = std::io::stderr().lock();
    writeln!(error, "  because: {}", printable(text)).ok();
}

/// `text` with control characters and bidirectional overrides escaped, so that a path cannot
/// draw on the user's terminal. Line breaks of our own diagnostics stay.
pub(crate) fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        let bidi = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (character.is_control() && character != '\n') || bidi {
            result.extend(character.escape_unicode());
        } else {
            result.push(character);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_draw_on_a_terminal_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\nd");
    }
}
