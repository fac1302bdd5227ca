use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::event::{Timespec, poll};
use stockade_policy::{
    Credential, HostEntry, KeySource, Network, PathPattern, RequestRule, RuleOwner,
};

use super::*;
use crate::{Credentials, Event, Gateway, Means};

/// In which a slow server does nothing.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

const KEY: &str = "sk-the-users-own-key";

/// A server on the loopback that writes down what it is sent, and answers every head.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                thread::spawn(move || Self::serve(stream, &log, answer));
            }
        });
        Self { port, heard }
    }

    fn serve(mut stream: TcpStream, log: &Mutex<Vec<u8>>, answer: &[u8]) {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            log.lock().unwrap().extend(&buffer[..count]);
            if buffer[..count].ends_with(b"\r\n\r\n") {
                stream.write_all(answer).unwrap();
            }
        }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway to `server` as an agent's model, and what stands for the user's key.
fn gateway(server: &Server, has_key: bool) -> (Gateway, Endpoint, String) {
    let endpoint = Endpoint::new(&format!("http://127.0.0.1:{}/v1/", server.port)).unwrap();
    assert_eq!(endpoint.path(), "/v1");
    let credential = Credential {
        variable: "API_KEY".to_owned(),
        source: KeySource::Variable("API_KEY".to_owned()),
        header: None,
    };
    let rule = RequestRule {
        entry: HostEntry::exactly(endpoint.host(), endpoint.port()),
        methods: vec!["POST".to_owned()],
        paths: vec![PathPattern::new("/v1/responses").unwrap()],
        upgrade: false,
        credential: has_key.then_some(credential),
        owner: RuleOwner::User,
        place: "test".to_owned(),
    };
    let network = Network { requests: vec![rule], ..Network::default() };
    let credentials = Credentials::new(&network, |_| Ok(KEY.to_owned())).unwrap();
    let placeholder = credentials.placeholders().next().map(|(_, it)| it.to_owned());
    let credentials = has_key.then_some(credentials);
    let means = Means { credentials, ..Means::default() };
    (Gateway::new(network, means, |_: &Event| ()), endpoint, placeholder.unwrap_or_default())
}

/// What a program is answered that says `request`.
fn asked((gateway, endpoint): (&Gateway, &Endpoint), request: &[u8]) -> String {
    let (mut program, theirs) = UnixStream::pair().unwrap();
    gateway.serve_endpoint(theirs, endpoint);
    program.write_all(request).unwrap();
    program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    program.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    program.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_becomes_one_to_the_endpoint_with_the_users_key() {
    let server = Server::start(ANSWER);
    let (gateway, endpoint, held) = gateway(&server, true);
    assert!(!held.is_empty() && held != KEY);
    let request = format!(
        "POST /v1/responses?beta=true HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nAuthorization: Bearer {held}\r\n\
         Cookie: a=b\r\nX-Forwarded-Host: evil.org\r\nOpenAI-Beta: x\r\n\r\n"
    );
    let answer = asked((&gateway, &endpoint), request.as_bytes());
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    let heard = server.heard();
    assert!(heard.starts_with("POST /v1/responses?beta=true HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("Authorization: Bearer {KEY}\r\n")), "{heard}");
    assert!(heard.contains(&format!("Host: 127.0.0.1:{}\r\n", server.port)), "{heard}");
    assert!(heard.contains("OpenAI-Beta: x\r\n") && !heard.contains(&held), "{heard}");
    for left in ["4000", "Cookie", "evil"] {
        assert!(!heard.contains(left), "{left}: {heard}");
    }
}

/// Threat model, V9: "An agent's program in a machine reaches the calls of its model while it works, with
/// the user's key or not at all, and nothing else; the key is in no machine."
#[test]
fn nothing_but_the_models_calls_with_the_users_key_passes() {
    let server = Server::start(ANSWER);
    let (gateway, endpoint, held) = gateway(&server, true);
    let with = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let own = format!("Authorization: Bearer {held}\r\n");
    let attacks = [
        // Other calls of the same server.
        with("GET /v1/files", &own),
        with("DELETE /v1/responses", &own),
        with("TRACE /v1/responses", &own),
        with("POST /v1/responses/../files", &own),
        with("POST /v1/responses/%2e%2e/files", &own),
        with("POST /v1//responses", &own),
        with("POST /v1/responses;x", &own),
        with("POST /v2/responses", &own),
        with("POST /v1/responses", &format!("{own}X-HTTP-Method-Override: DELETE\r\n")),
        with("POST /v1/responses", &format!("{own}X-Original-URL: /v1/files\r\n")),
        // Other servers.
        with("POST http://evil.org/v1/responses", &own),
        format!("CONNECT evil.org:443 HTTP/1.1\r\nHost: evil.org:443\r\n{own}\r\n"),
        "\x05\x01\x00".to_owned(),
        "\x16\x03\x01\x00\x05hello".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        // Another protocol, in which nothing could be seen.
        with("POST /v1/responses", &format!("{own}Connection: Upgrade\r\nUpgrade: websocket\r\n")),
        with("POST /v1/responses", &format!("{own}Connection: Upgrade\r\nUpgrade: h2c\r\n")),
        // Somebody else's log-in: what is said would go to them.
        with("POST /v1/responses", "Authorization: Bearer sk-of-the-attacker\r\n"),
        with("POST /v1/responses", &format!("{own}X-Api-Key: sk-of-the-attacker\r\n")),
        with("POST /v1/responses", &format!("{own}{}", "Authorization: Bearer sk-other\r\n")),
        with("POST /v1/responses?key=sk-of-the-attacker", &own),
        with("POST /v1/responses?alt=x%26key=y", &own),
        with("POST /v1/responses?access_token=x", &own),
        with("POST /v1/responses", ""),
        // A second request in the body of the first.
        format!(
            "POST /v1/responses HTTP/1.1\r\nHost: x\r\n{own}Content-Length: 0\r\nTransfer-Encoding: \
             chunked\r\n\r\nGET /v1/files HTTP/1.1\r\nHost: x\r\n{own}\r\n"
        ),
    ];
    for attack in &attacks {
        let answer = asked((&gateway, &endpoint), attack.as_bytes());
        let is_refused =
            answer.starts_with("HTTP/1.1 403 Refused by Stockade") || answer.is_empty();
        assert!(is_refused, "{attack}: {answer}");
    }
    assert_eq!(server.heard(), "");
    // The second of two is looked at as well.
    let first = with("POST /v1/responses", &own);
    let both = first.clone() + &with("GET /v1/files", &own);
    let answer = asked((&gateway, &endpoint), both.as_bytes());
    assert!(answer.contains("403 Refused by Stockade"), "{answer}");
    assert!(!server.heard().contains("/v1/files"), "{}", server.heard());
    let control = asked((&gateway, &endpoint), first.as_bytes());
    assert!(control.ends_with("ok"), "{control}");
}

#[test]
fn without_a_key_no_log_in_passes_and_a_server_does_not_give_one_back() {
    let server = Server::start(ANSWER);
    let (without, endpoint, _) = gateway(&server, false);
    let request = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\n\r\n";
    assert!(asked((&without, &endpoint), request).ends_with("ok"));
    assert!(!server.heard().contains("sk-x"), "{}", server.heard());
    let echo = Server::start(b"HTTP/1.1 200 OK\r\n\r\nyou are sk-the-users-own-key, welcome");
    let (with, endpoint, held) = gateway(&echo, true);
    let request = format!("POST /v1/responses HTTP/1.1\r\nHost: x\r\nx-api-key: {held}\r\n\r\n");
    let answer = asked((&with, &endpoint), request.as_bytes());
    assert!(echo.heard().contains(KEY) && !answer.contains(KEY), "{answer}");
}

#[test]
fn a_large_prompt_to_a_slow_server_arrives_whole() {
    const SIZE: usize = 6 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let slow = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let (mut all, mut buffer) = (0, vec![0; 30_000]);
        while all < SIZE {
            if all % 11 == 0 {
                poll(&mut [], Some(&MOMENT)).unwrap();
            }
            all += stream.read(&mut buffer).unwrap();
        }
        stream.write_all(ANSWER).unwrap();
    });
    let server = Server { port, heard: Arc::default() };
    let (gateway, endpoint, _) = gateway(&server, false);
    let head = format!("POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + SIZE, b'a');
    assert!(asked((&gateway, &endpoint), &request).ends_with("ok"));
    slow.join().unwrap();
}

#[test]
fn a_url_is_one_server() {
    let of = |url: &str| {
        let it = Endpoint::new(url)?;
        Some(format!("{} {} {} {}", it.host(), it.port(), it.authority(), it.path()))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of("https://api.example.org/v1"), some("api.example.org 443 api.example.org /v1"));
    assert_eq!(of("https://a.org:8443"), some("a.org 8443 a.org:8443 "));
    assert_eq!(of("http://localhost:11434/v1/"), some("localhost 11434 localhost:11434 /v1"));
    assert_eq!(of("http://[::1]:80/x"), some("[::1] 80 [::1]:80 /x"));
    for url in ["http://example.org", "https://a.org?x", "https://u@a.org", "ftp://a.org"] {
        assert_eq!(of(url), None, "{url}");
    }
}
