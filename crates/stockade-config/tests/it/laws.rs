//! What holds for every configuration. The alphabet of paths is tiny, so that cases collide.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stockade_policy::{AbsPath, Mode, Policy};

use crate::lab::Lab;

/// Entries of `writable_roots`, inside and outside the workspace.
fn any_roots() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("(\\.|a|b|a/a|a/b|b/b|\\.\\./c|\\.\\./c/a|gone)", 0..4)
}

fn lab() -> Lab {
    let lab = Lab::new();
    for name in ["work/a/a", "work/a/b", "work/b/b", "c/a"] {
        lab.folder(&format!("home/{name}"));
    }
    lab
}

fn table(roots: &[String]) -> String {
    format!("[sandbox_workspace_write]\nwritable_roots = {roots:?}\n")
}

fn may_write(policy: &Policy, path: &Path) -> bool {
    policy.writable.iter().map(AbsPath::as_path).any(|root| path.starts_with(root))
}

/// Every folder that an entry could name, and a file in each.
fn places(lab: &Lab) -> Vec<PathBuf> {
    let folders = ["work", "work/a", "work/a/a", "work/a/b", "work/b", "work/b/b", "c", "c/a", "."];
    let paths = folders.iter().map(|name| lab.top.join("home").join(name));
    paths.flat_map(|path| [path.join("file"), path]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Threat model, C2: a project's file cannot widen what the user allowed.
    #[test]
    fn a_projects_roots_never_widen(user in any_roots(), project in any_roots()) {
        let lab = lab();
        lab.user(&table(&user));
        let alone = lab.loaded().policy;
        lab.project(&table(&project));
        let both = lab.loaded().policy;
        lab.user("");
        for path in places(&lab) {
            prop_assert!(!may_write(&both, &path) || may_write(&alone, &path), "{}", path.display());
        }
    }

    /// Entries inside the workspace are all that is writable in it; those outside never are lost.
    #[test]
    fn roots_are_what_was_named(user in any_roots()) {
        let lab = lab();
        lab.user(&table(&user));
        let policy = lab.loaded().policy;
        let work = lab.work();
        let named: Vec<PathBuf> = user.iter().filter_map(|name| work.join(name).canonicalize().ok()).collect();
        let is_inside = |name: &String| !name.starts_with("..");
        for path in places(&lab) {
            let by_name = named.iter().any(|root| path.starts_with(root));
            let by_default = !user.iter().any(is_inside) && path.starts_with(&work);
            prop_assert_eq!(may_write(&policy, &path), by_name || by_default, "{}", path.display());
        }
    }

    /// Threat model, C2: whatever a project's file says of anything, it opens nothing.
    #[test]
    fn a_projects_file_opens_nothing(
        mode in prop::sample::select(vec!["read-only", "workspace-write", "danger-full-access"]),
        own in prop::sample::select(vec!["read-only", "workspace-write"]),
        lines in prop::collection::vec(prop::sample::select(vec![
            "readable = ['~/.ssh']", "unprotected = ['.env']", "hidden = ['a']",
            "env.pass = ['SECRET_TOKEN']", "network.allow = ['localhost:1']", "limits.processes = 4000000",
            "limits.tmp_size = '900G'", "approval_policy = 'never'",
        ]), 0..8),
    ) {
        let mut lab = lab();
        lab.folder("home/.ssh");
        lab.write("home/work/.env", "");
        lab.env.vars.insert("SECRET_TOKEN".into(), "x".into());
        lab.user(&format!("sandbox_mode = '{own}'"));
        let alone = lab.loaded();
        let mut text = format!("sandbox_mode = '{mode}'\n");
        let mut lines = lines;
        lines.sort_unstable();
        lines.dedup();
        for line in lines {
            writeln!(text, "{line}").unwrap();
        }
        lab.project(&text);
        let both = lab.loaded();
        prop_assert!(both.policy.mode == alone.policy.mode || both.policy.mode == Mode::ReadOnly);
        prop_assert!(alone.policy.hidden.iter().all(|path| both.policy.hidden.contains(path)));
        prop_assert!(both.policy.readable.is_empty() && both.policy.network.host_ports.is_empty());
        prop_assert!(both.policy.limits.processes <= alone.policy.limits.processes);
        prop_assert!(both.policy.limits.tmp_bytes <= alone.policy.limits.tmp_bytes);
        prop_assert!(both.environment.iter().all(|(name, _)| name != "SECRET_TOKEN"));
        for path in &both.policy.writable {
            prop_assert!(may_write(&alone.policy, path.as_path()));
        }
        let is_writable = |path: &&AbsPath| may_write(&both.policy, path.as_path());
        let mut protected = alone.policy.protected.iter().filter(is_writable);
        prop_assert!(protected.all(|path| both.policy.protected.contains(path)));
    }
}
