//! Log-ins by ssh: which key of the user's a host may be shown, and as whom.

use std::path::PathBuf;

use crate::{AbsPath, Host, HostName, HostPattern, Network};

/// Where ssh servers listen. Log-ins elsewhere are nobody's here.
pub const SSH_PORT: u16 = 22;

/// A log-in that nobody has to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRule {
    /// The host, by its whole name. It has to be allowed besides.
    pub host: HostName,
    /// As whom.
    pub user: String,
    /// The private key, or the public one of a key that the user's agent holds.
    pub key: AbsPath,
    /// A file and line; for a person.
    pub place: String,
}

/// What log-ins are made with, outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    /// Each host has one at most.
    pub rules: Vec<LoginRule>,
    /// The files that say which key a host has (sshd(8), `ssh_known_hosts`).
    pub known_hosts: Vec<PathBuf>,
    /// The socket of the user's agent.
    pub agent: Option<PathBuf>,
    /// The user's home, where keys are that have the usual names.
    pub home: Option<PathBuf>,
}

impl Logins {
    /// What is said of a host.
    pub fn rule(&self, host: &str) -> Option<&LoginRule> {
        self.rules.iter().find(|rule| rule.host.as_str() == host)
    }
}

impl Network {
    /// Whether a host can be reached where its ssh server is.
    pub fn reaches_ssh(&self) -> bool {
        let is_one = |rule: &crate::HostRule| rule.entry.ports.contain(SSH_PORT);
        self.asks || self.open.is_some() || self.allow.iter().any(is_one)
    }

    /// How programs log in to `host`, for a person, where that is what `port` is for.
    pub fn logins_at(&self, host: &Host, port: u16) -> Option<String> {
        let rule = self.logins.rule(&host.to_string());
        let said = rule.map(|LoginRule { user, key, place, .. }| {
            format!("a log-in as `{user}` is signed by `{}` ({place})", key.as_path().display())
        });
        let said = said.unwrap_or_else(|| "a log-in by ssh is asked about".to_owned());
        (port == SSH_PORT).then_some(said)
    }

    /// The hosts that are allowed there by their whole names, each once.
    pub fn ssh_hosts(&self) -> Vec<Host> {
        let named = self.allow.iter().filter_map(|rule| match &rule.entry.pattern {
            HostPattern::Name(name) => Some(name.clone()),
            HostPattern::Below(_) | HostPattern::Range(_) => None,
        });
        let named = named.chain(self.logins.rules.iter().map(|rule| rule.host.clone()));
        let mut hosts: Vec<Host> = Vec::new();
        for host in named.map(Host::Name) {
            if !hosts.contains(&host) && self.decide(&host, SSH_PORT).is_allowed() {
                hosts.push(host);
            }
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostRule;

    fn network(allow: &[&str], deny: &[&str]) -> Network {
        let rules = |entries: &[&str]| {
            let rule = |entry: &&str| HostRule { entry: entry.parse().unwrap(), place: "t".into() };
            entries.iter().map(rule).collect()
        };
        Network { allow: rules(allow), deny: rules(deny), ..Network::default() }
    }

    #[test]
    fn hosts_of_the_web_need_no_agent() {
        assert!(!network(&["a.org", "b.org:443", "10.0.0.5:5432"], &[]).reaches_ssh());
        for entry in ["a.org:22", "a.org:*", "*.a.org:22", "192.0.2.0/24:22"] {
            assert!(network(&[entry], &[]).reaches_ssh(), "{entry}");
        }
    }

    #[test]
    fn only_hosts_that_are_allowed_there_are_shown() {
        let mut network = network(
            &["a.org:22", "a.org:*", "b.org", "*.c.org:22", "evil.org:22"],
            &["evil.org:*"],
        );
        let rule = |host: &str| LoginRule {
            host: HostName::new(host).unwrap(),
            user: "git".to_owned(),
            key: AbsPath::new("/k").unwrap(),
            place: "t".to_owned(),
        };
        network.logins.rules = ["x.c.org", "b.org", "a.org"].map(rule).to_vec();
        let hosts: Vec<_> = network.ssh_hosts().iter().map(Host::to_string).collect();
        assert_eq!(hosts, ["a.org", "x.c.org"]);
        let said = |host: &str, port| network.logins_at(&Host::new(host).unwrap(), port);
        assert_eq!(said("a.org", 22).unwrap(), "a log-in as `git` is signed by `/k` (t)");
        assert_eq!(said("q.c.org", 22).unwrap(), "a log-in by ssh is asked about");
        assert_eq!(said("a.org", 443), None);
    }
}
