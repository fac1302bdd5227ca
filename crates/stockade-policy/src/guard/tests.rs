use std::collections::BTreeMap;

use super::*;
use crate::{Limits, Network};

/// A tree in memory: path to content (`None`: a folder), and what is new.
#[derive(Default)]
struct Fake {
    there: BTreeMap<PathBuf, Option<Vec<u8>>>,
    new: Vec<PathBuf>,
}

impl Fake {
    fn of(old: &[&str], new: &[&str]) -> Self {
        let mut fake = Self::default();
        for (list, is_new) in [(old, false), (new, true)] {
            for entry in list {
                let (path, content) = match entry.split_once('=') {
                    Some((path, text)) => (path, Some(text.as_bytes().to_vec())),
                    None => (*entry, None),
                };
                let path = Path::new("/w").join(path);
                for folder in path.ancestors().skip(1) {
                    fake.there.entry(folder.to_owned()).or_insert(None);
                }
                fake.there.insert(path.clone(), content);
                if is_new {
                    fake.new.push(path);
                }
            }
        }
        fake
    }
}

impl Tree for Fake {
    fn kind(&self, path: &Path) -> Option<Kind> {
        self.there.get(path).map(|content| content.as_ref().map_or(Kind::Folder, |_| Kind::File))
    }
    fn is_new(&self, path: &Path) -> bool {
        self.new.iter().any(|new| path.starts_with(new))
    }
    fn text(&self, path: &Path) -> Option<Vec<u8>> {
        self.there.get(path)?.clone()
    }
    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        self.kind(folder)?;
        let inner = self.there.keys().filter(|path| path.parent() == Some(folder));
        Some(inner.map(|path| path.file_name().unwrap().as_bytes().to_vec()).collect())
    }
}

fn guard(unprotected: &[&str]) -> Guard {
    let path = |text: &str| AbsPath::new(text).unwrap();
    let policy = Policy {
        mode: Mode::WorkspaceWrite,
        workspace: path("/w"),
        home: None,
        writable: vec![path("/w"), path("/w/.codex")],
        protected: Vec::new(),
        hidden: Vec::new(),
        readable: Vec::new(),
        caches: Vec::new(),
        tops: vec![path("/w")],
        unprotected: unprotected.iter().map(|&name| name.to_owned()).collect(),
        awaited: vec![path("/w/tools/hooks"), path("/w/shared.cfg")],
        network: Network::default(),
        limits: Limits::for_memory(1 << 30),
    };
    Guard::of(&policy).unwrap()
}

fn judge(tree: &Fake, path: &str, act: Act<'_>) -> Judgement {
    guard(&[]).judge(tree, &Path::new("/w").join(path), &act)
}

fn held(tree: &Fake, path: &str, act: Act<'_>) -> bool {
    matches!(judge(tree, path, act), Judgement::Denied(_) | Judgement::Control(_))
}

fn file() -> Act<'static> {
    Act::MoveHere { source: Some(Path::new("/w/x")), is_folder: false }
}
fn folder() -> Act<'static> {
    Act::MoveHere { source: Some(Path::new("/w/x")), is_folder: true }
}
const LINKED: Act<'_> = Act::MoveHere { source: None, is_folder: false };

#[test]
fn paths_are_nested_by_whole_components() {
    for (one, other, nested) in [
        ("/w/tools", "/w/tools", true),
        ("/w/tools", "/w/tools/hooks", true),
        ("/w/tools", "/w/toolset", false),
        ("/", "/w", true),
        ("/", "/", true),
        ("/w", "/v", false),
    ] {
        assert_eq!(super::are_nested(one.as_bytes(), other.as_bytes()), nested, "{one} {other}");
        assert_eq!(super::are_nested(other.as_bytes(), one.as_bytes()), nested, "{other} {one}");
        let (one, other) = (Path::new(one), Path::new(other));
        assert_eq!(one.starts_with(other) || other.starts_with(one), nested, "the control");
    }
}

#[test]
fn control_names_are_held_at_tops_and_free_elsewhere() {
    let tree = Fake::of(&[".git", "old/.git", "node_modules/p/.git", "a/.cargo"], &["new/.git"]);
    for name in [".env", ".mcp.json", ".vscode/tasks.json", ".cargo/config.toml", ".claude/x/y"] {
        for top in ["", "old/"] {
            for act in [Act::Write, Act::MakeOther, file(), LINKED, folder(), Act::Remove] {
                assert!(held(&tree, &format!("{top}{name}"), act), "{top}{name} {act:?}");
            }
        }
        for free in ["new/", "src/", "node_modules/p/"] {
            assert!(!held(&tree, &format!("{free}{name}"), Act::Write), "{free}{name}");
        }
    }
    assert!(!held(&tree, ".env.example", Act::Write) && !held(&tree, "src/main.rs", Act::Write));
    assert!(!held(&tree, ".cargo", Act::MakeFolder), "an empty folder above a protected name");
    assert!(held(&tree, ".cargo", Act::MakeOther), "a link in its place");
    assert!(!held(&tree, ".cargo/audit.toml", Act::Write));
    assert!(!held(&tree, ".codex/config.toml", Act::Write), "a root is what the user made it");
    assert!(!held(&Fake::of(&[], &[]), "/elsewhere/.env", Act::Write), "no root of ours");
}

#[test]
fn what_holds_a_nested_protected_name_is_not_moved_into_its_place() {
    let tree = Fake::of(&["x/config.toml=x", "old/.git", "old/.cargo/config.toml=x"], &[]);
    assert!(held(&tree, ".cargo", folder()) && held(&tree, "old/.cargo", Act::MoveAway));
    assert!(!held(&Fake::of(&["x/audit.toml=x"], &[]), ".cargo", folder()));
}

#[test]
fn gits_own_files_are_held_in_every_repository() {
    let tree = Fake::of(
        &[".git/hooks", "a/b/.git", "bare/HEAD=x", "bare/objects", "bare/refs", "x"],
        &["new/.git"],
    );
    for place in [".git", "a/b/.git", "bare", "new/.git", ".git/modules/s", "a/b/.git/modules/x/y"]
    {
        for name in ["hooks/pre-commit", "info/attributes", "info/grafts", "commondir"] {
            for act in [Act::Write, Act::MakeOther, file(), LINKED, Act::Alias] {
                assert!(held(&tree, &format!("{place}/{name}"), act), "{place}/{name} {act:?}");
            }
        }
        for act in [Act::MakeOther, folder()] {
            assert!(held(&tree, &format!("{place}/hooks"), act), "{place}/hooks {act:?}");
        }
        let config = format!("{place}/config");
        assert!(matches!(judge(&tree, &config, file()), Judgement::Config(_)), "{config}");
        assert!(held(&tree, &config, LINKED) && held(&tree, &config, Act::MakeOther));
        assert!(!held(&tree, &format!("{place}/hooks"), Act::MakeFolder));
        for act in [Act::Write, Act::Execute, Act::Alias, LINKED, file()] {
            for name in ["x.sample", ".x.sample.Ab12Cd"] {
                assert!(!held(&tree, &format!("{place}/hooks/{name}"), act), "{name} {act:?}");
            }
            for name in ["x.sample.y", ".sample.x", ".x.Ab12Cd", "sub/x.sample"] {
                assert!(held(&tree, &format!("{place}/hooks/{name}"), act), "{name} {act:?}");
            }
        }
        assert!(held(&tree, &format!("{place}/hooks/x.sample"), folder()));
        for free in ["index", "refs/heads/config", "info/exclude", "config.lock", "logs/HEAD"] {
            assert!(!held(&tree, &format!("{place}/{free}"), Act::Write), "{place}/{free}");
        }
    }
    assert!(held(&tree, ".GIT/hooks/x", Act::Write), "where case does not count");
    for free in ["hooks/x", "config", "src/commondir", "info/attributes"] {
        assert_eq!(judge(&tree, free, Act::Write), Judgement::Ordinary, "{free}");
    }
}

#[test]
fn the_git_entry_stays_what_it_is() {
    let tree = Fake::of(&["old/.git", "sub/.git=gitdir: x"], &["new/.git"]);
    assert!(held(&tree, "old/.git", Act::MoveAway) && held(&tree, "old/.git", Act::Remove));
    assert!(held(&tree, "sub/.git", Act::Write) && held(&tree, "sub/.git", file()));
    assert!(!held(&tree, "new/.git", Act::MoveAway) && !held(&tree, "new/.git", Act::Remove));
    for act in [Act::MakeOther, file(), folder(), LINKED] {
        assert!(held(&tree, "fresh/.git", act), "{act:?}");
    }
    assert_eq!(judge(&tree, "fresh/.git", Act::MakeFolder), Judgement::Ordinary);
    assert_eq!(judge(&tree, "fresh/.git", Act::Write), Judgement::GitFile);
    let moved = Act::MoveHere { source: Some(Path::new("/w/new/.git")), is_folder: true };
    assert_eq!(judge(&tree, "fresh/.git", moved), Judgement::Ordinary);
}

#[test]
fn what_the_run_made_it_may_remove() {
    let tree = Fake::of(
        &["old/.git/config=x", "old/.git/hooks/a.sample=x"],
        &["new/.git/config=x", "new/.git/hooks/a.sample=x", "new/.git", "new/.git/hooks"],
    );
    for name in ["config", "hooks/a.sample", "hooks"] {
        assert!(held(&tree, &format!("old/.git/{name}"), Act::Remove), "{name}");
        assert!(!held(&tree, &format!("new/.git/{name}"), Act::Remove), "{name}");
    }
}

#[test]
fn a_worktree_can_be_added_and_leads_nowhere_else() {
    let tree = Fake::of(&[".git/worktrees/old/gitdir=x"], &[".git/worktrees/new"]);
    assert_eq!(judge(&tree, ".git/worktrees/new/commondir", Act::Write), Judgement::Commondir);
    assert_eq!(judge(&tree, ".git/worktrees/new/gitdir", Act::Write), Judgement::GitFile);
    assert!(held(&tree, ".git/worktrees/old/gitdir", Act::Write));
    let moved =
        Fake::of(&[], &["d/worktrees/x", "d/worktrees/x/HEAD=x", "d/worktrees/x/commondir=y"]);
    assert_eq!(judge(&moved, "d/worktrees/x/gitdir", Act::Write), Judgement::GitFile);
    assert!(held(&tree, ".git/worktrees/new/commondir", file()));
    assert!(
        held(&tree, ".git/worktrees/evil", folder()) && held(&tree, ".git/worktrees", folder())
    );
}

#[test]
fn the_last_part_of_a_repository_counts_what_is_there() {
    let parts = ["d/HEAD=x", "d/refs"];
    let with = |extra: &[&str]| Fake::of(&[&parts[..], extra].concat(), &[]);
    let last = |extra: &[&str]| judge(&with(extra), "d/objects", Act::MakeFolder);
    assert_eq!(last(&[]), Judgement::Completes("/w/d".into()));
    assert_eq!(last(&["d/config=[core]\n\tbare = true\n"]), Judgement::Completes("/w/d".into()));
    assert_eq!(last(&["d/hooks/a.sample=x"]), Judgement::Completes("/w/d".into()));
    for harm in [
        "d/config=[core]\n\tfsmonitor = x\n",
        "d/hooks/pre-commit=x",
        "d/info/attributes=x",
        "d/config.worktree=[core]\n\thooksPath = x\n",
    ] {
        assert!(matches!(last(&[harm]), Judgement::Denied(_)), "{harm}");
    }
    assert!(held(&Fake::of(&["d/HEAD=x"], &[]), "d/commondir", Act::Write));
    assert!(held(&Fake::of(&["d/commondir=/x"], &[]), "d/HEAD", file()));
    assert!(held(&with(&["d/hooks/pre-commit=x"]), "d/objects", Act::MakeOther), "a socket");
}

#[test]
fn what_is_lifted_is_ordinary_and_hooks_never() {
    let tree = Fake::of(&[".git/config=x"], &[]);
    let lifted = guard(&[".git/config", ".env", ".cargo/config.toml", ".git/hooks"]);
    let judge = |path: &str| lifted.judge(&tree, &Path::new("/w").join(path), &Act::Write);
    for path in [".git/config", ".env", ".cargo/config.toml"] {
        assert_eq!(judge(path), Judgement::Ordinary, "{path}");
    }
    assert!(matches!(judge(".git/hooks/x"), Judgement::Denied(_)));
}

#[test]
fn a_folder_from_which_a_worktree_takes_its_configuration_is_a_repository_without_a_head() {
    let tree = Fake::of(&[], &["d/objects", "d/refs", "d/worktrees/x/HEAD=x", "e/objects"]);
    assert!(matches!(judge(&tree, "d/config", Act::Write), Judgement::Config(_)));
    assert!(held(&tree, "d/hooks/pre-commit", Act::Write));
    let config = "d/config=[core]\n\tfsmonitor = x\n";
    let evil = Fake::of(&[], &["d/objects", "d/worktrees", config]);
    assert!(held(&evil, "d/refs", Act::MakeFolder) && held(&evil, "d/refs", folder()));
    let evil = Fake::of(&[], &["d/objects", "d/refs", config]);
    assert!(held(&evil, "d/worktrees", Act::MakeFolder));
    assert_eq!(judge(&tree, "e/config", Act::Write), Judgement::Ordinary);
}

#[test]
fn a_linked_worktree_stays_with_its_repository() {
    let tree = Fake::of(&[], &["d/worktrees/x/commondir=../..\n", "e/worktrees/x/y"]);
    assert!(held(&tree, "d/worktrees/x", Act::MoveAway));
    assert!(held(&tree, "d/worktrees", Act::MoveAway));
    assert!(!held(&tree, "d", Act::MoveAway));
    assert!(
        !held(&tree, "e/worktrees/x", Act::MoveAway) && !held(&tree, "e/worktrees", Act::MoveAway)
    );
}

#[test]
fn a_git_file_leads_to_what_is_new_or_its_own_and_nowhere_else() {
    let tree = Fake::of(
        &[
            ".git/HEAD=x",
            ".git/modules/m/HEAD=x",
            ".git/worktrees/old/gitdir=/w/wt/.git",
            "other/.git/modules/m/HEAD=x",
            "bare/HEAD=x",
        ],
        &["new/.git", ".git/worktrees/fresh", "f=x"],
    );
    let check = |path: &str, text: &str| {
        guard(&[]).check_lead(&tree, &Path::new("/w").join(path), text.as_bytes())
    };
    for (path, text) in [
        ("s/.git", "gitdir: /w/.git/worktrees/fresh\n"),
        ("s/.git", "gitdir: ../.git/modules/m\n"),
        ("s/.git", "gitdir: ../not/yet"),
        ("s/.git", "gitdir: ../new/.git/\r\n"),
        ("wt/.git", "gitdir: /w/.git/worktrees/old\n"),
        (".git/worktrees/fresh/gitdir", "/w/s/.git\n"),
        (".git/worktrees/fresh/gitdir", "../../../s/.git\n"),
        (".git/worktrees/fresh/gitdir", "/tmp/s/.git\n"),
    ] {
        assert!(check(path, text).is_ok(), "{path}: {text}");
    }
    for (path, text) in [
        ("s/.git", "gitdir: /w/.git\n"),
        ("s/.git", "gitdir: ../bare\n"),
        ("s/.git", "gitdir: ../.git/modules\n"),
        ("s/.git", "gitdir: ../other/.git/modules/m\n"),
        ("s/.git", "gitdir: /w/.git/worktrees/old\n"),
        ("s/.git", "gitdir: /tmp/evil\n"),
        ("s/.git", "gitdir: ../../evil\n"),
        ("s/.git", "gitdir: ../f\n"),
        ("s/.git", "gitdir: ../not\0/../yet\n"),
        ("s/.git", "gitdir:\n"),
        ("s/.git", "[core]\n"),
        ("s/.git", ""),
        (".git/worktrees/fresh/gitdir", "/home/x/.git\n"),
        (".git/worktrees/fresh/gitdir", "/tmp/s\n"),
        (".git/worktrees/fresh/gitdir", "/tmpx/.git\n"),
        (".git/worktrees/fresh/gitdir", "/w/s\n"),
    ] {
        assert!(check(path, text).is_err(), "{path}: {text}");
    }
}

#[test]
fn the_text_of_a_submodule_that_is_checked_out_again_is_foreseen() {
    let tree = Fake::of(
        &[
            ".git/modules/deps/m/HEAD=x",
            ".git/modules/named/HEAD=x",
            ".gitmodules=[submodule \"named\"]\n\tpath = lib\n",
        ],
        &["o/.git=gitdir: ../.git/modules/deps/m", ".git/modules/deps/m/modules/i/HEAD=x"],
    );
    let foresee = |path: &str| guard(&[]).foresee_lead(&tree, &Path::new("/w").join(path));
    let text = |text: &str| Some(format!("gitdir: {text}\n").into_bytes());
    assert_eq!(foresee("deps/m/.git"), text("../../.git/modules/deps/m"));
    assert_eq!(foresee("lib/.git"), text("../.git/modules/named"));
    assert_eq!(foresee("o/i/.git"), text("../../.git/modules/deps/m/modules/i"));
    assert_eq!(foresee("none/.git"), None);
    assert_eq!(foresee(".git/worktrees/x/gitdir"), None);
}

#[test]
fn control_names_alone_may_have_what_was_there_before() {
    let tree = Fake::of(&[".git/hooks"], &[]);
    for (path, is_control) in [(".mcp.json", true), (".vscode/x", true), (".git/hooks/x", false)] {
        let judged = judge(&tree, path, Act::MakeOther);
        assert_eq!(matches!(judged, Judgement::Control(_)), is_control, "{path} {judged:?}");
    }
}

#[test]
fn nothing_old_is_brought_among_the_objects_of_a_repository() {
    let tree = Fake::of(
        &[".git/HEAD=x", ".git/objects/pack", ".git/refs", "old/pack", "old/p.idx=x"],
        &["fresh/p.idx=x", "new", "new/HEAD=x", "new/objects", "new/refs"],
    );
    let moved = |source: &str, is_folder, to: &str| {
        let source = Path::new("/w").join(source);
        held(&tree, to, Act::MoveHere { source: Some(&source), is_folder })
    };
    assert!(moved("old/pack", true, ".git/objects/ab"));
    assert!(moved("old/p.idx", false, ".git/objects/pack/p.idx"));
    assert!(!moved("fresh/p.idx", false, ".git/objects/pack/p.idx"), "what git has just made");
    assert!(!moved("old/p.idx", false, "new/objects/pack/p.idx"), "a repository of the run's");
}

#[test]
fn what_gits_configuration_names_does_not_come_into_being() {
    let tree = Fake::of(&["n/", "n/hooks/", "n/hooks/pre-commit=x", "m/", "m/src/"], &[]);
    let from = |name: &str| Path::new("/w").join(name);
    let (with, without, link) = (from("n"), from("m"), from("l"));
    let moved = |source, is_folder| Act::MoveHere { source: Some(source), is_folder };
    #[rustfmt::skip]
    let cases = [
        ("tools",               Act::MakeFolder,         false),
        ("tools",               moved(&without, true),   false),
        ("tools/other",         Act::Write,              false),
        ("tools/hooks",         Act::Remove,             false),
        ("shared.cfg.old",      Act::Write,              false),
        ("tools",               moved(&with, true),      true),
        ("tools",               moved(&link, false),     true),
        ("tools",               Act::MakeOther,          true),
        ("tools/hooks",         Act::MakeFolder,         true),
        ("tools/hooks/pre-push", Act::Write,             true),
        ("shared.cfg",          Act::Write,              true),
        ("shared.cfg",          moved(&without, false),  true),
    ];
    for (path, act, is_denied) in cases {
        let judged = judge(&tree, path, act);
        assert_eq!(matches!(judged, Judgement::Denied(_)), is_denied, "{path} {act:?}: {judged:?}");
    }
    assert!(guard(&[]).concerns(&from("tools")) && !guard(&[]).concerns(&from("src")));
}

/// The same on a file system that knows no difference between upper and lower case.
struct Folding(Fake);

impl Folding {
    fn own(&self, path: &Path) -> PathBuf {
        let same = |one: &&PathBuf| one.as_os_str().eq_ignore_ascii_case(path.as_os_str());
        self.0.there.keys().find(same).cloned().unwrap_or_else(|| path.to_owned())
    }
}

impl Tree for Folding {
    fn kind(&self, path: &Path) -> Option<Kind> {
        self.0.kind(&self.own(path))
    }
    fn is_new(&self, path: &Path) -> bool {
        self.0.is_new(&self.own(path))
    }
    fn text(&self, path: &Path) -> Option<Vec<u8>> {
        self.0.text(&self.own(path))
    }
    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        self.0.names(&self.own(folder))
    }
}

#[test]
fn where_case_counts_for_nothing_names_are_protected_in_any() {
    let entries =
        ["src/main.rs=x", ".git/HEAD=x", ".git/objects", ".git/refs", ".git/config=x", "empty"];
    let (plain, folding) = (Fake::of(&entries, &[]), Folding(Fake::of(&entries, &[])));
    let is_held = |tree: &dyn Tree, path: &str, act: Act<'_>| {
        let judged = guard(&[]).judge(tree, &Path::new("/w").join(path), &act);
        matches!(judged, Judgement::Denied(_) | Judgement::Control(_) | Judgement::Config(_))
    };
    for path in [
        ".VSCODE/tasks.json",
        ".Claude/settings.json",
        ".v\u{17f}code/tasks.json",
        ".Git/HOOKS/pre-commit",
        ".git/Hooks/pre-commit",
        ".GIT/CONFIG",
        ".ENV.local",
        ".CARGO/Config.toml",
        ".mcp.JSON",
    ] {
        assert!(is_held(&folding, path, Act::Write), "{path}");
        assert!(!is_held(&plain, path, Act::Write), "{path}: another name here");
    }
    for free in ["README.md", "Config/x", "src/Config.java", ".ENV.EXAMPLE", "empty/Objects"] {
        assert!(!is_held(&folding, free, Act::Write), "{free}");
    }
    let source = Path::new("/w/new");
    let moved = Act::MoveHere { source: Some(source), is_folder: true };
    assert!(is_held(&folding, ".IDEA", moved) && is_held(&folding, ".Husky", Act::MakeFolder));
    assert!(is_held(&folding, ".git/hooks/x", Act::Write), "as ever");
}

/// The same where each name has a short one as well, as NTFS gives them.
struct Short(Folding);

impl Short {
    fn own(path: &Path) -> PathBuf {
        let long = |part: &str| match part {
            "GIT~1" => ".git".to_owned(),
            "VSCODE~1" => ".vscode".to_owned(),
            "CONFIG~1" => "config.worktree".to_owned(),
            other => other.to_owned(),
        };
        path.iter().map(|part| long(part.to_str().unwrap())).collect()
    }
}

impl Tree for Short {
    fn kind(&self, path: &Path) -> Option<Kind> {
        self.0.kind(&Self::own(path))
    }
    fn is_new(&self, path: &Path) -> bool {
        self.0.is_new(&Self::own(path))
    }
    fn text(&self, path: &Path) -> Option<Vec<u8>> {
        self.0.text(&Self::own(path))
    }
    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        self.0.names(&Self::own(folder))
    }
}

#[test]
fn a_short_name_is_the_long_one_that_it_leads_to() {
    let entries = [
        "a=x",
        ".git/HEAD=x",
        ".git/objects",
        ".git/refs",
        ".git/config.worktree=x",
        ".vscode/x=y",
        "b~1=x",
    ];
    let tree = Short(Folding(Fake::of(&entries, &[])));
    let is_held = |path: &str| {
        let judged = guard(&[]).judge(&tree, &Path::new("/w").join(path), &Act::Write);
        matches!(judged, Judgement::Denied(_) | Judgement::Control(_) | Judgement::Config(_))
    };
    for path in ["GIT~1/hooks/pre-commit", ".git/CONFIG~1", "GIT~1/CONFIG~1", "VSCODE~1/tasks.json"]
    {
        assert!(is_held(path), "{path}");
    }
    for free in ["b~1", "new~1", "a~", "src~1/x"] {
        assert!(!is_held(free), "{free}");
    }
}
