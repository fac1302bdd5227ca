//! Sandbox modes and approval policies, by the names the user types.

use std::fmt;
use std::str::FromStr;

/// How much a thread may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing outside a private temporary folder can be written.
    ReadOnly,
    /// The workspace (or its writable roots) and the private temporary folder.
    WorkspaceWrite,
    /// No boundary at all; said aloud at the start.
    DangerFullAccess,
}

/// When the user is asked about what an agent proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApprovalPolicy {
    /// Known-safe reading commands run, everything else asks.
    Untrusted,
    /// What stays inside the boundary runs, what would cross it asks.
    OnRequest,
    /// Nothing asks; what would have asked is denied.
    Never,
    /// As [`ApprovalPolicy::OnRequest`] for what asks by these; what would have asked by another
    /// is denied.
    Granular {
        /// What would cross the boundary asks (`sandbox_approval`).
        crossing: bool,
        /// What a rule asks about asks (`rules`).
        rules: bool,
    },
}

/// A word that names no value of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not one of {known}")]
pub struct UnknownWord {
    /// What was found.
    pub found: String,
    /// The words that would have been understood, for a person.
    pub known: &'static str,
}

impl Mode {
    /// The name in configuration, flags and `STOCKADE_MODE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::DangerFullAccess => "danger-full-access",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::ReadOnly, Self::WorkspaceWrite, Self::DangerFullAccess]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| UnknownWord {
                found: word.to_owned(),
                known: "`read-only`, `workspace-write`, `danger-full-access`",
            })
    }
}

impl ApprovalPolicy {
    /// The name in configuration and flags.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::OnRequest => "on-request",
            Self::Never => "never",
            Self::Granular { .. } => "granular",
        }
    }

    /// The policy that says how much asks at all.
    #[must_use]
    pub fn base(self) -> Self {
        match self {
            Self::Granular { .. } => Self::OnRequest,
            Self::Untrusted | Self::OnRequest | Self::Never => self,
        }
    }

    /// Whether a person is asked about what would cross the boundary.
    pub fn asks_to_cross(self) -> bool {
        match self {
            Self::Untrusted | Self::OnRequest => true,
            Self::Never => false,
            Self::Granular { crossing, .. } => crossing,
        }
    }

    /// Whether a person is asked about what a rule asks about.
    pub fn asks_by_rule(self) -> bool {
        match self {
            Self::Untrusted | Self::OnRequest => true,
            Self::Never => false,
            Self::Granular { rules, .. } => rules,
        }
    }
}

impl fmt::Display for ApprovalPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ApprovalPolicy {
    type Err = UnknownWord;

    /// `on-failure` is read as [`ApprovalPolicy::OnRequest`]; warning about it is the
    /// caller's, who knows the line it stood on.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        if word == "on-failure" {
            return Ok(Self::OnRequest);
        }
        [Self::Untrusted, Self::OnRequest, Self::Never]
            .into_iter()
            .find(|policy| policy.as_str() == word)
            .ok_or_else(|| UnknownWord {
                found: word.to_owned(),
                known: "`untrusted`, `on-request`, `never`",
            })
    }
}
