//! The head of an HTTP/1 request, read strictly and written anew.
//!
//! What is passed on is what was understood, in the one form in which every server understands
//! it, so that a request means the same to whoever judges it and to whoever serves it.
//! Source: RFC 9112.

use stockade_policy::{Host, parse_port};

/// Longest head; in bytes.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: Target,
    /// 0 or 1: HTTP/1.0 or 1.1.
    version: u8,
    pub(crate) host: Option<Authority>,
    pub(crate) body: Body,
    pub(crate) upgrade: Upgrade,
    headers: Vec<(String, Vec<u8>)>,
}

/// A host with a port, if one is named.
pub(crate) type Authority = (Host, Option<u16>);

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/path`, or `*`.
    Path(String),
    /// `http://host/path`, in parts.
    Absolute(Authority, String),
    /// `host:port`, of `CONNECT`.
    Authority(Host, u16),
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// After so many bytes.
    Length(u64),
    /// With an empty chunk.
    Chunked,
}

/// Whether the request asks to go on in another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// It does not.
    No,
    /// To HTTP/2, where later requests could not be seen: the wish is left out.
    Http2,
    /// To a protocol without requests (`websocket`).
    Other,
}

/// What the beginning of a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The head is not whole yet.
    Partial,
    /// The head, and the bytes it took.
    Whole(Box<Head>, usize),
    /// No request that may be passed on, and why.
    Broken(&'static str),
}

impl Head {
    /// Reads the head at the beginning of `stream`.
    pub(crate) fn read(stream: &[u8]) -> Read {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(stream) {
            Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => {
                match Self::of(&request) {
                    Ok(head) => Read::Whole(Box::new(head), length),
                    Err(why) => Read::Broken(why),
                }
            }
            Ok(httparse::Status::Partial) if stream.len() <= HEAD_MAX => Read::Partial,
            Ok(_) => Read::Broken("its head is too long"),
            Err(_) => Read::Broken("it is not HTTP/1"),
        }
    }

    fn of(request: &httparse::Request<'_, '_>) -> Result<Self, &'static str> {
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err("it is not HTTP/1");
        };
        let named = |name: &str| {
            let is_it =
                move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
            let found: Vec<&[u8]> =
                request.headers.iter().filter(is_it).map(|header| header.value).collect();
            found
        };
        if method == "PRI" {
            return Err("HTTP/2 without TLS cannot be looked at");
        }
        let host = match named("host").as_slice() {
            [] if version == 0 => None,
            [] => return Err("it has no Host"),
            [host] => Some(text(host).and_then(authority).ok_or("its Host is none")?),
            _ => return Err("it has more than one Host"),
        };
        let body = body(version, &named("transfer-encoding"), &named("content-length"))?;
        if method == "CONNECT" && body != Body::Length(0) {
            return Err("what follows a CONNECT is said to the host");
        }
        let upgrade = match named("upgrade").as_slice() {
            [] => Upgrade::No,
            wishes if wishes.iter().any(|wish| contains_word(wish, "h2c")) => Upgrade::Http2,
            _ => Upgrade::Other,
        };
        let pair = |header: &httparse::Header<'_>| (header.name.to_owned(), header.value.to_vec());
        Ok(Self {
            target: self::target(method, target)?,
            method: method.to_owned(),
            version,
            host,
            body,
            upgrade,
            headers: request.headers.iter().map(pair).collect(),
        })
    }

    /// The values of headers whose names `is_meant` takes.
    pub(crate) fn values(
        &mut self,
        is_meant: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = &mut Vec<u8>> {
        let meant = self.headers.iter_mut().filter(move |(name, _)| is_meant(name));
        meant.map(|(_, value)| value)
    }

    /// Leaves out headers whose names `is_meant` takes.
    pub(crate) fn leave_out(&mut self, is_meant: impl Fn(&str) -> bool) {
        self.headers.retain(|(name, _)| !is_meant(name));
    }

    /// Makes `value` the only header of this name.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.leave_out(|other| other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    /// Asks for answers that are not compressed (RFC 9110, 12.5.3).
    pub(crate) fn ask_for_plain_answers(&mut self) {
        self.set("Accept-Encoding", "identity");
    }

    /// A header by which some servers take a request for one of another method or path.
    pub(crate) fn overriding(&self) -> Option<&str> {
        const OVERRIDING: [&str; 6] = [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-original-url",
            "x-rewrite-url",
            "x-original-uri",
        ];
        let is_one = |name: &&str| OVERRIDING.iter().any(|other| name.eq_ignore_ascii_case(other));
        self.headers.iter().map(|(name, _)| name.as_str()).find(is_one)
    }

    /// Writes the head for the server, with `*` or a path for a target. `closes` asks for the end
    /// of the connection after the answer, and leaves out what was meant for a proxy.
    pub(crate) fn write(&self, out: &mut Vec<u8>, closes: bool) {
        let path = match &self.target {
            Target::Path(path) | Target::Absolute(_, path) => path.as_str(),
            Target::Authority(..) => "*",
        };
        out.extend(format!("{} {path} HTTP/1.{}\r\n", self.method, self.version).as_bytes());
        for (name, value) in &self.headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let is_left_out = match self.upgrade {
                Upgrade::Http2 => is("upgrade") || is("http2-settings"),
                Upgrade::No | Upgrade::Other => false,
            };
            let is_proxys = is("proxy-connection") || is("proxy-authorization");
            if is_left_out || closes && (is_proxys || is("connection") || is("keep-alive")) {
                continue;
            }
            if is("connection") && self.upgrade == Upgrade::Http2 {
                continue;
            }
            out.extend(name.as_bytes());
            out.extend(b": ");
            out.extend(value);
            out.extend(b"\r\n");
        }
        if closes {
            out.extend(b"Connection: close\r\n");
        }
        out.extend(b"\r\n");
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn contains_word(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Reads `host` or `host:port`.
fn authority(text: &str) -> Option<Authority> {
    let end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(end)?;
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(parse_port(port).ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((Host::new(host).ok()?, port))
}

fn target(method: &str, target: &str) -> Result<Target, &'static str> {
    if method == "CONNECT" {
        return match authority(target) {
            Some((host, Some(port))) => Ok(Target::Authority(host, port)),
            _ => Err("it connects to no HOST:PORT"),
        };
    }
    if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Ok(Target::Path(target.to_owned()));
    }
    let is_http = target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = if is_http { target.get(7..).unwrap_or_default() } else { "" };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or_default();
    match authority(host) {
        Some(_) if path.contains('#') => Err("its target has a fragment"),
        Some(host) if path.starts_with('/') => Ok(Target::Absolute(host, path.to_owned())),
        Some(host) => Ok(Target::Absolute(host, format!("/{path}"))),
        None => Err("its target is no path and no `http://` URL"),
    }
}

fn body(version: u8, encodings: &[&[u8]], lengths: &[&[u8]]) -> Result<Body, &'static str> {
    match (encodings, lengths) {
        ([], []) => Ok(Body::Length(0)),
        ([], [length]) => {
            let is_plain = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = text(length).filter(|_| is_plain).and_then(|length| length.parse().ok());
            number.map(Body::Length).ok_or("its length is none")
        }
        ([encoding], []) if version == 1 && encoding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        _ => Err("where its body ends could be read in two ways"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Head {
        match Head::read(text.as_bytes()) {
            Read::Whole(head, length) => {
                assert_eq!(length, text.len());
                *head
            }
            other @ (Read::Partial | Read::Broken(_)) => panic!("{text:?}: {other:?}"),
        }
    }

    fn broken(text: &str) -> bool {
        matches!(Head::read(text.as_bytes()), Read::Broken(_))
    }

    #[test]
    fn a_request_is_written_as_it_was_understood() {
        let head = whole(
            "POST /a?b HTTP/1.1\r\nHost: Example.org:80\r\nX:  y \r\nContent-Length: 3\r\n\r\n",
        );
        assert_eq!(head.host, Some((Host::new("example.org").unwrap(), Some(80))));
        assert_eq!((&head.body, head.upgrade), (&Body::Length(3), Upgrade::No));
        let mut out = Vec::new();
        head.write(&mut out, false);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /a?b HTTP/1.1\r\nHost: Example.org:80\r\nX: y\r\nContent-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn a_request_to_a_proxy_loses_what_was_meant_for_it() {
        let head = whole(
            "GET HTTP://example.org?q HTTP/1.1\r\nHost: example.org\r\nProxy-Connection: keep-alive\r\n\
             Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n",
        );
        let host = Host::new("example.org").unwrap();
        assert_eq!(head.target, Target::Absolute((host, None), "/?q".to_owned()));
        let mut out = Vec::new();
        head.write(&mut out, true);
        let expected = "GET /?q HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_wish_for_http2_is_left_out_and_others_stay() {
        let wish = |protocol: &str| {
            let head = whole(&format!(
                "GET / HTTP/1.1\r\nHost: a.org\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: x\r\n\r\n"
            ));
            let mut out = Vec::new();
            head.write(&mut out, false);
            (head.upgrade, String::from_utf8(out).unwrap())
        };
        let (upgrade, text) = wish("h2c");
        assert_eq!(
            (upgrade, text.as_str()),
            (Upgrade::Http2, "GET / HTTP/1.1\r\nHost: a.org\r\n\r\n")
        );
        let (upgrade, text) = wish("websocket");
        assert!(upgrade == Upgrade::Other && text.contains("Upgrade: websocket"));
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_broken() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\r\nHost: b.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\r\nhost: a.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org, b.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\r\n b.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\rX: y\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET a.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET https://a.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET http://u@a.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET http://a.org/#x HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT a.org HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT http://a.org:443 HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT a.org:443/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT a.org\0b.org:443 HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "CONNECT a.org:80 HTTP/1.1\r\nHost: a.org\r\nContent-Length: 5\r\n\r\n",
            "CONNECT a.org:80 HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/3.0\r\nHost: a.org\r\n\r\n",
            "GET /\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            assert!(broken(text), "{text:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_broken_at_some_point() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HEAD_MAX));
        assert!(broken(&long));
        assert_eq!(Head::read(b"GET / HTTP/1.1\r\nHost: a."), Read::Partial);
    }

    proptest! {
        /// What is written is understood the same way, and has no line of its own.
        #[test]
        fn writing_is_reading(bytes in prop::collection::vec(any::<u8>(), 0..200), value in "[ -~]{0,30}") {
            let mut stream = b"GET /x HTTP/1.1\r\nHost: a.org\r\nX: ".to_vec();
            stream.extend(value.as_bytes());
            stream.extend(&bytes);
            stream.extend(b"\r\n\r\n");
            if let Read::Whole(head, _) = Head::read(&stream) {
                let mut out = Vec::new();
                head.write(&mut out, false);
                let Read::Whole(again, length) = Head::read(&out) else { panic!("not read again") };
                prop_assert_eq!(length, out.len());
                prop_assert_eq!(again, head);
            }
        }
    }
}
