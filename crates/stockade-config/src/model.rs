//! The model of the built-in agent and the limits of its tasks, as they stand in configuration.
//!
//! The key itself never stands there, only where it comes from. A project's own file says nothing
//! of the model: the code would choose who reads it, and with whose money.
//!
//! Invariant: a key goes to the server that it was configured with. A layer that names another
//! server leaves the key of those below.

use std::time::Duration;

use stockade_policy::{EndpointError, KeySource, check_endpoint, parse_time};
use toml::de::DeValue;

use crate::diagnose::{ConfigError, Source};
use crate::env::Env;
use crate::schema::{Entry, Placed, Reader, Value};

/// The model, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelText {
    /// The API that its server speaks.
    pub api: ModelApi,
    /// What stands before `/responses`, `/chat/completions` or `/v1/messages`: encrypted, or on
    /// this machine.
    pub base_url: String,
    /// Its name, as the server knows it.
    pub name: String,
    /// Where its key comes from, if it needs one.
    pub key: Option<KeySource>,
    /// What it can read at once, in tokens.
    pub context_tokens: u64,
}

/// The API of a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelApi {
    /// `responses`.
    Responses,
    /// `chat`.
    Chat,
    /// `messages`.
    Messages,
}

/// Limits of a task of the built-in agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentLimits {
    /// What one command may take.
    pub command_timeout: Duration,
    /// Questions to the model.
    pub max_turns: u32,
    /// Tokens in all, read and written.
    pub max_tokens: Option<u64>,
    /// How long a question waits for its answer.
    pub question_timeout: Duration,
    /// How the terminal calls when a question waits.
    pub notify: Notify,
}

/// How a terminal calls the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notify {
    /// `off`.
    #[default]
    Off,
    /// `bell`: it rings.
    Bell,
    /// `desktop`: it is asked for a notification of the desktop (`OSC 9`).
    Desktop,
}

impl Notify {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bell => "bell",
            Self::Desktop => "desktop",
        }
    }
}

pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_mins(10);
pub(crate) const MAX_TURNS: u32 = 100;
pub(crate) const QUESTION_TIMEOUT: Duration = Duration::from_mins(5);
/// What most models of today can read. A server of which the model reads less says so, and is
/// asked again with less.
pub const CONTEXT_TOKENS: u64 = 128_000;

/// What one layer says of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModelSettings {
    pub(crate) api: Option<Placed<ModelApi>>,
    pub(crate) base_url: Option<Placed<String>>,
    pub(crate) name: Option<Placed<String>>,
    pub(crate) key: Option<Placed<KeySource>>,
    pub(crate) context_tokens: Option<Placed<u64>>,
}

/// What one layer says of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentSettings {
    pub(crate) command_timeout: Option<Placed<Duration>>,
    pub(crate) max_turns: Option<Placed<u32>>,
    pub(crate) max_tokens: Option<Placed<u64>>,
    pub(crate) question_timeout: Option<Placed<Duration>>,
    pub(crate) notify: Option<Placed<Notify>>,
}

impl ModelSettings {
    pub(crate) fn overlay(self, above: Self) -> Self {
        let key = if above.base_url.is_some() { None } else { self.key };
        Self {
            api: above.api.or(self.api),
            base_url: above.base_url.or(self.base_url),
            name: above.name.or(self.name),
            key: above.key.or(key),
            context_tokens: above.context_tokens.or(self.context_tokens),
        }
    }

    /// Where each of its parts stands.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.base_url, &self.name].into_iter().flatten();
        let api = self.api.iter().map(|api| &api.place);
        let key = self.key.iter().map(|key| &key.place);
        let window = self.context_tokens.iter().map(|tokens| &tokens.place);
        api.chain(texts.map(|text| &text.place)).chain(key).chain(window).map(String::as_str)
    }

    /// The model, for who needs one.
    pub(crate) fn whole(&self) -> Result<ModelText, ConfigError> {
        let missing = |key: &str| {
            ConfigError::refused(
                format!("no model is configured: `{key}` of `[model]` is missing"),
                "set `api`, `base_url`, `name` and `key` of `[model]` in \
                 ~/.config/stockade/config.toml",
            )
        };
        let text = |value: &Option<Placed<String>>| value.as_ref().map(|text| text.value.clone());
        Ok(ModelText {
            api: self.api.as_ref().ok_or_else(|| missing("api"))?.value,
            base_url: text(&self.base_url).ok_or_else(|| missing("base_url"))?,
            name: text(&self.name).ok_or_else(|| missing("name"))?,
            key: self.key.as_ref().map(|key| key.value.clone()),
            context_tokens: self.context_tokens.as_ref().map_or(CONTEXT_TOKENS, |at| at.value),
        })
    }
}

impl AgentSettings {
    pub(crate) fn overlay(self, above: Self) -> Self {
        Self {
            command_timeout: above.command_timeout.or(self.command_timeout),
            max_turns: above.max_turns.or(self.max_turns),
            max_tokens: above.max_tokens.or(self.max_tokens),
            question_timeout: above.question_timeout.or(self.question_timeout),
            notify: above.notify.or(self.notify),
        }
    }

    pub(crate) fn whole(&self) -> AgentLimits {
        AgentLimits {
            command_timeout: self.command_timeout.as_ref().map_or(COMMAND_TIMEOUT, |at| at.value),
            max_turns: self.max_turns.as_ref().map_or(MAX_TURNS, |at| at.value),
            max_tokens: self.max_tokens.as_ref().map(|at| at.value),
            question_timeout: self
                .question_timeout
                .as_ref()
                .map_or(QUESTION_TIMEOUT, |at| at.value),
            notify: self.notify.as_ref().map(|at| at.value).unwrap_or_default(),
        }
    }
}

impl Env {
    /// The key that variable `name` holds.
    ///
    /// # Errors
    ///
    /// When it is not set, empty, or no text.
    pub fn key(&self, name: &str) -> Result<String, ConfigError> {
        let value = self.vars.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str());
        match value.filter(|value| !value.trim().is_empty()) {
            Some(value) => Ok(value.to_owned()),
            None => Err(ConfigError::refused(
                format!("the variable `{name}`, which holds the model's key, is not set"),
                "set it, or change `key` of `[model]`",
            )),
        }
    }
}

impl Reader<'_> {
    /// Reads one entry of `[model]`.
    pub(crate) fn model(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "api" => {
                let api = match self.string(value)?.as_str() {
                    "responses" => ModelApi::Responses,
                    "chat" => ModelApi::Chat,
                    "messages" => ModelApi::Messages,
                    _ => {
                        return Err(
                            self.wrong_value(value, "one of `responses`, `chat`, `messages`")
                        );
                    }
                };
                self.settings.model.api = Some(self.placed(value.span(), api));
            }
            "base_url" => {
                let url = self.string(value)?;
                if let Err(error) = check_endpoint(&url) {
                    // A log-in or a query is as secret as a key.
                    let source = match error {
                        EndpointError::LogIn | EndpointError::Query => without(self.source, value),
                        EndpointError::NotAUrl | EndpointError::Plain => self.source.clone(),
                    };
                    let help = Some(error.hint().to_owned());
                    return Err(source.wrong(value.span(), "wrong value", error.to_string(), help));
                }
                self.settings.model.base_url = Some(self.placed(value.span(), url));
            }
            "name" => {
                let name = self.string(value)?;
                if name.trim().is_empty() {
                    return Err(self.wrong_value(value, "the name of a model"));
                }
                self.settings.model.name = Some(self.placed(value.span(), name));
            }
            "key" => self.model_key(value)?,
            "context_tokens" => {
                let number = self.whole_number(value, u64::MAX, "a number of tokens")?;
                self.settings.model.context_tokens = Some(self.placed(value.span(), number));
            }
            _ => return Err(self.unknown(key, "model")),
        }
        Ok(())
    }

    fn model_key(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        let source = self.key_source(value)?;
        self.settings.model.key = Some(self.placed(value.span(), source));
        Ok(())
    }

    /// Reads where a key comes from; the key itself is refused, and not repeated.
    pub(crate) fn key_source(&self, value: &Value<'_>) -> Result<KeySource, ConfigError> {
        let help = "write `{ env = \"NAME\" }` or `{ command = [\"pass\", \"show\", \"x\"] }`";
        let DeValue::Table(table) = value.get_ref() else {
            let label = "a key does not stand in a file that others may read, copy or commit";
            let source = without(self.source, value);
            let help = Some(help.to_owned());
            return Err(source.wrong(value.span(), "the key itself is refused", label, help));
        };
        let mut entries = table.iter();
        let (Some((kind, from)), None) = (entries.next(), entries.next()) else {
            return Err(self.wrong_value(value, "one of `env`, `command`, `keyring`"));
        };
        match kind.get_ref().as_ref() {
            "env" => {
                let name = self.string(from)?;
                if !is_variable(&name) {
                    // It may be the key.
                    let label = "expected the name of a variable";
                    let source = without(self.source, from);
                    return Err(source.wrong(from.span(), "wrong value", label, None));
                }
                Ok(KeySource::Variable(name))
            }
            "command" => {
                let words = self.words_of_key(from)?;
                let words = words.filter(|words| !words.iter().take(1).any(String::is_empty));
                let expected = "a program and its arguments";
                words.map(KeySource::Program).ok_or_else(|| self.wrong_value(from, expected))
            }
            "keyring" => {
                let expected = "names and values of attributes in turn, as \
                                `[\"service\", \"example.org\"]`";
                let words = self.words_of_key(from)?.filter(|words| words.len() % 2 == 0);
                words.map(KeySource::Keyring).ok_or_else(|| self.wrong_value(from, expected))
            }
            name => {
                let source = without(self.source, from);
                let help = Some(help.to_owned());
                let message = format!("unknown key `{name}`");
                Err(source.wrong(kind.span(), message, "not known", help))
            }
        }
    }

    /// Words for a program; `None` when there are none, or none that it could be given.
    fn words_of_key(&self, value: &Value<'_>) -> Result<Option<Vec<String>>, ConfigError> {
        let words: Vec<String> = self.strings(value)?.into_iter().map(|word| word.value).collect();
        let is_odd = words.is_empty() || words.iter().any(|word| word.contains('\0'));
        Ok((!is_odd).then_some(words))
    }

    /// Reads one entry of `[agent]`.
    pub(crate) fn agent(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "command_timeout" => {
                let time = parse_time(&self.string(value)?)
                    .map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.agent.command_timeout = Some(self.placed(value.span(), time));
            }
            "max_turns" => {
                let expected = "a number of turns from 1 to 1000000";
                let number = self.whole_number(value, 1_000_000, expected)?;
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.settings.agent.max_turns = Some(self.placed(value.span(), number));
            }
            "max_tokens" => {
                let number =
                    self.whole_number(value, u64::MAX, "a number of tokens, at least 1")?;
                self.settings.agent.max_tokens = Some(self.placed(value.span(), number));
            }
            "question_timeout" => {
                let time = parse_time(&self.string(value)?)
                    .map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.agent.question_timeout = Some(self.placed(value.span(), time));
            }
            "bell" => {
                let notify = if self.boolean(value)? { Notify::Bell } else { Notify::Off };
                self.settings.agent.notify = Some(self.placed(value.span(), notify));
            }
            "notify" => {
                let notify = match self.string(value)?.as_str() {
                    "off" => Notify::Off,
                    "bell" => Notify::Bell,
                    "desktop" => Notify::Desktop,
                    _ => return Err(self.wrong_value(value, "`off`, `bell` or `desktop`")),
                };
                self.settings.agent.notify = Some(self.placed(value.span(), notify));
            }
            _ => return Err(self.unknown(key, "agent")),
        }
        Ok(())
    }

    /// A number from 1 to `max`.
    pub(crate) fn whole_number(
        &self,
        value: &Value<'_>,
        max: u64,
        expected: &str,
    ) -> Result<u64, ConfigError> {
        let number = if let DeValue::Integer(number) = value.get_ref() {
            u64::from_str_radix(number.as_str(), number.radix()).ok()
        } else {
            None
        };
        let number = number.filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| self.wrong_value(value, expected))
    }
}

/// Whether `name` can be that of a variable in a shell.
pub(crate) fn is_variable(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_part)
}

/// `source` with `value` blotted out, for a message that shows its line.
fn without(source: &Source, value: &Value<'_>) -> Source {
    let mut source = source.clone();
    let span = value.span();
    // As many bytes, so that every other place stays where it is.
    let shown = source.text.get(span.clone()).unwrap_or_default();
    let blot: String = shown.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
    source.text.replace_range(span, &blot);
    source
}
