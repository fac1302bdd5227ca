//! Hidden paths.

use std::path::PathBuf;

use crate::lab::Lab;

#[test]
fn secrets_that_are_there_are_hidden_and_the_rest_of_home_is_not() {
    let lab = Lab::new();
    for name in
        [".ssh/id_ed25519", ".config/gh/hosts.yml", ".bash_history", ".gitconfig", ".bashrc"]
    {
        lab.write(&format!("home/{name}"), "");
    }
    lab.write("home/.cargo/credentials.toml", "");
    lab.write("home/.cargo/config.toml", "");
    let expected = [".bash_history", ".cargo/credentials.toml", ".config/gh", ".ssh"];
    assert_eq!(lab.hidden(), expected.map(|name| format!("home/{name}")));
}

#[test]
fn the_accounts_own_home_is_covered_when_home_says_otherwise() {
    let mut lab = Lab::new();
    lab.folder("account/.ssh");
    let uid = lab.env.uid;
    let line = format!("me:x:{uid}:{uid}::{}/account:/bin/sh\n", lab.top.display());
    lab.write("passwd", &line);
    assert_eq!(lab.hidden(), ["account/.ssh"]);
    lab.env.home = None;
    assert_eq!(lab.hidden(), ["account/.ssh"]);
    lab.request.workspace = Some(lab.top.join("account"));
    assert!(lab.refused().contains("it holds your home"));
    lab.request.workspace = None;
    lab.write("passwd", "");
    assert!(lab.warnings()[0].contains("no home is known"), "{:?}", lab.warnings());
}

#[test]
fn lists_extend_and_reopen() {
    let lab = Lab::new();
    for name in ["home/.aws/config", "home/.ssh/known_hosts", "home/private/x", "home/work/key.pem"]
    {
        lab.write(name, "");
    }
    lab.write("home/work/deep/er/other.pem", "");
    lab.user("hidden = ['~/private', '*.pem']\nreadable = ['~/.aws', '~/.ssh/known_hosts']");
    #[rustfmt::skip]
    let expected = ["home/.ssh", "home/private", "home/work/deep/er/other.pem", "home/work/key.pem"];
    assert_eq!(lab.hidden(), expected);
    assert_eq!(lab.names(&lab.loaded().policy.readable), ["home/.ssh/known_hosts"]);
}

#[test]
fn nothing_reopens_what_a_flag_or_the_project_hides() {
    let mut lab = Lab::new();
    lab.folder("home/.aws/sub");
    lab.write("home/work/notes", "");
    lab.user("readable = ['~/.aws', '~/.aws/sub', 'notes']");
    assert!(lab.hidden().is_empty());
    lab.request.hide = vec![PathBuf::from("~/.aws")];
    lab.project("hidden = ['notes']");
    assert_eq!(lab.hidden(), ["home/.aws", "home/work/notes"]);
    assert!(lab.loaded().policy.readable.is_empty());
}

#[test]
fn a_projects_pattern_does_not_search_the_machine() {
    let lab = Lab::new();
    lab.write("home/work/a/x.key", "");
    lab.project("hidden = ['/**/x.key', '../**/x.key', '~/*', 'a/*.key']");
    assert_eq!(lab.hidden(), ["home/work/a/x.key"]);
    let ignored = "ignored: a project file may not search outside the workspace";
    assert_eq!(lab.warnings().iter().filter(|text| text.contains(ignored)).count(), 3);
}

#[test]
fn what_is_not_there_is_said_to_be_uncovered() {
    let mut lab = Lab::new();
    lab.user("hidden = ['secrets.txt', '**/*.key']");
    lab.request.hide = vec![PathBuf::from("gone")];
    let text = |place: &str, name: &str| {
        format!("{place}: hidden path `{name}` does not exist now and is not covered")
    };
    let file = "TOP/home/.config/stockade/config.toml:1";
    let expected = [text(file, "secrets.txt"), text(file, "**/*.key"), text("--hide", "gone")];
    assert_eq!(lab.warnings(), expected);
}

#[test]
fn an_agent_sees_its_own_state_and_no_other_agents() {
    let mut lab = Lab::new();
    for name in ["home/.codex", "home/.claude", "home/.ssh"] {
        lab.folder(name);
    }
    lab.request.needs.state = vec![lab.top.join("home/.codex")];
    assert_eq!(lab.hidden(), ["home/.claude", "home/.ssh"]);
    // What the user hides is hidden from the agent, too: that start cannot work.
    lab.user("hidden = ['~/.codex']");
    assert!(lab.refused().contains("the agent's state `TOP/home/.codex` is refused: it is secret"));
}

#[test]
fn an_allow_list_for_reads_shows_toolchains_and_the_workspace() {
    let mut lab = Lab::new();
    for name in ["home/.cargo/bin", "home/.ssh", "home/notes", "home/tool/bin", "home/asked"] {
        lab.folder(name);
    }
    lab.write("home/.cargo/credentials.toml", "");
    let path = format!("/usr/bin:{}", lab.top.join("home/tool/bin").display());
    lab.env.vars.insert("PATH".into(), path.into());
    lab.user("read = 'workspace'\nreadable = ['~/asked']\n");
    let policy = lab.loaded().policy;
    let hidden = lab.names(&policy.hidden);
    assert!(hidden.contains(&"home".to_owned()), "{hidden:?}");
    assert!(hidden.contains(&"home/.cargo/credentials.toml".to_owned()), "{hidden:?}");
    assert_eq!(lab.names(&policy.readable), ["home/.cargo", "home/asked", "home/tool"]);
    // A root may lie in what is closed, and not in a secret.
    lab.request.add_dirs = vec![PathBuf::from("~/notes")];
    assert_eq!(lab.writable(), ["home/notes", "home/work"]);
    lab.request.add_dirs = vec![PathBuf::from("~/.ssh")];
    assert!(lab.refused().contains("it is secret"));
    // A project's own file may ask for it, and not undo it.
    lab.request.add_dirs.clear();
    lab.user("");
    lab.project("read = 'workspace'");
    assert!(lab.hidden().contains(&"home".to_owned()));
    lab.user("read = 'workspace'");
    lab.project("read = 'everything'");
    assert!(lab.hidden().contains(&"home".to_owned()));
}
