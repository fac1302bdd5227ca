//! A project's file that the user has trusted, by its exact content.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use proptest::prelude::*;
use stockade_config::{load, project_trust, trust_file};
use stockade_policy::Mode;

use crate::lab::Lab;

/// Trusts the project's file as `stockade config trust` does.
fn trust(lab: &Lab) {
    let trust = project_trust(&lab.env, &lab.request).unwrap();
    fs::create_dir_all(trust.file.parent().unwrap()).unwrap();
    fs::write(&trust.file, &trust.text).unwrap();
}

const WIDE: &str = "sandbox_mode = 'danger-full-access'\nreadable = ['~/.ssh']\n\
    [env]\npass = ['SECRET_TOKEN']\n[network]\nallow = ['localhost:80']\n";

/// Threat model, C2: "... unless the user has trusted exactly its content."
#[test]
fn exactly_what_was_trusted_counts_like_the_users_own() {
    let mut lab = Lab::new();
    lab.folder("home/.ssh");
    lab.env.vars.insert("SECRET_TOKEN".into(), "x".into());
    lab.project(WIDE);
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
    let shown = project_trust(&lab.env, &lab.request).unwrap();
    assert_eq!(shown.widens.len(), 4, "{:?}", shown.widens);
    assert!(!shown.is_trusted && shown.hash.starts_with("sha256:"));
    // In the user's folder, never in the workspace.
    assert!(shown.file.starts_with(lab.top.join("home/.config/stockade/projects")));

    trust(&lab);
    let loaded = lab.loaded();
    assert_eq!(loaded.policy.mode, Mode::DangerFullAccess);
    assert_eq!(loaded.policy.network.host_ports, [80]);
    assert!(loaded.environment.iter().any(|(name, _)| name == "SECRET_TOKEN"));
    assert!(project_trust(&lab.env, &lab.request).unwrap().is_trusted);

    // One byte more is another content.
    lab.project(&format!("{WIDE}#"));
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
    assert!(lab.warnings().iter().any(|said| said.contains("changed since it was trusted")));
    lab.project(WIDE);
    fs::remove_file(trust_file(&lab.env, &lab.request).unwrap()).unwrap();
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
}

#[test]
fn trust_is_for_one_workspace() {
    let mut lab = Lab::new();
    lab.project(WIDE);
    trust(&lab);
    lab.write("home/other/.stockade/config.toml", WIDE);
    lab.env.current = lab.top.join("home/other");
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
    // Not even by a file that was copied to the other's name.
    let theirs = trust_file(&lab.env, &lab.request).unwrap();
    lab.env.current = lab.work();
    fs::copy(trust_file(&lab.env, &lab.request).unwrap(), theirs).unwrap();
    lab.env.current = lab.top.join("home/other");
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
}

#[test]
fn trust_that_cannot_be_read_is_none() {
    let lab = Lab::new();
    lab.project(WIDE);
    trust(&lab);
    let file = trust_file(&lab.env, &lab.request).unwrap();
    for text in ["", "workspace = 1", "not toml", "config = 'sha256:'"] {
        fs::write(&file, text).unwrap();
        assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite, "{text}");
    }
}

#[test]
fn what_was_never_enforced_is_not_trusted_blindly() {
    let lab = Lab::new();
    lab.project("[sandbox_workspace_write]\nnetwork_access = 3\n");
    assert!(project_trust(&lab.env, &lab.request).is_err());
    let empty = Lab::new();
    assert!(project_trust(&empty.env, &empty.request).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Threat model, C2: no other content has the trust that one content has.
    #[test]
    fn a_content_that_differs_anywhere_is_not_trusted(at in 0_usize..100, byte in b' '..b'~') {
        let lab = Lab::new();
        lab.project(WIDE);
        trust(&lab);
        let mut text = WIDE.as_bytes().to_vec();
        let at = at % text.len();
        prop_assume!(text[at] != byte);
        text[at] = byte;
        fs::write(lab.work().join(".stockade/config.toml"), &text).unwrap();
        if let Ok(loaded) = load(&lab.env, &lab.request) {
            prop_assert!(loaded.policy.mode != Mode::DangerFullAccess);
            prop_assert!(loaded.policy.network.host_ports.is_empty());
        }
    }
}
