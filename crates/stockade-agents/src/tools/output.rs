//! What the model is shown: bounded, and without characters that do something.

use std::fmt::Write as _;

use stockade_policy::acts_on_terminals;

/// The most that one call may show, in bytes: about ten thousand tokens.
pub(super) const SHOWN_BYTES: usize = 40_000;

/// `bytes` as text. Line ends become LF; other control characters, and those that reorder what
/// a person sees, are written out.
pub(crate) fn harmless(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            // A progress bar.
            '\r' => result.push('\n'),
            '\n' | '\t' => result.push(character),
            _ if acts_on_terminals(character) => {
                // Writing to a String cannot fail.
                write!(result, "\\u{{{:x}}}", u32::from(character)).ok();
            }
            _ => result.push(character),
        }
    }
    result
}

/// `text` with its middle left out when it is longer than `limit` bytes; where something is
/// left out stands how much.
pub(super) fn head_and_tail(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let head = text.get(..floor(text, limit / 2)).unwrap_or_default();
    let tail = text.get(ceiling(text, text.len() - limit / 2)..).unwrap_or_default();
    let left_out = text.len() - head.len() - tail.len();
    format!("{head}\n[... {left_out} bytes left out ...]\n{tail}")
}

/// The last place at or before `at` where `text` can be divided.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceiling(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        let text = "a\tb\r\nc\rd\u{1b}[2J\u{0}\u{9b}\u{202e}\u{61c}ä";
        assert_eq!(harmless(text), "a\tb\nc\nd\\u{1b}[2J\\u{0}\\u{9b}\\u{202e}\\u{61c}ä");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_bounded_and_says_what_it_leaves_out(text in "\\PC{0,200}", limit in 2_usize..60) {
            let shown = head_and_tail(&text, limit);
            prop_assert!(shown.len() <= limit.max(text.len().min(limit)) + 60);
            prop_assert_eq!(shown == text, text.len() <= limit);
        }
    }
}
