//! A file that everything imports becomes a package, in a machine of its own; the user's tree is
//! as it was until the result is applied.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::is_there;
use crate::place::{Place, text, told, top, users};
use crate::transcript::{both, compare, lasting};

const PROMPT: &str = "utils.py is too large. Split it by concern, and update the imports.";

/// The project as its generator writes it.
fn generate(work: &Path) {
    let generator = top().join("examples/big-utils/generate.py");
    let status = Command::new("python3").arg(generator).arg(work).status().unwrap();
    assert!(status.success());
}

/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn the_refactoring_story_ends_in_a_diff_that_applies() {
    if !is_there() {
        return;
    }
    let place = Place::with(*users().last().unwrap(), generate);
    fs::write(place.work().join("not-committed.txt"), "mine\n").unwrap();
    fs::write(place.work().join(".gitignore"), "__pycache__/\nnot-committed.txt\n").unwrap();
    place.commit();
    let lines = fs::read_to_string(place.work().join("utils.py")).unwrap().lines().count();
    assert!(lines >= 2000 && place.tests_pass(), "{lines}");
    let before = place.files();

    let script = fs::read_to_string(top().join("examples/big-utils/script.json")).unwrap();
    let model = FakeModel::start(Step::read_script(&script).unwrap()).unwrap();
    let shown = both(place.command(&model, &["cloud", PROMPT]));
    let told = told(&model);
    assert!(told[0].contains("2001 utils.py") && told[0].ends_with("47\n"), "{}", told[0]);
    assert!(told[1].contains("Ran 72 tests") && told[1].contains("OK"), "{}", told[1]);
    assert!(told[4].contains("(most likely due to a circular import)"), "{}", told[4]);
    assert!(told[7].contains("Ran 72 tests") && told[7].contains("OK"), "{}", told[7]);
    let asked = model.requests()[0].to_string();
    assert!(asked.contains("/workspace") && !asked.contains("not-committed"), "{asked}");
    assert!(before == place.files(), "the user's files and `.git` are as they were: {shown}");
    record(&place, &model);

    let diff = place.stockade(&model, &["threads", "diff", "last"]);
    let patch = String::from_utf8(diff.stdout.clone()).unwrap();
    assert!(diff.status.success() && patch.contains("diff --git a/utils.py b/utils.py"), "{patch}");
    assert!(patch.contains("b/utils/storage.py") && !patch.contains("not-committed"), "{patch}");
    // The user has gone on meanwhile, in a file that the agent changed too.
    let importer = importer(&place);
    let mine = fs::read_to_string(&importer).unwrap() + "\n# written meanwhile\n";
    fs::write(&importer, &mine).unwrap();
    let applied = place.stockade(&model, &["threads", "apply", "last"]);
    assert!(applied.status.success(), "{}", text(&applied));
    let merged = fs::read_to_string(&importer).unwrap();
    assert!(merged.ends_with("# written meanwhile\n") && merged != mine, "{merged}");
    assert!(place.tests_pass() && !place.work().join("utils.py").exists(), "{shown}");
    let kept = fs::read_to_string(place.work().join("not-committed.txt")).unwrap();
    assert_eq!(kept, "mine\n");
    let git = |path: &Path| path.starts_with("project/.git/");
    let (mut after, mut before) = (place.files(), before);
    after.retain(|path, _| git(path));
    before.retain(|path, _| git(path));
    assert!(before == after, "applying changes no repository");
    branch(&place, &model);
    compare("docs/guide/cloud.md", &timeless(&shown, &place));
}

/// One of the 47 files.
fn importer(place: &Place) -> std::path::PathBuf {
    let mut grep = Command::new("grep");
    grep.args(["-rl", "^from utils import", "app"]).current_dir(place.work());
    let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
    place.work().join(found.lines().min().unwrap())
}

/// The same as a branch, whose tests pass where it is checked out.
fn branch(place: &Place, model: &FakeModel) {
    let who = "[user]\nname = Tester\nemail = t@example.org\n";
    fs::write(place.home().join(".gitconfig"), who).unwrap();
    let made = place.stockade(model, &["threads", "branch", "last", "split"]);
    assert!(made.status.success(), "{}", text(&made));
    let line = "git='git -c safe.directory=*'; $git worktree add -q \"$0\" split && cd \"$0\" && \
                test -f utils/storage.py && ! grep -rq 'written meanwhile' app && \
                python3 -B -m unittest -q";
    let elsewhere = place.home().join("elsewhere");
    let mut tested = Command::new("sh");
    tested.args(["-c", line]).arg(&elsewhere).current_dir(place.work());
    let tested = tested.output().unwrap();
    assert!(tested.status.success(), "{}", text(&tested));
}

/// What scripts rely on: the phases with their times, and the changes.
fn record(place: &Place, model: &FakeModel) {
    let shown = place.stockade(model, &["threads", "show", "--json", "last"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("cloud"), &json!("completed")));
    // Two files gone or new for each of auth, database, …: the package's 7, `utils.py`, importers.
    assert_eq!(shown["changes"], json!(7 + 1 + 47), "{shown}");
    let phases = shown["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["clone", "image", "disk", "boot", "agent", "diff"]);
    for phase in phases {
        assert_eq!(phase["state"], "finished", "{phase}");
        assert!(phase["seconds"].as_f64().is_some(), "{phase}");
    }
    let id = shown["id"].as_str().unwrap();
    let folder = place.home().join(".local/state/stockade/threads").join(id);
    assert!(!folder.join("machine").exists(), "the disk of a machine goes with it");
}

/// The transcript without what differs from run to run and from machine to machine.
fn timeless(shown: &str, place: &Place) -> String {
    const PHASES: [&str; 6] = ["clone ", "image ", "disk ", "boot ", "agent ", "diff "];
    let is_passing = |line: &&str| {
        ["stockade: building", "stockade: trying", "stockade: the machine", "stockade: 1 files"]
            .iter()
            .all(|start| !line.starts_with(start))
    };
    let mut is_in_change = false;
    let is_shown = |line: &&str| {
        let is_head = line.starts_with("created ") || line.starts_with("changed ");
        // Below its head a change is indented; blank lines in it are bare.
        is_in_change = is_head || is_in_change && (line.is_empty() || line.starts_with("  "));
        is_head || !is_in_change
    };
    let lines = shown.lines().filter(is_passing).filter(is_shown).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [phase, _, "s"] if PHASES.iter().any(|name| name.trim() == *phase) => {
                format!("{phase} … s\n")
            }
            ["Ran", count, "tests", ..] => format!("Ran {count} tests in 0.001s\n"),
            ["stockade:", "works", "on", "commit", _, rest @ ..] => {
                format!("stockade: works on commit 0123456789ab {}\n", rest.join(" "))
            }
            _ => format!("{line}\n"),
        }
    });
    let shown: String = lines.collect();
    let id = shown.split("; thread ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let shown = shown.replace(&id.to_owned(), "01k…");
    format!("$ stockade cloud \"{PROMPT}\"\n{}", lasting(&shown, place))
}
