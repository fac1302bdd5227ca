//! Real machines, booted under emulation (or KVM where that works), as root and as an ordinary
//! user.
//!
//! Needs QEMU, a kernel and mke2fs; without them the tests say so, and fail when
//! `STOCKADE_EXPECT` contains `vm`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod life;
mod templates;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use stockade_guest::{CallError, Client, End, Exec, Stream};
use stockade_vm::{BootError, Phase, Progress, Vm, VmSpec};

/// An id that no user of a development machine has.
const ORDINARY: u32 = 61_500;

/// That of who runs this.
fn cache() -> PathBuf {
    cache_of(rustix::process::geteuid().as_raw())
}

/// Shared by all tests of a user, those of the command line too: the image of a system takes a
/// while to be built, and as much of the disk as the system itself.
fn cache_of(uid: u32) -> PathBuf {
    let caches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/stories-cache");
    caches.join(uid.to_string()).join("stockade")
}

/// A machine with a small repository, and the folder that is its own.
struct Booted {
    vm: Vm,
    state: tempfile::TempDir,
    progress: Vec<Progress>,
}

fn spec(state: &Path) -> VmSpec {
    let repository = state.join("clone");
    fs::create_dir_all(repository.join("src")).unwrap();
    fs::write(repository.join("src/a.txt"), "from the host\n").unwrap();
    fs::write(state.join("canary-of-the-host"), "beside the clone\n").unwrap();
    VmSpec {
        cache: cache(),
        state: state.to_owned(),
        repository,
        folder: "/work/project".into(),
        is_root: false,
        toolchains: Vec::new(),
        program: Vec::new(),
        memory_bytes: 512 << 20,
        cpus: 1,
        disk_bytes: 1 << 30,
        setup: None,
        is_booted: false,
        accelerator: None,
        walls: None,
    }
}

fn boot() -> Option<Booted> {
    let state = tempfile::tempdir().unwrap();
    let mut progress = Vec::new();
    let booted = Vm::boot(&spec(state.path()), &|| false, &mut |step| progress.push(step));
    match booted {
        Ok(vm) => Some(Booted { vm, state, progress }),
        Err(error) => {
            is_skipped(&error);
            None
        }
    }
}

/// Whether `error` is about something that this machine lacks, and may lack.
fn is_skipped(error: &BootError) {
    let is_expected = env::var("STOCKADE_EXPECT").is_ok_and(|expected| expected.contains("vm"));
    let is_missing = matches!(error, BootError::NoQemu | BootError::NoGuest | BootError::Kernel(_));
    assert!(is_missing && !is_expected, "{error:?}, hint: {:?}", error.hint());
    let line = format!("skipped: microVMs: {error}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn run(client: &Client, line: &str) -> (End, String) {
    let exec = Exec { argv: ["sh", "-c", line].map(Into::into).into(), ..Exec::default() };
    let mut text = Vec::new();
    let keep = &mut |_: Stream, data: &[u8]| text.extend_from_slice(data);
    let outcome = client.exec(&exec, &|| false, keep).unwrap();
    (outcome.end, String::from_utf8(text).unwrap())
}

/// What a line says, which must succeed.
fn said(client: &Client, line: &str) -> String {
    let (end, text) = run(client, line);
    assert_eq!(end, End::Exited(0), "{line}: {text}");
    text.trim_end().to_owned()
}

fn of_host(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

/// Threat model, V1: "A machine's commands run on a kernel of its own; no network device is in
/// it."
/// Threat model, V2: "Nothing of homes, of the environment, of `/var` or of secrets in `/etc` is
/// in a machine; its repository is a copy."
#[test]
fn a_machine_has_a_kernel_of_its_own_and_nothing_of_the_host() {
    let Some(Booted { vm, state, progress }) = boot() else { return };
    let client = vm.client();
    phases_are_told(&progress, &vm);
    kernel_and_processes_are_its_own(client);
    there_is_no_network(client);
    nothing_personal_is_inside(client);
    commands_are_an_ordinary_users(client);
    the_repository_is_a_copy(client, state.path());
    vm.stop().unwrap();
    assert!(!state.path().join("repository.ext4").exists(), "its disk is gone");
}

fn phases_are_told(progress: &[Progress], vm: &Vm) {
    let finished: Vec<Phase> = progress
        .iter()
        .filter_map(|step| {
            let Progress::Finished(phase, took) = step else { return None };
            (!took.is_zero()).then_some(*phase)
        })
        .collect();
    assert_eq!(finished, [Phase::Image, Phase::Disk, Phase::Boot]);
    let said = progress.iter().any(|step| {
        matches!(step, Progress::Note(note) if note.contains("emulated in software, which is slow"))
    });
    assert_eq!(said, vm.chosen().why.is_some(), "{progress:?}");
}

fn kernel_and_processes_are_its_own(client: &Client) {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    assert_ne!(said(client, &format!("cat {BOOT_ID}")), of_host(BOOT_ID));
    let release = said(client, "uname -r");
    assert!(Path::new("/lib/modules").join(&release).is_dir(), "{release}");
    assert_eq!(said(client, "cat /proc/1/comm"), "init");
    assert_eq!(said(client, "uname -n"), "stockade");
    // The host's clock, which a machine does not have by itself.
    let host = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let guest: u64 = said(client, "date +%s").parse().unwrap();
    assert!(host.abs_diff(guest) < 20, "host {host}, guest {guest}");
}

fn there_is_no_network(client: &Client) {
    assert_eq!(said(client, "ls /sys/class/net"), "lo");
    assert_eq!(said(client, "tail -n +2 /proc/net/route"), "");
    // The loopback works: refused, not unreachable.
    let (_, text) = run(client, "bash -c ': < /dev/tcp/127.0.0.1/1'");
    assert!(text.contains("refused"), "{text}");
    let (end, text) = run(client, "bash -c ': < /dev/tcp/192.0.2.1/80'");
    assert!(end != End::Exited(0) && text.contains("unreachable"), "{text}");
}

fn nothing_personal_is_inside(client: &Client) {
    let names = said(client, "env | cut -d= -f1 | sort | tr '\\n' ' '");
    assert_eq!(names, "HOME LANG LOGNAME PATH PWD SHELL TERM USER");
    assert_eq!(said(client, "ls /home"), "agent");
    let empty = "find /root /mnt /var/lib /var/log /var/cache -mindepth 1 2>/dev/null";
    assert_eq!(run(client, empty).1, "");
    for path in ["/etc/shadow", "/etc/ssh", "/etc/ssl/private", "/etc/gitconfig", "/boot"] {
        assert_eq!(run(client, &format!("test -e {path}")).0, End::Exited(1), "{path}");
    }
    assert_eq!(run(client, "find / -xdev -name canary-of-the-host 2>/dev/null").1, "");
    let id = said(client, "cat /etc/machine-id");
    assert!(id.len() == 32 && u128::from_str_radix(&id, 16).is_ok(), "{id}");
    if let Ok(host) = fs::read_to_string("/etc/machine-id") {
        assert_ne!(
            run(client, "cat /etc/machine-id /var/lib/dbus/machine-id").1.trim(),
            host.trim()
        );
    }
}

fn commands_are_an_ordinary_users(client: &Client) {
    assert_ne!(said(client, "id -u"), "0");
    assert_eq!(said(client, "id -un"), "agent");
    assert_eq!(said(client, "grep CapEff /proc/self/status | cut -f2"), "0000000000000000");
    assert_eq!(said(client, "find /usr/bin /bin -perm /6000"), "", "set-id bits are left out");
    assert!(run(client, "cat /dev/vda").0 != End::Exited(0), "the disks are not its to read");
    // A terminal of its own can be had.
    assert_eq!(said(client, "script -qec 'tty' /dev/null | tr -d '\\r'"), "/dev/pts/0");
    // It may write what is its own, and the overlay keeps what the image cannot.
    said(client, "echo x > ~/file && echo y > /tmp/file && test -w /dev/shm");
    assert_ne!(run(client, "echo x > /usr/bin/x").0, End::Exited(0));
}

fn the_repository_is_a_copy(client: &Client, state: &Path) {
    assert_eq!(said(client, "pwd; ls -A"), "/work/project\nsrc");
    assert_eq!(client.read_file("src/a.txt".as_ref(), 100).unwrap(), b"from the host\n");
    client.write_file("src/a.txt".as_ref(), Some(b"from the guest\n")).unwrap();
    client.write_file("new/b.txt".as_ref(), Some(b"new\n")).unwrap();
    assert_eq!(said(client, "cat src/a.txt new/b.txt"), "from the guest\nnew");
    let found = client.search("guest", ".".as_ref(), 10).unwrap();
    assert_eq!(found.first().unwrap().path, Path::new("src/a.txt"));
    assert_eq!(of_host(state.join("clone/src/a.txt").to_str().unwrap()), "from the host");
    assert!(!state.join("clone/new").exists());
    let error = client.write_file("/usr/x".as_ref(), Some(b"x")).unwrap_err();
    assert!(matches!(error, CallError::Refused { errno: 13, .. }), "{error}");
    // Much through the channel, both ways, and whole.
    let much: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    client.write_file("much".as_ref(), Some(&much)).unwrap();
    assert!(client.read_file("much".as_ref(), u64::MAX).unwrap() == much);
}

/// The tests above again, as somebody who is not root.
#[test]
fn an_ordinary_user_boots_one_as_well() {
    if !rustix::process::geteuid().is_root() {
        // Then they are that already.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_of(ORDINARY);
    fs::create_dir_all(&cache).unwrap();
    for path in [folder.path(), &cache] {
        std::os::unix::fs::chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
    }
    let id = ORDINARY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_machine_has_a_kernel_of_its_own_and_nothing_of_the_host")
        .env("TMPDIR", folder.path())
        .env("SECRET_OF_THE_HOST", "canary")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // What it had to leave out is left out here, and told.
    for line in text.lines().filter(|line| line.starts_with("skipped:")) {
        std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}
