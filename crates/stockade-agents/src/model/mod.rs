//! One question to a language model and its answer, over any of three APIs.
//!
//! An answer counts when it is whole: its calls are handed out only after the server has said
//! that it is at its end. So a stream that was cut is asked for again, and no call of it has
//! run. Wire formats, HTTP and TLS stop here.

mod chat;
mod client;
mod key;
mod messages;
mod responses;
mod sse;
mod turn;

use std::error::Error;
use std::fmt;
use std::time::Duration;

pub(crate) use client::{Client, headers, http, root};
pub use key::KeyError;
pub(crate) use turn::{Answer, Call, CallResult, Question, Tool, Turn, Usage, shown};

/// Where the model is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Model {
    /// The API that the server speaks.
    pub api: Api,
    /// What stands before `/responses`, `/chat/completions` or `/v1/messages`.
    pub base_url: String,
    /// The model's name, as the server knows it.
    pub name: String,
    /// What the server is shown; none for most local servers.
    pub key: Option<Secret>,
}

/// The API of a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST BASE/responses`.
    Responses,
    /// `POST BASE/chat/completions`.
    Chat,
    /// `POST BASE/v1/messages`.
    Messages,
}

/// A key. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` in, without the white space around it that a file or a command adds.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text, for who has to hand it on. It goes into no message and no record.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How long a server that is down, silent or overloaded is borne with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without a byte from the server.
    pub idle: Duration,
    /// For one whole answer, however busy the server looks.
    pub answer: Duration,
    /// Of one question, the first included.
    pub tries: u32,
    /// Before the second try; it doubles each time.
    pub first_delay: Duration,
    /// The longest that a server may ask to wait.
    pub longest_delay: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(5),
            answer: Duration::from_hours(1),
            tries: 5,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_mins(2),
        }
    }
}

/// The model could not be asked, or its answer was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// `base_url` is no place to send a conversation and a key to.
    #[error("`{url}` cannot be used as `base_url`")]
    Endpoint {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: stockade_policy::EndpointError,
    },
    /// The key holds characters that no HTTP header can.
    #[error("the key is not one line of visible characters")]
    Key,
    /// The client could not be set up.
    #[error("cannot set up the model client")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// No connection, or it broke before the answer was whole.
    #[error("cannot reach the model at `{url}`")]
    Unreachable {
        /// Where the request went.
        url: String,
        /// The system's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nothing came for a long time.
    #[error("the model server was silent for {}", words(*.0))]
    Silent(Duration),
    /// Something came all the time, but no end.
    #[error("the model server did not end its answer within {}", words(*.0))]
    Slow(Duration),
    /// The server refused the request.
    #[error("the model server answered {status}: {message}")]
    Status {
        /// Of HTTP.
        status: u16,
        /// In the server's words.
        message: String,
        /// What the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// There is nothing where `base_url` leads, which has the version that `messages` adds.
    #[error("the model server answered 404: {message}")]
    TwoVersions {
        /// In the server's words.
        message: String,
    },
    /// The server gave up while it was answering.
    #[error("the model server failed: {kind}: {message}")]
    Failed {
        /// The server's own name for it.
        kind: String,
        /// In the server's words.
        message: String,
    },
    /// The stream ended before the answer did.
    #[error("the answer was cut off")]
    Cut,
    /// It is whole, and there is nothing in it.
    #[error("the model's answer is empty: it holds neither text nor a call")]
    Empty,
    /// Each ends at the server's limit of its length before anything is said.
    #[error("the model's answers end at the limit of their length before they say anything")]
    Spent,
    /// It does not follow the API.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
    /// More than anybody could have meant.
    #[error("the answer is longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
}

fn words(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

impl ModelError {
    /// Whether the conversation was more than the model can read.
    pub(crate) fn is_overflow(&self) -> bool {
        /// How servers say it; what they say is no part of any API.
        const WORDS: [&str; 11] = [
            "context length",
            "context window",
            "context size",
            "context limit",
            "maximum number of tokens",
            "prompt too long",
            "maximum context",
            "prompt is too long",
            "input is too long",
            "too many tokens",
            "context_length_exceeded",
        ];
        let (kind, message) = if let Self::Failed { kind, message } = self {
            (kind.as_str(), message)
        } else if let Self::Status { status: 400 | 413 | 422 | 500, message, .. } = self {
            ("", message)
        } else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        matches!(kind, "context_length_exceeded" | "request_too_large")
            || WORDS.iter().any(|words| message.contains(words))
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Endpoint { source, .. } => return Some(source.hint().to_owned()),
            Self::Key => "look at what `[model] key` gives",
            Self::Status { status: 401 | 403, .. } => {
                "look at `[model] key`: the server does not take it for this model"
            }
            Self::Status { status: 404, .. } => {
                "look at `[model] base_url`, `api` and `name`: there is no such thing there"
            }
            Self::TwoVersions { .. } => {
                "`messages` adds `/v1/messages` to `[model] base_url`: leave the `/v1` at its end out"
            }
            Self::Status { retry_after: Some(time), .. } => {
                return Some(format!("it asks to wait {}", words(*time)));
            }
            Self::Status { status: 300..=399, .. } => {
                "a redirect is not followed; put its target into `[model] base_url`"
            }
            Self::Unreachable { .. } => "look at `[model] base_url`, and whether the server runs",
            Self::Empty => {
                "the model may be too small for this, or its server not know its format of calls"
            }
            Self::Spent => {
                "let the server write longer answers, or set `[model] context_tokens` to what it reads at once"
            }
            Self::Nonsense(_) => "look at `[model] api` and `base_url`",
            Self::Client(_) => "`https` needs the system's certificates (`ca-certificates`)",
            Self::Silent(_)
            | Self::Slow(_)
            | Self::Status { .. }
            | Self::Failed { .. }
            | Self::Cut
            | Self::TooLong { .. } => return None,
        };
        Some(text.to_owned())
    }
}
