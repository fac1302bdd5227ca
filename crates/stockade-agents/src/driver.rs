//! A task for an agent, how it ends, and how it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::ModelError;

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// In the user's words.
    pub prompt: String,
    /// The surroundings, for the model: where it is, what is writable, which rules there are.
    pub system: String,
    /// Calls to the model.
    pub max_turns: u32,
    /// Tokens in all, read and written.
    pub max_tokens: Option<u64>,
    /// What the model can read at once, in tokens.
    pub context_tokens: u64,
    /// What a command has when the model asks for nothing else, and at most.
    pub command_timeout: Duration,
}

/// A task that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What the model said last.
    pub text: String,
}

/// A wish to stop that wakes whoever waits for the model. Clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_requested: AtomicBool,
    wake: Notify,
}

impl Stop {
    /// Asks to stop.
    pub fn request(&self) {
        self.0.is_requested.store(true, Ordering::SeqCst);
        self.0.wake.notify_waiters();
    }

    /// Takes the wish back, for the next turn of a conversation: what it was about has ended.
    pub fn withdraw(&self) {
        self.0.is_requested.store(false, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.is_requested.load(Ordering::SeqCst)
    }

    /// Waits until somebody asks.
    pub(crate) async fn requested(&self) {
        // Enrolled before looking, so that a request in between is not missed.
        let wake = self.0.wake.notified();
        if !self.is_requested() {
            wake.await;
        }
    }
}

/// The task did not come to its end. What the agent did up to there is done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The model could not be asked, or its answer was of no use.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The agent's own means are lacking.
    #[error("cannot start the agent")]
    Start(#[source] std::io::Error),
    /// `max_turns` calls to the model were not enough.
    #[error("not finished after {0} turns")]
    Turns(u32),
    /// More tokens than `max_tokens`.
    #[error("not finished within {limit} tokens ({used} used)")]
    Tokens {
        /// The limit.
        limit: u64,
        /// Read and written.
        used: u64,
    },
    /// `max_tokens` cannot be held, because nobody counts.
    #[error("the model server does not say how many tokens an answer took")]
    Uncounted,
    /// The place in which the commands run is gone.
    #[error("the place is lost: {0}")]
    Lost(String),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl AgentError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Turns(_) => Some("`[agent] max_turns` sets the limit".to_owned()),
            Self::Tokens { .. } => Some("`[agent] max_tokens` sets the limit".to_owned()),
            Self::Uncounted => Some("take `[agent] max_tokens` out; `max_turns` holds".to_owned()),
            Self::Start(_) | Self::Lost(_) | Self::Interrupted => None,
        }
    }
}
