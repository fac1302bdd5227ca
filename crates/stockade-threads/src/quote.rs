//! Names as git quotes them: what would draw on a terminal or end a line is escaped, and the
//! whole stands in quotes then (`core.quotePath`).

use std::fmt::Write as _;

use stockade_policy::acts_on_terminals;

/// `name`, in quotes if it needs them.
pub fn quoted(name: &[u8]) -> String {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if name.iter().all(is_plain) {
        return name.iter().copied().map(char::from).collect();
    }
    let mut text = String::from("\"");
    for byte in name {
        match byte {
            b'\x07' => text.push_str("\\a"),
            b'\x08' => text.push_str("\\b"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\x0b' => text.push_str("\\v"),
            b'\x0c' => text.push_str("\\f"),
            b'\r' => text.push_str("\\r"),
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => write!(text, "\\{byte:03o}").expect("invariant: a String takes everything"),
        }
    }
    text.push('"');
    text
}

/// `json` with what a terminal obeys written as `\\uXXXX`, which means the same: JSON itself
/// escapes what is below U+0020 only.
pub fn json_for_terminals(json: String) -> String {
    let is_obeyed = |character: char| character != '\n' && acts_on_terminals(character);
    if !json.contains(is_obeyed) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_obeyed(character) {
            let code = u32::from(character);
            write!(text, "\\u{code:04x}").expect("invariant: a String takes everything");
        } else {
            text.push(character);
        }
    }
    text
}

/// Reads a name that begins with a quote: the name, and how many bytes of `text` it took.
pub(crate) fn unquoted(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut bytes = text.iter().copied().enumerate();
    bytes.next().filter(|(_, quote)| *quote == b'"')?;
    let mut name = Vec::new();
    loop {
        let (at, byte) = bytes.next()?;
        match byte {
            b'"' => return Some((name, at + 1)),
            b'\\' => {
                let (_, escaped) = bytes.next()?;
                name.push(match escaped {
                    b'a' => b'\x07',
                    b'b' => b'\x08',
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => b'\x0b',
                    b'f' => b'\x0c',
                    b'r' => b'\r',
                    b'"' | b'\\' => escaped,
                    b'0'..=b'3' => {
                        let mut digit = || {
                            let (_, digit) = bytes.next()?;
                            matches!(digit, b'0'..=b'7').then(|| digit - b'0')
                        };
                        ((escaped - b'0') << 6) | (digit()? << 3) | digit()?
                    }
                    _ => return None,
                });
            }
            _ => name.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_a_terminal_obeys() {
        let text = "\u{9b}2J\u{7f}\u{202e}\u{1b}\u{e4}".to_owned();
        let json = json_for_terminals(serde_json::to_string(&text).unwrap());
        assert_eq!(json, r#""\u009b2J\u007f\u202e\u001bä""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn names_are_quoted_as_git_does_and_read_back() {
        let cases: [(&[u8], &str); 6] = [
            (b"src/a b.rs", "src/a b.rs"),
            (b"a\tb", r#""a\tb""#),
            (b"\x1b[2J", r#""\033[2J""#),
            ("\u{e4}".as_bytes(), r#""\303\244""#),
            (b"say \"hi\"\\", r#""say \"hi\"\\""#),
            (b"\x7f\xff", r#""\177\377""#),
        ];
        for (name, text) in cases {
            assert_eq!(quoted(name), text);
            if text.starts_with('"') {
                assert_eq!(unquoted(text.as_bytes()), Some((name.to_owned(), text.len())));
            }
        }
        for broken in [r#""a"#, r#""\9""#, r#""\40""#, r#""\"#, "a"] {
            assert_eq!(unquoted(broken.as_bytes()), None, "{broken}");
        }
    }
}
