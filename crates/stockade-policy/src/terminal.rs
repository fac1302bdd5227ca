//! Characters that a terminal obeys.

/// Whether a terminal would obey `character` instead of showing it, or show others elsewhere: controls, the
/// bidirectional ones of Unicode (UAX #9), and the marks of line and paragraph.
pub fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
