//! What an approval opens beyond the policy.

use crate::{AbsPath, HostRule, Policy, preset};

/// What one approval opens, and nothing more: it never removes a wall, it moves a few of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Folders and files that may be written, as [`Policy::writable`] has them.
    pub writable: Vec<AbsPath>,
    /// What stays read-only inside them.
    pub protected: Vec<AbsPath>,
    /// Ports of the host's loopback.
    pub ports: Vec<u16>,
    /// Hosts, as they are written in a list of hosts: entries and presets.
    pub hosts: Vec<String>,
}

impl Grant {
    /// Whether it opens nothing.
    pub fn is_empty(&self) -> bool {
        let Self { writable, protected: _, ports, hosts } = self;
        writable.is_empty() && ports.is_empty() && hosts.is_empty()
    }

    /// Opens what `other` opens as well.
    pub fn add(&mut self, other: &Self) {
        let new = |path: &&AbsPath, known: &[AbsPath]| !known.contains(path);
        let writable = other.writable.iter().filter(|path| new(path, &self.writable));
        let writable: Vec<AbsPath> = writable.cloned().collect();
        let protected = other.protected.iter().filter(|path| new(path, &self.protected));
        let protected: Vec<AbsPath> = protected.cloned().collect();
        self.writable.extend(writable);
        self.protected.extend(protected);
        self.ports.extend(&other.ports);
        self.ports.sort_unstable();
        self.ports.dedup();
        let hosts = other.hosts.iter().filter(|host| !self.hosts.contains(host));
        let hosts: Vec<String> = hosts.cloned().collect();
        self.hosts.extend(hosts);
    }
}

impl Policy {
    /// The policy with what `grant` opens, and nothing more: what is hidden stays hidden, what is
    /// protected stays protected.
    #[must_use]
    pub fn widened(&self, grant: &Grant) -> Self {
        let mut policy = self.clone();
        policy.writable.extend(grant.writable.iter().cloned());
        policy.protected.extend(grant.protected.iter().cloned());
        // Control names at the top of a folder that is opened are protected as in one that was added.
        policy.tops.extend(grant.writable.iter().cloned());
        policy.network.host_ports.extend(&grant.ports);
        for host in &grant.hosts {
            // What means nothing was refused where it was written, and opens nothing.
            let entries = preset(host).or_else(|| host.parse().ok().map(|entry| vec![entry]));
            let place = "an approval".to_owned();
            let rule = |entry| HostRule { entry, place: place.clone() };
            policy.network.allow.extend(entries.into_iter().flatten().map(rule));
        }
        // The host has these ports once; they lead to the place that is not widened.
        policy.network.published.clear();
        let by_bytes = |path: &AbsPath| path.as_path().as_os_str().to_owned();
        for paths in [&mut policy.writable, &mut policy.protected] {
            paths.sort_by_key(by_bytes);
            paths.dedup();
        }
        policy.network.host_ports.sort_unstable();
        policy.network.host_ports.dedup();
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AbsPath {
        AbsPath::new(text).unwrap()
    }

    #[test]
    fn a_host_that_is_granted_is_opened_and_denying_still_wins() {
        let policy = Policy {
            mode: crate::Mode::WorkspaceWrite,
            workspace: path("/w"),
            home: None,
            writable: Vec::new(),
            protected: Vec::new(),
            hidden: Vec::new(),
            readable: Vec::new(),
            caches: Vec::new(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: crate::Network::default(),
            limits: crate::Limits::for_memory(1 << 30),
        };
        let hosts = ["git-hosts", "example.org:8443", "0x7f.1"].map(str::to_owned).to_vec();
        let mut widened = policy.widened(&Grant { hosts, ..Grant::default() });
        let is_open = |policy: &Policy, host: &str, port| {
            policy.network.decide(&crate::Host::new(host).unwrap(), port).is_allowed()
        };
        assert!(is_open(&widened, "github.com", 22) && is_open(&widened, "example.org", 8443));
        assert!(!is_open(&widened, "example.org", 443) && !is_open(&policy, "github.com", 22));
        widened.network.deny = widened.network.allow.clone();
        assert!(!is_open(&widened, "github.com", 22));
    }

    #[test]
    fn two_grants_open_what_each_opens_once() {
        let mut one = Grant { writable: vec![path("/a")], ports: vec![2], ..Grant::default() };
        let other = Grant {
            writable: vec![path("/a"), path("/b")],
            ports: vec![1, 2],
            hosts: vec!["h.example".to_owned()],
            ..Grant::default()
        };
        one.add(&other);
        assert_eq!(one.writable, [path("/a"), path("/b")]);
        assert_eq!((one.ports.as_slice(), one.hosts.len()), ([1, 2].as_slice(), 1));
        assert!(!one.is_empty() && Grant::default().is_empty());
    }

    #[test]
    fn a_policy_is_widened_by_what_is_granted_and_stays_closed_elsewhere() {
        let policy = Policy {
            mode: crate::Mode::WorkspaceWrite,
            workspace: path("/work"),
            home: None,
            writable: vec![path("/work")],
            protected: vec![path("/work/.env")],
            hidden: vec![path("/home/.ssh")],
            readable: Vec::new(),
            caches: Vec::new(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: crate::Network { host_ports: vec![80], ..crate::Network::default() },
            limits: crate::Limits::for_memory(1 << 30),
        };
        let grant = Grant {
            writable: vec![path("/data")],
            protected: vec![path("/data/.vscode")],
            ports: vec![5432, 80],
            hosts: vec!["h.example".to_owned()],
        };
        let wide = policy.widened(&grant);
        assert_eq!(wide.writable, [path("/data"), path("/work")]);
        assert_eq!(wide.tops, [path("/data")]);
        assert_eq!(wide.protected, [path("/data/.vscode"), path("/work/.env")]);
        let hosts: Vec<String> =
            wide.network.allow.iter().map(|rule| rule.entry.to_string()).collect();
        assert_eq!(
            (wide.network.host_ports, hosts),
            (vec![80, 5432], vec!["h.example".to_owned()])
        );
        assert_eq!((wide.hidden, wide.mode), (policy.hidden.clone(), policy.mode));
        assert_eq!(policy.widened(&Grant::default()), policy);
    }
}
