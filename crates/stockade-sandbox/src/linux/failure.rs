//! What went wrong on the inside, in a form that crosses to the parent.

use std::io;
use std::path::{Path, PathBuf};

use crate::SetupError;

/// One failed step of PID 1 or of the command's own start.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was being done, as a verb.
    pub(crate) step: String,
    /// To what.
    pub(crate) subject: PathBuf,
    /// The system's error number; 0 when it is a canary that failed.
    pub(crate) errno: i32,
}

/// For `map_err`: names the step and its subject, which is copied only when something fails.
pub(crate) fn step<E: Into<io::Error>>(
    step: &'static str,
    subject: impl AsRef<Path>,
) -> impl FnOnce(E) -> Failure {
    move |error| Failure {
        step: step.to_owned(),
        subject: subject.as_ref().to_owned(),
        errno: error.into().raw_os_error().unwrap_or(libc::EIO),
    }
}

impl Failure {
    /// A canary that found `wall` missing.
    pub(crate) fn canary(wall: impl Into<String>) -> Self {
        Self { step: wall.into(), subject: PathBuf::new(), errno: 0 }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = io::Error::from_raw_os_error(self.errno);
        write!(f, "cannot {} `{}`: {cause}", self.step, self.subject.display())
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure.to_string())
    }
}

impl From<Failure> for SetupError {
    fn from(failure: Failure) -> Self {
        if failure.errno == 0 {
            return Self::Canary { wall: failure.step };
        }
        Self::Step {
            step: failure.step,
            subject: failure.subject,
            source: io::Error::from_raw_os_error(failure.errno),
        }
    }
}
