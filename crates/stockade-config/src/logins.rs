//! `[[network.ssh]]`: by which key what runs inside logs in to a host.

use std::path::{Path, PathBuf};

use stockade_policy::{AbsPath, HostName, LoginRule, Logins};
use toml::de::DeValue;

use crate::Env;
use crate::diagnose::ConfigError;
use crate::locate::canonical;
use crate::schema::{Entry, Placed, Reader, Settings, Value};

/// As whom one logs in to hosts of repositories.
const USER: &str = "git";

/// Where the system keeps keys of hosts.
const SYSTEM: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
/// And the user, below home.
const OWN: [&str; 2] = [".ssh/known_hosts", ".ssh/known_hosts2"];

/// One of them as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoginText {
    host: HostName,
    key: String,
    user: String,
}

#[derive(Default)]
struct Parts {
    host: Option<HostName>,
    key: Option<String>,
    user: Option<String>,
}

impl Reader<'_> {
    pub(crate) fn logins(
        &mut self,
        value: &Value<'_>,
    ) -> Result<Vec<Placed<LoginText>>, ConfigError> {
        let DeValue::Array(logins) = value.get_ref() else {
            return Err(self.wrong_value(value, "tables `[[network.ssh]]`"));
        };
        let logins: Vec<_> =
            logins.iter().map(|login| self.login(login)).collect::<Result<_, _>>()?;
        let is_ignored = self.is_ignored(value, "say by which key to log in");
        Ok(if is_ignored { Vec::new() } else { logins })
    }

    fn login(&mut self, value: &Value<'_>) -> Result<Placed<LoginText>, ConfigError> {
        let mut parts = Parts::default();
        self.each("network.ssh", value, |reader, entry| reader.login_part(entry, &mut parts))?;
        let wrong = |label: &str| self.source.wrong(value.span(), "wrong log-in", label, None);
        let host = parts.host.ok_or_else(|| wrong("`host` is missing"))?;
        let key = parts.key.ok_or_else(|| wrong("`key` is missing"))?;
        let user = parts.user.unwrap_or_else(|| USER.to_owned());
        Ok(self.placed(value.span(), LoginText { host, key, user }))
    }

    fn login_part(
        &mut self,
        (key, value): Entry<'_>,
        parts: &mut Parts,
    ) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "host" => {
                let hint = "write the host's whole name, without a port";
                parts.host = Some(self.host(value, HostName::new, hint)?);
            }
            "key" => {
                let text = self.string(value)?;
                if text.is_empty() {
                    return Err(self.wrong_value(value, "the path of a key"));
                }
                parts.key = Some(text);
            }
            "user" => {
                let text = self.string(value)?;
                if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                    return Err(self.wrong_value(value, "the name of a user there"));
                }
                parts.user = Some(text);
            }
            _ => return Err(self.unknown(key, "network.ssh")),
        }
        Ok(())
    }
}

/// All of them, and with what they are made.
pub(crate) fn logins(env: &Env, settings: &Settings) -> Result<Logins, ConfigError> {
    let mut rules: Vec<LoginRule> = Vec::new();
    for Placed { value, place } in &settings.network_logins {
        if let Some(first) = rules.iter().find(|rule| rule.host == value.host) {
            let what = format!("{place}: `{}` has a key already, by {}", value.host, first.place);
            return Err(ConfigError::refused(what, "one host is shown one key: leave one out"));
        }
        let is_known = |path: &str| path == "~" || path.starts_with("~/") || path.starts_with('/');
        let path = env.resolve(Path::new(&value.key), Path::new("/"));
        let key = AbsPath::new(path).ok().filter(|_| is_known(&value.key));
        let key = key.ok_or_else(|| {
            let what = format!("{place}: `{}` is no path from `/` or `~`", value.key);
            ConfigError::refused(what, "write where the key is, as `~/.ssh/id_ed25519`")
        })?;
        let (host, user) = (value.host.clone(), value.user.clone());
        rules.push(LoginRule { host, user, key, place: place.clone() });
    }
    let own = env.home.iter().flat_map(|home| OWN.map(|name| home.join(name)));
    let known_hosts = own.chain(SYSTEM.map(PathBuf::from)).collect();
    let agent = env.vars.get(std::ffi::OsStr::new("SSH_AUTH_SOCK")).map(PathBuf::from);
    let agent = agent.filter(|socket| socket.is_absolute());
    Ok(Logins { rules, known_hosts, agent, home: env.home.clone() })
}

/// The files of those keys that are there: their private halves.
pub(crate) fn private_keys(env: &Env, settings: &Settings) -> Vec<PathBuf> {
    let keys = settings.network_logins.iter().map(|login| {
        let key = login.value.key.as_str();
        env.resolve(Path::new(key.strip_suffix(".pub").unwrap_or(key)), Path::new("/"))
    });
    keys.filter_map(|key| canonical(&key)).filter(|key| key.is_file()).collect()
}

/// One as `config show` has it.
pub(crate) fn shown(LoginText { host, key, user }: &LoginText) -> String {
    let [host, key, user] =
        [host.as_str(), key, user].map(|text| toml::Value::from(text).to_string());
    format!("{{ host = {host}, key = {key}, user = {user} }}")
}
