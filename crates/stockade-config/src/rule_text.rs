//! Command rules as they stand in configuration.
//!
//! Read strictly here, so that a slip, a failing example included, is found with its line and
//! column before anything runs; what a rule *means* is decided by `stockade-rules`.

use std::ops::Range;

use stockade_policy::{Grant, Verdict};
use stockade_rules::{Rule, RuleError, RuleSet, split_words};
use toml::de::DeValue;

use crate::diagnose::{ConfigError, Layer};
use crate::expiry::Expiry;
use crate::grants::GrantText;
use crate::schema::{Entry, Reader, Value};

/// One `[[rules]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// Which commands it speaks of.
    pub prefix: Prefix,
    /// What it says of them.
    pub decision: Verdict,
    /// What the user is told.
    pub reason: Option<String>,
    /// What an approval opens, as it is written.
    pub grant: GrantText,
    /// The same on this machine's disk, once the layers are together.
    pub(crate) opens: Grant,
    /// When it stops to hold, if it does.
    pub expires: Option<Expiry>,
    /// Command lines that it must match.
    pub examples: Vec<String>,
    /// Command lines that it must not match.
    pub counterexamples: Vec<String>,
    /// Where it stands: `file:line`.
    pub place: String,
    /// Which layer it stands in; a project's own may not allow.
    pub layer: Layer,
}

/// For whom a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This start: `-c`.
    Thread,
    /// One project: its own file, or what the user has answered for it.
    Project,
    /// The user: their own file, and a profile of it.
    User,
    /// Everybody on this machine.
    System,
}

impl Scope {
    /// The word in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Project => "project",
            Self::User => "user",
            Self::System => "system",
        }
    }

    /// That of what stands in `layer`.
    pub fn of(layer: Layer) -> Self {
        match layer {
            Layer::System | Layer::Requirements => Self::System,
            Layer::Codex | Layer::User | Layer::Profile => Self::User,
            Layer::Project | Layer::Trusted | Layer::Answers => Self::Project,
            Layer::Option => Self::Thread,
        }
    }
}

/// The beginning of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// One string, to be split as shell words.
    Line(String),
    /// Words; each may be one of several.
    Words(Vec<Vec<String>>),
}

impl RuleText {
    /// For whom it holds.
    pub fn scope(&self) -> Scope {
        Scope::of(self.layer)
    }

    /// The rule that the text means.
    ///
    /// # Errors
    ///
    /// Its words mean nothing; of what [`load`](crate::load()) returns, none
    /// does.
    pub fn rule(&self) -> Result<Rule, RuleError> {
        let words = match &self.prefix {
            Prefix::Line(line) => split_words(line)?.into_iter().map(|word| vec![word]).collect(),
            Prefix::Words(words) => words.clone(),
        };
        let rule = Rule::new(words, self.decision, self.place.clone())?;
        Ok(rule
            .with_reason(self.reason.clone())
            .with_grant(self.opens.clone())
            .with_examples(self.examples.clone(), self.counterexamples.clone()))
    }
}

/// A command line that a rule must match, or must not, and where it stands.
type Example = (String, Range<usize>);

/// The parts of a rule as they are found.
#[derive(Default)]
struct Parts {
    prefix: Option<(Prefix, Range<usize>)>,
    allow: Option<bool>,
    decision: Option<Verdict>,
    reason: Option<String>,
    grant: GrantText,
    grant_place: Option<Range<usize>>,
    expires: Option<Expiry>,
    examples: Vec<Example>,
    counterexamples: Vec<Example>,
}

impl Reader<'_> {
    /// Reads the list of rules; a project's `allow` is a widening and left out.
    pub(crate) fn rules(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        let DeValue::Array(rules) = value.get_ref() else {
            return Err(self.wrong_value(value, "tables `[[rules]]`"));
        };
        for rule in rules {
            let rule = self.rule(rule)?;
            self.settings.rules.push(rule);
        }
        Ok(())
    }

    fn rule(&mut self, value: &Value<'_>) -> Result<RuleText, ConfigError> {
        let mut parts = Parts::default();
        self.each("rules", value, |reader, entry| reader.rule_part(entry, &mut parts))?;
        let wrong = |label: &str| self.source.wrong(value.span(), "wrong rule", label, None);
        let decision = match (parts.allow, parts.decision) {
            (None, None) => return Err(wrong("a decision is missing: `allow` or `decision`")),
            (Some(allow), Some(decision)) if allow != (decision == Verdict::Allow) => {
                return Err(wrong("`allow` and `decision` contradict each other"));
            }
            (_, Some(decision)) => decision,
            (Some(true), None) => Verdict::Allow,
            (Some(false), None) => Verdict::Deny,
        };
        if let Some(place) = parts.grant_place.filter(|_| decision == Verdict::Deny) {
            let label = "a rule that denies opens nothing";
            return Err(self.source.wrong(place, "wrong rule", label, None));
        }
        let (prefix, place) = parts.prefix.ok_or_else(|| wrong("`prefix` is missing"))?;
        let lines = |examples: &[Example]| examples.iter().map(|(line, _)| line.clone()).collect();
        let text = RuleText {
            prefix,
            decision,
            reason: parts.reason,
            grant: parts.grant,
            opens: Grant::default(),
            expires: parts.expires,
            examples: lines(&parts.examples),
            counterexamples: lines(&parts.counterexamples),
            place: self.source.place(value.span().start),
            layer: self.source.layer,
        };
        let checked = text.rule().and_then(|rule| RuleSet::new(vec![rule]).map_err(|(_, why)| why));
        checked.map_err(|error| {
            let examples = parts.examples.iter().chain(&parts.counterexamples);
            let found = examples.into_iter().find(|(line, _)| error.example() == Some(line));
            let place = found.map_or(place, |(_, place)| place.clone());
            self.source.wrong(place, "wrong rule", error.to_string(), None)
        })?;
        Ok(text)
    }

    fn rule_part(&mut self, (key, value): Entry<'_>, parts: &mut Parts) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "prefix" => parts.prefix = Some((self.prefix(value)?, value.span())),
            "allow" => parts.allow = Some(self.boolean(value)?),
            "decision" => {
                parts.decision = Some(match self.string(value)?.as_str() {
                    "allow" => Verdict::Allow,
                    "ask" => Verdict::Ask,
                    "deny" => Verdict::Deny,
                    _ => return Err(self.wrong_value(value, "one of `allow`, `ask`, `deny`")),
                });
            }
            "reason" => parts.reason = Some(self.string(value)?),
            "match" => parts.examples = self.examples(value)?,
            "not_match" => parts.counterexamples = self.examples(value)?,
            "grant" => {
                parts.grant = self.grant(value)?;
                parts.grant_place = Some(value.span());
            }
            "expires" => parts.expires = Some(self.expiry(value)?),
            "scope" => self.scope(value)?,
            _ => return Err(self.unknown(key, "rules")),
        }
        Ok(())
    }

    /// The scope of a rule is where it stands; one that claims another is a mistake.
    fn scope(&self, value: &Value<'_>) -> Result<(), ConfigError> {
        let here = Scope::of(self.source.layer).as_str();
        let word = self.string(value)?;
        if word == here {
            return Ok(());
        }
        if !["thread", "project", "user", "system"].contains(&word.as_str()) {
            return Err(self.wrong_value(value, "one of `thread`, `project`, `user`, `system`"));
        }
        let label = format!("a rule that stands here has the scope `{here}`");
        Err(self.source.wrong(value.span(), "wrong rule", label, None))
    }

    pub(crate) fn texts(&self, value: &Value<'_>) -> Result<Vec<String>, ConfigError> {
        Ok(self.strings(value)?.into_iter().map(|text| text.value).collect())
    }

    fn examples(&self, value: &Value<'_>) -> Result<Vec<Example>, ConfigError> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of strings"));
        };
        array.iter().map(|item| Ok((self.string(item)?, item.span()))).collect()
    }

    fn prefix(&self, value: &Value<'_>) -> Result<Prefix, ConfigError> {
        let empty = || self.wrong_value(value, "at least one word");
        if let DeValue::String(line) = value.get_ref() {
            return if line.trim().is_empty() {
                Err(empty())
            } else {
                Ok(Prefix::Line(line.to_string()))
            };
        }
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a string or a list of words"));
        };
        let mut words = Vec::new();
        for item in array {
            let alternatives = if matches!(item.get_ref(), DeValue::Array(_)) {
                self.texts(item)?
            } else {
                vec![self.string(item)?]
            };
            if alternatives.is_empty() {
                return Err(self.wrong_value(item, "at least one alternative"));
            }
            words.push(alternatives);
        }
        let is_nothing = |word: &Vec<String>| word.iter().any(String::is_empty);
        if words.first().is_none_or(is_nothing) { Err(empty()) } else { Ok(Prefix::Words(words)) }
    }
}
