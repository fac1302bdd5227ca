//! A draft: the files stay as they are until it is applied, and then are as it has them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Home, text};

/// Everything below `root` but what git keeps: mode and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, data) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let content = if data.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if data.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            if data.is_dir() && entry.file_name() != ".git" {
                folders.push(path.clone());
            }
            let mode = if data.is_symlink() { 0 } else { data.mode() & 0o170_100 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
        }
    }
    found
}

impl Home {
    /// A verb about threads, from the workspace.
    fn threads(&self, words: &[&str]) -> Output {
        let mut command = self.stockade();
        command.arg("threads").args(words).output().unwrap()
    }

    fn stockade(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    fn draft(&self, script: &str) -> Output {
        self.run(&[OsStr::new("--draft")], script)
    }

    fn git(&self, words: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(words)
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {words:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path("work").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("work").join(name)).unwrap()
    }
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Changes of every kind.
const SCRIPT: &str = r#"set -e
    echo more >> changed; rm gone; printf '\0\2\3' > binary; chmod +x mode; rm link; ln -s src link
    mv tree moved; rm -r folder; echo now > folder; rm file; mkdir file; echo in > file/in
    rm -r opaque; mkdir opaque; echo new > opaque/new; echo kept > opaque/kept
    mkdir -p fresh/deep; echo x > fresh/deep/x; printf 'odd\n' >> "$(printf 'odd "n\nx\377')"
    rm -r build; mkdir build; echo b > build/out; touch same; git add -A; git commit -qm inside
    git config user.name > /dev/null; test "$(cat .env)" = original; ! (echo no > .env) 2> /dev/null
    test -z "$(ls -A "$HOME/.local/state/stockade")"
"#;

fn project() -> Home {
    let home = Home::new();
    for (name, content) in [
        ("changed", "one\n"),
        ("gone", "gone\n"),
        ("mode", "#!/bin/sh\n"),
        ("tree/a/b", "b\n"),
        ("tree/c", "c\n"),
        ("folder/x", "x\n"),
        ("file", "file\n"),
        ("opaque/kept", "kept\n"),
        ("opaque/lost", "lost\n"),
        ("same", "same\n"),
        ("build/old", "old\n"),
        (".gitignore", "build/\n"),
    ] {
        home.write(name, content);
    }
    home.write("binary", "\0\u{1}");
    fs::write(home.path("work").join(OsStr::from_bytes(b"odd \"n\nx\xff")), "odd\n").unwrap();
    std::os::unix::fs::symlink("changed", home.path("work/link")).unwrap();
    home.git(&["config", "user.name", "a"]);
    home.git(&["config", "user.email", "a@example.org"]);
    home.git(&["add", "-A"]);
    home.git(&["commit", "-qm", "base"]);
    home
}

/// The control of every test here: the same script without a draft.
fn done_directly() -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let home = project();
    let output = home.run(&[], SCRIPT);
    assert!(output.status.success(), "{}", text(&output));
    tree(&home.path("work"))
}

/// Threat model, D1: "A draft leaves the user's files and repository as they were until it is
/// applied; what it holds is out of reach inside …"
#[test]
fn a_draft_leaves_the_files_alone_and_is_applied_whole() {
    let home = project();
    let before = tree(&home.path("work"));
    let head = home.git(&["rev-parse", "HEAD"]);
    let output = home.draft(SCRIPT);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(tree(&home.path("work")), before, "the user's files");
    assert_eq!(home.git(&["rev-parse", "HEAD"]), head);
    // The patch is one that git takes.
    let patch = home.threads(&["diff"]);
    let patched = project();
    let mut apply = Command::new("git");
    apply.args(["apply", "--binary", "-"]).current_dir(patched.path("work"));
    let mut apply = apply.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut apply.stdin.take().unwrap(), &patch.stdout).unwrap();
    assert!(apply.wait().unwrap().success());
    let said = text(&home.threads(&["apply"]));
    let after = tree(&home.path("work"));
    assert_eq!(tree(&patched.path("work")), after, "git apply and threads apply agree");
    let mut wanted = done_directly();
    // Ignored files are not among them until they are asked for.
    for name in ["build/old", "build/out"] {
        wanted.remove(Path::new(name));
        assert_eq!(after.get(Path::new(name)), before.get(Path::new(name)), "{name}");
    }
    let tracked = |tree: &BTreeMap<PathBuf, (u32, Vec<u8>)>| {
        let files = tree.iter().filter(|(path, _)| !path.starts_with("build"));
        files.map(|(path, file)| (path.clone(), file.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(tracked(&after), tracked(&wanted), "{said}");
    let again = home.threads(&["apply"]);
    assert!(again.status.success() && again.stdout.is_empty(), "{}", text(&again));
    printed(&home.threads(&["apply", "--ignored"]));
    assert_eq!(tree(&home.path("work")), done_directly());
}

#[test]
fn what_both_changed_is_left_and_named() {
    let home = project();
    home.write("ours", "1\n2\n3\n4\n5\n6\n7\n");
    let script = "echo agent > changed; sed -i s/7/seven/ ours; rm gone; echo a > fresh";
    printed(&home.draft(script));
    home.write("changed", "user\n");
    home.write("ours", "one\n2\n3\n4\n5\n6\n7\n");
    home.write("gone", "user\n");
    let output = home.threads(&["apply"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in ["conflict  changed", "conflict  gone", "merged    ours", "applied   fresh"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert_eq!(home.read("changed"), "user\n");
    assert_eq!(home.read("gone"), "user\n");
    assert_eq!(home.read("ours"), "one\n2\n3\n4\n5\n6\nseven\n");
}

/// What the user changes while the draft is at work may or may not be what the agent saw.
#[test]
fn a_change_of_the_users_meanwhile_is_a_conflict_and_not_a_base() {
    let home = project();
    let mut draft = home.stockade();
    let script = "echo up; read x; echo agent >> changed; rm gone; echo agent > mode";
    draft.args(["run", "--draft", "--", "sh", "-c", script]);
    let mut draft = draft.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    draft.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    home.write("changed", "user\n");
    home.write("gone", "user\n");
    std::io::Write::write_all(&mut draft.stdin.take().unwrap(), b"go\n").unwrap();
    assert!(draft.wait().unwrap().success());
    let diff = home.threads(&["diff"]);
    assert!(text(&diff).contains("`gone`, removed by the thread"), "{}", text(&diff));
    let output = home.threads(&["apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(home.read("changed"), "user\n");
    assert_eq!(home.read("gone"), "user\n");
    assert_eq!(home.read("mode"), "agent\n", "the control");
}

#[test]
fn a_draft_that_was_killed_still_has_its_changes() {
    let home = project();
    let mut draft = home.stockade();
    draft.args(["run", "--draft", "--", "sh", "-c", "echo agent > new; echo up; sleep 60"]);
    let mut draft = draft.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    draft.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let running = home.threads(&["diff"]);
    assert_eq!(running.status.code(), Some(1), "{}", text(&running));
    draft.kill().unwrap();
    draft.wait().unwrap();
    assert!(!home.path("work/new").exists());
    assert!(printed(&home.threads(&["diff"])).contains("+agent"));
    printed(&home.threads(&["apply", "last", "new"]));
    assert_eq!(home.read("new"), "agent\n");
    assert!(printed(&home.threads(&["list"])).contains("interrupted"));
}

#[test]
fn a_discarded_draft_is_gone_and_its_record_stays() {
    let home = project();
    // Modes that keep everybody out, their owner too.
    printed(&home.draft("mkdir shut; echo x > shut/x; chmod 000 shut; echo y > y; chmod 000 y"));
    let folder = fs::read_dir(home.path(".local/state/stockade/threads")).unwrap();
    let folder = folder.map(|entry| entry.unwrap().path()).next().unwrap();
    assert!(folder.join("draft").exists());
    printed(&home.threads(&["discard", "last"]));
    assert!(!folder.join("draft").exists() && !folder.join("changes.git").exists());
    for verb in ["diff", "apply"] {
        let output = home.threads(&[verb]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("discarded"), "{}", text(&output));
    }
    assert!(printed(&home.threads(&["log"])).contains("chmod"));
    printed(&home.draft("mkdir shut; chmod 000 shut"));
    printed(&home.threads(&["rm", "last"]));
    assert_eq!(fs::read_dir(home.path(".local/state/stockade/threads")).unwrap().count(), 1);
}

#[test]
fn a_draft_that_cannot_be_had_runs_nothing() {
    let home = project();
    let (outside, notes) = (home.path("outside"), home.path("notes.txt"));
    let refused: [&[&OsStr]; 4] = [
        &["--draft".as_ref(), "--sandbox=read-only".as_ref()],
        &["--draft".as_ref(), "--sandbox=danger-full-access".as_ref()],
        &["--draft".as_ref(), "--add-dir".as_ref(), outside.as_os_str()],
        &["--draft".as_ref(), "--add-dir".as_ref(), notes.as_os_str()],
    ];
    for options in refused {
        let output = home.run(options, "echo ran; echo x >> changed");
        assert_eq!(output.status.code(), Some(125), "{options:?}: {}", text(&output));
        assert!(text(&output).contains("draft"), "{}", text(&output));
        assert!(!text(&output).contains("ran\n"), "{}", text(&output));
    }
    assert_eq!(home.read("changed"), "one\n");
    assert!(text(&home.threads(&["list"])).contains("no threads yet"));
}

#[test]
fn the_exit_status_of_a_draft_is_the_commands() {
    let home = project();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        assert_eq!(home.draft(script).status.code(), Some(status), "{script}");
    }
    let output = home.run(&["--draft".as_ref(), "--quiet".as_ref()], "echo hello");
    assert_eq!(text(&output).trim_end(), "exit status: 0\nhello");
}

/// Commits of a workspace inside a bigger repository go to a folder outside of it.
#[test]
fn the_repository_around_a_draft_is_not_written_to() {
    let home = project();
    let head = home.git(&["rev-parse", "HEAD"]);
    let script = "echo x > inner; git add -A; git commit -qm inside; git log --oneline | wc -l";
    let output = home.run(&["--draft".as_ref(), "--cd=src".as_ref()], script);
    assert!(text(&output).contains("\n2\n"), "the control: {}", text(&output));
    assert_eq!(home.git(&["rev-parse", "HEAD"]), head);
    assert!(!home.path("work/src/inner").exists());
    printed(&home.threads(&["apply", "--cd=src"]));
    assert_eq!(home.read("src/inner"), "x\n");
    assert_eq!(home.git(&["rev-parse", "HEAD"]), head);
}

/// Threat model, D1: "… and reading it follows no link": not while looking, and not while applying.
#[test]
fn links_in_a_draft_are_not_followed() {
    let home = project();
    let script = "rm -r tree; ln -s ../../outside tree; ln -s /etc/passwd word; ln -s .git g";
    printed(&home.draft(script));
    let diff = printed(&home.threads(&["diff"]));
    assert!(!diff.contains("root:") && !diff.contains("original"), "{diff}");
    let output = home.threads(&["apply"]);
    // Links that leave are held.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("held      tree"), "{}", text(&output));
    assert_eq!(fs::read_to_string(home.path("outside/file")).unwrap(), "original\n");
}

/// Folders that were there before get other names by the call for that, and not only by `mv`.
const RENAMES: &str = r"set -e
    mkdir -p nested/deep/er nested/none; echo x > nested/deep/er/x; ln -s ../x nested/deep/link; chmod 750 nested/deep
    mkdir -p taken/full there; echo t > taken/full/t; echo v > there/v; git add -A; git commit -qm more
";
const RENAMING: &str = r#"set -e
    python3 -c '
import errno, os
def fails(number, *names):
    try: os.rename(*names)
    except OSError as error: assert error.errno == number, (names, error)
    else: raise SystemExit("%s worked" % (names,))
held = open("nested/deep/er/x", "a")
os.rename("nested", "other")
held.write("held\n"); held.close()
os.rename("other/deep", "deep")
os.mkdir("empty"); os.rename("there", "empty")
fails(errno.ENOTEMPTY, "tree", "taken"); fails(errno.EINVAL, "tree", "tree/a/inner")
fails(errno.ENOTDIR, "tree", "file"); fails(errno.ENOENT, "lost", "found")
assert sorted(os.listdir("tree")) == ["a", "c"] and oct(os.stat("deep").st_mode)[-3:] == "750"
os.rename("opaque", "gone-and-back"); os.rename("gone-and-back", "opaque")
'
    git mv tree moved; git mv taken/full taken/half; test ! -e tree; test "$(cat moved/a/b)" = b
    git commit -qm moved; test -z "$(git status --porcelain -- moved taken)"
"#;

#[test]
fn folders_are_renamed_in_a_draft() {
    let (home, direct) = (project(), project());
    for place in [&home, &direct] {
        let mut made = Command::new("sh");
        made.args(["-c", RENAMES]).current_dir(place.path("work"));
        assert!(made.status().unwrap().success());
    }
    let before = modes(&home.path("work"));
    printed(&direct.run(&[], RENAMING));
    printed(&home.draft(RENAMING));
    assert_eq!(modes(&home.path("work")), before, "the user's files");
    let diff = printed(&home.threads(&["diff"]));
    assert!(diff.contains("rename from tree/a/b\nrename to moved/a/b\n"), "{diff}");
    let said = text(&home.threads(&["apply"]));
    assert_eq!(modes(&home.path("work")), modes(&direct.path("work")), "{said}");
    assert!(!said.contains(".stockade-rename"), "{said}");
}

/// Every name but those of the repository with its whole mode, a link's aside.
fn modes(root: &Path) -> BTreeMap<PathBuf, u32> {
    let names = tree(root).into_keys().filter(|name| !name.starts_with(".git"));
    let mode = |name: &Path| fs::symlink_metadata(root.join(name)).unwrap();
    names.map(|name| (name.clone(), mode(&name).mode())).collect()
}

/// What no patch has.
const FOLDERS: &str = r"set -e
    mkdir -p hollow/inner hollow/gone; mkdir -m 711 shy; echo s > shy/s; chmod 600 same; echo c > changed; chmod 640 changed
    rmdir vacant/one; rm folder/x; chmod 700 opaque; (umask 077; echo k > key); rm -r tree; mkdir -m 755 tree
    rmdir hollow/gone; mkdir build/ignored; chmod 700 build; rm -r swap; echo s > swap; rm file; mkdir file; chmod g+s mode
";

#[test]
fn folders_and_modes_of_a_draft_are_told_and_applied() {
    let (home, direct) = (project(), project());
    for place in [&home, &direct] {
        fs::create_dir_all(place.path("work/vacant/one")).unwrap();
        fs::create_dir_all(place.path("work/swap")).unwrap();
    }
    let before = modes(&home.path("work"));
    printed(&direct.run(&[], FOLDERS));
    printed(&home.draft(FOLDERS));
    assert_eq!(modes(&home.path("work")), before, "the user's files");
    let said = text(&home.threads(&["diff"]));
    for line in [
        "in no patch: `hollow/inner`, a new folder, 0755",
        "in no patch: `vacant/one`, an empty folder that is gone",
        "in no patch: `opaque`, a folder's mode, 0755 to 0700",
        "in no patch: `folder`, a folder that is empty now",
        "in no patch: `key`, its mode, 0600",
        "in no patch: `same`, its mode, 0644 to 0600",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(!said.contains("build"), "ignored: {said}");
    let files = printed(&home.threads(&["diff", "--json"]));
    let files: Vec<serde_json::Value> = serde_json::from_str(&files).unwrap();
    let file = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    assert_eq!(file("same")["new_mode"], "0600");
    assert_eq!((&file("shy")["folder"], &file("shy")["kind"]), (&true.into(), &"created".into()));
    assert!(printed(&home.threads(&["diff", "--stat"])).contains(" shy"));
    // A part of it alone.
    printed(&home.threads(&["apply", "last", "opaque", "hollow"]));
    assert!(home.path("work/hollow/inner").is_dir() && home.path("work/vacant/one").is_dir());
    let applied = home.threads(&["apply"]);
    let said = text(&applied);
    assert_eq!(applied.status.code(), Some(1), "{said}");
    assert!(said.contains("refused   mode: a set-id bit is yours to set"), "{said}");
    let mut wanted = modes(&direct.path("work"));
    *wanted.get_mut(Path::new("mode")).unwrap() &= !0o2000;
    let of_build =
        |modes: &mut BTreeMap<PathBuf, u32>| modes.retain(|name, _| !name.starts_with("build"));
    let mut after = modes(&home.path("work"));
    of_build(&mut wanted);
    of_build(&mut after);
    assert_eq!(after, wanted, "{said}");
    let again =
        text(&home.threads(&["apply", "last", "same", "opaque", "folder", "hollow", "vacant"]));
    assert!(again.contains("nothing to apply"), "{again}");
    // What the user has set since is theirs.
    let other = project();
    printed(&other.draft("chmod 600 same; chmod 700 opaque; mkdir new"));
    for (name, mode) in [("same", 0o640), ("opaque", 0o711)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(other.path("work").join(name), mode).unwrap();
    }
    let said = text(&other.threads(&["apply"]));
    for line in ["conflict  same: its mode was changed here", "conflict  opaque:", "applied   new"]
    {
        assert!(said.contains(line), "{line} in {said}");
    }
}

/// Where no overlay can be had, or one that would break halfway, nothing runs, and why is said.
#[test]
fn a_draft_that_no_file_system_can_hold_is_refused_by_name() {
    let home = project();
    let store = home.path(".local/state/stockade");
    let (store, work) = (store.display(), home.path("work"));
    let cases = [
        ("true".to_owned(), ""),
        (format!("mount -t ramfs own {store}"), "has no user attributes"),
        (
            format!(
                "mount -t tmpfs own {store} && cd {store} && mkdir l u w && mount -t overlay -o \
                     userxattr,lowerdir=l,upperdir=u,workdir=w own {store}"
            ),
            "its record on a file system with user attributes (not an overlay itself)",
        ),
        (
            format!("mkdir {0}/inner && mount -t tmpfs own {0}/inner", work.display()),
            "no other file system mounted in the workspace",
        ),
        (
            "echo 0 > /proc/sys/user/max_user_namespaces".to_owned(),
            "user namespaces, which a draft needs",
        ),
    ];
    for (mount, words) in cases {
        for degrade in [&[][..], &["--degrade"]] {
            let script =
                format!("set -e; mkdir -p {store}; {mount}; cd {}; exec \"$@\"", work.display());
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
            command.args([env!("CARGO_BIN_EXE_stockade"), "run", "--draft"]).args(degrade);
            command.args(["--", "sh", "-c", "echo it ran; echo more >> changed"]).env_clear();
            command.env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
            let output = command.output().unwrap();
            let said = text(&output);
            assert_eq!(said.contains("it ran"), words.is_empty(), "{mount}: {said}");
            assert!(said.contains(words), "{mount}: {words}: {said}");
            assert!(!said.contains("`--degrade`"), "{mount}: {said}");
            let status = if words.is_empty() { 0 } else { 125 };
            assert_eq!(output.status.code(), Some(status), "{mount}: {said}");
            assert_eq!(home.read("changed"), "one\n", "{mount}: {said}");
            fs::remove_dir(work.join("inner")).ok();
        }
    }
}
