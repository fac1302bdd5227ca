//! The gateway put together with the sandbox whose only way out it is.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, OnceLock, PoisonError};

use stockade_gateway::{Gateway, Judgement};
use stockade_policy::{Network, UpstreamText};
use stockade_sandbox::{Answer, Doors, Knock, SocketMaker};

pub use stockade_gateway::{Blocked, Event, Upstream};

use crate::record::{Connection, Decision};

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
}

impl NetworkError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Publish { .. } => "`--publish HOSTPORT:PORT` chooses another port",
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
    /// Listeners outside, with the ports inside that they lead to.
    published: Mutex<Vec<(TcpListener, u16)>>,
    sink: Mutex<Option<Sink>>,
    gateway: OnceLock<Gateway>,
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
            Some(UpstreamText { url, except }) if network.has_hosts() => {
                Some(Upstream::new(url, except).ok_or(NetworkError::Upstream)?)
            }
            Some(_) | None => None,
        };
        let published = network.published.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self {
            network: network.clone(),
            upstream,
            published: Mutex::new(published),
            sink: Mutex::new(Some(Box::new(sink))),
            gateway: OnceLock::new(),
        })
    }

    /// Serves `doors` in threads; to be called once, when threads may be started.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve(&self, doors: Doors) -> io::Result<()> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sink = sink.unwrap_or_else(|| Box::new(|_event| ()));
        let gateway = Gateway::new(self.network.clone(), self.upstream.clone(), sink);
        let gateway = self.gateway.get_or_init(|| gateway).clone();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut published = std::mem::take(&mut *published);
        let run = move || {
            // What goes wrong here leaves the sandbox without a network, which its programs notice.
            while let Ok(Some(knock)) = doors.next() {
                if admit(&gateway, &doors, knock, &mut published).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("doors".to_owned()).spawn(run).map(drop)
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

/// Connections for a record: as many as one holds, the first ones.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Vec<Connection>>);

impl Connections {
    /// As many as are kept.
    const KEPT_MAX: usize = 1000;

    /// Takes an event down.
    pub fn note(&self, event: &Event) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT_MAX {
            kept.extend(recorded(event));
        }
    }

    /// What was taken down since.
    pub fn take(&self) -> Vec<Connection> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An event as a record has it.
fn recorded(event: &Event) -> Option<Connection> {
    match event {
        Event::Connection { host, port, process, rule, sent, received, failure } => {
            Some(Connection {
                host: host.clone(),
                port: Some(*port),
                process: *process,
                decision: Decision::Allow,
                rule: Some(failure.clone().unwrap_or_else(|| rule.clone())),
                sent: *sent,
                received: *received,
            })
        }
        Event::Refused { host, port, process, why, .. } => Some(Connection {
            host: host.clone(),
            port: *port,
            process: *process,
            decision: Decision::Deny,
            rule: Some(why.clone()),
            sent: 0,
            received: 0,
        }),
        _ => None,
    }
}

fn admit(
    gateway: &Gateway,
    doors: &Doors,
    knock: Knock,
    published: &mut Vec<(TcpListener, u16)>,
) -> io::Result<()> {
    match knock {
        Knock::Names(datagrams, streams) => gateway.serve_names(datagrams, streams),
        Knock::Proxy(listener) => gateway.serve_proxy(listener),
        Knock::Question(to, process) => doors.answer(match gateway.judge(to, process) {
            Judgement::Allowed => Answer::Come,
            Judgement::Refused => Answer::Refused,
            Judgement::Unreachable => Answer::Unreachable,
        }),
        Knock::Connection(stream, process) => {
            gateway.serve_connection(stream, process);
            Ok(())
        }
        Knock::Sockets(maker) => {
            // One conversation at a time.
            let maker: Mutex<SocketMaker> = Mutex::new(maker);
            gateway.reach_inside(move |port| {
                maker.lock().unwrap_or_else(PoisonError::into_inner).connect(port)
            });
            published.drain(..).try_for_each(|(listener, port)| gateway.publish(listener, port))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
