//! `stockade cloud --agent NAME`: what another agent's program needs in a machine, from its recipe, the
//! configuration and the user's environment.

use std::ffi::OsStr;

use stockade_agents::{Dialect, InMachine, Recipe};
use stockade_config::{Env, KeySource, Loaded, ModelApi};
use stockade_policy::check_endpoint;
use stockade_threads::cloud::{self, External, ModelServer, PROMPT, Work};

use crate::commands::boundary;
use crate::failure::{Failure, STOCKADE_FAILED};

/// The work of the agent called `name`: a recipe's, or a program's.
pub(super) fn work(
    (name, prompt): (&str, String),
    loaded: &Loaded,
    env: &Env,
) -> Result<Work, Failure> {
    let recipes = boundary::recipes(env)?;
    let recipe = recipes.named(name);
    let (way, model) = match recipe {
        Some(recipe) => reach(recipe, loaded, env)?,
        None => usual(name, loaded, env)?,
    };
    if let Some(entry) = model.denied_by(&loaded.policy.network) {
        let text = format!("the model of `{name}` is at `{}`, which is denied", model.url);
        return Err(Failure::new(text, format!("by {entry}")));
    }
    let program = recipe.and_then(|recipe| recipe.programs().first()).map_or(name, String::as_str);
    let path = env.vars.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let folder = loaded.policy.workspace.as_path();
    let package = cloud::package(program.as_ref(), (&path, folder))
        .map_err(|error| Failure::of(&error, STOCKADE_FAILED, Some(error.hint())))?;
    let words = match recipe {
        None => vec![PROMPT.into()],
        Some(recipe) => {
            let words = recipe.for_task(PROMPT.as_ref()).ok_or_else(|| {
                let text = format!("the recipe `{name}` has no `prompt`");
                Failure::new(text, "`stockade agents show NAME` prints a recipe")
            })?;
            recipe.apply(program.as_ref(), &words)
        }
    };
    let set = recipe.into_iter().flat_map(Recipe::environment_set);
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let name = name.to_owned();
    let external = External { name, prompt, package, words, way, environment: set, model };
    Ok(Work::External(Box::new(external)))
}

/// How the agent of a recipe reaches a model: the one that is configured, where it speaks that one's
/// API, else its own.
fn reach(recipe: &Recipe, loaded: &Loaded, env: &Env) -> Result<(InMachine, ModelServer), Failure> {
    let name = recipe.name();
    let ways = recipe.in_machine();
    let Some(first) = ways.first() else {
        let hint = "its recipe has no `[[machine]]`; `stockade local --agent` works on these files";
        return Err(Failure::new(format!("not yet: `{name}` in a machine"), hint));
    };
    if let Ok(model) = loaded.model()
        && let Some(way) = ways.iter().find(|way| way.api == dialect(model.api))
    {
        return Ok((way.clone(), configured(way, loaded, env)?));
    }
    if first.needs_model {
        let text = format!("`{name}` in a machine needs a model to be configured");
        return Err(Failure::new(
            text,
            "`[model]` with `api = \"chat\"` names its server and itself",
        ));
    }
    Ok((first.clone(), own(name, first, loaded, env)?))
}

/// How a program without a recipe does: by the variables that libraries read.
fn usual(name: &str, loaded: &Loaded, env: &Env) -> Result<(InMachine, ModelServer), Failure> {
    let model = loaded.model().map_err(|error| {
        let hint = "`[model]` says which model a program without a recipe gets";
        let text = format!("no recipe is called `{name}`, and no model is configured: {error}");
        Failure::new(text, hint)
    })?;
    let way = InMachine::usual(dialect(model.api));
    let server = configured(&way, loaded, env)?;
    Ok((way, server))
}

/// The server of `[model]`.
fn configured(way: &InMachine, loaded: &Loaded, env: &Env) -> Result<ModelServer, Failure> {
    let model = loaded.model()?;
    if let Some(KeySource::Variable(name)) = &model.key {
        // Said now, and not by a request that fails.
        env.key(name)?;
    }
    Ok(ModelServer {
        url: model.base_url,
        name: Some(model.name),
        variable: way.keys.first().cloned().unwrap_or_default(),
        key: model.key,
        upstream: loaded.policy.network.upstream.clone(),
    })
}

/// The server of the agent's own, with the user's key.
fn own(name: &str, way: &InMachine, loaded: &Loaded, env: &Env) -> Result<ModelServer, Failure> {
    let variable = |name: &str| env.vars.get(OsStr::new(name)).filter(|value| !value.is_empty());
    let Some(key) = way.keys.iter().find(|key| variable(key).is_some()) else {
        let keys = way.keys.join("` or `");
        let text = format!("`{name}` in a machine needs an API key: `{keys}` is not set");
        let hint = "it stays on this side; a log-in by subscription is in no machine, and cannot be \
                    used from there. `[model]` may name another server";
        return Err(Failure::new(text, hint));
    };
    let base = way.base.as_deref().and_then(variable).and_then(|value| value.to_str());
    let url = base.or(way.url.as_deref()).unwrap_or_default().to_owned();
    if let Err(error) = check_endpoint(&url) {
        let text = format!("`{url}` cannot be the server of `{name}`: {error}");
        return Err(Failure::new(text, error.hint()));
    }
    Ok(ModelServer {
        url,
        name: None,
        variable: key.clone(),
        key: Some(KeySource::Variable(key.clone())),
        upstream: loaded.policy.network.upstream.clone(),
    })
}

fn dialect(api: ModelApi) -> Dialect {
    match api {
        ModelApi::Responses => Dialect::Responses,
        ModelApi::Chat => Dialect::Chat,
        ModelApi::Messages => Dialect::Messages,
    }
}
