//! A machine ends with its owner, however that ends.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use stockade_vm::{BootError, Progress, Vm};

use crate::{boot, is_skipped, said, spec};

/// Set in the process that boots a machine and waits to be killed.
const HELD: &str = "STOCKADE_VM_TEST_HELD";

/// Every QEMU that descends from this process, by what `/proc` says.
fn machines_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        if is_child && status.starts_with("Name:\tqemu") {
            found.push(pid);
        }
    }
    found
}

fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with("Name:\tqemu") && !status.contains("State:\tZ")
}

fn eventually(what: &str, patience: Duration, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Not a test by itself: what the next one starts, and kills.
#[test]
fn held() {
    let Some(folder) = env::var_os(HELD) else { return };
    let Some(booted) = boot() else {
        fs::write(&folder, "skipped").unwrap();
        return;
    };
    assert_eq!(said(booted.vm.client(), "echo up"), "up");
    fs::write(folder, "up").unwrap();
    loop {
        thread::park();
    }
}

/// Killed when the test fails, so that nothing is left then either.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Threat model, V3: "A machine ends with its owner: stopped, dropped or killed."
#[test]
fn a_killed_process_leaves_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("state");
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "life::held", "--nocapture"])
        .env(HELD, &marker)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Killed(command.spawn().unwrap());
    let state = || fs::read_to_string(&marker).unwrap_or_default();
    let minutes = Duration::from_mins(4);
    eventually("the machine is up", minutes, || {
        assert!(process.0.try_wait().unwrap().is_none_or(|status| status.success()));
        !state().is_empty()
    });
    if state() == "skipped" {
        return;
    }
    let machines = machines_of(process.0.id());
    assert_eq!(machines.len(), 1);
    // SIGKILL: nothing of the process can clean up.
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let gone = Duration::from_secs(5);
    eventually("the machine is gone", gone, || machines.iter().all(|pid| !is_alive(*pid)));
}

/// Threat model, V3: "stopped".
#[test]
fn a_boot_that_is_stopped_leaves_no_machine() {
    let state = tempfile::tempdir().unwrap();
    let is_booting = std::cell::Cell::new(false);
    let error = Vm::boot(&spec(state.path()), &|| is_booting.get(), &mut |step| {
        is_booting.set(step == Progress::Started(stockade_vm::Phase::Boot));
    });
    let error = error.unwrap_err();
    if !matches!(error, BootError::Stopped) {
        is_skipped(&error);
        return;
    }
    // Others of this process may be at their own tests: this one's is told by its folder.
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(state.path().to_str().unwrap())
    };
    eventually("the machine is gone", Duration::from_secs(5), || {
        !machines_of(std::process::id()).iter().any(is_ours)
    });
}
