//! The gateway put together with the sandbox whose only way out it is.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use stockade_agents::Secret;
use stockade_gateway::{Authority, Broker, Caller, Credentials, Gateway, Means};
use stockade_policy::{KeySource, Network, SSH_PORT, UpstreamText};
use stockade_sandbox::Doors;

pub use stockade_gateway::{AskHost, Blocked, Event, Upstream};

use crate::line::Line;
use crate::record::{self, Connection, ConnectionOpened, Decision};
use crate::ssh_keys::UserKeys;

/// The network cannot be served as it was asked for; nothing has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A port of the host's loopback cannot be had.
    #[error("cannot publish port {port} on 127.0.0.1")]
    Publish {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The user's proxy is of another kind than those that can be dialled by.
    #[error("not yet: the proxy of this machine is not an `http://` one")]
    Upstream,
    /// Requests are to be judged, and TLS cannot end here.
    #[error(transparent)]
    Authority(#[from] stockade_gateway::AuthorityError),
    /// There is no placeholder for a credential.
    #[error("cannot make placeholders for credentials")]
    Credentials(#[source] io::Error),
}

impl NetworkError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Publish { .. } => "`--publish HOSTPORT:PORT` chooses another port",
            Self::Authority(_) | Self::Credentials(_) => {
                "leave `[[network.rules]]` out, and deny their hosts"
            }
            Self::Upstream => {
                "`-c network.upstream=none` dials without it, `-c network.upstream=http://HOST:PORT` \
                 by another"
            }
        }
    }
}

type Sink = Box<dyn Fn(&Event) + Send + Sync>;

/// The network of one sandbox: prepared before it is up, served from then on.
pub struct NetworkService {
    network: Network,
    upstream: Option<Upstream>,
    authority: Option<Authority>,
    credentials: Option<Credentials>,
    logins: Option<Broker>,
    /// Listeners outside, with the ports inside that they lead to.
    published: Mutex<Vec<(TcpListener, u16)>>,
    sink: Mutex<Option<Sink>>,
    gateway: OnceLock<Gateway>,
    asker: Mutex<Option<Arc<dyn AskHost>>>,
}

impl std::fmt::Debug for NetworkService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkService").field("network", &self.network).finish_non_exhaustive()
    }
}

impl NetworkService {
    /// Takes what has to be there before anything runs: the ports that are published. `sink` is
    /// told what happens, by several threads, and must not block for long.
    ///
    /// # Errors
    ///
    /// [`NetworkError`] when somebody else has a port, or nobody can dial by the user's proxy.
    pub fn prepare(
        network: &Network,
        sink: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Self, NetworkError> {
        let bind = |ports: &stockade_policy::Published| {
            let port = ports.outside;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map(|listener| (listener, ports.inside))
                .map_err(|source| NetworkError::Publish { port, source })
        };
        let upstream = match &network.upstream {
            Some(UpstreamText { url, except }) if network.leads_out() => {
                Some(Upstream::new(url, except).ok_or(NetworkError::Upstream)?)
            }
            Some(_) | None => None,
        };
        let is_judged = !network.requests.is_empty();
        let authority = is_judged.then(Authority::new).transpose().map_err(NetworkError::from)?;
        let has_credentials = network.credentials().next().is_some();
        let credentials = has_credentials.then(|| Credentials::new(network, read_secret));
        let credentials = credentials.transpose().map_err(NetworkError::Credentials)?;
        let published = network.published.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self {
            network: network.clone(),
            upstream,
            authority,
            credentials,
            logins: network.reaches_ssh().then(|| broker(network)),
            published: Mutex::new(published),
            sink: Mutex::new(Some(Box::new(sink))),
            gateway: OnceLock::new(),
            asker: Mutex::default(),
        })
    }

    /// Has `asker` asked about hosts that no entry allows; to be called before it is served.
    pub fn ask_by(&self, asker: Arc<dyn AskHost>) {
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner) = Some(asker);
    }

    /// Lets programs inside trust whom the gateway lets vouch for hosts whose requests it judges,
    /// and gives them the placeholders of credentials, in their environment.
    pub fn introduce(&self, network: &mut Network, environment: &mut Vec<(OsString, OsString)>) {
        if let Some(authority) = &self.authority {
            network.authorities.push_str(authority.certificate());
        }
        network.logs_in = self.logins.is_some();
        let placeholders = self.credentials.iter().flat_map(Credentials::placeholders);
        for (variable, placeholder) in placeholders {
            environment.retain(|(name, _)| name != variable);
            environment.push((variable.into(), placeholder.into()));
        }
    }

    /// Serves `doors` in threads; to be called once, when threads may be started.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve(&self, doors: Doors) -> io::Result<()> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sink = sink.unwrap_or_else(|| Box::new(|_event| ()));
        if self.credentials.is_some() {
            // Before any is read; not before the sandbox is up, whose start has to look into itself.
            close_memory()?;
        }
        let means = Means {
            upstream: self.upstream.clone(),
            authority: self.authority.clone(),
            credentials: self.credentials.clone(),
            logins: self.logins.clone(),
        };
        let gateway = Gateway::new(self.network.clone(), means, sink);
        let gateway = self.gateway.get_or_init(|| gateway).clone();
        if let Some(asker) = self.asker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            gateway.ask_by(asker);
        }
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        Line::begin(gateway, doors, std::mem::take(&mut *published))
    }

    /// Hosts that are allowed and could not be reached so far, with why.
    pub fn unreached(&self) -> Vec<(String, String)> {
        self.gateway.get().map(Gateway::unreached).unwrap_or_default()
    }

    /// What was refused so far.
    pub fn blocked(&self) -> Vec<Blocked> {
        self.gateway.get().map(Gateway::blocked).unwrap_or_default()
    }
}

/// Who judges log-ins by ssh, with the user's keys.
fn broker(network: &Network) -> Broker {
    Broker { keys: Arc::new(UserKeys::new(network.logins.clone())) }
}

/// Reads what a placeholder stands for.
pub(crate) fn read_secret(source: &KeySource) -> Result<String, String> {
    let secret = match source {
        KeySource::Variable(name) => match std::env::var(name) {
            Ok(text) => return Ok(text),
            Err(_) => return Err(format!("the variable `{name}` is not set outside, or no text")),
        },
        KeySource::Program(words) => Secret::from_command(words),
        KeySource::Keyring(attributes) => Secret::from_keyring(attributes),
    };
    match secret {
        Ok(secret) => Ok(secret.expose().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// No other process of the user's may look into this one from now on, and no core of it is written
/// (`PR_SET_DUMPABLE(2const)`).
fn close_memory() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Takes an event to a record.
type Writes = Box<dyn Fn(&record::Event) + Send + Sync>;

/// Connections for a record: as many as one holds, the first ones. They are written as they come where
/// there is somebody who writes, so that a record that ends in the middle has them; else they are kept
/// until they are taken, as many each time.
#[derive(Default)]
pub struct Connections {
    writes: Option<Writes>,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// Where nobody writes.
    waiting: Vec<record::Event>,
    /// Whose beginning was told.
    open: HashSet<u64>,
    told: usize,
    /// What there was no room for.
    left_out: u64,
}

impl Connections {
    /// As many as are told of.
    const TOLD_MAX: usize = 1000;

    /// They go to `write` at once.
    pub fn written(write: impl Fn(&record::Event) + Send + Sync + 'static) -> Self {
        Self { writes: Some(Box::new(write)), kept: Mutex::default() }
    }

    /// Takes an event down.
    pub fn note(&self, event: &Event) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match (&self.writes, recorded(event)) {
            (Some(write), Some(recorded)) if kept.has_room(event) => {
                // Others are not held up by the disk.
                drop(kept);
                write(&recorded);
            }
            (None, Some(recorded)) if kept.has_room(event) => kept.waiting.push(recorded),
            (Some(_) | None, _) => {}
        }
    }

    /// What was taken down since, where nobody writes.
    pub fn take(&self) -> Vec<record::Event> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.writes.is_none() {
            kept.told = 0;
        }
        std::mem::take(&mut kept.waiting)
    }

    /// How many connections and refusals there were besides those that were told of.
    pub fn left_out(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).left_out
    }
}

impl Kept {
    /// Whether one more is written. What was written as begun is written to its end.
    fn has_room(&mut self, event: &Event) -> bool {
        let is_full = self.told >= Connections::TOLD_MAX;
        let begun = match event {
            Event::Opened { id, .. } => {
                if !is_full {
                    self.open.insert(*id);
                }
                None
            }
            Event::Connection { id, .. } => id.map(|id| self.open.remove(&id)),
            // Its end follows if anything was said on it before.
            Event::Refused { id, .. } => id.map(|id| self.open.contains(&id)),
            Event::Login { .. } | _ => None,
        };
        if let Some(begun) = begun {
            return begun;
        }
        if is_full {
            self.left_out += 1;
        } else {
            self.told += 1;
        }
        !is_full
    }
}

/// An event as a record has it.
fn recorded(event: &Event) -> Option<record::Event> {
    let process = |caller: &Option<Caller>| caller.as_ref().map(|caller| caller.process);
    let command =
        |caller: &Option<Caller>| caller.as_ref().and_then(|caller| caller.command.clone());
    let name = |id: &Option<u64>| id.map(|id| id.to_string());
    let connection = match event {
        Event::Opened { id, host, port, caller, rule } => {
            return Some(record::Event::ConnectionOpened(ConnectionOpened {
                id: id.to_string(),
                host: host.clone(),
                port: *port,
                process: process(caller),
                command: command(caller),
                rule: Some(rule.clone()),
            }));
        }
        Event::Connection { id, host, port, caller, rule, sent, received, failure } => Connection {
            id: name(id),
            host: host.clone(),
            port: Some(*port),
            process: process(caller),
            command: command(caller),
            decision: Decision::Allow,
            rule: Some(failure.clone().unwrap_or_else(|| rule.clone())),
            sent: *sent,
            received: *received,
        },
        Event::Login { host, user, caller, fingerprint, rule } => Connection {
            id: None,
            host: host.clone(),
            port: Some(SSH_PORT),
            process: process(caller),
            command: command(caller),
            decision: Decision::Allow,
            rule: Some(format!("log-in as `{user}` by {fingerprint}: {rule}")),
            sent: 0,
            received: 0,
        },
        Event::Refused { id, host, port, caller, why, .. } => Connection {
            id: name(id),
            host: host.clone(),
            port: *port,
            process: process(caller),
            command: command(caller),
            decision: Decision::Deny,
            rule: Some(why.clone()),
            sent: 0,
            received: 0,
        },
        _ => return None,
    };
    Some(record::Event::Connection(connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(id: u64) -> Event {
        let (host, rule) = ("example.org".to_owned(), "t".to_owned());
        Event::Opened { id, host, port: 443, caller: None, rule }
    }

    fn ended(id: u64) -> Event {
        let (host, rule) = ("example.org".to_owned(), "t".to_owned());
        let (sent, received, failure) = (1, 2, None);
        let (id, port, caller) = (Some(id), 443, None);
        Event::Connection { id, host, port, caller, rule, sent, received, failure }
    }

    #[test]
    fn what_was_written_as_begun_is_written_to_its_end_and_the_rest_is_counted() {
        let written = Arc::<Mutex<Vec<record::Event>>>::default();
        let to = Arc::clone(&written);
        let connections = Connections::written(move |event| to.lock().unwrap().push(event.clone()));
        let all = Connections::TOLD_MAX as u64 + 7;
        (0..all).for_each(|id| connections.note(&opened(id)));
        assert_eq!(written.lock().unwrap().len(), Connections::TOLD_MAX, "at once");
        (0..all).for_each(|id| connections.note(&ended(id)));
        assert_eq!(written.lock().unwrap().len(), 2 * Connections::TOLD_MAX);
        assert_eq!((connections.left_out(), connections.take()), (7, Vec::new()));
    }

    #[test]
    fn where_nobody_writes_they_are_kept_until_they_are_taken() {
        let connections = Connections::default();
        connections.note(&opened(1));
        assert!(matches!(connections.take()[..], [record::Event::ConnectionOpened(_)]));
        connections.note(&ended(1));
        assert!(matches!(connections.take()[..], [record::Event::Connection(_)]));
        let all = Connections::TOLD_MAX as u64 + 7;
        (0..all).for_each(|id| connections.note(&opened(id)));
        assert_eq!((connections.take().len(), connections.left_out()), (Connections::TOLD_MAX, 7));
        (0..all).for_each(|id| connections.note(&ended(id)));
        let ends = connections.take();
        assert_eq!(ends.len(), Connections::TOLD_MAX, "of those whose beginning was told");
    }
}
