//! `stockade doctor` tells what works here by trying it.

use std::process::{Command, Output};

use super::text;

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// Where user namespaces are used up.
fn without_namespaces(script: &str) -> Output {
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && {script}");
    let arguments = ["--user", "--map-root-user", "sh", "-c", &script, STOCKADE];
    Command::new("unshare").args(arguments).output().unwrap()
}

#[test]
fn what_works_is_tried_and_said() {
    let output = Command::new(STOCKADE).args(["doctor", "--json"]).output().unwrap();
    let probes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let probes = probes.as_array().unwrap();
    let is_lost = probes.iter().any(|probe| probe["works"] == false);
    assert_eq!(output.status.code(), Some(i32::from(is_lost)), "{}", text(&output));
    let mut ran = Command::new(STOCKADE);
    let ran = ran
        .args(["run", "-q", "-C", "/usr", "-s", "read-only", "true"])
        .status()
        .unwrap()
        .success();
    for name in ["namespaces", "mounts", "network", "landlock", "seccomp", "terminal", "overlay"] {
        let probe = probes.iter().find(|probe| probe["name"] == name).expect(name);
        assert!(!ran || probe["works"] == true, "{name}: {}", text(&output));
        assert!(!probe["lost"].as_str().unwrap().is_empty());
        assert!(!probe["remedy"].as_str().unwrap().is_empty());
    }
}

#[test]
fn what_is_lost_is_named_with_its_remedy() {
    let output = without_namespaces("exec $0 doctor");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("LOST  namespaces") && said.contains("max_user_namespaces"), "{said}");
    assert!(said.contains("LOST  overlay: needs namespaces"), "{said}");
    assert!(said.contains("ok    landlock"), "what does not need them works: {said}");
}
