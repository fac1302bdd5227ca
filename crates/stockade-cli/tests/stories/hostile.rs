//! A guest that is hostile: what it leaves behind is refused or flagged, nothing outside the
//! thread's folder changes, and nothing of it draws on the terminal.

use std::fs;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::{cloud, is_there, shown, small};
use crate::place::text;

/// Everything that could act later, or elsewhere.
const PLANT: &str = r#"
mkdir .git/hooks && printf '#!/bin/sh\ntouch /tmp/pwned\n' > .git/hooks/post-checkout && chmod +x .git/hooks/post-checkout
git config core.fsmonitor 'touch /tmp/pwned' && git config diff.external 'echo pwned'
git config filter.x.clean 'sed s/one/pwned/' && echo '*.x filter=x diff=y' > .gitattributes
git config diff.y.textconv 'echo pwned' && echo one > a.x
mkdir -p ~/bin && printf '#!/bin/sh\necho "diff --git a/../../.bashrc b/../../.bashrc"\n' > ~/bin/git
chmod +x ~/bin/git && export PATH=~/bin:$PATH
mkdir .GIT 'git~1' && echo x > .GIT/config && echo x > 'git~1/config'
ln -s /etc/passwd absolute && ln -s ../../notes.txt up && ln -s .git/config into && ln -s src/a.txt in
printf x > "$(printf 'red\033[31m\nstockade: fine')"
truncate -s 100M huge.bin && echo x > set-id && chmod 4755 set-id
mkfifo fifo && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
mkdir -p .github/workflows && echo 'on: push' > .github/workflows/ci.yml
echo '{"scripts":{"postinstall":"touch /tmp/pwned"}}' > package.json
mkdir .vscode && echo '{}' > .vscode/tasks.json && echo 'KEY=1' > .envrc
git init -q nested && echo x > ignored.txt && rm src/a.txt && mkfifo src/a.txt
printf '\033]0;title\007\033[2J' >&2
"#;

/// Threat model, R3: "What would run on the host unseen (control, CI, package hooks), submodules and
/// links that leave wait for the user's word."
#[test]
fn what_a_hostile_guest_plants_is_left_behind_or_flagged() {
    if !is_there() {
        return;
    }
    let place = small();
    let before = place.files();
    let output = cloud(&place, &[], PLANT);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "raw control characters: {said}");
    for words in
        ["`huge.bin`, a large file", "says git in the machine: ", "ignored files, 1 of them"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(before == place.files(), "{said}");

    let thread = shown(&place);
    let flags = thread["flags"].as_array().unwrap();
    let held = |path: &str, flag: &str| {
        let is = |entry: &&Value| entry["path"] == path && entry["flag"] == flag;
        let found = flags.iter().find(is).unwrap_or_else(|| panic!("{path} {flag}: {flags:?}"));
        found["weight"] == json!("hold")
    };
    for (path, flag) in [
        ("absolute", "symlink-out"),
        ("up", "symlink-out"),
        ("into", "symlink-out"),
        (".github/workflows/ci.yml", "ci-file"),
        ("package.json", "package-hook"),
        (".vscode/tasks.json", "control-file"),
        (".envrc", "control-file"),
        (".gitattributes", "control-file"),
    ] {
        assert!(held(path, flag), "{path}: {flags:?}");
    }
    assert!(!held("in", "symlink") && !held("set-id", "executable"));

    let model = FakeModel::start(vec![Step::say("not asked")]).unwrap();
    let diff = place.stockade(&model, &["threads", "diff", "last"]);
    let patch = String::from_utf8(diff.stdout.clone()).unwrap();
    assert!(patch.contains(r#""b/red\033[31m\nstockade: fine""#), "{patch}");
    for never in ["\u{1b}", ".GIT", "git~1", "bashrc", "huge.bin", "fifo", "socket", "nested"] {
        assert!(!patch.contains(never), "{never}: {patch}");
    }
    let applied = place.stockade(&model, &["threads", "apply", "last"]);
    assert_eq!(applied.status.code(), Some(1), "held files are left out: {}", text(&applied));
    assert!(!text(&applied).contains('\u{1b}'), "{}", text(&applied));
    let work = place.work();
    assert!(work.join("a.x").exists() && work.join("in").exists(), "{}", text(&applied));
    for path in ["absolute", "up", "into", ".github", ".vscode", ".envrc", ".gitattributes"] {
        assert!(fs::symlink_metadata(work.join(path)).is_err(), "{path}: {}", text(&applied));
    }
    let (mut after, mut before) = (place.files(), before);
    after.retain(|path, _| path.starts_with("project/.git/") || !path.starts_with("project"));
    before.retain(|path, _| path.starts_with("project/.git/") || !path.starts_with("project"));
    assert!(before == after, "{}", text(&applied));
}

/// An index with an entry that leads out, which git neither looks for nor leaves out of a diff.
const FORGE: &str = r#"
import hashlib, subprocess
oid = subprocess.run(["git", "hash-object", "-w", "--stdin"], input=b"pwned\n", capture_output=True)
oid = oid.stdout.decode().strip()
name = "x" * 15
subprocess.run(["git", "update-index", "--add", "--cacheinfo", f"100644,{oid},{name}"])
subprocess.run(["git", "update-index", "--skip-worktree", name])
index = open(".git/index", "rb").read()[:-20].replace(name.encode(), b"../../../.bashr")
open(".git/index", "wb").write(index + hashlib.sha1(index).digest())
"#;

/// Threat model, V5: "A cloud thread leaves the user's files and repository as they were until its
/// result is applied; a result that leads elsewhere is refused whole."
#[test]
fn a_diff_that_leads_out_is_refused_whole() {
    if !is_there() {
        return;
    }
    let place = small();
    let before = place.files();
    let line = format!("python3 -c '{}' && echo good > src/b.txt", FORGE.trim());
    let output = cloud(&place, &[], &line);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "the command succeeded, its result did not: {said}");
    assert!(said.contains("its result was not taken"), "{said}");
    let thread = shown(&place);
    assert_eq!((&thread["state"], &thread["changes"]), (&json!("failed"), &json!(0)), "{thread}");
    let model = FakeModel::start(vec![Step::say("not asked")]).unwrap();
    let applied = place.stockade(&model, &["threads", "apply", "last"]);
    assert_eq!(applied.status.code(), Some(1), "{}", text(&applied));
    assert!(before == place.files(), "{said}");
}
