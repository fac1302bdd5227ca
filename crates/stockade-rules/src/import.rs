//! Rules in the form of other tools: calls of `prefix_rule`, `host_executable` and `network_rule`
//! with literals and lists (`*.rules`, CODEX.md A6).
//!
//! The form is a programming language in which files could compute their rules. What computes is
//! refused with its line: a rule that nobody can read off the file is no rule to be taken over.

use stockade_policy::Verdict;

use crate::evaluate::base_name;

/// Larger than any file of rules that a person wrote, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// Lists in lists; the form needs two.
const LEVELS_MAX: usize = 8;

/// Why a text cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ImportError {
    /// Counts from 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

/// A `prefix_rule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRule {
    /// One list of alternatives for each word.
    pub prefix: Vec<Vec<String>>,
    /// What it says: `allow`, `prompt` and `forbidden` are allow, ask and deny.
    pub verdict: Verdict,
    /// What is told.
    pub reason: Option<String>,
    /// Lines that it must match.
    pub examples: Vec<String>,
    /// Lines that it must not.
    pub counterexamples: Vec<String>,
    /// Where the call begins; from 1.
    pub line: usize,
}

/// A `network_rule`, which is no rule about commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// The host.
    pub host: String,
    /// `http`, `https`, `socks5_tcp` or `socks5_udp`.
    pub protocol: String,
    /// Whether it may be reached; asked about for `prompt`.
    pub verdict: Verdict,
    /// Where the call begins; from 1.
    pub line: usize,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rules about commands, in the order of the file.
    pub rules: Vec<ImportedRule>,
    /// Rules about hosts.
    pub network: Vec<NetworkRule>,
    /// Programs, each with the absolute paths under which it counts.
    pub executables: Vec<(String, Vec<String>)>,
    /// Programs that rules name by a path from the current folder.
    pub relative: Vec<Relative>,
}

/// A program that a rule named by a path from the current folder (`./gradlew`), which says of no
/// program which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    /// As the file has it.
    pub program: String,
    /// Of a rule that asks or denies it is taken by its last part, wherever it lies; one that
    /// allows does without.
    pub verdict: Verdict,
    /// Where the call begins; from 1.
    pub line: usize,
}

/// Reads a file of rules.
///
/// # Errors
///
/// [`ImportError`] with the place of what is not a call with literals, or means nothing.
pub fn import(text: &str) -> Result<Imported, ImportError> {
    // Editors of some systems put a mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, at: 0 };
    if text.len() > TEXT_MAX {
        return Err(reader.wrong(0, "the file is larger than 1 MiB"));
    }
    let mut imported = Imported::default();
    loop {
        reader.skip(true);
        let Some(first) = reader.peek() else { break };
        let start = reader.at;
        if !(first.is_ascii_alphabetic() || first == '_') {
            return Err(reader.wrong(
                start,
                "a call of `prefix_rule`, `host_executable` or `network_rule` was expected",
            ));
        }
        let name = reader.name().to_owned();
        let call = reader.call(&name, start)?;
        call.take(&reader, &mut imported)?;
        reader.skip(false);
        match reader.peek() {
            None => break,
            Some('\n' | ';') => reader.at += 1,
            Some(_) => return Err(reader.wrong(reader.at, "a new line was expected")),
        }
    }
    imported.name_programs();
    imported.add_paths();
    Ok(imported)
}

impl Imported {
    /// Puts what may be said of it in the place of each program by a path from the current folder.
    pub fn name_programs(&mut self) {
        for rule in &mut self.rules {
            let Some(programs) = rule.prefix.first_mut() else { continue };
            let is_relative = |name: &String| name.contains('/') && !name.starts_with('/');
            let found: Vec<String> =
                programs.iter().filter(|it| is_relative(it)).cloned().collect();
            if found.is_empty() {
                continue;
            }
            programs.retain(|name| !is_relative(name));
            if rule.verdict == Verdict::Allow {
                rule.examples.clear();
            } else {
                let names = found.iter().map(|path| base_name(path).to_owned());
                programs.extend(names.filter(|name| !name.is_empty()));
                rule.counterexamples.clear();
            }
            self.relative.extend(found.into_iter().map(|program| Relative {
                program,
                verdict: rule.verdict,
                line: rule.line,
            }));
        }
        self.rules.retain(|rule| rule.prefix.first().is_some_and(|names| !names.is_empty()));
    }

    /// A path of `host_executable` counts as the program's name does: rules that allow match a
    /// bare name only, so they name it too.
    fn add_paths(&mut self) {
        for rule in self.rules.iter_mut().filter(|rule| rule.verdict == Verdict::Allow) {
            let Some(programs) = rule.prefix.first_mut() else { continue };
            let named: Vec<String> = programs.clone();
            for (name, paths) in &self.executables {
                if named.contains(name) {
                    programs.extend(paths.iter().filter(|path| !named.contains(path)).cloned());
                }
            }
        }
    }
}

/// A literal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<(Value, usize)>),
}

/// A call with its arguments, each with the place of its value.
struct Call {
    name: String,
    start: usize,
    arguments: Vec<(String, Value, usize)>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, what: impl Into<String>) -> ImportError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ImportError { line, column, what: what.into() }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    /// Skips blanks and comments; also line breaks, where one may stand.
    fn skip(&mut self, lines: bool) {
        while let Some(character) = self.peek() {
            match character {
                '#' => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                '\n' if lines => self.at += 1,
                ' ' | '\t' | '\r' => self.at += 1,
                _ => break,
            }
        }
    }

    fn name(&mut self) -> &str {
        let start = self.at;
        let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        while let Some(character) = self.peek().filter(is_part) {
            self.at += character.len_utf8();
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn expect(&mut self, wanted: char) -> Result<(), ImportError> {
        self.skip(true);
        if self.peek() == Some(wanted) {
            self.at += wanted.len_utf8();
            return Ok(());
        }
        let what = format!("`{wanted}` was expected: only literals and lists are read");
        Err(self.wrong(self.at, what))
    }

    fn call(&mut self, name: &str, start: usize) -> Result<Call, ImportError> {
        const CALLS: [(&str, &[&str]); 3] = [
            ("prefix_rule", &["pattern", "decision", "justification", "match", "not_match"]),
            ("host_executable", &["name", "paths"]),
            ("network_rule", &["host", "protocol", "decision", "justification"]),
        ];
        let Some((_, known)) = CALLS.iter().find(|(call, _)| *call == name) else {
            let what = match name {
                "def" | "for" | "if" | "load" | "lambda" => {
                    format!("`{name}` computes; only calls with literals and lists are read")
                }
                _ => format!(
                    "`{name}` is not known; there are `prefix_rule`, `host_executable` and `network_rule`"
                ),
            };
            return Err(self.wrong(start, what));
        };
        self.skip(false);
        self.expect('(')?;
        let mut arguments: Vec<(String, Value, usize)> = Vec::new();
        loop {
            self.skip(true);
            if self.peek() == Some(')') {
                self.at += 1;
                break;
            }
            let place = self.at;
            let key = if self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
                let key = self.name().to_owned();
                self.expect('=')?;
                key
            } else {
                // By place, as the functions declare them.
                known.get(arguments.len()).copied().unwrap_or_default().to_owned()
            };
            if !known.contains(&key.as_str()) {
                let what = format!("`{name}` takes {}", known.join(", "));
                return Err(self.wrong(place, what));
            }
            if arguments.iter().any(|(known, ..)| *known == key) {
                return Err(self.wrong(place, format!("`{key}` stands twice")));
            }
            self.skip(true);
            let place = self.at;
            let value = self.value(0)?;
            arguments.push((key, value, place));
            self.skip(true);
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => {}
                _ => {
                    return Err(self.wrong(
                        self.at,
                        "`,` or `)` was expected: only literals and lists are read",
                    ));
                }
            }
        }
        Ok(Call { name: name.to_owned(), start, arguments })
    }

    fn value(&mut self, level: usize) -> Result<Value, ImportError> {
        let start = self.at;
        match self.peek() {
            Some('"' | '\'') => self.string().map(Value::Text),
            Some(open @ ('[' | '(')) if level < LEVELS_MAX => {
                let close = if open == '[' { ']' } else { ')' };
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    self.skip(true);
                    if self.peek() == Some(close) {
                        self.at += 1;
                        return Ok(Value::List(items));
                    }
                    let place = self.at;
                    items.push((self.value(level + 1)?, place));
                    self.skip(true);
                    match self.peek() {
                        Some(',') => self.at += 1,
                        Some(end) if end == close => {}
                        _ => {
                            return Err(self.wrong(
                                self.at,
                                format!("`,` or `{close}` was expected: only literals and lists are read"),
                            ));
                        }
                    }
                }
            }
            _ => Err(self
                .wrong(start, "a string or a list was expected: only literals and lists are read")),
        }
    }

    /// `"…"`, `'…'` and the same three times, with the escapes that the form knows.
    fn string(&mut self) -> Result<String, ImportError> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let quote = if rest.starts_with('"') { "\"" } else { "'" };
        let triple = quote.repeat(3);
        let end = if rest.starts_with(&triple) { triple.as_str() } else { quote };
        self.at += end.len();
        let mut text = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            if rest.starts_with(end) {
                self.at += end.len();
                return Ok(text);
            }
            let open = |reader: &Self| reader.wrong(start, "this string has no end");
            let mut characters = rest.chars();
            match characters.next().ok_or_else(|| open(self))? {
                '\n' if end.len() == 1 => return Err(open(self)),
                '\\' => {
                    let escaped = characters.next().ok_or_else(|| open(self))?;
                    let rest = characters.as_str();
                    let Some((meant, digits)) = unescaped(escaped, rest) else {
                        let what = format!("`\\{escaped}` is not read");
                        return Err(self.wrong(self.at, what));
                    };
                    text.push(meant);
                    self.at += 1 + escaped.len_utf8() + digits;
                }
                character => {
                    text.push(character);
                    self.at += character.len_utf8();
                }
            }
        }
    }
}

/// What an escape means, and how many digits behind its letter belong to it.
fn unescaped(escaped: char, rest: &str) -> Option<(char, usize)> {
    let digits = match escaped {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let meant = match escaped {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '"' | '\'' => escaped,
        'x' | 'u' | 'U' => {
            let number = rest.get(..digits)?;
            let is_number = number.bytes().all(|byte| byte.is_ascii_hexdigit());
            char::from_u32(u32::from_str_radix(number, 16).ok().filter(|_| is_number)?)?
        }
        _ => return None,
    };
    Some((meant, digits))
}

impl Call {
    fn take(self, reader: &Reader<'_>, imported: &mut Imported) -> Result<(), ImportError> {
        let line = reader.wrong(self.start, "").line;
        match self.name.as_str() {
            "prefix_rule" => {
                let rule = self.rule(reader, line)?;
                imported.rules.push(rule);
            }
            "host_executable" => {
                let name = self.text(reader, "name")?;
                let paths = self.texts(reader, "paths")?;
                // The last definition of a name counts.
                imported.executables.retain(|(known, _)| *known != name);
                imported.executables.push((name, paths));
            }
            _ => {
                let verdict = match self.text(reader, "decision")?.as_str() {
                    "allow" => Verdict::Allow,
                    "prompt" => Verdict::Ask,
                    "deny" | "forbidden" => Verdict::Deny,
                    _ => {
                        let expected = "one of `allow`, `prompt`, `deny`";
                        return Err(self.wrong(reader, "decision", expected));
                    }
                };
                let (host, protocol) = (self.text(reader, "host")?, self.text(reader, "protocol")?);
                imported.network.push(NetworkRule { host, protocol, verdict, line });
            }
        }
        Ok(())
    }

    fn rule(&self, reader: &Reader<'_>, line: usize) -> Result<ImportedRule, ImportError> {
        let Some((Value::List(words), place)) = self.argument("pattern") else {
            return Err(self.wrong(reader, "pattern", "a list of words"));
        };
        let mut prefix = Vec::new();
        for (word, place) in words {
            prefix.push(match word {
                Value::Text(word) => vec![word.clone()],
                Value::List(alternatives) => alternatives
                    .iter()
                    .map(|(word, place)| match word {
                        Value::Text(word) => Ok(word.clone()),
                        Value::List(_) => Err(reader.wrong(*place, "a word was expected")),
                    })
                    .collect::<Result<_, _>>()?,
            });
            if prefix.last().is_none_or(|word| word.is_empty() || word.iter().any(String::is_empty))
            {
                return Err(reader.wrong(*place, "a word, or words, were expected"));
            }
        }
        if prefix.is_empty() {
            return Err(reader.wrong(place, "a pattern needs at least one word"));
        }
        let verdict = match self.argument("decision") {
            None => Verdict::Allow,
            Some((Value::Text(word), _)) if word == "allow" => Verdict::Allow,
            Some((Value::Text(word), _)) if word == "prompt" => Verdict::Ask,
            Some((Value::Text(word), _)) if word == "forbidden" => Verdict::Deny,
            Some(_) => {
                let expected = "one of `allow`, `prompt`, `forbidden`";
                return Err(self.wrong(reader, "decision", expected));
            }
        };
        let reason = self.argument("justification").is_some();
        Ok(ImportedRule {
            prefix,
            verdict,
            reason: if reason { Some(self.text(reader, "justification")?) } else { None },
            examples: self.examples(reader, "match")?,
            counterexamples: self.examples(reader, "not_match")?,
            line,
        })
    }

    fn argument(&self, key: &str) -> Option<(&Value, usize)> {
        let found = self.arguments.iter().find(|(name, ..)| name == key);
        found.map(|(_, value, place)| (value, *place))
    }

    fn wrong(&self, reader: &Reader<'_>, key: &str, expected: &str) -> ImportError {
        match self.argument(key) {
            Some((_, place)) => reader.wrong(place, format!("{expected} was expected")),
            None => reader.wrong(self.start, format!("`{key}` is missing")),
        }
    }

    fn text(&self, reader: &Reader<'_>, key: &str) -> Result<String, ImportError> {
        match self.argument(key) {
            Some((Value::Text(text), _)) if !text.is_empty() => Ok(text.clone()),
            _ => Err(self.wrong(reader, key, "a text")),
        }
    }

    fn texts(&self, reader: &Reader<'_>, key: &str) -> Result<Vec<String>, ImportError> {
        let Some((Value::List(items), _)) = self.argument(key) else {
            return Err(self.wrong(reader, key, "a list of texts"));
        };
        let text = |(item, place): &(Value, usize)| match item {
            Value::Text(text) => Ok(text.clone()),
            Value::List(_) => Err(reader.wrong(*place, "a text was expected")),
        };
        items.iter().map(text).collect()
    }

    /// Examples are lines, or lists of words.
    fn examples(&self, reader: &Reader<'_>, key: &str) -> Result<Vec<String>, ImportError> {
        let items = match self.argument(key) {
            None => return Ok(Vec::new()),
            Some((Value::List(items), _)) => items,
            Some((Value::Text(_), _)) => return Err(self.wrong(reader, key, "a list")),
        };
        let example = |(item, place): &(Value, usize)| match item {
            Value::Text(line) => Ok(line.clone()),
            Value::List(words) => {
                let words = words.iter().map(|(word, _)| match word {
                    Value::Text(word) => Some(quoted(word)),
                    Value::List(_) => None,
                });
                let words: Option<Vec<String>> = words.collect();
                let words = words.ok_or_else(|| reader.wrong(*place, "words were expected"))?;
                Ok(words.join(" "))
            }
        };
        items.iter().map(example).collect()
    }
}

/// A word as a shell reads it as itself.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
