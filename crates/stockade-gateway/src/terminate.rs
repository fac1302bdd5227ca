//! A connection whose TLS ends here on both sides, so that its requests can be judged.
//!
//! The program's TLS is with a certificate of the sandbox's own authority, the server's with one
//! that the user's system trusts; between them stand the same requests as without TLS. One to an
//! [`Endpoint`] has no TLS on the program's side.

mod ends;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use stockade_policy::{Host, HostName};

use crate::authority::{Authority, bare};
use crate::credentials::{Echo, Repeated};
use crate::dialled::Dialled;
use crate::endpoint::Endpoint;
use crate::pump::{self, Carried};
use crate::watch::{ALERT, Refusal, Watch};
use ends::{End, Plain, Tls};

/// How long either side may take for its handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may be silent of which one way is closed.
const HALF_CLOSED: Timespec = Timespec { tv_sec: 300, tv_nsec: 0 };
/// Read at once; in bytes.
const BUFFER: usize = 16 * 1024;

/// A stream of which some was read already.
struct Joined<'a> {
    said: &'a [u8],
    stream: &'a TcpStream,
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.said.is_empty() { self.stream.read(buffer) } else { self.said.read(buffer) }
    }
}

impl Write for Joined<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Why a connection came to its end.
enum Ended {
    /// One end is gone.
    Broken,
    /// It was refused, and the program knows.
    Told(String),
    /// It is refused; how the program is told by HTTP.
    Tell(String, Vec<u8>),
    /// The server is not met; how the program is told by HTTP.
    Unmet(String, Vec<u8>),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Tell(refusal.why, refusal.reply)
    }
}

impl From<rustls::Error> for Ended {
    fn from(_: rustls::Error) -> Self {
        Self::Broken
    }
}

impl From<Repeated> for Ended {
    fn from(_: Repeated) -> Self {
        let why = "the answer held the credential that the request was given";
        // The answer may have begun already: only its end without a word is none.
        Self::Told(why.to_owned())
    }
}

/// How a connection ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) carried: Carried,
    /// Why it was refused. The program has been told then.
    pub(crate) refusal: Option<String>,
    /// Why it came to nothing, although nobody refused it.
    pub(crate) failure: Option<String>,
    /// Whose secrets its requests were given: the variables that hold the placeholders.
    pub(crate) lent: Vec<String>,
}

impl Ending {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self { refusal: Some(why.into()), ..Self::default() }
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..Self::default() }
    }
}

/// Carries a connection to its end, `said` being what the program said already.
pub(crate) fn carry(
    (program, server): (&TcpStream, &TcpStream),
    authority: &Authority,
    dialled: &Dialled,
    said: &[u8],
) -> Ending {
    let tls = match greet(program, authority, dialled, said) {
        Ok(tls) => tls,
        Err(Ended::Told(why) | Ended::Tell(why, _) | Ended::Unmet(why, _)) => {
            return Ending::refused(why);
        }
        Err(Ended::Broken) => {
            return Ending::failed(
                "TLS with the program came to nothing; it may not trust the file that \
                 `SSL_CERT_FILE` names inside, or speak HTTP/2 only",
            );
        }
    };
    let mut flow = Flow::new(Watch::of_decrypted(dialled.clone()));
    let mut near = Tls::new(program, tls);
    let ended = relay_by_tls(&mut near, (server, dialled.host()), authority.client(), &mut flow);
    finished(&mut near, flow, ended)
}

/// Carries a connection to an endpoint to its end: without TLS on the program's side, and as the
/// endpoint is reached on the other.
pub(crate) fn carry_to_endpoint(
    (program, server): (&TcpStream, &TcpStream),
    endpoint: &Endpoint,
    dialled: &Dialled,
) -> Ending {
    let mut flow = Flow::new(Watch::of_endpoint(dialled.clone(), endpoint.authority()));
    let mut near = Plain::new(program);
    let ended = match endpoint.client() {
        None => relay(&mut near, &mut Plain::new(server), &mut flow),
        Some(config) => relay_by_tls(&mut near, (server, dialled.host()), config, &mut flow),
    };
    finished(&mut near, flow, ended)
}

/// Tells the program how its connection ended, where it can be told.
fn finished(near: &mut impl End, flow: Flow, ended: Result<(), Ended>) -> Ending {
    let (refusal, failure) = match ended {
        Ok(()) | Err(Ended::Broken) => (None, None),
        Err(Ended::Told(why)) => (Some(why), None),
        Err(Ended::Tell(why, reply)) => {
            // A program that is gone needs no answer.
            near.refuse(&reply).ok();
            (Some(why), None)
        }
        Err(Ended::Unmet(why, reply)) => {
            near.refuse(&reply).ok();
            (None, Some(why))
        }
    };
    Ending { carried: flow.carried, refusal, failure, lent: flow.lent }
}

/// Answers the program's hello as the host that was dialled.
fn greet(
    program: &TcpStream,
    authority: &Authority,
    dialled: &Dialled,
    said: &[u8],
) -> Result<ServerConnection, Ended> {
    program.set_read_timeout(Some(PATIENCE))?;
    program.set_write_timeout(Some(PATIENCE))?;
    let mut joined = Joined { said, stream: program };
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut joined)? == 0 {
            return Err(Ended::Broken);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((_, mut alert)) => {
                alert.write_all(&mut joined)?;
                return Err(Ended::Broken);
            }
        }
    };
    if let Some(name) = accepted.client_hello().server_name()
        && !HostName::new(name).is_ok_and(|name| dialled.is(&Host::Name(name)))
    {
        let why = format!("TLS was to be with `{name}`, which is not who was dialled");
        pump::refuse(program, ALERT);
        return Err(Ended::Told(why));
    }
    let config = authority.server(dialled.host()).map_err(|error| {
        pump::refuse(program, ALERT);
        Ended::Told(error.to_string())
    })?;
    let mut tls = match accepted.into_connection(config) {
        Ok(tls) => tls,
        Err((_, mut alert)) => {
            alert.write_all(&mut joined)?;
            return Err(Ended::Broken);
        }
    };
    while tls.is_handshaking() {
        tls.complete_io(&mut joined)?;
    }
    // What the program said is not lost: all of it came before the handshake's end.
    while !joined.said.is_empty() {
        tls.read_tls(&mut joined)?;
        tls.process_new_packets()?;
    }
    tls.set_buffer_limit(None);
    Ok(tls)
}

/// Greets the server, which has to be whom it is taken for.
fn meet(
    server: &TcpStream,
    config: Arc<ClientConfig>,
    host: &Host,
) -> Result<ClientConnection, Ended> {
    let failed = |why: String| unmet(host, &why);
    let name = ServerName::try_from(bare(host)).map_err(|error| failed(error.to_string()))?;
    let mut tls = ClientConnection::new(config, name).map_err(|error| failed(error.to_string()))?;
    let mut shake = || -> io::Result<()> {
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_write_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut { server })?;
        }
        Ok(())
    };
    shake().map_err(|error| failed(error.to_string()))?;
    tls.set_buffer_limit(None);
    Ok(tls)
}

fn unmet(host: &Host, why: &str) -> Ended {
    let why = format!("TLS with {host} came to nothing: {why}");
    let reply = bad_gateway(&why);
    Ended::Unmet(why, reply)
}

fn bad_gateway(why: &str) -> Vec<u8> {
    let body = format!("Stockade: {why}\n");
    let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let length = body.len();
    format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// What passes between the two.
struct Flow {
    watch: Watch,
    carried: Carried,
    /// The variables of what requests were given.
    lent: Vec<String>,
    echo: Echo,
    buffer: Vec<u8>,
}

impl Flow {
    fn new(watch: Watch) -> Self {
        let (carried, buffer) = (Carried::default(), vec![0; BUFFER]);
        Self { watch, carried, lent: Vec::new(), echo: Echo::default(), buffer }
    }

    /// Notes what the last requests were given.
    fn note(&mut self) {
        for lent in self.watch.lent() {
            self.echo.look_for(&lent);
            if !self.lent.contains(&lent.variable) {
                self.lent.push(lent.variable);
            }
        }
    }

    fn send(&mut self, far: &mut impl End, passed: &mut Vec<u8>) -> Result<(), Ended> {
        far.write(passed)?;
        self.carried.sent += passed.len() as u64;
        passed.clear();
        far.flush()?;
        Ok(())
    }

    fn hand_back(&mut self, near: &mut impl End, bytes: &[u8]) -> Result<(), Ended> {
        near.write(bytes)?;
        self.carried.received += bytes.len() as u64;
        near.flush()?;
        Ok(())
    }
}

/// Greets the server, and carries what passes between the two.
fn relay_by_tls(
    near: &mut impl End,
    (server, host): (&TcpStream, &Host),
    config: Result<Arc<ClientConfig>, String>,
    flow: &mut Flow,
) -> Result<(), Ended> {
    let config = config.map_err(|why| unmet(host, &why))?;
    let tls = meet(server, config, host)?;
    relay(near, &mut Tls::new(server, tls), flow)
}

fn relay(near: &mut impl End, far: &mut impl End, flow: &mut Flow) -> Result<(), Ended> {
    near.side().stream.set_nonblocking(true)?;
    far.side().stream.set_nonblocking(true)?;
    loop {
        up(near, far, flow)?;
        down(near, far, flow)?;
        // The server's answer may have let go what was held back.
        up(near, far, flow)?;
        far.flush()?;
        near.flush()?;
        let is_flushed = !near.is_behind() && !far.is_behind();
        if near.side().is_closed && far.side().is_closed && is_flushed {
            return Ok(());
        }
        wait(near, far, &flow.watch)?;
    }
}

/// From the program to the server, unless that one has not taken what was said before.
fn up(near: &mut impl End, far: &mut impl End, flow: &mut Flow) -> Result<(), Ended> {
    let (mut passed, mut buffer) = (Vec::new(), std::mem::take(&mut flow.buffer));
    // It may take more by now, and what was read already wakes nobody.
    far.flush()?;
    let mut has_more = true;
    while !far.is_behind() && !flow.watch.waits() {
        let Some(bytes) = near.read(&mut buffer)? else {
            has_more = false;
            break;
        };
        flow.watch.take(bytes, &mut passed)?;
        flow.note();
        flow.send(far, &mut passed)?;
    }
    flow.buffer = buffer;
    // What was read and has not gone on is no end.
    if near.side().is_ended && !has_more {
        far.close();
    }
    Ok(())
}

/// From the server to the program.
fn down(near: &mut impl End, far: &mut impl End, flow: &mut Flow) -> Result<(), Ended> {
    let (mut passed, mut answer) = (Vec::new(), Vec::new());
    let mut buffer = std::mem::take(&mut flow.buffer);
    near.flush()?;
    let mut has_more = true;
    while !near.is_behind() {
        let Some(bytes) = far.read(&mut buffer)? else {
            has_more = false;
            break;
        };
        flow.watch.hear(bytes, &mut passed)?;
        flow.note();
        flow.echo.take(bytes, &mut answer)?;
        flow.hand_back(near, &answer)?;
        answer.clear();
        flow.send(far, &mut passed)?;
    }
    flow.buffer = buffer;
    if far.side().is_ended && !has_more && !near.side().is_closed {
        let rest = flow.echo.rest();
        flow.hand_back(near, &rest)?;
        near.close();
    }
    Ok(())
}

/// Waits for either side, and takes what came.
fn wait(near: &mut impl End, far: &mut impl End, watch: &Watch) -> Result<(), Ended> {
    let wants = |reads: bool, writes: bool| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, reads);
        flags.set(PollFlags::OUT, writes);
        flags
    };
    let of_near =
        wants(!near.side().is_ended && !far.is_behind() && !watch.waits(), near.is_behind());
    let of_far = wants(!far.side().is_ended && !near.is_behind(), far.is_behind());
    let timeout = (near.side().is_ended || far.side().is_ended).then_some(&HALF_CLOSED);
    let (has_near, has_far) = {
        let ends = [(near.side().stream, of_near), (far.side().stream, of_far)];
        // One of which nothing is wanted would answer that it is hung up, again and again.
        let wanted = ends.iter().filter(|(_, flags)| !flags.is_empty());
        let mut fds: Vec<_> = wanted.map(|(end, flags)| PollFd::new(*end, *flags)).collect();
        match poll(&mut fds, timeout) {
            Ok(0) => return Err(Ended::Broken),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let found: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_first = !of_near.is_empty();
        let near = is_first && found.first() == Some(&true);
        let far = !of_far.is_empty() && found.get(usize::from(is_first)) == Some(&true);
        (near, far)
    };
    if has_near && of_near.contains(PollFlags::IN) {
        near.fill()?;
    }
    if has_far && of_far.contains(PollFlags::IN) {
        far.fill()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
