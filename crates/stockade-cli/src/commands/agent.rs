//! From configuration to what an agent and its judge are given.

use stockade_agents::{Api, Model, Secret};
use stockade_config::{AgentText, Env, KeySource, Loaded, ModelApi};
use stockade_threads::local::Budget;

use crate::failure::Failure;

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
