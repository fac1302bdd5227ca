use proptest::prelude::*;

use super::*;

fn requests() -> Requests {
    Requests::new(Dialled::only("a.org:80"), false)
}

fn passed(stream: &[u8]) -> Result<String, std::borrow::Cow<'static, str>> {
    let mut out = Vec::new();
    requests().take(stream, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn every_request_of_a_connection_is_looked_at() {
    let two = "POST /1 HTTP/1.1\r\nHost: a.org\r\nContent-Length: 4\r\n\r\nbodyGET /2 HTTP/1.1\r\nHost: A.org:80\r\n\r\n";
    assert_eq!(passed(two.as_bytes()).unwrap(), two);
    for second in [
        "GET /2 HTTP/1.1\r\nHost: b.org\r\n\r\n",
        "GET /2 HTTP/1.1\r\nHost: a.org:8080\r\n\r\n",
        "GET http://b.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
        "GET http://a.org/ HTTP/1.1\r\nHost: b.org\r\n\r\n",
        "CONNECT a.org:80 HTTP/1.1\r\nHost: a.org\r\n\r\n",
        "\0\0garbage\r\n\r\n",
    ] {
        let stream = two.replace("GET /2 HTTP/1.1\r\nHost: A.org:80\r\n\r\n", second);
        assert!(passed(stream.as_bytes()).is_err(), "{second:?}");
    }
}

#[test]
fn a_body_ends_where_it_says_and_nowhere_else() {
    let chunked = "POST / HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\n\r\n";
    let get = "GET /x HTTP/1.1\r\nHost: a.org\r\n\r\n";
    let stream = format!("{chunked}005;ext=\"1\"\r\nhello\r\n0\r\nHost: b.org\r\n\r\n{get}");
    assert_eq!(
        passed(stream.as_bytes()).unwrap(),
        format!("{chunked}5\r\nhello\r\n0\r\n\r\n{get}")
    );
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloGET / HTTP/1.1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "ffffffffffffffff1\r\n",
        "5 5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
    ] {
        assert!(passed(format!("{chunked}{body}").as_bytes()).is_err(), "{body:?}");
    }
}

#[test]
fn another_protocol_begins_when_the_server_says_so() {
    let ask =
        b"GET /ws HTTP/1.1\r\nHost: a.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let frame = b"\x81\x05hello";
    let evil = b"GET / HTTP/1.1\r\nHost: b.org\r\n\r\n";
    for (answer, after, passes) in [
        (&b"HTTP/1.1 101 Switching Protocols\r\n"[..], &frame[..], true),
        (b"HTTP/1.1 101 x\r\n", evil, true),
        (b"HTTP/1.1 200 OK\r\n", evil, false),
        (b"HTTP/1.1 1010 OK\r\n", evil, false),
    ] {
        let (mut requests, mut out) = (requests(), Vec::new());
        requests.take(ask, &mut out).unwrap();
        assert!(requests.waits());
        requests.take(after, &mut out).unwrap();
        assert_eq!(out, ask, "nothing before the server has spoken");
        let (one, two) = answer.split_at(4);
        requests.hear(one, &mut out).unwrap();
        assert!(requests.waits());
        let heard = requests.hear(two, &mut out);
        assert_eq!(heard.is_ok(), passes, "{answer:?}");
        assert_eq!(requests.is_open(), passes);
    }
}

#[test]
fn only_the_first_request_may_ask_for_another_protocol() {
    let (mut requests, mut out) = (requests(), Vec::new());
    let plain = b"GET /1 HTTP/1.1\r\nHost: a.org\r\n\r\n";
    let ask = b"GET /ws HTTP/1.1\r\nHost: a.org\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    requests.take(plain, &mut out).unwrap();
    requests.take(ask, &mut out).unwrap();
    requests.hear(b"HTTP/1.1 101 Switching\r\n", &mut out).unwrap();
    assert!(!requests.is_open() && !requests.waits());
    assert!(requests.take(b"GET / HTTP/1.1\r\nHost: b.org\r\n\r\n", &mut out).is_err());
}

#[test]
fn an_address_that_was_named_takes_every_host() {
    let mut requests = Requests::new(Dialled::only("192.0.2.1:80"), false);
    let ask = b"GET / HTTP/1.1\r\nHost: any.org\r\n\r\n";
    let mut out = Vec::new();
    requests.take(ask, &mut out).unwrap();
    assert_eq!(out, ask);
}

#[test]
fn a_proxy_takes_one_request_from_a_connection() {
    let mut requests = Requests::new(Dialled::only("a.org:80"), true);
    let mut out = Vec::new();
    let ask = b"GET http://a.org/x HTTP/1.1\r\nHost: a.org\r\n\r\n";
    requests.take(&[&ask[..], ask].concat(), &mut out).unwrap();
    assert_eq!(out, b"GET /x HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n");
}

proptest! {
    /// However a stream is cut, the same passes.
    #[test]
    fn cuts_do_not_matter(size in 1_usize..50) {
        let stream = b"POST /1 HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
            PUT /2 HTTP/1.1\r\nHost: a.org\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a.org\r\n\r\n";
        let (mut requests, mut out) = (requests(), Vec::new());
        for part in stream.chunks(size) {
            requests.take(part, &mut out).unwrap();
        }
        prop_assert_eq!(out, stream);
    }

    #[test]
    fn no_stream_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut requests, mut out) = (requests(), Vec::new());
        let mut stream = b"POST / HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        stream.extend(&bytes);
        requests.take(&stream, &mut out).ok();
        requests.hear(&bytes, &mut out).ok();
    }
}
