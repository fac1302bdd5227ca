//! `[[network.rules]]`: what hosts may be asked, and whom programs trust when that is looked at.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use stockade_policy::environment::{BUNDLE_VARIABLES, BUNDLES};
use stockade_policy::{
    Credential, HostEntry, HostPattern, KeySource, Mode, PathPattern, Policy, Ports, RequestRule,
    RuleOwner,
};
use toml::de::DeValue;

use crate::diagnose::ConfigError;
use crate::model::is_variable;
use crate::schema::{Entry, Reader, Value};

/// Larger than any bundle of certificates; in bytes.
const BUNDLE_BYTES: u64 = 4 << 20;

/// One rule while it is read.
#[derive(Default)]
struct Parts {
    host: Option<HostEntry>,
    methods: Option<Vec<String>>,
    paths: Option<Vec<PathPattern>>,
    upgrade: bool,
    credential: Option<KeySource>,
    /// One is named; a project's is left out.
    has_credential: bool,
    variable: Option<String>,
    header: Option<String>,
}

/// Headers that say how a request is read, and to whom it is.
const STRUCTURAL: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

impl Reader<'_> {
    pub(crate) fn request_rules(
        &mut self,
        value: &Value<'_>,
    ) -> Result<Vec<RequestRule>, ConfigError> {
        let DeValue::Array(rules) = value.get_ref() else {
            return Err(self.wrong_value(value, "tables `[[network.rules]]`"));
        };
        rules.iter().map(|rule| self.request_rule(rule)).collect()
    }

    fn request_rule(&mut self, value: &Value<'_>) -> Result<RequestRule, ConfigError> {
        let mut parts = Parts::default();
        self.each("network.rules", value, |reader, entry| reader.request_part(entry, &mut parts))?;
        let wrong = |label: &str| self.source.wrong(value.span(), "wrong rule", label, None);
        let Some(entry) = parts.host.take() else {
            return Err(wrong("`host` is missing"));
        };
        if parts.methods.is_none() && parts.paths.is_none() && !parts.has_credential {
            return Err(wrong("it limits nothing: `methods` or `paths` is missing"));
        }
        let credential = self.credential(value, &mut parts, &entry.pattern)?;
        // As with `deny`: a limit that names no port is about all of them.
        let ports = match entry.ports {
            Ports::Web => Ports::All,
            ports @ (Ports::One(_) | Ports::All) => ports,
        };
        Ok(RequestRule {
            entry: HostEntry { pattern: entry.pattern, ports },
            methods: parts.methods.unwrap_or_default(),
            paths: parts.paths.unwrap_or_default(),
            upgrade: parts.upgrade,
            credential,
            owner: RuleOwner::User,
            place: self.placed(value.span(), ()).place,
        })
    }

    fn request_part(
        &mut self,
        (key, value): Entry<'_>,
        parts: &mut Parts,
    ) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "host" => {
                let hint = "write `HOST`, `HOST:PORT` or `*.HOST`";
                parts.host = Some(self.host(value, str::parse, hint)?);
            }
            "methods" => {
                parts.methods = Some(self.each_text(value, "a method, as `GET`", method)?);
            }
            "paths" => {
                let expected = "a path, as `/v1/**`: `*` within a segment, `**` across them";
                parts.paths = Some(self.each_text(value, expected, PathPattern::new)?);
            }
            "upgrade" => parts.upgrade = self.boolean(value)?,
            "credential" => {
                let source = self.key_source(value)?;
                let is_ignored = self.is_ignored(value, "say where a credential goes");
                parts.credential = (!is_ignored).then_some(source);
                parts.has_credential = true;
            }
            "variable" => {
                let name = self.string(value)?;
                let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
                if !is_variable(&name) || !name.starts_with(is_first) {
                    return Err(self.wrong_value(value, "the name of a variable"));
                }
                parts.variable = Some(name);
            }
            "header" => {
                let name = self.string(value)?;
                let is_one = |name: &str| {
                    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                    let is_structural = STRUCTURAL.iter().any(|it| name.eq_ignore_ascii_case(it));
                    !name.is_empty() && name.chars().all(is_part) && !is_structural
                };
                if !is_one(&name) {
                    return Err(self.wrong_value(value, "a header for a secret, as `X-Api-Key`"));
                }
                parts.header = Some(name);
            }
            _ => return Err(self.unknown(key, "network.rules")),
        }
        Ok(())
    }

    fn credential(
        &self,
        rule: &Value<'_>,
        parts: &mut Parts,
        host: &HostPattern,
    ) -> Result<Option<Credential>, ConfigError> {
        let wrong = |label: &str| Err(self.source.wrong(rule.span(), "wrong rule", label, None));
        let Some(source) = parts.credential.take() else {
            if !parts.has_credential && (parts.variable.is_some() || parts.header.is_some()) {
                return wrong("`variable` and `header` are about a `credential`, which is missing");
            }
            return Ok(None);
        };
        let is_one = match host {
            HostPattern::Name(_) => true,
            HostPattern::Below(_) => false,
            HostPattern::Range(range) => range.is_one(),
        };
        if !is_one {
            return wrong("a credential is for one host: name it whole");
        }
        let variable = match (parts.variable.take(), &source) {
            (Some(variable), _) => variable,
            (None, KeySource::Variable(name)) => name.clone(),
            (None, KeySource::Program(_) | KeySource::Keyring(_)) => {
                return wrong("`variable` is missing: what holds the placeholder inside");
            }
        };
        Ok(Some(Credential { variable, source, header: parts.header.take() }))
    }

    fn each_text<T>(
        &self,
        value: &Value<'_>,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of strings"));
        };
        if array.is_empty() {
            return Err(self.wrong_value(value, "at least one; `network.deny` closes a host"));
        }
        let item = |item: &Value<'_>| {
            read(&self.string(item)?).ok_or_else(|| self.wrong_value(item, expected))
        };
        array.iter().map(item).collect()
    }
}

fn method(text: &str) -> Option<String> {
    let is_method = !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    (is_method && text != "CONNECT").then(|| text.to_owned())
}

/// Refuses one variable for two secrets.
pub(crate) fn check_credentials(rules: &[RequestRule]) -> Result<(), ConfigError> {
    let mut known: BTreeMap<&str, (&KeySource, &str)> = BTreeMap::new();
    for rule in rules {
        let Some(Credential { variable, source, .. }) = &rule.credential else { continue };
        let (first, place) = known.entry(variable).or_insert((source, &rule.place));
        if *first != source {
            let what = format!(
                "{}: `{variable}` stands for another credential already, that of {place}",
                rule.place
            );
            return Err(ConfigError::refused(what, "`variable` gives each a name of its own"));
        }
    }
    Ok(())
}

/// Takes out what would bring a secret in that the gateway is to add: its variable, and each that
/// has the same text in it. [`stockade_policy::Credential::variable`] is set when a run starts.
pub(crate) fn withhold(
    policy: &Policy,
    outside: &BTreeMap<OsString, OsString>,
    environment: &mut BTreeMap<OsString, OsString>,
) {
    for credential in policy.network.credentials() {
        environment.remove(OsStr::new(&credential.variable));
        let KeySource::Variable(name) = &credential.source else { continue };
        environment.remove(OsStr::new(name));
        let secret = outside.get(OsStr::new(name)).map(|value| value.as_bytes().trim_ascii());
        // A shorter one is a word that may stand anywhere.
        let Some(secret) = secret.filter(|secret| secret.len() >= 8) else { continue };
        let has_it =
            |value: &OsStr| value.as_bytes().windows(secret.len()).any(|part| part == secret);
        environment.retain(|_, value| !has_it(value));
    }
}

fn words_shown(words: &[String]) -> String {
    let words = words.iter().map(|word| toml::Value::from(word.as_str()));
    toml::Value::from(words.collect::<Vec<_>>()).to_string()
}

/// Rules of somebody else than the user: they narrow.
pub(crate) fn owned_by(
    owner: RuleOwner,
    rules: Vec<RequestRule>,
) -> impl Iterator<Item = RequestRule> {
    rules.into_iter().map(move |rule| RequestRule { owner, ..rule })
}

/// A rule as `config show` has it.
pub(crate) fn shown(rule: &RequestRule) -> String {
    let list = |texts: Vec<&str>| {
        let texts = texts.iter().map(|text| toml::Value::from(*text).to_string());
        format!("[{}]", texts.collect::<Vec<_>>().join(", "))
    };
    let mut parts = vec![format!("host = \"{}\"", rule.entry)];
    if !rule.methods.is_empty() {
        let methods = rule.methods.iter().map(String::as_str).collect();
        parts.push(format!("methods = {}", list(methods)));
    }
    if !rule.paths.is_empty() {
        let paths = rule.paths.iter().map(PathPattern::as_str).collect();
        parts.push(format!("paths = {}", list(paths)));
    }
    if rule.upgrade {
        parts.push("upgrade = true".to_owned());
    }
    if let Some(Credential { variable, source, header }) = &rule.credential {
        let (kind, from) = match source {
            KeySource::Variable(name) => ("env", toml::Value::from(name.as_str()).to_string()),
            KeySource::Program(words) => ("command", words_shown(words)),
            KeySource::Keyring(words) => ("keyring", words_shown(words)),
        };
        parts.push(format!("credential = {{ {kind} = {from} }}, variable = \"{variable}\""));
        parts.extend(header.iter().map(|header| format!("header = \"{header}\"")));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// Leads programs to one file of certificates, when requests are judged: the system's, over which
/// one is put that holds the gateway's as well, and those of the user's own files.
pub(crate) fn trust(
    policy: &mut Policy,
    environment: &mut BTreeMap<OsString, OsString>,
) -> Result<(), ConfigError> {
    if policy.mode == Mode::DangerFullAccess || policy.network.requests.is_empty() {
        return Ok(());
    }
    let Some(bundle) = BUNDLES.iter().find(|path| Path::new(path).is_file()) else {
        if !policy.network.has_hosts() {
            return Ok(());
        }
        let what = "`[[network.rules]]`: this system has no file of certificates to trust";
        return Err(ConfigError::refused(what, "install the package `ca-certificates`"));
    };
    let is_bundle = |name: &OsStr| BUNDLE_VARIABLES.iter().any(|variable| name == *variable);
    for (_, file) in environment.iter().filter(|(name, _)| is_bundle(name)) {
        if !file.is_empty() && Path::new(file) != Path::new(bundle) {
            policy.network.authorities.push_str(&certificates(Path::new(file))?);
        }
    }
    environment.extend(BUNDLE_VARIABLES.iter().map(|name| (name.into(), bundle.into())));
    Ok(())
}

fn certificates(file: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let unreadable = |error| ConfigError::Unreadable(file.to_owned(), error);
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(BUNDLE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    text.push('\n');
    Ok(text)
}
