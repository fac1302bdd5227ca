//! Walls one at a time.
//!
//! A plan without a wall can be made in this crate only, by naming [`Walls`]; no flag, file or
//! variable of the product reaches it. The launcher forks, which a test harness with threads
//! cannot: each case runs in a child of its own, this binary with one thread and one case.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};
use std::{env, fs};

use stockade_policy::{AbsPath, Limits, Mode, Network, Policy};

use super::leash::Leash;
use super::outside;
use super::plan::{Plan, Walls};
use super::sys::process_unsafe::{self, Fork};
use crate::{Command, Outcome, SetupError};

/// Which walls the child leaves out, and what it runs.
const CASE: &str = "STOCKADE_TEST_CASE";
const SCRIPT: &str = "STOCKADE_TEST_SCRIPT";
const FOLDER: &str = "STOCKADE_TEST_FOLDER";

fn walls(case: &str) -> Walls {
    let mut walls = Walls::ALL;
    match case {
        "all" => {}
        "no-mounts" => walls.mounts = false,
        "no-landlock" => walls.landlock = false,
        "no-seccomp" => walls.seccomp = false,
        "no-network" => walls.network = false,
        "landlock-alone" => {
            walls = Walls {
                supervisor: true,
                descriptors: true,
                namespaces: true,
                mounts: false,
                landlock: true,
                seccomp: false,
                network: false,
                canary: false,
            };
        }
        "nothing" => {
            walls = Walls {
                supervisor: true,
                descriptors: true,
                namespaces: true,
                mounts: false,
                landlock: false,
                seccomp: false,
                network: false,
                canary: false,
            };
        }
        other => panic!("unknown case {other}"),
    }
    walls
}

fn policy(folder: &Path) -> Policy {
    let path = |name: &str| AbsPath::new(folder.join(name)).unwrap();
    Policy {
        mode: Mode::WorkspaceWrite,
        workspace: path("home/work"),
        home: Some(path("home")),
        writable: vec![path("home/work")],
        protected: vec![path("home/work/.env")],
        hidden: vec![path("home/.ssh")],
        readable: Vec::new(),
        caches: Vec::new(),
        tops: Vec::new(),
        unprotected: Vec::new(),
        awaited: Vec::new(),
        network: Network::default(),
        limits: Limits::for_memory(1 << 30),
    }
}

/// Not a test of its own: the child's side.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let Some(case) = env::var_os(CASE) else { return };
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let policy = policy(&folder);
    let mut plan = Plan::new(&policy, &[]);
    plan.walls = walls(case.to_str().unwrap());
    let command = Command {
        program: "/bin/bash".into(),
        arguments: vec!["-c".into(), env::var_os(SCRIPT).unwrap()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        folder: folder.join("home/work"),
    };
    // The launcher clones only where there is one thread, and the harness has two.
    match process_unsafe::fork_beside_harness().unwrap() {
        Fork::Parent(pid) => {
            process_unsafe::wait_for_end(pid).unwrap();
        }
        Fork::Child => {
            // Standard output is let go of once the command has started.
            let way_out = crate::launch::WayOut::Elsewhere(None);
            let ask = crate::launch::Asked::Nobody;
            let mut ties = crate::launch::Ties { tell: &mut |_| {}, way_out, ask, meanwhile: None };
            match outside::run(&plan, &command, &policy, (&Leash::NONE, &mut ties)) {
                Ok(Outcome::Exited(status)) => eprintln!("exited {status}"),
                Ok(other) => eprintln!("{other:?}"),
                Err(error @ SetupError::Canary { .. }) => eprintln!("refused: {error}"),
                Err(error) => eprintln!("{error}: {:?}", std::error::Error::source(&error)),
            }
            process_unsafe::exit_now(0)
        }
    }
}

struct Run {
    folder: tempfile::TempDir,
    output: Output,
}

impl Run {
    fn printed(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&self.output.stdout) + &text(&self.output.stderr)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs `script` in a workspace with the walls of `case`. Not under /tmp, which is private.
fn run(case: &str, script: &str) -> Run {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/walls");
    fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
    for name in ["home/work/src", "home/.ssh", "outside"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for name in ["home/.ssh/id", "home/work/.env", "outside/file"] {
        fs::write(folder.path().join(name), "original\n").unwrap();
    }
    let output = Process::new(env::current_exe().unwrap())
        .args(["--exact", "linux::tests::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(SCRIPT, script.replace("$OUT", &folder.path().join("outside").to_string_lossy()))
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    Run { folder, output }
}

/// Threat model, W1: a plan without a wall is refused before the command starts.
#[test]
fn the_canary_refuses_a_plan_that_lacks_a_wall() {
    let whole = run("all", "echo ran; exit 7");
    assert!(whole.printed().contains("ran"), "{}", whole.printed());
    assert!(whole.printed().contains("exited 7"), "{}", whole.printed());
    for (case, wall) in [
        ("no-mounts", "mounts"),
        ("no-landlock", "Landlock"),
        ("no-seccomp", "seccomp"),
        ("no-network", "network"),
    ] {
        let seen = run(case, "touch src/ran; echo ran");
        let text = seen.printed();
        assert!(text.contains("refused: the canary found a wall missing"), "{case}: {text}");
        assert!(text.contains(wall), "{case}: {text}");
        assert!(!seen.path("home/work/src/ran").exists(), "{case}: the command ran");
    }
}

/// Threat model, W2: Landlock alone holds writes outside the roots and hidden files.
#[test]
fn landlock_alone_holds_writes_outside_and_hidden_files() {
    const ATTACK: &str = "
        echo inside > src/inside
        echo pwned > $OUT/file; touch $OUT/new; mkdir $OUT/folder; ln -s x $OUT/link
        mv src/inside $OUT/moved; rm -f $OUT/file; truncate -s 0 $OUT/file
        cat ../.ssh/id
        touch src/end";
    let control = run("nothing", ATTACK);
    assert!(control.path("outside/new").exists(), "{}", control.printed());
    assert!(control.printed().contains("original"), "{}", control.printed());
    let held = run("landlock-alone", ATTACK);
    let text = held.printed();
    assert!(held.path("home/work/src/end").exists(), "the workspace is writable: {text}");
    assert_eq!(fs::read_to_string(held.path("outside/file")).unwrap(), "original\n");
    for name in ["new", "folder", "link", "moved"] {
        assert!(fs::symlink_metadata(held.path("outside").join(name)).is_err(), "{name}: {text}");
    }
    assert!(!text.contains("original"), "the secret was read: {text}");
}

/// Threat model, W2: Landlock alone holds signals to processes outside and their abstract
/// sockets.
#[test]
fn landlock_alone_holds_signals_and_abstract_sockets() {
    let name = format!("stockade-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes());
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address.unwrap()).unwrap();
    let attack = format!(
        "python3 -c \"
import socket
s = socket.socket(socket.AF_UNIX); s.connect('\\\\0{name}'); print('CONNECTED')\""
    );
    // The network namespace stays that of the host in both, so Landlock is the only wall.
    let control = run("nothing", &attack);
    assert!(control.printed().contains("CONNECTED"), "{}", control.printed());
    let held = run("landlock-alone", &attack);
    assert!(!held.printed().contains("CONNECTED"), "{}", held.printed());
}
