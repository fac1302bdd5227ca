//! A proxy for programs that want one: HTTP (`CONNECT` and whole URLs) and SOCKS 5, on one port.
//!
//! Sources: RFC 9110 (9.3.6), RFC 1928.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use stockade_policy::{Host, HostName};

use crate::allowed::By;
use crate::dial::DialError;
use crate::event::Caller;
use crate::head::{Head, Read, Target};
use crate::service::Service;
use crate::watch::{Watch, forbidden};
use crate::{pump, service};

/// How long a program may take to say what it wants.
const PATIENCE: Duration = Duration::from_mins(1);
const SOCKS: u8 = 5;

/// Serves one connection of a program's to the proxy.
pub(crate) fn serve(service: &Service, stream: &TcpStream, caller: Option<&Caller>) {
    // A program that breaks off has nobody to be told.
    converse(service, stream, By::Proxy(caller)).ok();
}

fn converse(service: &Service, mut stream: &TcpStream, by: By<'_>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    if first == [SOCKS] {
        return socks(service, stream, by);
    }
    let mut said = first.to_vec();
    let mut buffer = [0; 4096];
    let (head, length) = loop {
        match Head::read(&said) {
            Read::Whole(head, length) => break (head, length),
            Read::Broken(why) => {
                pump::refuse(stream, &forbidden(&format!("the request was not understood: {why}")));
                return Ok(());
            }
            Read::Partial => {}
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        said.extend(buffer.iter().take(count));
    };
    let (host, port) = match &head.target {
        Target::Authority(host, port) => (host.clone(), *port),
        Target::Absolute((host, port), _) => (host.clone(), port.unwrap_or(80)),
        Target::Path(_) => {
            pump::refuse(
                stream,
                &forbidden("this is a proxy; ask it for `http://HOST/` or `CONNECT`"),
            );
            return Ok(());
        }
    };
    let reached = match service.reach(&host, port, by) {
        Ok(reached) => reached,
        Err(service::Refused::Decided(why)) => {
            pump::refuse(stream, &forbidden(&why));
            return Ok(());
        }
        Err(service::Refused::Failed(error)) => {
            pump::refuse(stream, &service::unreached(&host, port, &error));
            return Ok(());
        }
    };
    let dialled = service.dialled(host, port);
    if let Target::Authority(..) = head.target {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let rest = said.split_off(length);
        service.carry(stream, &reached, Watch::new(dialled), (&rest, by));
    } else {
        service.carry(stream, &reached, Watch::of_proxied_request(dialled), (&said, by));
    }
    Ok(())
}

// RFC 1928, 6: replies.
const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_NOT_SUPPORTED: u8 = 8;

fn socks(service: &Service, mut stream: &TcpStream, by: By<'_>) -> io::Result<()> {
    let mut count = [0];
    stream.read_exact(&mut count)?;
    let mut methods = vec![0; count[0].into()];
    stream.read_exact(&mut methods)?;
    if !methods.contains(&0) {
        return stream.write_all(&[SOCKS, 0xff]);
    }
    stream.write_all(&[SOCKS, 0])?;
    let mut request = [0; 4];
    stream.read_exact(&mut request)?;
    let answer =
        |mut stream: &TcpStream, code: u8| stream.write_all(&[SOCKS, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    let [SOCKS, command, 0, kind] = request else { return Ok(()) };
    let Some(host) = socks_host(stream, kind)? else {
        return answer(stream, ADDRESS_NOT_SUPPORTED);
    };
    let mut port = [0; 2];
    stream.read_exact(&mut port)?;
    let port = u16::from_be_bytes(port);
    if command != 1 {
        return answer(stream, COMMAND_NOT_SUPPORTED);
    }
    match service.reach(&host, port, by) {
        Ok(reached) => {
            answer(stream, SUCCEEDED)?;
            let watch = Watch::new(service.dialled(host, port));
            service.carry(stream, &reached, watch, (&[], by));
            Ok(())
        }
        Err(service::Refused::Decided(_)) => answer(stream, NOT_ALLOWED),
        Err(service::Refused::Failed(DialError::Unreachable(error)))
            if error.kind() == io::ErrorKind::ConnectionRefused =>
        {
            answer(stream, REFUSED)
        }
        Err(service::Refused::Failed(_)) => answer(stream, HOST_UNREACHABLE),
    }
}

/// Reads the address of a request; `None` when it is none that could be dialled.
fn socks_host(mut stream: &TcpStream, kind: u8) -> io::Result<Option<Host>> {
    Ok(match kind {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets)?;
            Some(Host::of(IpAddr::V4(Ipv4Addr::from(octets))))
        }
        3 => {
            let mut length = [0];
            stream.read_exact(&mut length)?;
            let mut name = vec![0; length[0].into()];
            stream.read_exact(&mut name)?;
            let text = String::from_utf8(name).ok();
            // An address as text is an address; a name is a name and nothing that looks like one.
            text.and_then(|text| match text.parse::<IpAddr>() {
                Ok(address) => Some(Host::of(address)),
                Err(_) => HostName::new(&text).ok().map(Host::Name),
            })
        }
        4 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets)?;
            Some(Host::of(IpAddr::V6(Ipv6Addr::from(octets))))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use stockade_policy::{HostRule, Network};

    use super::*;
    use crate::{Event, Gateway, Means, Upstream};

    /// What a server is sent after `CONNECT`, up to the end of a head; it answers, and hangs up.
    fn server(listener: &TcpListener) -> usize {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = || {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
            head.len()
        };
        head();
        head()
    }

    #[test]
    fn a_request_that_came_with_its_host_is_counted_as_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let far = std::thread::spawn(move || server(&listener));
        let allow = HostRule { entry: "example.org".parse().unwrap(), place: "t".into() };
        let network = Network { allow: vec![allow], ..Network::default() };
        let means = Means { upstream: Upstream::new(&upstream, ""), ..Means::default() };
        let told = Arc::<Mutex<Vec<Event>>>::default();
        let log = Arc::clone(&told);
        let gateway =
            Gateway::new(network, means, move |event| log.lock().unwrap().push(event.clone()));
        let (mut program, theirs) = UnixStream::pair().unwrap();
        gateway.serve_program(theirs);
        program
            .write_all(b"GET http://example.org/x HTTP/1.1\r\nHost: example.org\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        program.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
        drop(program);
        let arrived = far.join().unwrap() as u64;
        gateway.settle(Duration::from_mins(1));
        let told = told.lock().unwrap();
        let [Event::Opened { id, .. }, Event::Connection { id: ended, sent, received, .. }] =
            told.as_slice()
        else {
            panic!("{told:?}")
        };
        assert_eq!(Some(*id), *ended);
        assert_eq!((*sent, *received), (arrived, answer.len() as u64));
    }
}
