//! What becomes of a cloud thread's changes besides `apply`: a branch, or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use stockade_threads::record::{Kind, State};

use crate::{Home, git, text, write};

/// Every file of the work tree and of `.git`, by name.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// A hook of every name that writes when it is run; the control is that git runs some.
fn plant_hooks(home: &Home) -> PathBuf {
    let canary = home.folder.path().join("canary");
    for name in ["reference-transaction", "post-commit", "pre-push", "post-checkout"] {
        let hook = home.work().join(".git/hooks").join(name);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\necho {name} >> '{}'\n", canary.display())).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    git(&home.work(), &["branch", "control"]);
    assert!(fs::read_to_string(&canary).unwrap().contains("reference-transaction"));
    fs::remove_file(&canary).unwrap();
    canary
}

/// What a branch is made of was checked, and making it runs nothing and moves nothing.
///
/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn a_branch_has_the_guests_commits_and_everything_else_stays() {
    let home = Home::new(&[("src/a", "a\n"), ("b", "b\n"), ("gone", "x\n")]);
    let canary = plant_hooks(&home);
    let id = home.cloud(|clone| {
        write(clone, "src/a", "A\n");
        git(clone, &["commit", "-qam", "first \u{1b}[2Jone\n\nwith \u{202e}words"]);
        fs::remove_file(clone.join("gone")).unwrap();
        write(clone, "new/file", "n\n");
        git(clone, &["add", "-A"]);
        git(clone, &["commit", "-qm", "second"]);
        write(clone, "b", "not committed\n");
    });
    // The user has gone on meanwhile.
    write(&home.work(), "b", "user\n");
    git(&home.work(), &["commit", "-qam", "meanwhile"]);
    write(&home.work(), "untracked", "u\n");
    let base = text(&git(&home.work(), &["rev-parse", "HEAD~"]));
    fs::remove_file(&canary).ok();
    let before = everything(&home.work());
    let made = home.json(&["threads", "branch", "--json"]);
    assert_eq!(made["branch"], "stockade/split-it");
    let mut after = everything(&home.work());
    let is_new = |path: &PathBuf| !before.contains_key(path);
    let mut new: Vec<PathBuf> = after.keys().filter(|path| is_new(path)).cloned().collect();
    new.retain(|path| !path.starts_with(home.work().join(".git/objects/pack")));
    let branch = Path::new("refs/heads/stockade/split-it");
    let git_folder = home.work().join(".git");
    assert_eq!(new, [git_folder.join("logs").join(branch), git_folder.join(branch)]);
    after.retain(|path, _| before.contains_key(path));
    assert!(before == after, "index, HEAD, branches and files stay");
    assert!(!canary.exists(), "{}", fs::read_to_string(&canary).unwrap());

    let log = git(&home.work(), &["log", "--format=%s|%an|%ae|%b", "stockade/split-it", "-3"]);
    let log = text(&log);
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'), "{log:?}");
    let expected = [
        "split it|Tester|t@example.org|What was not committed",
        "second|Tester|",
        "first [2Jone|Tester|",
    ];
    for words in expected {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(log.contains(&format!("Stockade-Thread: {id}")), "{log}");
    let parent = text(&git(&home.work(), &["rev-parse", "stockade/split-it~3"]));
    assert_eq!(parent, base, "it begins where the clone did");
    let show =
        |name: &str| text(&git(&home.work(), &["show", &format!("stockade/split-it:{name}")]));
    assert_eq!((show("src/a").as_str(), show("b").as_str()), ("A\n", "not committed\n"));
    assert_eq!(show("new/file"), "n\n");
    let listed = text(&git(&home.work(), &["ls-tree", "-r", "--name-only", "stockade/split-it"]));
    assert_eq!(listed, "b\nnew/file\nsrc/a\n");
    git(&home.work(), &["fsck", "--strict", "--full"]);

    assert_eq!(home.json(&["threads", "branch", "--json"]), made, "twice is once");
    assert!(home.said(&["threads", "branch", &id, "main"], 1).contains("already"), "not moved");
    assert_eq!(text(&git(&home.work(), &["rev-parse", "main~"])), base);
    for name in ["../x", "-d", "refs/heads/x", "a b", "x.lock", "HEAD"] {
        let said = home.stockade(&["threads", "branch", &id, "--", name]);
        assert_eq!(said.status.code(), Some(1), "{name}: {}", text(&said.stderr));
        assert!(text(&said.stderr).contains("no name for a branch"), "{}", text(&said.stderr));
    }
    home.said(&["threads", "branch", &id, "my/own"], 0);
    git(&home.work(), &["rev-parse", "--verify", "my/own"]);
    assert!(home.said(&["log"], 0).contains("branch my/own at "));
}

#[test]
fn commits_that_are_no_line_become_one_and_names_vary() {
    let home = Home::new(&[("a", "a\n"), (".github/x", "x\n")]);
    let amended = home.cloud(|clone| {
        write(clone, "a", "A\n");
        git(clone, &["commit", "-q", "--amend", "-am", "rewritten"]);
    });
    // Its author would take a base of its own.
    let told = home.stockade(&["threads", "branch", &amended]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let log = text(&git(&home.work(), &["log", "--format=%s", "stockade/split-it"]));
    assert_eq!(log, "split it\nstart\n");
    let second = home.cloud(|clone| write(clone, ".github/workflows/ci.yml", "on: push\n"));
    let output = home.stockade(&["threads", "branch", &second]);
    assert!(text(&output.stdout).starts_with("stockade/split-it-2 "), "{}", text(&output.stdout));
    let held = "look at this before you take it up: .github/workflows/ci.yml (ci-file)";
    assert!(text(&output.stderr).contains(held), "{}", text(&output.stderr));

    let nothing = home.cloud(|_| {});
    assert!(home.said(&["threads", "branch", &nothing], 1).contains("changed nothing"));
    // In a work tree of its own, as in the main one.
    let linked = home.folder.path().join("linked");
    git(&home.work(), &["worktree", "add", "-q", "-b", "linked", linked.to_str().unwrap()]);
    home.said(&["threads", "-C", linked.to_str().unwrap(), "branch", &second, "from-linked"], 2);
    home.said(&["threads", "branch", "-C", linked.to_str().unwrap(), &second, "from-linked"], 0);

    let nobody = home.folder.path().join(".gitconfig");
    fs::write(nobody, "[user]\nuseConfigOnly = true\n").unwrap();
    let said = home.said(&["threads", "branch", &second, "other"], 1);
    assert!(said.contains("does not know who you are") && said.contains("user.name"), "{said}");
}

#[test]
fn changes_are_dropped_and_the_record_stays() {
    let home = Home::new(&[("a", "a\n")]);
    let id = home.cloud(|clone| write(clone, "a", "A\n"));
    home.said(&["threads", "discard", &id], 0);
    assert!(!home.store().folder(&id.parse().unwrap()).join("changes.git").exists());
    let shown = home.json(&["threads", "show", &id, "--json"]);
    assert_eq!((&shown["changes"], &shown["state"]), (&json!(0), &json!("completed")));
    assert!(home.said(&["log"], 0).contains("changes of 1 file dropped"));
    for verb in ["diff", "apply", "branch"] {
        let said = home.said(&["threads", verb, &id], 1);
        assert!(said.contains("they were discarded"), "{verb}: {said}");
    }
    let busy = home.begin(Kind::Cloud, "at work");
    assert!(home.said(&["threads", "discard", "last"], 1).contains("is at work"));
    drop(busy);
    let local = home.begin(Kind::Local, "here");
    local.finish(State::Completed, 0, "").unwrap();
    let said = home.said(&["threads", "discard", local.id().as_str()], 1);
    assert!(said.contains("your own files"), "{said}");
}

#[test]
fn a_thread_that_lost_its_process_is_cancelled_and_an_ended_one_is_not() {
    let home = Home::new(&[("a", "a\n")]);
    let lost = home.begin(Kind::Cloud, "lost");
    let id = lost.id().to_string();
    drop(lost);
    assert_eq!(home.json(&["threads", "show", &id, "--json"])["state"], "interrupted");
    home.said(&["threads", "cancel", &id], 0);
    let shown = home.json(&["threads", "show", &id, "--json"]);
    assert_eq!(shown["state"], "cancelled");
    home.said(&["threads", "cancel", &id], 0);
    let done = home.cloud(|_| {});
    let said = home.said(&["threads", "cancel", &done], 1);
    assert!(said.contains("has ended: completed"), "{said}");
    home.said(&["threads", "cancel"], 2);
}
