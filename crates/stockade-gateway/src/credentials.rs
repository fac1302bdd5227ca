//! Secrets that programs inside do not have: they hold placeholders, and what they say to the one
//! host of a credential, by TLS, carries the secret from here on.
//!
//! Invariant: a secret is in no header but those of [`Credential::is_carried_by`], in no request
//! line and no body, and in no message of ours.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stockade_policy::{Credential, KeySource, Network, is_carrier};

use crate::base64;
use crate::head::Head;

/// How long a secret that was read is used: one that a program makes may be short-lived.
const KEPT: Duration = Duration::from_mins(5);
/// Random bytes of a placeholder.
const RANDOM: usize = 16;
/// A shorter secret is not looked for in what servers answer: it could stand there by chance.
const SOUGHT_MIN: usize = 8;

/// The credentials of one run. Clones are handles on the same.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

type ReadSecret = Box<dyn Fn(&KeySource) -> Result<String, String> + Send + Sync>;

struct Inner {
    /// By the variables that hold their placeholders.
    held: BTreeMap<String, Held>,
    read: ReadSecret,
}

struct Held {
    placeholder: String,
    /// With when it was read.
    secret: Mutex<Option<(Instant, Arc<str>)>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What a request carries from here on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) variable: String,
    /// What an answer must not hold.
    pub(crate) sought: Vec<Vec<u8>>,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("variable", &self.variable).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Makes a placeholder for each credential of `network`. `read` gives a secret, or says why
    /// not in words that do not hold it; it is called when a request needs it, by any thread.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn new(
        network: &Network,
        read: impl Fn(&KeySource) -> Result<String, String> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut held = BTreeMap::new();
        for credential in network.credentials() {
            if !held.contains_key(&credential.variable) {
                let secret = Mutex::default();
                let placeholder = placeholder()?;
                held.insert(credential.variable.clone(), Held { placeholder, secret });
            }
        }
        Ok(Self(Arc::new(Inner { held, read: Box::new(read) })))
    }

    /// Variables with the placeholders that they are to hold inside.
    pub fn placeholders(&self) -> impl Iterator<Item = (&str, &str)> {
        let pair = |(variable, held)| {
            let (variable, held): (&String, &Held) = (variable, held);
            (variable.as_str(), held.placeholder.as_str())
        };
        self.0.held.iter().map(pair)
    }

    /// Puts those of `given` into `head` whose placeholders it holds.
    ///
    /// # Errors
    ///
    /// Why one of them cannot be had.
    pub(crate) fn lend<'a>(
        &self,
        given: impl Iterator<Item = &'a Credential>,
        head: &mut Head,
    ) -> Result<Vec<Lent>, String> {
        let mut lent = Vec::new();
        for credential in given {
            let Some(held) = self.0.held.get(&credential.variable) else { continue };
            let carriers = head.values(|name| credential.is_carried_by(name));
            let places: Vec<_> = carriers
                .filter_map(|value| Some((place(value, &held.placeholder)?, value)))
                .collect();
            if places.is_empty() {
                continue;
            }
            let variable = credential.variable.clone();
            let secret = self
                .secret(held, &credential.source)
                .map_err(|why| format!("what `{variable}` stands for cannot be had: {why}"))?;
            let mut sought = vec![secret.as_bytes().to_vec()];
            for (place, value) in places {
                sought.extend(place.put(&held.placeholder, &secret, value));
            }
            sought.retain(|_| secret.len() >= SOUGHT_MIN);
            lent.push(Lent { variable, sought });
        }
        if !lent.is_empty() {
            // So that a secret in the answer can be seen.
            head.ask_for_plain_answers();
        }
        Ok(lent)
    }

    /// Whether every header of `head` that servers take a secret from holds a placeholder, and one does.
    pub(crate) fn are_only(&self, head: &mut Head) -> Result<(), &'static str> {
        let mut count = 0;
        for value in head.values(is_carrier) {
            let is_held = |held: &Held| place(value, &held.placeholder).is_some();
            if !self.0.held.values().any(is_held) {
                return Err("it logs in as somebody else than the user");
            }
            count += 1;
        }
        if count == 0 {
            Err("it does not log in with the placeholder that it was given")
        } else {
            Ok(())
        }
    }

    fn secret(&self, held: &Held, source: &KeySource) -> Result<Arc<str>, String> {
        // One at a time: reading may ask the user for something.
        let mut kept = held.secret.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, secret)) = &*kept
            && since.elapsed() < KEPT
        {
            return Ok(Arc::clone(secret));
        }
        let text = (self.0.read)(source)?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err("it is empty".to_owned());
        }
        if secret.chars().any(char::is_control) {
            return Err("no header can hold it".to_owned());
        }
        let secret: Arc<str> = secret.into();
        *kept = Some((Instant::now(), Arc::clone(&secret)));
        Ok(secret)
    }
}

fn placeholder() -> io::Result<String> {
    let mut random = [0; RANDOM];
    let mut filled = 0;
    while let Some(rest) = random.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    let mut text = "stockade_".to_owned();
    for byte in random {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}

/// Where in a header a placeholder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// From here to the end: the whole value, or what follows the name of a scheme (RFC 9110, 11.4).
    From(usize),
    /// As the name or the password of a log-in that begins here (RFC 7617).
    LogIn(usize),
}

fn place(value: &[u8], placeholder: &str) -> Option<Place> {
    let word = value.iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
    let (scheme, last) = value.split_at_checked(word)?;
    let is_scheme =
        scheme.trim_ascii().iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if !is_scheme {
        return None;
    }
    if last == placeholder.as_bytes() {
        return Some(Place::From(word));
    }
    let is_basic = scheme.trim_ascii().eq_ignore_ascii_case(b"basic");
    let login = base64::decode(last).filter(|_| is_basic)?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    let (name, password) = login.split_at_checked(colon)?;
    let is_one = |part: &[u8]| part == placeholder.as_bytes();
    (is_one(name) || is_one(password.get(1..)?)).then_some(Place::LogIn(word))
}

impl Place {
    /// Puts `secret` there. The value is a further form in which `value` holds it.
    fn put(self, placeholder: &str, secret: &str, value: &mut Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::From(start) => {
                value.truncate(start);
                value.extend(secret.as_bytes());
                None
            }
            Self::LogIn(start) => {
                let login = base64::decode(value.get(start..)?)?;
                let colon = login.iter().position(|byte| *byte == b':')?;
                let one = |part: &[u8]| {
                    if part == placeholder.as_bytes() {
                        secret.as_bytes().to_vec()
                    } else {
                        part.to_vec()
                    }
                };
                let (name, password) = login.split_at_checked(colon)?;
                let login = [one(name), one(password.get(1..)?)].join(&b':');
                let coded = base64::encode(&login).into_bytes();
                value.truncate(start);
                value.extend(&coded);
                Some(coded)
            }
        }
    }
}

/// Looks for secrets in what a server answers. What an answer says in another form than the one
/// that was sent to it is not found: this is for servers that repeat what they were asked, not
/// for those that are in league with a program.
#[derive(Default)]
pub(crate) struct Echo {
    sought: Vec<Vec<u8>>,
    /// The end of what was said, as much as could be a part of a secret.
    end: Vec<u8>,
    /// As much of it has not passed yet: more than half of a secret could begin so.
    kept: usize,
}

/// A server has answered with a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

impl Echo {
    pub(crate) fn look_for(&mut self, lent: &Lent) {
        for sought in &lent.sought {
            if !self.sought.contains(sought) {
                self.sought.push(sought.clone());
            }
        }
    }

    /// Takes what the server said; what may pass is appended to `out`.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Repeated> {
        if self.sought.is_empty() {
            out.extend(bytes);
            return Ok(());
        }
        let passed = self.end.len() - self.kept;
        self.end.extend(bytes);
        if self.sought.iter().any(|sought| holds(&self.end, sought)) {
            return Err(Repeated);
        }
        // Less is not kept back: an answer may end so by chance, and nothing follows it.
        let begun = self.sought.iter().map(|sought| begun(&self.end, sought)).max().unwrap_or(0);
        self.kept = begun.min(self.end.len() - passed);
        out.extend(self.end.get(passed..self.end.len() - self.kept).unwrap_or_default());
        let most = self.sought.iter().map(Vec::len).max().unwrap_or(0);
        self.end.drain(..self.end.len().saturating_sub(most));
        Ok(())
    }

    /// What was kept back, when nothing follows.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let end = std::mem::take(&mut self.end);
        let kept = std::mem::take(&mut self.kept);
        end.get(end.len() - kept..).unwrap_or_default().to_vec()
    }
}

fn holds(text: &[u8], sought: &[u8]) -> bool {
    let Some(first) = sought.first() else { return false };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(sought) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// How many bytes at the end of `text` are the beginning of `sought`, and more than its half.
fn begun(text: &[u8], sought: &[u8]) -> usize {
    let most = sought.len().saturating_sub(1).min(text.len());
    let ends_with =
        |length: &usize| sought.get(..*length).is_some_and(|begin| text.ends_with(begin));
    (sought.len() / 2 + 1..=most).rev().find(ends_with).unwrap_or(0)
}

#[cfg(test)]
mod tests;
