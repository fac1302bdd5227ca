//! Writable roots, and what stays read-only in them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use stockade_policy::Mode;

use crate::lab::{Lab, git};

/// DESIGN §4: entries inside the workspace replace it, entries outside are added to it.
#[test]
fn the_rule_of_narrowing() {
    #[rustfmt::skip]
    const CASES: &[(&str, &[&str])] = &[
        ("[]",                        &["home/work"]),
        ("['src']",                   &["home/work/src"]),
        ("['src', 'tests']",          &["home/work/src", "home/work/tests"]),
        ("['./src/', 'src/../tests']",&["home/work/src", "home/work/tests"]),
        ("['../other']",              &["home/other", "home/work"]),
        ("['~/other']",               &["home/other", "home/work"]),
        ("['src', '~/other']",        &["home/other", "home/work/src"]),
        ("['.', 'src']",              &["home/work", "home/work/src"]),
        ("['src', 'src/deep', 'src']",&["home/work/src", "home/work/src/deep"]),
        ("['file.txt']",              &["home/work/file.txt"]),
        ("['link']",                  &["home/other", "home/work"]),
        ("['missing']",               &[]),
        ("['../missing']",            &["home/work"]),
    ];
    let lab = Lab::new();
    for name in ["home/work/src/deep", "home/work/tests", "home/other"] {
        lab.folder(name);
    }
    lab.write("home/work/file.txt", "");
    lab.link("home/work/link", "../other");
    for &(roots, expected) in CASES {
        lab.user(&format!("[sandbox_workspace_write]\nwritable_roots = {roots}"));
        assert_eq!(lab.writable(), expected, "{roots}");
    }
}

#[test]
fn a_missing_root_is_named_with_its_line() {
    let lab = Lab::new();
    lab.user("[sandbox_workspace_write]\nwritable_roots = [\n  'gone',\n]");
    let place = "TOP/home/.config/stockade/config.toml:3";
    let expected = format!("{place}: writable root `TOP/home/work/gone` does not exist");
    assert_eq!(lab.warnings(), [expected]);
}

#[test]
fn roots_that_are_protected_secret_or_too_large_are_refused_by_name() {
    #[rustfmt::skip]
    const CASES: &[(&str, &str)] = &[
        ("/",                       "holds your home"),
        ("~",                       "holds your home"),
        ("..",                      "holds your home"),
        ("~/.ssh",                  "is secret"),
        ("~/.ssh/sub",              "is secret"),
        ("~/keys",                  "is secret"),
        ("~/.config/stockade",      "own files"),
        ("~/.local",                "could be planted"),
        ("~/.cache",                "could be planted"),
        ("/etc",                    "belongs to the system"),
        ("/proc/self",              "belongs to the system"),
        ("/dev",                    "belongs to the system"),
        (".git/hooks",              "is protected"),
        (".git/config",             "is protected"),
        (".env",                    "is protected"),
        (".vscode",                 "is protected"),
        (".vscode/deep",            "is protected"),
        ("../other/.git/hooks",     "is protected"),
    ];
    let mut lab = Lab::new();
    for name in [
        "home/.ssh/sub",
        "home/.config/stockade",
        "home/.local",
        "home/.cache",
        "home/work/.vscode/deep",
    ] {
        lab.folder(name);
    }
    lab.link("home/keys", ".ssh");
    lab.write("home/work/.env", "");
    for name in ["home/work", "home/other"] {
        let folder = lab.folder(name);
        git(&folder, &["init", "-q"]);
    }
    for &(root, expected) in CASES {
        lab.request.add_dirs = vec![PathBuf::from(root)];
        let text = lab.refused();
        assert!(text.contains(&format!("`{root}`")) && text.contains(expected), "{root}: {text}");
    }
}

#[test]
fn a_protected_name_is_no_reason_where_it_is_an_ordinary_one() {
    let mut lab = Lab::new();
    lab.folder("home/work/src/.vscode");
    lab.request.add_dirs = vec![PathBuf::from("src/.vscode")];
    assert_eq!(lab.writable(), ["home/work/src/.vscode"]);
    // A worktree that an agent made in its own folder is a workspace like any other.
    lab.folder("home/repo/.claude/worktrees/one/src");
    lab.env.current = lab.top.join("home/repo/.claude/worktrees/one");
    lab.request.add_dirs = vec![PathBuf::from("src")];
    assert_eq!(lab.writable(), ["home/repo/.claude/worktrees/one/src"]);
}

#[test]
fn the_hosts_temporary_folder_is_never_a_root() {
    let mut lab = Lab::new();
    lab.request.add_dirs = vec![PathBuf::from("/tmp")];
    assert_eq!(lab.writable(), ["home/work"]);
    assert!(lab.warnings()[0].contains("`/tmp` is private to every run"), "{:?}", lab.warnings());
}

#[test]
fn strange_names_and_five_hundred_roots_are_fine() {
    let mut lab = Lab::new();
    let strange: Vec<PathBuf> = [b"a b".as_slice(), b"new\nline", b"\xff\xfe", b"*?[x]", b"--x"]
        .into_iter()
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .collect();
    for name in &strange {
        std::fs::create_dir(lab.work().join(name)).unwrap();
    }
    lab.request.add_dirs = strange.clone();
    let loaded = lab.loaded();
    let mut expected: Vec<PathBuf> = strange.iter().map(|name| lab.work().join(name)).collect();
    expected.sort();
    let writable: Vec<PathBuf> =
        loaded.policy.writable.iter().map(|path| path.as_path().to_owned()).collect();
    assert_eq!(writable, expected);
    lab.request.add_dirs = (0..500).map(|index| PathBuf::from(format!("d{index}"))).collect();
    for name in &lab.request.add_dirs {
        std::fs::create_dir(lab.work().join(name)).unwrap();
    }
    assert_eq!(lab.loaded().policy.writable.len(), 500);
}

/// Threat model, C1: "Stockade's own configuration, record and images cannot be written from
/// inside."
#[test]
fn stockades_own_files_stay_read_only_in_a_root_that_holds_them() {
    let mut lab = Lab::new();
    lab.folder("home/.local/state/stockade");
    lab.folder("home/dotfiles");
    lab.user("");
    lab.request.add_dirs = vec![PathBuf::from("~/.config")];
    assert_eq!(lab.protected(), ["home/.config/stockade"]);
    // The images that machines boot, and the record, wherever the base folders are.
    lab.folder("home/.cache/stockade/vm");
    lab.folder("caches/stockade");
    lab.folder("state/stockade");
    lab.request.add_dirs =
        vec![PathBuf::from("~/.cache"), lab.folder("caches"), lab.folder("state")];
    lab.env.vars.insert("XDG_CACHE_HOME".into(), lab.top.join("caches").into());
    lab.env.vars.insert("XDG_STATE_HOME".into(), lab.top.join("state").into());
    assert_eq!(lab.protected(), ["caches/stockade", "home/.cache/stockade", "state/stockade"]);
    assert!(lab.hidden().contains(&"state/stockade".to_owned()));
    // A link into the workspace leads to a file there.
    lab.request.add_dirs.clear();
    std::fs::remove_file(lab.top.join("home/.config/stockade/config.toml")).unwrap();
    lab.write("home/work/stockade.toml", "");
    lab.link("home/.config/stockade/config.toml", "../../work/stockade.toml");
    assert_eq!(lab.protected(), ["home/work/stockade.toml"]);
    // The folder itself is no workspace, except to look at.
    lab.env.current = lab.top.join("home/.config/stockade");
    assert!(lab.refused().contains("own files lie there"));
    lab.request.mode = Some(Mode::ReadOnly);
    assert!(lab.writable().is_empty());
}

#[test]
fn read_only_has_no_root_and_the_agents_state_stays_its_own() {
    let mut lab = Lab::new();
    lab.folder("home/.codex");
    lab.folder("home/work/src");
    lab.request.mode = Some(Mode::ReadOnly);
    lab.request.add_dirs = vec![PathBuf::from("src")];
    assert!(lab.writable().is_empty() && lab.protected().is_empty());
    lab.request.needs.state = vec![lab.top.join("home/.codex")];
    assert_eq!(lab.writable(), ["home/.codex"]);
}

#[test]
fn what_no_agent_may_have_as_its_state_is_refused() {
    let mut lab = Lab::new();
    for name in ["home/.ssh", "home/.codex/inner", "home/.claude", "home/.config/stockade"] {
        lab.folder(name);
    }
    for name in ["home", "", "home/.ssh", "home/.config/stockade"] {
        lab.request.needs.state = vec![lab.top.join(name)];
        let text = lab.refused();
        assert!(text.contains("the agent's state"), "{name}: {text}");
    }
    lab.request.needs.state = vec![lab.top.join("home/.codex/inner")];
    assert_eq!(lab.hidden(), ["home/.claude", "home/.codex", "home/.ssh"], "and writable inside");
}

#[test]
fn the_state_of_an_agent_is_writable_also_where_home_is_a_repository() {
    let mut lab = Lab::new();
    let home = lab.folder("home");
    lab.folder("home/.codex");
    git(&home, &["init", "-q"]);
    lab.request.needs.state = vec![home.join(".codex")];
    assert!(!lab.protected().contains(&"home/.codex".to_owned()), "{:?}", lab.protected());
    assert!(lab.writable().contains(&"home/.codex".to_owned()));
}

#[test]
fn protected_names_at_the_top_of_workspace_and_repository() {
    let lab = Lab::new();
    let files =
        [".env", ".env.local", ".env.example", ".envrc", "x.code-workspace", "package.json"];
    for file in files.iter().chain(&[".vscode/tasks.json", ".cargo/config.toml", "src/.env"]) {
        lab.write(&format!("home/work/{file}"), "");
    }
    git(&lab.work(), &["init", "-q"]);
    #[rustfmt::skip]
    let expected = [
        ".cargo/config.toml", ".env", ".env.local", ".envrc", ".git/config", ".git/hooks", ".vscode",
        "x.code-workspace",
    ];
    assert_eq!(lab.protected(), expected.map(|name| format!("home/work/{name}")));
    lab.user("unprotected = ['.env.*', '.git/config', '.vscode']");
    let expected = [".cargo/config.toml", ".env", ".envrc", ".git/hooks", "x.code-workspace"];
    assert_eq!(lab.protected(), expected.map(|name| format!("home/work/{name}")));
}

#[test]
fn inside_a_bigger_repository_only_its_git_directory_is_opened() {
    let mut lab = Lab::new();
    let repo = lab.folder("home/repo");
    git(&repo, &["init", "-q"]);
    lab.write("home/repo/.env", "");
    lab.write("home/repo/part/.env", "");
    lab.folder("home/repo/part/src");
    lab.env.current = repo.join("part");
    assert_eq!(lab.writable(), ["home/repo/.git", "home/repo/part"]);
    let expected = [".git/config", ".git/hooks", "part/.env"];
    assert_eq!(lab.protected(), expected.map(|name| format!("home/repo/{name}")));
    // Narrowed roots leave git usable.
    lab.request.add_dirs = vec![PathBuf::from("src")];
    assert_eq!(lab.writable(), ["home/repo/.git", "home/repo/part/src"]);
}

#[test]
fn a_repository_in_an_added_folder_is_protected_too() {
    let mut lab = Lab::new();
    let other = lab.folder("home/other");
    git(&other, &["init", "-q"]);
    lab.write("home/other/.envrc", "");
    lab.request.add_dirs = vec![PathBuf::from("../other")];
    assert_eq!(
        lab.protected(),
        ["home/other/.envrc", "home/other/.git/config", "home/other/.git/hooks"]
    );
}

#[test]
fn hooks_that_git_takes_from_the_work_tree_are_protected_there() {
    let lab = Lab::new();
    lab.write("home/work/.githooks/pre-commit", "");
    git(&lab.work(), &["init", "-q"]);
    git(&lab.work(), &["config", "core.hooksPath", ".githooks"]);
    assert!(lab.protected().contains(&"home/work/.githooks".to_owned()), "{:?}", lab.protected());
}

#[test]
fn a_linked_git_directory_is_opened_and_the_link_stays() {
    let lab = Lab::new();
    let store = lab.folder("home/store");
    git(&store, &["init", "-q"]);
    lab.link("home/work/.git", "../store/.git");
    assert_eq!(lab.writable(), ["home/store/.git", "home/work"]);
    assert_eq!(
        lab.protected(),
        ["home/store/.git/config", "home/store/.git/hooks", "home/work/.git"]
    );
}

#[test]
fn workspaces_that_hold_home_or_a_secret_are_refused() {
    let mut lab = Lab::new();
    lab.folder("home/.ssh/sub");
    lab.write("home/file", "");
    for (name, expected) in [
        ("home", "it holds your home"),
        ("", "it holds your home"),
        ("home/.ssh/sub", "lies in `TOP/home/.ssh`, which is hidden"),
        ("home/file", "not a folder"),
        ("home/gone", "cannot read"),
    ] {
        lab.request.workspace = Some(lab.top.join(name));
        let text = lab.refused();
        assert!(text.contains(expected), "{name}: {text}");
    }
    lab.request.workspace = Some(PathBuf::from("/proc/self"));
    assert!(lab.refused().contains("belongs to the system"));
    // A link is no way round.
    lab.link("home/work/up", "..");
    lab.request.workspace = Some(PathBuf::from("up"));
    assert!(lab.refused().contains("it holds your home"));
}
