//! Asking a person about one exact action.

/// What a person is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The action: a command line, or `write to PATH`.
    pub action: String,
    /// What would happen, and why it is asked.
    pub effect: String,
    /// Beginnings of commands that a yes may be meant for, widest last.
    pub prefixes: Vec<Vec<String>>,
    /// Whether a yes can be kept for the project: not where a rule asks, which would go on asking.
    pub can_be_kept: bool,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This time.
    Once,
    /// For the rest of the thread: this very action, or commands that begin so.
    Thread(Option<Vec<String>>),
    /// In this project from now on: commands that begin so.
    Project(Vec<String>),
    /// No, with a word to the agent that may be empty.
    Deny(String),
    /// There is nobody to ask.
    Nobody,
    /// Nobody answered in time.
    Late,
    /// The user wants the thread to end.
    Stop,
}

/// Who asks.
pub trait Ask: Send + Sync {
    /// Whether there is somebody in front of it.
    fn is_present(&self) -> bool;

    /// Puts the question, and waits for the reply, or for one that `elsewhere` has.
    fn ask(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Reply;
}

/// Nobody to ask: a question is a denial at once, unless somebody answers from another terminal.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn is_present(&self) -> bool {
        false
    }

    fn ask(&self, _question: &Asked, _elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        Reply::Nobody
    }
}
