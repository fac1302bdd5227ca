//! One rule: a prefix of words, a verdict, and what shows that it means what its author meant.

use stockade_policy::{Grant, Verdict};

/// More words than any rule needs.
const WORDS_MAX: usize = 32;

/// What a rule, or one of its examples, has wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No word, or an empty alternative.
    #[error("a prefix needs at least one word, and each word a text")]
    Empty,
    /// A prefix that is longer than commands are looked at.
    #[error("a prefix has at most {WORDS_MAX} words")]
    TooLong,
    /// A string that does not split into words.
    #[error("{0}")]
    Words(String),
    /// A program by a path that depends on where the command runs.
    #[error("a rule names its program by name or by absolute path, not as `{0}`")]
    RelativeProgram(String),
    /// An example that the rule does not match.
    #[error("the rule does not match its example `{0}`")]
    Example(String),
    /// A counterexample that the rule matches.
    #[error("the rule matches `{0}`, which it must not")]
    Counterexample(String),
}

impl RuleError {
    /// The example that fails, if it is one.
    pub fn example(&self) -> Option<&str> {
        match self {
            Self::Example(line) | Self::Counterexample(line) => Some(line),
            Self::Empty | Self::TooLong | Self::Words(_) | Self::RelativeProgram(_) => None,
        }
    }
}

/// Says of commands that begin with its words whether they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    prefix: Vec<Vec<String>>,
    verdict: Verdict,
    reason: Option<String>,
    grant: Grant,
    source: String,
    examples: Vec<String>,
    counterexamples: Vec<String>,
}

/// A rule as it is named to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// Its words; alternatives with `|` between.
    pub prefix: String,
    /// Where it stands: `file:line`.
    pub source: String,
    /// What its author says to it.
    pub reason: Option<String>,
    /// What an approval by it, or of what it asks about, opens.
    pub grant: Grant,
}

impl RuleRef {
    /// The rule as the record of a refusal has it.
    pub fn decided(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("rule \"{}\" ({}){reason}", self.prefix, self.source)
    }
}

impl Rule {
    /// A rule about commands that begin with `prefix`, one list of alternatives for each word.
    ///
    /// # Errors
    ///
    /// [`RuleError`] when no command could be meant by it.
    pub fn new(
        prefix: Vec<Vec<String>>,
        verdict: Verdict,
        source: impl Into<String>,
    ) -> Result<Self, RuleError> {
        let is_nothing =
            |words: &Vec<String>| words.is_empty() || words.iter().any(String::is_empty);
        if prefix.is_empty() || prefix.iter().any(is_nothing) {
            return Err(RuleError::Empty);
        }
        if prefix.len() > WORDS_MAX {
            return Err(RuleError::TooLong);
        }
        let is_relative = |name: &&String| name.contains('/') && !name.starts_with('/');
        if let Some(name) = prefix.iter().take(1).flatten().find(is_relative) {
            return Err(RuleError::RelativeProgram(name.clone()));
        }
        let source = source.into();
        let (examples, counterexamples) = (Vec::new(), Vec::new());
        let (reason, grant) = (None, Grant::default());
        Ok(Self { prefix, verdict, reason, grant, source, examples, counterexamples })
    }

    /// What the user is told when the rule decides.
    #[must_use]
    pub fn with_reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// What an approval opens.
    #[must_use]
    pub fn with_grant(mut self, grant: Grant) -> Self {
        self.grant = grant;
        self
    }

    /// Lines that it must match, and lines that it must not; checked when a set is made.
    #[must_use]
    pub fn with_examples(mut self, examples: Vec<String>, counterexamples: Vec<String>) -> Self {
        self.examples = examples;
        self.counterexamples = counterexamples;
        self
    }

    /// What it says.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Where it stands.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// One list of alternatives for each word.
    pub fn prefix(&self) -> &[Vec<String>] {
        &self.prefix
    }

    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }

    pub(crate) fn counterexamples(&self) -> &[String] {
        &self.counterexamples
    }

    /// The rule for a person.
    pub fn named(&self) -> RuleRef {
        let words: Vec<String> = self.prefix.iter().map(|word| word.join("|")).collect();
        RuleRef {
            prefix: words.join(" "),
            source: self.source.clone(),
            reason: self.reason.clone(),
            grant: self.grant.clone(),
        }
    }
}

/// Splits a prefix as shell words: quotes and backslashes, no expansion.
///
/// # Errors
///
/// [`RuleError::Words`] for an open quote, and for what a shell would expand or take as an
/// operator: a rule that read `*` as itself would not do what its author thinks.
pub fn split_words(line: &str) -> Result<Vec<String>, RuleError> {
    let wrong = |what: &str| RuleError::Words(format!("{what} in `{line}`"));
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let is_double = character == '"';
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        None => return Err(wrong("an open quote")),
                        Some(end) if end == character => break,
                        Some('$' | '`') if is_double => return Err(wrong("an expansion")),
                        Some('\\') if is_double => match characters.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err(wrong("an open quote")),
                        },
                        Some(other) => word.push(other),
                    }
                }
            }
            '\\' => match characters.next() {
                Some(escaped) if escaped != '\n' => word.get_or_insert_default().push(escaped),
                _ => return Err(wrong("a backslash at the end of a line")),
            },
            '$' | '`' | '*' | '?' | ';' | '|' | '&' | '<' | '>' | '(' | ')' | '\n' | '\r' => {
                let shown = character.escape_debug();
                return Err(wrong(&format!("an unquoted `{shown}`, which matches nothing,")));
            }
            '~' | '#' if word.is_none() => {
                return Err(wrong(&format!("an unquoted `{character}`, which matches nothing,")));
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(RuleError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_splits_as_shell_words_and_expands_nothing() {
        const CASES: &[(&str, &[&str])] = &[
            ("npm test", &["npm", "test"]),
            ("  npm\ttest ", &["npm", "test"]),
            ("git commit -m 'a b'", &["git", "commit", "-m", "a b"]),
            ("a\"b c\"'d'", &["ab cd"]),
            ("echo ''", &["echo", ""]),
            (r#"a\ b "\"\x""#, &["a b", "\"\\x"]),
            ("[ -f x ]", &["[", "-f", "x", "]"]),
        ];
        for &(line, expected) in CASES {
            assert_eq!(split_words(line).unwrap(), expected, "{line}");
        }
        let wrong = ["npm *", "$x", "`x`", "\"$x\"", "a;b", "'a", "a\\", "~/bin/x", "a|b", "#x"];
        for line in wrong {
            assert!(matches!(split_words(line), Err(RuleError::Words(_))), "{line}");
        }
        assert_eq!(split_words("  "), Err(RuleError::Empty));
    }

    #[test]
    fn a_rule_that_could_mean_nothing_is_refused() {
        let rule = |words: &[&[&str]]| {
            let words = words.iter().map(|word| word.iter().map(|&w| w.to_owned()).collect());
            Rule::new(words.collect(), Verdict::Allow, "x:1").map(|_| ())
        };
        assert_eq!(rule(&[]), Err(RuleError::Empty));
        assert_eq!(rule(&[&["a"], &[]]), Err(RuleError::Empty));
        assert_eq!(rule(&[&["a", ""]]), Err(RuleError::Empty));
        assert_eq!(rule(&[&["./a"]]), Err(RuleError::RelativeProgram("./a".to_owned())));
        assert_eq!(rule(&[&["/a"], &["./b"]]), Ok(()));
        assert_eq!(rule(&[&["a"] as &[_]; 33]), Err(RuleError::TooLong));
    }
}
