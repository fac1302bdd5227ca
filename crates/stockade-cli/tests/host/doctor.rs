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
    let counts = |probe: &&serde_json::Value| probe["optional"] == false;
    let is_lost = probes.iter().filter(counts).any(|probe| probe["works"] == false);
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
    let of = |name: &str| probes.iter().find(|probe| probe["name"] == name).expect(name);
    if of("seccomp")["works"] == true {
        assert_eq!(of("seccomp")["detail"], "a trapped call was answered");
    }
    assert!(of("cgroup")["optional"] == true && of("landlock")["optional"] == false);
    assert!(of("cgroup")["lost"].as_str().unwrap().starts_with("nothing that is promised"));
}

#[test]
fn what_a_machine_needs_is_looked_for_without_a_boot() {
    let output = Command::new(STOCKADE).args(["doctor", "--json"]).output().unwrap();
    let probes: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| probes.iter().find(|probe| probe["name"] == name);
    for name in ["guest-agent", "qemu", "guest-kernel", "mke2fs", "machine-memory"] {
        let probe = of(name).unwrap_or_else(|| panic!("{name}: {}", text(&output)));
        let has_remedy = !probe["remedy"].as_str().unwrap().is_empty();
        assert!(probe["works"] == true || has_remedy, "{name}: {}", text(&output));
        assert_eq!(probe["lost"], "`stockade cloud`");
    }
    for name in ["kvm", "emulation", "machine-space"] {
        assert!(of(name).is_none(), "{name} takes a boot: {}", text(&output));
    }
    let homeless = Command::new(STOCKADE).arg("doctor").env_clear().output().unwrap();
    assert!(!text(&homeless).contains("panicked") && !homeless.stdout.is_empty());
}

/// The programs and folders that a machine is made of are put out of sight, in namespaces of its own.
#[test]
fn what_a_machine_lacks_is_named_with_what_brings_it() {
    let covered = |script: &str| {
        let script = format!("mount -t tmpfs none /mnt && {script} && exec \"$0\" doctor");
        let arguments = ["--mount", "--pid", "--fork", "sh", "-c", &script, STOCKADE];
        text(&Command::new("unshare").args(arguments).output().unwrap())
    };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let said = covered(
        "for at in /usr/bin/qemu-system-x86_64 /usr/sbin/mke2fs; do [ ! -e $at ] || mount --bind /dev/null $at; done",
    );
    assert!(said.contains("LOST  qemu: `qemu-system-x86_64` is not installed"), "{said}");
    assert!(said.contains("remedy: `sudo apt install qemu-system-x86`"), "{said}");
    assert!(
        said.contains("LOST  mke2fs: ") && said.contains("`sudo apt install e2fsprogs`"),
        "{said}"
    );
    let said = covered("mount --bind /mnt /lib/modules && mount --bind /mnt /boot");
    assert!(
        said.contains("LOST  guest-kernel: ") && said.contains("linux-image-cloud-amd64"),
        "{said}"
    );
}

#[test]
fn what_is_lost_is_named_with_its_remedy() {
    let output = without_namespaces("exec $0 doctor");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("LOST  namespaces") && said.contains("max_user_namespaces"), "{said}");
    assert!(said.contains("remedy: `sysctl user.max_user_namespaces="), "this machine's: {said}");
    assert!(said.contains("LOST  overlay: needs namespaces"), "{said}");
    assert!(said.contains("ok    landlock"), "what does not need them works: {said}");
}
