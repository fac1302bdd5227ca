use proptest::prelude::*;
use stockade_policy::{Host, RequestRule, RuleOwner};

use super::*;
use crate::dialled::Dialled;
use crate::requests::Requests;

const SECRET: &str = "ghp_0123456789abcdefghij";

fn network(header: Option<&str>) -> Network {
    let credential = Credential {
        variable: "TOKEN".to_owned(),
        source: KeySource::Variable("OUTSIDE".to_owned()),
        header: header.map(str::to_owned),
    };
    let rule = |credential, methods: &[&str]| RequestRule {
        entry: "a.org:*".parse().unwrap(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        paths: Vec::new(),
        upgrade: false,
        credential,
        owner: RuleOwner::User,
        place: "f:1".to_owned(),
    };
    let requests = vec![rule(Some(credential), &["GET", "POST"]), rule(None, &["PUT", "TRACE"])];
    Network { requests, ..Network::default() }
}

/// What arrives of a request in which `P` is the placeholder; by TLS or not.
fn arrives(request: &str, header: Option<&str>, is_encrypted: bool) -> String {
    let network = network(header);
    let credentials = Credentials::new(&network, |_| Ok(SECRET.to_owned())).unwrap();
    let placeholder = credentials.placeholders().next().unwrap().1.to_owned();
    let host = Host::new("a.org").unwrap();
    let port = if is_encrypted { 443 } else { 80 };
    let dialled = Dialled::new(host, port, Arc::new(network), Some(credentials));
    let mut requests =
        if is_encrypted { Requests::of_decrypted(dialled) } else { Requests::new(dialled, false) };
    let login = base64::encode(format!("me:{placeholder}").as_bytes());
    let turned = base64::encode(format!("{placeholder}:x").as_bytes());
    let request = request.replace("@LOGIN", &login).replace("@TURNED", &turned);
    let mut out = Vec::new();
    requests.take(request.replace("@P", &placeholder).as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap().replace(&placeholder, "@P").replace(&login, "@LOGIN")
}

fn carries(header: &str) -> bool {
    let arrived =
        arrives(&format!("GET / HTTP/1.1\r\nHost: a.org\r\n{header}\r\n\r\n"), None, true);
    let login = base64::encode(format!("me:{SECRET}").as_bytes());
    let turned = base64::encode(format!("{SECRET}:x").as_bytes());
    [SECRET, &login, &turned].iter().any(|form| arrived.contains(form))
}

#[test]
fn headers_for_secrets_carry_them() {
    for header in [
        "Authorization: Bearer @P",
        "authorization: token @P",
        "Authorization:   Bearer  @P ",
        "Authorization: @P",
        "Authorization: Basic @LOGIN",
        "Authorization: basic @TURNED",
        "X-Api-Key: @P",
        "PRIVATE-TOKEN: @P",
    ] {
        assert!(carries(header), "{header}");
    }
}

#[test]
fn what_is_no_header_for_a_secret_keeps_the_placeholder() {
    for header in [
        "X-Request-Id: @P",
        "User-Agent: @P",
        "Cookie: @P",
        "Referer: https://a.org/@P",
        "Authorization: Bearer @Px",
        "Authorization: Bearer x@P",
        "Authorization: Bearer @P, X: y",
        "Authorization: Digest username=\"@P\"",
        "Authorization: a b=@P @P",
        "Authorization: Bearer @LOGIN",
    ] {
        assert!(!carries(header), "{header}");
    }
}

#[test]
fn a_target_and_a_body_keep_it_too() {
    let request = "POST /@P?q=@P HTTP/1.1\r\nHost: a.org\r\nAuthorization: Bearer @P\r\n\
                   Content-Length: 82\r\n\r\n@P@P";
    let arrived = arrives(request, None, true);
    assert!(arrived.starts_with("POST /@P?q=@P HTTP/1.1\r\n"), "{arrived}");
    assert!(arrived.contains(&format!("Authorization: Bearer {SECRET}\r\n")), "{arrived}");
    assert!(arrived.ends_with("\r\n\r\n@P@P"), "{arrived}");
}

#[test]
fn only_what_its_rule_permits_carries_it_and_only_by_tls() {
    let request = |method: &str| {
        format!("{method} / HTTP/1.1\r\nHost: a.org\r\nAuthorization: Bearer @P\r\n\r\n")
    };
    assert!(arrives(&request("GET"), None, true).contains(SECRET));
    for (method, header, is_encrypted) in [
        ("PUT", None, true),
        ("TRACE", None, true),
        ("GET", Some("X-Own"), true),
        ("GET", None, false),
    ] {
        let arrived = arrives(&request(method), header, is_encrypted);
        assert!(arrived.contains("Bearer @P") && !arrived.contains(SECRET), "{method}: {arrived}");
    }
}

#[test]
fn each_request_of_a_connection_is_looked_at() {
    let one = |method: &str| {
        format!("{method} / HTTP/1.1\r\nHost: a.org\r\nAuthorization: Bearer @P\r\n\r\n")
    };
    let arrived = arrives(&[one("PUT"), one("GET"), one("PUT")].concat(), None, true);
    assert_eq!(arrived.matches(SECRET).count(), 1);
    assert!(arrived.starts_with("PUT") && arrived.ends_with("Bearer @P\r\n\r\n"), "{arrived}");
}

#[test]
fn answers_to_who_was_given_a_secret_are_asked_for_in_plain() {
    let request = |value: &str| {
        let lines = format!("Accept-Encoding: gzip\r\nAuthorization: Bearer {value}");
        arrives(&format!("GET / HTTP/1.1\r\nHost: a.org\r\n{lines}\r\n\r\n"), None, true)
    };
    assert!(request("@P").contains("Accept-Encoding: identity\r\n"));
    assert!(!request("@P").contains("gzip") && request("other").contains("gzip"));
}

#[test]
fn a_secret_that_cannot_be_had_stops_the_request_and_is_not_said() {
    for (given, said) in [
        (Err("the variable is not set".to_owned()), "the variable is not set"),
        (Ok(" ".to_owned()), "it is empty"),
        (Ok("sec\r\nret: x".to_owned()), "no header can hold it"),
    ] {
        let network = network(None);
        let credentials = Credentials::new(&network, move |_| given.clone()).unwrap();
        let placeholder = credentials.placeholders().next().unwrap().1.to_owned();
        let host = Host::new("a.org").unwrap();
        let dialled = Dialled::new(host, 443, Arc::new(network), Some(credentials));
        let (mut requests, mut out) = (Requests::of_decrypted(dialled), Vec::new());
        let request =
            format!("GET / HTTP/1.1\r\nHost: a.org\r\nAuthorization: Bearer {placeholder}\r\n\r\n");
        let why = requests.take(request.as_bytes(), &mut out).unwrap_err();
        assert_eq!(why, format!("what `TOKEN` stands for cannot be had: {said}"));
        assert!(out.is_empty() && !format!("{requests:?}").contains("sec"));
    }
}

#[test]
fn placeholders_differ_from_run_to_run_and_say_nothing() {
    let network = network(None);
    let one = || Credentials::new(&network, |_| Ok(SECRET.to_owned())).unwrap();
    let text = |credentials: &Credentials| credentials.placeholders().next().unwrap().1.to_owned();
    let (first, second) = (one(), one());
    assert_ne!(text(&first), text(&second));
    assert_eq!(text(&first).len(), 41);
    assert!(!format!("{first:?}").contains(SECRET));
}

fn echo() -> Echo {
    let mut echo = Echo::default();
    let sought = vec![SECRET.as_bytes().to_vec(), b"bWU6Z2hwXzAxMjM0NTY3ODlh".to_vec()];
    echo.look_for(&Lent { variable: "TOKEN".to_owned(), sought });
    echo
}

#[test]
fn an_answer_that_ends_like_a_secret_begins_is_whole() {
    let (mut echo, mut out) = (echo(), Vec::new());
    echo.take(b"an answer that ends in ghp_", &mut out).unwrap();
    assert_eq!(out, b"an answer that ends in ghp_");
    echo.take(b" ghp_0123456789abcdefghi", &mut out).unwrap();
    out.extend(echo.rest());
    assert!(out.ends_with(b"ghp_0123456789abcdefghi"));
}

#[test]
fn an_answer_in_single_bytes_is_given_once() {
    let (mut echo, mut out) = (echo(), Vec::new());
    let answer = b"ghp_0123456789abcdefghi? ghp_0123456789abcdefgh!";
    for byte in answer {
        echo.take(&[*byte], &mut out).unwrap();
    }
    out.extend(echo.rest());
    assert_eq!(out, answer);
}

proptest! {
    /// However an answer is cut, a secret in it ends it before more than half of it has passed;
    /// and one without it passes as it is.
    #[test]
    fn cuts_do_not_matter(before in "[ghp_0-9]{0,30}", after in "[a-z]{0,9}", size in 1_usize..40, has in any::<bool>()) {
        let answer = if has { format!("{before}{SECRET}{after}") } else { format!("{before}{after}") };
        let (mut echo, mut out) = (echo(), Vec::new());
        let ended = answer.as_bytes().chunks(size).try_for_each(|part| echo.take(part, &mut out));
        prop_assert_eq!(ended.is_err(), has);
        if has {
            prop_assert!(out.len() <= before.len() + SECRET.len() / 2);
        } else {
            out.extend(echo.rest());
            prop_assert_eq!(out, answer.into_bytes());
        }
    }
}
