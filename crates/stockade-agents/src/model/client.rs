//! The way to the model server and back: requests, patience, and no more trust than needed.
//!
//! The server may be down, slow, overloaded, or not what it says it is. Everything that comes
//! from it is bounded in size and time; redirects are not followed, because the key would
//! follow them.

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use serde_json::Value;
use stockade_policy::{check_endpoint, is_encrypted_endpoint, is_loopback_endpoint};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::turn::{Answer, Decode, Question, failure, reason, shown};
use super::{Api, Model, ModelError, Patience, Secret, chat, messages, responses, sse};
use crate::driver::{AgentError, Stop};
use crate::event::AgentEvent;

/// The longest single event; the last one of an answer may hold all of it again.
const EVENT_BYTES: usize = 8 << 20;
/// The longest answer, with all that is around each piece of it.
const ANSWER_BYTES: usize = 64 << 20;
/// The longest explanation of an error.
const ERROR_BYTES: usize = 64 << 10;
/// How often the same is asked when the answer is empty.
const EMPTY_TRIES: u32 = 2;
const CONNECT: Duration = Duration::from_secs(20);
/// What the server has to end its stream properly, so that the connection can be used again.
const LEFTOVER: Duration = Duration::from_millis(50);

/// Kinds of failure that the same question would meet again.
const LASTING: [&str; 9] = [
    "invalid_request_error",
    "invalid_prompt",
    "insufficient_quota",
    "billing_error",
    "context_length_exceeded",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
];

/// A client of one model.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    headers: HeaderMap,
    url: String,
    model: Model,
    patience: Patience,
    /// Whether the model's encrypted reasoning is asked for, where the API knows of it.
    has_reasoning: AtomicBool,
}

/// Why one try brought no answer.
enum Trouble {
    /// Another try would fare no better.
    Lasting(ModelError),
    /// It may pass; the server may have said when.
    Passing(ModelError, Option<Duration>),
}

impl From<ModelError> for Trouble {
    fn from(error: ModelError) -> Self {
        match &error {
            ModelError::Failed { kind, .. } if LASTING.contains(&kind.as_str()) => {
                Self::Lasting(error)
            }
            ModelError::Silent(_)
            | ModelError::Failed { .. }
            | ModelError::Cut
            | ModelError::Empty
            | ModelError::Nonsense(_) => Self::Passing(error, None),
            ModelError::Endpoint { .. }
            | ModelError::Key
            | ModelError::Client(_)
            | ModelError::Unreachable { .. }
            | ModelError::Slow(_)
            | ModelError::Spent
            | ModelError::Status { .. }
            | ModelError::TwoVersions { .. }
            | ModelError::TooLong { .. } => Self::Lasting(error),
        }
    }
}

impl Client {
    pub(crate) fn new(model: Model, patience: Patience) -> Result<Self, AgentError> {
        let base = model.base_url.trim_end_matches('/');
        check_endpoint(base)
            .map_err(|source| ModelError::Endpoint { url: model.base_url.clone(), source })?;
        let path = match model.api {
            Api::Responses => "/responses",
            Api::Chat => "/chat/completions",
            Api::Messages => "/v1/messages",
        };
        let client = |error| ModelError::Client(root(&error));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AgentError::Start)?;
        Ok(Self {
            runtime,
            http: http(base).map_err(client)?,
            headers: headers(model.api, model.key.as_ref())?,
            url: format!("{base}{path}"),
            has_reasoning: AtomicBool::new(model.api == Api::Responses),
            model,
            patience,
        })
    }

    /// Asks until there is an answer, patience is at its end, or somebody asks to stop.
    pub(crate) fn ask(
        &self,
        question: Question<'_>,
        events: &mut dyn FnMut(AgentEvent),
        stop: &Stop,
    ) -> Result<Answer, AgentError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.requested() => Err(AgentError::Interrupted),
                answer = self.patiently(question, events) => Ok(answer?),
            }
        })
    }

    async fn patiently(
        &self,
        question: Question<'_>,
        events: &mut dyn FnMut(AgentEvent),
    ) -> Result<Answer, ModelError> {
        let mut body = self.request(question);
        let mut delay = self.patience.first_delay;
        let mut tries = 1;
        loop {
            let trouble = match timeout(self.patience.answer, self.once(&body, events)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(trouble)) => trouble,
                Err(_) => ModelError::Slow(self.patience.answer).into(),
            };
            let (error, after) = match trouble {
                Trouble::Lasting(error)
                    if responses::refuses_reasoning(&error) && self.gives_up_reasoning() =>
                {
                    body = self.request(question);
                    continue;
                }
                Trouble::Lasting(error) => return Err(error),
                Trouble::Passing(error, asked) => (error, asked.unwrap_or_else(|| jitter(delay))),
            };
            // It was there; more of the same is seldom another one.
            let is_asked_enough = tries >= self.patience.tries
                || (tries >= EMPTY_TRIES && matches!(error, ModelError::Empty));
            if is_asked_enough || after > self.patience.longest_delay {
                return Err(error);
            }
            events(AgentEvent::Retrying { why: with_causes(&error), after });
            tokio::time::sleep(after).await;
            delay = (delay * 2).min(self.patience.longest_delay);
            tries += 1;
        }
    }

    fn request(&self, question: Question<'_>) -> String {
        let name = &self.model.name;
        let request = match self.model.api {
            Api::Responses => {
                responses::request(name, question, self.has_reasoning.load(Ordering::Relaxed))
            }
            Api::Chat => chat::request(name, question),
            Api::Messages => messages::request(name, question),
        };
        request.to_string()
    }

    /// Asks for the model's reasoning no longer; `false` when it did not before.
    fn gives_up_reasoning(&self) -> bool {
        self.has_reasoning.swap(false, Ordering::Relaxed)
    }

    /// One request and its answer.
    async fn once(
        &self,
        body: &str,
        events: &mut dyn FnMut(AgentEvent),
    ) -> Result<Answer, Trouble> {
        let request = self.http.post(&self.url).headers(self.headers.clone()).body(body.to_owned());
        let response = self.in_time(request.send()).await?.map_err(|error| {
            let source = root(&error);
            let is_lasting = source.to_string().contains("certificate");
            let error = ModelError::Unreachable { url: self.url.clone(), source };
            if is_lasting { Trouble::Lasting(error) } else { Trouble::Passing(error, None) }
        })?;
        let kind = header(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let is_whole = ["application/json", "text/html"].iter().any(|kinds| kind.contains(kinds));
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        if is_whole {
            let what = format!("`{}` instead of a stream of events", shown(&kind));
            let body = self.explanation(response).await;
            let error =
                serde_json::from_slice::<Value>(&body).ok().map(|body| body["error"].clone());
            return Err(match error {
                Some(error) if !error.is_null() => self.redacted(failure(&error)).into(),
                _ => ModelError::Nonsense(what).into(),
            });
        }
        self.listen(response, events).await
    }

    /// Reads a stream to its end.
    async fn listen(
        &self,
        mut response: Response,
        events: &mut dyn FnMut(AgentEvent),
    ) -> Result<Answer, Trouble> {
        let mut decoder: Box<dyn Decode> = match self.model.api {
            Api::Responses => Box::<responses::Decoder>::default(),
            Api::Chat => Box::<chat::Decoder>::default(),
            Api::Messages => Box::<messages::Decoder>::default(),
        };
        let mut stream = sse::Stream::default();
        let mut has_spoken = false;
        let mut tell = |text: &str| {
            has_spoken = true;
            events(AgentEvent::TextDelta(text.to_owned()));
        };
        let mut bytes = 0_usize;
        while !decoder.is_over() {
            // A connection that breaks is a stream that was cut.
            let Ok(Some(piece)) = self.in_time(response.chunk()).await? else { break };
            bytes += piece.len();
            let each = |event: sse::Event| decoder.event(&event.name, &event.data, &mut tell);
            stream.feed(&piece, each).map_err(|error| self.redacted(error))?;
            if stream.pending_bytes() > EVENT_BYTES {
                return Err(ModelError::TooLong { limit_bytes: EVENT_BYTES }.into());
            }
            if bytes > ANSWER_BYTES {
                return Err(ModelError::TooLong { limit_bytes: ANSWER_BYTES }.into());
            }
        }
        // A stream that ends in the middle of an event was cut.
        if let Some(event) = stream.finish().filter(|_| !decoder.is_over())
            && (event.data == b"[DONE]" || serde_json::from_slice::<Value>(&event.data).is_ok())
        {
            let last = decoder.event(&event.name, &event.data, &mut tell);
            last.map_err(|error| self.redacted(error))?;
        }
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        timeout(LEFTOVER, rest).await.ok();
        let answer = decoder.answer()?;
        if answer.is_empty() && !answer.is_cut {
            return Err(ModelError::Empty.into());
        }
        if !has_spoken && !answer.text.is_empty() {
            events(AgentEvent::TextDelta(answer.text.clone()));
        }
        Ok(answer)
    }

    /// What a status other than success means.
    async fn refused(&self, response: Response) -> Trouble {
        let status = response.status().as_u16();
        let seconds = |name, unit: f64| {
            let number: f64 = header(response.headers(), name)?.parse().ok()?;
            Duration::try_from_secs_f64(number * unit).ok()
        };
        let retry_after =
            seconds("retry-after-ms", 1e-3).or_else(|| seconds("retry-after", 1.0)).or_else(|| {
                // Both by the server's clock: ours need not agree with it.
                let date = |name| http_date(&header(response.headers(), name)?);
                let wait = date("retry-after")?.saturating_sub(date("date")?);
                Some(Duration::from_secs(wait))
            });
        let target = header(response.headers(), LOCATION.as_str());
        let body = self.explanation(response).await;
        let (kind, said) = explained(&body);
        let message = match target {
            Some(target) if (300..400).contains(&status) => shown(&format!("see {target}")),
            _ => said,
        };
        let has_two_versions = status == 404 && self.url.ends_with("/v1/v1/messages");
        let error = self.redacted(if has_two_versions {
            ModelError::TwoVersions { message }
        } else {
            ModelError::Status { status, message, retry_after }
        });
        let is_passing = matches!(status, 408 | 409 | 425 | 429 | 500..);
        if is_passing && !LASTING.contains(&kind.as_str()) {
            Trouble::Passing(error, retry_after)
        } else {
            Trouble::Lasting(error)
        }
    }

    /// The body of an answer that is no stream, as far as it fits and comes.
    async fn explanation(&self, mut response: Response) -> Vec<u8> {
        let mut body = Vec::new();
        while let Ok(Ok(Some(piece))) = self.in_time(response.chunk()).await {
            body.extend_from_slice(&piece);
            if body.len() > ERROR_BYTES {
                break;
            }
        }
        body.truncate(ERROR_BYTES);
        body
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, ModelError> {
        let idle = self.patience.idle;
        timeout(idle, future).await.map_err(|_elapsed| ModelError::Silent(idle))
    }

    /// `error` without the key, should the server have repeated it.
    fn redacted(&self, mut error: ModelError) -> ModelError {
        if let Some(key) = self.model.key.as_ref().map(Secret::expose).filter(|key| !key.is_empty())
            && let ModelError::Status { message, .. }
            | ModelError::TwoVersions { message }
            | ModelError::Failed { message, .. }
            | ModelError::Nonsense(message) = &mut error
        {
            *message = message.replace(key, "***");
        }
        error
    }
}

/// The name of a failure and its explanation, from a body in any of the forms in use.
fn explained(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), shown(String::from_utf8_lossy(body).trim()));
    };
    let error = if value["error"].is_null() { &value } else { &value["error"] };
    reason(error)
}

pub(crate) fn http(base: &str) -> Result<reqwest::Client, reqwest::Error> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails when another part of the process has chosen one, which is then used.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("stockade/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .tcp_nodelay(true);
    if is_loopback_endpoint(base) {
        // It is not to be found by the user's proxy.
        builder = builder.no_proxy();
    }
    if !is_encrypted_endpoint(base) {
        // Needs no certificates, which a small container may not have, and which take time.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

pub(crate) fn headers(api: Api, key: Option<&Secret>) -> Result<HeaderMap, ModelError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if api == Api::Messages {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    let Some(key) = key.map(Secret::expose) else { return Ok(headers) };
    let (name, value) = match api {
        Api::Responses | Api::Chat => (AUTHORIZATION.as_str(), format!("Bearer {key}")),
        Api::Messages => ("x-api-key", key.to_owned()),
    };
    let is_visible = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let mut value =
        HeaderValue::from_str(&value).ok().filter(|_| is_visible).ok_or(ModelError::Key)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(headers)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Seconds since 1970 of a date as HTTP has it today: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110,
/// 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = 1 + MONTHS.iter().position(|name| name == month)?;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let parts: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) || *hours > 23 {
        return None;
    }
    // Days from 1 March of the year 0, by eras of 400 years (Howard Hinnant, "chrono-compatible
    // low-level date algorithms").
    let month = u64::try_from(month).ok()?;
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = (year % 400) * 365 + (year % 400) / 4 - (year % 400) / 100 + of_year;
    let days = (year / 400 * 146_097 + of_era).checked_sub(719_468)?;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// The last cause of `error`: what the system said, without the layers that passed it on.
pub(crate) fn root(error: &dyn Error) -> Box<dyn Error + Send + Sync> {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    shown(&last.to_string()).into()
}

fn with_causes(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}

/// Half of `delay` and a random part of the other half, so that many who wait for the same
/// server do not come back together.
fn jitter(delay: Duration) -> Duration {
    let percent = RandomState::new().hash_one(0) % 51 + 50;
    delay * u32::try_from(percent).unwrap_or(100) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for odd in
            ["", "tomorrow", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(odd), None, "{odd}");
        }
    }
}
