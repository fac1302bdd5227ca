//! From configuration to what an agent and its judge are given.

use stockade_agents::Model;
use stockade_config::{Env, Loaded, Prefix, RuleText};
use stockade_rules::{Rule, RuleError, RuleSet, split_words};
use stockade_threads::local::Budget;

use crate::failure::Failure;

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

pub(super) fn model(_loaded: &Loaded, _env: &Env) -> Result<Model, Failure> {
    Err(Failure::new("no model is configured", ""))
}

pub(super) fn budget(_loaded: &Loaded) -> Budget {
    Budget { max_turns: 1, max_tokens: None, command_timeout: std::time::Duration::from_secs(1) }
}
