//! What was held back at the end of a run.

use serde::{Deserialize, Serialize};

use super::PathText;

/// Something that was taken away, so that nothing outside obeys it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where it was, from the root.
    #[serde(flatten)]
    pub path: PathText,
    /// Why it could not stay.
    pub why: String,
}
