//! `stockade threads` as a script and a person meet it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod branching;
mod proposing;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use stockade_threads::git::{LocalChanges, clone_head};
use stockade_threads::patch::{GUEST_DIFF, Told, take_in, take_in_commits};
use stockade_threads::record::{
    CommandFinished, CommandStarted, Decision, Event, Kind, Message, Role, State, Usage,
};
use stockade_threads::store::{NewThread, Store, Thread};

/// A home with a repository in it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        // Outside the folders that are private in a sandbox, so that nothing is special here.
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        let home = Self { folder };
        fs::create_dir(home.work()).unwrap();
        let who = "[user]\nname = Tester\nemail = t@example.org\n";
        fs::write(home.folder.path().join(".gitconfig"), who).unwrap();
        git(&home.work(), &["init", "-q", "-b", "main"]);
        for (name, content) in files {
            write(&home.work(), name, content);
        }
        git(&home.work(), &["add", "-A"]);
        git(&home.work(), &["commit", "-qm", "start"]);
        home
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("state/stockade")).unwrap()
    }

    fn begin(&self, kind: Kind, title: &str) -> Thread {
        self.store().create(&self.new_thread(kind, title)).unwrap()
    }

    fn new_thread(&self, kind: Kind, title: &str) -> NewThread {
        NewThread {
            kind,
            workspace: self.work(),
            title: title.to_owned(),
            mode: "workspace-write".to_owned(),
            approvals: "on-request".to_owned(),
            enforcement: vec!["mounts".to_owned(), "landlock".to_owned()],
            policy: "mode = \"workspace-write\"\n".to_owned(),
            agent: None,
            with_changes: false,
        }
    }

    /// A cloud thread whose guest did `work` in its clone.
    fn cloud(&self, work: impl FnOnce(&Path)) -> String {
        let thread = self.begin(Kind::Cloud, "split it");
        let clone = self.folder.path().join(format!("clone-{}", thread.id()));
        let cloned = clone_head(&self.work(), &clone).unwrap();
        work(&clone);
        git(&clone, &["add", "-A"]);
        let words: Vec<&str> = GUEST_DIFF.into_iter().chain([cloned.commit.as_str()]).collect();
        let diff = git(&clone, &words);
        let mut changes = take_in(&diff, &cloned, thread.folder()).unwrap();
        let told = commits(&clone, cloned.commit.as_str());
        changes.commits = take_in_commits(&told, &cloned, thread.folder()).unwrap_or_default();
        thread.record(&Event::Changes(changes)).unwrap();
        thread.finish(State::Completed, 0, "done").unwrap();
        thread.id().to_string()
    }

    fn stockade(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command
            .args(words)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.folder.path().join("state"));
        command
    }

    /// What it prints when it ends with `status`.
    fn said(&self, words: &[&str], status: i32) -> String {
        let output = self.stockade(words);
        let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "stockade {words:?}: {all}");
        let is_plain = |c: char| !c.is_control() || c == '\n';
        assert!(words.contains(&"diff") || all.chars().all(is_plain), "raw: {all:?}");
        if status == 0 { text(&output.stdout) } else { all }
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.said(words, 0)).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was to be cloned beside the commit lies there no more: going on from the commit would be another task.
#[test]
fn a_thread_that_ended_before_uncommitted_work_was_cloned_is_not_gone_on_with() {
    let home = Home::new(&[("a.txt", "a\n")]);
    let begin = |with_changes| {
        let new = NewThread { with_changes, ..home.new_thread(Kind::Cloud, "split it") };
        let thread = home.store().create(&new).unwrap();
        let said = Message { role: Role::User, text: "split it".to_owned() };
        thread.record(&Event::Message(said)).unwrap();
        thread.id().to_string()
    };
    let model = ["-c", "model.api=chat", "-c", "model.base_url=http://127.0.0.1:9/v1"];
    let model = [&model[..], &["-c", "model.name=none"]].concat();
    let resume = |id: &str| {
        let words = [&["threads", "resume"][..], &model, &["-c", "cloud.wall_time=1s", id]];
        let output = home.stockade(&words.concat());
        (output.status.code(), text(&output.stderr))
    };
    let id = begin(true);
    let (status, said) = resume(&id);
    assert_eq!(status, Some(1), "{said}");
    let why = format!("thread `{id}` ended before what was not committed was cloned");
    assert!(said.contains(&why) && said.contains("stockade cloud --with-changes"), "{said}");
    assert_eq!(home.json(&["threads", "show", "--json", &id])["state"], "interrupted");
    // A control: without, the same goes as far as a clone.
    let (_, said) = resume(&begin(false));
    assert!(said.contains("what is not committed stays here"), "{said}");
}

/// The commits after `base` as the guest tells them.
fn commits(clone: &Path, base: &str) -> Vec<Told> {
    let not_base = format!("^{base}");
    let listed = git(clone, &["rev-list", "--reverse", "--parents", "HEAD", &not_base]);
    let mut parent = base.to_owned();
    let is_line = text(&listed).lines().next().is_none_or(|first| first.ends_with(base));
    if !is_line {
        return Vec::new();
    }
    let told = |line: &str| {
        let commit = line.split(' ').next().unwrap();
        let options = GUEST_DIFF.into_iter().filter(|word| *word != "--cached");
        let words: Vec<&str> = options.chain([parent.as_str(), commit]).collect();
        let diff = git(clone, &words);
        commit.clone_into(&mut parent);
        Told { diff, message: git(clone, &["log", "-1", "--format=%B", commit]) }
    };
    text(&listed).lines().map(told).collect()
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn git(folder: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(words)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", text(&output.stderr));
    output.stdout
}

/// A local thread that says and does what a hostile one may.
fn noisy(home: &Home) -> String {
    let thread = home.begin(Kind::Local, "title \u{1b}[2J\u{9b}2J\u{202e}");
    let looked = LocalChanges::begin(&home.work(), thread.folder(), &[]).unwrap();
    let said = Message { role: Role::Assistant, text: "done\n\u{1b}]0;owned\u{7}".to_owned() };
    thread.record(&Event::Message(said)).unwrap();
    let started = CommandStarted {
        id: "1".to_owned(),
        argv: None,
        line: Some("npm test".to_owned()),
        decision: Decision::Allow,
        rule: Some("config.toml:7".to_owned()),
    };
    thread.record(&Event::CommandStarted(started)).unwrap();
    let finished = CommandFinished {
        id: "1".to_owned(),
        exit: 1,
        output: "\u{1b}[31mfail".to_owned(),
        truncated: false,
        timed_out: false,
        denials: Vec::new(),
    };
    thread.record(&Event::CommandFinished(finished)).unwrap();
    thread.record(&Event::Usage(Usage { input_tokens: 10, output_tokens: 2 })).unwrap();
    thread.record(&Event::Usage(Usage { input_tokens: 5, output_tokens: 1 })).unwrap();
    write(&home.work(), "a", "after\n");
    thread.record(&Event::Changes(looked.finish().unwrap())).unwrap();
    thread.finish(State::Failed, 1, "gave up").unwrap();
    thread.id().to_string()
}

#[test]
fn scripts_read_lists_and_single_threads() {
    let home = Home::new(&[("a", "a\n")]);
    assert_eq!(home.json(&["threads", "--json"]), serde_json::json!([]));
    let local = noisy(&home);
    let running = home.begin(Kind::Cloud, "second");
    let list = home.json(&["threads", "list", "--json"]);
    let keys: Vec<&String> = list[1].as_object().unwrap().keys().collect();
    let expected = ["changes", "created", "id", "kind", "state", "title", "updated", "workspace"];
    assert_eq!(keys, expected);
    assert_eq!(list[0]["id"], running.id().as_str(), "newest first");
    assert_eq!(list[0]["state"], "running");
    assert_eq!((&list[1]["state"], &list[1]["changes"]), (&"failed".into(), &1.into()));
    drop(running);
    assert_eq!(home.json(&["threads", "--json"])[0]["state"], "interrupted");
    assert_eq!(home.json(&["threads", "--here", "--json"]).as_array().unwrap().len(), 2);
    let elsewhere = ["threads", "-C", "/", "--here", "--json"];
    assert_eq!(home.json(&elsewhere), serde_json::json!([]));

    let short = local.get(..20).unwrap();
    let shown = home.json(&["threads", "show", short, "--json"]);
    assert_eq!(shown["id"], local.as_str());
    assert_eq!(shown["usage"], serde_json::json!({"input_tokens": 15, "output_tokens": 3}));
    for key in ["flags", "phases", "checks"] {
        assert!(shown[key].is_array(), "{key}");
    }
    assert!(home.said(&["threads", "show", short], 0).contains("failed, exit 1: gave up"));
    assert!(home.said(&["threads"], 0).contains("1 file"));
}

#[test]
fn the_record_is_told_checked_and_escaped() {
    let home = Home::new(&[("a", "a\n")]);
    let id = noisy(&home);
    let told = home.said(&["log"], 0);
    for words in ["[1] allow by config.toml:7: npm test", "[1] exit 1", "failed, exit 1: gave up"] {
        assert!(told.contains(words), "{words:?} in {told}");
    }
    assert_eq!(told, home.said(&["threads", "log", &id], 0));
    let lines = home.said(&["log", "--json"], 0);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["type"], &first["schema"]), (&"thread.started".into(), &1.into()));
    let path = home.store().folder(&id.parse().unwrap()).join("events.jsonl");
    assert_eq!(lines, fs::read_to_string(&path).unwrap(), "the record's own lines");
    assert!(home.said(&["log", "--verify"], 0).contains("8 records fit together"));
    let changed = fs::read_to_string(&path).unwrap().replace("npm test", "npm pest");
    fs::write(&path, changed).unwrap();
    let said = home.said(&["log", "--verify"], 1);
    assert!(said.contains("damaged at line 4"), "{said}");
}

/// What nobody has taken in yet stays, however old it is.
#[test]
fn what_was_not_used_for_long_goes_by_clean_and_work_stays() {
    let home = Home::new(&[("a", "a\n")]);
    let work = noisy(&home);
    let ended = home.begin(Kind::Local, "changed nothing");
    ended.finish(State::Completed, 0, "").unwrap();
    let empty = ended.id().to_string();
    drop(ended);
    let running = home.begin(Kind::Local, "at work");
    let long_ago = SystemTime::now() - Duration::from_hours(24 * 91);
    for id in [&work, &empty, running.id().as_str()] {
        let path = home.store().folder(&id.parse().unwrap()).join("events.jsonl");
        fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let ids = || -> Vec<Value> {
        let list = home.json(&["threads", "--json"]);
        list.as_array().unwrap().iter().map(|thread| thread["id"].clone()).collect()
    };
    let would = home.said(&["clean", "--dry-run"], 0);
    assert_eq!(would, "would remove 1 threads without changes, 1 MiB: not used for long\n");
    assert_eq!(ids().len(), 3, "the control");
    let removed = home.said(&["clean", "-v"], 0);
    assert!(removed.contains(&empty) && !removed.contains(&work), "{removed}");
    assert_eq!(ids(), [running.id().as_str(), &work]);
    assert_eq!(home.said(&["clean"], 0), "nothing to clean\n");
}

/// As a later version may leave it, for one that is older.
#[test]
fn a_thread_of_a_later_version_is_named_and_can_be_removed() {
    let home = Home::new(&[("a", "a\n")]);
    let (later, known) = (noisy(&home), noisy(&home));
    let path = home.store().folder(&later.parse().unwrap()).join("events.jsonl");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace("\"schema\":1", "\"schema\":2")).unwrap();
    let listed = home.stockade(&["threads"]);
    let (out, error) = (text(&listed.stdout), text(&listed.stderr));
    assert!(listed.status.success() && out.lines().count() == 1, "{out}{error}");
    assert_eq!(error.matches(&later).count(), 2, "{error}");
    assert!(!error.contains(&known), "{error}");
    let why = home.said(&["log", "--verify", &later], 1);
    assert!(why.contains("it is of version 2, this program reads 1"), "{why}");
    home.said(&["threads", "rm", &later], 0);
    assert!(home.stockade(&["threads"]).stderr.is_empty());
}

#[test]
fn a_result_is_looked_at_and_applied() {
    let ten = (0..10).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let home = Home::new(&[("src/a", "a\n"), ("apart", &ten), ("both", "a\n")]);
    let id = home.cloud(|clone| {
        write(clone, "src/a", "A\n");
        write(clone, "apart", &ten.replace("line 9", "LINE 9"));
        write(clone, "both", "thread\n");
        write(clone, "odd\u{1b}[2J", "x\n");
        write(clone, ".github/workflows/ci.yml", "on: push\n");
        symlink("/etc/passwd", clone.join("out")).unwrap();
    });
    let status = git(&home.work(), &["status", "--porcelain"]);
    assert!(status.is_empty(), "the control: the user's tree is clean");

    let stat = home.said(&["threads", "diff", "--stat"], 0);
    assert!(stat.contains("\"odd\\033[2J\"") && stat.contains(" 6 files, +"), "{stat}");
    let files = home.json(&["threads", "diff", &id, "src", "--json"]);
    let expected =
        serde_json::json!([{"path": "src/a", "kind": "modified", "added": 1, "removed": 1}]);
    assert_eq!(files, expected);
    let patch = home.said(&["threads", "diff"], 0);
    let file = home.folder.path().join("patch");
    fs::write(&file, &patch).unwrap();
    git(&home.work(), &["apply", "--binary", "--check", file.to_str().unwrap()]);

    write(&home.work(), "apart", &ten.replace("line 0", "LINE 0"));
    write(&home.work(), "both", "user\n");
    let said = home.said(&["threads", "apply"], 1);
    for line in [
        "held      .github/workflows/ci.yml: ci-file\n",
        "merged    apart\n",
        "conflict  both: both changed the same lines\n",
        "applied   \"odd\\033[2J\"\n",
        "held      out: symlink-out\n",
        "applied   src/a\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    assert_eq!((home.read("src/a").as_str(), home.read("both").as_str()), ("A\n", "user\n"));
    assert!(fs::symlink_metadata(home.work().join("out")).is_err());
    let show = home.said(&["threads", "show"], 0);
    assert!(show.contains("hold       out: symlink-out"), "{show}");

    home.said(&["threads", "apply", &id, "src"], 0);
    home.said(&["threads", "apply", "--accept", "ci-file", &id, ".github"], 0);
    assert_eq!(home.read(".github/workflows/ci.yml"), "on: push\n");
    assert!(home.said(&["log"], 0).contains("applied 3 files, left 3"));
    assert!(home.said(&["threads", "apply", &id, "nothing"], 1).contains("did not change"));
    home.said(&["threads", "rm", &id], 0);
    home.said(&["threads", "show", &id], 1);
}

#[test]
fn a_local_threads_changes_are_there_already() {
    let home = Home::new(&[("a", "a\n")]);
    noisy(&home);
    let said = home.stockade(&["threads", "apply"]);
    assert_eq!(said.status.code(), Some(0));
    assert!(text(&said.stderr).contains("nothing to apply"), "{}", text(&said.stderr));
    assert!(home.said(&["threads", "diff"], 0).contains("-a\n+after\n"));
    let config = home.folder.path().join(".config/stockade/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, "nonsense\n").unwrap();
    home.said(&["threads", "apply"], 2);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let home = Home::new(&[("a", "a\n")]);
    let local = home.begin(Kind::Local, "here");
    local.finish(State::Completed, 0, "").unwrap();
    drop(local);
    let said = home.said(&["threads", "resume", "last"], 1);
    assert!(said.contains("has finished its task"), "{said}");
    home.said(&["threads", "rm", "last"], 0);
    assert!(
        home.said(&["undo"], 1).contains("nothing to take back")
            || home.said(&["undo"], 1).contains("has anything to take back")
    );
    for words in [
        &["threads", "frobnicate"][..],
        &["threads", "--frob"],
        &["threads", "rm"],
        &["log", "a", "b"],
    ] {
        home.said(words, 2);
    }
    assert!(home.said(&["threads", "show"], 1).contains("no thread has worked in"));
    assert!(home.said(&["threads", "show", "../.."], 1).contains("there is no thread"));
    let empty = home.begin(Kind::Local, "no changes");
    assert!(home.said(&["threads", "diff"], 1).contains("is still at work"));
    assert!(home.said(&["threads", "rm", "last"], 1).contains("is at work"));
    empty.finish(State::Completed, 0, "").unwrap();
    assert!(home.said(&["threads", "diff"], 1).contains("has no changes"));
}
