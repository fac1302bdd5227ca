//! How long Stockade keeps its own records: `[retention]`.
//!
//! They are one store for all projects, so only the machine's and the user's own file may say it: what a
//! project, a profile or a single start said of it would be about the threads of all others.

use std::time::Duration;

use stockade_policy::{parse_size, parse_time};

use crate::diagnose::{ConfigError, Layer};
use crate::env::Env;
use crate::layer::read_file;
use crate::schema::{Entry, Placed, Reader};

const DAY: Duration = Duration::from_hours(24);

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whether old things go without `stockade clean`.
    pub is_automatic: bool,
    /// Records of runs.
    pub runs: Duration,
    /// Threads that hold no changes.
    pub threads: Duration,
    /// What `undo` needs.
    pub undo: Duration,
    /// And how much of it, in bytes.
    pub undo_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            is_automatic: true,
            runs: DAY * 30,
            threads: DAY * 90,
            undo: DAY * 30,
            undo_bytes: 4 << 30,
        }
    }
}

/// The same as a layer has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RetentionText {
    pub(crate) automatic: Option<Placed<bool>>,
    pub(crate) runs: Option<Placed<Duration>>,
    pub(crate) threads: Option<Placed<Duration>>,
    pub(crate) undo: Option<Placed<Duration>>,
    pub(crate) undo_size: Option<Placed<u64>>,
}

impl RetentionText {
    pub(crate) fn overlay(self, above: Self) -> Self {
        Self {
            automatic: above.automatic.or(self.automatic),
            runs: above.runs.or(self.runs),
            threads: above.threads.or(self.threads),
            undo: above.undo.or(self.undo),
            undo_size: above.undo_size.or(self.undo_size),
        }
    }

    fn whole(self) -> Retention {
        let built_in = Retention::default();
        let time = |placed: Option<Placed<Duration>>, otherwise| {
            placed.map_or(otherwise, |placed| placed.value)
        };
        Retention {
            is_automatic: self.automatic.is_none_or(|placed| placed.value),
            runs: time(self.runs, built_in.runs),
            threads: time(self.threads, built_in.threads),
            undo: time(self.undo, built_in.undo),
            undo_bytes: self.undo_size.map_or(built_in.undo_bytes, |placed| placed.value),
        }
    }
}

/// What the machine's file and the user's say of it. No workspace is needed for that.
///
/// # Errors
///
/// When one of the two is wrong anywhere: nothing is removed by half a file.
pub fn retention(env: &Env) -> Result<Retention, ConfigError> {
    let mut text = RetentionText::default();
    let system = Some((env.system.join("config.toml"), Layer::System));
    let user = env.user_folder().map(|folder| (folder.join("config.toml"), Layer::User));
    for (path, layer) in system.into_iter().chain(user) {
        if let Some(settings) = read_file(&path, layer)? {
            text = text.overlay(settings.retention);
        }
    }
    Ok(text.whole())
}

impl Reader<'_> {
    pub(crate) fn retention(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        let name = key.get_ref().as_ref();
        let time = |reader: &Self| {
            let time = parse_time(&reader.string(value)?);
            let time = time.map_err(|error| reader.wrong_value(value, error.expected))?;
            Ok::<_, ConfigError>(Some(reader.placed(value.span(), time)))
        };
        let mut found = std::mem::take(&mut self.settings.retention);
        match name {
            "automatic" => {
                found.automatic = Some(self.placed(value.span(), self.boolean(value)?));
            }
            "runs" => found.runs = time(self)?,
            "threads" => found.threads = time(self)?,
            "undo" => found.undo = time(self)?,
            "undo_size" => {
                let size = parse_size(&self.string(value)?);
                let size = size.map_err(|error| self.wrong_value(value, error.expected))?;
                found.undo_size = Some(self.placed(value.span(), size));
            }
            _ => return Err(self.unknown(key, "retention")),
        }
        match self.source.layer {
            Layer::System | Layer::User => self.settings.retention = found,
            Layer::Project | Layer::Trusted => self.settings.warnings.push(format!(
                "{}: ignored: a project cannot say how long records are kept",
                self.source.place(key.span().start)
            )),
            Layer::Codex
            | Layer::Profile
            | Layer::Answers
            | Layer::Option
            | Layer::Requirements => {
                let message = format!("`retention.{name}` cannot stand here");
                let help = "it stands in `config.toml`, the user's or the machine's".to_owned();
                let label = "it is about the records of all threads";
                return Err(self.source.wrong(key.span(), message, label, Some(help)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Source;
    use crate::schema::read;

    fn settings(text: &str, layer: Layer) -> Result<crate::schema::Settings, ConfigError> {
        read(&Source { name: "config.toml".into(), text: text.to_owned(), layer })
    }

    #[test]
    fn the_users_own_file_says_it_and_nothing_else_does() {
        let text = "[retention]\nautomatic = false\nundo = \"7d\"\nundo_size = \"1GiB\"\n";
        let own = settings(text, Layer::User).unwrap().retention;
        let expected = Retention {
            is_automatic: false,
            undo: DAY * 7,
            undo_bytes: 1 << 30,
            ..Retention::default()
        };
        assert_eq!(own.clone().whole(), expected);
        for layer in [Layer::Project, Layer::Trusted] {
            let project = settings(text, layer).unwrap();
            assert_eq!(project.retention, RetentionText::default());
            assert!(project.warnings[0].contains("a project cannot say"), "{:?}", project.warnings);
        }
        for layer in [Layer::Option, Layer::Profile] {
            let error = settings(text, layer).unwrap_err();
            assert!(error.to_string().contains("cannot stand here"), "{error}");
        }
        for wrong in ["automatic = 1", "undo = 30", "undo = \"soon\"", "undos = \"1d\""] {
            assert!(settings(&format!("[retention]\n{wrong}\n"), Layer::User).is_err(), "{wrong}");
        }
    }
}
