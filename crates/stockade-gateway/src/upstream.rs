//! The user's own proxy, by which this machine reaches others.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use stockade_policy::{AddressRange, Host, parse_port};

use crate::base64;

/// How long the proxy may take to answer, and the host behind it.
const ANSWER: Duration = Duration::from_mins(1);
/// Longest head of its answer; in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// A proxy that connects by `CONNECT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
    /// `user:password`, in Base64.
    login: Option<String>,
    /// Hosts that are dialled without it, as in `NO_PROXY`.
    except: Vec<String>,
}

impl fmt::Debug for Upstream {
    /// Without the log-in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, &self.port);
        f.debug_struct("Upstream").field("host", host).field("port", port).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Reads `http://[user:password@]host[:port]`, and a list as in `NO_PROXY`; `None` when it is
    /// another kind of proxy.
    pub fn new(url: &str, except: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let authority = rest.split('/').next()?;
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(base64::encode(&percent_decoded(login)?)), place),
            None => (None, authority),
        };
        let end = if place.starts_with('[') {
            place.find(']')? + 1
        } else {
            place.find(':').unwrap_or(place.len())
        };
        let (host, port) = place.split_at_checked(end)?;
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port).ok()?,
            None => 80,
        };
        Host::new(host).ok()?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let except = except.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        let except = except.filter(|entry| !entry.is_empty()).collect();
        Some(Self { host, port, login, except })
    }

    /// Whether `host` is reached by it.
    pub(crate) fn is_for(&self, host: &Host) -> bool {
        let text = host.to_string();
        !self.except.iter().any(|entry| {
            let suffix = entry.trim_start_matches("*.").trim_start_matches('.');
            let is_in =
                |address| entry.parse().is_ok_and(|range: AddressRange| range.contains(address));
            entry == "*"
                || matches!(host, Host::Address(address) if is_in(*address))
                || text == suffix
                || text.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'))
        })
    }

    /// Connects to `host` by way of the proxy; an error says that it is the proxy's.
    pub(crate) fn connect(&self, host: &Host, port: u16) -> io::Result<TcpStream> {
        let Self { host: own, port: own_port, .. } = self;
        self.try_connect(host, port).map_err(|error| {
            io::Error::new(error.kind(), format!("by the upstream proxy {own}:{own_port}: {error}"))
        })
    }

    fn try_connect(&self, host: &Host, port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, ANSWER) {
                Ok(stream) => {
                    crate::dial::tune(&stream);
                    self.ask(&stream, host, port)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask(&self, mut stream: &TcpStream, host: &Host, port: u16) -> io::Result<()> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(login) = &self.login {
            request.extend(["Proxy-Authorization: Basic ", login, "\r\n"]);
        }
        request.push_str("\r\n");
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        // A byte at a time: what follows the head is the host's.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if head.len() >= HEAD_MAX || stream.read(&mut byte)? == 0 {
                return Err(io::Error::other("no answer"));
            }
            head.extend(byte);
        }
        stream.set_read_timeout(None)?;
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let code = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if code.len() == 3 && code.starts_with(b"2") {
            return Ok(());
        }
        let code = String::from_utf8_lossy(code);
        let hint = if code == "407" {
            ", it wants a log-in (`http://USER:PASSWORD@HOST:PORT`)"
        } else {
            ""
        };
        Err(io::Error::other(format!("it answered {code}{hint}")))
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?.to_owned();
            decoded.push(u8::from_str_radix(&digits, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_its_log_in_and_exceptions() {
        let proxy = Upstream::new(
            "http://me:p%40ss@proxy.corp:3128/",
            "localhost,.corp, 10.0.0.5,192.168.0.0/16",
        )
        .unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 3128));
        assert_eq!(proxy.login.as_deref(), Some("bWU6cEBzcw=="));
        assert!(!format!("{proxy:?}").contains("bWU6"));
        let is_for = |host: &str| proxy.is_for(&Host::new(host).unwrap());
        assert!(is_for("example.org") && is_for("notcorp") && is_for("192.169.0.1"));
        assert!(!is_for("192.168.7.7"), "a range");
        assert!(!is_for("git.corp") && !is_for("10.0.0.5") && !is_for("corp"));
        assert!(!Upstream::new("proxy:8080", "*").unwrap().is_for(&Host::new("a.org").unwrap()));
        for other in ["socks5://proxy:1080", "https://proxy", "http://", "http://a b"] {
            assert!(Upstream::new(other, "").is_none(), "{other}");
        }
    }

    #[test]
    fn an_error_says_that_it_is_the_proxys() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let proxy = Upstream::new(&own.to_string(), "").unwrap();
        let why = || proxy.connect(&Host::new("a.org").unwrap(), 443).unwrap_err().to_string();
        let answering = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut [0; 16]).unwrap();
            stream.write_all(b"HTTP/1.1 407 Log-in\r\n\r\n").unwrap();
            stream
        });
        let said = why();
        let by = format!("by the upstream proxy {own}: ");
        assert!(said.starts_with(&by) && said.contains("407, it wants a log-in"), "{said}");
        drop(answering.join().unwrap());
        let said = why();
        assert!(said.starts_with(&by) && said.contains("refused"), "{said}");
    }
}
