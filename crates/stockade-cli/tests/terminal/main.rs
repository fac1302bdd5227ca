//! The terminal, driven through a real pseudoterminal (`drive.py`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

fn drive(scenario: &str) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/terminal");
    std::fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/terminal/drive.py"))
        .arg(env!("CARGO_BIN_EXE_stockade"))
        .arg(folder.path())
        .arg(scenario)
        .output()
        .expect("python3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { drive(stringify!($name)); })*
    };
}

scenarios!(
    resize,
    interrupt,
    interrupt_alone,
    stop_and_continue,
    job_control_inside,
    raw_mode,
    restored_after_sigkill,
    mixed_descriptors,
    no_terminal,
    large_output,
    refused,
    asked,
    asked_no_more,
    asked_and_interrupted,
    asked_on_a_screen,
    asked_on_a_screen_of_curses,
    detached,
    detached_or_not,
    killed_in_front,
);
