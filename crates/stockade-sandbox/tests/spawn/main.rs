//! A sandbox that is put up by a process with threads.
//!
//! Without the harness of the standard library: this binary is started again as the parent of a
//! sandbox, and the first thing that it does must be to look whether it was.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "it is its own harness")]

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{ExitCode, Stdio as ProcessStdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use stockade_policy::{AbsPath, Limits, Mode, Network, Policy, Reason, Review, Verdict, review};
use stockade_sandbox::{
    Command, ExecRefusal, ExecRequest, Execs, Launch, Layer, Outcome, Running, SetupError, Stdio,
    Stub,
};

/// The argument of the child that is killed in `the_sandbox_ends_with_its_owner`.
const OWNER: &str = "owner";

fn main() -> ExitCode {
    if let Some(code) = stockade_sandbox::enter_if_helper(refusing) {
        return code;
    }
    let words: Vec<String> = env::args().skip(1).collect();
    if let [owner, folder] = words.as_slice()
        && owner == OWNER
    {
        own(Path::new(folder));
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, fn()); 10] = [
        (
            "a_process_with_threads_gets_output_and_status",
            a_process_with_threads_gets_output_and_status,
        ),
        ("the_walls_are_those_of_the_policy", the_walls_are_those_of_the_policy),
        ("a_layer_takes_what_is_written", a_layer_takes_what_is_written),
        ("what_was_not_run_says_why", what_was_not_run_says_why),
        ("a_run_can_be_ended_and_outlives_its_thread", a_run_can_be_ended_and_outlives_its_thread),
        ("the_sandbox_ends_with_its_owner", the_sandbox_ends_with_its_owner),
        (
            "several_at_once_do_not_hold_each_others_pipes",
            several_at_once_do_not_hold_each_others_pipes,
        ),
        ("what_is_executed_is_judged_by_what_was_handed", what_is_executed_is_judged),
        ("nobody_else_is_taken_for_a_helper", nobody_else_is_taken_for_a_helper),
        // Last: standard output is the run's from here on.
        (
            "a_thread_that_is_about_to_end_is_waited_for",
            a_thread_that_is_about_to_end_is_waited_for,
        ),
    ];
    for (name, case) in cases {
        if words.first().is_none_or(|word| word.starts_with('-') || name.contains(word.as_str())) {
            case();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// A folder with a workspace and a file beside it.
fn place() -> tempfile::TempDir {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/spawn");
    fs::create_dir_all(&base).unwrap();
    let place = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
    fs::create_dir(place.path().join("work")).unwrap();
    fs::write(place.path().join("beside"), "before").unwrap();
    place
}

fn launch(place: &Path, script: &str) -> Launch {
    let work = AbsPath::new(place.join("work")).unwrap();
    Launch {
        command: Command {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            folder: work.as_path().to_owned(),
        },
        policy: Policy {
            mode: Mode::WorkspaceWrite,
            workspace: work.clone(),
            home: None,
            writable: vec![work],
            protected: Vec::new(),
            hidden: Vec::new(),
            readable: Vec::new(),
            caches: Vec::new(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: Network::default(),
            limits: Limits::for_memory(1 << 30),
        },
        layers: Vec::new(),
        caches: None,
        execs: None,
        notes: None,
        keeping: None,
        may_degrade: false,
    }
}

fn spawn(launch: Launch, stdio: Stdio) -> Result<Running, SetupError> {
    match review(launch, &[(Verdict::Allow, Reason::Typed)]) {
        Review::Allowed(launch) => stockade_sandbox::spawn(launch, stdio, |_doors| Ok(()), None),
        Review::Ask(_) | Review::Denied(_) => unreachable!("one verdict, which allows it"),
    }
}

fn run(launch: Launch) -> (Result<Outcome, SetupError>, String) {
    let (mut read, write) = io::pipe().unwrap();
    let stdio = Stdio { stdout: OwnedFd::from(write), ..Stdio::null().unwrap() };
    let running = match spawn(launch, stdio) {
        Ok(running) => running,
        Err(error) => return (Err(error), String::new()),
    };
    let mut output = String::new();
    read.read_to_string(&mut output).unwrap();
    (running.wait(), output)
}

fn a_thread_that_is_about_to_end_is_waited_for() {
    let place = place();
    let stay = |time| thread::spawn(move || thread::park_timeout(time));
    let put_up = || match review(launch(place.path(), "exit 3"), &[(Verdict::Allow, Reason::Typed)])
    {
        Review::Allowed(launch) => {
            stockade_sandbox::launch(launch, &mut |_| {}, |_doors| Ok(()), None, || {})
        }
        Review::Ask(_) | Review::Denied(_) => unreachable!("one verdict, which allows it"),
    };
    let busy = stay(Duration::from_mins(1));
    assert!(put_up().is_err(), "with two of them none is put up");
    busy.thread().unpark();
    busy.join().unwrap();
    drop(stay(Duration::from_millis(200)));
    assert_eq!(put_up().unwrap(), Outcome::Exited(3));
}

fn a_process_with_threads_gets_output_and_status() {
    let place = place();
    let workers: Vec<_> = (0..3)
        .map(|number| {
            let folder = place.path().to_owned();
            thread::spawn(move || run(launch(&folder, &format!("echo {number}; exit {number}"))))
        })
        .collect();
    for (number, worker) in (0..).zip(workers) {
        let (outcome, output) = worker.join().unwrap();
        assert_eq!(outcome.unwrap(), Outcome::Exited(number));
        assert_eq!(output, format!("{number}\n"));
    }
}

fn the_walls_are_those_of_the_policy() {
    let place = place();
    let script = "echo in > here; echo out > ../beside; echo $?; env | grep -c HOME";
    let (outcome, output) = run(launch(place.path(), script));
    assert_eq!(outcome.unwrap(), Outcome::Exited(1), "{output}");
    assert_eq!(fs::read_to_string(place.path().join("work/here")).unwrap(), "in\n");
    assert_eq!(fs::read_to_string(place.path().join("beside")).unwrap(), "before");
    let mut limited = launch(place.path(), "sleep 60");
    limited.policy.limits.wall_time = Some(Duration::from_millis(50));
    assert_eq!(run(limited).0.unwrap(), Outcome::TimedOut(Duration::from_millis(50)));
}

/// Refuses the programs whose names were handed, one a line.
fn refusing(text: &[u8], stubs: Vec<Stub>) -> Option<Execs> {
    let names: Vec<String> =
        String::from_utf8(text.to_vec()).ok()?.lines().map(str::to_owned).collect();
    let judge = move |request: &ExecRequest<'_>| {
        let is_named = names.iter().any(|name| request.file.ends_with(name.as_str()));
        let refusal = || ExecRefusal {
            line: "not here".to_owned(),
            decided_by: "a rule".to_owned(),
            asks: false,
        };
        is_named.then(refusal)
    };
    Some(Execs::new(judge, stubs).handed(text.to_vec()))
}

fn what_is_executed_is_judged() {
    let place = place();
    let script = "/usr/bin/id 2> said; echo $?; cat said; cat $STOCKADE_DENIALS";
    let (outcome, output) = run(launch(place.path(), script));
    assert_eq!(outcome.unwrap(), Outcome::Exited(0));
    assert!(output.contains("uid=") && output.contains("\n0\n"), "the control: {output}");
    let mut judged = launch(place.path(), &script.replace("2> said", "2>&1"));
    judged.execs = refusing(b"/bin/id", Vec::new());
    let (_, output) = run(judged.clone());
    assert!(output.contains("not here\n") && output.contains("126\n"), "{output}");
    assert!(output.contains("\"op\":\"execute\",\"target\":\"/usr/bin/id\""), "{output}");
    assert!(!output.contains("uid="), "{output}");
    // What is no text is no judge, and nothing runs without one.
    judged.execs = Some(Execs::new(|_| None, Vec::new()).handed(vec![0xff]));
    assert!(matches!(run(judged.clone()), (Err(_), output) if output.is_empty()));
    judged.execs = Some(Execs::new(|_| None, Vec::new()));
    assert!(matches!(run(judged).0, Err(SetupError::Host(..))));
}

fn a_layer_takes_what_is_written() {
    let place = place();
    let path = |name: &str| AbsPath::new(place.path().join(name)).unwrap();
    for folder in ["work/kept", "layer/upper", "layer/work"] {
        fs::create_dir_all(place.path().join(folder)).unwrap();
    }
    for name in ["work/old", "work/gone", "work/.env", "work/kept/a"] {
        fs::write(place.path().join(name), "before").unwrap();
    }
    let script = "echo in > old; rm gone; echo new > new; rm -r kept; mkdir kept; \
                  (echo no > .env) 2> /dev/null; cat old new .env; ls ../layer; mknod x c 0 0";
    let layered = |work: &str| {
        let mut layered = launch(place.path(), script);
        layered.policy.protected = vec![path("work/.env")];
        layered.policy.hidden = vec![path("layer")];
        let (at, upper) = (path("work"), path("layer/upper"));
        layered.layers = vec![Layer { at, upper, work: path(work) }];
        layered
    };
    let (outcome, output) = run(layered("layer/work"));
    assert_ne!(outcome.unwrap(), Outcome::Exited(0), "a mark of the overlay's own was made");
    assert_eq!(output, "in\nnew\nbefore");
    let read = |name: &str| fs::read_to_string(place.path().join(name)).ok();
    for name in ["work/old", "work/gone", "work/.env", "work/kept/a"] {
        assert_eq!(read(name).as_deref(), Some("before"), "{name}");
    }
    assert_eq!(read("work/new"), None);
    assert_eq!(read("layer/upper/old").as_deref(), Some("in\n"));
    // A layer that cannot be had is no run without one.
    let (outcome, _) = run(layered("beside"));
    assert!(matches!(outcome, Err(SetupError::Step { .. })), "{outcome:?}");
    let mut bare = layered("layer/work");
    bare.policy.mode = Mode::DangerFullAccess;
    let (outcome, _) = run(bare);
    assert!(matches!(outcome, Err(SetupError::Host(..))), "{outcome:?}");
    assert_eq!(read("work/old").as_deref(), Some("before"));
    // The control: without it the files are written to.
    let mut direct = layered("layer/work");
    direct.layers.clear();
    run(direct).0.unwrap();
    assert_eq!(read("work/old").as_deref(), Some("in\n"));
}

fn what_was_not_run_says_why() {
    let place = place();
    let mut missing = launch(place.path(), "");
    missing.command.program = "no-such-program".into();
    let error = run(missing).0.unwrap_err();
    assert!(
        matches!(&error, SetupError::NotRun { program, source }
            if program == Path::new("no-such-program") && source.kind() == io::ErrorKind::NotFound),
        "{error:?}"
    );
    let mut elsewhere = launch(place.path(), "");
    elsewhere.command.folder = place.path().join("none");
    let error = run(elsewhere).0.unwrap_err();
    assert!(
        matches!(&error, SetupError::Step { step, subject, source }
            if step == "change to"
                && *subject == place.path().join("none")
                && source.kind() == io::ErrorKind::NotFound),
        "{error:?}"
    );
}

fn a_run_can_be_ended_and_outlives_its_thread() {
    let place = place();
    let (mut read, write) = io::pipe().unwrap();
    let stdio = Stdio { stdout: OwnedFd::from(write), ..Stdio::null().unwrap() };
    let started = launch(place.path(), "(trap '' TERM; sleep 60) & echo up; wait");
    let running = thread::spawn(move || spawn(started, stdio).unwrap()).join().unwrap();
    let mut up = [0; 3];
    read.read_exact(&mut up).unwrap();
    let began = Instant::now();
    running.kill();
    assert_eq!(running.wait().unwrap(), Outcome::Killed(9));
    assert_eq!(read.read(&mut up).unwrap(), 0, "nobody holds the pipe");
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// The child's side of the next: owns a run and waits to be killed.
fn own(folder: &Path) {
    let stdout = io::stdout().as_fd().try_clone_to_owned().unwrap();
    let stdio = Stdio { stdout, ..Stdio::null().unwrap() };
    let running = spawn(launch(folder, "echo up; sleep 60; echo late > late"), stdio).unwrap();
    running.wait().unwrap();
}

fn the_sandbox_ends_with_its_owner() {
    let place = place();
    let mut owner = process::Command::new(env::current_exe().unwrap())
        .args([OWNER.as_ref(), place.path().as_os_str()])
        .stdout(ProcessStdio::piped())
        .spawn()
        .unwrap();
    let mut output = owner.stdout.take().unwrap();
    let mut up = [0; 3];
    output.read_exact(&mut up).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    // The command held this pipe; it ends when the last process of the sandbox has.
    let began = Instant::now();
    assert_eq!(output.read(&mut up).unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(20));
}

fn several_at_once_do_not_hold_each_others_pipes() {
    let place = place();
    let (mut read, write) = io::pipe().unwrap();
    let stdio = Stdio { stdout: OwnedFd::from(write), ..Stdio::null().unwrap() };
    let first = spawn(launch(place.path(), "exec sleep 60 > /dev/null"), stdio).unwrap();
    let second = spawn(launch(place.path(), "exec sleep 60"), Stdio::null().unwrap()).unwrap();
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
    drop((first, second));
}

fn nobody_else_is_taken_for_a_helper() {
    // The argument alone, or with a socket that somebody else made, is no helper: this binary
    // then goes on, and takes the word for the name of a case that it does not have.
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let script = "\"$0\" '#sandbox'; exit $?";
    for stdin in [ProcessStdio::null(), OwnedFd::from(far).into()] {
        let status = process::Command::new("sh")
            .args(["-c", script, env::current_exe().unwrap().to_str().unwrap()])
            .stdin(stdin)
            .stdout(ProcessStdio::null())
            .status();
        assert!(status.unwrap().success());
    }
    drop(near);
}
