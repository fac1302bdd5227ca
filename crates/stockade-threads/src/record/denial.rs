//! What was refused.

use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PathText;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// `write`, `read`, `connect`, `exec`, `resolve`, `question`.
    pub op: String,
    /// The path, host or command.
    pub target: String,
    /// Its bytes, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_b64: Option<String>,
    /// The line of policy or the rule.
    pub decided_by: String,
    /// What would be possible instead.
    #[serde(default)]
    pub alternatives: Vec<String>,
}

impl Denial {
    /// A refusal of `target`, which need not be UTF-8.
    pub fn new(op: &str, target: &OsStr, decided_by: &str) -> Self {
        let PathText { path, path_b64 } = PathText::from(Path::new(target));
        Self {
            op: op.to_owned(),
            target: path,
            target_b64: path_b64,
            decided_by: decided_by.to_owned(),
            alternatives: Vec::new(),
        }
    }
}

impl From<&stockade_policy::Denial> for Denial {
    fn from(denial: &stockade_policy::Denial) -> Self {
        let target = denial.target.as_os_str();
        let alternatives = denial.alternatives.clone();
        Self { alternatives, ..Self::new(denial.op.as_str(), target, &denial.decided_by) }
    }
}
