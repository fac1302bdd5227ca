//! What a program has set of the user's terminal, so that somebody else can use it for a moment.
//!
//! Followed are the private modes (`CSI ? n h`, `CSI ? n l`: ECMA-48, xterm's ctlseqs) that would be in
//! the way: other screens, the mouse, pasting, keys, the cursor.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Screens of their own.
const SCREENS: [u16; 3] = [47, 1047, 1049];
/// Keys of the cursor, the mouse, focus, and pasting.
const INPUT: [u16; 10] = [1, 9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004];
/// The cursor, which is seen unless it is hidden.
const CURSOR: u16 = 25;
/// Longest parameters that are followed.
const PARAMETERS_MAX: usize = 64;

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Text,
    Escape,
    Sequence,
    Parameters(Vec<u8>),
}

/// The modes that differ from a terminal's own.
#[derive(Debug, Default)]
pub struct Modes {
    reading: Reading,
    set: BTreeSet<u16>,
    is_cursor_hidden: bool,
}

impl Modes {
    /// Follows what is shown.
    pub fn see(&mut self, text: &[u8]) {
        for &byte in text {
            let next = match (&mut self.reading, byte) {
                (_, 0x1b) => Reading::Escape,
                (Reading::Text, _) => continue,
                (Reading::Escape, b'[') => Reading::Sequence,
                (Reading::Escape, b'c') => {
                    (self.set, self.is_cursor_hidden) = (BTreeSet::new(), false);
                    Reading::Text
                }
                (Reading::Sequence, b'?') => Reading::Parameters(Vec::new()),
                (Reading::Parameters(text), b'0'..=b'9' | b';') if text.len() < PARAMETERS_MAX => {
                    text.push(byte);
                    continue;
                }
                (Reading::Parameters(text), b'h' | b'l') => {
                    let text = std::mem::take(text);
                    self.change(&text, byte == b'h');
                    Reading::Text
                }
                (Reading::Escape | Reading::Sequence | Reading::Parameters(_), _) => Reading::Text,
            };
            self.reading = next;
        }
    }

    fn change(&mut self, parameters: &[u8], is_set: bool) {
        let numbers = parameters.split(|byte| *byte == b';');
        for number in numbers.filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok()) {
            if number == CURSOR {
                self.is_cursor_hidden = !is_set;
            } else if !(SCREENS.contains(&number) || INPUT.contains(&number)) {
            } else if is_set {
                self.set.insert(number);
            } else {
                self.set.remove(&number);
            }
        }
    }

    /// Whether the program draws a whole screen.
    pub(super) fn has_own_screen(&self) -> bool {
        SCREENS.iter().any(|screen| self.set.contains(screen))
    }

    /// What makes the terminal one of lines.
    pub fn suspended(&self) -> String {
        let mut text = String::new();
        if self.has_own_screen() {
            // Lines that scroll are of both screens.
            text.push_str("\x1b7\x1b[r\x1b8");
        }
        self.write(&mut text, 'l');
        if self.is_cursor_hidden {
            text.push_str("\x1b[?25h");
        }
        text.push_str("\x1b[0m");
        text
    }

    /// What makes it again what it was.
    pub(super) fn resumed(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 'h');
        if self.is_cursor_hidden {
            text.push_str("\x1b[?25l");
        }
        text
    }

    fn write(&self, text: &mut String, end: char) {
        for number in &self.set {
            write!(text, "\x1b[?{number}{end}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Modes {
        let mut modes = Modes::default();
        // However it comes.
        text.as_bytes().chunks(3).for_each(|part| modes.see(part));
        modes
    }

    #[test]
    fn what_a_program_has_set_is_taken_back_and_set_again() {
        let modes = after("x\x1b[?1049h\x1b[?1;2004h\x1b[?25l\x1b[31my\x1b[?1000h\x1b[?1000l");
        assert!(modes.has_own_screen());
        let suspended = "\x1b7\x1b[r\x1b8\x1b[?1l\x1b[?1049l\x1b[?2004l\x1b[?25h\x1b[0m";
        assert_eq!(modes.suspended(), suspended);
        assert_eq!(modes.resumed(), "\x1b[?1h\x1b[?1049h\x1b[?2004h\x1b[?25l");
    }

    #[test]
    fn a_program_of_lines_has_nothing_to_set_again() {
        for text in
            ["plain\n", "\x1b[?1049h\x1b[?1049l", "\x1b[?1049h\x1bc", "\x1b[?7h", "\x1b[?1049"]
        {
            let modes = after(text);
            assert!(!modes.has_own_screen(), "{text:?}");
            assert_eq!((modes.suspended().as_str(), modes.resumed().as_str()), ("\x1b[0m", ""));
        }
        let long = format!("\x1b[?{}h", "1;".repeat(99));
        assert_eq!(after(&long).resumed(), "");
    }
}
