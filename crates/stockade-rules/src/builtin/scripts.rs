//! Scripts of `sed` and `awk` of which it is plain that they only print.
//!
//! Both languages write files and start programs. What is taken here is the little of them that
//! does neither, read so that no other reading of the same text does.

use crate::shell::Word;

/// Whether `words`, the arguments of `sed`, only print.
pub(super) fn sed_prints(words: &[Word]) -> bool {
    const LONG: [&str; 3] = ["--quiet", "--silent", "--regexp-extended"];
    let mut scripts = 0;
    let mut rest = words.iter();
    let mut files = Vec::new();
    while let Some(word) = rest.next() {
        let option = word.known().filter(|text| text.starts_with('-') && text.len() > 1);
        let Some(option) = option else {
            files.push(word);
            continue;
        };
        let letters = option.strip_suffix('e').unwrap_or(option);
        if !letters.bytes().skip(1).all(|letter| b"nErsuz".contains(&letter))
            && !LONG.contains(&option)
        {
            return false;
        }
        if letters.len() < option.len() && !option.starts_with("--") {
            if !rest.next().and_then(Word::known).is_some_and(sed_script_prints) {
                return false;
            }
            scripts += 1;
        }
    }
    let files = match files.split_first() {
        Some((script, files)) if scripts == 0 => {
            if !script.known().is_some_and(sed_script_prints) {
                return false;
            }
            files
        }
        _ => files.as_slice(),
    };
    files.iter().all(|file| !file.may_be_option())
}

fn sed_script_prints(script: &str) -> bool {
    let mut script = Sed { rest: script };
    while !script.rest.is_empty() {
        if script.command().is_none() {
            return false;
        }
    }
    true
}

struct Sed<'a> {
    rest: &'a str,
}

impl<'a> Sed<'a> {
    fn takes(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !is_skipped(character)).unwrap_or(self.rest.len());
        let (skipped, rest) = self.rest.split_at(end);
        self.rest = rest;
        skipped
    }

    /// Takes one command; `None` when it may do more than print.
    fn command(&mut self) -> Option<()> {
        self.skip(|c| c == ' ' || c == ';' || c == '\n');
        if self.rest.is_empty() {
            return Some(());
        }
        if self.address()? {
            self.skip(|c| c == ' ');
            if self.takes(',') {
                self.skip(|c| c == ' ');
                // So many lines, or up to a multiple.
                self.skip(|c| c == '+' || c == '~');
                if !self.address()? {
                    return None;
                }
            }
        }
        self.skip(|c| c == ' ' || c == '!');
        let mut characters = self.rest.chars();
        let command = characters.next()?;
        self.rest = characters.as_str();
        match command {
            '{' => return Some(()),
            '}' | '=' | 'd' | 'D' | 'g' | 'G' | 'h' | 'H' | 'n' | 'N' | 'p' | 'P' | 'x' => {}
            'l' | 'q' | 'Q' => {
                self.skip(|c| c == ' ');
                self.skip(|c| c.is_ascii_digit());
            }
            's' | 'y' => {
                let delimiter = self.rest.chars().next().filter(|c| "/#|,@:%!_~+".contains(*c))?;
                self.takes(delimiter);
                // Brackets are letters as others where letters are changed, and in a replacement.
                if command == 's' {
                    self.pattern(delimiter)?;
                } else {
                    self.replacement(delimiter)?;
                }
                self.replacement(delimiter)?;
                if command == 's' {
                    self.skip(|c| c.is_ascii_digit() || "gpiI".contains(c));
                }
            }
            _ => return None,
        }
        self.skip(|c| c == ' ');
        (self.rest.is_empty() || self.rest.starts_with([';', '\n', '}'])).then_some(())
    }

    /// Takes an address, if one is next.
    fn address(&mut self) -> Option<bool> {
        if self.takes('/') {
            self.pattern('/')?;
            self.skip(|c| c == 'I');
            return Some(true);
        }
        Some(self.takes('$') || !self.skip(|c| c.is_ascii_digit() || c == '~').is_empty())
    }

    /// Takes a regular expression and the delimiter behind it. A delimiter in a bracket is none;
    /// to a `sed` that does not know this the bracket stays open, which is an error.
    fn pattern(&mut self, delimiter: char) -> Option<()> {
        loop {
            match self.letter()? {
                '[' => self.bracket()?,
                letter if letter == delimiter => return Some(()),
                _ => {}
            }
        }
    }

    /// Takes a bracket up to its end; `None` where readings of it differ.
    fn bracket(&mut self) -> Option<()> {
        self.takes('^');
        self.takes(']');
        loop {
            if let Some(class) = self.rest.strip_prefix("[:") {
                let (name, rest) = class.split_once(":]")?;
                self.rest = rest;
                if !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    return None;
                }
                continue;
            }
            let mut characters = self.rest.chars();
            let character = characters.next().filter(|c| !"\\[\n".contains(*c))?;
            self.rest = characters.as_str();
            if character == ']' {
                return Some(());
            }
        }
    }

    fn replacement(&mut self, delimiter: char) -> Option<()> {
        while self.letter()? != delimiter {}
        Some(())
    }

    /// Takes a letter of this line; of two, the first of which is a backslash, that.
    fn letter(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let mut next = || letters.next().filter(|letter| *letter != '\n');
        let letter = next()?;
        if letter == '\\' {
            next()?;
        }
        self.rest = letters.as_str();
        Some(letter)
    }
}

/// Whether `words`, the arguments of `awk`, only print.
pub(super) fn awk_prints(words: &[Word]) -> bool {
    let mut words = words;
    loop {
        words = match words {
            [option, value, rest @ ..] if matches!(option.known(), Some("-F" | "-v")) => {
                if value.known().is_none() {
                    return false;
                }
                rest
            }
            [option, rest @ ..] if option.known().is_some_and(|text| text.starts_with("-F")) => {
                rest
            }
            [program, files @ ..] => {
                // `gawk` takes what is below `/inet` for a connection.
                let is_file =
                    |word: &Word| !word.may_be_option() && !word.start().starts_with("/inet");
                return program.known().is_some_and(awk_program_prints)
                    && files.iter().all(is_file);
            }
            [] => return false,
        };
    }
}

/// Output goes to a file or a program by `>` or `|` behind `print`, input comes from a program
/// by `getline`. Where a regular expression or a comment could hide a quote, no text is skipped.
fn awk_program_prints(program: &str) -> bool {
    const REACHING: [&str; 3] = ["system", "getline", "@"];
    // A backslash could keep a quote from ending a text, or join two lines.
    let is_escape = |behind: &str| !behind.is_empty() && !behind.starts_with(['\\', '"', '\n']);
    if program.starts_with('-')
        || REACHING.iter().any(|word| program.contains(word))
        || !program.split('\\').skip(1).all(is_escape)
    {
        return false;
    }
    let pieces: Vec<&str> = program.split('"').collect();
    let has_texts = pieces.len() > 1;
    if has_texts && (program.contains(['/', '#']) || pieces.len().is_multiple_of(2)) {
        return false;
    }
    // Every second piece is a text.
    let bare: String = pieces.into_iter().step_by(2).collect::<Vec<_>>().join(" ");
    match bare.split_once("print") {
        Some((_, behind)) => !behind.contains(['>', '|']),
        None => true,
    }
}
