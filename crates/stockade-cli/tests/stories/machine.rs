//! What a cloud thread's machine is, and how such a thread ends or does not begin.
//!
//! Needs QEMU, a kernel and mke2fs; without them the tests say so, and fail when
//! `STOCKADE_EXPECT` contains `vm`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, users};

/// Whether machines can be started here.
pub(crate) fn is_there() -> bool {
    let has = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .iter()
            .any(|at| Path::new(at).join(name).exists())
    };
    let kernels = fs::read_dir("/lib/modules").into_iter().flatten().flatten();
    let has_kernel = kernels.into_iter().any(|entry| {
        let image = format!("vmlinuz-{}", entry.file_name().display());
        let images = [Path::new("/boot").join(image), entry.path().join("vmlinuz")];
        entry.path().join("modules.dep").exists() && images.iter().any(|image| image.exists())
    });
    if has("qemu-system-x86_64") && has("mke2fs") && has_kernel {
        return true;
    }
    let is_expected = env::var("STOCKADE_EXPECT").is_ok_and(|expected| expected.contains("vm"));
    assert!(!is_expected, "QEMU, a kernel or mke2fs is missing");
    let line = "skipped: cloud threads: QEMU, a kernel or mke2fs is missing\n";
    // Past the harness, which swallows what a passing test prints.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

/// A committed project with a single file.
pub(crate) fn small() -> Place {
    let fill = |work: &Path| {
        fs::create_dir_all(work.join("src")).unwrap();
        fs::write(work.join("src/a.txt"), "one\n").unwrap();
        fs::write(work.join(".gitignore"), ".env\nnode_modules/\nignored*\n").unwrap();
    };
    let place = Place::with(*users().last().unwrap(), fill);
    place.commit();
    place
}

pub(crate) fn nobody() -> FakeModel {
    FakeModel::start(vec![Step::say("not asked")]).unwrap()
}

/// `stockade cloud OPTIONS -- sh -c LINE`.
pub(crate) fn cloud(place: &Place, options: &[&str], line: &str) -> Output {
    let words = [&["cloud"], options, &["--", "sh", "-c", line]].concat();
    place.stockade(&nobody(), &words)
}

/// The latest thread as `threads show` tells it.
pub(crate) fn shown(place: &Place) -> Value {
    let shown = place.stockade(&nobody(), &["threads", "show", "--json", "last"]);
    serde_json::from_slice(&shown.stdout).unwrap()
}

/// `doctor --vm` starts a machine under whatever works, and says which.
#[test]
fn doctor_boots_and_says_which_accelerator_works() {
    if !is_there() {
        return;
    }
    let place = small();
    let output = place.stockade(&nobody(), &["doctor", "--vm", "--json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| rows.iter().find(|row| row["name"] == name);
    let booted = |name| of(name).is_some_and(|row| row["works"] == true);
    assert!(booted("kvm") || booted("emulation"), "{}", text(&output));
    assert_eq!(booted("kvm"), of("emulation").is_none(), "{}", text(&output));
    assert!(of("machine-space").is_some(), "{}", text(&output));
    let one = ["kvm", "emulation"].into_iter().find(|name| booted(name)).unwrap();
    assert!(of(one).unwrap()["detail"].as_str().unwrap().contains("started in"), "{rows:?}");
}

/// Threat model, V2: "Nothing of homes, of the environment, of `/var` or of secrets in `/etc` is in
/// a machine; its repository is a copy."
#[test]
fn a_machine_has_its_own_kernel_and_processes_and_nothing_of_the_users() {
    if !is_there() {
        return;
    }
    let place = small();
    let before = place.files();
    let line = "uname -n; echo == ; ls -A /proc | grep -c '^[0-9]'; echo ==; env; echo ==; \
                ls -A /home /home/* /root /var/lib; cat ~/.ssh/id_ed25519 2>&1; echo ==; \
                ls /sys/class/net; cat /proc/net/route | wc -l; echo ==; git diff-files; id -u; \
                cat src/a.txt; git log --format=%s; ls -A; exit 7";
    let output = cloud(&place, &["-c", "cloud.memory=\"768M\"", "-c", "cloud.cpus=1"], line);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    let parts: Vec<&str> = said.split("==\n").collect();
    let [name, processes, variables, homes, network, rest] = parts.as_slice() else {
        panic!("{said}")
    };
    assert_eq!(name.trim(), "stockade");
    assert!(processes.trim().parse::<u32>().unwrap() < 100, "{processes}");
    let place_of_test = place.home().display().to_string();
    for hidden in [place_of_test.as_str(), "XDG_", "PYTHONDONTWRITEBYTECODE", "EST5", "TOPSECRET"] {
        assert!(!said.contains(hidden), "{hidden}: {said}");
    }
    assert!(variables.contains("HOME=/home/") && variables.contains("PATH="), "{variables}");
    assert!(homes.contains("No such file") && !homes.contains("notes.txt"), "{homes}");
    // Loopback alone, and only the head of the table of routes.
    assert_eq!(*network, "lo\n1\n");
    assert!(rest.contains("one\nstart\n") && rest.ends_with(".git\n.gitignore\nsrc\n"), "{rest}");
    // No file of the clone has to be read again: `diff-files` would name it. And no root.
    let user = rest.lines().next().unwrap();
    assert!(user != "0" && user.parse::<u32>().is_ok(), "{rest}");
    let shown = shown(&place);
    assert_eq!((&shown["state"], &shown["changes"]), (&json!("failed"), &json!(0)), "{shown}");
    assert!(before == place.files(), "{}", text(&output));
    assert!(text(&output).contains("emulated") || text(&output).contains("KVM"));
}

#[test]
fn rules_hold_in_a_machine_and_the_result_of_an_interrupted_thread_is_kept() {
    if !is_there() {
        return;
    }
    let place = small();
    let shell = |line: &str| Step::Shell(line.to_owned());
    let script = vec![
        shell("docker ps"),
        shell("cargo fetch"),
        shell(
            "echo two > src/a.txt; git -c user.name=x -c user.email=x commit -qam 'in the clone'; echo three >> src/a.txt",
        ),
        shell("sleep 600"),
    ];
    let model = FakeModel::start(script).unwrap();
    let mut child = place.start(&model, &["cloud", "--json", "x"]);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let denied = |event: &Value| event["type"] == "denial";
    for rule in ["config.toml:17", "config.toml:11"] {
        let Some(denial) = events.find(denied) else {
            panic!("{rule}: {}", text(&child.wait_with_output().unwrap()))
        };
        assert!(denial["decided_by"].as_str().unwrap().contains(rule), "{denial}");
    }
    assert!(events.any(|event| event["type"] == "command.finished"));
    assert!(events.any(|event| event["type"] == "command.started"));
    // timeout(1) passes it on.
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let events: Vec<Value> = events.collect();
    let last = events.last().unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("interrupted"), &json!(130)), "{last}");
    let changes = events.iter().find(|event| event["type"] == "changes").unwrap();
    assert_eq!(changes["files"], 1, "what was done until then: {changes}");
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{error}");
    branch_of(&place);
}

/// The commit of the machine and what was not committed there, as a branch.
fn branch_of(place: &Place) {
    let who = "[user]\nname = Tester\nemail = t@example.org\n";
    fs::write(place.home().join(".gitconfig"), who).unwrap();
    let made = place.stockade(&nobody(), &["threads", "branch", "last", "results"]);
    assert!(made.status.success(), "{}", text(&made));
    let words = ["-c", "safe.directory=*", "log", "-p", "--format=%s by %ae", "results"];
    let log = Command::new("git").args(words).current_dir(place.work()).output().unwrap();
    let log = text(&log);
    for words in ["in the clone by t@example.org", "+two", "x by t@example.org", "+three", "start"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
}

/// Starts a thread whose command changes a file and waits, until it does so.
fn waiting(place: &Place) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    let line = "echo two > src/a.txt; echo changed; sleep 600";
    let mut child = place.start(&nobody(), &["cloud", "--json", "--", "sh", "-c", line]);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut lines = lines.skip_while(|line| !line.contains("command.started"));
    assert!(lines.next().is_some(), "it runs");
    (child, lines)
}

/// Threat model, V6: "QEMU runs behind the walls of any command: it writes the disk of its machine
/// and nothing else, reads nothing of homes and of the workspace, and has no network."
#[test]
fn a_machine_that_is_lost_fails_its_thread_and_was_behind_walls() {
    if !is_there() {
        return;
    }
    let place = small();
    let (mut child, lines) = waiting(&place);
    let machine = machine_of(child.id());
    behind_walls(&place, machine);
    kill(machine);
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("failed"), &json!(1)), "{last}");
    assert!(last["summary"].as_str().unwrap().contains("the place is gone"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Looks at QEMU from outside, with this very process as the control.
fn behind_walls(place: &Place, machine: u32) {
    if fs::read_to_string(format!("/proc/{machine}/cmdline")).unwrap().contains("-accel\0kvm") {
        // Said when it starts; the device is not behind walls.
        return;
    }
    let status = |id: &str| fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let inside = status(&machine.to_string());
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
        assert!(inside.contains(line), "{line}: {inside}");
    }
    let seen = |id: &str, path: &Path| {
        let root = PathBuf::from(format!("/proc/{id}/root"));
        root.join(path.strip_prefix("/").unwrap())
    };
    let own = std::process::id().to_string();
    for secret in [place.home().join(".ssh/id_ed25519"), place.work().join("src/a.txt")] {
        assert!(fs::read(seen(&own, &secret)).is_ok_and(|text| !text.is_empty()), "the control");
        let read = fs::read(seen(&machine.to_string(), &secret));
        assert!(read.is_err(), "{}: {read:?}", secret.display());
    }
    let devices = fs::read_to_string(format!("/proc/{machine}/net/dev")).unwrap();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), 1, "{devices}");
    let mounts = fs::read_to_string(format!("/proc/{machine}/mountinfo")).unwrap();
    let is_writable = |line: &&str| {
        let options = line.split(' ').nth(5).unwrap_or_default();
        options.split(',').any(|option| option == "rw")
    };
    let points = mounts.lines().filter(is_writable).map(|line| line.split(' ').nth(4).unwrap());
    let private = ["/tmp", "/var/tmp", "/dev", "/run", "/proc"];
    let of_host = |point: &&str| !private.iter().any(|at| point.starts_with(at));
    let writable: Vec<&str> = points.filter(of_host).collect();
    assert!(
        matches!(writable.as_slice(), [disk] if disk.ends_with("machine/repository.ext4")),
        "{writable:?}"
    );
}

/// Threat model, V3: "A machine ends with its owner: stopped, dropped or killed."
#[test]
fn a_killed_stockade_leaves_nothing_and_its_thread_goes_on() {
    if !is_there() {
        return;
    }
    let place = small();
    let (mut child, lines) = waiting(&place);
    let machine = machine_of(child.id());
    let stockade = children(child.id())[0];
    kill(stockade);
    drop(lines);
    child.wait().unwrap();
    let began = std::time::Instant::now();
    while Path::new(&format!("/proc/{machine}/exe")).exists() {
        assert!(began.elapsed().as_secs() < 30, "QEMU outlives Stockade");
        std::thread::yield_now();
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.home().to_str().unwrap()), "{mounts}");
    assert_eq!(shown(&place)["state"], "interrupted");

    // With the only place there is, which the killed one held.
    let model = FakeModel::start(vec![Step::Shell("cat src/a.txt".to_owned()), Step::say("done")]);
    let model = model.unwrap();
    let words = ["threads", "resume", "-c", "cloud.parallel=1", "last", "look again"];
    let resumed = place.stockade(&model, &words);
    assert!(resumed.status.success(), "{}", text(&resumed));
    let told = crate::place::told(&model);
    assert!(told[0].contains("one") && !told[0].contains("two"), "from the base: {}", told[0]);
    assert_eq!(shown(&place)["state"], "completed");
    let id = shown(&place)["id"].as_str().unwrap().to_owned();
    let folder = place.home().join(".local/state/stockade/threads").join(id);
    assert!(!folder.join("machine").exists(), "what the killed one left is gone");
}

fn children(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: String = lists.collect();
    lists.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// The QEMU that descends from process `id`.
fn machine_of(id: u32) -> u32 {
    let is_machine = |id: u32| {
        fs::read_to_string(format!("/proc/{id}/status"))
            .is_ok_and(|it| it.starts_with("Name:\tqemu"))
    };
    let (mut open, mut found) = (vec![id], Vec::new());
    while let Some(id) = open.pop() {
        open.extend(children(id));
        found.extend(is_machine(id).then_some(id));
    }
    assert_eq!(found.len(), 1, "one QEMU");
    found[0]
}

fn kill(id: u32) {
    let killed = Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// A pipe is a command's standard input in a machine as well.
#[test]
fn a_command_in_a_machine_reads_what_is_piped_to_it() {
    if !is_there() {
        return;
    }
    let place = small();
    let input = "one\n".repeat(100_000);
    let line = "wc -l; cat > src/rest; touch ignored-1";
    let mut command = place.command(&nobody(), &["cloud", "--", "sh", "-c", line]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100000\n", "{}", text(&output));
    assert!(text(&output).contains("not in the diff: ignored files, 1 of them"));
}

#[test]
fn what_cannot_begin_says_why_and_nothing_has_run() {
    let place = small();
    // Outside every repository, that of these tests included.
    let outside = tempfile::tempdir().unwrap();
    let words = "mkdir plain && git init -q empty && git init -q --bare bare.git && \
                 chmod 755 . && chown -R --reference=\"$0\" .";
    let mut make = Command::new("sh");
    make.args(["-c", words]).arg(place.work()).current_dir(&outside);
    assert!(make.status().unwrap().success());
    let at = |name: &str| outside.path().join(name).display().to_string();
    let (plain, empty, bare) = (at("plain"), at("empty"), at("bare.git"));
    fs::create_dir(place.work().join("new")).unwrap();
    let deny = "network.deny=[\"api.example.org\"]";
    let at = "model.base_url=\"https://api.example.org/v1\"";
    let cases: [(&[&str], &str); 19] = [
        (&["-C", &plain, "--", "true"], "is not in a git repository"),
        (&["-C", &empty, "--", "true"], "has no commit"),
        (&["-C", &bare, "--", "true"], "is a bare repository"),
        (&["-C", "new", "--", "true"], "new` is not committed"),
        (&[], "needs a task or a command"),
        (&["x", "--", "true"], "either a task or a command"),
        (&["  "], "the prompt is empty"),
        (&["--agent", "codex", "x"], "`codex` is not installed"),
        (&["--agent", "codex", "--", "true"], "`--agent` is for a task"),
        (&["--agent", "aider", "x"], "`aider` in a machine needs a model to be configured"),
        (&["-c", deny, "-c", at, "--agent", "codex", "x"], "which is denied"),
        (&["--attempts", "0", "x"], "`--attempts` takes a number"),
        (&["--attempts", "2", "--", "true"], "`--attempts` is for a task"),
        (&["--hide", "x", "x"], "`--hide` says nothing"),
        (&["--add-dir", "/tmp", "x"], "`--add-dir` says nothing"),
        (&["-c", "cloud.setup_network=['a b']", "x"], "not a host"),
        (&["-c", "cloud.checks=[1]", "x"], "cloud.checks"),
        (&["-c", "cloud.memory=\"much\"", "x"], "cloud.memory"),
        (&["--no-such-flag", "x"], "--no-such-flag"),
    ];
    let model = nobody();
    for (arguments, words) in cases {
        let output = place.stockade(&model, &[&["cloud"], arguments].concat());
        let text = text(&output);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    assert_eq!(model.requests().len(), 0);
    let listed = place.stockade(&model, &["threads", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    // Only a clone shows what is not in it.
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn what_the_machine_lacks_is_named_with_its_remedy() {
    if !is_there() {
        return;
    }
    let place = small();
    let model = nobody();
    let many = ["cloud", "-c", "cloud.memory=\"9000G\"", "--", "true"];
    let output = place.stockade(&model, &many);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("MiB are free") && said.contains("`[cloud] memory`"), "{said}");
    assert_eq!(shown(&place)["state"], "failed");

    // In a mount namespace of its own the tool is not there.
    let masks = [
        ("mount --bind /dev/null /usr/bin/qemu-system-x86_64", "sudo apt install qemu-system-x86"),
        ("mount -t tmpfs none /lib/modules", "sudo apt install linux-image-cloud-amd64"),
    ];
    for (mask, remedy) in masks {
        let command = place.command(&model, &["cloud", "--", "true"]);
        let words: Vec<_> = command.get_args().collect();
        let at = words.iter().position(|word| *word == env!("CARGO_BIN_EXE_stockade")).unwrap();
        let mut masked = Command::new(command.get_program());
        masked.args(&words[..at]).args(["unshare", "--map-root-user", "--mount", "sh", "-c"]);
        masked.arg(format!("{mask} && exec \"$@\"")).arg("sh").args(&words[at..]);
        masked.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = masked.current_dir(place.work()).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains(remedy), "{said}");
    }
}

/// A status of 137 and a result that is not there say nothing of why.
#[test]
fn limits_of_a_machine_that_were_met_are_named_with_their_keys() {
    if !is_there() {
        return;
    }
    let place = small();
    let sizes = ["-c", "cloud.memory=\"256M\"", "-c", "cloud.disk=\"64M\"", "-c", "cloud.cpus=1"];
    let words = ["memory was used up", "disk is full"];
    let well = cloud(&place, &sizes, "true");
    assert!(well.status.success(), "{}", text(&well));
    assert!(words.iter().all(|words| !text(&well).contains(words)), "{}", text(&well));
    let line = "head -c 99999999 /dev/zero > src/big; exec python3 -c '\nall = []\n\
                while True: all.append(b\"x\" * (1 << 20))'";
    let output = cloud(&place, &sizes, line);
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("memory was used up") && said.contains("256 MiB by `[cloud] memory`"),
        "{said}"
    );
    assert!(said.contains("disk is full: 64 MiB by `[cloud] disk`"), "{said}");
}
