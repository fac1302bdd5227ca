//! What a run changed on the user's own files is shown from what was kept of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Home, also_as_ordinary_user, text};

/// Every file and link but those of `.git`, with what git knows of its mode.
fn files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, data) = (entry.path(), entry.path().symlink_metadata().unwrap());
            if data.is_dir() {
                folders.extend((entry.file_name() != ".git").then(|| path.clone()));
                continue;
            }
            let content = if data.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let mode = if data.is_symlink() { 0 } else { data.mode() & 0o100 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
        }
    }
    found
}

fn threads(home: &Home, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    let command = command.current_dir(home.path("work")).env_clear().env("HOME", home.path(""));
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

fn sh(folder: &Path, script: &str) {
    let mut shell = Command::new("sh");
    let shell =
        shell.args(["-ec", script]).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(shell.status().unwrap().success());
}

const BEFORE: &str = r#"
    echo a > a; echo gone > gone; printf '\0\1' > binary; echo p > program; mkdir -p deep/er shut other
    for i in 1 2 3; do echo $i > deep/er/$i; done; ln -s a link; echo i > "$(printf 'odd\n"\377')"
    mkdir build; echo o > build/old; echo build > .gitignore; echo u > untracked; echo s > shut/s; echo o > other/o
    echo same > same; echo twice > twice; echo swap > swap
"#;
const CHANGES: &str = r#"
    echo more >> a; rm gone; printf '\0\2' > binary; chmod +x program; ln -sf swap link; echo new > new
    mv deep moved; echo 4 > moved/er/4; rm moved/er/1; echo two > moved/er/2; mv moved/er inner; mkdir deep; echo d > deep/d
    echo x >> "$(printf 'odd\n"\377')"; echo o > build/new; rm build/old; rm untracked; chmod 700 shut; echo same > same
    mv twice once; mv once twice; echo more >> twice; rm swap; mkdir swap; echo in > swap/in; mkdir void; rm -r other; echo o > other
    touch -d 2001-01-01 .gitignore; mkdir -p passing; echo p > passing/p; rm -r passing
"#;

/// The patch makes of the tree before what is there now, which git says.
fn the_patch_is_what_happened(prefix: &str) {
    let home = Home::new();
    let work = home.path("work");
    if !prefix.is_empty() {
        fs::rename(work.join(".git"), home.path(".git")).unwrap();
    }
    sh(&work, BEFORE);
    if prefix.is_empty() {
        sh(
            &work,
            "git add a gone deep program link; git -c user.name=a -c user.email=a@b.c commit -qm a",
        );
    }
    let copy = home.path("copy");
    sh(&home.path(""), "cp -a work copy; cd copy; rm -rf .git; git init -q");
    let ran = home.run(&[], CHANGES);
    assert!(ran.status.success(), "{}", text(&ran));
    let told = threads(&home, &["threads", "diff"]);
    assert!(told.status.success(), "{}", text(&told));
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("2 files that git ignores"), "{said}");
    for line in ["shut`, a folder's mode, 0755 to 0700", "void`, a new folder"] {
        assert!(said.contains(&format!("in no patch: `{prefix}{line}")), "{line} in {said}");
    }
    let patch = String::from_utf8_lossy(&told.stdout);
    assert!(
        !patch.contains("build/") && !patch.contains("same") && !patch.contains("passing"),
        "{patch}"
    );
    let whole = threads(&home, &["threads", "diff", "--ignored", "last"]);
    fs::write(home.path("patch"), &whole.stdout).unwrap();
    assert_ne!(files(&work), files(&copy), "the control");
    sh(&copy, &format!("git apply --binary -p{} ../patch", 1 + prefix.matches('/').count()));
    assert_eq!(files(&copy), files(&work), "{}", text(&whole));
    let counts = threads(&home, &["threads", "diff", "--stat", "last", "a", "new"]);
    assert!(text(&counts).contains(" 2 files, +2 -0"), "{}", text(&counts));
    let list = threads(&home, &["threads", "diff", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let kind = |path: &str| {
        let path = format!("{prefix}{path}");
        &list.iter().find(|file| file["path"] == *path).unwrap()["kind"]
    };
    assert_eq!((kind("new"), kind("gone")), (&"created".into(), &"deleted".into()));
    // Nothing stays of a look, and nothing is different when all is taken back.
    let undone = threads(&home, &["undo"]);
    assert!(undone.status.success(), "{}", text(&undone));
    let none = threads(&home, &["threads", "diff", "--ignored"]);
    assert!(none.stdout.is_empty(), "{}", text(&none));
    let kept = fs::read_dir(home.path(".local/state/stockade/undo")).unwrap().next().unwrap();
    let names = fs::read_dir(kept.unwrap().path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().starts_with("look-")));
}

#[test]
fn the_diff_of_a_run_is_what_it_changed() {
    the_patch_is_what_happened("");
    also_as_ordinary_user("wrote::an_ordinary_user_sees_what_a_run_changed");
}

#[test]
#[ignore = "run by the test above, as somebody without privileges"]
fn an_ordinary_user_sees_what_a_run_changed() {
    the_patch_is_what_happened("");
}

#[test]
fn the_diff_of_a_run_in_a_part_of_a_repository_is_what_it_changed() {
    the_patch_is_what_happened("work/");
}

#[test]
fn what_changed_later_is_said_and_what_changed_nothing_is_no_last() {
    let home = Home::new();
    let ran = home.run(
        &[],
        "echo run > notes; echo run > other; mkdir -p .git/info; echo '*.o' > .git/info/exclude",
    );
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(home.run(&[], "cat notes").status.success());
    // One that changed nothing is known, and so is that.
    let elsewhere = Home::new();
    assert!(elsewhere.run(&[], "cat package.json; true").status.success());
    let none = threads(&elsewhere, &["threads", "diff"]);
    assert_eq!(none.status.code(), Some(1));
    let said = text(&none);
    assert!(said.contains("no thread and no run here has changes"), "{said}");
    assert!(said.contains("hint: it changed no file"), "{said}");
    home.wait_for_file_times();
    fs::write(home.path("work/notes"), "mine\n").unwrap();
    let told = threads(&home, &["threads", "diff"]);
    let said = text(&told);
    assert!(said.contains("changed since, and shown as it is now: `notes`"), "{said}");
    assert!(said.contains("+mine") && said.contains("+++ b/other"), "{said}");
    assert!(!said.contains("`other`") && !said.contains("exclude"), "{said}");
}
