//! What a cloud thread's machine is, and how such a thread ends or does not begin.
//!
//! Needs QEMU, a kernel and mke2fs; without them the tests say so, and fail when
//! `STOCKADE_EXPECT` contains `vm`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output};
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

fn nobody() -> FakeModel {
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
                ls /sys/class/net; cat /proc/net/route | wc -l; echo ==; id -u; cat src/a.txt; \
                git log --format=%s; ls -A; exit 7";
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
    assert_ne!(rest.lines().next(), Some("0"), "an ordinary user");
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

#[test]
fn a_machine_that_is_lost_fails_its_thread() {
    if !is_there() {
        return;
    }
    let place = small();
    let words = ["cloud", "--json", "--", "sh", "-c", "echo two > src/a.txt; sleep 600"];
    let mut child = place.start(&nobody(), &words);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut lines = lines.skip_while(|line| !line.contains("command.started"));
    assert!(lines.next().is_some());
    kill_machine(child.id());
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["exit"]), (&json!("failed"), &json!(1)), "{last}");
    assert!(last["summary"].as_str().unwrap().contains("the place is gone"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Kills the QEMU that is a grandchild of `timeout`, process `id`.
fn kill_machine(id: u32) {
    let children = |id: u32| {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap());
        let lists: String = lists.collect();
        lists.split_whitespace().map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let stockade = children(id)[0];
    let is_machine = |id: &u32| {
        fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|it| it.contains("microvm"))
    };
    let machine = children(stockade).into_iter().find(is_machine).unwrap();
    let killed = Command::new("kill").args(["-KILL", &machine.to_string()]).status().unwrap();
    assert!(killed.success());
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
    let cases: [(&[&str], &str); 16] = [
        (&["-C", &plain, "--", "true"], "is not in a git repository"),
        (&["-C", &empty, "--", "true"], "has no commit"),
        (&["-C", &bare, "--", "true"], "is a bare repository"),
        (&["-C", "new", "--", "true"], "new` is not committed"),
        (&[], "needs a task or a command"),
        (&["x", "--", "true"], "either a task or a command"),
        (&["  "], "the prompt is empty"),
        (&["--agent", "codex", "x"], "not yet: `--agent codex`"),
        (&["--attempts", "0", "x"], "`--attempts` takes a number"),
        (&["--attempts", "2", "--", "true"], "`--attempts` is for a task"),
        (&["--hide", "x", "x"], "`--hide` says nothing"),
        (&["--add-dir", "/tmp", "x"], "`--add-dir` says nothing"),
        (&["-c", "cloud.setup_network=[]", "x"], "not yet"),
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
