//! The reader: every entry of a configuration, or the line that is unclear.

use super::{Refusal, TEXT_MAX};

/// One `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In lower case, as git compares it.
    pub section: String,
    /// As written: git compares it exactly.
    pub subsection: Option<Vec<u8>>,
    /// In lower case.
    pub key: String,
    /// `None` for a key alone, which means `true`.
    pub value: Option<Vec<u8>>,
}

impl Entry {
    /// `section.subsection.key`.
    pub fn name(&self) -> String {
        match &self.subsection {
            None => format!("{}.{}", self.section, self.key),
            Some(inner) => {
                format!("{}.{}.{}", self.section, String::from_utf8_lossy(inner), self.key)
            }
        }
    }
}

/// Reads all of `text`.
///
/// # Errors
///
/// [`Refusal::Unreadable`] with the line, and [`Refusal::TooLong`].
pub fn parse(text: &[u8]) -> Result<Vec<Entry>, Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal::TooLong);
    }
    let mut reader = Reader { rest: text, line: 1 };
    let mut entries = Vec::new();
    let mut section: Option<(String, Option<Vec<u8>>)> = None;
    loop {
        reader.skip_blank();
        match reader.rest.first() {
            None => return Ok(entries),
            Some(b'\n') => drop(reader.next()),
            Some(b'#' | b';') => reader.skip_line(),
            Some(b'[') => section = Some(reader.header()?),
            Some(first) if first.is_ascii_alphabetic() => {
                let (key, value) = reader.entry()?;
                let Some((section, subsection)) = section.clone() else {
                    return Err(reader.unclear());
                };
                entries.push(Entry { section, subsection, key, value });
            }
            Some(_) => return Err(reader.unclear()),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *first == b'\n' {
            self.line += 1;
        }
        Some(*first)
    }

    fn unclear(&self) -> Refusal {
        Refusal::Unreadable(self.line)
    }

    /// Blanks. A carriage return is one only before the end of its line, as for git.
    fn skip_blank(&mut self) {
        loop {
            match self.rest {
                [b' ' | b'\t', ..] | [b'\r', b'\n', ..] => drop(self.next()),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.rest.first(), None | Some(b'\n')) {
            self.next();
        }
    }

    /// `[section]` or `[section "subsection"]`. The old form `[section.subsection]` is unclear:
    /// git folds its case.
    fn header(&mut self) -> Result<(String, Option<Vec<u8>>), Refusal> {
        self.next();
        let mut section = String::new();
        loop {
            match self.next() {
                Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => {
                    section.push(char::from(byte.to_ascii_lowercase()));
                }
                Some(b']') if !section.is_empty() => return Ok((section, None)),
                Some(b' ' | b'\t') if !section.is_empty() => break,
                _ => return Err(self.unclear()),
            }
        }
        self.skip_blank();
        if self.next() != Some(b'"') {
            return Err(self.unclear());
        }
        let mut subsection = Vec::new();
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => match self.next() {
                    Some(byte @ (b'"' | b'\\')) => subsection.push(byte),
                    _ => return Err(self.unclear()),
                },
                Some(b'\n' | 0) | None => return Err(self.unclear()),
                Some(byte) => subsection.push(byte),
            }
        }
        if self.next() == Some(b']') {
            Ok((section, Some(subsection)))
        } else {
            Err(self.unclear())
        }
    }

    fn entry(&mut self) -> Result<(String, Option<Vec<u8>>), Refusal> {
        let mut key = String::new();
        while let Some(byte) = self.rest.first().copied() {
            if !(byte.is_ascii_alphanumeric() || byte == b'-') {
                break;
            }
            key.push(char::from(byte.to_ascii_lowercase()));
            self.next();
        }
        self.skip_blank();
        match self.rest.first() {
            None | Some(b'\n' | b'#' | b';') => {
                self.skip_line();
                Ok((key, None))
            }
            Some(b'=') => {
                self.next();
                Ok((key, Some(self.value()?)))
            }
            Some(_) => Err(self.unclear()),
        }
    }

    /// Up to the end of the line: quotes, escapes, comments, and lines that go on.
    fn value(&mut self) -> Result<Vec<u8>, Refusal> {
        let (mut value, mut quoted) = (Vec::new(), false);
        // What is kept of trailing blanks: none outside quotes.
        let mut kept = 0;
        self.skip_blank();
        loop {
            match self.rest.first().copied() {
                None | Some(b'\n') if quoted => return Err(self.unclear()),
                None | Some(b'\n') => break,
                Some(0) => return Err(self.unclear()),
                Some(b'\r') if self.rest.get(1) == Some(&b'\n') => drop(self.next()),
                Some(b'#' | b';') if !quoted => {
                    self.skip_line();
                    break;
                }
                Some(b'"') => {
                    self.next();
                    quoted = !quoted;
                    kept = value.len();
                }
                Some(b'\\') => {
                    self.next();
                    match self.next() {
                        Some(b'\n') => continue,
                        Some(b'n') => value.push(b'\n'),
                        Some(b't') => value.push(b'\t'),
                        Some(b'b') => value.push(8),
                        Some(byte @ (b'"' | b'\\')) => value.push(byte),
                        _ => return Err(self.unclear()),
                    }
                    kept = value.len();
                }
                Some(byte) => {
                    self.next();
                    value.push(byte);
                    if quoted || !matches!(byte, b' ' | b'\t') {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text.as_bytes()) {
            Err(refusal) => format!("{refusal:?}"),
            Ok(entries) => entries
                .iter()
                .map(|entry| {
                    let value = entry.value.as_deref().map(String::from_utf8_lossy);
                    format!("{}={}", entry.name(), value.unwrap_or("(none)".into()))
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn it_reads_as_git_does_or_not_at_all() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str)] = &[
            ("[a]\nb = c\n",                     "a.b=c"),
            ("[A \"B c\\\"d\"]\n\tKey=x y  # z\n", "a.B c\"d.key=x y"),
            ("[a] b = \" c ; d \" e;f\n",        "a.b= c ; d  e"),
            ("[a]\nb = c\\\n  d\r\n",            "a.b=c  d"),
            ("[a]\nb\nc = \n",                   "a.b=(none) a.c="),
            ("[a]\nb = \\\"x\\n",                "a.b=\"x\n"),
            ("b = c\n",                          "Unreadable(1)"),
            ("[a.b]\nc = d\n",                   "Unreadable(1)"),
            ("[a]\nb = \"c\n",                   "Unreadable(2)"),
            ("[a]\nb = \\x\n",                   "Unreadable(2)"),
            ("[a]\n1b = c\n",                    "Unreadable(2)"),
            ("[a \"b\" ]\n",                     "Unreadable(1)"),
            ("[a]\nb c = d\n",                   "Unreadable(2)"),
            ("[a]\n\0= d\n",                     "Unreadable(2)"),
            ("\u{feff}[a]\nb = c\n",             "Unreadable(1)"),
        ];
        for &(text, expected) in CASES {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn any_text_ends() {
        let all = b"[a \"b\\\"]\n=#;\r\t \\\0x".repeat(3);
        for end in 0..all.len() {
            parse(all.get(end..).unwrap()).ok();
            parse(all.get(..end).unwrap()).ok();
        }
    }
}
