//! Records of threads when the disk is full, when their process is killed, and when there are
//! several at once: what was told is there.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, users};

fn shell(line: &str) -> Step {
    Step::Shell(line.to_owned())
}

fn place() -> Place {
    Place::new(*users().last().unwrap())
}

/// Words for a shell that does what `command` would.
fn quoted(command: &Command) -> String {
    let quoted =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// The disk is full before the thread is at its end, and has room again.
const FULL: &str = r#"
    head -c 700000 /dev/zero > "$state/filler"
    LOCAL > out 2> err; echo $? > status
    cp "$state"/threads/*/events.jsonl record
    LIST > list 2>&1 || echo no list; VERIFY > verified 2>&1 || echo no verify
    rm "$state/filler"
    RESUME > resumed 2>&1 || echo no resume; VERIFY > again 2>&1 || echo no second verify
    LIST > list-again 2>&1
"#;

/// Runs `script` with a file system of its own of 1 MiB for the store of `place`; words in it stand
/// for `commands`.
fn on_a_small_disk(place: &Place, script: &str, commands: &[(&str, &Command)]) {
    let mount = r#"set -e; state=$HOME/.local/state/stockade; mkdir -p "$state"
        mount -t tmpfs -o size=1m,mode=1777 small "$state"; set +e"#;
    let mut script = format!("{mount}\n{script}");
    for (word, command) in commands {
        script = script.replace(word, &quoted(command));
    }
    let (_, first) = commands[0];
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    command.current_dir(place.work()).env_clear();
    command.envs(first.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
}

#[test]
fn a_full_disk_ends_a_thread_aloud_and_nothing_that_was_told_is_lost() {
    let place = Place::new(users()[0]);
    let many = vec![shell("touch src/on; head -c 20000 /dev/zero | tr '\\0' x; echo"); 60];
    let model = FakeModel::start(many).unwrap();
    let next = FakeModel::start(vec![shell("touch src/later"), Step::say("Went on.")]).unwrap();
    let commands = [
        ("LOCAL", &place.command(&model, &["local", "--json", "fill it"])),
        ("RESUME", &place.command(&next, &["threads", "resume", "last", "go on"])),
        ("VERIFY", &place.command(&model, &["log", "--verify"])),
        ("LIST", &place.command(&model, &["threads", "list", "--json"])),
    ];
    on_a_small_disk(&place, FULL, &commands);
    let read = |name: &str| fs::read_to_string(place.work().join(name)).unwrap();
    let (out, record) = (read("out"), read("record"));
    assert!(out.len() > 50_000, "the control, it began to work: {}", read("err"));
    assert!(record.starts_with(&out), "what was printed is in the record");
    assert_ne!(read("status").trim(), "0", "{}", read("err"));
    assert!(read("err").contains("No space left on device"), "{}", read("err"));
    assert!(read("verified").contains("records fit together"), "{}", read("verified"));
    let listed: Value = serde_json::from_str(&read("list")).unwrap();
    assert_eq!(listed[0]["title"], "fill it");
    assert!(read("resumed").contains("Went on."), "{}", read("resumed"));
    assert!(place.work().join("src/later").exists());
    assert!(read("again").contains("records fit together"), "{}", read("again"));
    let listed: Value = serde_json::from_str(&read("list-again")).unwrap();
    assert_eq!(listed[0]["state"], "completed");
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

/// What a writer that was killed has left of a line cannot be put aside for now.
const TORN: &str = r#"
    LOCAL > out 2>&1; folder=$(echo "$state"/threads/*/); ls "$folder" > before
    head -c 200000 /dev/zero | tr '\0' y >> "$folder/events.jsonl"
    cat /dev/zero > "$state/filler" 2> /dev/null
    RESUME > first 2>&1; RESUME > second 2>&1; LIST > list 2>&1; ls "$folder" > between
    rm "$state/filler"
    RESUME > third 2>&1; wc -c < "$folder/torn-1" > aside; VERIFY > verified 2>&1
"#;

#[test]
fn a_torn_line_on_a_full_disk_waits_for_room_and_leaves_nothing_at_each_try() {
    let place = Place::new(users()[0]);
    let model = FakeModel::start(vec![Step::say("Said.")]).unwrap();
    let next = FakeModel::start(vec![Step::say("Went on.")]).unwrap();
    let commands = [
        ("LOCAL", &place.command(&model, &["local", "begin"])),
        ("RESUME", &place.command(&next, &["threads", "resume", "last", "go on"])),
        ("VERIFY", &place.command(&model, &["log", "--verify"])),
        ("LIST", &place.command(&model, &["threads", "list", "--json"])),
    ];
    on_a_small_disk(&place, TORN, &commands);
    let read = |name: &str| fs::read_to_string(place.work().join(name)).unwrap();
    for name in ["first", "second"] {
        assert!(read(name).contains("No space left on device"), "{}", read(name));
    }
    assert_eq!(read("between"), read("before"));
    assert!(read("list").contains("begin"), "{}", read("list"));
    assert!(read("third").contains("Went on."), "{}", read("third"));
    assert_eq!(read("aside").trim(), "200000");
    assert!(read("verified").contains("records fit together"), "{}", read("verified"));
}

/// The stockade behind timeout(1), and setpriv(1) where there is one, which becomes it.
fn child_of(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().trim().to_owned()
}

#[test]
fn a_thread_that_is_killed_again_and_again_keeps_what_it_told_and_is_taken_back() {
    let place = place();
    let before = place.files();
    let line = "n=$(ls src | wc -l); echo $n > src/made-$n; echo more >> src/tokens.py; mv src/made-$n src/kept-$n";
    let model = FakeModel::start(vec![shell(line); 90]).unwrap();
    for round in 0_usize..8 {
        let mut child = place.start(&model, &["local", "--json", "work"]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = String::new();
        for (count, line) in lines.map(Result::unwrap).enumerate() {
            told.push_str(&line);
            told.push('\n');
            if count == 2 + round * 5 {
                let stockade = child_of(child.id());
                let killed = Command::new("kill").args(["-KILL", &stockade]).status();
                assert!(killed.unwrap().success());
            }
        }
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(!child.wait().unwrap().success(), "round {round}: {error}");
        let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
        let id = first["thread"].as_str().unwrap();
        let verified = place.stockade(&model, &["log", "--verify", id]);
        assert!(verified.status.success(), "round {round}: {}", text(&verified));
        let record = place.home().join(".local/state/stockade/threads").join(id);
        let record = fs::read_to_string(record.join("events.jsonl")).unwrap();
        assert!(record.starts_with(&told), "round {round}: {told}\n{record}");
        let listed = place.stockade(&model, &["threads", "list", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), round + 1);
        let undone = place.stockade(&model, &["undo", id]);
        let has_changed = place.files() != before;
        assert!(!has_changed, "round {round}: {}", text(&undone));
    }
}

#[test]
fn two_threads_at_once_in_one_folder_have_a_record_and_an_undo_each() {
    let place = place();
    let before = place.files();
    let script = |name: &str| {
        let line = format!("for i in 1 2 3 4 5; do echo {name} >> src/{name}-$i; sleep 0.05; done");
        let mut script = vec![shell(&line); 4];
        script.push(Step::say("Done."));
        FakeModel::start(script).unwrap()
    };
    let models = [script("one"), script("two")];
    let mut children: Vec<_> =
        models.iter().map(|model| place.start(model, &["local", "--json", "work"])).collect();
    // Somebody who looks all the time disturbs nobody.
    let mut looks = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let listed = place.stockade(&models[0], &["threads", "list", "--json"]);
        assert!(listed.status.success(), "{}", text(&listed));
        assert!(serde_json::from_slice::<Value>(&listed.stdout).is_ok(), "{}", text(&listed));
        looks += 1;
    }
    assert!(looks > 1, "the control");
    let mut ids = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let id = first["thread"].as_str().unwrap().to_owned();
        let verified = place.stockade(&models[0], &["log", "--verify", &id]);
        assert!(verified.status.success(), "{}", text(&verified));
        ids.push(id);
    }
    let is_there = |path: &str| Path::new(&place.work().join(path)).exists();
    for (id, name) in ids.iter().zip(["one", "two"]) {
        let diff = place.stockade(&models[0], &["threads", "diff", id]);
        let diff = String::from_utf8(diff.stdout).unwrap();
        let other = if name == "one" { "src/two-1" } else { "src/one-1" };
        assert!(diff.contains(&format!("src/{name}-5")) && !diff.contains(other), "{diff}");
    }
    let undone = place.stockade(&models[0], &["undo", &ids[0]]);
    assert!(undone.status.success(), "{}", text(&undone));
    assert!(!is_there("src/one-1") && is_there("src/two-1"), "{}", text(&undone));
    let undone = place.stockade(&models[0], &["undo", &ids[1]]);
    assert!(undone.status.success() && place.files() == before, "{}", text(&undone));
}
