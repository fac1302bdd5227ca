//! A small client of one JSON service: requests with a token, answers that are bounded.
//!
//! It follows no redirect, because the token would follow it, and asks once: who it asks for may
//! have acted although its answer was lost.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use stockade_policy::{EndpointError, check_endpoint};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::model::{Api, Secret, headers, http, shown};

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 4 << 20;
/// For one question and its answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The service did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestError {
    /// The address is not one that a token may go to.
    #[error("`{url}` {source}")]
    Endpoint {
        /// The address.
        url: String,
        /// Why.
        source: EndpointError,
    },
    /// The token has characters that no header takes.
    #[error("the token is empty or has characters that no token has")]
    Token,
    /// The client's own means are lacking.
    #[error("cannot make an HTTPS client: {0}")]
    Client(String),
    /// It cannot be reached.
    #[error("cannot reach `{url}`: {why}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system says.
        why: String,
    },
    /// It takes too long.
    #[error("`{0}` did not answer within a minute")]
    Slow(String),
    /// It says more than is read.
    #[error("`{0}` answered with more than {ANSWER_MAX} bytes")]
    TooLong(String),
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// Text that somebody else wrote.
    pub body: String,
}

/// A client of one service.
#[derive(Debug)]
pub struct Rest {
    runtime: Runtime,
    http: reqwest::Client,
    headers: HeaderMap,
    base: String,
}

impl Rest {
    /// A client of what is below `base`, with `token` in each request and with `extra` headers.
    ///
    /// # Errors
    ///
    /// [`RestError`]: nothing was sent.
    pub fn new(
        base: &str,
        token: &Secret,
        extra: &[(&'static str, &'static str)],
    ) -> Result<Self, RestError> {
        let base = base.trim_end_matches('/').to_owned();
        check_endpoint(&base)
            .map_err(|source| RestError::Endpoint { url: base.clone(), source })?;
        let made = headers(Api::Responses, Some(token)).ok().ok_or(RestError::Token);
        let mut headers = made?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in extra {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let client = |error: &dyn std::error::Error| RestError::Client(shown(&error.to_string()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.map_err(|error| client(&error))?,
            http: http(&base).map_err(|error| client(&error))?,
            headers,
            base,
        })
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    ///
    /// [`RestError`]: there is no answer.
    pub fn get(&self, path: &str) -> Result<Reply, RestError> {
        self.ask(reqwest::Method::GET, path, None)
    }

    /// Sends the JSON `body` to `path`.
    ///
    /// # Errors
    ///
    /// [`RestError`]: there is no answer; it may have been done all the same.
    pub fn post(&self, path: &str, body: &str) -> Result<Reply, RestError> {
        self.ask(reqwest::Method::POST, path, Some(body))
    }

    fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Reply, RestError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url).headers(self.headers.clone());
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        self.runtime.block_on(async {
            let answer = timeout(PATIENCE, Self::answer(request, &url)).await;
            answer.unwrap_or_else(|_| Err(RestError::Slow(url.clone())))
        })
    }

    async fn answer(request: reqwest::RequestBuilder, url: &str) -> Result<Reply, RestError> {
        let lost = |error: reqwest::Error| RestError::Unreachable {
            url: url.to_owned(),
            why: crate::model::root(&error).to_string(),
        };
        let mut response = request.send().await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(RestError::TooLong(url.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { status: response.status().as_u16(), body })
    }
}
