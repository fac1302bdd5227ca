//! Applying: what the thread made arrives, what the user made stays, and nothing lands outside.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stockade_threads::apply::{ApplyError, ApplyOptions, Outcome, apply};
use stockade_threads::changes::ChangeSet;
use stockade_threads::flags::{FlagKind, flags};
use stockade_threads::record::Changes;
use stockade_threads::store::{Store, Thread};

use crate::intake::{Guest, any_content, any_files, populate};
use crate::project::{Everything, Project, assert_same, everything};
use crate::store::new_thread;

/// A guest whose result was taken into a thread of a store.
struct Taken {
    guest: Guest,
    thread: Thread,
    changes: ChangeSet,
}

impl Taken {
    fn new(files: &[(&str, &str)], work: impl FnOnce(&Guest)) -> Self {
        Self::of(Guest::new(files), work)
    }

    fn of(guest: Guest, work: impl FnOnce(&Guest)) -> Self {
        work(&guest);
        let store = Store::open(&guest.project.folder.path().join("state")).unwrap();
        let thread = store.create(&new_thread(&guest.project.work())).unwrap();
        let diff = guest.diff();
        let changes: Changes =
            stockade_threads::patch::take_in(&diff, &guest.cloned, thread.folder()).unwrap();
        let changes = ChangeSet::open(thread.folder(), &changes).unwrap();
        Self { guest, thread, changes }
    }

    fn apply_with(&self, options: &ApplyOptions) -> Vec<(String, Outcome)> {
        let outcomes = apply(&self.changes, &self.thread, options).unwrap();
        outcomes.into_iter().map(|file| (file.path().display().to_string(), file.outcome)).collect()
    }

    fn apply(&self) -> Vec<(String, Outcome)> {
        self.apply_with(&ApplyOptions::default())
    }

    fn accepting(&self, names: &[&str]) -> Vec<(String, Outcome)> {
        let accept = names.iter().map(|&name| name.to_owned()).collect();
        self.apply_with(&ApplyOptions { accept, ..ApplyOptions::default() })
    }

    fn work(&self) -> PathBuf {
        self.guest.project.work()
    }
}

fn said(outcomes: &[(String, Outcome)]) -> Vec<(&str, &Outcome)> {
    outcomes.iter().map(|(path, outcome)| (path.as_str(), outcome)).collect()
}

/// The files of a work tree without `.git`, by content, kind and whether they are executable.
fn tree(folder: &Path) -> Vec<(PathBuf, bool, Vec<u8>)> {
    let all =
        everything(folder).into_iter().filter(|(path, _)| !path.starts_with(folder.join(".git")));
    let files = all.filter(|(path, _)| !path.is_dir() || path.is_symlink());
    let file = |(path, (mode, _, _, content)): (PathBuf, (u32, i64, i64, Vec<u8>))| {
        let content =
            fs::read_link(&path).map_or(content, |to| to.into_os_string().into_encoded_bytes());
        (path.strip_prefix(folder).unwrap().to_owned(), mode & 0o100 != 0, content)
    };
    files.map(file).collect()
}

#[test]
fn a_result_arrives_whole_and_a_second_time_changes_nothing() {
    let files = [
        ("edited", "a\nb\n"),
        ("gone", "a\n"),
        ("deep/er/gone", "a\n"),
        ("mode", "a\n"),
        ("type", "a\n"),
        ("becomes/folder", "a\n"),
        ("becomes-file/inner", "a\n"),
        ("untouched", "a\n"),
    ];
    let taken = Taken::new(&files, |guest| {
        guest.write("edited", "a\nB\n");
        for name in ["gone", "deep/er/gone", "type", "becomes-file/inner"] {
            fs::remove_file(guest.clone.join(name)).unwrap();
        }
        fs::set_permissions(guest.clone.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("edited", guest.clone.join("type")).unwrap();
        fs::remove_dir(guest.clone.join("becomes-file")).unwrap();
        guest.write("becomes-file", "x\n");
        guest.write("new/\u{e4} b", [0, 255, 10]);
    });
    let git = everything(&taken.work().join(".git"));
    let outcomes = taken.apply();
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Applied), "{outcomes:?}");
    assert_eq!(tree(&taken.work()), tree(&taken.guest.clone));
    assert!(!taken.work().join("deep").exists(), "what nothing is left in goes too");
    assert_same(&git, &everything(&taken.work().join(".git")), "`.git` is not touched");

    let before = taken.guest.project.everything();
    let outcomes = taken.apply();
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Unchanged), "{outcomes:?}");
    assert_same(&before, &taken.guest.project.everything(), "applied twice");
}

#[test]
fn what_the_user_did_meanwhile_stays() {
    let ten = (0..10).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let files = [
        ("apart", ten.as_str()),
        ("same", "a\nb\nc\n"),
        ("gone-here", "a\n"),
        ("gone-there", "a\n"),
        ("binary", "\0a\n"),
        ("other", "a\n"),
    ];
    let taken = Taken::new(&files, |guest| {
        guest.write("apart", ten.replace("line 9", "LINE 9"));
        guest.write("same", "a\nthread\nc\n");
        guest.write("gone-here", "thread\n");
        fs::remove_file(guest.clone.join("gone-there")).unwrap();
        guest.write("binary", "\0thread\n");
        guest.write("new", "thread\n");
        guest.write("folder/x", "thread\n");
    });
    let project = &taken.guest.project;
    project.write("apart", &ten.replace("line 0", "LINE 0"));
    project.write("same", "a\nuser\nc\n");
    fs::remove_file(project.work().join("gone-here")).unwrap();
    project.write("gone-there", "user\n");
    project.write("binary", "\0user\n");
    project.write("new", "user\n");
    project.write("folder", "user\n");
    project.write("other", "user\n");
    let outcomes = taken.apply();
    assert_eq!(
        said(&outcomes),
        [
            ("apart", &Outcome::Merged),
            ("binary", &Outcome::Conflict("both changed it, and it is no text")),
            ("folder/x", &Outcome::Conflict("something else stands in its way")),
            ("gone-here", &Outcome::Conflict("it is gone here")),
            ("gone-there", &Outcome::Conflict("the thread removed it, and it was changed here")),
            ("new", &Outcome::Conflict("it is new on both sides")),
            ("same", &Outcome::Conflict("both changed the same lines")),
        ]
    );
    let both = ten.replace("line 0", "LINE 0").replace("line 9", "LINE 9");
    assert_eq!(project.read("apart"), both);
    for name in ["gone-there", "new", "folder", "other"] {
        assert_eq!(project.read(name), "user\n", "{name}");
    }
    assert_eq!(project.read("same"), "a\nuser\nc\n");
    let again = taken.apply();
    assert_eq!(again.first().unwrap().1, Outcome::Unchanged, "merged once is enough");
    assert_eq!(project.read("apart"), both);

    let options = ApplyOptions { markers: true, paths: vec!["same".into()], ..Default::default() };
    assert_eq!(said(&taken.apply_with(&options)), [("same", &Outcome::Marked)]);
    assert!(project.read("same").contains("<<<<<<< here\nuser\n=======\nthread\n>>>>>>> thread"));
}

#[test]
fn modes_and_what_was_there_are_kept() {
    let taken = Taken::new(&[("a", "a\n"), ("b", "b\n")], |guest| {
        guest.write("a", "changed\n");
        fs::set_permissions(guest.clone.join("b"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    for name in ["a", "b"] {
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(taken.work().join(name), mode).unwrap();
    }
    taken.apply();
    let mode = |name| fs::metadata(taken.work().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("b")), (0o640, 0o750));
    let kept = taken.thread.folder().join("kept");
    assert_eq!(fs::read_to_string(kept.join("0")).unwrap(), "a\n");
    let journal = fs::read_to_string(kept.join("journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 2, "{journal}");
}

/// Threat model, R3: "What would run on the host unseen … wait for the user's word."
#[test]
fn what_runs_later_waits_to_be_accepted() {
    let files =
        [("package.json", "{\"scripts\":{\"test\":\"x\"}}\n"), ("other/package.json", "{}\n")];
    let taken = Taken::new(&files, |guest| {
        guest.write(".github/workflows/ci.yml", "on: push\n");
        guest.write(".vscode/tasks.json", "{}\n");
        guest.write(".github/hooks/x.json", "{}\n");
        guest.write("package.json", "{\"scripts\":{\"test\":\"x\",\"postinstall\":\"evil\"}}\n");
        guest.write("other/package.json", "{\"scripts\":{\"test\":\"y\"}}\n");
        guest.write("run.sh", "echo\n");
        fs::set_permissions(guest.clone.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", guest.clone.join("out")).unwrap();
        symlink("run.sh", guest.clone.join("in")).unwrap();
        crate::project::git(&guest.clone, &["clone", "-q", ".", "module"]);
    });
    let mut told: Vec<String> = Vec::new();
    for flag in flags(&taken.changes).unwrap() {
        told.push(serde_json::to_string(&flag).unwrap());
    }
    assert!(
        told.contains(&r#"{"path":"out","flag":"symlink-out","weight":"hold"}"#.to_owned()),
        "{told:?}"
    );
    let held = |outcomes: &[(String, Outcome)]| -> Vec<(String, FlagKind)> {
        let mut held = Vec::new();
        for (path, outcome) in outcomes {
            if let Outcome::Held(kinds) = outcome {
                held.extend(kinds.iter().map(|kind| (path.clone(), *kind)));
            }
        }
        held
    };
    let outcomes = taken.apply();
    let expected = [
        (".github/hooks/x.json", FlagKind::ControlFile),
        (".github/workflows/ci.yml", FlagKind::CiFile),
        (".vscode/tasks.json", FlagKind::ControlFile),
        ("module", FlagKind::Submodule),
        ("out", FlagKind::SymlinkOut),
        ("package.json", FlagKind::PackageHook),
    ];
    assert_eq!(held(&outcomes), expected.map(|(path, kind)| (path.to_owned(), kind)));
    for name in ["out", ".vscode", ".github", "module"] {
        assert!(fs::symlink_metadata(taken.work().join(name)).is_err(), "{name}");
    }
    assert_eq!(taken.guest.project.read("package.json"), files[0].1);
    assert_eq!(fs::read_link(taken.work().join("in")).unwrap(), Path::new("run.sh"));
    assert_eq!(taken.guest.project.read("run.sh"), "echo\n");

    let outcomes =
        taken.accepting(&["ci-file", ".github/hooks", ".vscode", "out", "submodule", ""]);
    assert_eq!(held(&outcomes), [("package.json".to_owned(), FlagKind::PackageHook)]);
    let module = outcomes.iter().find(|(path, _)| path == "module").unwrap();
    assert!(matches!(module.1, Outcome::Refused(_)));
    assert!(taken.work().join(".vscode/tasks.json").exists());
    // What was accepted does not wait again, and what was not still does.
    let again = held(&taken.apply());
    let expected = [("module", FlagKind::Submodule), ("package.json", FlagKind::PackageHook)];
    assert_eq!(again, expected.map(|(path, kind)| (path.to_owned(), kind)));
}

/// Threat model, R1: "… through a link …"
#[test]
fn links_in_the_way_lead_nowhere() {
    let taken = Taken::new(&[("folder/a", "a\n"), ("file", "a\n")], |guest| {
        guest.write("folder/a", "evil\n");
        guest.write("folder/new", "evil\n");
        guest.write("deep/new", "evil\n");
        guest.write("file", "evil\n");
    });
    let outside = taken.guest.project.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), "a\n").unwrap();
    fs::write(outside.join("file"), "a\n").unwrap();
    fs::remove_dir_all(taken.work().join("folder")).unwrap();
    symlink(&outside, taken.work().join("folder")).unwrap();
    symlink(&outside, taken.work().join("deep")).unwrap();
    fs::remove_file(taken.work().join("file")).unwrap();
    symlink(outside.join("file"), taken.work().join("file")).unwrap();
    let before = everything(&outside);
    let outcomes = taken.apply();
    assert_same(&before, &everything(&outside), "nothing is written through a link");
    assert!(
        outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Conflict(_))),
        "{outcomes:?}"
    );
}

/// Threat model, R1: "… or over what the user hides."
#[test]
fn a_part_can_be_applied_and_hidden_files_never() {
    let taken = Taken::new(&[("a", "a\n"), ("b/c", "c\n"), ("secret/key", "k\n")], |guest| {
        guest.write("a", "A\n");
        guest.write("b/c", "C\n");
        guest.write("secret/key", "evil\n");
    });
    let part = ApplyOptions { paths: vec!["b".into()], ..Default::default() };
    assert_eq!(said(&taken.apply_with(&part)), [("b/c", &Outcome::Applied)]);
    assert_eq!(taken.guest.project.read("a"), "a\n");
    let none = ApplyOptions { paths: vec!["nothing".into()], ..Default::default() };
    let refused = apply(&taken.changes, &taken.thread, &none);
    assert!(matches!(refused, Err(ApplyError::NoChange(_))));
    let hidden = ApplyOptions { never: vec![taken.work().join("secret")], ..Default::default() };
    let outcomes = taken.apply_with(&hidden);
    assert_eq!(outcomes.last().unwrap().1, Outcome::Refused("it is hidden"));
    assert_eq!(taken.guest.project.read("secret/key"), "k\n");
}

#[test]
fn applying_goes_on_after_it_was_killed() {
    let taken = Taken::new(&[("a", "a\n")], |guest| {
        guest.write("a", "A\n");
        guest.write("b", "B\n");
    });
    // What a process leaves that is killed between keeping and renaming.
    let waiting = taken.work().join(format!(".stockade-{}", taken.thread.id()));
    fs::write(&waiting, "half").unwrap();
    let kept = taken.thread.folder().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("0"), "a\n").unwrap();
    fs::write(kept.join("journal.jsonl"), "{\"path\":\"a\",\"was\":\"fi").unwrap();
    let outcomes = taken.apply();
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Applied), "{outcomes:?}");
    assert!(!waiting.exists());
    assert_eq!(fs::read_to_string(kept.join("0")).unwrap(), "a\n", "nothing kept is overwritten");
    let journal = fs::read_to_string(kept.join("journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 3, "{journal}");
}

/// The user's own work beside the thread's: files that the thread cannot name.
fn unrelated(folder: &Path) -> Everything {
    fs::create_dir_all(folder.join("user")).unwrap();
    fs::write(folder.join("user/notes"), "mine\n").unwrap();
    fs::write(folder.join("untracked"), "mine\n").unwrap();
    let own = [folder.join("user"), folder.join("user/notes"), folder.join("untracked")];
    everything(folder).into_iter().filter(|(path, _)| own.contains(path)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// On the base, the result of applying is the result; and what the user has beside it stays.
    #[test]
    fn applying_to_the_base_gives_the_result(before in any_files(), after in any_files()) {
        let project = Project::new(&[]);
        populate(&project.work(), &before);
        project.commit();
        let taken = Taken::of(Guest::of(project), |guest| {
            for name in ["a", "b"] {
                let path = guest.clone.join(name);
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).ok(); }
            }
            populate(&guest.clone, &after);
        });
        let own = unrelated(&taken.work());
        let outcomes = taken.apply();
        prop_assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Applied), "{:?}", outcomes);
        let now = everything(&taken.work());
        for (path, data) in &own {
            prop_assert_eq!(now.get(path), Some(data));
        }
        fs::remove_dir_all(taken.work().join("user")).unwrap();
        fs::remove_file(taken.work().join("untracked")).unwrap();
        prop_assert_eq!(tree(&taken.work()), tree(&taken.guest.clone));
    }

    /// Whatever the user did meanwhile, a file is theirs, the thread's, or a clean merge; and
    /// applying again changes nothing.
    #[test]
    fn applying_twice_is_applying_once(here in any_content(), there in any_content(), base in any_content()) {
        let project = Project::new(&[]);
        fs::write(project.work().join("a"), &base).unwrap();
        project.commit();
        let taken = Taken::of(Guest::of(project), |guest| guest.write("a", &there));
        fs::write(taken.work().join("a"), &here).unwrap();
        let first = taken.apply();
        let once = tree(&taken.work());
        if let Some((_, Outcome::Conflict(_))) = first.first() {
            prop_assert_eq!(&once.first().unwrap().2, &here);
        }
        let second = taken.apply();
        prop_assert_eq!(tree(&taken.work()), once);
        for (one, other) in first.iter().zip(&second) {
            prop_assert_eq!(one.1.is_clean(), other.1.is_clean());
        }
    }
}
