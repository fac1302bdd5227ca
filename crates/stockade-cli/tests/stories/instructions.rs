//! The project's own instructions: what of them reaches the model, and what does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, users};

/// What the model was told before anything else, and the output.
fn system(place: &Place, options: &[&str]) -> (String, String) {
    let model = FakeModel::start(vec![Step::say("Done.")]).unwrap();
    let arguments = [&["local"], options, &["go"]].concat();
    let output = place.stockade(&model, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    (model.requests()[0]["instructions"].as_str().unwrap().to_owned(), text(&output))
}

fn with(fill: impl FnOnce(&Path)) -> Place {
    Place::with(*users().last().unwrap(), |work| {
        fs::create_dir_all(work.join("src/deep")).unwrap();
        fs::create_dir_all(work.join("tests")).unwrap();
        fill(work);
    })
}

#[test]
fn the_projects_instructions_reach_the_model_and_the_user_sees_it() {
    let place = with(|work| {
        fs::write(work.join("AGENTS.md"), "Use tabs.\n").unwrap();
        fs::write(work.join("src/AGENTS.md"), "Use spaces here.\n").unwrap();
    });
    let (told, said) = system(&place, &[]);
    assert!(told.contains("From AGENTS.md:\nUse tabs.\n"), "{told}");
    assert!(told.contains("An AGENTS.md holds for its folder") && !told.contains("Use spaces"));
    assert!(said.contains("\nread AGENTS.md\n"), "{said}");
    // From a folder of the repository: its top too, the nearest last.
    let options = ["-C", "src", "-c", "sandbox_workspace_write.writable_roots=[]"];
    let (told, _) = system(&place, &options);
    let (top, near) = (told.find("Use tabs.").unwrap(), told.find("Use spaces here.").unwrap());
    assert!(top < near, "{told}");
}

#[test]
fn a_link_is_followed_as_far_as_the_hands_reach() {
    let place = with(|work| {
        fs::write(work.join("CLAUDE.md"), "Use tabs.\n").unwrap();
        symlink("CLAUDE.md", work.join("AGENTS.md")).unwrap();
    });
    assert!(system(&place, &[]).0.contains("Use tabs."), "a link to another file of the project");
    for target in ["../.ssh/id_ed25519", ".env", "/proc/self/environ", "../../../nothing"] {
        let place = with(|work| symlink(target, work.join("AGENTS.md")).unwrap());
        place.configure("\n[env]\nset = { CANARY = \"TOPSECRET\" }\n");
        for mode in ["workspace-write", "danger-full-access"] {
            let (told, said) = system(&place, &["-s", mode, "--hide", ".env"]);
            assert!(!told.contains("TOPSECRET"), "{target} {mode}: {told}");
            assert!(!told.contains("SETTING=1"), "{target} {mode}: {told}");
            let is_held = mode == "workspace-write";
            assert!(is_held || said.contains("it is a link that leads away"), "{said}");
        }
    }
}

#[test]
fn what_is_huge_binary_or_no_file_is_bounded_and_told() {
    let huge = |work: &Path, bytes: usize| {
        fs::write(work.join("AGENTS.md"), "ä".repeat(bytes / 2)).unwrap();
    };
    let place = with(|work| huge(work, 200_000));
    let (told, said) = system(&place, &[]);
    assert!(told.len() < 40_000 && told.contains(" more bytes of it left out"), "{}", told.len());
    assert!(said.contains("read AGENTS.md, the first "), "{said}");
    let (told, _) = system(&place, &["-c", "model.context_tokens=8000"]);
    assert!(told.len() < 12_000, "a small window keeps room for the task: {}", told.len());
    let place = with(|work| huge(work, 9 << 20));
    let (told, said) = system(&place, &[]);
    assert!(told.len() < 8_000 && said.contains("AGENTS.md is not read: "), "{said}");
    let place = with(|work| fs::write(work.join("AGENTS.md"), b"a\0\x1b[2Jb").unwrap());
    let (told, said) = system(&place, &[]);
    assert!(told.contains("not shown: it is not text") && !told.contains('\u{1b}'), "{told}");
    assert!(said.contains("AGENTS.md is not read: it is not text"), "{said}");
    let place = with(|work| {
        let made = std::process::Command::new("mkfifo").arg(work.join("AGENTS.md")).status();
        assert!(made.unwrap().success());
    });
    let (_, said) = system(&place, &[]);
    assert!(said.contains("not a regular file"), "{said}");
    let place = with(|work| fs::create_dir(work.join("AGENTS.md")).unwrap());
    assert!(system(&place, &[]).1.contains("AGENTS.md is not read: "));
}
