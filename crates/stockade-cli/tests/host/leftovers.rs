//! Names that appear in the user's files during a run, and processes that stay.
#![expect(
    clippy::disallowed_methods,
    reason = "a kill at a given moment, and processes of somebody else's that have no pidfd here"
)]

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use super::{Home, text};

/// Watches a whole tree for names that come into being.
struct Watcher {
    fd: OwnedFd,
}

impl Watcher {
    fn new(root: &Path) -> Self {
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            add_watch(&fd, &folder, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
            let entries = fs::read_dir(folder).unwrap().flatten();
            folders.extend(entries.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()));
        }
        Self { fd }
    }

    fn names(&self) -> BTreeSet<String> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut names = BTreeSet::new();
        while let Ok(event) = reader.next() {
            names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        names
    }
}

/// Every path below `root`, with the content of files.
fn snapshot(root: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            }
            let content = if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            found.insert((entry.path(), content));
        }
    }
    found
}

/// Processes that carry `mark` in their environment.
fn marked(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// `danger-full-access` has no wall, and reaps all the same.
#[test]
fn nothing_outlives_a_run_without_walls() {
    let home = Home::new();
    let mark = format!("STOCKADE_TEST_MARK=danger-{}", std::process::id());
    let output = home
        .command()
        .args(["-s", "danger-full-access", "--env", &mark, "--", "sh", "-c"])
        .arg("(setsid sh -c 'trap \"\" TERM HUP; sleep 300' &); touch ~/outside/made; exit 9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", text(&output));
    let disposable =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    assert_eq!(text(&output).contains("no boundary"), !disposable, "{}", text(&output));
    assert!(home.path("outside/made").exists(), "there is no wall");
    assert_eq!(marked(&mark), Vec::<String>::new());
}

/// A place for the record, which is Stockade's own and no file of the user's.
fn elsewhere(home: &Home) -> tempfile::TempDir {
    tempfile::tempdir_in(home.folder.path().parent().unwrap()).unwrap()
}

#[test]
fn no_name_appears_that_the_command_did_not_make() {
    let home = Home::new();
    let state = elsewhere(&home);
    let watcher = Watcher::new(home.folder.path());
    let run = |mode: &str, script: &str| {
        let mut command = home.command();
        command.env("XDG_STATE_HOME", state.path()).args(["-s", mode, "--", "sh", "-c", script]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    run("workspace-write", "cat package.json; ls -a . ~; true");
    run("read-only", "true");
    assert_eq!(watcher.names(), BTreeSet::new());
    run("workspace-write", "touch src/made");
    assert_eq!(watcher.names(), BTreeSet::from(["made".to_owned()]));
}

/// Threat model, K2: nothing outlives a SIGKILL of Stockade, at whatever moment.
#[test]
fn a_kill_at_fifty_moments_leaves_nothing() {
    let home = Home::new();
    let state = elsewhere(&home);
    let before = snapshot(home.folder.path());
    let watcher = Watcher::new(home.folder.path());
    for moment in 0..50_u64 {
        let mark = format!("STOCKADE_TEST_MARK={}-{moment}", std::process::id());
        let mut child = home
            .command()
            .env("XDG_STATE_HOME", state.path())
            .args(["-q", "--env", &mark, "--", "sh", "-c", "while :; do sleep 0.01; done"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before the clone to long after the start; a debug build takes some 10 ms.
        thread::sleep(Duration::from_micros(moment * moment * 20));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut left = marked(&mark);
        for _ in 0..100 {
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            left = marked(&mark);
        }
        assert!(left.is_empty(), "moment {moment}: {left:?} are still there");
    }
    assert_eq!(watcher.names(), BTreeSet::new());
    assert_eq!(snapshot(home.folder.path()), before);
}
