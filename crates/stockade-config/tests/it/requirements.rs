//! What the machine's owner holds everybody to.

use stockade_config::load;
use stockade_policy::{ApprovalPolicy, Mode, Verdict};

use crate::lab::Lab;

fn required(text: &str) -> Lab {
    let lab = Lab::new();
    lab.write("system/requirements.toml", text);
    lab
}

/// Threat model, C4: "No file, flag or option goes beyond `/etc/stockade/requirements.toml`."
#[test]
fn a_violation_stops_the_start_and_names_both_lines() {
    let cases: &[(&str, &str)] = &[
        ("allowed_sandbox_modes = ['read-only']", "sandbox_mode = 'workspace-write'"),
        ("allowed_approval_policies = ['untrusted']", "approval_policy = 'never'"),
        ("allowed_unprotected = []", "unprotected = ['.env']"),
        ("allowed_hosts = ['localhost:80']", "network.allow = ['localhost:81']"),
        ("allowed_hosts = ['example.org']", "network.allow = ['*.example.org']"),
        ("allowed_hosts = ['example.org']", "sandbox_workspace_write.network_access = true"),
        ("limits.processes = 100", "limits.processes = 101"),
        ("limits.tmp_size = '1M'", "limits.tmp_size = '2M'"),
        ("limits.wall_time = '1h'", "limits.wall_time = '2h'"),
        ("hidden = ['~/keys']", "readable = ['~/keys/one']"),
        ("hidden = ['~/keys']", "sandbox_mode = 'danger-full-access'"),
        ("limits.wall_time = '1h'", "sandbox_mode = 'danger-full-access'"),
        ("network.deny = ['a.org']", "sandbox_mode = 'danger-full-access'"),
    ];
    for (bound, asked) in cases {
        let mut lab = required(&format!("\n{bound}\n"));
        lab.write("home/keys/one", "");
        lab.user(&format!("\n\n{asked}\n"));
        let said = lab.refused();
        assert!(said.contains("TOP/home/.config/stockade/config.toml:3: "), "{bound}: {said}");
        assert!(said.contains("(TOP/system/requirements.toml:2)"), "{bound}: {said}");
        // Nor by a project that the user trusts, nor by `-c`.
        lab.user("");
        let option = asked.replace(" = ", "=");
        lab.request.options = vec![option];
        assert!(lab.refused().contains("-c:1: "), "{asked}");
        lab.request.options.clear();
        lab.loaded();
    }
}

#[test]
fn flags_are_bounded_too() {
    let mut lab = required("allowed_sandbox_modes = ['read-only']\nallowed_hosts = []\n");
    lab.request.mode = Some(Mode::WorkspaceWrite);
    assert!(lab.refused().contains("--sandbox: sandbox mode `workspace-write`"));
    lab.request.mode = None;
    lab.request.allow_hosts = vec!["localhost:80".to_owned()];
    assert!(lab.refused().contains("--allow-host: host `localhost:80`"));
}

#[test]
fn what_nobody_has_set_follows_the_requirements() {
    let lab = required(
        "allowed_sandbox_modes = ['read-only']\nallowed_approval_policies = ['never']\n\
         hidden = ['~/keys']\nlimits.processes = 99\nlimits.wall_time = '1h'\n\
         [[rules]]\nprefix = 'docker'\nallow = false\n",
    );
    lab.folder("home/keys");
    lab.user("readable = ['~']\n");
    let loaded = load(&lab.env, &lab.request).unwrap();
    assert_eq!(loaded.policy.mode, Mode::ReadOnly);
    assert_eq!(loaded.approval, ApprovalPolicy::Never);
    assert_eq!(loaded.policy.limits.processes, 99);
    assert_eq!(loaded.policy.limits.wall_time.unwrap().as_secs(), 3600);
    assert_eq!(lab.names(&loaded.policy.hidden), ["home/keys"]);
    assert!(loaded.rules.iter().any(|rule| rule.decision == Verdict::Deny));
    let sources = loaded.sources();
    let mode = sources.iter().find(|(key, _)| key == "sandbox_mode").unwrap();
    assert_eq!(lab.shown(&mode.1), "TOP/system/requirements.toml:1");
}

#[test]
fn requirements_that_are_not_understood_let_nothing_run() {
    for (text, said) in [
        ("allowed_sandbox_mode = ['read-only']", "did you mean `allowed_sandbox_modes`?"),
        ("sandbox_mode = 'read-only'", "unknown key `sandbox_mode`"),
        ("allowed_sandbox_modes = []", "expected at least one word"),
        ("allowed_sandbox_modes = ['readonly']", "expected one of"),
        ("[[rules]]\nprefix = 'x'\nallow = true", "a requirement cannot allow a command"),
        ("x", "this is not TOML"),
    ] {
        let refused = required(text).refused();
        assert!(refused.contains(said), "{text}: {refused}");
        assert!(refused.contains("TOP/system/requirements.toml:1"), "{text}: {refused}");
    }
    let lab = Lab::new();
    lab.link("system/requirements.toml", "nowhere");
    assert!(lab.refused().contains("leads nowhere"));
    assert!(required("").load().is_ok());
}
