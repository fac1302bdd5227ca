//! Limits: what ends a run says which one it was and how to raise it, and honest programs fit.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Home, text};

/// Runs `script` with one option and looks for `status` and `words`.
fn ends(option: &[&str], script: &str, status: i32, words: &[&str]) {
    let option: Vec<&OsStr> = option.iter().map(OsStr::new).collect();
    let output = Home::new().run(&option, script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// Threat model, K8: the end says which limit it was.
#[test]
fn a_limit_that_ends_a_run_is_named_with_the_way_to_raise_it() {
    let eat = "python3 -c 'import time; a = bytearray(200 << 20); time.sleep(5)'";
    let words = ["memory", "64 MiB", "limits.memory"];
    ends(&["-c", "limits.memory=64MiB"], eat, 137, &words);
    let open = "python3 -c 'import os, time\n\
                for _ in range(30):\n  if os.fork() == 0:\n    \
                a = [os.open(\"/\", 0) for _ in range(50)]; time.sleep(5)\ntime.sleep(5)'";
    let words = ["files open", "limits.open_files"];
    ends(&["-c", "limits.open_files=64"], open, 137, &words);
    ends(&["--timeout", "1s"], "sleep 5", 124, &["wall-time", "--timeout"]);
}

#[test]
fn pages_that_processes_share_count_once() {
    let fork = "python3 -c 'import os, time\n\
                a = bytearray(60 << 20)\n\
                for _ in range(10):\n  if os.fork() == 0: time.sleep(1); os._exit(0)\n\
                time.sleep(1.2)'; echo done";
    ends(&["-c", "limits.memory=120MiB"], fork, 0, &["done"]);
}

#[test]
fn runtimes_that_reserve_much_start_under_the_default_limits() {
    for (program, script) in [
        ("node", "node -e 'new Uint8Array(1 << 28); console.log(6 * 7)'"),
        ("java", "java -version 2>&1 && echo 42"),
        ("go", "go version && echo 42"),
    ] {
        let finds = |folder: &&str| std::path::Path::new(folder).join(program).exists();
        if ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(finds) {
            ends(&[], script, 0, &["42"]);
        }
    }
}

/// Of the code of the program that `pid` runs: what is mapped, and all of it, in KiB.
fn code_mapped(pid: u32) -> (u64, u64) {
    let program = env!("CARGO_BIN_EXE_stockade");
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut mapped, mut all, mut counts) = (0, 0, false);
    for line in maps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Rss:", size, "kB"] if counts => mapped += size.parse::<u64>().unwrap(),
            ["Size:", size, "kB"] if counts => all += size.parse::<u64>().unwrap(),
            [_, "r-xp", ..] => counts = line.ends_with(program),
            [_, rights, ..] if rights.len() == 4 && rights.ends_with(['p', 's']) => counts = false,
            _ => {}
        }
    }
    (mapped, all)
}

/// docs/budgets.md: under 4 MiB of private memory. What other runs have mapped too is not private, so
/// that what is mapped is looked at here.
#[test]
fn who_waits_for_a_command_lets_go_of_what_its_start_has_read() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["--", "sh", "-c", "echo on; exec sleep 60"]).stdout(Stdio::piped());
    let mut run = command.spawn().unwrap();
    let mut on = [0; 3];
    run.stdout.take().unwrap().read_exact(&mut on).unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    // The kernel maps around each page that is read, so how little it is depends on the build.
    let is_little = |(mapped, all): (u64, u64)| mapped * 4 < all;
    let mut mapped = code_mapped(run.id());
    while !is_little(mapped) && Instant::now() < limit {
        std::thread::yield_now();
        mapped = code_mapped(run.id());
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(is_little(mapped), "mapped of its code, and all of it, in KiB: {mapped:?}");
}

/// PID 1 starts the threads that answer trapped calls when there is one to answer. Where none can be
/// started, that call fails as a fork would, and the run goes on.
#[test]
fn who_answers_is_there_when_somebody_asks_and_there_is_room() {
    const ASKS: &str = r#"
import errno, os, time
threads = lambda: len(os.listdir("/proc/1/task"))
before, children = threads(), []
try:
    while True:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except BlockingIOError:
    pass
try:
    first = open("first", "w") and "written"
except OSError as error:
    first = errno.errorcode[error.errno]
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
open("second", "w").close()
print(before, "thread,", first, "when full, more than one after:", threads() > 1)
"#;
    let home = Home::new();
    let option = ["-c", "limits.processes=310"].map(OsStr::new);
    let output = home.run(&option, &format!("exec python3 -Bc '{ASKS}'"));
    let said = text(&output);
    assert!(said.contains("1 thread, EAGAIN when full, more than one after: True"), "{said}");
    assert!(home.path("work/second").exists() && !home.path("work/first").exists(), "{said}");
}
