//! What the user has answered for one project to a rule that asks: `[[answers]]` in the file of answers.
//!
//! An answer is to one rule, by its words: another rule that asks about the same command goes on
//! asking, and one that denies goes on denying. It is no rule of its own.

use toml::de::DeValue;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::diagnose::{ConfigError, Layer};
use crate::edit::RuleFile;
use crate::schema::{Reader, Settings, Value};

/// Commands that begin so are not asked about by one rule, in one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredRule {
    /// The words of the rule that asked, alternatives with `|` between.
    pub rule: String,
    /// How the commands begin.
    pub prefix: Vec<String>,
    /// `FILE:LINE`.
    pub place: String,
}

impl Reader<'_> {
    pub(crate) fn answered_rules(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        let DeValue::Array(tables) = value.get_ref() else {
            return Err(self.wrong_value(value, "tables `[[answers]]`"));
        };
        for table in tables {
            let (mut rule, mut prefix) = (None, Vec::new());
            self.each_free(table, |reader, (key, value)| {
                match key.get_ref().as_ref() {
                    "rule" => rule = Some(reader.string(value)?),
                    "prefix" => prefix = reader.texts(value)?,
                    name => {
                        let message = format!("unknown key `{name}`");
                        let help = "an answer is `rule`, and `prefix` as a list of words";
                        let help = Some(help.to_owned());
                        return Err(reader.source.wrong(key.span(), message, "not known", help));
                    }
                }
                Ok(())
            })?;
            let (Some(rule), false) = (rule, prefix.is_empty()) else {
                let label = "`rule` and `prefix` are needed";
                return Err(self.source.wrong(table.span(), "wrong answer", label, None));
            };
            let place = self.source.place(table.span().start);
            self.settings.answered_rules.push(AnsweredRule { rule, prefix, place });
        }
        Ok(())
    }
}

impl RuleFile {
    /// The answers to rules in it; none when it names another workspace.
    ///
    /// # Errors
    ///
    /// The file is wrong, or cannot be read.
    pub fn answered_rules(&self) -> Result<Vec<AnsweredRule>, ConfigError> {
        let Some(text) = self.text()? else { return Ok(Vec::new()) };
        let settings = self.settings(&text)?;
        Ok(if self.is_of(&settings) { settings.answered_rules } else { Vec::new() })
    }

    /// Has `rule` no longer ask about commands that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// The file is wrong, or cannot be written; it is then as it was.
    pub fn answer(&self, rule: &str, prefix: &[String]) -> Result<(), ConfigError> {
        let has = |settings: &Settings| {
            settings.answered_rules.iter().any(|it| it.rule == rule && it.prefix == prefix)
        };
        let put = |document: &mut DocumentMut| {
            let tables = document.entry("answers");
            let tables = tables.or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n# answered to a question\n");
            table.insert("rule", value(rule));
            table.insert("prefix", value(prefix.iter().map(String::as_str).collect::<Array>()));
            tables.as_array_of_tables_mut()?.push(table);
            Some(())
        };
        self.put_once(rule, has, put).map(drop)
    }

    /// Takes out the answer that stands at `place` (`file:line`).
    ///
    /// # Errors
    ///
    /// There is none, or the file cannot be written.
    pub fn revoke_answer(&self, place: &str) -> Result<AnsweredRule, ConfigError> {
        let mut all = self.answered_rules()?;
        let at = all.iter().position(|answer| answer.place == place);
        let at = at.ok_or_else(|| self.by_hand(place))?;
        self.take_out(place, |document| {
            drop(document.get_mut("answers")?.as_array_of_tables_mut()?.remove(at));
            Some(())
        })?;
        Ok(all.swap_remove(at))
    }
}

impl crate::load::Loaded {
    /// The answers to rules that hold here. What the machine requires to be asked about is asked about.
    pub fn answered_rules(&self) -> Vec<AnsweredRule> {
        let is_required = |answer: &AnsweredRule| {
            self.rules.iter().any(|rule| {
                rule.layer == Layer::Requirements
                    && rule.rule().is_ok_and(|it| it.named().prefix == answer.rule)
            })
        };
        let all = self.settings.answered_rules.iter();
        all.filter(|answer| !is_required(answer)).cloned().collect()
    }
}
