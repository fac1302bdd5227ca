//! From configuration to what an agent and its judge are given.

use stockade_agents::{Api, Model, Secret};
use stockade_config::{AgentText, Env, KeySource, Loaded, ModelApi, Prefix, RuleText};
use stockade_rules::{Rule, RuleError, RuleSet, split_words};
use stockade_threads::local::Budget;

use crate::failure::Failure;

/// Refuses an agent that a thread cannot have yet.
pub(super) fn only_builtin(name: &str) -> Result<(), Failure> {
    if name == "builtin" {
        return Ok(());
    }
    let hint = "this version has `builtin`; `stockade run -- PROGRAM` runs another agent";
    Err(Failure::new(format!("not yet: `--agent {name}`"), hint))
}

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
    let text = loaded.model()?;
    let key = match &text.key {
        None => None,
        Some(KeySource::Environment(name)) => Some(Secret::new(&env.key(name)?)),
        Some(KeySource::Command(argv)) => Some(Secret::from_command(argv)?),
    };
    let api = match text.api {
        ModelApi::Responses => Api::Responses,
        ModelApi::Chat => Api::Chat,
        ModelApi::Messages => Api::Messages,
    };
    Ok(Model { api, base_url: text.base_url, name: text.name, key })
}

/// What a task may use up.
pub(super) fn budget(loaded: &Loaded) -> Budget {
    let AgentText { command_timeout, max_turns, max_tokens } = loaded.agent;
    Budget { max_turns, max_tokens, command_timeout }
}
