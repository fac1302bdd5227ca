//! From configuration to what an agent and its judge are given.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

use stockade_agents::{Api, Model, Secret};
use stockade_config::{Env, KeySource, Loaded, Prefix, RuleText};
use stockade_rules::{Rule, RuleError, RuleSet, split_words};
use stockade_threads::local::Budget;

use crate::failure::Failure;

/// Calls to the model, when the configuration says nothing.
const MAX_TURNS: u32 = 100;
/// What one command has, when the configuration says nothing.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(10);

/// The rules of all layers, with their examples checked.
pub(super) fn rules(texts: &[RuleText]) -> Result<RuleSet, Failure> {
    let wrong = |place: &str, error: &RuleError| Failure::new(format!("{place}: {error}"), "");
    let rules = texts.iter().map(|text| rule(text).map_err(|error| wrong(&text.place, &error)));
    RuleSet::new(rules.collect::<Result<_, _>>()?).map_err(|(number, error)| {
        wrong(texts.get(number).map_or("a rule", |text| &text.place), &error)
    })
}

fn rule(text: &RuleText) -> Result<Rule, RuleError> {
    let words = match &text.prefix {
        Prefix::Line(line) => split_words(line)?.into_iter().map(|word| vec![word]).collect(),
        Prefix::Words(words) => words.clone(),
    };
    let rule = Rule::new(words, text.decision, text.place.clone())?;
    Ok(rule
        .with_reason(text.reason.clone())
        .with_examples(text.examples.clone(), text.counterexamples.clone()))
}

/// The model that is configured, with its key.
pub(super) fn model(loaded: &Loaded, env: &Env) -> Result<Model, Failure> {
    let text = &loaded.model;
    let missing = |key: &str| {
        let hint = "write `[model]` with `api`, `base_url` and `name` into \
                    `~/.config/stockade/config.toml`";
        Failure::new(format!("no model is configured: `model.{key}` is missing"), hint)
    };
    let api = match text.api.as_deref() {
        Some("chat") => Api::Chat,
        Some("messages") => Api::Messages,
        Some(_) => Api::Responses,
        None => return Err(missing("api")),
    };
    Ok(Model {
        api,
        base_url: text.base_url.clone().ok_or_else(|| missing("base_url"))?,
        name: text.name.clone().ok_or_else(|| missing("name"))?,
        key: text.key.as_ref().map(|source| key(source, env)).transpose()?,
    })
}

/// Fetches a key from where the user keeps it. It is in no message.
fn key(source: &KeySource, env: &Env) -> Result<Secret, Failure> {
    let wrong = |why: String| Failure::new(format!("no key for the model: {why}"), "");
    let text = match source {
        KeySource::Variable(name) => {
            let value = env.vars.get(OsStr::new(name)).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| wrong(format!("`{name}` is not set")))?;
            value.to_str().ok_or_else(|| wrong(format!("`{name}` is not text")))?.to_owned()
        }
        KeySource::Program(words) => {
            let (program, arguments) = words.split_first().ok_or_else(|| wrong(String::new()))?;
            let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output();
            let output = output.map_err(|error| wrong(format!("`{program}`: {error}")))?;
            if !output.status.success() {
                return Err(wrong(format!("`{program}`: {}", output.status)));
            }
            String::from_utf8(output.stdout)
                .map_err(|_bytes| wrong(format!("`{program}` prints no text")))?
        }
    };
    Ok(Secret::new(&text))
}

/// What a task may use up.
pub(super) fn budget(loaded: &Loaded) -> Budget {
    let limits = &loaded.agent;
    Budget {
        max_turns: limits.max_turns.unwrap_or(MAX_TURNS),
        max_tokens: limits.max_tokens,
        command_timeout: limits.command_timeout.unwrap_or(COMMAND_TIMEOUT),
    }
}
