//! Machines that start from a template.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs, thread};

use stockade_vm::{Progress, Vm, VmSpec};

use crate::{cache, said, spec};

/// Set in the process that boots a machine for the test of what is in a template.
const FROZEN: &str = "STOCKADE_VM_TEST_FROZEN";

/// In the environment, the repository, its place in the machine and the set-up.
const CANARIES: [&str; 4] =
    ["canary-of-environment", "canary-of-repository", "canary-of-folder", "canary-of-setup"];

const MADE: &str = "preparing a template";
const BOOTED: &str = "the machine is booted";

/// A cache with the images of the shared one, and templates of its own.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Option<Self> {
        crate::boot()?.vm.stop().unwrap();
        let own = tempfile::tempdir_in(cache()).unwrap();
        for entry in fs::read_dir(cache()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let is_shared = ["system-", "kernel-", "initramfs-", "guest-", "accelerator-"];
            if is_shared.iter().any(|stem| name.starts_with(stem)) {
                fs::hard_link(entry.path(), own.path().join(name)).unwrap();
            }
        }
        Some(Self(own))
    }

    /// A machine. One that was silent on a busy host and was booted instead, said, is tried again.
    fn start(&self, mib: u64) -> Started {
        let start = || {
            let state = tempfile::tempdir().unwrap();
            let (vm, notes) = started(&of_size(self.0.path(), state.path(), mib));
            Started { vm, notes, _state: state }
        };
        for _ in 0..2 {
            let it = start();
            if !it.notes.contains("did not come up") {
                return it;
            }
            it.vm.stop().unwrap();
        }
        start()
    }

    /// The templates that there are.
    fn templates(&self) -> BTreeSet<PathBuf> {
        let names = fs::read_dir(self.0.path()).unwrap().flatten().map(|entry| entry.path());
        names.filter(|path| path.extension().is_some_and(|end| end == "state")).collect()
    }
}

/// A machine, and what was said of it.
struct Started {
    vm: Vm,
    notes: String,
    _state: tempfile::TempDir,
}

fn of_size(cache: &Path, state: &Path, mib: u64) -> VmSpec {
    VmSpec { memory_bytes: mib << 20, cache: cache.to_owned(), ..spec(state) }
}

fn started(spec: &VmSpec) -> (Vm, String) {
    let mut notes = String::new();
    let vm = Vm::boot(spec, &|| false, &mut |step| {
        if let Progress::Note(note) = step {
            notes.push_str(&note);
            notes.push('\n');
        }
    });
    (vm.unwrap(), notes)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Threat model, V10: "Machines that start from one template have random numbers of their own."
#[test]
fn two_machines_from_a_template_have_nothing_random_in_common() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.start(520);
    assert!(first.notes.contains(MADE) && !first.notes.contains(BOOTED), "{}", first.notes);
    let second = lab.start(520);
    assert!(!second.notes.contains(MADE) && !second.notes.contains(BOOTED), "{}", second.notes);
    assert_eq!(lab.templates().len(), 1);
    for line in [
        "head -c32 /dev/urandom | od -An -tx1",
        "head -c32 /dev/random | od -An -tx1",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /proc/sys/kernel/random/uuid",
        "cat /etc/machine-id",
        // Of getrandom(2).
        "mktemp -u XXXXXXXXXXXXXXXXXXXXXXXX",
        "bash -c 'echo $SRANDOM $SRANDOM'",
    ] {
        let [one, other] = [&first, &second].map(|machine| said(machine.vm.client(), line));
        assert_ne!(one, other, "{line}");
    }
    for machine in [first, second] {
        let host = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let guest: u64 = said(machine.vm.client(), "date +%s").parse().unwrap();
        assert!(host.abs_diff(guest) < 5, "host {host}, guest {guest}");
        machine.vm.stop().unwrap();
    }
}

#[test]
fn a_damaged_template_is_made_anew_and_one_that_starts_nothing_left_for_a_boot() {
    let Some(lab) = Lab::new() else { return };
    lab.start(520).vm.stop().unwrap();
    let path = lab.templates().pop_first().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).unwrap();
    let machine = lab.start(520);
    let notes = machine.notes;
    assert!(notes.contains("of no use, and made anew: it is damaged"), "{notes}");
    assert!(notes.contains(MADE) && !notes.contains(BOOTED), "{notes}");
    assert_eq!(said(machine.vm.client(), "cat src/a.txt"), "from the host");
    machine.vm.stop().unwrap();

    // A whole state, of a machine with other memory: QEMU refuses it.
    lab.start(528).vm.stop().unwrap();
    let other = lab.templates().into_iter().find(|other| *other != path).unwrap();
    fs::copy(other, &path).unwrap();
    let machine = lab.start(520);
    let notes = machine.notes;
    assert!(notes.contains("is booted: it does not start from its template"), "{notes}");
    assert_eq!(notes.matches("it does not start").count(), 1, "said once: {notes}");
    assert_eq!(said(machine.vm.client(), "cat src/a.txt"), "from the host");
    machine.vm.stop().unwrap();
    assert!(!path.exists(), "the next one makes it anew");
}

#[test]
fn two_starts_at_once_make_one_template() {
    let Some(lab) = Lab::new() else { return };
    let both = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| lab.start(520)));
        both.map(|one| one.join().unwrap())
    });
    let made = both.iter().filter(|machine| machine.notes.contains(MADE)).count();
    assert_eq!((made, lab.templates().len()), (1, 1), "{} and {}", both[0].notes, both[1].notes);
    for machine in both {
        assert!(!machine.notes.contains(BOOTED), "{}", machine.notes);
        said(machine.vm.client(), "touch x");
        machine.vm.stop().unwrap();
    }
}

/// Not a test by itself: what the next one starts, with a canary in its environment.
#[test]
fn frozen() {
    let Some(folder) = env::var_os(FROZEN) else { return };
    let folder = Path::new(&folder);
    let [_, repository, place, setup] = CANARIES;
    let mut spec = of_size(&folder.join("cache"), &folder.join("state"), 520);
    fs::write(spec.repository.join(repository), repository.repeat(1000)).unwrap();
    spec.folder = Path::new("/work").join(place);
    spec.setup = Some(setup.to_owned());
    let (vm, notes) = started(&spec);
    assert!(notes.contains(MADE), "{notes}");
    assert_eq!(said(vm.client(), "pwd; ls canary*"), format!("/work/{place}\n{repository}"));
    vm.stop().unwrap();
}

/// Threat model, V10: "Nothing of a thread is in a template, and nobody else can read one."
#[test]
fn nothing_of_a_thread_is_in_a_template() {
    let Some(lab) = Lab::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(lab.0.path(), folder.path().join("cache")).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "templates::frozen", "--nocapture"])
        .env(FROZEN, folder.path())
        .env("CANARY", CANARIES[0])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = lab.templates().pop_first().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let state = fs::read(path).unwrap();
    for canary in CANARIES {
        assert!(!has(&state, canary), "{canary}");
    }
    // Memory is in it as it is, so that they would have been found.
    assert!(has(&state, "stockade.channel") && has(&state, "tsc_early_khz="));
}
