//! The environment that a command gets.

use std::collections::BTreeMap;
use std::ffi::OsString;

use stockade_config::EnvFlag;
use stockade_policy::Mode;

use crate::lab::Lab;

fn environment(lab: &Lab) -> BTreeMap<String, String> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    lab.loaded().environment.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Threat model, C3: secret-like variables do not pass unless named literally.
#[test]
fn what_passes_what_does_not_and_what_is_set() {
    let mut lab = Lab::new();
    for (name, value) in [
        ("PATH", "/usr/bin"),
        ("LC_ALL", "C"),
        ("MY_SETTING", "1"),
        ("MY_TOKEN", "t"),
        ("GITHUB_TOKEN", "t"),
        ("SSH_AUTH_SOCK", "/run/x"),
        ("LD_PRELOAD", "x.so"),
        ("GOPROXY", "https://user:pass@proxy.example"),
        ("TMPDIR", "/home/u/tmp"),
        ("OLDPWD", "/"),
        ("STOCKADE_MODE", "forged"),
    ] {
        lab.env.vars.insert(name.into(), value.into());
    }
    lab.user("[env]\npass = ['MY_*', 'GITHUB_TOKEN']\nset = { A = 'b', CI = '1' }");
    lab.request.env = vec![EnvFlag::Set("CI".to_owned(), "2".into())];
    let shown: Vec<String> =
        environment(&lab).iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(lab.shown(&shown.join("\n")), @r"
    A=b
    CARGO_NET_RETRY=0
    CI=2
    GITHUB_TOKEN=t
    LC_ALL=C
    MY_SETTING=1
    PATH=/usr/bin
    PIP_RETRIES=0
    PWD=TOP/home/work
    STOCKADE=1
    STOCKADE_MODE=workspace-write
    STOCKADE_NETWORK=none
    TMPDIR=/tmp
    UV_HTTP_RETRIES=0
    npm_config_fetch_retries=0
    ");
    lab.request.env =
        vec![EnvFlag::Pass("GOPROXY".to_owned()), EnvFlag::Pass("NOT_SET".to_owned())];
    let environment = environment(&lab);
    assert!(environment.contains_key("GOPROXY") && !environment.contains_key("NOT_SET"));
}

#[test]
fn an_agent_gets_what_it_needs_and_the_users_own_value_stays() {
    let mut lab = Lab::new();
    lab.env.vars.insert("OPENAI_API_KEY".into(), "k".into());
    lab.env.vars.insert("CI".into(), "users".into());
    lab.request.needs.env_pass = vec!["OPENAI_API_KEY".to_owned()];
    lab.request.needs.env_set =
        vec![("CI".to_owned(), "recipe's".to_owned()), ("IS_SANDBOX".to_owned(), "1".to_owned())];
    let environment = environment(&lab);
    assert_eq!(environment["OPENAI_API_KEY"], "k");
    assert_eq!((environment["CI"].as_str(), environment["IS_SANDBOX"].as_str()), ("users", "1"));
}

#[test]
fn a_cache_is_moved_only_where_it_cannot_be_written() {
    let mut lab = Lab::new();
    // The home of the laboratory is in `/tmp`, so its own cache is in a private folder.
    assert!(!environment(&lab).contains_key("GOCACHE"));
    let cache = "/usr/local/share";
    for name in ["GOCACHE", "UV_CACHE_DIR", "CCACHE_DIR"] {
        lab.env.vars.insert(name.into(), cache.into());
    }
    let moved = environment(&lab);
    assert_eq!(
        (moved["GOCACHE"].as_str(), moved["UV_CACHE_DIR"].as_str()),
        ("/tmp/go-build", "/tmp/uv")
    );
    assert_eq!((moved["CCACHE_DIR"].as_str(), moved["CCACHE_READONLY"].as_str()), (cache, "1"));
    // The user's word stands, and a cache in a root serves.
    lab.request.env = vec![
        EnvFlag::Pass("GOCACHE".to_owned()),
        EnvFlag::Set("UV_CACHE_DIR".to_owned(), "/srv/uv".into()),
        EnvFlag::Set("PIP_RETRIES".to_owned(), "9".into()),
    ];
    let named = environment(&lab);
    assert_eq!(named["GOCACHE"], cache);
    assert_eq!((named["UV_CACHE_DIR"].as_str(), named["PIP_RETRIES"].as_str()), ("/srv/uv", "9"));
    lab.request.env.clear();
    lab.request.add_dirs = vec![cache.into()];
    assert_eq!(environment(&lab)["GOCACHE"], cache);
    for word in ["off", "/tmp/mine"] {
        lab.env.vars.insert("GOCACHE".into(), word.into());
        assert_eq!(environment(&lab)["GOCACHE"], word);
    }
}

#[test]
fn without_a_boundary_the_environment_is_the_users() {
    let mut lab = Lab::new();
    lab.env.vars.insert("MY_TOKEN".into(), "t".into());
    lab.request.mode = Some(Mode::DangerFullAccess);
    let environment = environment(&lab);
    assert_eq!(environment["MY_TOKEN"], "t");
    assert_eq!(environment["STOCKADE_NETWORK"], "open");
    assert_eq!(environment["STOCKADE_MODE"], "danger-full-access");
    assert!(!environment.contains_key("GOCACHE") && !environment.contains_key("PIP_RETRIES"));
}
