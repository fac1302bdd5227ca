//! Which requests a host may be asked: methods and paths, for hosts that a rule names.

use std::fmt;

use crate::{Credential, Host, HostEntry, Network};

/// A limit on what a host may be asked. It opens nothing: the host has to be allowed as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRule {
    /// For whom it holds.
    pub entry: HostEntry,
    /// Methods as they are sent; empty: any.
    pub methods: Vec<String>,
    /// Patterns of which a path has to match one; empty: any path.
    pub paths: Vec<PathPattern>,
    /// Whether a connection may go on in a protocol in which no requests can be seen.
    pub upgrade: bool,
    /// What the gateway adds to requests that this rule permits.
    pub credential: Option<Credential>,
    /// Who says it.
    pub owner: RuleOwner,
    /// A flag, or a file and line; for a person.
    pub place: String,
}

/// Who says what a host may be asked. Rules of one owner add up; those of another narrow what they
/// leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOwner {
    /// The user, by files and flags.
    User,
    /// A project's own file.
    Project,
    /// The machine's owner, by its requirements.
    Machine,
}

impl RuleOwner {
    const ALL: [Self; 3] = [Self::User, Self::Project, Self::Machine];
}

/// A path, in which `*` is any text within a segment and `**` any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// `None` when no path could match: it has to begin with `/` or `**`, and has no query.
    pub fn new(text: &str) -> Option<Self> {
        let is_clear = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_path = text.starts_with('/') || text.starts_with("**");
        (is_clear && is_path && !text.contains(['?', '#', '%', '\\']))
            .then(|| Self(text.to_owned()))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, path: &[u8]) -> bool {
        matches(self.0.as_bytes(), path)
    }
}

/// A place behind a star, and from where of the text it is tried.
type Retry = (usize, usize);

/// Tries each place for the last star only: linear in the text for each star.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go back to: behind a star, for the inner and for the outer kind.
    let (mut one, mut many): (Option<Retry>, Option<Retry>) = (None, None);
    loop {
        let rest = pattern.get(at..).unwrap_or_default();
        if rest.starts_with(b"**") {
            at += 2;
            (many, one) = (Some((at, from)), None);
            continue;
        }
        if rest.first() == Some(&b'*') {
            at += 1;
            one = Some((at, from));
            continue;
        }
        match (rest.first(), path.get(from)) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found => {
                (at, from) = (at + 1, from + 1);
                continue;
            }
            _ => {}
        }
        if let Some((after, start)) = one
            && path.get(start).is_some_and(|byte| *byte != b'/')
        {
            one = Some((after, start + 1));
            (at, from) = (after, start + 1);
        } else if let Some((after, start)) = many
            && start < path.len()
        {
            (many, one) = (Some((after, start + 1)), None);
            (at, from) = (after, start + 1);
        } else {
            return false;
        }
    }
}

/// One request, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path with the query.
    pub path: &'a str,
    /// Whether it asks to go on in another protocol.
    pub upgrades: bool,
}

/// Why a request is not passed on, and what would allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRefusal(String);

impl fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RequestRule {
    /// What it permits, and where it stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods =
            if self.methods.is_empty() { "anything".into() } else { self.methods.join(", ") };
        let paths: Vec<&str> = self.paths.iter().map(PathPattern::as_str).collect();
        let paths = if paths.is_empty() { "any path".into() } else { paths.join(", ") };
        write!(f, "{methods} of {paths}")?;
        if self.upgrade {
            f.write_str(" and other protocols")?;
        }
        if let Some(credential) = &self.credential {
            write!(f, " with what `{}` stands for", credential.variable)?;
        }
        write!(f, " ({})", self.place)
    }
}

impl Network {
    /// What `host` may be asked at `port`, for a person; `None` where nothing limits it.
    pub fn limits(&self, host: &Host, port: u16) -> Option<String> {
        let of = |owner: RuleOwner| {
            let rules = self.rules_for(host, port).filter(|rule| rule.owner == owner);
            rules.map(RequestRule::to_string).collect::<Vec<_>>().join(", ")
        };
        let parts: Vec<_> =
            RuleOwner::ALL.map(of).into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("; of that only "))
    }

    /// The rules that limit what `host` may be asked at `port`.
    fn rules_for(&self, host: &Host, port: u16) -> impl Iterator<Item = &RequestRule> {
        self.requests.iter().filter(move |rule| rule.entry.covers(host, port))
    }

    /// Whether requests to `host` at `port` are judged one by one.
    pub fn limits_requests(&self, host: &Host, port: u16) -> bool {
        self.rules_for(host, port).next().is_some()
    }

    /// Decides whether `host` may be asked this at `port`: each owner's rules for it have to permit
    /// it.
    ///
    /// # Errors
    ///
    /// Why not, as a line for a person.
    pub fn judge_request(
        &self,
        host: &Host,
        port: u16,
        request: &Request<'_>,
    ) -> Result<(), RequestRefusal> {
        for owner in RuleOwner::ALL {
            let of_layer =
                |rule: &&RequestRule| rule.owner == owner && rule.entry.covers(host, port);
            let rules: Vec<&RequestRule> = self.requests.iter().filter(of_layer).collect();
            let permits = |rule: &&RequestRule| rule.permits(request);
            if let Some(first) = rules.first()
                && !rules.iter().any(permits)
            {
                return Err(refusal(first, host, request));
            }
        }
        Ok(())
    }
}

impl RequestRule {
    pub(crate) fn permits(&self, request: &Request<'_>) -> bool {
        let is_listed = |method: &String| method == request.method;
        (self.methods.is_empty() || self.methods.iter().any(is_listed))
            && (self.upgrade || !request.upgrades)
            && (self.paths.is_empty() || self.permits_path(request.path))
    }

    /// Each way in which a server could read the path has to match the same pattern.
    fn permits_path(&self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let Some(decoded) = decoded(path) else { return false };
        let matches =
            |pattern: &PathPattern| pattern.matches(path.as_bytes()) && pattern.matches(&decoded);
        is_plain(&decoded) && self.paths.iter().any(matches)
    }
}

/// Whether no server would take `path` for another one.
fn is_plain(path: &[u8]) -> bool {
    let is_odd = |byte: &u8| byte.is_ascii_control() || matches!(byte, b'\\' | b'%' | b'#' | b'?');
    let is_dots = |segment: &[u8]| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    };
    !path.iter().any(is_odd)
        && !path.windows(2).any(|pair| pair == b"//")
        && !path.split(|byte| *byte == b'/').any(is_dots)
}

fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

fn refusal(rule: &RequestRule, host: &Host, request: &Request<'_>) -> RequestRefusal {
    let method = request.method;
    let path = request.path.split('?').next().unwrap_or_default();
    if request.upgrades && !rule.upgrade {
        return RequestRefusal(format!(
            "`{method} {path}` of {host} asks for another protocol, which the rule at {} does not \
             let pass (`upgrade = true` in it would)",
            rule.place
        ));
    }
    RequestRefusal(format!(
        "`{method} {path}` of {host} is not among what the rules at {} allow \
         (`[[network.rules]]` with `host = \"{host}\"`, `methods = [\"{method}\"]`, \
         `paths = [\"{path}\"]` would allow it)",
        rule.place
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(entry: &str, methods: &[&str], paths: &[&str]) -> RequestRule {
        RequestRule {
            entry: entry.parse().unwrap(),
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            paths: paths.iter().map(|path| PathPattern::new(path).unwrap()).collect(),
            upgrade: false,
            credential: None,
            owner: RuleOwner::User,
            place: "f:1".to_owned(),
        }
    }

    fn allows(rules: &[RequestRule], method: &str, path: &str) -> bool {
        let network = Network { requests: rules.to_vec(), ..Network::default() };
        let request = Request { method, path, upgrades: false };
        network.judge_request(&Host::new("a.org").unwrap(), 443, &request).is_ok()
    }

    #[test]
    fn methods_and_paths_limit_and_rules_add_up() {
        let rules = [
            rule("a.org:*", &["GET", "HEAD"], &[]),
            rule("a.org:*", &["POST"], &["/graphql", "/repos/*/issues"]),
        ];
        for (method, path) in [
            ("GET", "/any?x=1"),
            ("HEAD", "/"),
            ("POST", "/graphql?q"),
            ("POST", "/repos/a/issues"),
        ] {
            assert!(allows(&rules, method, path), "{method} {path}");
        }
        for (method, path) in [
            ("DELETE", "/graphql"),
            ("get", "/"),
            ("POST", "/"),
            ("POST", "/repos/a/b/issues"),
            ("POST", "/graphql/"),
        ] {
            assert!(!allows(&rules, method, path), "{method} {path}");
        }
        assert!(allows(&[rule("b.org:*", &["GET"], &[])], "POST", "/"), "another host");
    }

    #[test]
    fn no_spelling_of_a_path_leads_past_its_pattern() {
        let rules = [rule("a.org:*", &[], &["/open/**"])];
        for path in ["/open/x", "/open/%61", "/open/a%2fb", "/open/..a"] {
            assert!(allows(&rules, "GET", path), "{path}");
        }
        for path in [
            "/open/../shut",
            "/open/%2e%2e/shut",
            "/open/..;x/shut",
            "/open/..%2fshut",
            "/open/%2e%2e%2fshut",
            "/open/..\\shut",
            "/open/%5c..",
            "/open//x",
            "/open/%252e%252e/shut",
            "/open/%zz",
            "/open/%",
            "/open/%00",
            "/%6fpen/x",
            "/open%2fx",
            "/shut?/open/x",
            "*",
        ] {
            assert!(!allows(&rules, "GET", path), "{path}");
        }
    }

    #[test]
    fn a_projects_rules_narrow_and_never_widen() {
        let projects = |methods: &[&str]| RequestRule {
            owner: RuleOwner::Project,
            ..rule("a.org:*", methods, &[])
        };
        let rules = [rule("a.org:*", &["GET", "POST"], &[]), projects(&["GET", "DELETE"])];
        assert!(allows(&rules, "GET", "/"));
        assert!(!allows(&rules, "POST", "/") && !allows(&rules, "DELETE", "/"));
        assert!(allows(&[projects(&["GET"])], "GET", "/"));
        assert!(!allows(&[projects(&["GET"])], "POST", "/"));
    }

    #[test]
    fn another_protocol_needs_a_word_of_its_own() {
        let mut network =
            Network { requests: vec![rule("a.org:*", &[], &[])], ..Network::default() };
        let request = Request { method: "GET", path: "/", upgrades: true };
        let host = Host::new("a.org").unwrap();
        let refusal = network.judge_request(&host, 443, &request).unwrap_err();
        assert!(refusal.to_string().contains("upgrade = true"), "{refusal}");
        network.requests[0].upgrade = true;
        assert!(network.judge_request(&host, 443, &request).is_ok());
    }

    proptest! {
        /// The matcher agrees with the plain definition.
        #[test]
        fn stars_mean_what_they_say(pattern in "/[ab/*]{0,8}", path in "/[ab/]{0,8}") {
            fn plain(pattern: &[u8], path: &[u8]) -> bool {
                match pattern {
                    [] => path.is_empty(),
                    [b'*', b'*', rest @ ..] => (0..=path.len()).any(|n| plain(rest, &path[n..])),
                    [b'*', rest @ ..] => (0..=path.len())
                        .take_while(|n| !path[..*n].contains(&b'/'))
                        .any(|n| plain(rest, &path[n..])),
                    [byte, rest @ ..] => path.first() == Some(byte) && plain(rest, &path[1..]),
                }
            }
            prop_assert_eq!(
                matches(pattern.as_bytes(), path.as_bytes()),
                plain(pattern.as_bytes(), path.as_bytes())
            );
        }
    }
}
