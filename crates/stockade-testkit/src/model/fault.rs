//! What can be wrong with a model server.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What happens to one request instead of a proper answer, or to the answer on its way.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection is closed without a word.
    HangUp,
    /// Nothing comes, and the connection stays.
    Silent,
    /// The first half of the answer comes, and then nothing.
    Stall,
    /// The first half of the answer comes, and then the end: that of the connection, or, properly,
    /// that of the stream.
    Cut {
        /// Whether HTTP's own end mark comes.
        is_proper: bool,
    },
    /// Comments come for ever, as servers send them to keep a connection.
    Comments,
    /// One event comes that does not end.
    Flood,
    /// A status other than 200.
    Status {
        /// 429, say.
        code: u16,
        /// More of the head, each line with its end.
        head: String,
        /// The body.
        body: String,
    },
    /// This, with status 200, instead of the answer.
    Body {
        /// `text/event-stream`, say.
        kind: String,
        /// The body.
        body: String,
    },
    /// The answer, in pieces of so many bytes, with line ends of this kind.
    Pieces {
        /// Bytes in a piece.
        bytes: usize,
        /// LF, CR or CRLF.
        line_end: &'static str,
    },
    /// The answer ends at the limit of its length.
    Short,
}

impl Fault {
    /// A status with an explanation as model servers give it.
    pub fn status(code: u16) -> Self {
        let body = r#"{"error": {"type": "scripted", "message": "as the script says"}}"#;
        Self::Status { code, head: String::new(), body: body.to_owned() }
    }

    /// Answers with `events` as it says; `Ok(false)` when the connection is at its end.
    pub(super) fn answer(&self, stream: &mut TcpStream, events: &str) -> io::Result<bool> {
        let half = events.as_bytes().get(..events.len() / 2).unwrap_or_default();
        match self {
            Self::None | Self::Short => whole(stream, "text/event-stream", events)?,
            Self::HangUp => return Ok(false),
            Self::Silent => wait(stream)?,
            Self::Stall => {
                open(stream)?;
                piece(stream, half)?;
                wait(stream)?;
            }
            Self::Cut { is_proper } => {
                open(stream)?;
                piece(stream, half)?;
                if *is_proper {
                    piece(stream, b"")?;
                }
                return Ok(*is_proper);
            }
            Self::Comments => {
                open(stream)?;
                stream.set_read_timeout(Some(Duration::from_millis(5)))?;
                while !is_gone(stream) {
                    piece(stream, b": still here\n\n")?;
                }
            }
            Self::Flood => {
                open(stream)?;
                piece(stream, b"data: ")?;
                let more = "x".repeat(64 << 10);
                loop {
                    piece(stream, more.as_bytes())?;
                }
            }
            Self::Status { code, head, body } => {
                let status = format!("{code} Scripted\r\n{}", head.trim_end());
                super::http::reply(stream, status.trim_end(), "application/json", body)?;
            }
            Self::Body { kind, body } => whole(stream, kind, body)?,
            Self::Pieces { bytes, line_end } => {
                open(stream)?;
                for part in events.replace('\n', line_end).as_bytes().chunks(*bytes) {
                    piece(stream, part)?;
                }
                piece(stream, b"")?;
            }
        }
        stream.flush()?;
        Ok(true)
    }
}

fn whole(stream: &mut TcpStream, kind: &str, body: &str) -> io::Result<()> {
    super::http::reply(stream, "200 OK", kind, body)
}

fn open(stream: &mut TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())
}

/// One chunk; an empty one is the last.
fn piece(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk)
}

/// Until the client hangs up.
fn wait(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(|_| ())
}

/// Whether the client has hung up; waits for that as long as the stream's time-out.
fn is_gone(stream: &mut TcpStream) -> bool {
    io::Read::read(stream, &mut [0]).is_ok_and(|count| count == 0)
}
