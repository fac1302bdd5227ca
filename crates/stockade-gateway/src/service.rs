//! The gateway's services: names, connections, the proxy, published ports.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use stockade_policy::{Host, HostName, Network, SSH_PORT};

use crate::allowed::{Allowed, By, Reached};
use crate::askers::Askers;
use crate::authority::Authority;
use crate::credentials::Credentials;
use crate::dial::{self, DialError};
use crate::dialled::Dialled;
use crate::dns::Known;
use crate::endpoint::Endpoint;
use crate::event::{Caller, Event, Log};
use crate::grants::{Grants, Standing};
use crate::login::{self, Broker, Introduced};
use crate::names::{self, Names};
use crate::revoked::{Granted, TAKEN_BACK, Watching};
use crate::slots::{Place, Slots};
use crate::terminate::Ending;
use crate::upstream::Upstream;
use crate::watch::{Watch, forbidden};
use crate::{Judgement, hello, name_server, proxy, pump, terminate};

/// Stack of a thread that serves one connection. Looking a name up needs most of it.
pub const STACK: usize = 256 * 1024;
/// Between two attempts of what failed for lack of something that others hold.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Connects to a port of the loopback inside.
pub(crate) struct Inside(pub(crate) Box<dyn Fn(u16) -> io::Result<TcpStream> + Send + Sync>);

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inside")
    }
}

/// What all threads of one gateway share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) network: Arc<Network>,
    pub(crate) upstream: Option<Upstream>,
    /// Who vouches for hosts whose requests are judged, if there are any.
    pub(crate) authority: Option<Authority>,
    /// Secrets that requests are given, if there are any.
    pub(crate) credentials: Option<Credentials>,
    /// Who signs log-ins by ssh, if anybody does.
    pub(crate) logins: Option<Broker>,
    pub(crate) introduced: Introduced,
    pub(crate) names: Names,
    pub(crate) grants: Grants,
    /// How a port of the loopback inside is reached.
    pub(crate) inside: OnceLock<Inside>,
    /// Connections that an answer allowed.
    pub(crate) granted: Watching,
    /// Who inside asks for names that do not exist, and who started whom.
    pub(crate) askers: Askers,
    pub(crate) log: Log,
    /// Connections that are served now.
    pub(crate) slots: Slots,
}

/// What allowed a connection, as what it was opened, and by which way.
type Told<'a> = (&'a Allowed, Option<u64>, By<'a>);

/// Why a program does not get its connection.
pub(crate) enum Refused {
    /// It was decided; with what would allow it, for a person.
    Decided(String),
    /// It may, and it does not work.
    Failed(DialError),
}

impl Service {
    /// Whether a program may connect to `to`. Nothing is looked up or dialled for that.
    pub(crate) fn judge(&self, to: SocketAddr, caller: &Caller) -> Judgement {
        // An address of a name is one that nobody was given when there is none.
        let Some(host) = self.host(to.ip()) else { return Judgement::Unreachable };
        let decision = self.network.decide(&host, to.port());
        let is_name = matches!(host, Host::Name(_));
        if !decision.is_allowed()
            && is_name
            && self.grants.standing(&decision, (&host, to.port()), Some(caller.process), true)
                == Standing::Asked
        {
            return Judgement::Asked;
        }
        if self.decide(&host, to.port(), By::Address(caller)).is_none() {
            // As if nobody listened there, or as if there were no way.
            return match host {
                Host::Name(_) => Judgement::Refused,
                Host::Address(_) => Judgement::Unreachable,
            };
        }
        if let Err(why) = self.slots.room(Some(caller.process)) {
            self.crowded_out(to, caller, why);
            return Judgement::Refused;
        }
        Judgement::Allowed
    }

    /// Tells of a connection for which there is no place.
    fn crowded_out(&self, to: SocketAddr, caller: &Caller, why: String) {
        let host = self.host(to.ip()).unwrap_or_else(|| Host::of(to.ip())).to_string();
        let (port, caller) = (Some(to.port()), Some(caller.clone()));
        self.log.tell(&Event::Refused { id: None, host, port, caller, why, remedy: None });
    }

    /// Who is meant by an address inside.
    fn host(&self, address: IpAddr) -> Option<Host> {
        if names::is_synthetic(address) {
            return self.names.name(address).map(Host::Name);
        }
        Some(Host::of(address))
    }

    /// What allows it; nothing when it is no, which is told.
    fn decide(&self, host: &Host, port: u16, by: By<'_>) -> Option<Allowed> {
        let decision = self.network.decide(host, port);
        if decision.is_allowed() {
            return Some(Allowed::Entry(decision.to_string()));
        }
        // Who connected by an address has been asked about; who speaks to the proxy waits here.
        let standing = match by {
            By::Address(_) | By::Endpoint => {
                self.grants.standing(&decision, (host, port), by.process(), false)
            }
            By::Proxy(_) => self.grants.settled(&decision, (host, port), by.process()),
        };
        let why = match standing {
            Standing::Granted => return Some(Allowed::Answer),
            Standing::Once => return Some(Allowed::AnswerOnce),
            Standing::Refused(Some(why)) => why,
            Standing::Asked | Standing::Refused(None) => decision.to_string(),
        };
        self.refused(host, Some(port), by.caller(), why);
        None
    }

    fn refused(&self, host: &Host, port: Option<u16>, caller: Option<Caller>, why: String) {
        let remedy = self.remedy(host, port);
        let host = host.to_string();
        self.log.tell(&Event::Refused { id: None, host, port, caller, why, remedy });
    }

    /// The entry that would allow what was refused, unless it is denied by one.
    fn remedy(&self, host: &Host, port: Option<u16>) -> Option<String> {
        let is_this_machine = match host {
            Host::Name(name) => name.is_localhost(),
            Host::Address(address) => address.is_loopback() || names::is_synthetic(*address),
        };
        if is_this_machine || self.network.denied(host, port.unwrap_or(443)).is_some() {
            return None;
        }
        Some(match port {
            Some(80 | 443) | None => host.to_string(),
            Some(port) => format!("{host}:{port}"),
        })
    }

    /// Decides about `host` and dials it.
    pub(crate) fn reach(&self, host: &Host, port: u16, by: By<'_>) -> Result<Reached, Refused> {
        if matches!(by, By::Proxy(_)) && is_loopback(host) {
            // A program that asks the proxy for everything: its own servers are meant.
            let inside = self.connect_inside(port).map(|server| {
                let allowed = Allowed::Inside;
                Reached { server, allowed }
            });
            return inside.map_err(|error| Refused::Failed(error.into()));
        }
        let Some(allowed) = self.decide(host, port, by) else {
            let why = self.network.decide(host, port).to_string();
            let remedy = self.remedy(host, Some(port));
            let remedy = remedy.map(|entry| format!(" (`--allow-host {entry}` would allow it)"));
            let remedy = remedy.unwrap_or_default();
            return Err(Refused::Decided(format!("{host}:{port} is {why}{remedy}")));
        };
        if port == SSH_PORT {
            login::introduce(self, host);
        }
        match dial::dial(&self.network, self.upstream.as_ref(), host, port) {
            Ok(server) => Ok(Reached { server, allowed }),
            Err(DialError::Refused(why)) => {
                let rule = why.clone();
                self.log.tell(&Event::Refused {
                    id: None,
                    host: host.to_string(),
                    port: Some(port),
                    caller: by.caller(),
                    why,
                    remedy: None,
                });
                Err(Refused::Decided(rule))
            }
            Err(error) => {
                let ending = Ending::failed(error.why());
                self.ended((host, port), (&allowed, None, by), ending);
                Err(Refused::Failed(error))
            }
        }
    }

    /// Whether a program may log in to `host`: it can reach it where ssh servers are.
    pub(crate) fn may_log_in(&self, host: &Host) -> bool {
        let decision = self.network.decide(host, SSH_PORT);
        decision.is_allowed()
            || matches!(
                self.grants.standing(&decision, (host, SSH_PORT), None, false),
                Standing::Granted | Standing::Once
            )
    }

    fn connect_inside(&self, port: u16) -> io::Result<TcpStream> {
        let Some(Inside(connect)) = self.inside.get() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let stream = connect(port)?;
        dial::tune(&stream);
        Ok(stream)
    }

    pub(crate) fn dialled(&self, host: Host, port: u16) -> Dialled {
        Dialled::new(host, port, Arc::clone(&self.network), self.credentials.clone())
    }

    /// Serves one connection that a program made to a host's address inside.
    fn connection(&self, stream: &TcpStream, (to, caller): &(SocketAddr, Caller)) {
        let by = By::Address(caller);
        let Some(host) = self.host(to.ip()) else { return };
        let reached = match self.reach(&host, to.port(), by) {
            Ok(reached) => reached,
            Err(refused) => {
                // Where requests are expected they are answered; elsewhere it is as if nobody were there.
                match (to.port(), refused) {
                    (80, Refused::Decided(why)) => pump::refuse(stream, &forbidden(&why)),
                    (80, Refused::Failed(error)) => {
                        pump::refuse(stream, &unreached(&host, to.port(), &error));
                    }
                    _ => pump::reset(stream),
                }
                return;
            }
        };
        self.carry(stream, &reached, Watch::new(self.dialled(host, to.port())), (&[], by));
    }

    /// Serves one connection of a program that speaks to the endpoint.
    fn endpoint(&self, stream: &TcpStream, endpoint: &Endpoint) {
        let (host, port) = (endpoint.host(), endpoint.port());
        let (allowed, by) = (Allowed::Endpoint, By::Endpoint);
        let (id, ending) = match dial::dial_own(self.upstream.as_ref(), host, port) {
            Ok(server) => {
                let id = self.opened((host, port), &allowed, by);
                let dialled = self.dialled(host.clone(), port);
                (Some(id), terminate::carry_to_endpoint((stream, &server), endpoint, &dialled))
            }
            Err(error) => {
                pump::refuse(stream, &unreached(host, port, &error));
                (None, Ending::failed(error.why()))
            }
        };
        self.over((host, port), (&allowed, id, by), ending);
    }

    /// Carries a connection to its end, `said` being what the program said already.
    pub(crate) fn carry(
        &self,
        program: &TcpStream,
        Reached { server, allowed }: &Reached,
        watch: Watch,
        (said, by): (&[u8], By<'_>),
    ) {
        let dialled = watch.dialled().clone();
        let to = (dialled.host(), dialled.port());
        let id = self.opened(to, allowed, by);
        let ending = match self.granted((program, server), allowed, to) {
            Ok(granted) => {
                let mut ending = self.carried((program, server), watch, said);
                if granted.is_some_and(|granted| granted.is_taken_back()) {
                    ending.failure = Some(TAKEN_BACK.to_owned());
                }
                ending
            }
            Err(error) => Ending::failed(error.to_string()),
        };
        self.over(to, (allowed, Some(id), by), ending);
    }

    /// Has a connection looked after that no entry allows but an answer that can be taken back.
    fn granted(
        &self,
        ends: (&TcpStream, &TcpStream),
        allowed: &Allowed,
        to: (&Host, u16),
    ) -> io::Result<Option<Arc<Granted>>> {
        let asker = self.grants.asker().filter(|_| *allowed == Allowed::Answer);
        asker.map(|asker| self.granted.begin(asker, to, ends)).transpose()
    }

    fn carried(
        &self,
        (program, server): (&TcpStream, &TcpStream),
        mut watch: Watch,
        said: &[u8],
    ) -> Ending {
        let dialled = watch.dialled().clone();
        if dialled.is_judged()
            && begins_tls(program, said)
            && let Some(authority) = &self.authority
        {
            return terminate::carry((program, server), authority, &dialled, said);
        }
        let mut passed = Vec::new();
        let taken = if said.is_empty() { Ok(()) } else { watch.take(said, &mut passed) };
        let (carried, refusal) = match taken {
            Err(refusal) => (pump::Carried::default(), Some(refusal)),
            Ok(()) => match { server }.write_all(&passed) {
                Ok(()) => {
                    let (mut carried, refusal) = pump::pump(program, server, &mut watch);
                    // What was said before it was dialled has gone there too.
                    carried.sent += passed.len() as u64;
                    (carried, refusal)
                }
                Err(_) => (pump::Carried::default(), None),
            },
        };
        let refusal = refusal.map(|refusal| {
            pump::refuse(program, &refusal.reply);
            refusal.why
        });
        Ending { carried, refusal, ..Ending::default() }
    }

    /// Tells of a connection that begins; the value is what its end is told by.
    fn opened(&self, (host, port): (&Host, u16), allowed: &Allowed, by: By<'_>) -> u64 {
        self.log.open((host.to_string(), port), by.caller(), allowed.rule())
    }

    /// Tells of a connection that is over, which was opened as `id`.
    fn over(&self, to: (&Host, u16), (allowed, id, by): Told<'_>, ending: Ending) {
        if let Some(why) = ending.refusal.clone() {
            let (host, port) = (to.0.to_string(), Some(to.1));
            let caller = by.caller();
            self.log.tell(&Event::Refused { id, host, port, caller, why, remedy: None });
        }
        // What was refused before anything passed is told as that alone.
        if ending.refusal.is_none() || ending.carried != pump::Carried::default() {
            self.ended(to, (allowed, id, by), ending);
        }
    }

    fn ended(
        &self,
        (host, port): (&Host, u16),
        (allowed, id, by): Told<'_>,
        Ending { carried, refusal, failure, lent }: Ending,
    ) {
        let rule = allowed.rule();
        let lent: Vec<_> = lent.iter().map(|variable| format!("`{variable}`")).collect();
        let rule = match lent.as_slice() {
            [] => rule,
            lent => format!("{rule}, with what {} stands for", lent.join(", ")),
        };
        let pump::Carried { sent, received } = carried;
        let (host, failure, caller) = (host.to_string(), refusal.or(failure), by.caller());
        self.log.tell(&Event::Connection { id, host, port, caller, rule, sent, received, failure });
    }

    /// What a program may know of `name` that asks from `port` inside, by datagrams or a connection.
    pub(crate) fn known(&self, name: &HostName, (is_datagram, port): (bool, u16)) -> Known {
        if name.is_localhost() {
            return Known::At(Ipv4Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST);
        }
        let host = Host::Name(name.clone());
        if !self.network.knows(&host) && !self.grants.may_know(&self.network, name) {
            let why = "not allowed".to_owned();
            self.refused(&host, None, self.askers.who(is_datagram, port), why);
            return Known::No;
        }
        match self.names.addresses(name) {
            Some((v4, v6)) => Known::At(v4, v6),
            None => Known::Full,
        }
    }
}

/// Whether a program begins with TLS; waits until it begins.
fn begins_tls(program: &TcpStream, said: &[u8]) -> bool {
    if !said.is_empty() {
        return hello::is_tls(&said[..1]);
    }
    let mut first = [0];
    matches!(program.peek(&mut first), Ok(1)) && hello::is_tls(&first)
}

/// An answer to a request whose host cannot be reached.
pub(crate) fn unreached(host: &Host, port: u16, error: &DialError) -> Vec<u8> {
    let body = format!("Stockade cannot reach {host}:{port}: {}\n", error.why());
    let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let length = body.len();
    format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.is_localhost(),
        Host::Address(address) => address.is_loopback() || address.is_unspecified(),
    }
}

/// Serves one program that speaks to the proxy.
pub(crate) fn serve_program(service: &Arc<Service>, stream: UnixStream) {
    // All that is done with it is the same for every stream socket (unix(7)); it has no address,
    // which who speaks to the proxy is not asked for.
    let stream = TcpStream::from(OwnedFd::from(stream));
    let served = Arc::clone(service);
    with_slot(service, stream, move |stream| proxy::serve(&served, stream, None));
}

/// Serves one program that speaks to an endpoint, as if it were the server.
pub(crate) fn serve_endpoint(service: &Arc<Service>, stream: UnixStream, endpoint: Endpoint) {
    let stream = TcpStream::from(OwnedFd::from(stream));
    let served = Arc::clone(service);
    with_slot(service, stream, move |stream| served.endpoint(stream, &endpoint));
}

/// Waits until no connection is served.
pub(crate) fn settle(service: &Service, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !service.slots.is_empty() && Instant::now() < deadline {
        poll(&mut [], Some(&MOMENT)).ok();
    }
}

/// Serves one connection to its end.
pub(crate) fn serve_connection(
    service: &Arc<Service>,
    stream: &TcpStream,
    asked: &(SocketAddr, Caller),
) {
    dial::tune(stream);
    let (to, caller) = asked;
    match Slot::of(service, stream, Some(caller)) {
        Ok(_slot) => service.connection(stream, asked),
        Err(why) => service.crowded_out(*to, caller, why),
    }
}

/// The same of one that asks for names.
pub(crate) fn serve_resolving(service: &Arc<Service>, stream: &TcpStream) {
    if let Ok(_slot) = Slot::of(service, stream, None) {
        // A program that breaks off has nobody to be told.
        name_server::by_stream(service, stream).ok();
    }
}

/// The same of one that speaks to the proxy.
pub(crate) fn serve_proxying(service: &Arc<Service>, stream: &TcpStream, caller: &Caller) {
    dial::tune(stream);
    match Slot::of(service, stream, Some(caller)) {
        Ok(_slot) => proxy::serve(service, stream, Some(caller)),
        // What it would have asked for is not known yet.
        Err(why) => service.crowded_out(names::PROXY, caller, why),
    }
}

/// The same of one that asks for its ssh agent.
pub(crate) fn serve_logging_in(service: &Arc<Service>, stream: UnixStream, caller: Caller) {
    // As with programs that speak to the proxy: the calls are those of any stream.
    let stream = TcpStream::from(OwnedFd::from(stream));
    if let Ok(_slot) = Slot::of(service, &stream, Some(&caller)) {
        // A program that breaks off has nobody to be told.
        login::converse(service, &stream, caller).ok();
    }
}

/// Leads connections to `listener` to `port` of the loopback inside.
pub(crate) fn publish(service: &Arc<Service>, listener: TcpListener, port: u16) -> io::Result<()> {
    let served = Arc::clone(service);
    accept("published", service, listener, move |stream| {
        // Nobody listens inside: the end of the connection says so.
        let Ok(inside) = served.connect_inside(port) else { return pump::reset(stream) };
        let host = Host::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        // What goes in needs no look: everything inside may be said to the sandbox.
        pump::pump(stream, &inside, &mut Watch::over(served.dialled(host, 0)));
    })
}

/// Accepts connections in a thread, and serves each in one of its own.
pub(crate) fn accept(
    name: &str,
    service: &Arc<Service>,
    listener: TcpListener,
    serve: impl Fn(&TcpStream) + Send + Sync + 'static,
) -> io::Result<()> {
    let service = Arc::clone(service);
    let serve = Arc::new(serve);
    spawn(name, move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let serve = Arc::clone(&serve);
                    dial::tune(&stream);
                    with_slot(&service, stream, move |stream| serve(stream));
                }
                Err(_) => pause(),
            }
        }
    })
}

/// After an `accept` that failed: out of descriptors, most likely, and a moment later some are free.
pub(crate) fn pause() {
    poll(&mut [], Some(&MOMENT)).ok();
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run).map(drop)
}

/// Runs `serve` in a thread when there is room for a further connection; closes it otherwise.
pub(crate) fn with_slot(
    service: &Arc<Service>,
    stream: TcpStream,
    serve: impl FnOnce(&TcpStream) + Send + 'static,
) {
    let Ok(slot) = Slot::of(service, &stream, None) else { return };
    let run = move || {
        serve(&stream);
        drop((stream, slot));
    };
    // At the limit of threads the stream is dropped, and so closed.
    spawn("connection", run).ok();
}

/// A place among the connections.
struct Slot(Arc<Service>, Place);

impl Slot {
    /// One for `stream` of `caller`, which is reset when there is no room; why, for a person.
    fn of(
        service: &Arc<Service>,
        stream: &TcpStream,
        caller: Option<&Caller>,
    ) -> Result<Self, String> {
        let process = caller.map(|caller| caller.process);
        let taken = service.slots.take(process, |process| service.askers.parents(process));
        match taken {
            Ok(place) => Ok(Self(Arc::clone(service), place)),
            Err(why) => {
                pump::reset(stream);
                Err(why)
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots.leave(&self.1);
    }
}
