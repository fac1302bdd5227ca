//! A session in a real place: the boundary of this machine.
//!
//! Without the harness of the standard library: this binary is started again as the parent of
//! the boundary and as the hands inside, and looks for that before anything else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "it is its own harness")]

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use stockade_agents::{Hands as _, HandsError, ShellCall, ShellOutcome, Stop};
use stockade_policy::{AbsPath, ApprovalPolicy, Limits, Mode, Network, Policy, Verdict};
use stockade_rules::{Rule, RuleSet};
use stockade_threads::approvals::{Approvals, Asking};
use stockade_threads::place::{self, Local};
use stockade_threads::record::{Decision, EditKind, Event};
use stockade_threads::store::StoreError;
use stockade_threads::{
    Ask, Asked, Bounds, Journal, Judge, Live, Nobody, Parts, Record, Reply, Session, ThreadId,
    Watch,
};

/// The argument of the copy of this binary that `the_binary_may_lie_where_nobody_looks` starts.
const ELSEWHERE: &str = "run-elsewhere";

fn main() -> ExitCode {
    if let Some(code) = stockade_sandbox::enter_if_helper(|_, _| None) {
        return code;
    }
    if let Some(code) = stockade_threads::place::enter_if_hands() {
        return code;
    }
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == ELSEWHERE) {
        commands_run_one_after_the_other_in_one_boundary();
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, fn()); 8] = [
        ("commands", commands_run_one_after_the_other_in_one_boundary),
        ("refusals", a_refused_write_has_words_and_no_effect),
        ("kernel", what_only_the_kernel_refuses_has_words_too),
        ("rules", rules_and_persons_decide_before_anything_runs),
        ("hands", the_hands_are_out_of_reach_for_what_they_start),
        ("stop", a_stopped_command_is_gone_and_so_is_its_background),
        ("lost", a_place_that_is_gone_ends_the_thread_and_does_not_hang),
        ("elsewhere", the_binary_may_lie_where_nobody_looks),
    ];
    for (name, case) in cases {
        if words.first().is_none_or(|word| word.starts_with('-') || name == word) {
            case();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Record for Kept {
    fn append(&self, event: &Event) -> Result<String, StoreError> {
        self.0.lock().unwrap().push(event.clone());
        Ok(String::new())
    }
}

#[derive(Default)]
struct Seen(String);

impl Watch for Seen {
    fn see(&mut self, live: &Live<'_>) {
        if let Live::Output(bytes) = live {
            self.0.push_str(&String::from_utf8_lossy(bytes));
        }
    }
}

/// A person with prepared answers.
struct Person(Mutex<VecDeque<Reply>>);

impl Ask for Person {
    fn is_present(&self) -> bool {
        true
    }

    fn ask(&self, _question: &Asked, _elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        self.0.lock().unwrap().pop_front().unwrap()
    }
}

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let base = env::var_os("PLACE_BASE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/place"),
            PathBuf::from,
        );
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        for name in ["work/src", "work/keys"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("work/src/a.py"), "one\n").unwrap();
        fs::write(folder.path().join("work/Dockerfile"), "FROM x\n").unwrap();
        fs::write(folder.path().join("work/keys/id"), "TOPSECRET").unwrap();
        Self { folder }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn policy(&self) -> Policy {
        let absolute = |name: &str| AbsPath::new(self.work().join(name)).unwrap();
        Policy {
            mode: Mode::WorkspaceWrite,
            workspace: absolute(""),
            home: None,
            writable: vec![absolute("src")],
            protected: Vec::new(),
            hidden: vec![absolute("keys")],
            readable: Vec::new(),
            caches: Vec::new(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: Network::default(),
            limits: Limits::for_memory(1 << 30),
        }
    }

    fn place(&self) -> Local {
        let environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        Local::start(self.policy(), environment, place::Kept::default()).unwrap()
    }

    /// Does `work` in a session, and gives what was recorded.
    fn session(&self, ask: &dyn Ask, stop: &Stop, work: impl FnOnce(&Session<'_>)) -> Vec<Event> {
        let place = self.place();
        let (kept, mut seen) = (Kept::default(), Seen::default());
        let journal = Journal::new(&kept, &mut seen);
        let rule = |words: &str, verdict, line: u32| {
            let words = words.split(' ').map(|word| vec![word.to_owned()]).collect();
            Rule::new(words, verdict, format!("config.toml:{line}")).unwrap()
        };
        let docker = rule("docker", Verdict::Deny, 12)
            .with_reason(Some("containers are not for agents".to_owned()));
        let rules = vec![docker, rule("touch", Verdict::Ask, 16)];
        let judge = Judge {
            rules: RuleSet::new(rules).unwrap(),
            mode: Mode::WorkspaceWrite,
            approval: ApprovalPolicy::OnRequest,
        };
        let bounds = Some(Bounds::new(self.policy(), Vec::new()));
        let thread = ThreadId::generate();
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let asking = Asking::of(ask);
        let approvals = Approvals::new((&thread, folder.path()), &asking, stop);
        work(&Session::new(Parts {
            place: &place,
            judge,
            bounds,
            approvals: &approvals,
            widen: None,
            journal: &journal,
            stop,
            hits: None,
            in_place: None,
        }));
        drop(journal);
        kept.0.into_inner().unwrap()
    }
}

fn run(session: &Session<'_>, line: &str) -> Result<ShellOutcome, HandsError> {
    let call = ShellCall { line: line.to_owned(), folder: None, timeout: None };
    session.shell(&call, &mut |_| {})
}

fn printed(session: &Session<'_>, line: &str) -> String {
    let outcome = run(session, line).unwrap();
    String::from_utf8(outcome.output).unwrap() + &format!("{:?}", outcome.exit)
}

fn commands_run_one_after_the_other_in_one_boundary() {
    let lab = Lab::new();
    let events = lab.session(&Nobody, &Stop::default(), |session| {
        assert_eq!(printed(session, "echo a > /tmp/kept; echo out; exit 3"), "out\nStatus(3)");
        // One boundary: the private folder and what was started in the background live on.
        assert_eq!(printed(session, "cat /tmp/kept"), "a\nStatus(0)");
        run(session, "sleep 60 > /dev/null 2>&1 & echo $! > /tmp/pid").unwrap();
        assert_eq!(printed(session, "kill -0 $(cat /tmp/pid)"), "Status(0)");
        assert_eq!(session.read(Path::new("src/a.py")).unwrap(), b"one\n");
        let names = session.list(Path::new("")).unwrap();
        assert!(names.iter().any(|entry| entry.name == "Dockerfile"), "{names:?}");
        session.write(Path::new("src/new/b.py"), Some(b"two\n")).unwrap();
        session.write(Path::new("src/a.py"), None).unwrap();
    });
    assert_eq!(fs::read_to_string(lab.work().join("src/new/b.py")).unwrap(), "two\n");
    assert!(!lab.work().join("src/a.py").exists());
    let edits = events.iter().filter_map(|event| {
        let Event::Edit(edit) = event else { return None };
        Some((edit.path.to_path(), edit.kind))
    });
    let expected =
        [("src/new/b.py".into(), EditKind::Created), ("src/a.py".into(), EditKind::Deleted)];
    assert_eq!(edits.collect::<Vec<(PathBuf, EditKind)>>(), expected);
}

fn a_refused_write_has_words_and_no_effect() {
    let lab = Lab::new();
    let events = lab.session(&Nobody, &Stop::default(), |session| {
        let words = |result: Result<(), HandsError>| result.unwrap_err().to_string();
        assert_eq!(
            words(session.write(Path::new("Dockerfile"), Some(b"FROM y\n"))),
            "refused: write to Dockerfile is outside the writable roots (writable here: src, \
             /tmp); do not work around it"
        );
        let key = session.read(Path::new("keys/id")).unwrap_err();
        assert_eq!(
            key,
            HandsError::Refused(
                "refused: read of keys/id: it is hidden; do not work around it".into()
            )
        );
        assert!(!printed(session, "cat keys/id").contains("TOPSECRET"));
        // The same by a command: the wall holds, and the agent is told what it was.
        let told = printed(session, "echo x > Dockerfile");
        assert!(told.contains("Read-only file system"), "{told}");
        assert!(told.contains("(writable here: src, /tmp); do not work around it"), "{told}");
        // What a protected name refuses is `EACCES`, as a file's mode would be: the words tell.
        let told = printed(session, "mkdir -p src/.git/hooks; echo x > src/.git/hooks/pre-commit");
        assert!(told.contains("/src/.git/hooks") && told.contains("protected name"), "{told}");
        assert_eq!(printed(session, "true"), "Status(0)");
    });
    assert_eq!(fs::read_to_string(lab.work().join("Dockerfile")).unwrap(), "FROM x\n");
    let denied = |event: &&Event| matches!(event, Event::Denial(_));
    assert_eq!(events.iter().filter(denied).count(), 2);
    let finished = events.iter().filter_map(|event| {
        let Event::CommandFinished(finished) = event else { return None };
        Some(finished.denials.iter().map(|denial| denial.target.as_str()).collect::<Vec<_>>())
    });
    let finished: Vec<_> = finished.collect();
    assert_eq!(finished[1], [lab.work().join("Dockerfile").to_str().unwrap()]);
    assert!(finished[2][0].contains("/src/.git/hooks") && finished[3].is_empty(), "{finished:?}");
}

fn what_only_the_kernel_refuses_has_words_too() {
    let lab = Lab::new();
    let locked = lab.work().join("src/locked");
    fs::write(&locked, "before").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o444)).unwrap();
    lab.session(&Nobody, &Stop::default(), |session| {
        let error = session.write(Path::new("src/locked"), Some(b"after")).unwrap_err();
        assert!(
            matches!(&error, HandsError::Refused(words) if words.contains("src/locked")),
            "{error:?}"
        );
    });
    assert_eq!(fs::read_to_string(locked).unwrap(), "before");
}

fn rules_and_persons_decide_before_anything_runs() {
    let lab = Lab::new();
    let replies = [Reply::Deny("not now".to_owned()), Reply::Once, Reply::Thread(None)];
    let person = Person(Mutex::new(replies.into()));
    let events = lab.session(&person, &Stop::default(), |session| {
        assert_eq!(
            run(session, "cd src && docker ps").unwrap_err().to_string(),
            "refused: rule \"docker\" (config.toml:12) denies this command: containers are not \
             for agents; do not work around it"
        );
        let no = run(session, "touch src/asked").unwrap_err().to_string();
        assert!(
            no.contains("(config.toml:16)") && no.contains("the user said no: not now"),
            "{no}"
        );
        assert!(!lab.work().join("src/asked").exists());
        for _ in 0..3 {
            run(session, "touch src/asked").unwrap();
        }
        assert!(lab.work().join("src/asked").exists());
    });
    let decisions = events.iter().filter_map(|event| {
        let Event::CommandStarted(started) = event else { return None };
        Some(started.decision)
    });
    let (no, asked) = (Decision::Deny, Decision::Ask);
    assert_eq!(decisions.collect::<Vec<_>>(), [no, no, asked, asked, asked]);
    lab.session(&Nobody, &Stop::default(), |session| {
        let no = run(session, "touch src/unasked").unwrap_err().to_string();
        assert!(no.contains("there is nobody here to ask"), "{no}");
    });
    assert!(!lab.work().join("src/unasked").exists());
}

fn the_hands_are_out_of_reach_for_what_they_start() {
    let lab = Lab::new();
    lab.session(&Nobody, &Stop::default(), |session| {
        // The control: the same looks at a process of the command's own.
        let script = "look() { ls /proc/$1/fd/0 && cat /proc/$1/environ > /dev/null && \
                      cat /proc/$1/mem 2>&1 | grep -q 'Input/output'; }; ";
        let own = printed(session, &format!("{script} sleep 9 & look $!; echo $?; kill $!"));
        assert!(own.ends_with("0\nStatus(0)"), "the control: {own}");
        let parent =
            printed(session, &format!("{script} cat /proc/$PPID/comm; look $PPID; echo $?"));
        assert!(parent.contains("Permission denied"), "{parent}");
        assert!(
            !parent.contains("/proc/1/fd/0\n") && !parent.ends_with("\n0\nStatus(0)"),
            "{parent}"
        );
        // Nor is the channel among what commands inherit.
        let open = printed(session, "readlink /proc/self/fd/*");
        assert!(!open.contains("socket:"), "{open}");
        assert_eq!(printed(session, "cat"), "Status(0)", "standard input is empty");
    });
}

fn a_stopped_command_is_gone_and_so_is_its_background() {
    let lab = Lab::new();
    let stop = Stop::default();
    let wish = stop.clone();
    let late = lab.work().join("src/late");
    let started = lab.work().join("src/started");
    let waited = started.clone();
    let user = thread::spawn(move || {
        let began = Instant::now();
        while !waited.exists() && began.elapsed() < Duration::from_secs(30) {
            thread::yield_now();
        }
        wish.request();
    });
    let events = lab.session(&Nobody, &stop, |session| {
        let line = "(setsid sh -c 'sleep 2; echo x > src/late' &); echo > src/started; sleep 60";
        assert_eq!(run(session, line).unwrap_err(), HandsError::Interrupted);
        assert_eq!(run(session, "true").unwrap_err(), HandsError::Interrupted);
    });
    user.join().unwrap();
    assert!(started.exists());
    assert!(matches!(events.last(), Some(Event::CommandFinished(end)) if end.exit == 137));
    process::Command::new("sleep").arg("3").status().unwrap();
    assert!(!late.exists(), "the boundary came down with everything in it");
}

fn a_place_that_is_gone_ends_the_thread_and_does_not_hang() {
    let lab = Lab::new();
    lab.session(&Nobody, &Stop::default(), |session| {
        // What a command can do to the hands: end them. Then the boundary is gone as well.
        let error = run(session, "kill -9 $PPID; sleep 60").unwrap_err();
        assert!(matches!(error, HandsError::Lost(_)), "{error:?}");
        let error = session.read(Path::new("src/a.py")).unwrap_err();
        assert!(matches!(error, HandsError::Lost(_)), "{error:?}");
    });
}

fn the_binary_may_lie_where_nobody_looks() {
    // The boundary has a `/tmp` of its own, in which this copy is not.
    let hidden = tempfile::tempdir_in("/tmp").unwrap();
    let copy = hidden.path().join("binary");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/place");
    let mut child =
        process::Command::new(&copy).arg(ELSEWHERE).env("PLACE_BASE", base).spawn().unwrap();
    assert!(child.wait().unwrap().success());
}
