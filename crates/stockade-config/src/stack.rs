//! The layers of one start, put on top of one another.

use std::path::Path;
use std::time::SystemTime;

use stockade_policy::Limits;

use crate::codex;
use crate::diagnose::{ConfigError, Layer};
use crate::env::Env;
use crate::layer::{Files, read_file, read_option, read_source};
use crate::load::Request;
use crate::model::{AgentSettings, COMMAND_TIMEOUT, MAX_TURNS, QUESTION_TIMEOUT};
use crate::requirements;
use crate::rule_text::RuleText;
use crate::schema::{self, Placed, Settings};
use crate::trust::{self, Word};

/// The place of a value that nobody has set.
pub(crate) const BUILT_IN: &str = "built-in";

/// All layers together, flags on top, bounded by what the machine requires.
pub(crate) fn settings(
    env: &Env,
    request: &Request,
    files: &Files,
    workspace: &Path,
) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    if let Some(system) = read_file(&files.system, Layer::System)? {
        settings = settings.overlay(system);
    }
    if let Some(named) = &request.codex_config {
        settings = settings.overlay(codex::read(env, named)?);
    }
    if let Some(file) = &files.user
        && let Some(user) = read_file(file, Layer::User)?
    {
        settings = settings.overlay(user);
    }
    if let Some(profile) = &files.profile {
        let above = read_file(profile, Layer::Profile)?.ok_or_else(|| {
            ConfigError::refused(
                format!("there is no profile `{}`", profile.display()),
                "a profile NAME is the file `~/.config/stockade/NAME.config.toml`",
            )
        })?;
        settings = settings.overlay(above);
    }
    settings = settings.with_defaults(&Limits::for_memory(env.memory_bytes));
    if let Some(file) = &files.project {
        settings = with_project(env, settings, file, workspace)?;
    }
    if let Some(answers) = &files.answers
        && let Some(answers) = read_file(answers, Layer::Answers)?
    {
        settings = settings.answered(answers, workspace);
    }
    for option in &request.options {
        settings = settings.overlay(read_option(option)?);
    }
    let settings = settings.with_flags(request);
    match requirements::read(&files.requirements)? {
        Some(required) => required.bound(settings, &request.allow_hosts),
        None => Ok(settings),
    }
}

/// A project's own file narrows; one whose exact content the user has trusted is a layer.
fn with_project(
    env: &Env,
    settings: Settings,
    file: &Path,
    workspace: &Path,
) -> Result<Settings, ConfigError> {
    let Some(mut source) = read_source(file, Layer::Project)? else { return Ok(settings) };
    match trust::word(env, workspace, &source.text) {
        Word::Trusted => {
            source.layer = Layer::Trusted;
            Ok(settings.overlay(schema::read(&source)?))
        }
        word @ (Word::Nothing | Word::Changed) => {
            let said = settings.warnings.len();
            let mut settings = settings.narrow(schema::read(&source)?);
            if word == Word::Changed && settings.warnings.len() > said {
                settings.warnings.push(format!(
                    "{}: it has changed since it was trusted; `stockade config trust` looks again",
                    file.display()
                ));
            }
            Ok(settings)
        }
    }
}

impl Settings {
    /// Takes out the rules that no longer hold.
    pub(crate) fn take_expired(&mut self, now: SystemTime) -> Vec<RuleText> {
        let is_over = |rule: &RuleText| rule.expires.as_ref().is_some_and(|end| end.is_over(now));
        let (expired, rules) = std::mem::take(&mut self.rules).into_iter().partition(is_over);
        self.rules = rules;
        expired
    }

    pub(crate) fn with_defaults(mut self, limits: &Limits) -> Self {
        let built_in = || BUILT_IN.to_owned();
        self.tmp_bytes.get_or_insert_with(|| Placed { value: limits.tmp_bytes, place: built_in() });
        self.processes.get_or_insert_with(|| Placed { value: limits.processes, place: built_in() });
        let memory = limits.memory_bytes;
        self.memory_bytes.get_or_insert_with(|| Placed { value: memory, place: built_in() });
        let files = limits.open_files;
        self.open_files.get_or_insert_with(|| Placed { value: files, place: built_in() });
        let AgentSettings { command_timeout, max_turns, question_timeout, .. } = &mut self.agent;
        question_timeout
            .get_or_insert_with(|| Placed { value: QUESTION_TIMEOUT, place: built_in() });
        command_timeout.get_or_insert_with(|| Placed { value: COMMAND_TIMEOUT, place: built_in() });
        max_turns.get_or_insert_with(|| Placed { value: MAX_TURNS, place: built_in() });
        self
    }

    fn with_flags(mut self, request: &Request) -> Self {
        let flag = |place: &str| place.to_owned();
        if let Some(value) = request.mode {
            self.mode = Some(Placed { value, place: flag("--sandbox") });
        }
        if let Some(value) = request.approval {
            self.approval = Some(Placed { value, place: flag("--ask-for-approval") });
        }
        if let Some(value) = request.timeout {
            self.wall_time = Some(Placed { value, place: flag("--timeout") });
        }
        self
    }
}
