//! Reading recipes and applying them to a command line.

mod machine;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;

pub use machine::{Dialect, InMachine, Meant};

const SOURCES: [(&str, &str); 5] = [
    ("codex", include_str!("../recipes/codex.toml")),
    ("claude", include_str!("../recipes/claude.toml")),
    ("gemini", include_str!("../recipes/gemini.toml")),
    ("opencode", include_str!("../recipes/opencode.toml")),
    ("aider", include_str!("../recipes/aider.toml")),
];

/// Programs that run another one, whose file is then what matters.
pub const INTERPRETERS: [&str; 4] = ["node", "bun", "deno", "npx"];

/// One agent program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    name: String,
    programs: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    /// Arguments for one task without a terminal; `{prompt}` stands for the task.
    #[serde(default)]
    prompt: Vec<String>,
    /// Arguments for which it tells its version and does nothing else.
    #[serde(default = "version")]
    version: Vec<String>,
    #[serde(default)]
    state: Vec<StateEntry>,
    #[serde(default)]
    environment: Environment,
    #[serde(default)]
    flags: Vec<Flags>,
    /// How it works in a machine, for each API that it speaks.
    #[serde(default)]
    machine: Vec<InMachine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateEntry {
    path: String,
    /// When the user has set it, it names the folder instead.
    variable: Option<String>,
    #[serde(default)]
    kind: Kind,
    /// What a file that does not exist yet is made with.
    #[serde(default)]
    initial: String,
}

fn version() -> Vec<String> {
    vec!["--version".to_owned()]
}

/// What a piece of state is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A folder.
    #[default]
    Folder,
    /// A file.
    File,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    #[serde(default)]
    pass: Vec<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flags {
    insert: Vec<String>,
    /// Flags that say the same or the opposite; one of them there, and the user has decided.
    unless: Vec<String>,
    /// Whether they stand before the subcommand, that is first, or last.
    #[serde(default)]
    before_subcommand: bool,
}

/// A folder or file that an agent keeps its state in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What a file that does not exist yet is made with.
    pub initial: String,
}

static RECIPES: LazyLock<Vec<Recipe>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .map(|(name, text)| {
            toml::from_str(text)
                .unwrap_or_else(|error| unreachable!("the built-in recipe {name}: {error}"))
        })
        .collect()
});

/// What stands for the task in a recipe.
const PROMPT: &str = "{prompt}";

/// A recipe of the user's own that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is no recipe: {why}", path.display())]
pub struct RecipeError {
    path: PathBuf,
    why: String,
}

/// The recipes there are: the user's own before those that are built in.
#[derive(Debug, Default)]
pub struct Recipes {
    own: Vec<(PathBuf, Recipe)>,
}

impl Recipes {
    /// Those that are built in, and `files` of the user's: where each stands, and its text.
    ///
    /// # Errors
    ///
    /// The first that cannot be taken.
    pub fn with(files: Vec<(PathBuf, String)>) -> Result<Self, RecipeError> {
        let mut own: Vec<(PathBuf, Recipe)> = Vec::new();
        for (path, text) in files {
            let recipe: Recipe = match toml::from_str(&text) {
                Ok(recipe) => recipe,
                Err(error) => return Err(RecipeError { path, why: error.to_string() }),
            };
            let stem = path.file_stem().unwrap_or_default();
            let faults = [
                (stem != OsStr::new(&recipe.name), "its `name` is not that of the file"),
                (recipe.programs.iter().all(String::is_empty), "it names no program"),
                (
                    recipe.programs.iter().any(|program| program.contains('/')),
                    "`programs` are names, not paths",
                ),
            ];
            if let Some((_, why)) = faults.iter().find(|(is_so, _)| *is_so) {
                return Err(RecipeError { path, why: (*why).to_owned() });
            }
            own.push((path, recipe));
        }
        Ok(Self { own })
    }

    /// All of them, and where those stand that are the user's own.
    pub fn all(&self) -> impl Iterator<Item = (&Recipe, Option<&Path>)> {
        let own = self.own.iter().map(|(path, recipe)| (recipe, Some(path.as_path())));
        let is_overridden = |name: &str| self.own.iter().any(|(_, recipe)| recipe.name == name);
        let built_in = RECIPES.iter().filter(move |recipe| !is_overridden(&recipe.name));
        own.chain(built_in.map(|recipe| (recipe, None)))
    }

    /// The recipe called `name`.
    pub fn named(&self, name: &str) -> Option<&Recipe> {
        self.all().map(|(recipe, _)| recipe).find(|recipe| recipe.name == name)
    }

    /// The recipe for a command line, if its program is a known agent: by its base name, or by
    /// that of the file that an interpreter is given.
    pub fn recognise(&self, program: &OsStr, arguments: &[OsString]) -> Option<&Recipe> {
        let base = |path: &OsStr| Path::new(path).file_name().map(OsStr::to_owned);
        let mut name = base(program)?;
        if INTERPRETERS.iter().any(|interpreter| name == *interpreter) {
            name = base(arguments.first()?)?;
        }
        // Without a name that matches, no recipe is read at all.
        let known = SOURCES.iter().any(|(known, _)| name.to_string_lossy().starts_with(known));
        if !known && self.own.is_empty() {
            return None;
        }
        let is_it =
            |recipe: &&Recipe| recipe.programs.iter().any(|program| name == program.as_str());
        self.all().map(|(recipe, _)| recipe).find(is_it)
    }
}

impl Recipe {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hosts of its model and log-in.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The names of its program, the usual one first.
    pub fn programs(&self) -> &[String] {
        &self.programs
    }

    /// Its arguments for `task`; `None` when it cannot be given one without a terminal.
    pub fn for_task(&self, task: &OsStr) -> Option<Vec<OsString>> {
        let word = |word: &String| if word == PROMPT { task.to_owned() } else { word.into() };
        let words: Vec<OsString> = self.prompt.iter().map(word).collect();
        self.prompt.iter().any(|word| word == PROMPT).then_some(words)
    }

    /// Its arguments for telling its version.
    pub fn for_version(&self) -> &[String] {
        &self.version
    }

    /// How it reaches a model in a machine, for each API that it speaks; none, where that is not known.
    pub fn in_machine(&self) -> &[InMachine] {
        &self.machine
    }

    /// The flags that it is started with, unless the user has decided.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().flat_map(|flags| flags.insert.iter().map(String::as_str))
    }

    /// Variables that pass by their literal names.
    pub fn environment_passed(&self) -> &[String] {
        &self.environment.pass
    }

    /// Variables that are set unless the user has set them.
    pub fn environment_set(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.set.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Where it keeps its state, given the user's home and variables.
    pub fn state(&self, home: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Vec<State> {
        let place = |entry: &StateEntry| {
            let named = entry.variable.as_deref().and_then(&variable).map(PathBuf::from);
            named.filter(|path| path.is_absolute()).unwrap_or_else(|| {
                match entry.path.strip_prefix("~/") {
                    Some(rest) => home.join(rest),
                    None => PathBuf::from(&entry.path),
                }
            })
        };
        self.state
            .iter()
            .map(|entry| State {
                path: place(entry),
                kind: entry.kind,
                initial: entry.initial.clone(),
            })
            .collect()
    }

    /// The arguments with its flags put in. Applying it twice changes nothing more, and what
    /// the user typed about the same matter stays as it is.
    pub fn apply(&self, program: &OsStr, arguments: &[OsString]) -> Vec<OsString> {
        let mut result = arguments.to_vec();
        // With an interpreter the first argument is the agent's own file.
        let base = Path::new(program).file_name().unwrap_or(program);
        let first = usize::from(INTERPRETERS.iter().any(|interpreter| base == *interpreter));
        for flags in &self.flags {
            let decided = result.iter().any(|argument| {
                let argument = argument.to_string_lossy();
                let name = argument.split('=').next().unwrap_or_default();
                flags.unless.iter().any(|flag| flag == name)
            });
            if decided {
                continue;
            }
            let end = result.iter().position(|argument| argument == "--").unwrap_or(result.len());
            let at = if flags.before_subcommand { first.min(result.len()) } else { end };
            let inserted = flags.insert.iter().map(OsString::from);
            result.splice(at..at, inserted);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn every_recipe_can_be_read_and_recognises_its_own_name() {
        let recipes = Recipes::default();
        for (name, _) in SOURCES {
            let recipe = recipes.recognise(OsStr::new(name), &[]).expect(name);
            assert_eq!(recipe.name(), name);
            assert!(
                recipe.for_task(OsStr::new("x")).is_some_and(|words| words.contains(&"x".into()))
            );
            assert!(!recipe.state.is_empty() || !recipe.environment.pass.is_empty());
        }
    }

    #[test]
    fn a_program_is_recognised_by_path_and_through_its_interpreter() {
        let name = |line: &str| {
            let words = words(line);
            let recipes = Recipes::default();
            recipes.recognise(&words[0], &words[1..]).map(|recipe| recipe.name().to_owned())
        };
        assert_eq!(name("/usr/local/bin/codex exec x"), Some("codex".to_owned()));
        assert_eq!(name("node /x/bin/codex.js exec"), Some("codex".to_owned()));
        assert_eq!(name("claude -p x"), Some("claude".to_owned()));
        assert_eq!(name("claudette -p x"), None);
        assert_eq!(name("node server.js"), None);
        assert_eq!(name("cargo test"), None);
    }

    #[test]
    fn flags_are_put_in_once_and_never_against_the_user() {
        let applied = |line: &str| {
            let words = words(line);
            let recipes = Recipes::default();
            let recipe = recipes.recognise(&words[0], &words[1..]).unwrap();
            let result = recipe.apply(&words[0], &words[1..]);
            assert_eq!(recipe.apply(&words[0], &result), result, "twice");
            result.join(OsStr::new(" ")).into_string().unwrap()
        };
        let bypass = "--dangerously-bypass-approvals-and-sandbox";
        assert_eq!(applied("codex exec hi"), format!("{bypass} exec hi"));
        assert_eq!(applied("node x/codex.js exec hi"), format!("x/codex.js {bypass} exec hi"));
        assert_eq!(applied("codex -s read-only exec hi"), "-s read-only exec hi");
        assert_eq!(applied("codex --sandbox=read-only"), "--sandbox=read-only");
        assert_eq!(applied("claude -p hi"), "-p hi --dangerously-skip-permissions");
        assert_eq!(applied("claude -p -- hi"), "-p --dangerously-skip-permissions -- hi");
    }

    #[test]
    fn state_follows_the_users_variable() {
        let recipes = Recipes::default();
        let codex = recipes.named("codex").unwrap();
        let paths = |value: Option<&str>| {
            let state = codex.state(Path::new("/home/u"), |_| value.map(OsString::from));
            state.into_iter().map(|state| state.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(None), [Path::new("/home/u/.codex")]);
        assert_eq!(paths(Some("/elsewhere")), [Path::new("/elsewhere")]);
        assert_eq!(paths(Some("relative")), [Path::new("/home/u/.codex")]);
    }

    #[test]
    fn the_users_own_recipes_come_first_and_are_checked() {
        let file = |name: &str, text: &str| {
            vec![(PathBuf::from(format!("/c/{name}.toml")), text.to_owned())]
        };
        let own = "name = \"claude\"\nprograms = [\"claude\", \"cc\"]\nprompt = [\"{prompt}\"]\n";
        let recipes = Recipes::with(file("claude", own)).unwrap();
        let claude = recipes.recognise(OsStr::new("/bin/cc"), &[]).unwrap();
        assert_eq!((claude.name(), claude.flags().count()), ("claude", 0));
        assert_eq!(recipes.all().count(), SOURCES.len(), "in the place of the built-in one");
        assert!(recipes.recognise(OsStr::new("codex"), &[]).is_some());
        for (name, text, why) in [
            ("x", "name = \"y\"\nprograms = [\"y\"]", "not that of the file"),
            ("x", "name = \"x\"\nprograms = []", "no program"),
            ("x", "name = \"x\"\nprograms = [\"../x\"]", "not paths"),
            ("x", "name = \"x\"\nprograms = [\"x\"]\nhots = []", "unknown field"),
        ] {
            let error = Recipes::with(file(name, text)).unwrap_err().to_string();
            assert!(error.contains("/c/x.toml") && error.contains(why), "{error}");
        }
    }
}
