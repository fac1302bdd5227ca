//! Why a sandbox could not be put up.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// The step that lays an overlay over a folder.
pub(crate) const LAY: &str = "lay a draft over";

/// What nothing can let go without user namespaces.
pub(crate) const DRAFT: &str = "a draft";
pub(crate) const DATAGRAM: &str = "a standard stream that is a datagram socket";

/// The sandbox could not be put up, or broke. When [`launch`](crate::launch) returns one,
/// **nothing of the command has run**, unless the variant says otherwise.
///
/// `Display` names the step and its subject; the system's words are in
/// [`source`](std::error::Error::source) and are printed once, by the outermost caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The kernel does not let this user make the namespaces.
    #[error("this system does not give namespaces to an ordinary program")]
    Namespaces(#[source] io::Error),

    /// A step of putting up the walls failed.
    #[error("cannot {step} `{}`", subject.display())]
    Step {
        /// What was being done, as a verb.
        step: String,
        /// To what; a path as seen from outside, or the name of a wall.
        subject: PathBuf,
        /// The system call's error.
        source: io::Error,
    },

    /// A canary, tried from inside before the command, got through or met the wrong wall.
    #[error("the canary found a wall missing: {wall}")]
    Canary {
        /// Which wall, and what happened instead.
        wall: String,
    },

    /// Without user namespaces this cannot be held, and the user did not let it go.
    #[error("without user namespaces nothing holds: {what}")]
    Unheld {
        /// What, for a person.
        what: String,
    },

    /// The process that holds the sandbox ended before it reported.
    #[error("the sandbox ended early ({how})")]
    Lost {
        /// Exit status or signal, for a person.
        how: String,
    },

    /// The command could not be started at all; exit status 126 or 127.
    #[error("cannot run `{}`", program.display())]
    NotRun {
        /// The program as it was asked for.
        program: PathBuf,
        /// `ENOENT` when there is no such program; else why it is not executable.
        source: io::Error,
    },

    /// Something that the launcher itself needs failed outside the sandbox.
    #[error("cannot {0}")]
    Host(Cow<'static, str>, #[source] io::Error),
}

impl SetupError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Namespaces(_) => Some(
                "user namespaces are off here: `sysctl user.max_user_namespaces`, on Ubuntu \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, in a container \
                 `--security-opt seccomp=unconfined`",
            ),
            Self::Unheld { what } if what == DRAFT => Some(
                "`stockade doctor` says how to get user namespaces, which a draft needs; without \
                 `--draft` the command writes to the files",
            ),
            Self::Unheld { what } if what == DATAGRAM => {
                Some("give it a file, a pipe or a terminal in its place")
            }
            Self::Unheld { .. } => Some(
                "`stockade doctor` says how to get user namespaces; `--sandbox read-only` needs none; \
                 `--degrade` runs it without",
            ),
            Self::Canary { .. } => {
                Some("nothing has run; please report this with `uname -r` and the line above")
            }
            Self::Step { step, .. } if step == LAY => Some(
                "a draft needs overlayfs in a user namespace (Linux 5.11), its record on a file \
                 system with user attributes (not an overlay itself), and no other file system \
                 mounted in the workspace; without `--draft` the command writes to the files",
            ),
            Self::Step { .. } | Self::Lost { .. } | Self::NotRun { .. } | Self::Host(..) => None,
        }
    }
}
