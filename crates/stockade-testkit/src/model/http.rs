//! As much of HTTP/1.1 as model clients use towards a server.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

/// Requests of agents are long: they carry whole conversations.
const REQUEST_MAX: usize = 64 << 20;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    /// As it came.
    pub(super) head: String,
}

impl Request {
    /// Reads the next request; `Ok(None)` at the end of the connection.
    pub(super) fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !more(stream, &mut bytes)? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(bytes.get(..head_end).unwrap_or_default()).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut rest = bytes.split_off(head_end);
        let body = if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            chunked(stream, rest)?
        } else {
            let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            while rest.len() < length && more(stream, &mut rest)? {}
            rest.truncate(length);
            rest
        };
        Ok(Some(Self { method, path, body, head }))
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer)?;
    bytes.extend(buffer.iter().take(count));
    if bytes.len() > REQUEST_MAX {
        return Err(io::Error::other("the request is too long"));
    }
    Ok(count > 0)
}

fn chunked(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !more(stream, &mut bytes)? {
                return Ok(body);
            }
        };
        let line = String::from_utf8_lossy(bytes.get(..line_end).unwrap_or_default()).into_owned();
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(io::Error::other)?;
        let end = line_end + 2 + length + 2;
        while bytes.len() < end && more(stream, &mut bytes)? {}
        if length == 0 {
            return Ok(body);
        }
        body.extend(bytes.get(line_end + 2..line_end + 2 + length).unwrap_or_default());
        bytes.drain(..end.min(bytes.len()));
    }
}

/// Answers one request and keeps the connection.
pub(super) fn reply(
    stream: &mut TcpStream,
    status: &str,
    kind: &str,
    body: &str,
) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
    stream.flush()
}
