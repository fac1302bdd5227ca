//! The corpus of hostile results: what a guest can hand over as its diff and its commits, each by
//! name, each through the real intake and, where it is taken, through `apply` and `branch`.
//!
//! Judged from outside: nothing beside the work tree changes, what is held is not there, no program
//! that a repository names runs, and no text about it acts on a terminal. The count may not shrink.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use stockade_threads::apply::{ApplyOptions, Outcome, apply};
use stockade_threads::branch::{BranchTask, branch};
use stockade_threads::changes::ChangeSet;
use stockade_threads::flags::{Weight, flags};
use stockade_threads::patch::{Told, take_in, take_in_commits};
use stockade_threads::record::Changes;
use stockade_threads::store::{Store, Thread};

use crate::intake::{A, B, Guest, ZERO, created};
use crate::looks::trap;
use crate::project::{Project, assert_same, everything, git};
use crate::store::new_thread;

/// Fewer cases than this is a loss that somebody has to explain.
const AT_LEAST: usize = 138;

/// What a hostile guest hands over.
enum Hands {
    /// A diff as text.
    Text(String),
    /// The diff of an honest git over a tree that is not.
    Tree(fn(&Guest)),
    /// Commits: a diff and a message each; the diff of all is that of an honest git.
    Commits(Vec<(String, &'static str)>),
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is refused whole.
    Refused,
    /// It is taken, and this path waits for a word.
    Held(&'static str),
    /// It is taken, and is harmless.
    Taken,
    /// The diff is taken and the commits are not: a branch has a single one.
    OneCommit,
}

struct Case {
    name: String,
    hands: Hands,
    end: End,
}

fn case(name: &str, hands: Hands, end: End) -> Case {
    Case { name: name.to_owned(), hands, end }
}

/// Files of the user's repository.
const FILES: [(&str, &str); 4] =
    [("a", "a\n"), ("folder/inner", "a\n"), ("sub", "a\n"), ("package.json", "{}\n")];

fn paths() -> Vec<Case> {
    const PATHS: [(&str, &str); 28] = [
        ("dot-dot", "../evil"),
        ("dot-dot-inside", "folder/../../evil"),
        ("dot-dot-quoted", "\"\\056\\056/evil\""),
        ("dot", "./evil"),
        ("absolute", "/etc/evil"),
        ("absolute-quoted", "\"/etc/\\145vil\""),
        ("double-slash", "folder//evil"),
        ("ends-in-slash", "folder/"),
        ("empty", ""),
        ("backslash", "\"a\\\\b\""),
        ("backslash-dot-dot", "..\\evil"),
        ("drive-letter-backslash", "\"C:\\\\evil\""),
        ("nul", "\"a\\000b\""),
        ("git-hook", ".git/hooks/post-checkout"),
        ("git-config", ".git/config"),
        ("git-upper-case", ".GIT/config"),
        ("git-mixed-case-nested", "folder/.Git/config"),
        ("git-itself", ".git"),
        ("git-short-name", "git~1/config"),
        ("git-short-name-upper-case", "GIT~1/config"),
        ("git-trailing-dot", ".git./config"),
        ("git-trailing-space", ".git /config"),
        ("git-trailing-dots-and-spaces", ".git . ./config"),
        ("git-stream", ".git::$INDEX_ALLOCATION/config"),
        ("git-zero-width", "\".g\\342\\200\\214it/config\""),
        ("git-byte-order-mark", "\"\\357\\273\\277.git/config\""),
        ("git-right-to-left-mark", "\".git\\342\\200\\217/config\""),
        ("git-quoted", "\"\\056git/config\""),
    ];
    let of = |(name, path): &(&str, &str)| {
        [("file", "100644"), ("link", "120000")].map(|(kind, mode)| {
            let name = format!("path-{name}-{kind}");
            case(&name, Hands::Text(created(path, mode)), End::Refused)
        })
    };
    PATHS.iter().flat_map(of).collect()
}

fn forms() -> Vec<Case> {
    let refused = |name: &str, text: String| case(name, Hands::Text(text), End::Refused);
    let edit = |from: &str, to: &str, lines: &str| {
        format!("diff --git a/a b/a\nindex {from}..{to} 100644\n--- a/a\n+++ b/a\n{lines}")
    };
    let good = "@@ -1 +1 @@\n-a\n+b\n";
    let zip = |size: &str| {
        format!(
            "diff --git a/n b/n\nnew file mode 100644\nindex {ZERO}..{A}\nGIT binary patch\nliteral {size}\nA00000\n\n"
        )
    };
    let mut cases: Vec<Case> =
        ["104755", "100666", "040000", "060660", "010644", "140000", "1006444", "-100644"]
            .map(|mode| refused(&format!("mode-{mode}"), created("new", mode)))
            .into();
    cases.extend([
        refused("twice", created("new", "100644") + &created("new", "100644")),
        refused("twice-quoted", created("new", "100644") + &created("\"n\\145w\"", "100644")),
        refused("link-then-below-it", created("new", "120000") + &created("new/x", "100644")),
        refused("below-it-then-link", created("new/x", "100644") + &created("new", "120000")),
        refused("below-a-file-of-the-base", created("a/inner", "100644")),
        refused("link-over-a-folder", created("folder", "120000")),
        refused("over-what-is-there", created("a", "100644")),
        refused("another-base", edit(B, A, good)),
        refused("another-result", edit(A, A, good)),
        refused("lines-that-are-not-there", edit(A, B, "@@ -1 +1 @@\n-x\n+b\n")),
        refused("far-away", edit(A, B, "@@ -999999999 +1 @@\n-a\n+b\n")),
        refused("number-overflow", edit(A, B, "@@ -99999999999999999999 +1 @@\n-a\n+b\n")),
        refused("other-name-below", created("new", "100644").replace("+++ b/new", "+++ b/../../e")),
        refused(
            "rename-out",
            "diff --git a/a b/a\nsimilarity index 100%\nrename from ../a\nrename to ../../b\n"
                .to_owned(),
        ),
        refused(
            "copy-of-a-secret",
            "diff --git a/x b/x\nsimilarity index 100%\ncopy from /etc/shadow\ncopy to x\n"
                .to_owned(),
        ),
        refused("link-with-nul", created("new", "120000").replace("+a\n", "+a\0b\n")),
        refused("link-without-target", empty_link()),
        refused("zip-bomb-size", zip("999999999")),
        refused("zip-bomb-overflow", zip("99999999999999999999")),
        refused("zip-cut", zip("5")),
        refused("shell-words", "$(touch evil)\n`touch evil`\n".to_owned()),
        refused("escapes-in-junk", "\u{1b}[2J\u{1b}]0;owned\u{7}\n".to_owned()),
        refused("mail", "From: me\n\n".to_owned() + &created("new", "100644")),
        refused("fifty-thousand-and-one-files", flood(50_001)),
        refused("two-hundred-thousand-files", flood(200_000)),
        refused("deep", created(&format!("{}x", "d/".repeat(2000)), "100644")),
        refused("long-name", created(&"n".repeat(300), "100644")),
        refused("foreign-object-format", created("new", "100644").replace(A, &A.repeat(2))),
        refused("gitlink-of-nothing", created("mod", "160000")),
    ]);
    cases
}

fn empty_link() -> String {
    let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    format!("diff --git a/l b/l\nnew file mode 120000\nindex {ZERO}..{empty}\n")
}

fn flood(count: usize) -> String {
    (0..count).map(|n| created(&format!("f{n}"), "100644")).collect()
}

fn held(name: &str, path: &'static str, tree: fn(&Guest)) -> Case {
    case(name, Hands::Tree(tree), End::Held(path))
}

fn taken(name: &str, tree: fn(&Guest)) -> Case {
    case(name, Hands::Tree(tree), End::Taken)
}

fn trees() -> Vec<Case> {
    [links(), settings(), odd()].into_iter().flatten().collect()
}

/// What leads git, or a path, elsewhere.
fn links() -> Vec<Case> {
    vec![
        held("attributes-with-filter", ".gitattributes", |g| {
            g.write(".gitattributes", "* filter=x diff=x merge=x\n");
            g.write("a", "filtered\n");
        }),
        held("attributes-in-a-folder", "folder/.gitattributes", |g| {
            g.write("folder/.gitattributes", "* filter=x\n");
        }),
        held("modules-with-an-option", ".gitmodules", |g| {
            let text = "[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch evil\n";
            g.write(".gitmodules", text);
        }),
        held("modules-with-a-command", ".gitmodules", |g| {
            let text = "[submodule \"x\"]\n\tpath = x\n\turl = .\n\tupdate = !touch evil\n";
            g.write(".gitmodules", text);
        }),
        held("gitlink", "module", |g| drop(git(&g.clone, &["clone", "-q", ".", "module"]))),
        held("link-absolute", "out", |g| symlink("/etc/passwd", g.clone.join("out")).unwrap()),
        held("link-up", "folder/out", |g| {
            symlink("../../outside/canary", g.clone.join("folder/out")).unwrap();
        }),
        held("link-to-a-folder-outside", "out", |g| {
            symlink("../outside", g.clone.join("out")).unwrap();
        }),
        held("link-into-git", "hooks", |g| symlink(".git/hooks", g.clone.join("hooks")).unwrap()),
        held("link-chain-out", "two", |g| {
            symlink("two", g.clone.join("one")).unwrap();
            symlink("../outside", g.clone.join("two")).unwrap();
        }),
        held("link-home", "rc", |g| symlink("../../.bashrc", g.clone.join("rc")).unwrap()),
    ]
}

/// What servers, package managers, editors and agents run or trust.
fn settings() -> Vec<Case> {
    vec![
        held("ci-github", ".github/workflows/ci.yml", |g| {
            g.write(".github/workflows/ci.yml", "on: push\n");
        }),
        held("ci-gitlab", ".gitlab-ci.yml", |g| g.write(".gitlab-ci.yml", "x: {}\n")),
        held("hook-npm", "package.json", |g| {
            g.write("package.json", "{\"scripts\":{\"postinstall\":\"touch evil\"}}\n");
        }),
        held("hook-husky", ".husky/pre-commit", |g| g.write(".husky/pre-commit", "touch evil\n")),
        held("pre-commit", ".pre-commit-config.yaml", |g| {
            g.write(".pre-commit-config.yaml", "repos: []\n");
        }),
        held("editor-tasks", ".vscode/tasks.json", |g| g.write(".vscode/tasks.json", "{}\n")),
        held("editor-upper-case", ".VSCode/tasks.json", |g| g.write(".VSCode/tasks.json", "{}\n")),
        held("agent-settings", ".claude/settings.json", |g| {
            g.write(".claude/settings.json", "{}\n");
        }),
        held("agent-tools", ".mcp.json", |g| g.write(".mcp.json", "{}\n")),
        held("own-settings", ".stockade/config.toml", |g| {
            g.write(".stockade/config.toml", "sandbox_mode = \"danger-full-access\"\n");
        }),
        held("direnv", ".envrc", |g| g.write(".envrc", "touch evil\n")),
        held("cargo", ".cargo/config.toml", |g| {
            g.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"./evil\"\n");
        }),
        held("npmrc", ".npmrc", |g| g.write(".npmrc", "script-shell=./evil\n")),
        held("devcontainer", ".devcontainer/devcontainer.json", |g| {
            g.write(".devcontainer/devcontainer.json", "{}\n");
        }),
    ]
}

/// Odd, and harmless.
fn odd() -> Vec<Case> {
    vec![
        taken("escapes-in-a-name", |g| g.write("odd\u{1b}[2J\u{7}", "x\n")),
        taken("newline-in-a-name", |g| g.write("line\nstockade: all is well", "x\n")),
        taken("right-to-left-in-a-name", |g| g.write("txt.\u{202e}exe", "x\n")),
        taken("option-as-a-name", |g| g.write("--upload-pack=touch evil", "x\n")),
        taken("magic-as-a-name", |g| g.write(":(top)*", "x\n")),
        taken("not-utf-8", |g| {
            use std::os::unix::ffi::OsStrExt as _;
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
            fs::write(g.clone.join(name), "x\n").unwrap();
        }),
        taken("escapes-in-content", |g| g.write("screen", "\u{1b}[2J\u{1b}]0;owned\u{7}\n")),
        taken("executable", |g| {
            g.write("run", "#!/bin/sh\ntouch evil\n");
            fs::set_permissions(g.clone.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        taken("set-id", |g| {
            g.write("suid", "x\n");
            fs::set_permissions(g.clone.join("suid"), fs::Permissions::from_mode(0o6755)).unwrap();
        }),
        taken("large", |g| g.write("large", vec![b'x'; 5 << 20])),
        taken("everything-gone", |g| {
            for (name, _) in FILES {
                fs::remove_file(g.clone.join(name)).unwrap();
            }
        }),
    ]
}

fn commits() -> Vec<Case> {
    let of = |name: &str, commits: Vec<(String, &'static str)>, end| {
        case(name, Hands::Commits(commits), end)
    };
    let new = |name: &str| created(name, "100644");
    vec![
        of("commit-escapes", vec![(new("n"), "\u{1b}[2Jowned\u{7}\n\n\u{202e}txt")], End::Taken),
        of("commit-trailers", vec![(new("n"), "x\n\nSigned-off-by: The User <u@x>")], End::Taken),
        of("commit-empty-message", vec![(new("n"), " \n")], End::Taken),
        of("commit-nul-in-message", vec![(new("n"), "a\0b")], End::Taken),
        of("commit-path-out", vec![(new("../n"), "x")], End::OneCommit),
        of("commit-into-git", vec![(new(".git/hooks/x"), "x")], End::OneCommit),
        of("commit-upon-nothing", vec![(new("n"), "x"), (new("n"), "again")], End::OneCommit),
        of("commit-junk", vec![("junk\n".to_owned(), "x")], End::OneCommit),
        of("commit-flood", vec![(flood(50_001), "x")], End::OneCommit),
    ]
}

#[test]
fn the_corpus_does_not_shrink() {
    let all: Vec<Case> = [paths(), forms(), trees(), commits()].into_iter().flatten().collect();
    let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name stands for one case");
    assert!(all.len() >= AT_LEAST, "{} cases", all.len());
}

/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn hostile_texts_are_refused_whole() {
    let arena = Arena::new();
    for case in paths().into_iter().chain(forms()) {
        let Hands::Text(text) = &case.hands else { continue };
        let (thread, taken) = arena.take(text.as_bytes());
        let name = &case.name;
        let error = taken.expect_err(name);
        plain(name, &error.to_string());
        assert_eq!(case.end, End::Refused, "{name}");
        assert!(!thread.folder().join("changes.git").exists(), "{name}: something is kept");
        arena.is_untouched(name);
    }
}

/// Threat model, R1: "Applying a result writes nothing outside its tree, into `.git`, through a link …"
#[test]
fn hostile_trees_are_held_and_run_nothing() {
    for case in trees() {
        let arena = Arena::new();
        let Hands::Tree(make) = &case.hands else { continue };
        make(&arena.guest);
        let diff = arena.guest.diff();
        let (thread, taken) = arena.take(&diff);
        let changes = taken.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
        arena.is_untouched(&case.name);
        arena.shows_plainly(&case.name, &thread, &changes);
        arena.branches(&case.name, &thread, &changes);
        arena.applies(&case, &thread, &changes);
    }
}

/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn hostile_commits_are_taken_as_one_or_harmless() {
    for case in commits() {
        let arena = Arena::new();
        let Hands::Commits(commits) = &case.hands else { continue };
        arena.guest.write("n", "a\n");
        let (thread, taken) = arena.take(&arena.guest.diff());
        let mut changes = taken.unwrap();
        let told: Vec<Told> = commits
            .iter()
            .map(|(diff, message)| Told {
                diff: diff.clone().into_bytes(),
                message: message.as_bytes().to_vec(),
            })
            .collect();
        let name = &case.name;
        match take_in_commits(&told, &arena.guest.cloned, thread.folder()) {
            Ok(commits) => {
                assert_eq!(case.end, End::Taken, "{name}");
                for commit in &commits {
                    plain(name, &commit.message);
                }
                changes.commits = commits;
            }
            Err(error) => {
                assert_eq!(case.end, End::OneCommit, "{name}: {error:?}");
                plain(name, &error.to_string());
            }
        }
        arena.is_untouched(name);
        arena.branches(name, &thread, &changes);
    }
}

/// A user's repository full of traps, with a guest's clone and a folder beside it.
struct Arena {
    guest: Guest,
    store: Store,
    trace: std::path::PathBuf,
    before: crate::project::Everything,
    beside: crate::project::Everything,
}

impl Arena {
    fn new() -> Self {
        let project = Project::new(&FILES);
        project.git(&["config", "user.name", "Tester"]);
        project.git(&["config", "user.email", "t@example.org"]);
        let outside = project.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        let guest = Guest::of(project);
        let trace = trap(&guest.project);
        let project = &guest.project;
        project.git(&["status"]);
        assert!(trace.exists(), "a trap that does not spring proves nothing");
        fs::remove_file(&trace).unwrap();
        fs::remove_file(project.work().join(".gitattributes")).unwrap();
        let store = Store::open(&project.folder.path().join("state")).unwrap();
        let (before, beside) = (project.everything(), everything(&outside));
        Self { guest, store, trace, before, beside }
    }

    fn take(&self, diff: &[u8]) -> (Thread, Result<Changes, stockade_threads::patch::IntakeError>) {
        let thread = self.store.create(&new_thread(&self.guest.project.work())).unwrap();
        let taken = take_in(diff, &self.guest.cloned, thread.folder());
        (thread, taken)
    }

    /// Neither the user's files nor what lies beside them, nor was anything run.
    fn is_untouched(&self, name: &str) {
        assert_same(&self.before, &self.guest.project.everything(), name);
        self.nothing_beside(name);
    }

    fn nothing_beside(&self, name: &str) {
        let folder = self.guest.project.folder.path();
        assert_same(&self.beside, &everything(&folder.join("outside")), name);
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let known = ["work", "thread", "clone", "outside", "state", "trap.sh"];
        let hooks = ["post-index-change", "reference-transaction", "post-checkout"];
        for found in names {
            let is_known = known.iter().chain(&hooks).any(|known| found == *known);
            assert!(is_known, "{name}: {} appeared, {:?}", found.display(), fs::read(&self.trace));
        }
    }

    fn shows_plainly(&self, name: &str, thread: &Thread, changes: &Changes) {
        let set = ChangeSet::open(thread.folder(), changes).unwrap();
        for flag in flags(&set).unwrap() {
            plain(
                name,
                &stockade_threads::quoted(flag.path.to_path().as_os_str().as_encoded_bytes()),
            );
        }
        set.patch(&[], &mut |_| Ok(())).unwrap();
        let line = serde_json::to_string(changes).unwrap();
        plain(name, &stockade_threads::json_for_terminals(line));
        self.is_untouched(name);
    }

    /// A branch moves nothing and runs nothing, or is refused by git's own check.
    fn branches(&self, name: &str, thread: &Thread, changes: &Changes) {
        let task = BranchTask {
            thread: thread.id().as_str(),
            folder: thread.folder(),
            changes,
            when: "2026-01-01T00:00:00.000Z",
            title: "hostile \u{1b}[2J",
            summary: "",
            name: Some("result"),
        };
        let made = branch(&task);
        let project = &self.guest.project;
        let mut after = project.everything();
        match made {
            Ok(_) => {
                let words = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];
                let log = ["log", "--format=%an %B", "result", "--not", "main"];
                let said = git(&project.work(), &[&words[..], &log].concat());
                plain(name, &said.replace('\n', " "));
                assert!(said.contains("Tester "), "{name}: {said}");
            }
            // `.gitmodules` with an option as its url is no object that git takes.
            Err(error) => {
                assert!(name.starts_with("modules-"), "{name}: {error:?}");
                assert!(!project.work().join(".git/refs/heads/result").exists(), "{name}");
            }
        }
        let dot_git = project.work().join(".git");
        let is_new = |path: &std::path::PathBuf| {
            let relative =
                path.strip_prefix(&dot_git).map(|path| path.to_string_lossy().into_owned());
            let relative = relative.unwrap_or_default();
            ["objects/", "refs/heads", "logs", "objects"].iter().any(|at| relative.starts_with(at))
        };
        let mut before = self.before.clone();
        let times = |all: &mut crate::project::Everything| all.retain(|path, _| !is_new(path));
        times(&mut after);
        times(&mut before);
        // Only folders of `.git` have another time.
        for all in [&mut before, &mut after] {
            all.retain(|path, _| *path != dot_git);
        }
        assert_same(&before, &after, name);
        self.nothing_beside(name);
    }

    fn applies(&self, case: &Case, thread: &Thread, changes: &Changes) {
        let name = &case.name;
        let project = &self.guest.project;
        let set = ChangeSet::open(thread.folder(), changes).unwrap();
        let outcomes = apply(&set, thread, &ApplyOptions::default()).unwrap();
        let held = |path: &str| {
            outcomes.iter().any(|file| {
                file.path == path.as_bytes()
                    && matches!(file.outcome, Outcome::Held(_) | Outcome::Refused(_))
            })
        };
        match case.end {
            End::Held(path) => {
                assert!(held(path), "{name}: {outcomes:?}");
                let there = fs::symlink_metadata(project.work().join(path));
                let was_there = FILES.iter().any(|(known, _)| *known == path);
                assert!(there.is_err() || was_there, "{name}: it is written");
                let found = flags(&set).unwrap();
                assert!(found.iter().any(|flag| flag.weight == Weight::Hold), "{name}");
            }
            End::Taken => {
                let clean = outcomes.iter().all(|file| file.outcome.is_clean());
                assert!(clean, "{name}: {outcomes:?}");
            }
            End::Refused | End::OneCommit => panic!("{name}: no such end of a tree"),
        }
        self.nothing_beside(name);
        // Also what was accepted stays in the tree, and is run by nobody.
        let accept =
            flags(&set).unwrap().iter().map(|flag| flag.flag.as_str().to_owned()).collect();
        let options = ApplyOptions { accept, ..ApplyOptions::default() };
        apply(&set, thread, &options).unwrap();
        self.nothing_beside(name);
        let git_files = |all: &crate::project::Everything| {
            let config = project.work().join(".git/config");
            let hooks = project.work().join(".git/hooks");
            let is_it = |path: &&std::path::PathBuf| **path == config || path.starts_with(&hooks);
            all.iter()
                .filter(|(path, _)| is_it(path))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let (before, after): (crate::project::Everything, crate::project::Everything) =
            (git_files(&self.before), git_files(&project.everything()));
        assert_same(&before, &after, name);
        let modes = project.everything().into_iter().filter(|(_, (mode, ..))| mode & 0o6000 != 0);
        let set_id: Vec<_> = modes.filter(|(path, _)| path.is_file()).collect();
        assert!(set_id.is_empty(), "{name}: {set_id:?}");
    }
}

/// Nothing in `text` acts on a terminal.
fn plain(name: &str, text: &str) {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{name}: {text:?}");
}
