//! The only way out of a sandbox to the network.
//!
//! Programs inside know allowed hosts by synthetic addresses that this crate's resolver gives out,
//! and connect to these; the connections end here. The gateway finds the host by the address,
//! looks the name up outside, dials an address that it has checked, and looks at what the program
//! says first: TLS and HTTP have to be with the host that was dialled. It depends on nothing of
//! the sandbox: whoever starts both hands the sockets over.
//!
//! Threads that block, one a connection: looking a name up by the system's own means blocks anyway,
//! and a run without hosts pays for none of it (docs/adr/0027).
//!
//! Invariants:
//! - what is dialled is an address that was checked, never a name;
//! - nothing is forwarded before it is understood, where a server could read it as TLS or HTTP;
//! - no name of a host that is not allowed leaves this process.

mod allowed;
mod askers;
mod authority;
pub mod base64;
mod credentials;
mod dial;
mod dialled;
mod dns;
mod endpoint;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grants;
mod head;
mod hello;
mod login;
mod name_server;
mod names;
mod proxy;
mod pump;
mod race;
mod requests;
mod revoked;
mod senders;
mod service;
mod slots;
mod terminate;
mod upstream;
mod watch;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use stockade_policy::Network;

pub use authority::{Authority, AuthorityError};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use event::{Blocked, Caller, Event};
pub use grants::{AskHost, Given};
pub use login::{Broker, Keys, KnownHosts, Login, PublicKey, UserAgent, fingerprint};
pub use service::STACK;
use service::Service;
pub use upstream::Upstream;

/// Whether a process inside may connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It may.
    Allowed,
    /// Somebody is asked: this is to be judged again in a moment.
    Asked,
    /// No: nothing listens there.
    Refused,
    /// No: no way leads there.
    Unreachable,
}

/// What a gateway works with, beside what it decides by.
#[derive(Debug, Default)]
pub struct Means {
    /// The user's own proxy, if this machine reaches others by one.
    pub upstream: Option<Upstream>,
    /// Who vouches for hosts whose requests are judged, if there are any.
    pub authority: Option<Authority>,
    /// Secrets that requests are given, if there are any.
    pub credentials: Option<Credentials>,
    /// Who signs log-ins by ssh, if anybody does.
    pub logins: Option<Broker>,
}

/// The gateway of one run. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Service>);

impl Gateway {
    /// A gateway for `network`, which tells `sink` what happens. `sink` must not block for long.
    pub fn new(
        network: Network,
        Means { upstream, authority, credentials, logins }: Means,
        sink: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        raise_descriptor_limit();
        Self(Arc::new(Service {
            network: Arc::new(network),
            upstream,
            authority,
            credentials,
            logins,
            introduced: login::Introduced::default(),
            names: names::Names::default(),
            grants: grants::Grants::default(),
            inside: std::sync::OnceLock::new(),
            granted: revoked::Watching::default(),
            askers: askers::Askers::default(),
            log: event::Log::new(Box::new(sink)),
            slots: slots::Slots::default(),
        }))
    }

    /// From now on `asker` is asked about hosts that no entry allows, and none denies.
    pub fn ask_by(&self, asker: Arc<dyn AskHost>) {
        self.0.grants.ask_by(asker);
    }

    /// Answers questions for names that come by these.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve_names(&self, datagrams: UdpSocket, streams: TcpListener) -> io::Result<()> {
        name_server::serve(&self.0, datagrams, |_anybody| true)?;
        name_server::serve_by_stream(&self.0, streams)
    }

    /// From now on the keys of a host are added to `known_hosts`, where ssh inside reads them, when a
    /// program connects to it.
    pub fn introduce_by(&self, known_hosts: File) {
        login::introduce_by(&self.0, known_hosts);
    }

    /// Serves one program that asks for its ssh agent, to its end.
    pub fn serve_logging_in(&self, stream: UnixStream, caller: Caller) {
        service::serve_logging_in(&self.0, stream, caller);
    }

    /// From now on `find` says which program inside has a port: of datagrams, when it is told so.
    pub fn ask_who_by(&self, find: impl Fn(bool, u16) -> Option<Caller> + Send + Sync + 'static) {
        self.0.askers.found_by(find);
    }

    /// From now on `find` says who started a process inside, from the first of them on to its parent.
    pub fn ask_parents_by(&self, find: impl Fn(u32) -> Option<Vec<u32>> + Send + Sync + 'static) {
        self.0.askers.parents_by(find);
    }

    /// Serves one program that wants a proxy, at the other end of `stream`.
    pub fn serve_program(&self, stream: UnixStream) {
        service::serve_program(&self.0, stream);
    }

    /// Serves one program that speaks to `endpoint` as if it were the server, at the other end of
    /// `stream`, without TLS. Its requests are those that the network's rules for that host permit, with
    /// its credentials or not at all.
    pub fn serve_endpoint(&self, stream: UnixStream, endpoint: &Endpoint) {
        service::serve_endpoint(&self.0, stream, endpoint.clone());
    }

    /// Waits until no connection is served any more, `patience` at most.
    pub fn settle(&self, patience: Duration) {
        service::settle(&self.0, patience);
    }

    /// Whether a program may connect to `to`, an address inside. Does not block.
    pub fn judge(&self, to: SocketAddr, caller: &Caller) -> Judgement {
        self.0.judge(to, caller)
    }

    /// The same for datagrams on the loopback of this machine, where others can send them:
    /// answers this user's own only.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve_shared_names(&self, datagrams: UdpSocket) -> io::Result<()> {
        let user = rustix::process::geteuid().as_raw();
        name_server::serve(&self.0, datagrams, move |from| senders::is_of(from, user))
    }

    /// Answers questions for names on one connection, to its end. Blocks as long, as the two below.
    pub fn serve_resolving(&self, stream: &TcpStream) {
        service::serve_resolving(&self.0, stream);
    }

    /// Serves one connection of a program that wants a proxy.
    pub fn serve_proxying(&self, stream: &TcpStream, caller: &Caller) {
        service::serve_proxying(&self.0, stream, caller);
    }

    /// Serves the connection of a program that asked for `to`, an address inside.
    pub fn serve_connection(&self, stream: &TcpStream, to: SocketAddr, caller: Caller) {
        service::serve_connection(&self.0, stream, &(to, caller));
    }

    /// From now on `connect` leads to ports of the loopback inside.
    pub fn reach_inside(
        &self,
        connect: impl Fn(u16) -> io::Result<TcpStream> + Send + Sync + 'static,
    ) {
        // There is one inside.
        self.0.inside.set(service::Inside(Box::new(connect))).ok();
    }

    /// Leads connections to `listener`, outside, to `port` of the loopback inside.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn publish(&self, listener: TcpListener, port: u16) -> io::Result<()> {
        service::publish(&self.0, listener, port)
    }

    /// Hosts that are allowed and could not be reached so far, with why.
    pub fn unreached(&self) -> Vec<(String, String)> {
        self.0.log.unreached()
    }

    /// What was refused so far, by host.
    pub fn blocked(&self) -> Vec<Blocked> {
        self.0.log.blocked()
    }
}

/// Two descriptors a connection are more than the 1024 that a process has by default.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 4096;
    let now = getrlimit(Resource::Nofile);
    let raised = now.maximum.map_or(WANTED, |most| most.min(WANTED));
    if now.current.is_some_and(|current| current < raised) {
        // With fewer, fewer connections are possible at one time.
        setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: now.maximum }).ok();
    }
}
