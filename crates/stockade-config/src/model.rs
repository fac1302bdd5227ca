//! The model of the built-in agent, and what one of its tasks may use up.
//!
//! A project's own file says nothing of the model: it would learn the conversation, and with it
//! the key. It may lower what a task uses up.

use std::time::Duration;

use stockade_policy::parse_time;
use toml::de::DeValue;

use crate::diagnose::ConfigError;
use crate::schema::{Entry, Placed, Reader, Value};

/// Where the model is, as far as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelText {
    /// `responses`, `chat` or `messages`.
    pub api: Option<String>,
    /// What stands before `/responses`, `/chat/completions` or `/v1/messages`.
    pub base_url: Option<String>,
    /// The model's name, as its server knows it.
    pub name: Option<String>,
    /// Where its key is to be had.
    pub key: Option<KeySource>,
}

/// Where a key is to be had; never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A variable of the user's environment.
    Variable(String),
    /// A program that prints it, with its arguments.
    Program(Vec<String>),
}

/// What one task may use up, as far as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentLimits {
    /// What one command has.
    pub command_timeout: Option<Duration>,
    /// Calls to the model.
    pub max_turns: Option<u32>,
    /// Tokens in all.
    pub max_tokens: Option<u64>,
}

/// `[model]` and `[agent]` of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentSettings {
    pub(crate) api: Option<Placed<String>>,
    pub(crate) base_url: Option<Placed<String>>,
    pub(crate) name: Option<Placed<String>>,
    pub(crate) key: Option<Placed<KeySource>>,
    pub(crate) command_timeout: Option<Placed<Duration>>,
    pub(crate) max_turns: Option<Placed<u32>>,
    pub(crate) max_tokens: Option<Placed<u64>>,
}

impl AgentSettings {
    /// Puts `above` on top.
    pub(crate) fn overlay(self, above: Self) -> Self {
        // A key belongs to its server: another server never gets the key of the one below.
        let key = if above.base_url.is_some() { None } else { self.key };
        Self {
            api: above.api.or(self.api),
            base_url: above.base_url.or(self.base_url),
            name: above.name.or(self.name),
            key: above.key.or(key),
            command_timeout: above.command_timeout.or(self.command_timeout),
            max_turns: above.max_turns.or(self.max_turns),
            max_tokens: above.max_tokens.or(self.max_tokens),
        }
    }

    /// Places of what a project's file says and may not.
    pub(crate) fn of_model(&self) -> Vec<&str> {
        let texts = [&self.api, &self.base_url, &self.name].into_iter().flatten();
        let places = texts.map(|text| text.place.as_str());
        places.chain(self.key.as_ref().map(|key| key.place.as_str())).collect()
    }

    pub(crate) fn model(&self) -> ModelText {
        let text = |text: &Option<Placed<String>>| text.as_ref().map(|text| text.value.clone());
        ModelText {
            api: text(&self.api),
            base_url: text(&self.base_url),
            name: text(&self.name),
            key: self.key.as_ref().map(|key| key.value.clone()),
        }
    }

    pub(crate) fn limits(&self) -> AgentLimits {
        AgentLimits {
            command_timeout: self.command_timeout.as_ref().map(|limit| limit.value),
            max_turns: self.max_turns.as_ref().map(|limit| limit.value),
            max_tokens: self.max_tokens.as_ref().map(|limit| limit.value),
        }
    }
}

impl Reader<'_> {
    pub(crate) fn model(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        let text = |reader: &Self| Ok(Some(reader.placed(value.span(), reader.string(value)?)));
        match key.get_ref().as_ref() {
            "api" => {
                self.settings.agent.api = text(self)?;
                let api = self.settings.agent.api.as_ref().map(|api| api.value.as_str());
                if !matches!(api, Some("responses" | "chat" | "messages")) {
                    return Err(self.wrong_value(value, "`responses`, `chat` or `messages`"));
                }
            }
            "base_url" => self.settings.agent.base_url = text(self)?,
            "name" => self.settings.agent.name = text(self)?,
            "key" => {
                let source = self.key_source(value)?;
                self.settings.agent.key = Some(self.placed(value.span(), source));
            }
            _ => return Err(self.unknown(key, &["api", "base_url", "name", "key"])),
        }
        Ok(())
    }

    fn key_source(&self, value: &Value<'_>) -> Result<KeySource, ConfigError> {
        let expected =
            "`{ env = \"NAME\" }` or `{ command = [\"PROGRAM\", …] }`, never the key itself";
        let wrong = || self.wrong_value(value, expected);
        let DeValue::Table(table) = value.get_ref() else { return Err(wrong()) };
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(wrong());
        };
        match key.get_ref().as_ref() {
            "env" => Ok(KeySource::Variable(self.string(value)?)),
            "command" => {
                let words = self.strings(value)?.into_iter().map(|word| word.value);
                let words: Vec<String> = words.collect();
                if words.is_empty() { Err(wrong()) } else { Ok(KeySource::Program(words)) }
            }
            "keyring" => Err(self.not_yet(key, "a key from the keyring")),
            _ => Err(self.unknown(key, &["env", "command", "keyring"])),
        }
    }

    pub(crate) fn agent(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "command_timeout" => {
                let time = parse_time(&self.string(value)?);
                let time = time.map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.agent.command_timeout = Some(self.placed(value.span(), time));
            }
            "max_turns" => {
                self.settings.agent.max_turns = Some(self.count(value)?);
            }
            "max_tokens" => {
                self.settings.agent.max_tokens = Some(self.count(value)?);
            }
            _ => return Err(self.unknown(key, &["command_timeout", "max_turns", "max_tokens"])),
        }
        Ok(())
    }

    pub(crate) fn count<T: TryFrom<u64>>(&self, value: &Value<'_>) -> Result<Placed<T>, ConfigError> {
        let expected = || self.wrong_value(value, "a number above 0");
        let DeValue::Integer(number) = value.get_ref() else { return Err(expected()) };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| *number > 0).and_then(|number| number.try_into().ok());
        Ok(self.placed(value.span(), number.ok_or_else(expected)?))
    }
}
