//! A stream of HTTP/1 requests, each of which has to be to the host that was dialled.

use std::borrow::Cow;

use stockade_policy::Request;

use crate::credentials::Lent;
use crate::dialled::Dialled;
use crate::endpoint;
use crate::head::{Authority, Body, Head, Read, Target, Upgrade};

/// Longest line that begins a chunk, and longest trailer; in bytes.
const LINE_MAX: usize = 4096;

/// Where the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head, or before one.
    Head,
    /// In a body of which so much is to come.
    Body(u64),
    /// At the line that begins a chunk.
    ChunkLine,
    /// In a chunk of which so much is to come.
    Chunk(u64),
    /// At the line end after a chunk.
    ChunkEnd,
    /// In the lines after the last chunk.
    Trailer,
    /// After a request to go on in another protocol; the server decides.
    Undecided,
    /// The other protocol.
    Open,
    /// After the one request that a proxy takes from a connection.
    Over,
}

/// Reads requests, and gives on what is allowed.
#[derive(Debug)]
pub(crate) struct Requests {
    dialled: Dialled,
    /// Whether the program believes to speak to a proxy.
    is_proxied: bool,
    /// Whether it came by TLS, and goes on by TLS.
    is_encrypted: bool,
    /// Whose requests they become, where the program was given an address of the gateway's.
    endpoint: Option<String>,
    state: State,
    count: u64,
    /// What is not understood yet.
    buffer: Vec<u8>,
    answer: Vec<u8>,
    wants_upgrade: bool,
    /// What requests were given since somebody asked.
    lent: Vec<Lent>,
}

impl Requests {
    pub(crate) fn new(dialled: Dialled, is_proxied: bool) -> Self {
        Self {
            dialled,
            is_proxied,
            is_encrypted: false,
            endpoint: None,
            state: State::Head,
            count: 0,
            buffer: Vec::new(),
            answer: Vec::new(),
            wants_upgrade: false,
            lent: Vec::new(),
        }
    }

    /// The same for what came by TLS.
    pub(crate) fn of_decrypted(dialled: Dialled) -> Self {
        Self { is_encrypted: true, ..Self::new(dialled, false) }
    }

    /// The same for an endpoint: as if the program had asked `authority` by TLS.
    pub(crate) fn of_endpoint(dialled: Dialled, authority: String) -> Self {
        Self { endpoint: Some(authority), ..Self::of_decrypted(dialled) }
    }

    /// What requests were given since the last call.
    pub(crate) fn lent(&mut self) -> Vec<Lent> {
        std::mem::take(&mut self.lent)
    }

    /// Whether nothing should be read from the program before the server has spoken.
    pub(crate) fn waits(&self) -> bool {
        self.state == State::Undecided
    }

    /// Whether the rest of the stream is another protocol, and nothing is kept back.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open && self.buffer.is_empty()
    }

    /// Takes `bytes` of the program's and appends to `out` what the server gets.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Cow<'static, str>> {
        self.buffer.extend(bytes);
        while self.step(out)? {}
        Ok(())
    }

    /// Takes what the server sent, for as long as that decides something.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Cow<'static, str>> {
        const STATUS: &[u8] = b"HTTP/1.1 101 ";
        if self.state != State::Undecided && !self.wants_upgrade {
            return Ok(());
        }
        let missing = STATUS.len().saturating_sub(self.answer.len());
        self.answer.extend(bytes.iter().take(missing));
        if self.answer.len() < STATUS.len() || self.state != State::Undecided {
            return Ok(());
        }
        self.decide(STATUS);
        self.take(&[], out)
    }

    fn decide(&mut self, switched: &[u8]) {
        self.wants_upgrade = false;
        self.state = if self.answer == switched { State::Open } else { State::Head };
    }

    /// Takes the next thing out of the buffer; `false` when it is not all there.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, Cow<'static, str>> {
        match self.state {
            State::Head => self.head(out),
            State::Body(left) => Ok(self.copy(left, State::Body, State::Head, out)),
            State::Chunk(left) => Ok(self.copy(left, State::Chunk, State::ChunkEnd, out)),
            State::ChunkLine => self.chunk_line(out),
            State::ChunkEnd => match self.line()? {
                None => Ok(false),
                Some(line) if line.is_empty() => {
                    out.extend(b"\r\n");
                    self.state = State::ChunkLine;
                    Ok(true)
                }
                Some(_) => Err("a chunk does not end where it says".into()),
            },
            // Nothing in a trailer is needed, and some servers read it as headers.
            State::Trailer => match self.line()? {
                None => Ok(false),
                Some(line) if line.is_empty() => {
                    out.extend(b"\r\n");
                    self.end_body();
                    Ok(true)
                }
                Some(_) => Ok(true),
            },
            State::Undecided => Ok(false),
            State::Open => {
                out.append(&mut self.buffer);
                Ok(false)
            }
            State::Over => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    fn head(&mut self, out: &mut Vec<u8>) -> Result<bool, Cow<'static, str>> {
        if self.buffer.is_empty() {
            return Ok(false);
        }
        let (mut head, length) = match Head::read(&self.buffer) {
            Read::Partial => return Ok(false),
            Read::Broken(why) => return Err(why.into()),
            Read::Whole(head, length) => (head, length),
        };
        self.buffer.drain(..length);
        match &self.endpoint {
            None => self.check(&head)?,
            Some(authority) => {
                endpoint::check(&head)?;
                self.judge(&head)?;
                self.dialled.has_no_other_secret(&mut head)?;
                endpoint::address(&mut head, authority);
            }
        }
        if self.is_encrypted {
            self.lend(&mut head)?;
        }
        head.write(out, self.is_proxied);
        self.count += 1;
        self.wants_upgrade = self.count == 1 && head.upgrade == Upgrade::Other && !self.is_proxied;
        self.answer.clear();
        self.state = match head.body {
            Body::Length(length) => State::Body(length),
            Body::Chunked => State::ChunkLine,
        };
        if self.state == State::Body(0) {
            self.end_body();
        }
        Ok(true)
    }

    fn check(&self, head: &Head) -> Result<(), Cow<'static, str>> {
        // Of a Host that names none.
        let default = if self.is_encrypted { 443 } else { 80 };
        let is_dialled = |(host, port): &Authority| {
            self.dialled.is(host) && port.unwrap_or(default) == self.dialled.port()
        };
        match &head.target {
            Target::Authority(..) => return Err("it asks a server to connect".into()),
            Target::Absolute(authority, _) if !is_dialled(authority) => {
                return Err("its target is another host than the one that was dialled".into());
            }
            Target::Path(_) | Target::Absolute(..) => {}
        }
        if head.host.as_ref().is_some_and(|host| !is_dialled(host)) {
            return Err("its Host is another than the one that was dialled".into());
        }
        if self.dialled.is_judged() {
            self.judge(head)?;
        }
        Ok(())
    }

    fn judge(&self, head: &Head) -> Result<(), Cow<'static, str>> {
        if let Some(name) = head.overriding() {
            return Err(format!("its `{name}` could make it another request").into());
        }
        let path = path(head)?;
        let request = Request { method: &head.method, path, upgrades: upgrades(head) };
        self.dialled.judge(&request).map_err(Cow::from)
    }

    /// Gives a request that was checked the secrets whose placeholders it holds.
    fn lend(&mut self, head: &mut Head) -> Result<(), Cow<'static, str>> {
        let (method, path) = (head.method.clone(), path(head)?.to_owned());
        let request = Request { method: &method, path: &path, upgrades: upgrades(head) };
        self.lent.extend(self.dialled.lend(&request, head)?);
        Ok(())
    }

    fn copy(&mut self, left: u64, rest: fn(u64) -> State, after: State, out: &mut Vec<u8>) -> bool {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        if length == 0 {
            return false;
        }
        out.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
        self.buffer.drain(..length);
        let left = left - length as u64;
        self.state = if left > 0 { rest(left) } else { after };
        if self.state == State::Head {
            self.end_body();
        }
        true
    }

    fn end_body(&mut self) {
        self.state = if self.is_proxied {
            State::Over
        } else if self.wants_upgrade {
            State::Undecided
        } else {
            State::Head
        };
        if self.state == State::Undecided && self.answer.len() >= 13 {
            self.decide(b"HTTP/1.1 101 ");
        }
    }

    fn chunk_line(&mut self, out: &mut Vec<u8>) -> Result<bool, Cow<'static, str>> {
        let Some(line) = self.line()? else { return Ok(false) };
        // What follows a `;` says nothing that matters, and has been read in two ways.
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let is_plain = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(size).ok().filter(|_| is_plain);
        let size = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        let size = size.ok_or("a chunk has no size")?;
        out.extend(format!("{size:x}\r\n").as_bytes());
        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
        Ok(true)
    }

    /// Takes one line without its end, which must be CR LF.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Cow<'static, str>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            let is_long = self.buffer.len() > LINE_MAX;
            return if is_long { Err("a line is too long".into()) } else { Ok(None) };
        };
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        if line.pop() != Some(b'\r') || line.contains(&b'\r') || line.len() > LINE_MAX {
            return Err("a line does not end as it should".into());
        }
        Ok(Some(line))
    }
}

fn path(head: &Head) -> Result<&str, Cow<'static, str>> {
    match &head.target {
        Target::Path(path) | Target::Absolute(_, path) => Ok(path),
        Target::Authority(..) => Err("it asks a server to connect".into()),
    }
}

fn upgrades(head: &Head) -> bool {
    match head.upgrade {
        Upgrade::Other => true,
        Upgrade::No | Upgrade::Http2 => false,
    }
}

#[cfg(test)]
mod tests;
