//! What the fuzz targets in `fuzz/` hold of the parsers here. Built for these alone.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use stockade_policy::Host;

use crate::dialled::Dialled;
use crate::dns::{self, Known};
use crate::head::{Head, Read};
use crate::hello::{self, Hello};
use crate::login::KnownHosts;
use crate::requests::Requests;

/// A question for a name: the answer is to that question, and small.
///
/// # Panics
///
/// When it is not.
pub fn names(packet: &[u8]) {
    let at = Known::At(Ipv4Addr::new(198, 18, 0, 1), Ipv6Addr::LOCALHOST);
    for known in [at, Known::No, Known::Full] {
        let mut asked = None;
        let answer = dns::answer(packet, |name| {
            asked = Some(name.as_str().to_owned());
            known
        });
        let Some(answer) = answer else { continue };
        assert_eq!(answer.get(..2), packet.get(..2), "not to this question");
        assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0), "no answer");
        assert!(answer.len() <= packet.len() + 64, "it grows: {}", answer.len());
        if known == Known::No && asked.is_some() {
            assert_eq!(answer.get(3).map(|flags| flags & 15), Some(3), "a refused name exists");
        }
    }
}

/// A stream of requests: however it is cut, the server gets the same; and what it gets, read once
/// more, is what was judged.
///
/// # Panics
///
/// When that is not so.
pub fn requests(stream: &[u8], cut: usize) {
    let whole = passed(&[stream]);
    let (first, second) = stream.split_at(cut.min(stream.len()));
    assert_eq!(whole, passed(&[first, second]), "cut at {cut}");
    let (sent, _) = whole;
    let again = passed(&[&sent]);
    assert_eq!(again.0, sent, "read anew it is another");
    assert_eq!(again.1, None, "what was sent is refused");
}

fn passed(parts: &[&[u8]]) -> (Vec<u8>, Option<Cow<'static, str>>) {
    let host = Host::new("a.org").expect("a host");
    let mut requests = Requests::new(Dialled::new(host, 80, Arc::default(), None), false);
    let mut out = Vec::new();
    for part in parts {
        if let Err(why) = requests.take(part, &mut out) {
            return (out, Some(why));
        }
    }
    (out, None)
}

/// The head of one request: written and read again, it is the same.
///
/// # Panics
///
/// When it is not.
pub fn head(stream: &[u8]) {
    let Read::Whole(head, length) = Head::read(stream) else { return };
    assert!(length <= stream.len(), "longer than the stream");
    let mut written = Vec::new();
    head.write(&mut written, false);
    if let Read::Whole(again, taken) = Head::read(&written) {
        assert_eq!(taken, written.len(), "something follows");
        assert_eq!((&again.method, &again.host, again.body), (&head.method, &head.host, head.body));
    } else {
        // `CONNECT`, whose target is not passed on.
        assert_eq!(head.method, "CONNECT", "what was written is no request");
    }
}

/// A hello: however many records it is cut into, and whenever it is whole, it names the same.
///
/// # Panics
///
/// When that is not so.
pub fn hello(stream: &[u8]) {
    let whole = hello::read(stream, false);
    let _ = hello::asks_again(stream);
    if let Hello::Named(_, length) = &whole {
        assert!(*length <= stream.len(), "longer than the stream");
        assert_eq!(hello::read(stream.get(..*length).unwrap_or_default(), false), whole);
        assert!(hello::is_tls(stream), "a hello that is not TLS");
        for end in [1, length / 2, length - 1] {
            let part = stream.get(..end).unwrap_or_default();
            assert_eq!(hello::read(part, false), Hello::Partial, "named before it is whole");
        }
    }
}

/// A message to the ssh agent: what is understood is the same when it is written again.
///
/// # Panics
///
/// When that is not so.
pub fn agent(message: &[u8]) {
    crate::login::agent(message);
}

/// A file of keys of hosts: what is shown of it knows no host more.
///
/// # Panics
///
/// When it does.
pub fn known_hosts(text: &str) {
    let hosts = ["a.org", "b.a.org", "192.0.2.1"].map(|host| Host::new(host).expect("a host"));
    let (mut known, mut shown) = (KnownHosts::default(), KnownHosts::default());
    known.read(text);
    let only = known.only(&hosts);
    shown.read(&only);
    assert_eq!(shown.only(&hosts), only, "other keys");
}
