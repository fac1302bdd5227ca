//! What a program says at the beginning of a connection, and whether it may.
//!
//! TLS has to name the host that was dialled, or none; on the port of HTTP each request has to.
//! Whatever a server could read as one of these is held back until it is understood; every other
//! protocol passes, and a server that speaks first is never kept waiting.

use crate::credentials::Lent;
use crate::dialled::Dialled;
use crate::hello::{self, Hello};
use crate::requests::Requests;
use stockade_policy::Host;

/// The port on which requests are not encrypted.
const HTTP: u16 = 80;
/// How much of what follows a hello is kept until the server has answered it; in bytes.
const HELD_MAX: usize = 64 * 1024;
/// `unrecognized_name`, fatal (RFC 8446, 6).
pub(crate) const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Why a connection is ended, and what the program is told in its own protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    pub(crate) reply: Vec<u8>,
}

/// Looks at one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    dialled: Dialled,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has been said.
    First,
    /// A hello is coming in; the second one, if the server asked for it.
    Hello { held: Vec<u8>, is_second: bool },
    /// The server's answer to the hello decides whether another one comes.
    Answer { held: Vec<u8>, heard: Vec<u8> },
    /// Requests.
    Requests(Requests),
    /// All that follows passes.
    Pass,
}

impl Watch {
    pub(crate) fn new(dialled: Dialled) -> Self {
        Self { dialled, state: State::First }
    }

    /// For one request that came by way of the proxy.
    pub(crate) fn of_proxied_request(dialled: Dialled) -> Self {
        Self { state: State::Requests(Requests::new(dialled.clone(), true)), dialled }
    }

    /// For what came by TLS that ended here.
    pub(crate) fn of_decrypted(dialled: Dialled) -> Self {
        Self { state: State::Requests(Requests::of_decrypted(dialled.clone())), dialled }
    }

    /// For requests to an endpoint, whose `Host` is `authority`, whatever they say.
    pub(crate) fn of_endpoint(dialled: Dialled, authority: &str) -> Self {
        let requests = Requests::of_endpoint(dialled.clone(), authority.to_owned());
        Self { state: State::Requests(requests), dialled }
    }

    /// For a connection of which nothing needs to be looked at.
    pub(crate) fn over(dialled: Dialled) -> Self {
        Self { dialled, state: State::Pass }
    }

    pub(crate) fn dialled(&self) -> &Dialled {
        &self.dialled
    }

    /// What requests were given since the last call.
    pub(crate) fn lent(&mut self) -> Vec<Lent> {
        match &mut self.state {
            State::Requests(requests) => requests.lent(),
            State::First | State::Hello { .. } | State::Answer { .. } | State::Pass => Vec::new(),
        }
    }

    /// Whether neither side's bytes need to be looked at any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Pass)
    }

    /// Whether nothing should be read from the program before the server has spoken.
    pub(crate) fn waits(&self) -> bool {
        match &self.state {
            State::Answer { held, .. } => held.len() >= HELD_MAX,
            State::Requests(requests) => requests.waits(),
            State::First | State::Hello { .. } | State::Pass => false,
        }
    }

    /// Takes `bytes` of the program's, not none, and appends to `out` what the server gets.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if matches!(self.state, State::First) {
            self.state = if self.dialled.is_judged() {
                // TLS ends elsewhere (`terminate`); what is neither is refused as no request.
                State::Requests(Requests::new(self.dialled.clone(), false))
            } else if hello::is_tls(bytes) {
                State::Hello { held: Vec::new(), is_second: false }
            } else if self.dialled.port() == HTTP {
                State::Requests(Requests::new(self.dialled.clone(), false))
            } else {
                State::Pass
            };
        }
        match &mut self.state {
            State::Pass | State::First => out.extend(bytes),
            State::Answer { held, .. } => held.extend(bytes),
            State::Hello { held, .. } => {
                held.extend(bytes);
                return self.hello(out);
            }
            State::Requests(requests) => {
                requests.take(bytes, out).map_err(|why| self.refused_request(&why))?;
                self.settle();
            }
        }
        Ok(())
    }

    /// Takes what the server said; what it decides about may then go on, to `out`.
    pub(crate) fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        match &mut self.state {
            State::First | State::Hello { .. } | State::Pass => Ok(()),
            State::Requests(requests) => {
                requests.hear(bytes, out).map_err(|why| self.refused_request(&why))?;
                self.settle();
                Ok(())
            }
            State::Answer { held, heard } => {
                heard.extend(bytes);
                let Some(asks_again) = hello::asks_again(heard) else { return Ok(()) };
                let held = std::mem::take(held);
                if asks_again {
                    self.state = State::Hello { held, is_second: true };
                    return self.hello(out);
                }
                out.extend(held);
                self.state = State::Pass;
                Ok(())
            }
        }
    }

    fn hello(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let State::Hello { held, is_second } = &mut self.state else { return Ok(()) };
        // One byte could have been the beginning of anything.
        if !*is_second && !hello::is_tls(held) {
            let held = std::mem::take(held);
            self.state = State::First;
            return if self.dialled.port() == HTTP {
                Err(self.refused_request("it is not HTTP/1"))
            } else {
                out.extend(held);
                self.state = State::Pass;
                Ok(())
            };
        }
        let (name, length) = match hello::read(held, *is_second) {
            Hello::Partial => return Ok(()),
            Hello::Broken(why) => return Err(Self::refused_hello(why.to_owned())),
            Hello::Named(name, length) => (name, length),
        };
        if let Some(name) = name {
            let said = Host::Name(name);
            if !self.dialled.is(&said) {
                let why = format!("TLS was to be with `{said}`, which is not who was dialled");
                return Err(Self::refused_hello(why));
            }
        }
        let rest = held.split_off(length);
        out.append(held);
        self.state = if *is_second {
            out.extend(rest);
            State::Pass
        } else {
            State::Answer { held: rest, heard: Vec::new() }
        };
        Ok(())
    }

    fn settle(&mut self) {
        if matches!(&self.state, State::Requests(requests) if requests.is_open()) {
            self.state = State::Pass;
        }
    }

    fn refused_hello(why: String) -> Refusal {
        Refusal { why, reply: ALERT.to_vec() }
    }

    fn refused_request(&self, why: &str) -> Refusal {
        let host = self.dialled.host();
        let why = format!("a request to `{host}` was not passed on: {why}");
        Refusal { reply: forbidden(&why), why }
    }
}

/// An answer to a request that is not passed on.
pub(crate) fn forbidden(why: &str) -> Vec<u8> {
    let line: String = why.chars().filter(|c| !c.is_control()).collect();
    let body = format!("refused by Stockade: {line}\n");
    // In the status line too: some programs show nothing else.
    format!(
        "HTTP/1.1 403 Refused by Stockade: {line}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello for `example.org` as one record.
    fn hello() -> Vec<u8> {
        let name = b"example.org";
        let mut extension = vec![0, 0, 0, 16, 0, 14, 0, 0, 11];
        extension.extend(name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, u8::try_from(extension.len()).unwrap()]);
        body.extend(extension);
        let length = u8::try_from(body.len()).unwrap();
        let mut stream = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        stream.extend(body);
        stream
    }

    fn watch(dialled: &str) -> Watch {
        Watch::new(Dialled::only(dialled))
    }

    #[test]
    fn a_hello_passes_when_it_is_whole_and_names_who_was_dialled() {
        let hello = hello();
        let mut watch = watch("example.org:443");
        let mut out = Vec::new();
        for byte in &hello[..hello.len() - 1] {
            watch.take(&[*byte], &mut out).unwrap();
            assert!(out.is_empty());
        }
        watch.take(&hello[hello.len() - 1..], &mut out).unwrap();
        assert_eq!(out, hello);
        watch.take(b"early", &mut out).unwrap();
        assert_eq!(out, hello, "kept until the server has answered");
        watch.hear(&[21], &mut out).unwrap();
        assert!(watch.is_over() && out.ends_with(b"early"));
    }

    #[test]
    fn another_name_is_refused_at_every_port() {
        for dialled in ["other.org:443", "other.org:80", "other.org:8443"] {
            let mut out = Vec::new();
            let refusal = watch(dialled).take(&hello(), &mut out).unwrap_err();
            assert!(refusal.why.contains("example.org") && out.is_empty());
            assert_eq!(refusal.reply, ALERT);
        }
    }

    #[test]
    fn a_second_hello_is_looked_at_too() {
        let mut watch = watch("example.org:443");
        let mut out = Vec::new();
        watch.take(&hello(), &mut out).unwrap();
        let mut other = hello();
        let length = other.len();
        other[length - 1] = b'f';
        watch.take(&other, &mut out).unwrap();
        assert_eq!(out, hello());
        let mut retry = vec![22, 3, 3, 0, 88, 2, 0, 0, 84, 3, 3];
        retry.extend([
            0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65,
            0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2,
            0xc8, 0xa8, 0x33, 0x9c,
        ]);
        assert!(watch.hear(&retry, &mut out).unwrap_err().why.contains("example.orf"));
    }

    #[test]
    fn on_the_port_of_http_there_are_requests_or_nothing() {
        let mut out = Vec::new();
        let refusal = watch("a.org:80").take(b"SSH-2.0-x\r\n", &mut out).unwrap_err();
        assert!(refusal.reply.starts_with(b"HTTP/1.1 403 Refused by Stockade: a request to"));
        let mut one = watch("a.org:80");
        one.take(&[22], &mut out).unwrap();
        assert!(one.take(b"\x05GET / HTTP/1.1\r\n", &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn other_protocols_pass() {
        for (dialled, said) in [
            ("a.org:22", &b"SSH-2.0-x\r\n"[..]),
            ("a.org:443", b"SSH-2.0-x\r\n"),
            ("a.org:5432", b"\0\0\0\x08\x04\xd2\x16\x2f"),
            ("a.org:9000", b"\x16\x05raw"),
            ("a.org:9418", b"003egit-upload-pack"),
        ] {
            let mut out = Vec::new();
            let mut watch = watch(dialled);
            watch.take(said, &mut out).unwrap();
            assert!(watch.is_over() && out == said, "{dialled}");
        }
    }
}
