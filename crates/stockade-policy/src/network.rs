//! What a sandboxed command may reach beyond its own loopback, and why.

use std::fmt;
use std::net::IpAddr;

use crate::{AddressClass, AddressRange, Host, HostEntry, Logins, RequestRule, address_class};

/// The network of one thread. Without any entry there is the sandbox's own loopback only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// TCP ports of the host's loopback that are reachable at the same port on 127.0.0.1
    /// and `::1` inside; sorted, without duplicates, never 0.
    pub host_ports: Vec<u16>,
    /// Ports of the sandbox's loopback that are reachable on the host's.
    pub published: Vec<Published>,
    /// What may be reached by the gateway.
    pub allow: Vec<HostRule>,
    /// What may not, whatever `allow` and `is_open` say. An entry without a port is about all.
    pub deny: Vec<HostRule>,
    /// What hosts of these may be asked, where requests are judged.
    pub requests: Vec<RequestRule>,
    /// Certificates (PEM) that programs inside trust beside the system's, when requests are judged.
    pub authorities: String,
    /// Private ranges that an allowed name may lead to.
    pub private: Vec<AddressRange>,
    /// Where it says that every public host is allowed.
    pub open: Option<String>,
    /// The proxy by which this machine reaches others.
    pub upstream: Option<UpstreamText>,
    /// What log-ins by ssh are made with.
    pub logins: Logins,
    /// Whether a person is asked about hosts of no entry, so that a way to them has to be there.
    pub asks: bool,
    /// Whether programs inside have an agent for log-ins by ssh.
    pub logs_in: bool,
}

/// A proxy as the user has it in the environment or in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamText {
    /// Its URL, which may hold a log-in.
    pub url: String,
    /// Hosts that are dialled without it, as in `NO_PROXY`.
    pub except: String,
}

impl fmt::Debug for UpstreamText {
    /// Without the URL, for the sake of the log-in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamText").finish_non_exhaustive()
    }
}

/// Where a proxy listens inside, for programs that want one: at the synthetic address that also
/// answers for names, 198.18.0.1.
pub const PROXY_PORT: u16 = 3128;

/// One port that the host's loopback leads inside by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// On 127.0.0.1 of the host.
    pub outside: u16,
    /// On the loopback inside.
    pub inside: u16,
}

/// An entry and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// What it says.
    pub entry: HostEntry,
    /// A flag, or a file and line; for a person.
    pub place: String,
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.entry, self.place)
    }
}

/// What is decided about a connection, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The entry that decides, if one does.
    pub rule: Option<&'a HostRule>,
    /// Why.
    pub reason: NetworkReason<'a>,
}

/// Why a connection is possible, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkReason<'a> {
    /// An entry allows it.
    Listed,
    /// Every public host is allowed, and this says so.
    Open(&'a str),
    /// An entry denies it.
    Denied,
    /// An entry allows the host, at other ports.
    OtherPort,
    /// Nothing is said about the host.
    NotListed,
    /// The address is of a class that has to be named.
    Class(AddressClass),
}

impl NetworkReason<'_> {
    /// Whether the connection is possible.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Listed | Self::Open(_))
    }
}

impl Decision<'_> {
    /// Whether the connection is possible.
    pub fn is_allowed(&self) -> bool {
        self.reason.is_allowed()
    }
}

impl fmt::Display for Decision<'_> {
    /// A fragment that fits after the host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason, self.rule) {
            (NetworkReason::Listed, Some(rule)) => write!(f, "allowed by {rule}"),
            (NetworkReason::Listed, None) => f.write_str("allowed"),
            (NetworkReason::Open(place), _) => write!(f, "allowed by `network_access` ({place})"),
            (NetworkReason::Denied, Some(rule)) => write!(f, "denied by {rule}"),
            (NetworkReason::Denied, None) => f.write_str("denied"),
            (NetworkReason::OtherPort, Some(rule)) => {
                write!(f, "not allowed at this port; {rule} allows others")
            }
            (NetworkReason::NotListed | NetworkReason::OtherPort, _) => f.write_str("not allowed"),
            (NetworkReason::Class(class), _) => {
                write!(f, "not allowed: {class} addresses have to be named")
            }
        }
    }
}

impl Network {
    /// The word that `STOCKADE_NETWORK` carries inside: `none`, `hosts` or `open`.
    pub fn word(&self) -> &'static str {
        if self.open.is_some() {
            "open"
        } else if self.allow.is_empty() && self.host_ports.is_empty() {
            "none"
        } else {
            "hosts"
        }
    }

    /// Whether anything beyond this machine can be reached.
    pub fn has_hosts(&self) -> bool {
        self.open.is_some() || !self.allow.is_empty()
    }

    /// Whether there is to be a way out: to hosts that are allowed, or may come to be.
    pub fn leads_out(&self) -> bool {
        self.has_hosts() || self.asks
    }

    /// Decides whether a program may connect to `host` at `port`. Denying wins.
    ///
    /// For a name, whether its addresses may be dialled is the question of [`Network::leads`].
    pub fn decide(&self, host: &Host, port: u16) -> Decision<'_> {
        let by = |rule, reason| Decision { rule: Some(rule), reason };
        let without = |reason| Decision { rule: None, reason };
        if let Some(rule) = self.denied(host, port) {
            return by(rule, NetworkReason::Denied);
        }
        if let Some(rule) = self.allow.iter().find(|rule| rule.entry.covers(host, port)) {
            return by(rule, NetworkReason::Listed);
        }
        if let Host::Address(address) = host
            && let Some(class) = address_class(*address)
        {
            return without(NetworkReason::Class(class));
        }
        if let (Some(place), false) = (&self.open, is_this_machine(host)) {
            return without(NetworkReason::Open(place));
        }
        match self.allow.iter().find(|rule| rule.entry.names(host)) {
            Some(rule) => by(rule, NetworkReason::OtherPort),
            None => without(NetworkReason::NotListed),
        }
    }

    /// Decides whether a name that may be reached at `port` may lead to `address`, of which
    /// `is_own` says that it is one of this machine's.
    pub fn leads(&self, address: IpAddr, port: u16, is_own: bool) -> Decision<'_> {
        let host = Host::of(address);
        let without = |reason| Decision { rule: None, reason };
        if let Some(rule) = self.denied(&host, port) {
            return Decision { rule: Some(rule), reason: NetworkReason::Denied };
        }
        if let Some(rule) = self.allow.iter().find(|rule| rule.entry.covers(&host, port)) {
            return Decision { rule: Some(rule), reason: NetworkReason::Listed };
        }
        if self.private.iter().any(|range| range.contains(address)) {
            return without(NetworkReason::Listed);
        }
        match address_class(address) {
            Some(class) => without(NetworkReason::Class(class)),
            None if is_own => without(NetworkReason::Class(AddressClass::Own)),
            None => without(NetworkReason::Listed),
        }
    }

    /// Whether a program may learn an address for `host`: it can reach some port of it.
    pub fn knows(&self, host: &Host) -> bool {
        let is_denied = |rule: &HostRule| {
            rule.entry.names(host) && matches!(rule.entry.ports, crate::Ports::All)
        };
        let is_named = self.allow.iter().any(|rule| rule.entry.names(host));
        !is_this_machine(host)
            && !self.deny.iter().any(is_denied)
            && (is_named || self.open.is_some())
    }

    /// The entry that denies `host` at `port`, if one does.
    pub fn denied(&self, host: &Host, port: u16) -> Option<&HostRule> {
        self.deny.iter().find(|rule| rule.entry.covers(host, port))
    }
}

fn is_this_machine(host: &Host) -> bool {
    matches!(host, Host::Name(name) if name.is_localhost())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(entries: &[&str]) -> Vec<HostRule> {
        let rule = |entry: &&str| HostRule { entry: entry.parse().unwrap(), place: "test".into() };
        entries.iter().map(rule).collect()
    }

    fn network(allow: &[&str], deny: &[&str]) -> Network {
        Network { allow: rules(allow), deny: rules(deny), ..Network::default() }
    }

    fn allowed(network: &Network, host: &str, port: u16) -> bool {
        network.decide(&Host::new(host).unwrap(), port).is_allowed()
    }

    #[test]
    fn denying_wins_and_an_empty_list_is_nothing() {
        assert!(!allowed(&Network::default(), "example.org", 443));
        let network = network(
            &["*.example.org", "10.0.0.0/8:5432"],
            &["bad.example.org:443", "10.9.0.0/16:*"],
        );
        assert!(allowed(&network, "good.example.org", 443));
        assert!(!allowed(&network, "bad.example.org", 443));
        assert!(allowed(&network, "bad.example.org", 80));
        assert!(allowed(&network, "10.0.0.1", 5432) && !allowed(&network, "10.0.0.1", 443));
        assert!(!allowed(&network, "10.9.0.1", 5432));
    }

    #[test]
    fn open_means_public_hosts() {
        let mut network = network(&["10.0.0.5:80"], &["evil.example:*"]);
        network.open = Some("here".to_owned());
        for host in ["example.org", "203.0.113.7", "[2606:4700::1]"] {
            assert!(allowed(&network, host, 22), "{host}");
        }
        for host in [
            "localhost",
            "a.localhost",
            "10.0.0.6",
            "127.0.0.1",
            "169.254.169.254",
            "[::1]",
            "evil.example",
        ] {
            assert!(!allowed(&network, host, 80), "{host}");
        }
        assert!(allowed(&network, "10.0.0.5", 80));
        assert_eq!(network.word(), "open");
    }

    #[test]
    fn a_name_leads_to_public_addresses_unless_one_is_named() {
        let mut network = network(&["example.org", "10.0.0.5:443"], &["203.0.113.66:*"]);
        network.private = vec!["192.168.0.0/16".parse().unwrap()];
        let leads =
            |address: &str, own| network.leads(address.parse().unwrap(), 443, own).is_allowed();
        for address in ["203.0.113.7", "10.0.0.5", "192.168.3.3", "::ffff:203.0.113.7"] {
            assert!(leads(address, false), "{address}");
        }
        for address in [
            "203.0.113.66",
            "::ffff:203.0.113.66",
            "10.0.0.6",
            "127.0.0.1",
            "169.254.169.254",
            "::ffff:10.0.0.6",
            "64:ff9b::a00:6",
        ] {
            assert!(!leads(address, false), "{address}");
        }
        assert!(!leads("203.0.113.7", true), "an address of this machine");
    }

    #[test]
    fn a_decision_says_why() {
        let network = network(&["example.org"], &["evil.org:*"]);
        let said = |host: &str, port| network.decide(&Host::new(host).unwrap(), port).to_string();
        assert_eq!(said("example.org", 443), "allowed by `example.org` (test)");
        assert_eq!(
            said("example.org", 22),
            "not allowed at this port; `example.org` (test) allows others"
        );
        assert_eq!(said("evil.org", 443), "denied by `evil.org:*` (test)");
        assert_eq!(said("other.org", 443), "not allowed");
        assert_eq!(said("10.0.0.1", 80), "not allowed: private addresses have to be named");
    }

    proptest! {
        /// What is denied is not allowed, whatever else is said.
        #[test]
        fn deny_wins(name in "[a-c]\\.(org|net)", port in 1_u16..500, open in any::<bool>()) {
            let mut network = network(&[&format!("{name}:*"), "a.org", "*.org:*"], &[&format!("{name}:{port}")]);
            network.open = open.then(|| "test".to_owned());
            prop_assert!(!allowed(&network, &name, port));
        }

        /// A name of no entry is known to nobody and reaches nothing.
        #[test]
        fn what_nobody_named_is_closed(name in "[a-z]{1,6}\\.[a-z]{2,4}", port in 1_u16..) {
            let network = network(&["only.example.org:*"], &[]);
            let host = Host::new(&name).unwrap();
            prop_assert!(!network.knows(&host));
            prop_assert!(!network.decide(&host, port).is_allowed());
        }
    }
}
