//! What a record says of questions and their answers.

use serde::{Deserialize, Serialize};

/// A question to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Ties `answer` to this.
    pub id: String,
    /// What would happen, in words.
    pub effect: String,
    /// What can be answered: `once`, `thread`, `project`, `deny`.
    pub choices: Vec<String>,
    /// Beginnings of commands that a yes may be meant for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Vec<String>>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// That of the question.
    pub id: String,
    /// One of its choices.
    pub answer: String,
    /// Who or what answered: `terminal`, `client`, `timeout`, `no-terminal`, `flood`.
    pub by: String,
    /// For which commands a yes was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Vec<String>>,
    /// What was said with a no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
}

/// Something went on without a question, since a person had allowed it for the rest of the run, or of
/// the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What was allowed: an action, a path, or the beginning of a command.
    pub grant: String,
    /// What went on; each is named once. Missing in the count at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How many calls went on in all, at the end, where not each of them was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
}

impl Used {
    pub(crate) fn of(grant: &str, action: &str) -> Self {
        Self { grant: grant.to_owned(), action: Some(action.to_owned()), calls: None }
    }
}
