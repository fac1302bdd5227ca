//! Files, flags and environment in, one [`stockade_policy::Policy`] out.
//!
//! The only crate that reads configuration and the environment, and the only one that asks
//! the disk which of the protected and hidden names are there. What it returns names existing,
//! canonical paths only; the sandbox takes them as they are.
//!
//! Invariants:
//! - a value from a project's own file never widens what the layers above it allow;
//! - a file that is wrong anywhere stops the start, with file, line and column;
//! - nothing is written but the rules of the user's own files, where the user says so (`edit`).

mod aliases;
mod answered;
mod answered_rules;
mod caches;
mod codex;
mod diagnose;
mod disk;
mod edit;
mod env;
mod expiry;
mod git;
mod git_config;
mod grants;
mod hidden;
mod json_schema;
mod keys;
mod layer;
mod load;
mod locate;
mod logins;
mod machine;
mod model;
mod network;
mod own;
mod recipes;
mod requests;
mod requirements;
mod retention;
mod roots;
mod rule_text;
mod schema;
mod secrets;
mod signing;
mod stack;
mod trust;
mod values;
mod variables;

pub use answered::{AnsweredEntry, AnsweredKind};
pub use answered_rules::AnsweredRule;
pub use diagnose::{ConfigError, Diagnostic, Layer};
pub use disk::HostDisk;
pub use edit::{Edited, NewHost, NewRule, RuleFile, check_rules, rules_as_text};
pub use env::Env;
pub use expiry::Expiry;
pub use grants::{GrantText, Openings};
pub use json_schema::json_schema;
pub use layer::{validate, validate_text};
pub use load::{EnvFlag, Loaded, Needs, Request, load};
pub use locate::way_to;
pub use machine::{CloudBounds, CloudText};
pub use model::{AgentLimits, CONTEXT_TOKENS, ModelApi, ModelText, Notify};
pub use retention::{Retention, retention};
pub use rule_text::{Prefix, RuleText, Scope};
pub use stockade_policy::KeySource;
pub use trust::{Trust, project_trust, trust_file};
pub use values::{Origins, Resolved};
