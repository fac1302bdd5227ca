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
    let mut made = environment(&lab);
    // Depends on who runs the test.
    assert_eq!(made.remove("TAR_OPTIONS").is_some(), lab.env.uid == 0);
    let shown: Vec<String> = made.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(lab.shown(&shown.join("\n")), @r"
    A=b
    CARGO_NET_RETRY=0
    CHROME_CONFIG_HOME=/tmp
    CI=2
    FAKEROOTDONTTRYCHOWN=1
    GITHUB_TOKEN=t
    JUPYTER_RUNTIME_DIR=/tmp/.jupyter
    LC_ALL=C
    LESSHISTFILE=-
    MY_SETTING=1
    PATH=/usr/bin
    PIP_RETRIES=0
    PWD=TOP/home/work
    SCREENDIR=/tmp/.screen
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
fn a_cache_that_is_not_there_yet_is_made_in_the_layer_or_in_tmp() {
    let mut lab = Lab::new();
    let home: std::path::PathBuf = "/usr/lib".into();
    lab.env.home = Some(home);
    lab.env.vars.insert("CARGO_HOME".into(), "/usr/share".into());
    lab.env.vars.insert("MAVEN_OPTS".into(), "-Xmx1g".into());
    lab.env.vars.insert("GOPATH".into(), "/usr/nowhere".into());
    let moved = environment(&lab);
    assert_eq!(moved["npm_config_cache"], "/tmp/npm");
    assert_eq!(moved["XDG_CACHE_HOME"], "/tmp/caches");
    assert_eq!(moved["MAVEN_OPTS"], "-Dmaven.repo.local=/tmp/m2 -Xmx1g");
    assert_eq!(moved["GOPATH"], "/tmp/go");
    // It is there, and read-only.
    assert_eq!(moved["CARGO_HOME"], "/usr/share");
    lab.request.env = vec![EnvFlag::Set("npm_config_cache".to_owned(), "/srv/npm".into())];
    assert_eq!(environment(&lab)["npm_config_cache"], "/srv/npm");
}

/// Programs of one's own are made elsewhere, whether the user has such or not.
#[test]
fn tools_that_keep_programs_in_home_keep_them_elsewhere() {
    let mut lab = Lab::new();
    lab.env.home = Some("/usr".into());
    lab.env.vars.insert("PIPX_HOME".into(), "/usr/share".into());
    let moved = environment(&lab);
    assert_eq!(
        (moved["UV_TOOL_DIR"].as_str(), moved["PIPX_HOME"].as_str()),
        ("/tmp/uv-tools", "/tmp/pipx-home")
    );
}

#[test]
fn a_store_that_is_in_the_layer_is_named_to_its_tool() {
    let mut lab = Lab::new();
    let name = "pnpm_config_store_dir";
    assert!(!environment(&lab).contains_key(name), "there is none");
    let store = lab.folder("home/.local/share/pnpm/store");
    assert_eq!(environment(&lab)[name], store.to_str().unwrap());
    lab.request.env = vec![EnvFlag::Set(name.to_owned(), "/srv/store".into())];
    assert_eq!(environment(&lab)[name], "/srv/store");
    lab.request.env.clear();
    lab.user("caches = 'read-only'");
    assert!(!environment(&lab).contains_key(name), "pnpm could not write to it");
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

/// Keys are hidden: what git would sign is made without.
#[test]
fn what_would_be_signed_is_not_and_that_is_said() {
    let mut lab = Lab::new();
    let told = |lab: &Lab| {
        let count = environment(lab).get("GIT_CONFIG_COUNT").cloned();
        (count, lab.warnings().iter().any(|line| line.contains("not signed")))
    };
    assert_eq!(told(&lab), (None, false));
    lab.write("home/.gitconfig", "[includeIf \"gitdir:~/\"]\n\tpath = .signing\n");
    lab.write("home/.signing", "[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = /opt/gpg\n");
    assert_eq!(told(&lab), (Some("4".to_owned()), true));
    let set = environment(&lab);
    assert_eq!(set.get("GIT_CONFIG_KEY_0").map(String::as_str), Some("commit.gpgsign"));
    assert_eq!(set.get("GIT_CONFIG_VALUE_0").map(String::as_str), Some("false"));
    lab.user("env.set = { GIT_CONFIG_COUNT = '0' }");
    assert_eq!(told(&lab), (Some("0".to_owned()), false), "the user's own word");
    lab.folder("home/.gnupg");
    lab.user("readable = ['~/.gnupg']");
    assert_eq!(told(&lab), (None, false), "whoever opens keys signs");
    lab.user("");
    lab.request.mode = Some(Mode::DangerFullAccess);
    assert_eq!(told(&lab), (None, false));
}
