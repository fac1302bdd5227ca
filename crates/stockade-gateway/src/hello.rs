//! The name in a TLS `ClientHello`, however it is cut into records.
//!
//! Sources: RFC 8446 (4.1.2, 5.1), RFC 6066 (3).

use stockade_policy::HostName;

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
/// Larger than hellos with post-quantum keys and many extensions; in bytes.
const HELLO_MAX: usize = 64 * 1024;
/// `2^14`, the most plain text that a record may hold.
const RECORD_MAX: usize = 16 * 1024;

/// The random value by which a server asks for another hello (RFC 8446, 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What the beginning of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// It is not all there yet.
    Partial,
    /// This name, or none, and the bytes that the hello took.
    Named(Option<HostName>, usize),
    /// No hello that a server should be shown.
    Broken(&'static str),
}

/// Whether a stream that begins so is TLS, or could become it.
pub(crate) fn is_tls(start: &[u8]) -> bool {
    matches!(start, [HANDSHAKE] | [HANDSHAKE, 3, ..])
}

/// Reads the hello at the beginning of `stream`. In the second one, after a server asked for it,
/// a record that only old boxes on the way want may come first.
pub(crate) fn read(stream: &[u8], is_second: bool) -> Hello {
    match message(stream, is_second) {
        Ok(Some((body, length))) => match server_name(&body) {
            Some(Ok(name)) => Hello::Named(name, length),
            Some(Err(why)) => Hello::Broken(why),
            None => Hello::Broken("the hello is malformed"),
        },
        Ok(None) => Hello::Partial,
        Err(why) => Hello::Broken(why),
    }
}

/// Joins the records that the first message is cut into; the bytes that these took.
fn message(stream: &[u8], is_second: bool) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut rest = stream;
    let mut joined = Vec::new();
    loop {
        let Some((&[kind, major, _, high, low], after)) = rest.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 || length == 0 || length > RECORD_MAX {
            return Err("a record is malformed");
        }
        let (skipped, read) = (is_second && kind == CHANGE_CIPHER_SPEC, kind == HANDSHAKE);
        if !skipped && !read || skipped && length != 1 {
            return Err("something else came before the hello was whole");
        }
        let Some((fragment, after)) = after.split_at_checked(length) else { return Ok(None) };
        rest = after;
        if skipped {
            continue;
        }
        joined.extend(fragment);
        if let Some(&[kind, a, b, c]) = joined.first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if kind != CLIENT_HELLO || length > HELLO_MAX {
                return Err("the first message is no hello");
            }
            if joined.len() > 4 + length {
                return Err("something follows the hello in its record");
            }
            if joined.len() == 4 + length {
                return Ok(Some((joined.split_off(4), stream.len() - rest.len())));
            }
        }
    }
}

/// Cursor over a message; each step is `None` when too little is left.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A vector with a length of one byte before it.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?.first().copied()?;
        self.take(length.into())
    }

    /// A vector with a length of two bytes before it.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

type Named = Result<Option<HostName>, &'static str>;

/// The name in the body of a hello; `None` when the body is malformed.
fn server_name(body: &[u8]) -> Option<Named> {
    let mut hello = Cursor(body);
    hello.take(2 + 32)?;
    hello.short()?;
    hello.long()?;
    hello.short()?;
    if hello.0.is_empty() {
        return Some(Ok(None));
    }
    let mut extensions = Cursor(hello.long()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.long()?;
        if kind != SERVER_NAME {
            continue;
        }
        if name.is_some() {
            return Some(Err("the hello names its host twice"));
        }
        let mut list = Cursor(data);
        let mut names = Cursor(list.long()?);
        let host_name = names.take(1)?;
        let text = names.long()?;
        if host_name != [0] || !names.0.is_empty() || !list.0.is_empty() {
            return Some(Err("the hello names its host in an odd way"));
        }
        let text = std::str::from_utf8(text).ok().and_then(|text| HostName::new(text).ok());
        match text {
            Some(host) => name = Some(host),
            None => return Some(Err("the hello names no host that could be one")),
        }
    }
    Some(Ok(name))
}

/// Whether a server that begins so asks for another hello; `None` when that is not known yet.
pub(crate) fn asks_again(stream: &[u8]) -> Option<bool> {
    // Record, message, version, random.
    const RANDOM: usize = 5 + 4 + 2;
    match stream {
        [HANDSHAKE, _, _, _, _, SERVER_HELLO, ..] | [] | [HANDSHAKE] => {}
        [HANDSHAKE, ..] if stream.len() < 6 => {}
        _ => return Some(false),
    }
    stream.get(RANDOM..RANDOM + RETRY.len()).map(|random| random == RETRY)
}

#[cfg(test)]
mod tests;
