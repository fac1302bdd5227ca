//! From configuration to what an agent and its judge are given.

use stockade_agents::{Api, Model, Secret};
use stockade_config::{AgentLimits, CONTEXT_TOKENS, Env, KeySource, Loaded, ModelApi};
use stockade_threads::local::Budget;

use crate::failure::Failure;

/// The name of the agent that needs no program.
pub(super) const BUILT_IN: &str = "builtin";

/// The model that is configured, with its key, which is in no message.
pub(super) fn model(loaded: &Loaded, env: &Env) -> Result<Model, Failure> {
    let text = loaded.model()?;
    let key = match text.key {
        None => None,
        Some(KeySource::Variable(name)) => Some(Secret::new(&env.key(&name)?)),
        Some(KeySource::Program(words)) => Some(Secret::from_command(&words)?),
        Some(KeySource::Keyring(attributes)) => Some(Secret::from_keyring(&attributes)?),
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
    let AgentLimits { command_timeout, max_turns, max_tokens, .. } = loaded.agent;
    let context_tokens = loaded.model().map_or(CONTEXT_TOKENS, |model| model.context_tokens);
    Budget { max_turns, max_tokens, command_timeout, context_tokens }
}
