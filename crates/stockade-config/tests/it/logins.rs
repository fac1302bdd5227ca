//! `[[network.ssh]]`: read strictly, and never a project's.

use std::ffi::OsString;

use crate::lab::Lab;

const LOGIN: &str =
    "[network]\nallow = ['a.org:22']\n[[network.ssh]]\nhost = 'A.org'\nkey = '~/keys/k'\n";

#[test]
fn a_key_logs_in_as_git_and_is_hidden_wherever_it_lies() {
    let mut lab = Lab::new();
    lab.env.vars.insert("SSH_AUTH_SOCK".into(), OsString::from("/run/agent"));
    let private = lab.write("home/keys/k", "PRIVATE");
    lab.write("home/keys/k.pub", "ssh-ed25519 AAAA me");
    for key in ["~/keys/k", "~/keys/k.pub"] {
        lab.user(&LOGIN.replace("~/keys/k", key));
        let policy = lab.loaded().policy;
        let [rule] = policy.network.logins.rules.as_slice() else { panic!("{policy:?}") };
        assert_eq!((rule.host.as_str(), rule.user.as_str()), ("a.org", "git"));
        assert!(rule.key.as_path().starts_with(lab.top.join("home/keys")));
        assert!(policy.hidden.iter().any(|path| path.as_path() == private), "{key}");
        assert!(policy.hidden.iter().all(|path| !path.as_path().ends_with("k.pub")));
    }
    let logins = lab.loaded().policy.network.logins;
    assert_eq!(logins.agent.as_deref(), Some(std::path::Path::new("/run/agent")));
    assert!(logins.known_hosts.contains(&lab.top.join("home/.ssh/known_hosts")));
    assert!(lab.warnings().is_empty(), "{:?}", lab.warnings());
}

/// Threat model, C2: a project's file names no key, neither for its own hosts.
#[test]
fn a_project_logs_in_nowhere() {
    let lab = Lab::new();
    lab.user(LOGIN);
    lab.project("[[network.ssh]]\nhost = 'evil.org'\nkey = '/k'\n");
    let loaded = lab.loaded();
    assert_eq!(loaded.policy.network.logins.rules.len(), 1);
    let [warning] = lab.warnings().try_into().unwrap();
    assert!(warning.contains(":1: ignored: a project file may not say by which key"), "{warning}");
}

#[test]
fn what_is_wrong_names_its_line() {
    let lab = Lab::new();
    for (text, expected) in [
        ("[[network.ssh]]\nkey = '/k'\n", "`host` is missing"),
        ("[[network.ssh]]\nhost = 'a.org'\n", "`key` is missing"),
        ("[[network.ssh]]\nhost = '*.a.org'\nkey = '/k'\n", "not a host"),
        ("[[network.ssh]]\nhost = 'a.org:22'\nkey = '/k'\n", "not a host"),
        ("[[network.ssh]]\nhost = 'a.org'\nkey = 'k'\n", "no path from `/` or `~`"),
        ("[[network.ssh]]\nhost = 'a.org'\nkey = '/k'\nuser = 'a b'\n", "a user there"),
        ("[[network.ssh]]\nhost = 'a.org'\nkee = '/k'\n", "key"),
    ] {
        lab.user(text);
        let refused = lab.refused();
        assert!(refused.contains("config.toml:") && refused.contains(expected), "{refused}");
    }
    let twice = "[[network.ssh]]\nhost = 'a.org'\nkey = '/k'\n";
    lab.user(&twice.repeat(2));
    assert!(lab.refused().contains("`a.org` has a key already"));
}
