//! Clone and snapshot: complete, harmless, and without a trace in the user's repository.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use stockade_threads::changes::ChangeSet;
use stockade_threads::flags::flags;
use stockade_threads::git::{CloneError, LocalChanges, SnapshotError, clone_head};
use stockade_threads::record::Changes;

use crate::project::{Project, assert_same, git};

/// Raw lines of the diff between the two looks: status and path.
fn changed(project: &Project, changes: &Changes) -> Vec<String> {
    let directory = project.thread().join("changes.git");
    let words =
        ["diff-tree", "-r", "--name-status", "--no-renames", &changes.base, &changes.result];
    let text = git(&directory, &words);
    let lines: Vec<String> = text.lines().map(|line| line.replace('\t', " ")).collect();
    assert_eq!(lines.len(), usize::try_from(changes.files).unwrap());
    lines
}

/// A configuration in which git runs a program at every opportunity, and the file that shows it.
pub(crate) fn trap(project: &Project) -> std::path::PathBuf {
    let trace = project.folder.path().join("trace");
    let program = project.folder.path().join("trap.sh");
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $@\" >> {}\ncat\n", trace.display()))
        .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.editor",
        "core.pager",
        "diff.external",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "diff.x.textconv",
        "diff.x.command",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "core.alternateRefsCommand",
    ] {
        project.git(&["config", key, &program]);
    }
    project.git(&["config", "core.hooksPath", &project.folder.path().display().to_string()]);
    for hook in ["post-index-change", "reference-transaction", "post-checkout"] {
        fs::copy(&program, project.folder.path().join(hook)).unwrap();
    }
    project.write(".gitattributes", "* filter=x diff=x\n");
    trace
}

#[test]
fn a_snapshot_sees_what_changed_and_leaves_no_trace() {
    let project = Project::new(&[
        ("kept", "a\n"),
        ("edited", "a\n"),
        ("gone", "a\n"),
        ("type", "a\n"),
        ("folder/inner", "a\n"),
        (".gitignore", "ignored\n"),
    ]);
    project.write("dirty", "untracked before\n");
    project.write("ignored", "secret\n");
    project.write("edited", "dirty before\n");
    let before = project.everything();
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    assert_same(&before, &project.everything(), "the first look writes nothing");

    project.write("edited", "after\n");
    project.write("new\tname", "x\n");
    fs::remove_file(project.work().join("gone")).unwrap();
    fs::remove_file(project.work().join("type")).unwrap();
    symlink("kept", project.work().join("type")).unwrap();
    fs::remove_dir_all(project.work().join("folder")).unwrap();
    project.write("folder", "a file now\n");
    fs::set_permissions(project.work().join("kept"), fs::Permissions::from_mode(0o755)).unwrap();
    let before = project.everything();
    let outcome = changes.finish().unwrap();
    assert_same(&before, &project.everything(), "the second neither");
    let seen = changed(&project, &outcome);
    let expected = [
        "M edited",
        "A folder",
        "D folder/inner",
        "D gone",
        "M kept",
        "A \"new\\tname\"",
        "T type",
    ];
    assert_eq!(seen, expected);
    assert!(outcome.left_out.is_empty());
}

/// Threat model, R2: "Taking, showing or applying a result runs nothing that … a repository names."
#[test]
fn no_program_that_a_repository_names_is_run() {
    let project = Project::new(&[("a", "a\n"), ("b", "b\n")]);
    let trace = trap(&project);
    project.git(&["status"]);
    assert!(trace.exists(), "a trap that does not spring proves nothing");
    fs::remove_file(&trace).unwrap();
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    project.write("a", "changed\n");
    project.write("c", "new\n");
    let outcome = changes.finish().unwrap();
    assert_eq!(changed(&project, &outcome), ["M a", "A c"]);
    let shown = ChangeSet::open(&project.thread(), &outcome).unwrap();
    shown.patch(&[], &mut |_| Ok(())).unwrap();
    flags(&shown).unwrap();
    let target = project.folder.path().join("clone");
    clone_head(&project.work(), &target).unwrap();
    let said = fs::read_to_string(&trace).unwrap_or_default();
    assert_eq!(said, "");
}

#[test]
fn attributes_are_those_from_before_and_submodules_are_told() {
    let project = Project::new(&[("a", "a\n"), (".gitattributes", "*.crlf text eol=crlf\n")]);
    project.write("x.crlf", "a\r\nb\r\n");
    project.git(&["clone", "-q", ".", "module"]);
    project.commit();
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    // The line ends are as git has them: only the line that changed is a change.
    project.write("x.crlf", "a\r\nB\r\n");
    // An encoding that nothing can be read in would end the look.
    project.write(".gitattributes", "* working-tree-encoding=nonsense\n");
    project.write("module/a", "changed\n");
    let outcome = changes.finish().unwrap();
    assert_eq!(changed(&project, &outcome), ["M .gitattributes", "M x.crlf"]);
    let shown = ChangeSet::open(&project.thread(), &outcome).unwrap();
    let counts: Vec<_> = shown.lines(&[]).unwrap().into_iter().map(|lines| lines.counts).collect();
    assert_eq!(counts, [Some((1, 1)), Some((1, 1))]);
    let told: Vec<&str> = outcome.left_out.iter().map(|left| left.why.as_str()).collect();
    assert_eq!(told, ["a submodule"]);
}

#[test]
fn marks_in_the_index_hide_nothing() {
    let project = Project::new(&[("a", "a\n"), ("b", "b\n"), ("c", "c\n")]);
    project.git(&["update-index", "--assume-unchanged", "a"]);
    project.git(&["update-index", "--skip-worktree", "b"]);
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    project.write("a", "evil\n");
    project.write("b", "evil\n");
    // As an agent can, who may write to the index.
    project.git(&["update-index", "--assume-unchanged", "c"]);
    project.write("c", "evil\n");
    let outcome = changes.finish().unwrap();
    assert_eq!(changed(&project, &outcome), ["M a", "M b", "M c"]);
}

#[test]
fn what_is_left_out_is_told() {
    let project = Project::new(&[("a", "a\n")]);
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    let inner = project.work().join("inner");
    fs::create_dir(&inner).unwrap();
    git(&inner, &["init", "-q"]);
    fs::write(inner.join("x"), "x").unwrap();
    let large = fs::File::create(project.work().join("large")).unwrap();
    large.set_len(100 << 20).unwrap();
    let fifo = project.work().join("a");
    fs::remove_file(&fifo).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let outcome = changes.finish().unwrap();
    let told: Vec<String> = outcome
        .left_out
        .iter()
        .map(|entry| format!("{}: {}", entry.path.to_path().display(), entry.why))
        .collect();
    let expected =
        ["a: neither a file nor a link", "inner/: a repository of its own", "large: a large file"];
    assert_eq!(told, expected);
    assert!(changed(&project, &outcome).is_empty());
}

#[test]
fn hidden_files_are_not_read() {
    let project = Project::new(&[("a", "a\n"), ("key", "k\n")]);
    project.write("key", "changed before\n");
    project.write("secrets/deep", "untracked\n");
    let hidden = ["key", "secrets"].map(|name| project.work().join(name));
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &hidden).unwrap();
    project.write("a", "b\n");
    project.write("key", "changed after\n");
    project.write("secrets/deep", "changed\n");
    assert_eq!(changed(&project, &changes.finish().unwrap()), ["M a"]);
    let kept =
        git(&project.thread().join("changes.git"), &["cat-file", "--batch-all-objects", "--batch"]);
    assert!(
        kept.contains("b\n") && !kept.contains("untracked") && !kept.contains("before"),
        "{kept}"
    );
}

#[test]
fn odd_repositories_are_looked_at_too() {
    // Before the first commit; in a linked worktree; in a folder of a repository; in conflict.
    let unborn = Project::plain();
    unborn.git(&["init", "-q"]);
    unborn.write("a", "a\n");
    let changes = LocalChanges::begin(&unborn.work(), &unborn.thread(), &[]).unwrap();
    unborn.write("a", "b\n");
    assert_eq!(changed(&unborn, &changes.finish().unwrap()), ["M a"]);

    let project = Project::new(&[("deep/a", "a\n"), ("b", "b\n")]);
    let linked = project.folder.path().canonicalize().unwrap().join("linked");
    project.git(&["worktree", "add", "-q", &linked.display().to_string()]);
    let changes = LocalChanges::begin(&linked, &project.thread(), &[]).unwrap();
    fs::write(linked.join("b"), "changed\n").unwrap();
    assert_eq!(changed(&project, &changes.finish().unwrap()), ["M b"]);

    fs::remove_dir_all(project.thread().join("changes.git")).unwrap();
    let deep = project.work().join("deep");
    let changes = LocalChanges::begin(&deep, &project.thread(), &[]).unwrap();
    project.write("deep/a", "changed\n");
    project.write("b", "outside the workspace\n");
    assert_eq!(changed(&project, &changes.finish().unwrap()), ["M deep/a"]);

    let project = Project::new(&[("a", "a\n")]);
    project.git(&["checkout", "-qb", "other"]);
    project.write("a", "theirs\n");
    project.commit();
    project.git(&["checkout", "-q", "main"]);
    project.write("a", "ours\n");
    project.commit();
    let folder = project.work();
    let merge = std::process::Command::new("git")
        .args(["merge", "-q", "other"])
        .current_dir(folder)
        .output();
    assert!(!merge.unwrap().status.success(), "a conflict was wanted");
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    project.write("a", "solved\n");
    assert_eq!(changed(&project, &changes.finish().unwrap()), ["M a"]);
}

#[test]
fn a_folder_without_a_repository_is_compared_up_to_a_limit() {
    let project = Project::plain();
    project.write("a", "a\n");
    project.write("b/c", "c\n");
    let before = project.everything();
    let changes = LocalChanges::begin(&project.work(), &project.thread(), &[]).unwrap();
    assert_same(&before, &project.everything(), "a look writes nothing");
    project.write("b/c", "changed\n");
    assert_eq!(changed(&project, &changes.finish().unwrap()), ["M b/c"]);

    fs::remove_dir_all(project.thread().join("changes.git")).unwrap();
    for name in 0..9 {
        let file = fs::File::create(project.work().join(format!("large{name}"))).unwrap();
        file.set_len(60 << 20).unwrap();
    }
    let refused = LocalChanges::begin(&project.work(), &project.thread(), &[]);
    assert!(matches!(refused, Err(SnapshotError::TooLarge { .. })));
}

#[test]
fn a_clone_is_whole_apart_and_leaves_no_trace() {
    let project = Project::new(&[("a", "a\n"), ("b/c", "c\n")]);
    project.write("a", "second\n");
    project.commit();
    project.git(&["remote", "add", "origin", "https://example.org/x.git"]);
    project.write("a", "uncommitted\n");
    project.write("untracked", "x\n");
    let before = project.everything();
    let target = project.folder.path().canonicalize().unwrap().join("clone");
    let cloned = clone_head(&project.work(), &target).unwrap();
    assert_same(&before, &project.everything(), "a look writes nothing");

    assert_eq!(cloned.branch.as_deref(), Some("main"));
    assert_eq!(cloned.commit.as_str(), project.git(&["rev-parse", "HEAD"]).trim());
    assert_eq!(cloned.tree.as_str(), project.git(&["rev-parse", "HEAD^{tree}"]).trim());
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "second\n");
    assert!(!target.join("untracked").exists());
    assert_eq!(git(&target, &["status", "--porcelain"]), "");
    assert_eq!(git(&target, &["log", "--oneline"]).lines().count(), 2);
    assert_eq!(git(&target, &["fsck", "--full"]), "");
    assert_eq!(git(&target, &["remote"]), "");
    let config = fs::read_to_string(target.join(".git/config")).unwrap();
    let ours = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n\
        [user]\n\tname = Agent\n\temail = agent@localhost\n";
    assert_eq!(config, ours, "nothing of the user's");
    assert!(!target.join(".git/objects/info/alternates").exists());
    assert!(!target.join(".git/hooks").exists());

    assert!(matches!(clone_head(Path::new("/"), &target), Err(CloneError::NoRepository(_))));
    let unborn = Project::plain();
    unborn.git(&["init", "-q"]);
    assert!(matches!(clone_head(&unborn.work(), &target), Err(CloneError::NoCommit(_))));
}

#[test]
fn shallow_detached_and_foreign_repositories_are_cloned() {
    let project = Project::new(&[("a", "a\n")]);
    for content in ["b\n", "c\n"] {
        project.write("a", content);
        project.commit();
    }
    let top = project.folder.path().canonicalize().unwrap();
    let shallow = top.join("shallow");
    let url = format!("file://{}", project.work().display());
    git(&top, &["clone", "-q", "--depth", "2", &url, "shallow"]);
    git(&shallow, &["checkout", "-q", "--detach"]);
    let cloned = clone_head(&shallow, &top.join("one")).unwrap();
    assert!(cloned.is_shallow && cloned.branch.is_none());
    assert_eq!(git(&top.join("one"), &["log", "--oneline"]).lines().count(), 2);

    // A submodule is an empty folder, and told.
    let inner = project.work().join("inner");
    git(&project.work(), &["clone", "-q", &url, "inner"]);
    project.commit();
    assert!(inner.exists());
    let cloned = clone_head(&project.work(), &top.join("two")).unwrap();
    assert_eq!(cloned.submodules, [Path::new("inner")]);

    if rustix::process::geteuid().is_root() {
        let mut chown = std::process::Command::new("chown");
        assert!(chown.args(["-R", "12345"]).arg(project.work()).status().unwrap().success());
        clone_head(&project.work(), &top.join("three")).unwrap();
    }
}
