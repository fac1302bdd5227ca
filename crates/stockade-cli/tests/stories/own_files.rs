//! `stockade run --vm`: a command in a machine, on the user's own files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, thread};

use serde_json::Value;

use crate::machine::{is_there, nobody, shown};
use crate::machine_terminal::resize_and_interrupt;
use crate::place::{Place, text, users};
use crate::tmux::Tmux;

/// A project with work that is not committed, and dependencies that are ignored.
fn project(uid: u32) -> Place {
    let fill = |work: &Path| {
        fs::create_dir_all(work.join("src")).unwrap();
        fs::create_dir_all(work.join("tests")).unwrap();
        fs::write(work.join("src/a.txt"), "one\n").unwrap();
        fs::write(work.join("src/gone.txt"), "gone\n").unwrap();
        fs::write(work.join("src/secret.txt"), "TOPSECRET\n").unwrap();
        fs::write(work.join(".gitignore"), "node_modules/\n").unwrap();
    };
    let place = Place::with(uid, fill);
    place.commit();
    fs::write(place.work().join("src/a.txt"), "two\n").unwrap();
    place
}

/// `stockade run OPTIONS --vm -- sh -c LINE` with `input`.
fn run(place: &Place, options: &[&str], line: &str, input: &[u8]) -> Output {
    let words = [&["run", "--vm"], options, &["--", "sh", "-c", line]].concat();
    let mut command = place.command(&nobody(), &words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // Who reads none of it ends all the same.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    })
}

type Files = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn changed(before: &Files, after: &Files) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut names: Vec<_> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    names.dedup();
    let mut names: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
    names.sort();
    names.dedup();
    names
}

/// Threat model, V8: "A command in a machine on the user's own files changes those that it could change
/// without the machine, at its end, and no others; what is replaced can be taken back."
#[test]
fn a_command_in_a_machine_changes_what_it_could_without_one_and_that_is_taken_back() {
    if !is_there() {
        return;
    }
    for uid in users() {
        let place = project(uid);
        let before = place.files();
        let line = "cat; cat src/a.txt node_modules/left-pad/index.js .env; pwd; echo loud >&2; \
                    printf 'A\\033[2J' >&2; ls -A src ~; cat src/secret.txt 2>&1; \
                    ls /sys/class/net; echo three > src/a.txt; rm src/gone.txt; mkdir -p src/x/y; \
                    printf '\\000\\377' > src/x/y/bin; chmod +x src/x/y/bin; \
                    echo MORE=1 >> .env; echo '{}' > .mcp.json; \
                    ln -s /etc/passwd src/out; ln -s a.txt src/in; mkdir -p src/b/objects src/b/refs; echo x > src/b/objects/x; echo x > src/b/refs/x; echo 'ref: refs/heads/m' > src/b/HEAD; echo '[core]' > src/b/config; \
                    mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch ~/hooked\\n' > .git/hooks/pre-commit; \
                    chmod +x .git/hooks/pre-commit; git config core.fsmonitor 'touch ~/monitored'; \
                    test \"$SETTING\" = given && exit 9";
        let all = "sandbox_workspace_write.writable_roots=[]";
        let options = ["-c", all, "--hide", "src/secret.txt", "--env", "SETTING=given"];
        let input = b"\0\xff\r\n\x1b[1m";
        let output = run(&place, &options, line, input);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(9), "{uid}: {told}");
        let mut answer = input.to_vec();
        answer.extend_from_slice(b"two\nmodule.exports = 1\nSETTING=1\n");
        answer.extend_from_slice(format!("{}\n", place.work().display()).as_bytes());
        assert!(output.stdout.starts_with(&answer), "{told}");
        let rest = String::from_utf8_lossy(output.stdout.get(answer.len()..).unwrap()).into_owned();
        let listed = "/home/agent:\n\nsrc:\na.txt\ngone.txt\ncat: src/secret.txt: No such file";
        assert!(rest.starts_with(listed) && rest.ends_with("\nlo\n"), "{rest}");
        let error = &output.stderr;
        assert!(error.windows(10).any(|part| part == b"loud\nA\x1b[2J"), "as it came: {told}");
        for left in [".env: it is protected", ".mcp.json: it is protected"] {
            assert!(told.contains(&format!("not written back: {left}")), "{left}: {told}");
        }
        assert!(told.contains("not written back: src/out: held (symlink-out)"), "{told}");
        // What went in and is ignored is missed by nobody.
        assert!(!told.contains("ignored files"), "{told}");
        for name in ["src/b/HEAD", "src/b/config"] {
            let words = format!("not written back: {name}: held (repository)");
            assert!(told.contains(&words), "{told}");
        }
        let names = [
            "src/a.txt",
            "src/b/objects/x",
            "src/b/refs/x",
            "src/gone.txt",
            "src/in",
            "src/x/y/bin",
        ];
        let names: Vec<String> = names.iter().map(|name| format!("project/{name}")).collect();
        assert_eq!(changed(&before, &place.files()), names, "{uid}: {told}");
        let data = fs::read(place.work().join("src/x/y/bin")).unwrap();
        assert_eq!(data, b"\0\xff");
        let shown = shown(&place);
        assert_eq!((&shown["kind"], &shown["state"]), (&"run".into(), &"failed".into()), "{shown}");
        let undone = place.stockade(&nobody(), &["undo"]);
        assert!(undone.status.success(), "{}", text(&undone));
        assert_eq!(changed(&before, &place.files()), Vec::<String>::new(), "{}", text(&undone));
        let redone = place.stockade(&nobody(), &["undo", "--redo"]);
        assert!(redone.status.success(), "{}", text(&redone));
        assert_eq!(changed(&before, &place.files()), names, "{}", text(&redone));
    }
}

/// A folder without a repository, what a person did meanwhile, and an end before the end.
#[test]
fn what_others_changed_meanwhile_stays_and_a_run_that_is_ended_keeps_what_it_did() {
    if !is_there() {
        return;
    }
    let place = project(*users().last().unwrap());
    let work = place.work();
    fs::remove_dir_all(work.join(".git")).unwrap();
    let line = "echo ready; cat > /dev/null; echo theirs > src/a.txt; echo new > tests/new; \
                echo done; sleep 600";
    let words = ["run", "-q", "--vm", "--", "sh", "-c", line];
    let mut command = place.command(&nobody(), &words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = [0; 6];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    if read.is_err() {
        drop(child.stdin.take());
    }
    fs::write(work.join("src/a.txt"), "mine\n").unwrap();
    drop(child.stdin.take());
    let mut done = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
    // timeout(1) passes it on.
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let told = text(&output);
    assert_eq!((&ready, &done), (b"ready\n", b"done\n"), "{told}");
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("not written back: src/a.txt: both changed the same lines"), "{told}");
    assert_eq!(fs::read_to_string(work.join("src/a.txt")).unwrap(), "mine\n");
    assert_eq!(fs::read_to_string(work.join("tests/new")).unwrap(), "new\n");
    assert!(!work.join(".git").exists(), "no repository comes of it");
    let draft = run(&place, &["-q", "--draft"], "echo draft > tests/draft", b"");
    assert!(draft.status.success() && !work.join("tests/draft").exists(), "{}", text(&draft));
    let applied = place.stockade(&nobody(), &["threads", "apply"]);
    assert!(applied.status.success() && work.join("tests/draft").exists(), "{}", text(&applied));
    let narrow = "echo x > top; echo x > src/b; kill -15 $$";
    let narrow = run(&place, &["-q"], narrow, b"");
    assert_eq!(narrow.status.code(), Some(143), "{}", text(&narrow));
    let why = "not written back: top: it is outside the writable roots";
    assert!(text(&narrow).contains(why) && work.join("src/b").exists(), "{}", text(&narrow));
    let narrow = run(&place, &["-q", "-s", "read-only"], "echo x > tests/x; kill -9 $$", b"");
    assert_eq!(narrow.status.code(), Some(137), "{}", text(&narrow));
    assert!(text(&narrow).contains("tests/x: the mode is read-only"), "{}", text(&narrow));
    assert!(!work.join("tests/x").exists());
}

/// What containers are made of, for who asks for it: root of the machine, and of nothing else.
#[test]
fn root_of_a_machine_has_what_containers_are_made_of() {
    if !is_there() {
        return;
    }
    let place = project(*users().last().unwrap());
    let line = "set -e; git diff-files; id -u; ls /sys/fs/cgroup/cgroup.controllers; \
                mkdir /sys/fs/cgroup/one; modprobe nf_tables; grep -o '^nf_tables' /proc/modules; git log -1 --format=%s; \
                ip link add one type bridge; ip link add two type veth peer name three; \
                mkdir -p /run/lower /run/upper /run/work /run/merged; echo low > /run/lower/f; \
                mount -t overlay o -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work \
                /run/merged; unshare --mount --pid --fork --net --uts --ipc --cgroup sh -c \
                'hostname inner; cat /run/merged/f; echo $$'; echo root > src/root.txt; ls /sys/class/net";
    let words = ["run", "-q", "--vm=root", "--", "sh", "-c", line];
    let output = place.stockade(&nobody(), &words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        said.lines().collect::<Vec<_>>().join(" "),
        "0 /sys/fs/cgroup/cgroup.controllers nf_tables Work that was not committed when the thread began low 1 lo one three two",
        "{said}"
    );
    assert_eq!(fs::read_to_string(place.work().join("src/root.txt")).unwrap(), "root\n");
    let listed: Value = shown(&place);
    assert_eq!(listed["state"], "completed", "{listed}");
    // Without asking for it nobody is.
    let plain =
        run(&place, &["-q"], "id -u; ip link add one type bridge 2>/dev/null || echo refused", b"");
    let said = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(!said.starts_with("0\n") && said.ends_with("refused\n"), "{}", text(&plain));
}

#[test]
fn a_command_on_own_files_in_a_machine_has_a_terminal_of_its_size() {
    let (true, Some(tmux)) = (is_there(), Tmux::new()) else { return };
    let place = project(*users().last().unwrap());
    tmux.start(&place.command(&nobody(), &["run", "--vm", "--", "bash", "--norc"]));
    let kind = |text: &str| drop(tmux.run(&["send-keys", text, "Enter"]));
    let see = |text: &str| tmux.screen_within(280, text);
    see("bash-");
    kind("stty size; echo three > src/a.txt; echo $TERM $(tty) $(id -un)");
    let screen = see("/dev/pts/0 agent");
    assert!(screen.contains("60 80"), "{screen}");
    resize_and_interrupt(&tmux);
    kind("echo status=$?; exit 5");
    let screen = see("STATUS 5");
    assert!(screen.contains("status=130") && screen.contains("1 file changed"), "{screen}");
    assert_eq!(fs::read_to_string(place.work().join("src/a.txt")).unwrap(), "three\n");
}

/// In a container whose root is one id of an ordinary user's, there is nobody to give files to.
#[test]
fn root_of_a_user_namespace_with_one_id_has_a_machine_whose_user_owns_its_files() {
    if !is_there() {
        return;
    }
    let place = project(*users().last().unwrap());
    let line = "id -un; echo three > src/a.txt; git status --short";
    let plain = place.command(&nobody(), &["cloud", "-q", "--", "sh", "-c", line]);
    let mut words: Vec<OsString> = plain.get_args().map(OsStr::to_owned).collect();
    let at = words.iter().position(|word| word == env!("CARGO_BIN_EXE_stockade")).unwrap();
    words.splice(at..at, ["unshare", "--user", "--map-root-user"].map(OsString::from));
    let mut command = Command::new(plain.get_program());
    command.args(words).env_clear().current_dir(place.work()).stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(output.stdout, b"agent\n M src/a.txt\n", "{}", text(&output));
}
