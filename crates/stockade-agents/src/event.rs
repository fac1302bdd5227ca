//! What an agent at work tells those who watch.

use std::time::Duration;

/// Something that happened, in the order in which it happened.
///
/// The calls themselves are not here: whoever implements [`Hands`](crate::Hands) knows of each
/// of them first, and of the judgement on it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// A piece of what the model is saying. After [`Retrying`](Self::Retrying) it starts anew.
    TextDelta(String),
    /// All that the model said in one turn.
    Message {
        /// Its text.
        text: String,
    },
    /// What the model means to do, a step a line, each with a mark for how far it is.
    Plan {
        /// The lines.
        text: String,
    },
    /// What a call did that no other event tells, or why it came to nothing, in one line.
    Step {
        /// The line.
        text: String,
    },
    /// A piece of what the running command printed, as it came.
    Output(Vec<u8>),
    /// What one turn cost.
    Usage {
        /// Tokens read, those from a cache included.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
    },
    /// The model is asked.
    Asking {
        /// The number of the question, counted from 1.
        turn: u32,
        /// How many there may be.
        max_turns: u32,
    },
    /// The conversation was made smaller, so that the model can read it.
    Shortened {
        /// How much was left out, in bytes.
        bytes: usize,
    },
    /// A call of the model's is none that could be carried out: it was told, and goes on.
    Slip {
        /// What was wrong, in one line.
        why: String,
    },
    /// A call to the model failed and is made again.
    Retrying {
        /// What was wrong.
        why: String,
        /// How long the next try waits.
        after: Duration,
    },
}
