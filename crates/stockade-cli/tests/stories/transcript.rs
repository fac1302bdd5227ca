//! The transcript in the guide is what the terminal shows. `STOCKADE_UPDATE_DOCS=1` writes it.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::{env, fs, io};

use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, top, users};

const PROMPT: &str = "test_auth_flow is failing with a 401. Debug it.";

#[test]
fn the_guide_shows_what_the_terminal_shows() {
    let script = fs::read_to_string(top().join("examples/auth-flow.json")).unwrap();
    let model = FakeModel::start(Step::read_script(&script).unwrap()).unwrap();
    let place = Place::new(*users().last().unwrap());
    let shown = both(place.command(&model, &["local", PROMPT]));
    let shown = format!("$ stockade local \"{PROMPT}\"\n{}", lasting(&shown, &place));

    compare("docs/guide/local.md", &shown);
}

/// What `command`, which must succeed, writes to its two streams together, as a terminal has it.
pub(crate) fn both(mut command: Command) -> String {
    let (mut read, write) = io::pipe().unwrap();
    command.stdout(Stdio::from(write.try_clone().unwrap())).stderr(Stdio::from(write));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = String::new();
    read.read_to_string(&mut shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    shown
}

/// Compares what a guide shows with what was `shown`, or writes it there.
pub(crate) fn compare(guide: &str, shown: &str) {
    let guide = top().join(guide);
    let text = fs::read_to_string(&guide).unwrap();
    let (head, rest) = text.split_once("```text\n").unwrap();
    let (kept, tail) = rest.split_once("```\n").unwrap();
    if env::var_os("STOCKADE_UPDATE_DOCS").is_some() {
        fs::write(&guide, format!("{head}```text\n{shown}```\n{tail}")).unwrap();
        return;
    }
    assert!(kept == shown, "STOCKADE_UPDATE_DOCS=1 writes the guide anew; it is now:\n{shown}");
}

/// What is the same each time: without the thread's name, places and times.
pub(crate) fn lasting(shown: &str, place: &Place) -> String {
    let shown = shown.replace(&place.work().display().to_string(), "~/project");
    let shown = shown.replace(&place.home().display().to_string(), "~");
    // Pythons differ in how they mark the place and name the test.
    let is_mark =
        |line: &str| !line.trim().is_empty() && line.trim_matches([' ', '~', '^']).is_empty();
    let lines = shown.lines().map(str::trim_end).filter(|line| !is_mark(line)).map(|line| {
        for (mark, instead) in
            [("; thread ", "01k…"), (" tests in ", "0.001s"), ("FAIL: test_auth_flow (", "…)")]
        {
            if let Some((before, _)) = line.split_once(mark) {
                return format!("{before}{mark}{instead}\n");
            }
        }
        format!("{line}\n")
    });
    lines.collect()
}
