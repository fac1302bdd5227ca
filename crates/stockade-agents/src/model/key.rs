//! A key that a program of the user's prints: a password store, a cloud's log-in.

use std::io::{self, Read as _};
use std::process::{ExitStatus, Stdio};

use super::Secret;
use crate::programs;

/// Longer than any key, in bytes.
const KEY_BYTES: u64 = 64 << 10;

/// Why a program gave no key. What it printed is not repeated: it may be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no word of a command.
    #[error("the command for a key is empty")]
    Empty,
    /// It could not be started or read.
    #[error("cannot run `{program}` for a key")]
    Run {
        /// The program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// It failed.
    #[error("`{program}` gave no key ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It printed nothing, or no text.
    #[error("`{program}` printed no key")]
    Nothing {
        /// The program.
        program: String,
    },
}

impl Secret {
    /// Asks the user's keyring (freedesktop.org's Secret Service) by `secret-tool lookup`;
    /// `attributes` are names and values in turn (secret-tool(1)).
    ///
    /// # Errors
    ///
    /// When there is no such program, or no such entry.
    pub fn from_keyring(attributes: &[String]) -> Result<Self, KeyError> {
        let lookup = ["secret-tool", "lookup"].map(str::to_owned);
        Self::from_command(&[&lookup, attributes].concat())
    }

    /// Runs `argv`, without a shell, and takes the first line that it prints. It may talk to the
    /// user on standard error and on its terminal; it gets no standard input.
    ///
    /// Runs outside of every boundary: only for a command that the user has configured, and by its
    /// name never one of a project's ([`programs`]).
    ///
    /// # Errors
    ///
    /// When it does not run, fails, or prints no key.
    pub fn from_command(argv: &[String]) -> Result<Self, KeyError> {
        Self::printed(argv, Stdio::inherit())
    }

    /// The same, of a program that nobody has named and that may have no key: what it says about that is
    /// not shown.
    ///
    /// # Errors
    ///
    /// Those of [`Secret::from_command`].
    pub fn from_quiet_command(argv: &[String]) -> Result<Self, KeyError> {
        Self::printed(argv, Stdio::null())
    }

    fn printed(argv: &[String], error: Stdio) -> Result<Self, KeyError> {
        let (program, arguments) = argv.split_first().ok_or(KeyError::Empty)?;
        let program = program.clone();
        let run = |source| KeyError::Run { program: program.clone(), source };
        let mut child = programs::command(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(error)
            .spawn()
            .map_err(run)?;
        let mut printed = Vec::new();
        // Dropped after the first bytes, so that a program that prints for ever ends.
        if let Some(output) = child.stdout.take() {
            output.take(KEY_BYTES).read_to_end(&mut printed).map_err(run)?;
        }
        let status = child.wait().map_err(run)?;
        if !status.success() {
            return Err(KeyError::Failed { program, status });
        }
        let text = String::from_utf8(printed).unwrap_or_default();
        match text.lines().next().map(str::trim) {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
            _ => Err(KeyError::Nothing { program }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(argv: &[&str]) -> Result<String, String> {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let key = Secret::from_command(&argv);
        key.map(|key| key.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_line_that_a_program_prints_is_the_key() {
        assert_eq!(key(&["printf", "sk-1\nuser: me\n"]).unwrap(), "sk-1");
        assert_eq!(key(&["printf", "%s", "$(id) `id`"]).unwrap(), "$(id) `id`", "no shell");
    }

    #[test]
    fn a_program_without_a_key_is_named_and_what_it_printed_is_not() {
        let said = key(&["sh", "-c", "echo sk-secret; exit 3"]).unwrap_err();
        assert_eq!(said, "`sh` gave no key (exit status: 3)");
        assert_eq!(key(&["true"]).unwrap_err(), "`true` printed no key");
        assert_eq!(key(&[]).unwrap_err(), "the command for a key is empty");
        let said = key(&["/nonexistent/pass"]).unwrap_err();
        assert_eq!(said, "cannot run `/nonexistent/pass` for a key");
        assert!(key(&["yes", "sk-1"]).is_err(), "it is ended by the pipe");
    }
}
