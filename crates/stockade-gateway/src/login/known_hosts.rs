//! Which keys hosts have, as the user's own files say (sshd(8), `ssh_known_hosts`).

use std::collections::BTreeSet;

use ring::hmac;
use stockade_policy::Host;
use stockade_policy::environment::glob;

use super::wire::Fields;
use crate::base64;

/// Longer lines are nobody's; in bytes.
const LINE_MAX: usize = 64 * 1024;
/// What a hashed name begins with: HMAC-SHA1.
const HASHED: &str = "|1|";

/// The lines of such files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    lines: Vec<Line>,
    revoked: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// Patterns between commas, or one hash.
    names: String,
    /// How the key's kind is written, and its blob in base 64.
    kind: String,
    text: String,
    key: Vec<u8>,
}

impl KnownHosts {
    /// Reads a file after those that were read. A line that is not understood knows nobody.
    pub fn read(&mut self, text: &str) {
        for line in text.lines().filter(|line| line.len() <= LINE_MAX) {
            let mut words = line.split_ascii_whitespace();
            let Some(mut names) = words.next().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let marker = names.starts_with('@').then_some(names);
            if marker.is_some() {
                let Some(next) = words.next() else { continue };
                names = next;
            }
            let (Some(kind), Some(text)) = (words.next(), words.next()) else { continue };
            let Some(key) = base64::decode(text.as_bytes()) else { continue };
            if Fields(&key).string() != Some(kind.as_bytes()) {
                continue;
            }
            match marker {
                None => self.lines.push(Line {
                    names: names.to_owned(),
                    kind: kind.to_owned(),
                    text: text.to_owned(),
                    key,
                }),
                // For whatever host.
                Some("@revoked") => self.revoked.push(key),
                // Certificates are not known here.
                Some(_) => {}
            }
        }
    }

    /// Whether `host` has this key at the usual port.
    pub fn has(&self, host: &Host, key: &[u8]) -> bool {
        !self.revoked.iter().any(|revoked| revoked == key)
            && self.lines.iter().any(|line| line.key == key && line.is_of(host))
    }

    /// The keys of `hosts` as such a file, with nothing else of the user's in it.
    pub fn only(&self, hosts: &[Host]) -> String {
        let mut lines = BTreeSet::new();
        for host in hosts {
            let is_one = |line: &&Line| line.is_of(host) && !self.revoked.contains(&line.key);
            for Line { kind, text, .. } in self.lines.iter().filter(is_one) {
                lines.insert(format!("{host} {kind} {text}\n"));
            }
        }
        lines.into_iter().collect()
    }
}

impl Line {
    fn is_of(&self, host: &Host) -> bool {
        let host = host.to_string();
        if let Some(hashed) = self.names.strip_prefix(HASHED) {
            return is_hash_of(hashed, &host).unwrap_or(false);
        }
        let mut is_of = false;
        for pattern in self.names.split(',') {
            match pattern.strip_prefix('!') {
                Some(pattern) if matches(pattern, &host) => return false,
                Some(_) => {}
                None => is_of |= matches(pattern, &host),
            }
        }
        is_of
    }
}

/// `SALT|HASH`, both in base 64.
fn is_hash_of(hashed: &str, host: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let (salt, hash) = (base64::decode(salt.as_bytes())?, base64::decode(hash.as_bytes())?);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Some(hmac::sign(&key, host.as_bytes()).as_ref() == hash)
}

/// Whether `name` matches `pattern`; case does not matter.
fn matches(pattern: &str, name: &str) -> bool {
    glob(pattern.to_ascii_lowercase().as_bytes(), name.to_ascii_lowercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::string;
    use super::*;

    fn key(number: u8) -> (Vec<u8>, String) {
        let mut key = Vec::new();
        string(&mut key, b"ssh-ed25519");
        string(&mut key, &[number; 32]);
        let text = format!("ssh-ed25519 {}", base64::encode(&key));
        (key, text)
    }

    fn host(text: &str) -> Host {
        Host::new(text).unwrap()
    }

    #[test]
    fn lines_are_read_as_ssh_does() {
        let (one, two, three) = (key(1), key(2), key(3));
        // `ssh-keygen -H` of `secret.org`: salt and hash made by `openssl dgst -sha1 -mac HMAC`.
        let salt = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"salt");
        let hash = base64::encode(hmac::sign(&salt, b"secret.org").as_ref());
        let hashed = format!("|1|{}|{hash}", base64::encode(b"salt"));
        let mut known = KnownHosts::default();
        known.read(&format!(
            "# a comment\n\na.org,A2.org,192.0.2.1 {} me@here\n*.b.org,!x.b.org {}\n{hashed} {}\n\
             [a.org]:2222 {}\n@cert-authority *.c.org {}\nbroken ssh-ed25519 AAAA\nd.org ssh-rsa {}\n",
            one.1, two.1, three.1, two.1, one.1, one.1.trim_start_matches("ssh-ed25519 "),
        ));
        for (name, key, expected) in [
            ("a.org", &one, true),
            ("a.org", &two, false),
            ("a2.org", &one, true),
            ("192.0.2.1", &one, true),
            ("q.b.org", &two, true),
            ("x.b.org", &two, false),
            ("b.org", &two, false),
            ("secret.org", &three, true),
            ("secret2.org", &three, false),
            ("x.c.org", &one, false),
            ("d.org", &one, false),
        ] {
            assert_eq!(known.has(&host(name), &key.0), expected, "{name}");
        }
        let only = known.only(&[host("a.org"), host("secret.org"), host("e.org")]);
        assert_eq!(only, format!("a.org {}\nsecret.org {}\n", one.1, three.1));
        known.read(&format!("@revoked * {}\n", one.1));
        assert!(!known.has(&host("a.org"), &one.0) && known.only(&[host("a.org")]).is_empty());
    }

    proptest! {
        /// Nothing panics, and what is shown of a file knows the same.
        #[test]
        fn what_is_shown_knows_the_same(text in "([@|!*?a-c.,1 ]{0,12} ssh-ed25519 [A-D=]{0,8}\n?){0,4}", number in 0_u8..3) {
            let mut known = KnownHosts::default();
            known.read(&text);
            known.read(&format!("a.*,!b.org {}", key(number).1));
            let hosts = ["a.org", "b.org", "c.a"].map(host);
            let mut shown = KnownHosts::default();
            shown.read(&known.only(&hosts));
            for host in &hosts {
                prop_assert_eq!(shown.has(host, &key(1).0), known.has(host, &key(1).0));
            }
        }

        #[test]
        fn a_star_is_any_text(start in "[a-c]{0,4}", middle in "[a-c.]{0,6}", end in "[a-c]{0,4}") {
            let name = format!("{start}{middle}{end}");
            let pattern = format!("{start}*{end}");
            prop_assert!(matches(&pattern, &name));
            let longer = format!("{start}*{end}x");
            prop_assert!(!matches(&longer, &name));
        }
    }
}
