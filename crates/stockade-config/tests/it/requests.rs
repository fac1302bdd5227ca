//! `[[network.rules]]`: read strictly, and narrowed by a project only.

use stockade_policy::{Host, Request};

use crate::lab::Lab;

const RULES: &str =
    "[network]\nallow = ['a.org']\n[[network.rules]]\nhost = 'a.org'\nmethods = ['GET', 'POST']\n";

fn allows(lab: &Lab, method: &str, path: &str, port: u16) -> bool {
    let request = Request { method, path, upgrades: false };
    let network = lab.loaded().policy.network;
    Host::new("a.org").is_ok_and(|host| network.judge_request(&host, port, &request).is_ok())
}

#[test]
fn rules_add_up_and_hold_for_every_port() {
    let mut lab = Lab::new();
    lab.user(RULES);
    assert!(allows(&lab, "GET", "/", 443) && !allows(&lab, "PUT", "/", 8443));
    let option = "network.rules=[{host='a.org',methods=['PUT'],paths=['/x/**']}]";
    lab.request.options = vec![option.to_owned()];
    assert!(allows(&lab, "PUT", "/x/y", 443) && !allows(&lab, "PUT", "/", 443));
}

#[test]
fn a_projects_rules_narrow_only() {
    let lab = Lab::new();
    lab.user(RULES);
    lab.project("[[network.rules]]\nhost = 'a.org'\nmethods = ['GET', 'DELETE']\n");
    assert!(allows(&lab, "GET", "/", 443));
    assert!(!allows(&lab, "POST", "/", 443) && !allows(&lab, "DELETE", "/", 443));
}

#[test]
fn what_limits_nothing_or_is_none_is_refused_with_its_place() {
    for (text, said) in [
        ("host = 'a.org'", "it limits nothing"),
        ("methods = ['GET']", "`host` is missing"),
        ("host = 'a.org'\nmethods = []", "at least one"),
        ("host = 'a.org'\nmethods = ['get']", "a method"),
        ("host = 'a.org'\nmethods = ['CONNECT']", "a method"),
        ("host = 'a.org'\npaths = ['x']", "a path"),
        ("host = 'a.org'\npaths = ['/x?y']", "a path"),
        ("host = 'a..org'\nmethods = ['GET']", "not a host"),
        ("host = 'a.org'\nmethod = ['GET']", "did you mean `methods`?"),
        ("host = 'a.org'\ncredential = 'sk-secret'", "the key itself is refused"),
        ("host = 'a.org'\ncredential = { env = 'sk-secret' }", "the name of a variable"),
        ("host = 'a.org'\ncredential = { command = ['pass', 'x'] }", "`variable` is missing"),
        ("host = 'a.org'\ncredential = { keyring = ['x'] }\nvariable = 'A'", "in turn"),
        ("host = 'a.org'\ncredential = { env = 'A' }\nvariable = 'A-B'", "the name of a variable"),
        ("host = 'a.org'\ncredential = { env = 'A' }\nvariable = '1'", "the name of a variable"),
        ("host = 'a.org'\ncredential = { env = 'A' }\nheader = 'Host'", "a header for a secret"),
        ("host = 'a.org'\ncredential = { env = 'A' }\nheader = 'a b'", "a header for a secret"),
        ("host = '*.a.org'\ncredential = { env = 'A' }", "for one host"),
        ("host = '203.0.113.0/24'\ncredential = { env = 'A' }", "for one host"),
        ("host = 'a.org'\nmethods = ['GET']\nvariable = 'A'", "which is missing"),
    ] {
        let lab = Lab::new();
        lab.user(&format!("[[network.rules]]\n{text}\n"));
        let refused = lab.refused();
        assert!(refused.contains(said) && refused.contains("config.toml:"), "{text}: {refused}");
        assert!(!refused.contains("sk-secret"), "{refused}");
    }
}

const CREDENTIAL: &str = "[network]\nallow = ['a.org']\n[env]\npass = ['TOKEN', 'OTHER', 'WORD']\n\
                          [[network.rules]]\nhost = 'a.org'\nmethods = ['GET']\n\
                          credential = { env = 'TOKEN' }\nvariable = 'A_TOKEN'\n";

#[test]
fn a_credential_never_comes_in_by_the_environment() {
    let mut lab = Lab::new();
    lab.user(CREDENTIAL);
    for (name, value) in [
        ("TOKEN", "sk-0123456789"),
        ("OTHER", "https://me:sk-0123456789@a.org"),
        ("A_TOKEN", "old"),
        ("WORD", "sk-other"),
    ] {
        lab.env.vars.insert(name.into(), value.into());
    }
    lab.request.env = vec![stockade_config::EnvFlag::Pass("TOKEN".to_owned())];
    let loaded = lab.loaded();
    let names: Vec<_> = loaded.environment.iter().filter_map(|(name, _)| name.to_str()).collect();
    assert!(!names.iter().any(|name| ["TOKEN", "OTHER", "A_TOKEN"].contains(name)), "{names:?}");
    assert!(names.contains(&"WORD"));
    lab.request.mode = Some(stockade_policy::Mode::DangerFullAccess);
    let free = lab.loaded();
    assert_eq!(free.policy.network.credentials().count(), 0, "nobody would put it in");
    assert!(free.environment.contains(&("TOKEN".into(), "sk-0123456789".into())));
    let shown = format!("{:?}", loaded.values(&lab.request));
    assert!(shown.contains("A_TOKEN") && !shown.contains("sk-0123456789"), "{shown}");
}

/// Threat model, C2: a project's file cannot widen what the user allowed.
#[test]
fn a_project_gives_no_credential_to_anybody() {
    let lab = Lab::new();
    lab.user(CREDENTIAL);
    lab.project(
        "[[network.rules]]\nhost = 'evil.org'\ncredential = { env = 'TOKEN' }\nvariable = 'A_TOKEN'\n",
    );
    let network = lab.loaded().policy.network;
    assert_eq!(network.credentials().count(), 1);
    let [warning] = lab.warnings().try_into().unwrap();
    assert!(warning.contains(":3: ignored: a project file may not say where a credential goes"));
    let rule = |entry: &str| network.requests.iter().any(|rule| rule.entry.to_string() == entry);
    assert!(rule("evil.org:*"), "what it limits counts");
}

#[test]
fn one_variable_is_one_secret() {
    let rule = |host: &str, from: &str| {
        format!("[[network.rules]]\nhost = '{host}'\ncredential = {{ {from} }}\nvariable = 'T'\n")
    };
    let lab = Lab::new();
    lab.user(&[rule("a.org", "env = 'A'"), rule("b.org", "env = 'A'")].concat());
    assert_eq!(lab.loaded().policy.network.credentials().count(), 2);
    lab.user(&[rule("a.org", "env = 'A'"), rule("b.org", "command = ['x']")].concat());
    let refused = lab.refused();
    let place = "config.toml:5: `T` stands for another credential already, that of ";
    assert!(refused.contains(place) && refused.contains("config.toml:1"), "{refused}");
}

/// Threat model, C4: "No file, flag or option goes beyond `/etc/stockade/requirements.toml`."
#[test]
fn requirements_limit_what_every_layer_may_ask() {
    let mut lab = Lab::new();
    let limits = "[network]\ndeny = ['evil.org']\n[[network.rules]]\nhost = 'a.org'\nmethods = ['GET', 'HEAD']\n";
    lab.write("system/requirements.toml", limits);
    lab.request.allow_hosts = vec!["a.org".to_owned(), "evil.org".to_owned()];
    assert!(allows(&lab, "GET", "/", 443) && !allows(&lab, "POST", "/", 443));
    lab.user(RULES);
    assert!(allows(&lab, "GET", "/", 443));
    assert!(!allows(&lab, "POST", "/", 443) && !allows(&lab, "HEAD", "/", 443));
    let network = lab.loaded().policy.network;
    assert!(Host::new("evil.org").is_ok_and(|host| !network.decide(&host, 443).is_allowed()));
    for text in [
        "[network]\nallow = ['a.org']\n",
        "network.upstream = 'none'\n",
        "network.private = ['10.0.0.0/8']\n",
        "[[network.rules]]\nhost = 'a.org'\ncredential = { env = 'A' }\n",
    ] {
        lab.write("system/requirements.toml", text);
        assert!(lab.refused().contains("a requirement opens no host"), "{text}");
    }
}
