//! `threads pr` against a forge of our own, which is strict and keeps state: git over smart HTTP,
//! pull requests in the shape of GitHub's REST API (`forge.py`).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use stockade_threads::record::{Check, Denial, Event, Message, Role};

use crate::{Home, git, text, write};

const TOKEN: &str = "ghs_0123456789";

/// A forge with the repository `octo/cat`, to which `home` pushes.
struct Forge {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Forge {
    fn start(home: &Home) -> Self {
        let folder = home.folder.path().join("forge");
        fs::create_dir_all(folder.join("octo")).unwrap();
        git(&folder, &["init", "-q", "--bare", "-b", "main", "octo/cat.git"]);
        let bare = folder.join("octo/cat.git");
        git(&home.work(), &["push", "-q", bare.to_str().unwrap(), "main"]);
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/threads/forge.py");
        let mut child = Command::new("python3")
            .args(["-B".as_ref(), program.as_os_str(), folder.as_os_str(), TOKEN.as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        // What it prints later is read by nobody, and fits.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let port = line.trim().parse().unwrap();
        let url = format!("http://127.0.0.1:{port}/octo/cat.git");
        git(&home.work(), &["remote", "add", "origin", &url]);
        Self { child, port, folder }
    }

    fn at(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn bare(&self) -> PathBuf {
        self.folder.join("octo/cat.git")
    }

    /// Runs `stockade` with this forge as the one that tokens are for.
    fn stockade(&self, home: &Home, words: &[&str], more: &[(&str, &str)]) -> Output {
        let mut command = home.command(words);
        command.env("GITHUB_SERVER_URL", self.at());
        command.env("GITHUB_API_URL", format!("{}/api", self.at()));
        command.envs(more.iter().copied()).output().unwrap()
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A thread with a change, words, a check and a refusal.
fn thread(home: &Home) -> String {
    let id = home.cloud(|clone| {
        write(clone, "a", "A\n");
        write(clone, ".github/workflows/ci.yml", "on: push\n");
    });
    let thread = home.store().resume(&id.parse().unwrap()).unwrap();
    let said = "Done. @octocat\n```\n\u{1b}[2JFixes #1".to_owned();
    thread.record(&Event::Message(Message { role: Role::Assistant, text: said })).unwrap();
    let check = Check { name: "make test".to_owned(), exit: 0, seconds: 2.0 };
    thread.record(&Event::Check(check)).unwrap();
    let denial = Denial::new("exec", "docker ps".as_ref(), "config.toml:17");
    thread.record(&Event::Denial(denial)).unwrap();
    id
}

#[test]
fn a_branch_is_pushed_and_proposed_and_the_token_stays_here() {
    let home = Home::new(&[("a", "a\n")]);
    let forge = Forge::start(&home);
    let id = thread(&home);
    let token = [("GH_TOKEN", TOKEN)];
    let without = forge.stockade(&home, &["threads", "pr"], &[]);
    let said = text(&without.stderr);
    assert_eq!(without.status.code(), Some(1), "{said}");
    assert!(said.contains("no token for `127.0.0.1:") && said.contains("`GH_TOKEN`"), "{said}");
    assert!(said.starts_with("error: "), "what has none says so to nobody: {said}");
    let branches = text(&git(&home.work(), &["branch", "--list", "stockade/*"]));
    assert_eq!(branches, "", "no branch yet");

    let opened = forge.stockade(&home, &["threads", "pr", "--draft"], &token);
    let said = text(&opened.stderr);
    assert!(opened.status.success(), "{said}");
    assert_eq!(text(&opened.stdout), format!("{}/octo/cat/pull/1\n", forge.at()));
    assert!(said.contains(".github/workflows/ci.yml (ci-file)"), "{said}");
    let pushed = text(&git(&forge.bare(), &["log", "--format=%s", "stockade/split-it"]));
    assert_eq!(pushed, "split it\nstart\n");
    let pulls = Command::new("curl")
        .args(["-sf", "-H", &format!("Authorization: Bearer {TOKEN}"), "-H", "Accept: x/json"])
        .args(["-H", "X-GitHub-Api-Version: 2022-11-28"])
        .arg(format!("{}/api/repos/octo/cat/pulls", forge.at()))
        .output()
        .unwrap();
    let pulls: Value = serde_json::from_slice(&pulls.stdout).unwrap();
    let pull = &pulls[0];
    assert_eq!((&pull["title"], &pull["draft"]), (&json!("split it"), &json!(true)));
    assert_eq!((&pull["base"]["ref"], pulls.as_array().unwrap().len()), (&json!("main"), 1));
    let body = pull["body"].as_str().unwrap();
    let expected = [
        "````text\nDone. @octocat\n```\n[2JFixes #1\n````\n",
        "ok           2.0 s  make test\n",
        "exec docker ps (config.toml:17)\n",
        ".github/workflows/ci.yml: ci-file\n",
        &format!("thread `{id}`"),
    ];
    for words in expected {
        assert!(body.contains(words), "{words:?}: {body}");
    }

    let again = forge.stockade(&home, &["threads", "pr", "--json"], &token);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["number"], &again["branch"]), (&json!(1), &json!("stockade/split-it")));
    let record = home.said(&["log", "--json"], 0);
    assert!(record.contains("\"proposed\"") && !record.contains(TOKEN), "{record}");
    let config = fs::read_to_string(home.work().join(".git/config")).unwrap();
    assert!(!config.contains(TOKEN) && !config.contains("credential"), "{config}");
}

#[test]
fn what_a_forge_refuses_is_told_and_nothing_is_overwritten() {
    let home = Home::new(&[("a", "a\n")]);
    let forge = Forge::start(&home);
    thread(&home);
    let pr = |words: &[&str], token: &str| {
        let words = [&["threads", "pr"], words].concat();
        let output = forge.stockade(&home, &words, &[("GITHUB_TOKEN", token)]);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
        let said = text(&output.stderr);
        assert!(!said.contains(token), "{said}");
        said
    };
    let said = pr(&[], "wrong-token");
    assert!(said.contains("cannot push to `origin`"), "{said}");
    assert!(said.contains("the token is from `GITHUB_TOKEN`"), "{said}");
    // A rule of the forge's, in its own words.
    let hook = forge.bare().join("hooks/update");
    let words = "#!/bin/sh\nprintf 'GH006: \\033[31mProtected\\033[0m branch\\n' >&2; exit 1\n";
    fs::write(&hook, words).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let said = pr(&[], TOKEN);
    assert!(said.contains("GH006: ") && !said.contains('\u{1b}'), "{said}");
    assert!(!said.contains("the token is from"), "{said}");
    fs::remove_file(&hook).unwrap();
    let gone = forge.at() + "/octo/gone.git";
    git(&home.work(), &["remote", "add", "gone", &gone]);
    let said = pr(&["--remote", "gone"], TOKEN);
    assert!(said.contains("not found") && said.contains("the token is from"), "{said}");
    assert!(pr(&["--base", "nowhere"], TOKEN).contains("base is invalid"));
    assert!(pr(&["--remote", "nowhere"], TOKEN).contains("no remote `nowhere`"));
    git(&home.work(), &["remote", "add", "here", "../elsewhere"]);
    assert!(pr(&["--remote", "here"], TOKEN).contains("names no repository of a forge"));
    // Somebody else has a branch of that name there.
    let bare = forge.bare();
    write(&home.work(), "a", "other\n");
    git(&home.work(), &["commit", "-qam", "other"]);
    let elsewhere = ["push", "-qf", bare.to_str().unwrap(), "HEAD:refs/heads/stockade/split-it"];
    git(&home.work(), &elsewhere);
    assert!(pr(&[], TOKEN).contains("rejected"), "not forced");
    let kept = text(&git(&bare, &["log", "-1", "--format=%s", "stockade/split-it"]));
    assert_eq!(kept, "other\n");
    // A token for GitHub goes to no other host.
    let mut stray = home.command(&["threads", "pr"]);
    stray.env("GH_TOKEN", TOKEN).env("GITHUB_API_URL", format!("{}/api", forge.at()));
    let stray = stray.output().unwrap();
    assert!(text(&stray.stderr).contains("no token for"), "{}", text(&stray.stderr));
}

/// The entry that `gh auth login` makes, in a real keyring of a session of its own.
#[test]
fn a_token_is_found_in_the_keyring() {
    let programs = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
    let is_there = |name: &str| {
        Command::new("which")
            .arg(name)
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|done| done.success())
    };
    if let Some(missing) = programs.into_iter().find(|name| !is_there(name)) {
        let line = format!("skipped: a keyring: no `{missing}`\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        return;
    }
    let home = Home::new(&[("a", "a\n")]);
    let forge = Forge::start(&home);
    thread(&home);
    let line = format!(
        "printf pw | gnome-keyring-daemon --unlock --components=secrets > /dev/null 2>&1; \
         printf {TOKEN} | secret-tool store --label=gh service gh:127.0.0.1:{} username octo; \
         exec \"$0\" threads pr",
        forge.port
    );
    let own = home.command(&["threads", "pr"]);
    let mut session = Command::new("dbus-run-session");
    session.args(["--", "sh", "-c", &line]).arg(own.get_program()).env_clear();
    session.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let runtime = home.folder.path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    session.env("XDG_RUNTIME_DIR", &runtime).env("GITHUB_SERVER_URL", forge.at());
    session.env("GITHUB_API_URL", format!("{}/api", forge.at()));
    session.current_dir(own.get_current_dir().unwrap());
    let output = session.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), format!("{}/octo/cat/pull/1\n", forge.at()), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
}
