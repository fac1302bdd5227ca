//! Which project files the user has trusted, by their exact content.
//!
//! Trust lies in the user's folder and never in the workspace: one file for each workspace,
//! named after its path, with the hash of the content that was trusted. Content that changes
//! is another content, and trusted no more. This module reads; the verbs `config trust` and
//! `config untrust` write and remove what [`Trust`] says.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use toml::de::{DeTable, DeValue};

use crate::diagnose::{ConfigError, Layer};
use crate::env::Env;
use crate::layer::{PROJECT_FILE, read_source};
use crate::load::{Request, load};
use crate::locate;
use crate::schema;

/// What makes a project's file trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The project's file.
    pub project: PathBuf,
    /// The file that says so, in the user's folder.
    pub file: PathBuf,
    /// What it has to say.
    pub text: String,
    /// The hash of the content, for a person.
    pub hash: String,
    /// Whether it says so already.
    pub is_trusted: bool,
    /// What in the content would be ignored without trust, with its line.
    pub widens: Vec<String>,
}

/// What trust in the project of `request` takes. Nothing is written.
///
/// # Errors
///
/// When there is no such file, or it is wrong as it stands or as a trusted one.
pub fn project_trust(env: &Env, request: &Request) -> Result<Trust, ConfigError> {
    let loaded = load(env, request)?;
    let workspace = loaded.policy.workspace.as_path();
    let project = workspace.join(PROJECT_FILE);
    let Some(mut source) = read_source(&project, Layer::Project)? else {
        let hint = "trust is for a project's own configuration, which this one does not have";
        return Err(ConfigError::refused(format!("there is no `{}`", project.display()), hint));
    };
    let Some(file) = file(env, workspace) else {
        return Err(ConfigError::refused("no home is known to keep trust in", "set `HOME`"));
    };
    let start = format!("{}:", project.display());
    let is_ignored = |said: &&String| said.starts_with(&start) && said.contains("ignored");
    let widens = loaded.warnings.iter().filter(is_ignored).cloned().collect();
    let is_trusted = word(env, workspace, &source.text) == Word::Trusted;
    // What is ignored in it so far has to be right as well.
    source.layer = Layer::Trusted;
    schema::read(&source)?;
    let (text, hash) = (text(workspace, &source.text), hash(&source.text));
    Ok(Trust { project, file, text, hash, is_trusted, widens })
}

/// Where trust in the workspace of `request` is kept, for who takes it back.
///
/// # Errors
///
/// When the workspace is none, or no home is known.
pub fn trust_file(env: &Env, request: &Request) -> Result<PathBuf, ConfigError> {
    let workspace = locate::workspace(env, &env.homes(), request.workspace.as_deref())?;
    let none = || ConfigError::refused("no home is known to keep trust in", "set `HOME`");
    file(env, &workspace).ok_or_else(none)
}

/// Where trust in the project at the canonical `workspace` is kept.
pub(crate) fn file(env: &Env, workspace: &Path) -> Option<PathBuf> {
    let name = hex(&Sha256::digest(workspace.as_os_str().as_bytes()), 16);
    Some(env.user_folder()?.join("projects").join(format!("{name}.trust.toml")))
}

/// What `file` has to say of `workspace` so that `content` is trusted.
pub(crate) fn text(workspace: &Path, content: &str) -> String {
    let workspace = toml::Value::String(workspace.to_string_lossy().into_owned());
    let hash = hash(content);
    format!(
        "# `stockade config trust` wrote this: the project's file with exactly this content\n\
         # counts like yours. `stockade config untrust` takes it back.\n\
         workspace = {workspace}\nconfig = \"{hash}\"\n"
    )
}

/// The name of `content`.
pub(crate) fn hash(content: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content.as_bytes()), 32))
}

/// What the user has said of a project's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing.
    Nothing,
    /// It is trusted.
    Trusted,
    /// Another content of it was.
    Changed,
}

/// What the user has said of `content`, the file of the project at `workspace`.
pub(crate) fn word(env: &Env, workspace: &Path, content: &str) -> Word {
    let said = file(env, workspace).and_then(|file| std::fs::read_to_string(file).ok());
    let Some(said) = said else { return Word::Nothing };
    let Ok(table) = DeTable::parse(&said) else { return Word::Nothing };
    let is = |name: &str, value: &str| match table.get_ref().get(name).map(toml::Spanned::get_ref) {
        Some(DeValue::String(text)) => text == value,
        _ => false,
    };
    // The file's name is of the exact bytes; this is for two paths with one name.
    if !is("workspace", &workspace.to_string_lossy()) {
        return Word::Nothing;
    }
    if is("config", &hash(content)) { Word::Trusted } else { Word::Changed }
}

fn hex(bytes: &[u8], count: usize) -> String {
    let halves = bytes.iter().take(count).flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
}
