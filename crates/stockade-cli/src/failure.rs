//! Failures as the user sees them: what, why, what to do, and the exit status.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use stockade_agents::KeyError;
use stockade_config::ConfigError;
use stockade_sandbox::SetupError;
use stockade_threads::cloud::CloudError;
use stockade_threads::local::LocalError;
use stockade_threads::network::NetworkError;
use stockade_threads::store::StoreError;

use crate::ui;

/// Stockade itself failed, bad flags and bad configuration included: nothing has run.
pub(crate) const STOCKADE_FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The exit status of a program that a signal ended, as a shell tells it.
pub(crate) fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    text: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// One that has no other cause.
    pub(crate) fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Self {
            status: STOCKADE_FAILED,
            text: text.into(),
            causes: Vec::new(),
            hint: (!hint.is_empty()).then_some(hint),
        }
    }

    /// A verb that this version does not have.
    pub(crate) fn not_yet_verb(verb: &str) -> Self {
        let mut failure = Self::new(
            format!("not yet: `stockade {verb}`"),
            format!("this version has {}", crate::cli::VERBS),
        );
        failure.status = 1;
        failure
    }

    /// The same with another exit status: only `run`, `local` and `cloud` fail with 125.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// The same with another hint.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// What failed, in one line.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same with the exit status `other`, unless it has `status` already.
    pub(crate) fn unless_status(mut self, status: u8, other: u8) -> Self {
        if self.status != status {
            self.status = other;
        }
        self
    }

    pub(crate) fn of(error: &dyn Error, status: u8, hint: Option<&str>) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Self { status, text: error.to_string(), causes, hint: hint.map(str::to_owned) }
    }

    /// Prints it and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        ui::say("error", &self.text);
        for cause in &self.causes {
            ui::cause(cause);
        }
        if let Some(hint) = &self.hint {
            ui::hint(hint);
        }
        ExitCode::from(self.status)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(&error, STOCKADE_FAILED, error.hint())
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        Self::of(&error, STOCKADE_FAILED, Some(error.hint()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of(&error, STOCKADE_FAILED, error.hint())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::of(&error, STOCKADE_FAILED, Some("`key` of `[model]` says where it comes from"))
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self::of(&error, STOCKADE_FAILED, error.hint().as_deref())
    }
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        Self::of(&error, STOCKADE_FAILED, error.hint().as_deref())
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let status = if let SetupError::NotRun { source, .. } = &error {
            if source.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
        } else {
            STOCKADE_FAILED
        };
        Self::of(&error, status, error.hint())
    }
}
