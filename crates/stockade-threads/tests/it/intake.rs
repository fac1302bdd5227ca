//! What a guest hands back: taken whole when it is honest, refused whole when it is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stockade_threads::git::{Cloned, clone_head};
use stockade_threads::patch::{GUEST_DIFF, IntakeError, Patch, PatchFault, PathFault, take_in};
use stockade_threads::record::Changes;

use crate::project::{Project, assert_same, git};

/// A user's repository and a clone of it, as a guest has it.
pub(crate) struct Guest {
    pub(crate) project: Project,
    pub(crate) clone: PathBuf,
    pub(crate) cloned: Cloned,
}

impl Guest {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self::of(Project::new(files))
    }

    pub(crate) fn of(project: Project) -> Self {
        let clone = project.folder.path().canonicalize().unwrap().join("clone");
        let cloned = clone_head(&project.work(), &clone).unwrap();
        Self { project, clone, cloned }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.clone.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The diff as a guest makes it.
    pub(crate) fn diff(&self) -> Vec<u8> {
        git(&self.clone, &["add", "-A"]);
        let words = GUEST_DIFF.iter().copied().chain([self.cloned.commit.as_str()]);
        let output = std::process::Command::new("git")
            .args(words)
            .current_dir(&self.clone)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub(crate) fn take(&self, diff: &[u8]) -> Result<Changes, IntakeError> {
        take_in(diff, &self.cloned, &self.project.thread())
    }

    /// Takes the honest result and checks it against git's own idea of it.
    pub(crate) fn take_whole(&self) -> Changes {
        let changes = self.take(&self.diff()).unwrap();
        let directory = self.project.thread().join("changes.git");
        let raw = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev"];
        let ours = raw.iter().copied().chain([changes.base.as_str(), changes.result.as_str()]);
        let tree = git(&self.clone, &["write-tree"]);
        let theirs = raw.iter().copied().chain([self.cloned.commit.as_str(), tree.trim()]);
        let ours = git(&directory, &ours.collect::<Vec<_>>());
        assert_eq!(ours, git(&self.clone, &theirs.collect::<Vec<_>>()));
        // Everything that the diff needs is there, without the user's objects.
        git(&directory, &["diff", "--binary", &changes.base, &changes.result]);
        changes
    }
}

#[test]
fn an_honest_result_is_taken_whole() {
    let guest = Guest::new(&[
        ("edited", "a\nb\nc\n"),
        ("gone", "a\n"),
        ("mode", "a\n"),
        ("type", "a\n"),
        ("folder/inner", "a\n"),
        ("unended", "a"),
        ("emptied", "a\n"),
    ]);
    let before = guest.project.everything();
    guest.write("edited", "a\nB\nc\nd");
    fs::remove_file(guest.clone.join("gone")).unwrap();
    fs::set_permissions(guest.clone.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(guest.clone.join("type")).unwrap();
    symlink("edited", guest.clone.join("type")).unwrap();
    fs::remove_dir_all(guest.clone.join("folder")).unwrap();
    guest.write("folder", "a file now\n");
    guest.write("unended", "a\n");
    guest.write("emptied", "");
    guest.write("empty", "");
    guest.write("binary", [0, 1, 2, 255, 254]);
    guest.write("with space", "x\n");
    guest.write("deep/er/\u{e4}\t\"odd one", "x\n");
    let changes = guest.take_whole();
    assert_eq!(changes.files, 12);
    assert_same(&before, &guest.project.everything(), "the user's repository is only read");
}

#[test]
fn binary_deltas_and_submodules_are_taken() {
    let project = Project::new(&[("a", "a\n")]);
    let noise: Vec<u8> =
        (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    fs::write(project.work().join("noise"), &noise).unwrap();
    project.commit();
    let guest = Guest::of(project);
    let mut changed = noise;
    changed.splice(20_000..20_010, *b"something else");
    guest.write("noise", &changed);
    git(&guest.clone, &["clone", "-q", ".", "module"]);
    let diff = guest.diff();
    let has = |text: &[u8]| diff.windows(text.len()).any(|window| window == text);
    assert!(has(b"\ndelta ") && has(b"Subproject commit"), "the control: git writes both");
    guest.take_whole();
}

#[test]
fn nothing_is_a_result_too() {
    let guest = Guest::new(&[("a", "a\n")]);
    assert_eq!(guest.take_whole().files, 0);
}

pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000";
/// The blob `a\n`.
pub(crate) const A: &str = "78981922613b2afb6025042ff6bd878ac1994e85";
/// The blob `b\n`.
pub(crate) const B: &str = "61780798228d17af2d34fce4cfbdf35556832472";

/// A diff that makes the file `name` (as it stands in the diff) with content `a\n`.
pub(crate) fn created(name: &str, mode: &str) -> String {
    let (old, new) = match name.strip_prefix('"') {
        Some(rest) => (format!("\"a/{rest}"), format!("\"b/{rest}")),
        None => (format!("a/{name}"), format!("b/{name}")),
    };
    format!(
        "diff --git {old} {new}\nnew file mode {mode}\nindex {ZERO}..{A}\n\
         --- /dev/null\n+++ {new}\n@@ -0,0 +1 @@\n+a\n"
    )
}

fn fault(diff: impl AsRef<[u8]>) -> PatchFault {
    let guest = Guest::new(&[("a", "a\n"), ("folder/inner", "a\n"), ("sub", "a\n")]);
    let canary = guest.project.folder.path().join("canary");
    fs::write(&canary, "alive").unwrap();
    let before = guest.project.everything();
    let refused = guest.take(diff.as_ref());
    assert_same(&before, &guest.project.everything(), "a refused diff changes nothing");
    assert_eq!(fs::read_to_string(canary).unwrap(), "alive");
    match refused {
        Err(IntakeError::Patch(error)) => {
            assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}");
            assert!(!guest.project.thread().join("changes.git").exists(), "nothing is kept");
            error.fault
        }
        Err(other) => panic!("{other:?}"),
        Ok(changes) => panic!("taken: {changes:?}"),
    }
}

#[test]
fn the_hostile_diffs_start_from_one_that_is_taken() {
    for name in ["new", "\"\\303\\244\\033\"", "folder/new"] {
        let guest = Guest::new(&[("a", "a\n"), ("folder/inner", "a\n")]);
        assert_eq!(guest.take(created(name, "100644").as_bytes()).unwrap().files, 1, "{name}");
    }
}

/// Threat model, R1: "Applying a result writes nothing outside its tree, into `.git` …"
#[test]
fn paths_that_leave_the_tree_are_refused() {
    #[rustfmt::skip]
    const CASES: &[(&str, PathFault)] = &[
        ("../evil",                          PathFault::Dots),
        ("folder/../../evil",                PathFault::Dots),
        ("./evil",                           PathFault::Dots),
        ("/etc/evil",                        PathFault::Absolute),
        ("\"/etc/\\145vil\"",                PathFault::Absolute),
        ("folder//evil",                     PathFault::Empty),
        ("folder/",                          PathFault::Empty),
        ("",                                 PathFault::Empty),
        ("\"a\\\\b\"",                       PathFault::Backslash),
        ("..\\evil",                         PathFault::Backslash),
        ("\"a\\000b\"",                      PathFault::Nul),
        (".git/hooks/post-checkout",         PathFault::Git),
        (".GIT/config",                      PathFault::Git),
        (".git",                             PathFault::Git),
        ("folder/.Git/config",               PathFault::Git),
        ("git~1/config",                     PathFault::Git),
        (".git./config",                     PathFault::Git),
        (".git /config",                     PathFault::Git),
        (".git::$INDEX_ALLOCATION/config",   PathFault::Git),
        ("\".g\\342\\200\\214it/config\"",   PathFault::Git),
        ("\"\\056git/config\"",              PathFault::Git),
    ];
    for (name, expected) in CASES {
        for mode in ["100644", "120000"] {
            let found = fault(created(name, mode));
            assert!(
                matches!(found, PatchFault::Path { fault, .. } if fault == *expected),
                "{name}: {found}"
            );
        }
    }
    let long = format!("{}/x", "a".repeat(300));
    assert!(matches!(
        fault(created(&long, "100644")),
        PatchFault::Path { fault: PathFault::TooLong, .. }
    ));
}

#[test]
fn modes_that_git_does_not_write_are_refused() {
    for mode in
        ["104755", "100666", "040000", "000000", "060660", "20000", "1006444", "9", "-100644"]
    {
        assert!(matches!(fault(created("new", mode)), PatchFault::Mode(_)), "{mode}");
    }
    let becomes = format!("diff --git a/a b/a\nold mode 100644\nnew mode 120000\nindex {A}..{A}\n");
    assert!(matches!(fault(becomes), PatchFault::Syntax(_)));
}

/// Threat model, R1: "… through a link …"
#[test]
fn one_path_is_one_thing() {
    let twice = created("new", "100644") + &created("new", "100644");
    assert!(matches!(fault(twice), PatchFault::Duplicate(_)));
    let quoted = created("new", "100644") + &created("\"n\\145w\"", "100644");
    assert!(matches!(fault(quoted), PatchFault::Duplicate(_)));
    for pair in [("new", "new/inner"), ("new/inner", "new")] {
        let both = created(pair.0, "120000") + &created(pair.1, "100644");
        assert!(matches!(fault(both), PatchFault::FileAndFolder(_)), "{pair:?}");
    }
    // Through a file of the base, and over a folder of it.
    assert!(matches!(fault(created("a/inner", "100644")), PatchFault::FileAndFolder(_)));
    assert!(matches!(fault(created("folder", "120000")), PatchFault::FileAndFolder(_)));
    assert!(matches!(fault(created("a", "100644")), PatchFault::Base(_)), "it is there already");
}

#[test]
fn what_does_not_fit_the_base_is_refused() {
    let edit = |from: &str, to: &str, lines: &str| {
        format!("diff --git a/a b/a\nindex {from}..{to} 100644\n--- a/a\n+++ b/a\n{lines}")
    };
    let good = "@@ -1 +1 @@\n-a\n+b\n";
    let guest = Guest::new(&[("a", "a\n")]);
    assert_eq!(guest.take(edit(A, B, good).as_bytes()).unwrap().files, 1, "the control");
    assert!(matches!(fault(edit(B, A, good)), PatchFault::Base(_)), "another base");
    assert!(matches!(fault(edit(A, A, good)), PatchFault::Result(_)), "another result");
    assert!(matches!(fault(edit(A, B, "@@ -1 +1 @@\n-x\n+b\n")), PatchFault::Base(_)));
    assert!(matches!(fault(edit(A, B, "@@ -7 +7 @@\n-a\n+b\n")), PatchFault::Base(_)));
    let missing =
        edit(A, B, good).replace("a/a b/a", "a/x b/x").replace("a/a", "a/x").replace("b/a", "b/x");
    assert!(matches!(fault(missing), PatchFault::Base(_)));
    let gone =
        format!("diff --git a/nothing b/nothing\ndeleted file mode 100644\nindex {A}..{ZERO}\n");
    assert!(matches!(fault(gone), PatchFault::Base(_)));
    let unsaid = "diff --git a/a b/a\ndeleted file mode 100644\n";
    assert!(matches!(fault(unsaid), PatchFault::Result(_)), "no name of what goes");
}

#[test]
fn what_git_would_say_otherwise_is_refused() {
    let rename = "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n";
    assert!(matches!(fault(rename), PatchFault::Syntax(_)));
    let rename = "diff --git a/a b/a\nsimilarity index 100%\nrename from ../a\nrename to ../../b\n";
    assert!(matches!(fault(rename), PatchFault::Unsupported("renames")));
    let binary =
        format!("diff --git a/a b/a\nindex {A}..{B} 100644\nBinary files a/a and b/a differ\n");
    assert!(matches!(fault(binary), PatchFault::Unsupported(_)));
    let short = "diff --git a/a b/a\nindex 7898192..6178079 100644\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+b\n";
    assert!(matches!(fault(short), PatchFault::Syntax(_)));
    let other = created("new", "100644").replace("+++ b/new", "+++ b/../../evil");
    assert!(matches!(fault(other), PatchFault::Syntax(_)));
    for text in [
        "hello\n",
        "diff --git a/x b/x",
        "diff --git a/x b/x\n",
        "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+b\n",
        "From: me\n\ndiff --git a/a b/a\n",
        "\0",
    ] {
        assert!(matches!(fault(text), PatchFault::Syntax(_)), "{text:?}");
    }
    for lines in [
        "@@ -1 +1 @@\n",
        "@@ -0,0 +1,2 @@\n+a\n",
        "@@ -0,0 +1 @@\n-a\n",
        "@@ x @@\n+a\n",
        "",
        "@@ -0,0 +1 @@\na\n",
    ] {
        let text = created("new", "100644").replace("@@ -0,0 +1 @@\n+a\n", lines);
        assert!(matches!(fault(&text), PatchFault::Syntax(_)), "{lines:?}");
    }
}

#[test]
fn bombs_and_floods_are_refused_early() {
    let binary = |size: &str| {
        format!(
            "diff --git a/n b/n\nnew file mode 100644\nindex {ZERO}..{A}\nGIT binary patch\nliteral {size}\nA00000\n\n"
        )
    };
    assert!(matches!(fault(binary("999999999")), PatchFault::TooLarge { .. }));
    assert!(matches!(fault(binary("99999999999999999999")), PatchFault::Syntax(_)));
    assert!(matches!(fault(binary("5")), PatchFault::Binary(_)));
    let many: String = (0..50_001).map(|n| created(&format!("f{n}"), "100644")).collect();
    assert!(matches!(fault(many), PatchFault::TooLarge { .. }));
}

#[test]
fn a_link_has_a_target_that_a_system_takes() {
    let nul = created("new", "120000").replace("+a\n", "+a\0b\n");
    assert!(matches!(fault(nul), PatchFault::Link(_)));
}

/// A few names over a tiny alphabet, so that files and folders collide.
fn any_path() -> impl Strategy<Value = String> {
    "[ab](/[ab]){0,2}"
}

pub(crate) fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "([xyz]\n){0,12}".prop_map(String::into_bytes),
        "([xyz]\n){0,12}[xyz]".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

pub(crate) fn populate(folder: &Path, files: &[(String, Vec<u8>, bool)]) {
    for (name, content, is_executable) in files {
        let path = folder.join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(&path, content).is_ok() {
            let mode = if *is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

pub(crate) fn any_files() -> impl Strategy<Value = Vec<(String, Vec<u8>, bool)>> {
    proptest::collection::vec((any_path(), any_content(), any::<bool>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever git says of two trees is read as the second of them.
    #[test]
    fn what_git_writes_is_read_as_git_means_it(before in any_files(), after in any_files()) {
        let project = Project::new(&[]);
        populate(&project.work(), &before);
        project.commit();
        let guest = Guest::of(project);
        for name in ["a", "b"] {
            let path = guest.clone.join(name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).ok(); }
        }
        populate(&guest.clone, &after);
        guest.take_whole();
    }
}

proptest! {
    /// Whatever the text is, the parser gives an answer, and only checked paths.
    #[test]
    fn the_parser_is_total(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Patch::parse(&text).map_or(true, |patch| patch.files.is_empty()));
    }

    /// Also when it looks like a diff.
    #[test]
    fn broken_diffs_are_no_crash(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let mut text = (created("new", "100644") + &created("\"o\\303\\244\"", "100755")).into_bytes();
        text.extend_from_slice(b"diff --git a/x b/x\nindex 0..0\nGIT binary patch\nliteral 3\nKcmZ\n\n");
        if let Some(slot) = text.get_mut(at) {
            *slot = byte;
        }
        text.truncate(text.len() - cut.min(text.len()));
        if let Ok(patch) = Patch::parse(&text) {
            for file in patch.files {
                prop_assert!(!file.path.as_bytes().split(|byte| *byte == b'/').any(|name| name == b".."));
            }
        }
    }
}
