//! Who may say what, and whose word counts.

use std::path::PathBuf;

use stockade_config::{Layer, Prefix, load};
use stockade_policy::{ApprovalPolicy, Mode, Verdict};

use crate::lab::Lab;

#[test]
fn later_layers_win_and_each_value_knows_its_place() {
    let mut lab = Lab::new();
    let sources = |lab: &Lab| -> Vec<String> {
        let sources = lab.loaded().sources();
        sources.iter().map(|(name, place)| lab.shown(&format!("{name} {place}"))).collect()
    };
    assert!(sources(&lab).is_empty(), "everything is built in");
    lab.write("system/config.toml", "approval_policy = 'untrusted'\n[limits]\nprocesses = 99");
    lab.user("\nsandbox_mode = 'read-only'\n[limits]\nprocesses = 88");
    lab.write("home/.config/stockade/fast.config.toml", "[limits]\nprocesses = 77");
    let place = |name: &str, file: &str| format!("{name} TOP/{file}");
    assert_eq!(
        sources(&lab),
        [
            place("sandbox_mode", "home/.config/stockade/config.toml:2"),
            place("approval_policy", "system/config.toml:1"),
            place("limits.processes", "home/.config/stockade/config.toml:4"),
        ]
    );
    lab.request.profile = Some("fast".to_owned());
    assert_eq!(lab.loaded().policy.limits.processes, 77);
    lab.project("[limits]\nprocesses = 66");
    assert_eq!(lab.loaded().policy.limits.processes, 66);
    lab.request.options =
        vec!["limits.processes=5555".to_owned(), "sandbox_mode=workspace-write".to_owned()];
    assert_eq!(lab.loaded().policy.limits.processes, 5555);
    lab.request.mode = Some(Mode::ReadOnly);
    assert_eq!(lab.loaded().policy.mode, Mode::ReadOnly);
    assert_eq!(lab.loaded().approval, ApprovalPolicy::Untrusted);
    assert_eq!(sources(&lab)[2], "limits.processes -c:1");
}

/// Threat model, C2: "A project's own file narrows and never widens."
#[test]
fn a_projects_file_narrows_and_its_widenings_are_said() {
    let lab = Lab::new();
    for name in ["home/work/src/deep", "home/work/docs", "home/other", "home/.ssh"] {
        lab.folder(name);
    }
    lab.user("[sandbox_workspace_write]\nwritable_roots = ['src', '../other']");
    lab.project(
        "sandbox_mode = 'danger-full-access'\nreadable = ['~/.ssh']\nunprotected = ['.env']\n\
         [sandbox_workspace_write]\nnetwork_access = true\n\
         writable_roots = ['src/deep', 'docs', '/etc', '~/.ssh']\n\
         [env]\npass = ['HOME']\nset = { A = 'b' }\n\
         [network]\nallow = ['localhost:80']\ndeny = ['x']\n\
         [[rules]]\nprefix = 'rm'\nallow = true",
    );
    let loaded = lab.loaded();
    assert_eq!(loaded.policy.mode, Mode::WorkspaceWrite);
    assert_eq!(lab.writable(), ["home/work/src/deep"]);
    assert_eq!(lab.hidden(), ["home/.ssh"]);
    assert!(loaded.policy.network.host_ports.is_empty());
    let warnings = lab.warnings().join("\n");
    insta::assert_snapshot!(warnings, @r"
    TOP/home/work/.stockade/config.toml:1: ignored: a project file may not widen the sandbox mode
    TOP/home/work/.stockade/config.toml:2: ignored: a project file may not re-open hidden paths
    TOP/home/work/.stockade/config.toml:3: ignored: a project file may not lift protections
    TOP/home/work/.stockade/config.toml:8: ignored: a project file may not pass variables on
    TOP/home/work/.stockade/config.toml:11: ignored: a project file may not open the network
    TOP/home/work/.stockade/config.toml:9: ignored: a project file may not set variables
    TOP/home/work/.stockade/config.toml:13: ignored: a project file may not allow commands
    TOP/home/work/.stockade/config.toml:5: ignored: a project file may not open the network
    TOP/home/work/.stockade/config.toml:6: ignored: writable root `docs`: a project file may not widen the roots
    TOP/home/work/.stockade/config.toml:6: ignored: writable root `/etc`: it can be no root
    TOP/home/work/.stockade/config.toml:6: ignored: writable root `~/.ssh`: it can be no root
    ");
}

#[test]
fn a_projects_roots_are_what_both_allow() {
    #[rustfmt::skip]
    const CASES: &[(&str, &str, &[&str])] = &[
        // user          project            both
        ("[]",           "['src']",         &["home/work/src"]),
        ("['src']",      "[]",              &["home/work/src"]),
        ("['src/deep']", "['src']",         &["home/work/src/deep"]),
        ("['src']",      "['src/deep']",    &["home/work/src/deep"]),
        ("['src']",      "['docs']",        &[]),
        ("['~/other']",  "['src']",         &["home/work/src"]),
        ("['~/other']",  "['~/other']",     &["home/other", "home/work"]),
        ("[]",           "['~/other']",     &["home/work"]),
        ("['src']",      "['.']",           &["home/work/src"]),
    ];
    let mut lab = Lab::new();
    for name in ["home/work/src/deep", "home/work/docs", "home/other"] {
        lab.folder(name);
    }
    let table = |roots: &str| format!("[sandbox_workspace_write]\nwritable_roots = {roots}");
    for &(user, project, expected) in CASES {
        lab.user(&table(user));
        lab.project(&table(project));
        assert_eq!(lab.writable(), expected, "user {user}, project {project}");
    }
    // Flags are the user's last word.
    lab.project(&table("['docs']"));
    lab.request.add_dirs = vec![PathBuf::from("src")];
    assert_eq!(lab.writable(), ["home/work/src"]);
    lab.request.options = vec!["sandbox_workspace_write.writable_roots=['src/deep']".to_owned()];
    lab.request.add_dirs.clear();
    assert_eq!(lab.writable(), ["home/work/src/deep"]);
}

#[test]
fn the_projects_file_can_be_left_out() {
    let mut lab = Lab::new();
    lab.project("sandbox_mode = 'read-only'");
    assert_eq!(lab.loaded().policy.mode, Mode::ReadOnly);
    lab.request.no_project_config = true;
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
}

#[test]
fn rules_of_all_layers_are_read() {
    let lab = Lab::new();
    lab.user(
        "[[rules]]\nprefix = 'npm test'\nallow = true\nmatch = ['npm test -u']\n\
         [[rules]]\nprefix = ['cargo', ['test', 'nextest']]\ndecision = 'ask'\nreason = 'why'\n\
         grant = { hosts = ['registries'] }\n",
    );
    lab.project("[[rules]]\nprefix = 'docker'\nallow = false");
    let loaded = load(&lab.env, &lab.request).unwrap();
    let named: Vec<String> =
        loaded.rule_set().rules().iter().map(|rule| rule.named().prefix).collect();
    assert_eq!(named, ["npm test", "cargo test|nextest", "docker"]);
    let rules = loaded.rules;
    let decisions: Vec<(Verdict, Layer)> =
        rules.iter().map(|rule| (rule.decision, rule.layer)).collect();
    assert_eq!(
        decisions,
        [
            (Verdict::Allow, Layer::User),
            (Verdict::Ask, Layer::User),
            (Verdict::Deny, Layer::Project)
        ]
    );
    assert_eq!(rules[0].prefix, Prefix::Line("npm test".to_owned()));
    let words = [vec!["cargo"], vec!["test", "nextest"]];
    let words = words.map(|word| word.into_iter().map(str::to_owned).collect());
    assert_eq!(rules[1].prefix, Prefix::Words(words.into()));
    assert_eq!(
        (&rules[1].reason, &rules[1].grant.hosts[0]),
        (&Some("why".to_owned()), &"registries".to_owned())
    );
    assert_eq!(rules[0].examples, ["npm test -u"]);
    assert!(rules[1].place.ends_with("config.toml:5"), "{}", rules[1].place);
}

#[test]
fn rules_that_only_allow_need_nobody_to_hold_them() {
    let lab = Lab::new();
    lab.user("[[rules]]\nprefix = 'npm test'\nallow = true");
    assert_eq!(lab.loaded().rules.len(), 1);
}

#[test]
fn ports_of_the_hosts_loopback_and_nothing_else() {
    let mut lab = Lab::new();
    lab.user("[network]\nallow = ['localhost:8080', 'localhost:80']");
    lab.request.allow_hosts = vec!["localhost:80".to_owned()];
    assert_eq!(lab.loaded().policy.network.host_ports, [80, 8080]);
    for (why, hosts) in [
        (
            "names no port of the loopback",
            &["localhost", "localhost:0", "localhost:65536", "127.0.0.1:80"][..],
        ),
        ("--allow-host", &["http://github.com", "*", "0x7f.1", "github.com:0"]),
    ] {
        for host in hosts {
            lab.request.allow_hosts = vec![(*host).to_owned()];
            let text = lab.refused();
            assert!(text.contains(why) && text.contains(host), "{text}");
        }
    }
}

#[test]
fn hosts_of_all_layers_add_up_and_denying_wins() {
    let mut lab = Lab::new();
    lab.user(
        "[network]\nallow = ['Example.ORG', 'git-hosts', 'localhost:80']\n\
         deny = ['gitlab.com', 'localhost:81']\nprivate = ['10.0.0.0/8']\n",
    );
    lab.project("[network]\ndeny = ['evil.example.org:443']\nallow = ['evil.org']\n");
    lab.request.allow_hosts = vec!["*.example.org".to_owned(), "localhost:81".to_owned()];
    let network = lab.loaded().policy.network;
    let decided = |host: &str, port| {
        network.decide(&stockade_policy::Host::new(host).unwrap(), port).to_string()
    };
    assert!(decided("example.org", 443).ends_with(".config/stockade/config.toml:2)"));
    assert_eq!(decided("a.example.org", 80), "allowed by `*.example.org` (--allow-host)");
    assert!(decided("github.com", 22).starts_with("allowed by `github.com:22`"));
    assert!(decided("gitlab.com", 22).starts_with("denied by `gitlab.com:*`"), "every port");
    assert!(decided("evil.example.org", 443).starts_with("denied by `evil.example.org:443`"));
    assert_eq!(decided("evil.org", 443), "not allowed", "a project does not open");
    assert_eq!(network.host_ports, [80]);
    assert_eq!(network.word(), "hosts");
    assert_eq!(lab.loaded().warnings.len(), 1);
}

#[test]
fn network_access_is_every_public_host_and_a_project_can_close_it() {
    let lab = Lab::new();
    lab.user("[sandbox_workspace_write]\nnetwork_access = true\n");
    assert_eq!(lab.loaded().policy.network.word(), "open");
    lab.project("[sandbox_workspace_write]\nnetwork_access = false\n");
    assert_eq!(lab.loaded().policy.network.word(), "none");
}

#[test]
fn published_ports_are_read_or_refused() {
    let mut lab = Lab::new();
    lab.request.publish = vec!["8080:80".to_owned(), "3000".to_owned(), "3000:3000".to_owned()];
    let published = lab.loaded().policy.network.published;
    let ports: Vec<_> = published.iter().map(|ports| (ports.outside, ports.inside)).collect();
    assert_eq!(ports, [(8080, 80), (3000, 3000)]);
    for wrong in ["", "0", "80:", ":80", "1:2:3", "http", "70000", "0.0.0.0:80"] {
        lab.request.publish = vec![wrong.to_owned()];
        assert!(lab.refused().contains("names no port"), "{wrong}");
    }
    lab.request.publish = vec!["80:1".to_owned(), "80:2".to_owned()];
    assert!(lab.refused().contains("named twice"));
}

#[test]
fn a_file_that_could_keep_the_start_waiting_is_refused() {
    let lab = Lab::new();
    let path = lab.folder("home/work/.stockade").join("config.toml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert!(lab.refused().contains("is not a file"));
    std::fs::remove_file(&path).unwrap();
    // What is wrong in a file is shown, and somebody else's file is not to be.
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(lab.refused().contains("leads out of the project"));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(lab.refused().contains("larger than 1 MiB"));
    std::fs::write(&path, b"a = \"\xff\"").unwrap();
    assert!(lab.refused().contains("is not UTF-8"));
    // Nesting that would overflow a stack is an ordinary error.
    lab.project(&format!("hidden = {}", "[".repeat(100_000)));
    assert!(lab.refused().contains(".stockade/config.toml:1:"));
}
