//! Without user namespaces: what is held, what is refused by name, and what is let go aloud.

use std::fs;
use std::process::{Command, Output};

use super::{Home, text};

/// Runs `stockade run OPTIONS -- sh -c SCRIPT` where user namespaces are used up.
fn run(home: &Home, options: &[&str], script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"").arg("sh");
    command.arg(env!("CARGO_BIN_EXE_stockade")).arg("run").args(options);
    command.args(["--", "sh", "-c", script]).current_dir(home.path("work"));
    command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

/// Threat model, F1, F9, N1: in the second backend.
#[test]
fn landlock_and_seccomp_hold_a_reading_run_alone() {
    let home = Home::new();
    let script = "echo in > $TMPDIR/a; cat $TMPDIR/a; echo x > ~/notes.txt; echo x > src/new; \
                  cat ~/.ssh/id; python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 1))'; \
                  exit 3";
    let output = run(&home, &["-s", "read-only"], script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("\nin\n"), "a private temporary folder: {said}");
    assert_eq!(said.matches("no user namespaces here").count(), 1, "said once: {said}");
    assert!(!said.contains("original"), "a hidden file: {said}");
    assert!(said.contains("PermissionError"), "no network: {said}");
    assert_eq!(fs::read_to_string(home.path("notes.txt")).unwrap(), "original\n");
    assert!(!home.path("work/src/new").exists());
}

#[test]
fn what_it_cannot_hold_is_refused_unless_the_user_lets_it_go() {
    let home = Home::new();
    let output = run(&home, &[], "touch src/ran");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("protected names") && said.contains("--degrade"), "{said}");
    assert!(!home.path("work/src/ran").exists(), "nothing has run");
    let output = run(&home, &["--degrade"], "touch src/ran; touch ../outside/ran");
    let said = text(&output);
    assert!(home.path("work/src/ran").exists(), "{said}");
    assert!(!home.path("outside/ran").exists(), "{said}");
    assert!(said.contains("not held: protected names"), "{said}");
    let output = run(&home, &["--degrade", "--draft"], "true");
    assert_eq!(output.status.code(), Some(125), "a draft needs mounts: {}", text(&output));
}

/// Threat model, K2: in the second backend.
#[test]
fn nothing_outlives_a_run_and_the_guardian_cannot_be_ended() {
    let home = Home::new();
    let beat = home.path("work/src/beat");
    let script = "kill -9 $PPID && echo ENDED; (setsid sh -c 'echo $$ > src/beat; exec sleep 60' &) ; \
                  while ! test -s src/beat; do sleep 0.05; done";
    let output = run(&home, &["-q", "--degrade"], script);
    assert!(!text(&output).contains("ENDED"), "{}", text(&output));
    // The beating process had written its number; nobody has it any more.
    let pid = fs::read_to_string(&beat).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid} is still there");
}
