//! Codex' own configuration, read with `--codex-config`, below the user's file.
//!
//! The keys that bear on a boundary mean here what they say there, with two exceptions that are
//! Stockade's promise: `/tmp` stays private, and secret-like names never pass. What is not known
//! is a warning, because Codex has keys for much else.

use std::path::{Path, PathBuf};

use crate::diagnose::{ConfigError, Layer, Source};
use crate::env::Env;
use crate::layer::read_source;
use crate::schema::{Entry, Placed, Reader, Settings, parsed};

/// What of the user's variables Codex hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inherit {
    /// All of them.
    All,
    /// Those of [`CORE`].
    Core,
    /// None.
    None,
}

/// What `inherit = "core"` hands on.
pub(crate) const CORE: [&str; 10] =
    ["HOME", "LOGNAME", "PATH", "SHELL", "USER", "USERNAME", "TMPDIR", "TEMP", "TMP", "PWD"];

/// `[shell_environment_policy]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShellEnvironment {
    pub(crate) inherit: Option<Placed<Inherit>>,
    /// Globs of names that do not pass; case does not count.
    pub(crate) exclude: Vec<Placed<String>>,
    /// When it is there, nothing else passes.
    pub(crate) include_only: Option<Vec<Placed<String>>>,
}

/// Whether one of `globs` matches `name`, as Codex compares them.
pub(crate) fn is_listed(globs: &[Placed<String>], name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    globs.iter().any(|glob| {
        let glob = glob.value.to_ascii_uppercase();
        stockade_policy::environment::glob(glob.as_bytes(), name.as_bytes())
    })
}

/// Reads `named`, or the file that Codex itself would read.
///
/// # Errors
///
/// When it is not there, although it was asked for; and what is wrong in it, with its place.
pub(crate) fn read(env: &Env, named: &Path) -> Result<Settings, ConfigError> {
    let file = file(env, named).filter(|file| !file.as_os_str().is_empty());
    let missing = |what: String| {
        let hint = "name the file: `--codex-config FILE`; a command goes after `--`";
        ConfigError::refused(what, hint)
    };
    let Some(file) = file else {
        return Err(missing("no home is known to have Codex' configuration".to_owned()));
    };
    let Some(source) = read_source(&file, Layer::Codex)? else {
        return Err(missing(format!("there is no Codex configuration `{}`", file.display())));
    };
    settings(&source)
}

/// The file that `--codex-config` means.
pub(crate) fn file(env: &Env, named: &Path) -> Option<PathBuf> {
    if !named.as_os_str().is_empty() {
        return Some(env.resolve(named, &env.current));
    }
    let folder = env.folder_variable("CODEX_HOME");
    let folder = folder.or_else(|| Some(env.home.as_ref()?.join(".codex")))?;
    Some(folder.join("config.toml"))
}

fn settings(source: &Source) -> Result<Settings, ConfigError> {
    let table = parsed(source)?;
    let mut reader = Reader::new(source);
    let mut unknown: Vec<String> = Vec::new();
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "sandbox_mode" | "approval_policy" | "rules" => reader.top((key, value))?,
            "sandbox_workspace_write" => {
                reader.each_free(value, |reader, entry| match entry.0.get_ref().as_ref() {
                    "writable_roots"
                    | "network_access"
                    | "exclude_tmpdir_env_var"
                    | "exclude_slash_tmp" => reader.workspace_write(entry),
                    name => {
                        unknown.push(format!("sandbox_workspace_write.{name}"));
                        Ok(())
                    }
                })?;
            }
            "shell_environment_policy" => reader.each_free(value, |reader, entry| {
                let name = entry.0.get_ref().to_string();
                if !reader.shell_environment(entry)? {
                    unknown.push(format!("shell_environment_policy.{name}"));
                }
                Ok(())
            })?,
            name => unknown.push(name.to_owned()),
        }
    }
    let mut settings = reader.settings;
    if let Some(only) = &settings.codex_env.include_only {
        settings.env_set.retain(|entry| is_listed(only, &entry.value.0));
    }
    if !unknown.is_empty() {
        let names = unknown.join("`, `");
        let file = source.name.display();
        settings.warnings.push(format!("{file}: keys that mean nothing here: `{names}`"));
    }
    Ok(settings)
}

impl Reader<'_> {
    /// Reads one entry; whether it is known.
    fn shell_environment(&mut self, (key, value): Entry<'_>) -> Result<bool, ConfigError> {
        match key.get_ref().as_ref() {
            "inherit" => {
                let inherit = match self.string(value)?.as_str() {
                    "all" => Inherit::All,
                    "core" => Inherit::Core,
                    "none" => Inherit::None,
                    _ => return Err(self.wrong_value(value, "one of `all`, `core`, `none`")),
                };
                self.settings.codex_env.inherit = Some(self.placed(value.span(), inherit));
            }
            // Secret-like names never pass, whatever it says.
            "ignore_default_excludes" => {
                self.boolean(value)?;
            }
            "exclude" => self.settings.codex_env.exclude = self.strings(value)?,
            "include_only" => {
                // An empty list says nothing, as in Codex.
                let only = self.strings(value)?;
                self.settings.codex_env.include_only = (!only.is_empty()).then_some(only);
            }
            "set" => self.env_set(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
