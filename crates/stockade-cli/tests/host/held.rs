//! What a run left behind that git on the host would obey is held back at its end, after a kill by
//! the next Stockade; a host git in that tree runs nothing.
#![expect(clippy::disallowed_methods, reason = "a kill at a given moment")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::{Home, also_as_ordinary_user, text};

/// A `.git` file whose text leads to nothing when it is judged, and by a link to a repository of
/// the user's later; that obeys a program in the work tree, which is then the command's.
const PLANT: &str = "mkdir d && printf 'gitdir: t/x\\n' > d/.git && mkdir d/t; \
    cat d/.git && ln -s ../../../outside/.git d/t/x; \
    printf '#!/bin/sh\\ntouch '$PWD'/owned\\n' > d/monitor; chmod +x d/monitor";

fn git(folder: &Path, words: &[&str]) -> Output {
    let mut git = Command::new("git");
    git.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.output().unwrap()
}

/// With the user's repository outside, whose monitor lies in the work tree.
fn home() -> Home {
    let home = Home::new();
    assert!(git(&home.path("outside"), &["init", "-q"]).status.success());
    let set = git(&home.path("outside"), &["config", "core.fsmonitor", "./monitor"]);
    assert!(set.status.success());
    home
}

/// Whether a host git in the planted folder runs what was planted.
fn is_owned(home: &Home) -> bool {
    git(&home.path("work/d"), &["status"]);
    home.path("work/owned").exists()
}

fn stockade(home: &Home, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(words).current_dir(home.path("work")).env_clear();
    command.env("HOME", home.path("")).env("PATH", "/usr/bin:/bin").output().unwrap()
}

fn only_run(home: &Home) -> String {
    let list = stockade(home, &["threads", "list", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    list.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_git_would_obey_is_held_back_and_told_and_can_be_released() {
    let home = home();
    let output = home.run(&["-q".as_ref()], &format!("{PLANT}; exit 7"));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(7), "the exit status is the command's: {said}");
    assert!(said.contains("held back") && said.contains("d/.git"), "also with -q: {said}");
    assert!(!home.path("work/d/.git").exists() && home.path("work/d/monitor").exists(), "{said}");
    assert!(!is_owned(&home));
    let id = only_run(&home);
    let shown = stockade(&home, &["threads", "show", &id, "--json"]);
    assert!(
        text(&shown).contains("\"flag\":\"held-back\",\"weight\":\"hold\""),
        "{}",
        text(&shown)
    );
    let log = stockade(&home, &["log", &id, "--json"]);
    assert!(text(&log).contains("\"type\":\"held\""), "{}", text(&log));
    assert!(stockade(&home, &["log", &id, "--verify"]).status.success());
    let none = stockade(&home, &["threads", "apply", &id, "--accept", "d/other"]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none));
    let released = stockade(&home, &["threads", "apply", &id, "--accept", "d/.git"]);
    assert!(released.status.success(), "{}", text(&released));
    assert!(is_owned(&home), "the control: it is what git obeys");
    let held = home.path(".local/state/stockade/quarantine").read_dir().unwrap().count();
    assert_eq!(held, 0);
}

#[test]
fn after_a_kill_the_next_stockade_holds_it_back() {
    let home = home();
    let mut command = home.command();
    command.args(["--", "sh", "-c", &format!("{PLANT}; touch planted; sleep 100")]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !home.path("work/planted").exists() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before");
        thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(home.path("work/d/.git").exists(), "nobody has looked yet");
    // PID 1 inside may need a moment to go.
    let mut said = String::new();
    for _ in 0..100 {
        said.push_str(&text(&stockade(&home, &["threads", "list"])));
        if !home.path("work/d/.git").exists() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(said.contains("held back"), "{said}");
    assert!(!is_owned(&home));
}

#[test]
fn what_is_harmless_stays_wherever_it_went() {
    let home = home();
    let own = home.path("work/.git");
    assert!(git(&home.path("work"), &["config", "alias.x", "!true"]).status.success());
    fs::write(own.join("hooks/post-commit"), "#!/bin/sh\n").unwrap();
    let script = "git init -q; mkdir .git .git/hooks; echo x > .git/hooks/post-commit; \
        git config core.fsmonitor x; git init -q a && git -C a config user.name x && cp -r a b && mv a c && \
        git init -q --bare d.git && git clone -q c e && cd e && \
        git -c user.name=x -c user.email=x commit -q --allow-empty -m x && \
        git worktree add -q ../f && cd .. && mkdir n && mv e n && \
        echo '{}' > .mcp.json; git init -q .vscode; true";
    let output = home.run(&[], script);
    let said = text(&output);
    assert!(output.status.success() && !said.contains("held back"), "{said}");
    for name in ["b/.git", "c/.git", "d.git", "n/e/.git"] {
        assert!(home.path("work").join(name).join("config").exists(), "{name}: {said}");
    }
    assert!(home.path("work/f/.git").is_file());
    assert!(own.join("hooks/post-commit").exists() && own.join("config").exists(), "the user's");
    let noted = home.path(".local/state/stockade/noted");
    assert_eq!(fs::read_dir(noted).unwrap().count(), 0, "no list is left");
}

#[test]
#[ignore = "a part of another test"]
fn as_this_user() {
    what_git_would_obey_is_held_back_and_told_and_can_be_released();
    after_a_kill_the_next_stockade_holds_it_back();
    what_is_harmless_stays_wherever_it_went();
}

#[test]
fn the_same_for_an_ordinary_user() {
    also_as_ordinary_user("held::as_this_user");
}

/// By the end of a run nobody of it is left, so what can be planted without a race is planted by
/// somebody outside here, at the places that the run noted.
#[test]
fn what_came_into_being_in_spite_of_all_is_held_back() {
    let home = home();
    let script = "git init -q made; echo x > .mcp.json; ln -s x .husky; touch noted; \
        while [ ! -e planted ]; do sleep 0.02; done";
    let mut command = home.command();
    command.args(["--", "sh", "-c", script]).stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    while !home.path("work/noted").exists() && run.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(10));
    }
    let work = home.path("work");
    assert!(work.join("noted").exists(), "{}", text(&run.wait_with_output().unwrap()));
    fs::write(work.join("made/.git/config"), "[core]\n\tfsmonitor = touch ../owned\n").unwrap();
    let hook = work.join("made/.git/hooks/post-index-change");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\ntouch ../owned\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(work.join("made/.git/commondir"), "/nothing\n").unwrap();
    fs::write(work.join(".mcp.json"), "{}").unwrap();
    fs::create_dir(work.join(".husky")).unwrap();
    fs::write(work.join(".husky/pre-commit"), "touch owned\n").unwrap();
    fs::write(work.join("planted"), "").unwrap();
    let said = text(&run.wait_with_output().unwrap());
    assert!(said.contains("held back"), "{said}");
    for name in
        ["made/.git/config", "made/.git/hooks", "made/.git/commondir", ".mcp.json", ".husky"]
    {
        assert!(!work.join(name).exists(), "{name}: {said}");
    }
    git(&work.join("made"), &["status"]);
    assert!(!work.join("owned").exists());
}
