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

mod dial;
mod dialled;
mod dns;
mod event;
mod head;
mod hello;
mod names;
mod proxy;
mod pump;
mod requests;
mod service;
mod upstream;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use stockade_policy::Network;

pub use event::{Blocked, Event};
use service::Service;
pub use upstream::Upstream;

/// Whether a process inside may connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It may.
    Allowed,
    /// No: nothing listens there.
    Refused,
    /// No: no way leads there.
    Unreachable,
}

/// The gateway of one run. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Service>);

impl Gateway {
    /// A gateway for `network`, which tells `sink` what happens. `sink` must not block for long.
    pub fn new(
        network: Network,
        upstream: Option<Upstream>,
        sink: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        raise_descriptor_limit();
        Self(Arc::new(Service {
            network: Arc::new(network),
            upstream,
            names: names::Names::default(),
            inside: std::sync::OnceLock::new(),
            log: event::Log::new(Box::new(sink)),
            open: std::sync::atomic::AtomicUsize::new(0),
        }))
    }

    /// Answers questions for names that come by these.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve_names(&self, datagrams: UdpSocket, streams: TcpListener) -> io::Result<()> {
        service::serve_names(&self.0, datagrams)?;
        service::serve_names_by_stream(&self.0, streams)
    }

    /// Serves programs that want a proxy.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve_proxy(&self, listener: TcpListener) -> io::Result<()> {
        service::serve_proxy(&self.0, listener)
    }

    /// Whether a process may connect to `to`, an address inside. Does not block.
    pub fn judge(&self, to: SocketAddr, process: u32) -> Judgement {
        self.0.judge(to, process)
    }

    /// Serves a connection whose local address is the one that a process asked for.
    pub fn serve_connection(&self, stream: TcpStream, process: u32) {
        service::serve_connection(&self.0, stream, process);
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
