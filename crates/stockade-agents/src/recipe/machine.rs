//! How an agent is put to work in a machine, where it has no network, no log-in and none of its
//! user's settings: its model is at an address of the machine's own, and its key is a placeholder.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What stands for the model's address, the key's placeholder, and the model's name in a recipe.
const URL: &str = "{url}";
const KEY: &str = "{key}";
const MODEL: &str = "{model}";

/// The API that an agent speaks to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// That of `OpenAI`, of today.
    Responses,
    /// The one before, as many other servers have it.
    Chat,
    /// That of Anthropic.
    Messages,
    /// That of Google.
    Gemini,
}

impl Dialect {
    /// The calls that an agent makes of a model: methods, and paths after the server's URL. Others of the
    /// same server (files, other people's answers, administration) are none of its business.
    pub fn calls(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Responses => {
                &[("POST", "/responses"), ("POST", "/responses/compact"), ("GET", "/models")]
            }
            Self::Chat => &[("POST", "/chat/completions"), ("GET", "/models")],
            Self::Messages => &[
                ("POST", "/v1/messages"),
                ("POST", "/v1/messages/count_tokens"),
                ("GET", "/v1/models"),
            ],
            Self::Gemini => &[
                ("POST", "/v1beta/models/*:generateContent"),
                ("POST", "/v1beta/models/*:streamGenerateContent"),
                ("POST", "/v1beta/models/*:countTokens"),
            ],
        }
    }
}

/// One way of an agent to reach a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InMachine {
    /// What it speaks.
    pub api: Dialect,
    /// Its model's server, where the user has not configured one.
    #[serde(default)]
    pub url: Option<String>,
    /// A variable by which the user names another one.
    #[serde(default)]
    pub base: Option<String>,
    /// Variables that hold a key for it. The first one that is set is the one that the agent has too,
    /// with a placeholder in it.
    pub keys: Vec<String>,
    /// Whether it does not work without the name of a model.
    #[serde(default)]
    pub needs_model: bool,
    /// Further arguments, in groups; a group that names the model is left out where none is named.
    #[serde(default)]
    arguments: Vec<Vec<String>>,
    /// Further variables; likewise.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Files of its home that it has to find, with their content.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// What a recipe's words stand for in one machine.
#[derive(Debug, Clone, Copy)]
pub struct Meant<'a> {
    /// Where the model is; without a slash at the end.
    pub url: &'a str,
    /// The placeholder of the key.
    pub key: &'a str,
    /// The model's name, if one is configured.
    pub model: Option<&'a str>,
}

impl Meant<'_> {
    fn filled(&self, text: &str) -> Option<String> {
        let text = text.replace(URL, self.url).replace(KEY, self.key);
        match self.model {
            Some(model) => Some(text.replace(MODEL, model)),
            None => (!text.contains(MODEL)).then_some(text),
        }
    }
}

impl InMachine {
    /// A way of a program without a recipe: by the variables that libraries of the API read.
    pub fn usual(api: Dialect) -> Self {
        let (base, key) = match api {
            Dialect::Responses | Dialect::Chat => ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
            Dialect::Messages => ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
            Dialect::Gemini => ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"),
        };
        Self {
            api,
            url: None,
            base: None,
            keys: vec![key.to_owned()],
            needs_model: false,
            arguments: Vec::new(),
            environment: [(base, URL), ("STOCKADE_MODEL", MODEL)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            files: BTreeMap::new(),
        }
    }

    /// Its further arguments.
    pub fn arguments(&self, meant: &Meant<'_>) -> Vec<String> {
        let filled = |group: &Vec<String>| {
            group.iter().map(|word| meant.filled(word)).collect::<Option<Vec<_>>>()
        };
        self.arguments.iter().filter_map(filled).flatten().collect()
    }

    /// Files below its home, with their content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Its further variables; `key` is the one that holds the placeholder.
    pub fn environment(&self, meant: &Meant<'_>, key: &str) -> Vec<(String, String)> {
        let filled = |(name, value): (&String, &String)| Some((name.clone(), meant.filled(value)?));
        let key = (key.to_owned(), meant.key.to_owned());
        self.environment.iter().filter_map(filled).chain([key]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipes;

    #[test]
    fn a_recipe_says_how_its_agent_finds_a_model_in_a_machine() {
        let recipes = Recipes::default();
        let way = |name: &str| recipes.named(name).unwrap().in_machine()[0].clone();
        let meant = Meant { url: "http://127.0.0.1:7/v1", key: "held", model: None };
        let codex = way("codex");
        let words = codex.arguments(&meant).join(" ");
        assert!(
            words.contains("http://127.0.0.1:7/v1") && words.contains("Bearer held"),
            "{words}"
        );
        assert!(!words.contains("--model"), "{words}");
        let named = Meant { model: Some("gpt"), ..meant };
        assert!(codex.arguments(&named).join(" ").contains("--model gpt"));
        let claude = way("claude").environment(&named, "ANTHROPIC_API_KEY");
        let has = |name: &str, value: &str| claude.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("ANTHROPIC_API_KEY", "held") && has("ANTHROPIC_MODEL", "gpt"), "{claude:?}");
        assert!(has("ANTHROPIC_BASE_URL", "http://127.0.0.1:7/v1"), "{claude:?}");
        assert!(way("opencode").needs_model);
        for name in ["aider", "codex", "claude", "gemini", "opencode"] {
            for way in recipes.named(name).unwrap().in_machine() {
                assert!(!way.keys.is_empty(), "{name}");
                let url = way.url.as_deref().unwrap();
                let host = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
                assert!(host.contains('.'), "{url}");
            }
        }
    }
}
