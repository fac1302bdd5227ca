//! The record of a run: one file, chained, which nobody can change unseen.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::{AbsPath, ApprovalPolicy, Limits, Mode, Network, Policy};
use stockade_threads::record::{Denial, Kind, State};
use stockade_threads::store::{Store, StoreError};
use stockade_threads::{NewRun, RunEnd, RunRecord, ThreadId};

fn policy() -> Policy {
    Policy {
        mode: Mode::WorkspaceWrite,
        workspace: AbsPath::new("/w").unwrap(),
        home: None,
        writable: vec![AbsPath::new("/w").unwrap()],
        protected: Vec::new(),
        hidden: vec![AbsPath::new("/h").unwrap()],
        readable: Vec::new(),
        caches: Vec::new(),
        tops: Vec::new(),
        unprotected: Vec::new(),
        awaited: Vec::new(),
        network: Network::default(),
        limits: Limits::for_memory(1 << 30),
    }
}

fn begin(root: &Path) -> RunRecord {
    let words: Vec<OsString> = vec!["ls".into(), "-l".into()];
    let policy = policy();
    let new = NewRun {
        words: &words,
        policy: &policy,
        approval: ApprovalPolicy::OnRequest,
        enforcement: &["mounts"],
    };
    RunRecord::begin((Some(root), None), &new, false).unwrap()
}

fn end(record: RunRecord) {
    let end = RunEnd {
        state: State::Failed,
        exit: 3,
        summary: "exit 3".to_owned(),
        has_run: true,
        held: Vec::new(),
        denials: vec![Denial::new("write", "/etc/x".as_ref(), "writable_roots")],
        sources: vec![("limits.processes".to_owned(), "c.toml:1".to_owned())],
    };
    record.end(&policy(), end).unwrap();
}

fn file(root: &Path, id: &ThreadId) -> PathBuf {
    root.join("threads").join(format!("{id}.jsonl"))
}

/// The store's folder, which a run makes itself.
fn lab() -> (tempfile::TempDir, PathBuf) {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("not/there/yet");
    (lab, root)
}

#[test]
fn the_policy_is_told_once_before_all_that_follows_it() {
    let (_lab, root) = lab();
    let mut record = begin(&root);
    let id = record.id().clone();
    record.tell_policy(&policy(), Vec::new());
    let early = fs::read_to_string(file(&root, &id)).unwrap();
    record.tell_policy(&policy(), Vec::new());
    end(record);
    let whole = fs::read_to_string(file(&root, &id)).unwrap();
    assert!(whole.starts_with(&early) && early.lines().last().unwrap().contains("\"hidden\""));
    assert_eq!(whole.matches("\"hidden\"").count(), 1);
    let store = Store::open(&root).unwrap();
    assert!(store.records(&id).unwrap().all(|record| record.is_ok()));
}

#[test]
fn a_run_is_a_thread_that_is_one_file() {
    let (_lab, root) = lab();
    let record = begin(&root);
    let id = record.id().clone();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.detail(&id).unwrap().summary.state, State::Running);
    assert!(matches!(store.remove(&id), Err(StoreError::Busy(_))));
    end(record);
    let listed = store.list(None).unwrap();
    assert_eq!((listed.len(), listed[0].kind, listed[0].state), (1, Kind::Run, State::Failed));
    assert_eq!((listed[0].title.as_str(), listed[0].workspace.as_str()), ("ls -l", "/w"));
    let lines: Vec<String> = store.records(&id).unwrap().map(|it| it.unwrap().line).collect();
    let has = |index: usize, text: &str| assert!(lines[index].contains(text), "{}", lines[index]);
    has(0, r#""schema":1"#);
    has(1, r#""argv":["ls","-l"]"#);
    has(2, r#""type":"policy","writable":[{"path":"/w"}]"#);
    has(2, r#""sources":["limits.processes: c.toml:1"]"#);
    has(3, r#""type":"denial","op":"write","target":"/etc/x""#);
    has(5, r#""state":"failed","exit":3"#);
    assert_eq!(store.verify(&id).unwrap().records, 6);
    // Another look takes it from the index.
    assert_eq!(store.list(None).unwrap(), listed);
    // `last` is for what has changes; records are looked at by another name.
    assert!(matches!(store.find("last", Path::new("/w")), Err(StoreError::NoneHere(_))));
    assert_eq!(store.find_record("last", Path::new("/w")).unwrap(), id);
    assert!(matches!(store.resume(&id), Err(StoreError::OfARun(_))));
    store.remove(&id).unwrap();
    assert!(store.list(None).unwrap().is_empty());
}

/// Threat model, R4: "A record that was changed afterwards is found …"
#[test]
fn any_byte_that_was_changed_is_found() {
    let (_lab, root) = lab();
    let record = begin(&root);
    let id = record.id().clone();
    end(record);
    let store = Store::open(&root).unwrap();
    let path = file(&root, &id);
    let whole = fs::read(&path).unwrap();
    let last_line = whole.iter().rev().skip(1).position(|byte| *byte == b'\n').unwrap();
    for at in (0..whole.len() - last_line - 2).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(store.verify(&id).is_err(), "byte {at}");
    }
    // A line taken out, and one put in twice.
    let text = String::from_utf8(whole.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..lines.len() - 1 {
        let mut fewer = lines.clone();
        fewer.remove(at);
        fs::write(&path, fewer.join("\n") + "\n").unwrap();
        assert!(store.verify(&id).is_err(), "without line {at}");
        let mut more = lines.clone();
        more.insert(at, lines[at]);
        fs::write(&path, more.join("\n") + "\n").unwrap();
        assert!(store.verify(&id).is_err(), "line {at} twice");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(store.verify(&id).unwrap().records, 6);
}

/// Threat model, R4: "… and a killed writer loses nothing acknowledged."
#[test]
fn a_record_that_was_cut_anywhere_opens() {
    let (_lab, root) = lab();
    let record = begin(&root);
    let id = record.id().clone();
    end(record);
    let store = Store::open(&root).unwrap();
    let path = file(&root, &id);
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(11) {
        fs::write(&path, &whole[..length]).unwrap();
        let kept = whole[..length].split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(store.verify(&id).unwrap().records, kept as u64, "{length}");
        let listed = store.list(None).unwrap();
        // Without its first line it is nobody's record.
        assert_eq!(listed.len(), usize::from(kept > 0), "{length}");
        assert!(listed.iter().all(|it| it.state == State::Interrupted), "{length}");
    }
}

#[test]
fn the_same_lines_go_to_a_file_of_the_users() {
    let (lab, root) = lab();
    let copy = lab.path().join("copy.jsonl");
    let words: Vec<OsString> = vec!["ls".into()];
    let policy = policy();
    let new = NewRun {
        words: &words,
        policy: &policy,
        approval: ApprovalPolicy::Never,
        enforcement: &[],
    };
    let open = || Some((fs::File::create(&copy).unwrap(), copy.clone()));
    let record = RunRecord::begin((Some(&root), open()), &new, true).unwrap();
    let id = record.id().clone();
    end(record);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(file(&root, &id)).unwrap());
    // What was reserved for the record is given back.
    assert!(fs::metadata(file(&root, &id)).unwrap().blocks() * 512 < 64 * 1024);
    // Also where the store cannot have it.
    end(RunRecord::begin((None, open()), &new, false).unwrap());
    assert_eq!(fs::read_to_string(&copy).unwrap().lines().count(), 6);
}

#[test]
fn old_runs_go_and_what_is_at_work_or_holds_changes_stays() {
    let (lab, root) = lab();
    let record = begin(&root);
    let id = record.id().clone();
    let alive = begin(&root);
    end(record);
    let cache = lab.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("system-x.erofs"), "image").unwrap();
    fs::write(cache.join(".building-y"), "").unwrap();
    let now = std::time::SystemTime::now();
    let month = std::time::Duration::from_hours(24 * 30);
    let kept = stockade_threads::clean::Kept {
        runs: month,
        threads: month * 3,
        undo: month,
        undo_bytes: 4 << 30,
    };
    let day = std::time::Duration::from_hours(24);
    let find = |later| {
        let found =
            stockade_threads::clean::find(&root, Some(&cache), (&kept, now + later)).unwrap();
        found.iter().map(|item| item.path.clone()).collect::<Vec<_>>()
    };
    assert!(find(day).is_empty());
    assert_eq!(find(day * 31), [file(&root, &id), cache.join("system-x.erofs")]);
    for item in stockade_threads::clean::find(&root, Some(&cache), (&kept, now + day * 31)).unwrap()
    {
        assert!(item.remove().unwrap(), "{item:?}");
    }
    assert!(!file(&root, &id).exists() && file(&root, alive.id()).exists());
    assert!(!cache.join("system-x.erofs").exists() && cache.join(".building-y").exists());
    // Work that nobody has taken in is never old.
    let store = Store::open(&root).unwrap();
    let thread = store.create(&crate::store::new_thread(Path::new("/w"))).unwrap();
    let changes = stockade_threads::record::Event::Changes(
        serde_json::from_str(r#"{"path":"/w","base":"a","result":"b","files":1}"#).unwrap(),
    );
    thread.record(&changes).unwrap();
    thread.finish(State::Completed, 0, "done").unwrap();
    drop(thread);
    assert!(find(day * 365).is_empty());
}

#[test]
fn a_store_that_cannot_be_written_is_said() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("file");
    fs::write(&root, "").unwrap();
    let words: Vec<OsString> = vec!["ls".into()];
    let policy = policy();
    let new = NewRun {
        words: &words,
        policy: &policy,
        approval: ApprovalPolicy::Never,
        enforcement: &[],
    };
    let error = RunRecord::begin((Some(&root), None), &new, true).unwrap_err();
    assert!(error.to_string().contains("threads"), "{error}");
}
