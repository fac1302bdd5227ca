//! Where programs inside ask for names: by datagrams, and over connections.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::dns;
use crate::service::{Service, accept, spawn};

/// Longest question for a name; in bytes.
const QUESTION_MAX: usize = 4096;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Answers questions for names, one datagram at a time, to whom `answers` says.
pub(crate) fn serve(
    service: &Arc<Service>,
    socket: UdpSocket,
    answers: impl Fn(SocketAddr) -> bool + Send + 'static,
) -> io::Result<()> {
    let service = Arc::clone(service);
    spawn("names", move || {
        let mut packet = [0; QUESTION_MAX];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut packet) else {
                // The kernel's word that an answer found nobody.
                continue;
            };
            if !answers(from) {
                continue;
            }
            let asked = packet.get(..length).unwrap_or_default();
            if let Some(answer) =
                dns::answer(asked, |name| service.known(name, (true, from.port())))
            {
                // A program that is gone needs no answer.
                socket.send_to(&answer, from).ok();
            }
        }
    })
}

/// The same over connections.
pub(crate) fn serve_by_stream(service: &Arc<Service>, listener: TcpListener) -> io::Result<()> {
    let served = Arc::clone(service);
    accept("names", service, listener, move |stream| {
        // A program that breaks off has nobody to be told.
        by_stream(&served, stream).ok();
    })
}

/// Answers those that come over one connection, to its end.
pub(crate) fn by_stream(service: &Service, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let from = stream.peer_addr()?.port();
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > QUESTION_MAX {
            return Ok(());
        }
        let mut packet = vec![0; length];
        stream.read_exact(&mut packet)?;
        let Some(answer) = dns::answer(&packet, |name| service.known(name, (false, from))) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}
