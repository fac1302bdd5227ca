//! Log-ins by ssh: an agent that has one key for each host that is allowed, and signs log-ins there
//! with it, and nothing else.
//!
//! A program says at which session it wants to log in (`session-bind@openssh.com`): the host's key
//! has signed the session's number. From the user's own files the host is found that has this key.
//! What is signed then holds in this session only, and so at this host (docs/adr/0068). The key
//! stays with the user's agent; it signs, by [`Keys`].
//!
//! Invariants:
//! - without a session that is bound there is no key to be seen, and nothing is signed;
//! - what is signed is a log-in in that session, by that host's one key, as whom a rule or a person
//!   said: no commit, no other session, nothing for a session by which others speak to the agent.

mod host_key;
mod known_hosts;
mod user_agent;
mod wire;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stockade_policy::{Host, SSH_PORT};

pub use host_key::fingerprint;
pub use known_hosts::KnownHosts;
pub use user_agent::UserAgent;

use crate::event::{Caller, Event};
use crate::grants::Given;
use crate::service::Service;
#[cfg(fuzzing)]
pub(crate) use fuzzing::agent;
use wire::{Bind, LoginData, Request};

/// Where programs ask, as it is told of.
const AGENT: &str = "ssh agent";
/// Names of sub-domains that were asked for last, among which a host is looked for.
const RECENT: usize = 256;
/// Hosts whose keys ssh inside is told; a pattern may be of any number.
const INTRODUCED_MAX: usize = 1024;

/// A key that a host is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// As ssh sends it.
    pub blob: Vec<u8>,
    /// What the user calls it.
    pub comment: String,
}

/// The user's keys. All of it may take as long as a disk, or a person with a token.
pub trait Keys: Send + Sync {
    /// The keys of hosts, as the user's files say now.
    fn known(&self) -> KnownHosts;

    /// The one key for `host`.
    ///
    /// # Errors
    ///
    /// Why there is none, for a person.
    fn key(&self, host: &str) -> Result<PublicKey, String>;

    /// The signature by `key` that `request`, a message of the agent's protocol, asks for; `bind` is
    /// the message that bound the session.
    ///
    /// # Errors
    ///
    /// Why there is none, for a person.
    fn sign(&self, key: &PublicKey, bind: &[u8], request: &[u8]) -> Result<Vec<u8>, String>;
}

/// What log-ins are judged by.
#[derive(Clone)]
pub struct Broker {
    /// The user's keys.
    pub keys: Arc<dyn Keys>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

/// A log-in that somebody is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Where.
    pub host: String,
    /// As whom.
    pub user: String,
    /// By which key: what ssh shows of it.
    pub fingerprint: String,
    /// What the user calls that key.
    pub comment: String,
}

/// A session with a host that is allowed.
#[derive(Debug)]
struct Bound {
    host: Host,
    host_key: Vec<u8>,
    session: Vec<u8>,
    /// As it was said, for the user's agent to judge as well.
    message: Vec<u8>,
    key: PublicKey,
}

/// Whom one connection to the agent is about.
#[derive(Debug)]
enum State {
    New,
    Bound(Box<Bound>),
    /// A binding was refused: what follows is about somebody else.
    Spoiled,
}

/// The file by which ssh inside knows hosts, with those that are in it.
#[derive(Debug, Default)]
pub(crate) struct Introduced(OnceLock<Mutex<(File, HashSet<Host>)>>);

/// Has ssh inside know the keys of `host`, which a program may connect to and is about to; before
/// anything of the host's arrives there. One that the user does not know stays unknown.
pub(crate) fn introduce(service: &Service, host: &Host) {
    let (Some(broker), Some(file)) = (&service.logins, service.introduced.0.get()) else { return };
    let mut introduced = file.lock().unwrap_or_else(PoisonError::into_inner);
    let (file, hosts) = &mut *introduced;
    if hosts.len() >= INTRODUCED_MAX || hosts.contains(host) {
        return;
    }
    let lines = broker.keys.known().only(std::slice::from_ref(host));
    // In one piece; without it ssh says that it does not know the host.
    if !lines.is_empty() && file.write_all(lines.as_bytes()).is_ok() {
        hosts.insert(host.clone());
    }
}

/// From now on the keys of hosts are added to `file`, where ssh inside reads them.
pub(crate) fn introduce_by(service: &Service, file: File) {
    // There is one.
    service.introduced.0.set(Mutex::new((file, HashSet::new()))).ok();
}

/// Serves one program that asks for its ssh agent.
pub(crate) fn converse(service: &Service, stream: &TcpStream, caller: Caller) -> io::Result<()> {
    let Some(broker) = &service.logins else { return Ok(()) };
    let caller = Some(caller);
    let mut conversation = Conversation { service, broker, caller, state: State::New };
    while let Some(message) = wire::receive(stream)? {
        wire::send(stream, &conversation.answer(&message))?;
    }
    Ok(())
}

struct Conversation<'a> {
    service: &'a Service,
    broker: &'a Broker,
    caller: Option<Caller>,
    state: State,
}

impl Conversation<'_> {
    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        match Request::read(message) {
            Request::Identities => match &self.state {
                State::Bound(bound) => wire::identities(&[(&bound.key.blob, &bound.key.comment)]),
                State::New | State::Spoiled => wire::identities(&[]),
            },
            Request::Bind(bind) => {
                let bound = match (&self.state, self.bind(message, &bind)) {
                    (State::New, Ok(bound)) => bound,
                    // One hop: a second session would be one behind the first.
                    (State::Bound(_) | State::Spoiled, Ok(_)) => {
                        return self.spoil("a second session on one connection");
                    }
                    (_, Err(why)) => return self.spoil(&why),
                };
                self.state = State::Bound(Box::new(bound));
                vec![wire::SUCCESS]
            }
            Request::Sign { key, data, .. } => match self.sign(message, (key, data)) {
                Ok(signature) => wire::signed(&signature),
                Err((host, why)) => {
                    self.refuse(host, why);
                    vec![wire::FAILURE]
                }
            },
            Request::Other => vec![wire::FAILURE],
        }
    }

    fn spoil(&mut self, why: &str) -> Vec<u8> {
        self.state = State::Spoiled;
        self.refuse(None, format!("a log-in is not signed: {why}"));
        vec![wire::FAILURE]
    }

    fn refuse(&self, host: Option<String>, why: String) {
        let port = host.is_some().then_some(SSH_PORT);
        let host = host.unwrap_or_else(|| AGENT.to_owned());
        let caller = self.caller.clone();
        let id = None;
        self.service.log.tell(&Event::Refused { id, host, port, caller, why, remedy: None });
    }

    fn bind(&self, message: &[u8], bind: &Bind<'_>) -> Result<Bound, String> {
        let Bind { host_key, session, signature, is_forwarding } = *bind;
        if is_forwarding {
            return Err("the agent was to be forwarded to a host".to_owned());
        }
        if session.is_empty() || !host_key::has_signed(host_key, session, signature) {
            return Err("no host's key has signed that session".to_owned());
        }
        let host = self.host(host_key).ok_or_else(|| {
            let shown = fingerprint(host_key);
            format!(
                "the key {shown} is of no host in your `known_hosts` that is allowed at port 22"
            )
        })?;
        let key = self.broker.keys.key(&host.to_string())?;
        let (host_key, session, message) = (host_key.to_vec(), session.to_vec(), message.to_vec());
        Ok(Bound { host, host_key, session, message, key })
    }

    /// The allowed host that has this key.
    fn host(&self, key: &[u8]) -> Option<Host> {
        let service = self.service;
        let named = service.network.ssh_hosts();
        let asked = service.names.latest(RECENT).into_iter().map(Host::Name);
        let mut hosts = named.into_iter().chain(asked);
        let known = self.broker.keys.known();
        hosts.find(|host| service.may_log_in(host) && known.has(host, key))
    }

    /// Signs `data`, or says where it was not done, and why.
    fn sign(
        &self,
        message: &[u8],
        (key, data): (&[u8], &[u8]),
    ) -> Result<Vec<u8>, (Option<String>, String)> {
        let State::Bound(bound) = &self.state else {
            let why = "a signature without a session with an allowed host is not made";
            return Err((None, why.to_owned()));
        };
        let host = bound.host.to_string();
        let no = |why: String| Err((Some(host.clone()), why));
        let Some(data) = LoginData::read(data) else {
            return no("only log-ins are signed, and this is something else".to_owned());
        };
        let is_here = data.session == bound.session
            && data.host_key.is_none_or(|key| key == bound.host_key)
            && data.key == key
            && key == bound.key.blob;
        if !is_here {
            return no("a log-in in another session, or by another key, is not signed".to_owned());
        }
        let login = Login {
            host: host.clone(),
            user: data.user.to_owned(),
            fingerprint: fingerprint(key),
            comment: bound.key.comment.clone(),
        };
        let rule = match self.permitted(&bound.host, &login) {
            Ok(rule) => rule,
            Err(why) => return no(format!("a log-in as `{}` is {why}", shown(&login.user))),
        };
        let signed = self.broker.keys.sign(&bound.key, &bound.message, message);
        let signature = match signed {
            Ok(signature) => signature,
            Err(why) => return no(format!("a log-in is allowed, and not signed: {why}")),
        };
        let Login { host, user, fingerprint, .. } = login;
        let user = shown(&user);
        let caller = self.caller.clone();
        self.service.log.tell(&Event::Login { host, user, caller, fingerprint, rule });
        Ok(signature)
    }

    /// What allows it; otherwise how it stands.
    fn permitted(&self, host: &Host, login: &Login) -> Result<String, String> {
        // It may have been taken back meanwhile.
        if !self.service.may_log_in(host) {
            return Err("not allowed: the host is not".to_owned());
        }
        if let Some(rule) = self.service.network.logins.rule(&login.host)
            && rule.user == login.user
        {
            return Ok(format!("allowed by `[[network.ssh]]` ({})", rule.place));
        }
        match self.service.grants.asker() {
            Some(asker) => match asker.ask_login(login) {
                Given::Once | Given::Always => Ok("allowed by an answer".to_owned()),
                Given::No(why) => Err(why),
            },
            None => Err("not allowed: `[[network.ssh]]` would allow it".to_owned()),
        }
    }
}

/// A name that a program chose, without anything that draws on a terminal.
fn shown(name: &str) -> String {
    name.escape_debug().take(64).collect()
}

#[cfg(fuzzing)]
mod fuzzing {
    use super::wire::{LoginData, Request, read_identities, read_signed};

    /// What is understood is the same when it is written again.
    pub(crate) fn agent(message: &[u8]) {
        let request = Request::read(message);
        if request != Request::Other {
            assert_eq!(request.message(), message, "another message");
        }
        if let Request::Sign { data, .. } = request {
            LoginData::read(data);
        }
        if let Request::Bind(bind) = request {
            super::host_key::has_signed(bind.host_key, bind.session, bind.signature);
        }
        read_identities(message);
        read_signed(message);
    }
}

#[cfg(test)]
mod tests;
