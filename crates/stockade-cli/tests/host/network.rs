//! What is said and recorded of the network, without one: refusals need none.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Child;

use super::record::{records, stockade};
use super::{Home, text};

fn options<'a>(options: &[&'a str]) -> Vec<&'a OsStr> {
    options.iter().copied().map(OsStr::new).collect()
}

#[test]
fn what_was_refused_is_said_and_recorded_with_what_would_allow_it() {
    let home = Home::new();
    let events = home.path("events.jsonl");
    let mut all = options(&["--allow-host", "only.example.org", "--json-file"]);
    all.push(events.as_os_str());
    let script = "getent hosts refused.example.org; getent hosts refused.example.org; \
                  python3 -c 'import socket; s = socket.create_connection((\"198.18.0.1\", 3128)); \
                  s.sendall(b\"CONNECT refused.example.org:443 HTTP/1.1\\r\\nHost: x.org\\r\\n\\r\\n\"); s.recv(9)'; \
                  getent hosts only.example.org | grep -q '198.18\\|fd53'";
    let output = home.command().args(all).args(["--", "sh", "-c", script]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let line = "stockade: blocked: refused.example.org (`--allow-host refused.example.org` would \
                allow it)\n";
    assert!(said.contains(line), "{said}");
    let events = fs::read_to_string(events).unwrap();
    let is_refusal = |line: &&str| {
        line.contains(r#""type":"connection""#) && line.contains(r#""decision":"deny""#)
    };
    let refusals: Vec<&str> = events.lines().filter(is_refusal).collect();
    assert!(!refusals.is_empty(), "{events}");
    assert!(refusals.iter().all(|line| line.contains(r#""host":"refused.example.org""#)));
    // Who looks a name up is not known; who connected to the proxy is.
    let by_proxy = refusals.iter().find(|line| line.contains(r#""port":443"#)).unwrap();
    assert!(by_proxy.contains(r#""process":"#) && by_proxy.contains("/python3"), "{by_proxy}");
    let quiet = home.run(&options(&["-q", "--allow-host", "a.example.org"]), script);
    assert!(!text(&quiet).contains("blocked"), "{}", text(&quiet));
}

#[test]
fn a_proxy_says_why_and_the_command_goes_on() {
    let home = Home::new();
    let script = r#"test "$STOCKADE_NETWORK" = hosts && exec python3 -c '
import os, socket
proxy = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
s = socket.create_connection(proxy)
s.sendall(b"CONNECT other.example.org:8443 HTTP/1.1\r\nHost: x.org\r\n\r\n")
print(s.recv(999).decode())'"#;
    let said = text(&home.run(&options(&["--allow-host", "a.example.org"]), script));
    let line = "HTTP/1.1 403 Refused by Stockade: other.example.org:8443 is not allowed \
                (`--allow-host other.example.org:8443` would allow it)";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_port_that_is_taken_stops_the_start() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = home
        .command()
        .args(["--publish", &format!("{port}:80"), "--", "touch", "ran"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains(&format!("cannot publish port {port}")), "{}", text(&output));
    assert!(!home.path("work/ran").exists());
    let output =
        home.command().args(["-s", "danger-full-access", "--publish", "80", "true"]).output();
    assert_eq!(output.unwrap().status.code(), Some(125));
}

#[test]
fn a_proxy_that_cannot_be_dialled_by_stops_the_start() {
    let home = Home::new();
    let run = |arguments: &[&str]| {
        let mut command = home.command();
        command.env("ALL_PROXY", "socks5://me:secret@127.0.0.1:1").args(arguments);
        command.args(["--", "true"]).output().unwrap()
    };
    let refused = run(&["--allow-host", "a.example.org"]);
    assert_eq!(refused.status.code(), Some(125), "{}", text(&refused));
    assert!(text(&refused).contains("upstream=none") && !text(&refused).contains("secret"));
    assert!(
        run(&["--allow-host", "a.example.org", "-c", "network.upstream=none"]).status.success()
    );
    assert!(run(&[]).status.success(), "a run without hosts dials nobody");
}

#[test]
fn a_connection_is_recorded_with_the_program_that_made_it() {
    let home = Home::new();
    let events = home.path("events.jsonl");
    // To nobody: 192.0.2.1 is no host's (RFC 5737), and is not listed.
    let attempt = |host: &str| {
        format!(
            "import os, socket, threading\nprint(\"at\", os.getpid())\n\
             t = threading.Thread(target=lambda: socket.create_connection((\"{host}\", 8443), 5))\n\
             t.start(); t.join()"
        )
    };
    let script = format!(
        "cp $(readlink -f $(command -v python3)) ./other-python && \
         ./other-python -c '{}'; python3 -c '{}'",
        attempt("192.0.2.1"),
        attempt("only.example.org"),
    );
    let mut all = options(&["--allow-host", "only.example.org:443", "--json-file"]);
    all.push(events.as_os_str());
    let output = home.command().args(all).args(["--", "sh", "-c", &script]).output().unwrap();
    let said = text(&output);
    let events = fs::read_to_string(events).unwrap();
    let of = |host: &str| {
        let is_it = |line: &&str| line.contains(&format!(r#""host":"{host}","port":8443"#));
        events.lines().find(is_it).unwrap_or_else(|| panic!("{host}: {said} {events}"))
    };
    let (copied, installed) = (of("192.0.2.1"), of("only.example.org"));
    assert!(copied.contains("/work/other-python\""), "{copied}");
    assert!(installed.contains(r#""command":"/usr/"#), "{installed}");
    // The process, not the thread of it that connected.
    let numbers: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("at ")).collect();
    for (line, number) in [copied, installed].iter().zip(&numbers) {
        assert!(line.contains(&format!(r#""process":{number},"#)), "{number}: {line}");
    }
    assert_eq!(numbers.len(), 2, "{said}");
}

#[test]
fn a_name_that_is_refused_is_recorded_with_the_program_that_asked_for_it() {
    let home = Home::new();
    let events = home.path("events.jsonl");
    // By the C library, and by a connection, as a resolver does whose answer was cut.
    let script = "import os, socket, struct\nprint(\"at\", os.getpid())\n\
                  try: socket.getaddrinfo(\"by-datagram.example.org\", 80)\n\
                  except OSError: pass\n\
                  server = [l.split()[1] for l in open(\"/etc/resolv.conf\") if l.startswith(\"nameserver\")][0]\n\
                  name = b\"\".join(bytes([len(l)]) + l for l in (b\"by-stream\", b\"example\", b\"org\", b\"\"))\n\
                  ask = struct.pack(\">6H\", 7, 256, 1, 0, 0, 0) + name + struct.pack(\">2H\", 1, 1)\n\
                  with socket.create_connection((server, 53), 5) as s:\n\
                  \x20   s.sendall(struct.pack(\">H\", len(ask)) + ask); s.recv(99)";
    let mut all = options(&["--allow-host", "only.example.org:443", "--json-file"]);
    all.push(events.as_os_str());
    let output = home.command().args(all).args(["--", "python3", "-c", script]).output().unwrap();
    let said = text(&output);
    let events = fs::read_to_string(events).unwrap();
    let number = said.lines().find_map(|line| line.strip_prefix("at ")).unwrap();
    for name in ["by-datagram", "by-stream"] {
        let is_it = |line: &&str| line.contains(&format!(r#""host":"{name}.example.org""#));
        let found = events.lines().find(is_it);
        let line = found.unwrap_or_else(|| panic!("{name}: {said} {events}"));
        assert!(line.contains(&format!(r#""process":{number},"#)), "{number}: {line}");
        assert!(line.contains(r#""command":"/usr/"#), "{line}");
    }
}

/// A proxy that answers one `CONNECT` and the `x` that follows, and does `then` while the connection is
/// open.
fn connect_and(run: Child, proxy: &TcpListener, then: impl FnOnce(&mut Child)) -> Child {
    let mut run = run;
    let (mut stream, _) = proxy.accept().unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    then(&mut run);
    run
}

#[test]
fn a_connection_of_a_run_that_is_killed_is_in_its_record() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("network.upstream=http://{}", proxy.local_addr().unwrap());
    let script = "import socket; s = socket.create_connection((\"a.example.org\", 8443)); \
                  s.send(b\"x\"); s.recv(1)";
    let record = |kill: bool| {
        let home = Home::new();
        let words = ["-q", "--allow-host", "a.example.org:8443", "-c", &upstream, "--"];
        let run = home.command().args(words).args(["python3", "-c", script]).spawn().unwrap();
        let mut run = connect_and(run, &proxy, |run| {
            if kill {
                run.kill().unwrap();
            }
        });
        assert_eq!(run.wait().unwrap().success(), !kill);
        let [record] = records(&home).try_into().unwrap();
        let lines = fs::read_to_string(record).unwrap();
        let of = |kind: &str| {
            let kind = format!(r#""type":"{kind}","id":"1","host":"a.example.org","port":8443"#);
            lines.lines().filter(|line| line.contains(&kind)).map(str::to_owned).collect()
        };
        let (began, ended): (Vec<String>, Vec<String>) =
            (of("connection.opened"), of("connection"));
        assert_eq!((began.len(), ended.len()), (1, usize::from(!kill)), "{lines}");
        assert!(began[0].contains(r#""process":"#) && began[0].contains("/python3"), "{lines}");
        assert!(began[0].contains(r#""rule":"allowed by"#), "{lines}");
        let verified = stockade(&home, &["log", "--verify"]);
        assert!(verified.status.success(), "{}", text(&verified));
        text(&stockade(&home, &["log"]))
    };
    assert!(record(true).contains("connection 1 to a.example.org:8443 by /usr/"));
    let whole = record(false);
    assert!(whole.contains(" begins\n") && whole.contains(": allow\n"), "{whole}");
}

#[test]
fn a_datagram_to_an_allowed_host_fails_as_it_is_sent() {
    let home = Home::new();
    let script = r#"import errno, socket
for address in {i[4][0] for i in socket.getaddrinfo("a.example.org", 443)} | {"203.0.113.7"}:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(("", 0))
    for send in (lambda: s.sendto(b"quic", (address, 443)), lambda: s.sendmsg([b"quic"], [], 0, (address, 443)),
                 lambda: s.connect((address, 443))):
        try: send(); print("sent to", address)
        except OSError as error: print(address, errno.errorcode[error.errno])
"#;
    let words = ["-q", "--allow-host", "a.example.org", "--allow-host", "203.0.113.0/24:443", "--"];
    let output = home.command().args(words).args(["python3", "-c", script]).output().unwrap();
    let said = text(&output);
    let refused = said.lines().filter(|line| line.ends_with(" ENETUNREACH")).count();
    assert!(refused >= 6 && !said.contains("sent to") && !said.contains("ECONN"), "{said}");
}
