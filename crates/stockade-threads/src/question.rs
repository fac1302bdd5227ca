//! Asking a person about one exact action.

/// What a person is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The action: a command line, or `write to PATH`.
    pub action: String,
    /// What would happen, and why it is asked.
    pub effect: String,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This time.
    Once,
    /// This very action, for the rest of the thread.
    Thread,
    /// No, with a word to the agent that may be empty.
    Deny(String),
    /// There is nobody to ask.
    Nobody,
    /// The user wants the thread to end.
    Stop,
}

/// Who asks.
pub trait Ask: Send + Sync {
    /// Puts the question, and waits for the reply.
    fn ask(&self, question: &Asked) -> Reply;
}

/// Nobody to ask: every question is a denial at once.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn ask(&self, _question: &Asked) -> Reply {
        Reply::Nobody
    }
}
