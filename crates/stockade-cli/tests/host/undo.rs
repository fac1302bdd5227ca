//! What a run changed is taken back: by a look at the tree before, after and in between.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::{Home, also_as_ordinary_user, text};

/// What a name stands for. A time of a link says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    mode: u32,
    modified: Option<(i64, i64)>,
    content: Vec<u8>,
    attribute: Option<Vec<u8>>,
    /// The first name of the same file.
    first: PathBuf,
}

/// Every name with what it stands for.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut level = vec![root.to_owned()];
    while let Some(folder) = level.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let content = if data.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if data.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            if data.is_dir() {
                level.push(path.clone());
            }
            let mut value = [0; 64];
            let length = rustix::fs::lgetxattr(&path, "user.mark", value.as_mut_slice()).ok();
            let attribute = length.map(|length| value[..length].to_vec());
            let modified = (!data.is_symlink()).then(|| (data.mtime(), data.mtime_nsec()));
            let name = path.strip_prefix(root).unwrap().to_owned();
            let first = names.entry(data.ino()).or_insert_with(|| name.clone());
            if name < *first {
                first.clone_from(&name);
            }
            let first = PathBuf::from(data.ino().to_string());
            found.insert(name, Seen { mode: data.mode(), modified, content, attribute, first });
        }
    }
    let data = fs::symlink_metadata(root).unwrap();
    let first = PathBuf::from(data.ino().to_string());
    names.insert(data.ino(), PathBuf::new());
    let modified = Some((data.mtime(), data.mtime_nsec()));
    let of_root = Seen { mode: data.mode(), modified, content: Vec::new(), attribute: None, first };
    found.insert(PathBuf::new(), of_root);
    for seen in found.values_mut() {
        let inode = seen.first.to_str().unwrap().parse().unwrap();
        seen.first.clone_from(&names[&inode]);
    }
    found
}

pub(super) fn differences(one: &Path, before: &BTreeMap<PathBuf, Seen>) -> Vec<PathBuf> {
    let now = tree(one);
    let names = now.keys().chain(before.keys());
    let mut different: Vec<_> =
        names.filter(|name| now.get(*name) != before.get(*name)).cloned().collect();
    different.sort();
    different.dedup();
    different
}

pub(super) fn stockade(home: &Home, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(words)
        .current_dir(home.path("work"))
        .env_clear()
        .env("HOME", home.path(""))
        .output()
        .unwrap()
}

fn outcomes(output: &Output) -> BTreeMap<String, String> {
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |entry: &Value| {
        Path::new(&text(&entry["path"])).file_name().unwrap().to_string_lossy().into_owned()
    };
    list.iter().map(|entry| (name(entry), text(&entry["outcome"]))).collect()
}

fn furnish(work: &Path) {
    let script = r#"
        echo a > a; echo b > b; chmod 755 b; mkdir -p d deep/er/est empty closed; echo x > d/x; ln d/x hard
        ln -s a link; ln -s nowhere broken; printf 'bin\0' > "$(printf 'odd\n\377 name')"; mkfifo fifo
        echo build > .gitignore; mkdir build; echo o > build/o.o; echo z > deep/er/est/z; echo c > closed/c
        chmod 555 closed; chmod 4755 b; chmod 400 d/x; echo m > m
        python3 -c 'import os; os.setxattr("m", "user.mark", b"old")'
        touch -d 2001-02-03 a d/x deep/er/est/z closed/c m .gitignore
        git add a b d deep && git -c user.name=a -c user.email=a@b.c commit -qm first
    "#;
    let made = Command::new("sh").args(["-c", script]).current_dir(work).status().unwrap();
    assert!(made.success());
}

const JOB: &str = r#"
    echo more >> a; echo new > new; rm b; mv d e; echo y > e/y; chmod 600 e/x; echo changed > e/x
    rm link; ln -s b link; mv broken odd*name deep/; rm -rf empty; mkfifo other; rm fifo
    mkdir -p q/w; echo t > q/w/t; mv deep/er q/; rm q/er/est/z; echo lone > deep/n
    mv a t; cp hard a; mv t hard2; ln a again; chmod 755 closed; rm closed/c; : > build/o.o
    touch -d 1999-01-01 m; python3 -c 'import os; [os.setxattr(n, "user.mark", b"new") for n in "ma"]'
    chmod 640 .gitignore; echo over > over; mv over .gitignore; truncate -s 1 hard
    chmod 700 .; touch -d 2001-02-03 .; git clean -qfdx; rm -rf .git 2> /dev/null; rm -rf src tests; mkdir src; echo s > src; exit 0
"#;

#[test]
#[ignore = "run by the test below, as somebody without privileges"]
fn an_ordinary_user_has_everything_taken_back() {
    everything_is_taken_back();
}

#[test]
fn everything_is_taken_back() {
    let home = Home::new();
    let work = home.path("work");
    furnish(&work);
    let before = tree(&work);
    let ran = home.run(&[], JOB);
    assert!(ran.status.success(), "{}", text(&ran));
    let between = tree(&work);
    assert!(differences(&work, &before).len() > 40, "the control: much has changed");
    let preview = stockade(&home, &["undo", "--dry-run"]);
    assert!(preview.status.success() && differences(&work, &between).is_empty());
    let undone = stockade(&home, &["undo"]);
    assert_eq!(differences(&work, &before), [""; 0].map(PathBuf::from), "{}", text(&undone));
    assert!(undone.status.success(), "{}", text(&undone));
    let would = text(&preview).replace("restore ", "restored").replace("remove ", "removed");
    assert_eq!(would.replace("would be taken", "taken"), text(&undone));
    assert!(text(&undone).contains("\nrestored package.json\n"), "{}", text(&undone));
    let git = Command::new("git").args(["fsck", "--strict"]).current_dir(&work).output().unwrap();
    assert!(git.status.success(), "{}", text(&git));
    let none = stockade(&home, &["undo"]);
    assert_eq!(none.status.code(), Some(1), "one that was undone is not the latest to undo");
    let redone = stockade(&home, &["undo", "--redo"]);
    assert_eq!(differences(&work, &between), [""; 0].map(PathBuf::from), "{}", text(&redone));
    let undone = stockade(&home, &["undo"]);
    assert_eq!(differences(&work, &before), [""; 0].map(PathBuf::from), "{}", text(&undone));
    also_as_ordinary_user("undo::an_ordinary_user_has_everything_taken_back");
}

/// Moves everything to `top` that lies in a folder there; the most names that one folder had.
fn flatten(top: &Path) -> usize {
    let names = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let shelves = names(top).into_iter().filter(|path| path.is_dir());
    let shelves: Vec<_> = shelves.map(|shelf| (names(&shelf), shelf)).collect();
    let most = shelves.iter().map(|(names, _)| names.len()).chain([names(top).len()]).max();
    for (names, shelf) in shelves {
        for path in names {
            fs::rename(&path, top.join(path.file_name().unwrap())).unwrap();
        }
        fs::remove_dir(shelf).unwrap();
    }
    most.unwrap()
}

#[test]
fn of_many_files_no_folder_of_the_store_has_many_and_stores_of_before_still_count() {
    for is_of_before in [false, true] {
        let home = Home::new();
        let work = home.path("work");
        fs::create_dir(work.join("many")).unwrap();
        for number in 0..600 {
            fs::write(work.join(format!("many/{number}")), format!("{number}\n")).unwrap();
        }
        let before = tree(&work);
        let ran = home.run(&[], "for i in many/[34]*; do echo more >> $i; done; rm -r many");
        assert!(ran.status.success() && !work.join("many").exists(), "{}", text(&ran));
        if is_of_before {
            let threads = fs::read_dir(home.path(".local/state/stockade/undo")).unwrap();
            let threads = threads.map(|it| it.unwrap().path().join("1-run/objects"));
            let most = threads.filter(|objects| objects.is_dir()).map(|it| flatten(&it)).max();
            assert!((100..150).contains(&most.unwrap()), "{most:?}");
        }
        let undone = stockade(&home, &["undo"]);
        assert_eq!(differences(&work, &before), [""; 0].map(PathBuf::from), "{}", text(&undone));
    }
}

/// Many operations on few names, so that they meet.
const STORM: &str = r#"
import ctypes, os, random, shutil, subprocess, sys
seed, count = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
libc = ctypes.CDLL(None, use_errno=True)
names = ["n%d" % i for i in range(7)]
def some():
    return os.path.join(*random.sample(names, random.choice([1, 1, 2, 2, 3])))
def write(mode):
    with open(some(), mode) as f: f.write(str(random.random()))
def swap():
    libc.renameat2(-100, some().encode(), -100, some().encode(), 2)
def over():
    with open("temporary", "w") as f: f.write(str(random.random()))
    os.rename("temporary", some())
def clean():
    if random.random() < 0.1: subprocess.run(["git", "clean", "-qfdx"], stderr=subprocess.DEVNULL)
acts = [lambda: write("w"), lambda: write("a"), lambda: write("r+"), lambda: write("x"), over, clean,
        lambda: os.unlink(some()), lambda: os.rmdir(some()), lambda: os.mkdir(some()),
        lambda: os.mkdir(some()), lambda: os.rename(some(), some()), lambda: os.rename(some(), some()),
        lambda: os.link(some(), some()) if seed % 2 else None, lambda: os.symlink(some(), some()), swap,
        lambda: os.truncate(some(), 1), lambda: os.chmod(some(), random.choice([0o700, 0o750, 0o777])),
        lambda: os.utime(some(), (1, random.randrange(1 << 30))),
        lambda: os.setxattr(some(), "user.mark", b"%d" % random.randrange(9)),
        lambda: os.removexattr(some(), "user.mark"),
        lambda: shutil.rmtree(random.choice(names)) if random.random() < 0.3 else None]
done = tried = 0
while tried < count or len(sys.argv) > 3:
    tried += 1
    try: random.choice(acts)(); done += 1
    except OSError: pass
    # Whoever waits for that kills it.
    if tried == count: open(sys.argv[3], "w").close() if len(sys.argv) > 3 else None
assert done > count // 10, done
"#;

/// A home in which a storm has been, and what is there now.
fn after_a_storm(seed: u32) -> (Home, BTreeMap<PathBuf, Seen>) {
    let home = Home::new();
    let script = home.path("storm.py");
    fs::write(&script, STORM).unwrap();
    let mut made = Command::new("python3");
    made.arg(script).args([&(1000 + seed).to_string(), "300"]);
    assert!(made.current_dir(home.path("work/src")).status().unwrap().success());
    let before = tree(&home.path("work"));
    (home, before)
}

fn is_taken_back_after_a_storm(seeds: std::ops::Range<u32>) {
    let empty: [PathBuf; 0] = [];
    for seed in seeds {
        let (home, before) = after_a_storm(seed);
        let work = home.path("work");
        let script = home.path("storm.py");
        let ran = home.run(&[], &format!("cd src && python3 {} {seed} 300", script.display()));
        assert!(ran.status.success(), "{}", text(&ran));
        assert!(!differences(&work, &before).is_empty(), "the control of {seed}");
        let between = tree(&work);
        let undone = stockade(&home, &["undo"]);
        assert_eq!(differences(&work, &before), empty, "seed {seed}: {}", text(&undone));
        assert!(undone.status.success(), "seed {seed}: {}", text(&undone));
        // A file with several names, of which one was written and another one removed, does not get
        // its later content back by a redo.
        if seed % 2 == 1 {
            continue;
        }
        let redone = stockade(&home, &["undo", "--redo"]);
        assert_eq!(differences(&work, &between), empty, "redo, seed {seed}: {}", text(&redone));
        let undone = stockade(&home, &["undo"]);
        assert_eq!(differences(&work, &before), empty, "again, seed {seed}: {}", text(&undone));
    }
}

#[test]
#[ignore = "run by the test below, as somebody without privileges"]
fn an_ordinary_user_has_a_storm_taken_back() {
    is_taken_back_after_a_storm(8..10);
}

#[test]
fn a_storm_of_operations_is_taken_back_whatever_it_was() {
    is_taken_back_after_a_storm(0..8);
    also_as_ordinary_user("undo::an_ordinary_user_has_a_storm_taken_back");
}

/// Undoes as soon as the processes of a run that was killed are gone.
fn undone_after_kill(home: &Home) -> Output {
    let mut undone = stockade(home, &["undo"]);
    for _ in 0..50 {
        if undone.status.success() {
            break;
        }
        undone = stockade(home, &["undo"]);
    }
    undone
}

#[test]
fn a_storm_that_was_killed_in_the_middle_is_taken_back() {
    for seed in 20..24 {
        let (home, before) = after_a_storm(seed);
        let work = home.path("work");
        let words = format!(
            "cd src && exec python3 {0}/storm.py {seed} {1} {0}/work/ready",
            home.path("").display(),
            40 * (seed - 18)
        );
        let mut run = home.command().args(["--", "sh", "-c", &words]).spawn().unwrap();
        while !work.join("ready").exists() {
            assert!(run.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        run.kill().unwrap();
        run.wait().unwrap();
        let undone = undone_after_kill(&home);
        let empty: [PathBuf; 0] = [];
        assert_eq!(differences(&work, &before), empty, "seed {seed}: {}", text(&undone));
    }
}

#[test]
fn what_a_killed_run_changed_is_taken_back() {
    let home = Home::new();
    let work = home.path("work");
    furnish(&work);
    let before = tree(&work);
    let script = "rm -rf deep build; echo x >> a; i=0; while :; do echo $i >> a; mv a a2; mv a2 a; \
                  echo $i > n$i; i=$((i+1)); [ $i = 50 ] && touch ready; done";
    let mut run = home
        .command()
        .args(["--", "sh", "-c", script])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !work.join("ready").exists() {
        assert!(run.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let refused = stockade(&home, &["undo"]);
    assert_eq!(refused.status.code(), Some(1), "it runs: {}", text(&refused));
    run.kill().unwrap();
    run.wait().unwrap();
    let undone = undone_after_kill(&home);
    let empty: [PathBuf; 0] = [];
    assert_eq!(differences(&work, &before), empty, "{}", text(&undone));
    assert!(before.contains_key(Path::new("deep/er/est/z")), "the control");
}

#[test]
fn a_file_that_was_edited_since_is_left_and_named() {
    let home = Home::new();
    let work = home.path("work");
    furnish(&work);
    let before = tree(&work);
    let ran = home
        .run(&[], "echo run >> a; echo run > src/new; echo other > src/other; rm deep/er/est/z");
    assert!(ran.status.success(), "{}", text(&ran));
    home.wait_for_file_times();
    fs::write(work.join("a"), "mine\n").unwrap();
    fs::write(work.join("src/new"), "mine\n").unwrap();
    fs::write(work.join("src/own"), "mine\n").unwrap();
    let undone = stockade(&home, &["undo", "--json"]);
    assert_eq!(undone.status.code(), Some(1), "{}", text(&undone));
    let found = outcomes(&undone);
    assert_eq!(found["a"], "left");
    assert_eq!(found["new"], "left");
    assert_eq!((&*found["other"], &*found["z"]), ("removed", "restored"));
    assert_eq!(fs::read_to_string(work.join("a")).unwrap(), "mine\n");
    // Only what is named, by force; and that is taken back, too.
    let forced = stockade(&home, &["undo", "last", "a", "--force"]);
    assert!(forced.status.success(), "{}", text(&forced));
    assert_eq!(fs::read_to_string(work.join("a")).unwrap(), "a\n");
    assert_eq!(fs::read_to_string(work.join("src/new")).unwrap(), "mine\n");
    let redone = stockade(&home, &["undo", "--redo"]);
    assert_eq!(fs::read_to_string(work.join("a")).unwrap(), "mine\n", "{}", text(&redone));
    let forced = stockade(&home, &["undo", "--force"]);
    assert!(forced.status.success(), "{}", text(&forced));
    assert_eq!(differences(&work, &before), [PathBuf::from("src/own")]);
}

#[test]
fn what_came_back_by_a_first_undo_is_not_touched_by_a_second() {
    let home = Home::new();
    let work = home.path("work");
    furnish(&work);
    let ran = home.run(&[], "echo run >> a; rm -r b d deep; mkdir deep n; echo run > deep/run");
    assert!(ran.status.success(), "{}", text(&ran));
    home.wait_for_file_times();
    fs::write(work.join("a"), "mine\n").unwrap();
    fs::write(work.join("deep/run"), "mine\n").unwrap();
    let first = stockade(&home, &["undo", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&first.stdout).unwrap();
    let reason =
        |name| &list.iter().find(|it| it["path"].as_str().unwrap().ends_with(name)).unwrap()["why"];
    assert_eq!(reason("/deep"), "something in it changed since", "{}", text(&first));
    let found = outcomes(&first);
    assert_eq!(
        [&found["a"], &found["b"], &found["run"], &found["z"], &found["n"]],
        ["left", "restored", "left", "restored", "removed"],
        "{}",
        text(&first)
    );
    // What the user does with it now, by a write in place too, is the user's.
    home.wait_for_file_times();
    let script = "echo mine >> b; rm d/x; mkdir n";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&work).status().unwrap().success());
    let second = stockade(&home, &["undo", "--force", "--json"]);
    assert!(second.status.success(), "{}", text(&second));
    let names: Vec<String> = outcomes(&second).into_keys().collect();
    // A folder that is made anew has all that it had.
    assert_eq!(names, ["a", "deep", "er", "est", "z"]);
    assert_eq!(fs::read_to_string(work.join("a")).unwrap(), "a\n");
    assert_eq!(fs::read_to_string(work.join("b")).unwrap(), "b\nmine\n");
    assert!(work.join("deep/er/est/z").exists() && !work.join("deep/run").exists());
    assert!(work.join("n").is_dir() && !work.join("d/x").exists());
}

#[test]
fn what_is_kept_is_out_of_reach_inside() {
    let home = Home::new();
    let first = home.run(&[], "echo x >> .env; echo x >> package.json");
    let store = home.path(".local/state/stockade/undo");
    let mut kept = tree(&store);
    // Each run makes a folder in it.
    kept.remove(Path::new(""));
    assert!(kept.keys().any(|name| name.ends_with("objects/0")), "the control: {}", text(&first));
    let script = "ls -a ~/.local/state/stockade; cat ~/.local/state/stockade/undo/*/*/journal; \
                  for i in ~/.local/state/stockade/undo/*; do rm -rf $i; done; \
                  find ~ -name journal -print 2> /dev/null; \
                  ls -l /proc/1/fd /proc/[0-9]*/fd 2> /dev/null | grep 'run/journal'";
    let looked = home.run(&[], script);
    let seen = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(!seen.contains("journal") && !seen.contains(" K "), "{}", text(&looked));
    let mut now = tree(&store);
    // The folder of the run that looked, which changed nothing.
    now.retain(|name, _| name != "" && !name.iter().any(|part| part == "spare-0"));
    assert_eq!(now, kept);
}

#[test]
fn where_nothing_is_kept_it_is_said() {
    let home = Home::new();
    let danger: [&std::ffi::OsStr; 2] = ["-s".as_ref(), "danger-full-access".as_ref()];
    let ran = home.run(&danger, "echo x > made");
    assert!(ran.status.success(), "{}", text(&ran));
    let log = stockade(&home, &["threads", "list", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&log.stdout).unwrap();
    let undone = stockade(&home, &["undo", list[0]["id"].as_str().unwrap()]);
    assert_eq!(undone.status.code(), Some(1), "{}", text(&undone));
    assert!(text(&undone).contains("danger-full-access"), "{}", text(&undone));
    assert!(home.path("work/made").exists());
    // An earlier run is not taken for that one.
    assert!(home.run(&[], "echo y > src/earlier").status.success());
    assert!(home.run(&danger, "echo x > made").status.success());
    let undone = stockade(&home, &["undo"]);
    assert!(text(&undone).contains("was without a boundary: nothing of it is kept"), "{undone:?}");
    assert!(!home.path("work/src/earlier").exists() && home.path("work/made").exists());
    // One that is larger than can be copied, unless the file system shares what two files hold.
    let big = home.path("work/big");
    fs::File::create(&big).unwrap().set_len(65 << 20).unwrap();
    assert!(home.run(&[], "echo y > src/before").status.success());
    let ran = home.run(&[], "echo x >> big; echo y >> package.json");
    let undone = stockade(&home, &["undo", "--json"]);
    let found = outcomes(&undone);
    assert_eq!(found["package.json"], "restored");
    if text(&ran).contains("cannot restore") {
        assert_eq!((undone.status.code(), &*found["big"]), (Some(1), "left"), "{}", text(&undone));
        // It does not come again: the next one takes back the run before.
        let next = stockade(&home, &["undo", "--json"]);
        assert_eq!(outcomes(&next)["before"], "removed", "{}", text(&next));
    } else {
        assert_eq!(fs::metadata(&big).unwrap().len(), 65 << 20, "{}", text(&undone));
    }
    fs::set_permissions(&big, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn one_undo_after_the_other_goes_back_and_one_redo_after_the_other_forth() {
    let home = Home::new();
    let work = home.path("work");
    fs::write(work.join("notes"), "0\n").unwrap();
    fs::write(work.join("gone"), "gone\n").unwrap();
    fs::write(work.join("name"), "name\n").unwrap();
    let mut states = vec![tree(&work)];
    let jobs = [
        "echo a >> notes; rm gone; mv name other; chmod 700 package.json",
        "echo b >> notes; echo anew > gone; mv other third; ln notes again; chmod 600 package.json",
        "echo c > notes; rm third; mv gone x; rm x; mkdir gone; touch package.json",
    ];
    for job in jobs {
        assert!(home.run(&[], job).status.success());
        home.wait_for_file_times();
        states.push(tree(&work));
    }
    let empty: [PathBuf; 0] = [];
    for round in 0..2 {
        for state in states[..3].iter().rev() {
            let undone = stockade(&home, &["undo"]);
            assert_eq!(differences(&work, state), empty, "{round}: {}", text(&undone));
            assert!(undone.status.success(), "{round}: {}", text(&undone));
            home.wait_for_file_times();
        }
        for state in &states[1..] {
            let redone = stockade(&home, &["undo", "--redo"]);
            assert_eq!(differences(&work, state), empty, "{round}: {}", text(&redone));
            home.wait_for_file_times();
        }
    }
    // What the user does in between is theirs.
    assert!(stockade(&home, &["undo"]).status.success());
    home.wait_for_file_times();
    fs::write(work.join("notes"), "mine\n").unwrap();
    let left = stockade(&home, &["undo"]);
    assert_eq!(left.status.code(), Some(1), "{}", text(&left));
    assert!(text(&left).contains("notes: changed since"), "{}", text(&left));
    assert_eq!(fs::read_to_string(work.join("notes")).unwrap(), "mine\n");
}

#[test]
fn what_was_not_kept_any_more_is_said_by_the_undo_too() {
    let home = Home::new();
    assert!(home.run(&[], "echo x > new").status.success());
    let undo = home.path(".local/state/stockade/undo");
    let thread = fs::read_dir(undo).unwrap().next().unwrap().unwrap().path();
    let whole = stockade(&home, &["undo", "--dry-run"]);
    assert!(!text(&whole).contains("not all of it"), "the control: {}", text(&whole));
    // As whoever keeps leaves it when the disk is full.
    let journal = thread.join("1-run/journal");
    let open = fs::File::options().append(true).open(&journal).unwrap();
    open.set_modified(std::time::SystemTime::now()).unwrap();
    fs::set_permissions(journal, fs::Permissions::from_mode(0o400)).unwrap();
    let undone = stockade(&home, &["undo"]);
    assert!(text(&undone).contains("removed  new"), "{}", text(&undone));
    assert!(text(&undone).contains("not all of it"), "{}", text(&undone));
}
