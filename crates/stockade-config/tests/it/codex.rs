//! Codex' own configuration, read with `--codex-config`.

use std::path::PathBuf;

use stockade_config::load;
use stockade_policy::{ApprovalPolicy, Mode};

use crate::lab::Lab;

fn with(text: &str) -> Lab {
    let mut lab = Lab::new();
    lab.write("home/.codex/config.toml", text);
    lab.request.codex_config = Some(PathBuf::new());
    lab
}

/// The names of variables that pass, of those that the test has set.
fn passed(lab: &Lab) -> Vec<String> {
    let names = lab.loaded().environment.into_iter().map(|(name, _)| name);
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter(|name| lab.env.vars.contains_key(std::ffi::OsStr::new(name))).collect()
}

/// DESIGN §5, as it is written there.
const EXAMPLE: &str = r#"
sandbox_mode = "workspace-write"
approval_policy = "on-request"

[sandbox_workspace_write]
writable_roots = ["src", "tests"]

[[rules]]
prefix = "npm test"          # or a list of words: ["cargo", ["test", "nextest"]]
allow = true                 # shorthand for decision = "allow"

[[rules]]
prefix = "cargo fetch"
decision = "ask"
reason = "fetches from the registry"
grant = { hosts = ["registries"] }   # what an approval opens, and nothing more

[[rules]]
prefix = "docker"
allow = false
"#;

#[test]
fn the_example_works_in_codex_file_and_in_the_users_own() {
    let codex = with(EXAMPLE);
    let own = Lab::new();
    own.user(EXAMPLE);
    for lab in [codex, own] {
        lab.folder("home/work/src");
        lab.folder("home/work/tests");
        let loaded = load(&lab.env, &lab.request).unwrap();
        assert_eq!(loaded.policy.mode, Mode::WorkspaceWrite);
        assert_eq!(loaded.approval, ApprovalPolicy::OnRequest);
        assert_eq!(lab.names(&loaded.policy.writable), ["home/work/src", "home/work/tests"]);
        let prefixes: Vec<String> =
            loaded.rule_set().rules().iter().map(|rule| rule.named().prefix).collect();
        assert_eq!(prefixes, ["npm test", "cargo fetch", "docker"]);
    }
}

#[test]
fn it_stands_below_the_users_own_file_and_above_the_systems() {
    let mut lab = with("sandbox_mode = 'read-only'\napproval_policy = 'never'\n");
    lab.write("system/config.toml", "approval_policy = 'untrusted'\n");
    assert_eq!(lab.loaded().policy.mode, Mode::ReadOnly);
    assert_eq!(lab.loaded().approval, ApprovalPolicy::Never);
    lab.user("sandbox_mode = 'workspace-write'\n");
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
    // Read only when it was asked for.
    lab.user("");
    lab.request.codex_config = None;
    assert_eq!(lab.loaded().policy.mode, Mode::WorkspaceWrite);
    assert_eq!(lab.loaded().approval, ApprovalPolicy::Untrusted);
}

#[test]
fn another_file_can_be_named_and_a_missing_one_is_an_error() {
    let mut lab = Lab::new();
    lab.write("home/work/x.toml", "sandbox_mode = 'read-only'\n");
    lab.request.codex_config = Some("x.toml".into());
    assert_eq!(lab.loaded().policy.mode, Mode::ReadOnly);
    lab.request.codex_config = Some("gone.toml".into());
    assert!(lab.refused().contains("there is no Codex configuration"));
    lab.write("codex/config.toml", "sandbox_mode = 'read-only'\n");
    lab.env.vars.insert("CODEX_HOME".into(), lab.top.join("codex").into());
    lab.request.codex_config = Some(PathBuf::new());
    assert_eq!(lab.loaded().policy.mode, Mode::ReadOnly);
}

#[test]
fn keys_for_something_else_are_a_warning_and_wrong_values_an_error() {
    let lab = with(
        "model = 'gpt-5'\nmodel_provider = 'x'\n[mcp_servers.a]\ncommand = 'x'\n\
         [sandbox_workspace_write]\nexclude_slash_tmp = true\nlater = 1\n\
         [shell_environment_policy]\nexperimental_use_profile = true\n[tui]\ntheme = 'x'\n",
    );
    let said = lab.warnings().join("\n");
    for name in ["mcp_servers", "model", "model_provider", "sandbox_workspace_write.later", "tui"] {
        assert!(said.contains(&format!("`{name}`")), "{name}: {said}");
    }
    assert!(said.contains("`shell_environment_policy.experimental_use_profile`"), "{said}");
    assert!(!said.contains("exclude_slash_tmp"), "{said}");
    assert!(with("sandbox_mode = 3\n").refused().contains("expected a string"));
    assert!(with("[shell_environment_policy]\ninherit = 'some'\n").refused().contains("one of"));
}

#[test]
fn approval_policies_of_all_ages_are_read() {
    for (text, policy, warning) in [
        ("'on-failure'", ApprovalPolicy::OnRequest, "read as `on-request`"),
        ("'untrusted'", ApprovalPolicy::Untrusted, ""),
        (
            "{ granular = { sandbox_approval = true, rules = true, mcp_elicitations = false } }",
            ApprovalPolicy::OnRequest,
            "",
        ),
        (
            "{ granular = { sandbox_approval = false, rules = true, mcp_elicitations = true, skill_approval = true } }",
            ApprovalPolicy::Granular { crossing: false, rules: true },
            "",
        ),
        (
            "{ granular = { rules = false, sandbox_approval = false, mcp_elicitations = true } }",
            ApprovalPolicy::Never,
            "",
        ),
    ] {
        let lab = with(&format!("approval_policy = {text}\n"));
        assert_eq!(lab.loaded().approval, policy, "{text}");
        assert!(lab.warnings().join("\n").contains(warning), "{text}");
    }
}

#[test]
fn a_granular_policy_that_says_too_little_or_something_else_is_refused() {
    for (text, why) in [
        ("{ granular = { rules = true } }", "all of `sandbox_approval`"),
        ("{ granular = true }", "`{ granular = {"),
        ("{ other = {} }", "`{ granular = {"),
        ("{ granular = { sandbox_approval = 1 } }", "`true` or `false`"),
        ("{ granular = { sandbox = true } }", "unknown key `sandbox`"),
    ] {
        let said = with(&format!("approval_policy = {text}\n")).refused();
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn the_environment_is_what_codex_would_hand_on_without_secrets() {
    let lab = |text: &str| {
        let mut lab = with(&format!("[shell_environment_policy]\n{text}\n"));
        for name in ["PATH", "HOME", "EDITOR", "MY_VAR", "MY_OTHER", "API_KEY", "LD_PRELOAD"] {
            lab.env.vars.insert(name.into(), "/x".into());
        }
        passed(&lab)
    };
    assert_eq!(lab(""), ["EDITOR", "HOME", "PATH"]);
    assert_eq!(lab("inherit = 'all'"), ["EDITOR", "HOME", "MY_OTHER", "MY_VAR", "PATH"]);
    assert_eq!(lab("inherit = 'core'"), ["HOME", "PATH"]);
    assert_eq!(lab("inherit = 'none'"), Vec::<String>::new());
    assert_eq!(lab("inherit = 'all'\nexclude = ['my_*', 'EDITOR']"), ["HOME", "PATH"]);
    assert_eq!(
        lab("inherit = 'all'\ninclude_only = ['PATH', 'MY_*']"),
        ["MY_OTHER", "MY_VAR", "PATH"]
    );
    // Secret-like names never pass, whatever it says.
    assert!(
        !lab("inherit = 'all'\nignore_default_excludes = true").contains(&"API_KEY".to_owned())
    );
    let set =
        with("[shell_environment_policy]\ninclude_only = ['A*']\nset = { A1 = 'x', B1 = 'y' }\n");
    let environment = set.loaded().environment;
    assert!(environment.iter().any(|(name, value)| name == "A1" && value == "x"));
    assert!(environment.iter().all(|(name, _)| name != "B1"));
}

#[test]
fn what_runs_inside_does_not_change_the_file_that_decides() {
    let mut lab = with("sandbox_mode = 'workspace-write'\n");
    lab.request.needs.state = vec![lab.top.join("home/.codex")];
    assert!(lab.protected().contains(&"home/.codex/config.toml".to_owned()));
}
