//! A secret that the gateway adds to requests, so that no program inside has it.

use crate::{Host, Network, Request, RequestRule, RuleOwner};

/// Where a secret comes from. It is read when it is needed, by whoever is outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A variable of the user's environment.
    Variable(String),
    /// What a program prints, run without a shell; never empty.
    Program(Vec<String>),
    /// An entry of the user's keyring: names and values of its attributes in turn, as
    /// `secret-tool` takes them (secret-tool(1)); never empty.
    Keyring(Vec<String>),
}

/// Headers in which servers expect a secret; others stay as they are, since servers repeat them
/// (`X-Request-Id`) or write them down (`User-Agent`). In small letters.
const HEADERS: [&str; 7] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "private-token",
    "job-token",
];

/// Whether servers take a secret from a header of this name.
pub fn is_carrier(name: &str) -> bool {
    HEADERS.iter().any(|header| header.eq_ignore_ascii_case(name))
}

/// A secret, and how requests carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The variable that holds the placeholder inside.
    pub variable: String,
    /// Where the secret is.
    pub source: KeySource,
    /// The one header that may carry it; `None`: those in which servers expect one.
    pub header: Option<String>,
}

impl Credential {
    /// Whether a header of this name may carry it.
    pub fn is_carried_by(&self, name: &str) -> bool {
        match &self.header {
            Some(header) => header.eq_ignore_ascii_case(name),
            None => is_carrier(name),
        }
    }
}

impl Network {
    /// The credentials of all hosts; one that several rules name comes several times.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.requests.iter().filter_map(|rule| rule.credential.as_ref())
    }

    /// The credentials that a request to `host` at `port` may carry, if it is permitted at all:
    /// those of rules that permit it themselves. A project's rules give none.
    pub fn credentials_for<'a>(
        &'a self,
        (host, port): (&'a Host, u16),
        request: &'a Request<'_>,
    ) -> impl Iterator<Item = &'a Credential> {
        // The answer to such a request is the request.
        let is_repeated = request.method.eq_ignore_ascii_case("TRACE");
        let gives = move |rule: &&RequestRule| {
            !is_repeated && rule.owner == RuleOwner::User && rule.entry.covers(host, port)
        };
        let rules = self.requests.iter().filter(gives);
        rules.filter(|rule| rule.permits(request)).filter_map(|rule| rule.credential.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathPattern;

    fn rule(entry: &str, method: &str, path: &str, variable: &str) -> RequestRule {
        RequestRule {
            entry: entry.parse().unwrap(),
            methods: vec![method.to_owned()],
            paths: vec![PathPattern::new(path).unwrap()],
            upgrade: false,
            credential: Some(Credential {
                variable: variable.to_owned(),
                source: KeySource::Variable("S".to_owned()),
                header: None,
            }),
            owner: RuleOwner::User,
            place: "f:1".to_owned(),
        }
    }

    #[test]
    fn a_credential_is_for_what_its_own_rule_permits() {
        let projects =
            RequestRule { owner: RuleOwner::Project, ..rule("a.org:*", "GET", "/**", "P") };
        let network = Network {
            requests: vec![
                rule("a.org:*", "GET", "/read/**", "R"),
                rule("a.org:443", "POST", "/write/**", "W"),
                rule("a.org:*", "TRACE", "/**", "T"),
                projects,
            ],
            ..Network::default()
        };
        let given = |host: &str, port, method, path| {
            let host = Host::new(host).unwrap();
            let request = Request { method, path, upgrades: false };
            let found = network.credentials_for((&host, port), &request);
            found.map(|credential| credential.variable.clone()).collect::<Vec<_>>()
        };
        assert_eq!(given("a.org", 443, "GET", "/read/x"), ["R"]);
        assert_eq!(given("a.org", 443, "POST", "/write/x"), ["W"]);
        for (host, port, method, path) in [
            ("a.org", 443, "POST", "/read/x"),
            ("a.org", 8443, "POST", "/write/x"),
            ("a.org", 443, "GET", "/read/../write/x"),
            ("a.org", 443, "TRACE", "/x"),
            ("b.org", 443, "GET", "/read/x"),
        ] {
            assert!(given(host, port, method, path).is_empty(), "{host}:{port} {method} {path}");
        }
    }

    #[test]
    fn headers_that_servers_repeat_carry_none() {
        let mut credential = rule("a.org:*", "GET", "/**", "R").credential.unwrap();
        assert!(credential.is_carried_by("Authorization") && credential.is_carried_by("X-API-Key"));
        for name in ["X-Request-Id", "User-Agent", "Cookie", "Host", "Referer"] {
            assert!(!credential.is_carried_by(name), "{name}");
        }
        credential.header = Some("X-Own".to_owned());
        assert!(credential.is_carried_by("x-own") && !credential.is_carried_by("Authorization"));
    }
}
