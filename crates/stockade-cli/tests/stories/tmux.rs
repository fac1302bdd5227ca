//! A thread in a real terminal of 80 columns, without colour: what a person sees at the end.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::json;
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, top, users};

/// A tmux of its own, which ends with this.
pub(crate) struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// `None` where there is no tmux, said.
    pub(crate) fn new() -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            let expected = env::var("STOCKADE_EXPECT").is_ok_and(|list| list.contains("corpus"));
            assert!(!expected, "tmux is not installed");
            let mut error = std::io::stderr();
            error
                .write_all(b"skipped: tmux is not installed (scripts/test-packages.txt)\n")
                .unwrap();
            return None;
        }
        let base = top().join("target/stories");
        fs::create_dir_all(&base).unwrap();
        Some(Self { folder: tempfile::tempdir_in(base).unwrap() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        // A socket's path is short: by its folder.
        command.args(["-S", "socket", "-f", "/dev/null"]).args(words);
        command.current_dir(self.folder.path()).env_remove("TMUX").output().unwrap()
    }

    /// Starts `command` in 80 columns without colour; its own `PATH` and environment hold.
    pub(crate) fn start(&self, command: &Command) {
        self.start_with(command, "NO_COLOR=1 TERM=\"$TERM\"", "sh");
    }

    /// Starts `command` in 80 columns with `environment` for colours and such; `shell` runs the
    /// script that does it, from wherever.
    pub(crate) fn start_with(&self, command: &Command, environment: &str, shell: &str) {
        let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let folder = command.get_current_dir().unwrap();
        let mut script = format!("cd {} && exec env -i", quoted(folder.as_os_str()));
        for (name, value) in command.get_envs().filter(|(name, _)| *name != "TERM") {
            let value = value.map(quoted).unwrap_or_default();
            script.extend([" ", &name.to_string_lossy(), "=", &value]);
        }
        script.extend([" ", environment]);
        // Without `timeout`, whose process group is not the terminal's.
        for word in command.get_args().skip(1) {
            script.push(' ');
            script.push_str(&quoted(word));
        }
        let run = self.path("run");
        fs::write(&run, script).unwrap();
        let line = format!("{shell} {}; echo \"STATUS $?\"; exec sleep 300", run.display());
        let started = self.run(&["new-session", "-d", "-x", "80", "-y", "60", &line]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    }

    /// What is on the screen when `text` is, which takes half a minute at most.
    pub(crate) fn screen(&self, text: &str) -> String {
        self.screen_within(30, text)
    }

    /// What is on the screen when `text` is.
    pub(crate) fn screen_within(&self, seconds: u32, text: &str) -> String {
        self.times_within(seconds, text, 1)
    }

    /// What is on the screen when so many of its lines have `text`.
    pub(crate) fn times_within(&self, seconds: u32, text: &str, times: u32) -> String {
        let wait = "end=$(($(date +%s) + $2));
                    until [ $(tmux -S socket capture-pane -p | grep -cF -- \"$1\") -ge $3 ]; do
                    [ $(date +%s) -lt $end ] || exit 1; sleep 0.05; done";
        let waited = Command::new("sh")
            .args(["-c", wait, "sh", text, &seconds.to_string(), &times.to_string()])
            .current_dir(self.folder.path())
            .env_remove("TMUX")
            .status();
        // With escapes, so that a colour would be seen.
        let screen = self.run(&["capture-pane", "-p", "-e"]);
        let screen = String::from_utf8(screen.stdout).unwrap();
        assert!(waited.unwrap().success(), "waited for {text:?}:\n{screen}");
        screen
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn a_session_can_be_read_in_80_columns_without_colour() {
    let Some(tmux) = Tmux::new() else { return };
    let place = Place::new(*users().last().unwrap());
    let long = "a".repeat(100);
    let model = FakeModel::start(vec![
        Step::tool("plan", json!({"steps": [{"text": "write it", "state": "doing"}]})),
        Step::tool("write", json!({"path": "src/one.txt", "content": "one\n"})),
        Step::Shell(format!("echo {long}; docker ps")),
        Step::Shell("echo \u{1b}[31mred".to_owned()),
        Step::say("Made \u{1b}[32mone.txt."),
        Step::say("Nothing else."),
    ])
    .unwrap();
    tmux.start(&place.command(&model, &["local"]));
    let screen = tmux.screen("Ctrl-D ends");
    assert!(screen.contains("writable here: src, tests, /tmp"), "{screen}");
    tmux.run(&["send-keys", "make one", "Enter"]);
    tmux.screen("tokens read");
    tmux.run(&["send-keys", "and else?", "Enter"]);
    tmux.screen("Nothing else.");
    tmux.run(&["send-keys", "C-d"]);
    let screen = tmux.screen("STATUS");
    let wanted = [
        "  [>] write it",
        "created src/one.txt",
        "  +one",
        "(not run)",
        "refused: rule \"docker\"",
        "Made \\u{1b}[32mone.txt.",
        "Nothing else.",
        "stockade: finished; thread ",
        "STATUS 0",
    ];
    for words in wanted {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    assert!(!screen.contains('\u{1b}'), "a colour, or what was printed draws:\n{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(Path::new(&place.work()).join("src/one.txt").exists());
}

#[test]
fn what_is_looked_at_is_told_words_stay_whole_and_a_flood_is_cut() {
    let Some(tmux) = Tmux::new() else { return };
    let place = Place::new(*users().last().unwrap());
    let item = "- an item that is too long for one line of a terminal that has eighty and not more columns";
    let model = FakeModel::start(vec![
        Step::tool("search", json!({"pattern": "datetime", "path": "src"})),
        Step::tool("read", json!({"path": "src/tokens.py"})),
        Step::tool("read", json!({"path": "src/missing.py"})),
        Step::Shell("seq 1 200000".to_owned()),
        Step::say(&format!("Words, {}the end.\n\n{item}", "and others, ".repeat(8))),
    ])
    .unwrap();
    tmux.start(&place.command(&model, &["local", "look"]));
    let screen = tmux.screen("STATUS 0");
    let whole = tmux.run(&["capture-pane", "-p", "-S", "-"]);
    let whole = String::from_utf8(whole.stdout).unwrap();
    for words in ["searched in src for datetime: ", "\nread src/tokens.py\n", "\ncannot read"] {
        assert!(whole.contains(words), "{words}:\n{whole}");
    }
    // A screen has 60 lines, and tmux keeps 2,000: all that was printed is among them.
    assert!(whole.contains("\n1\n2\n3\n") && whole.contains("\n199999\n200000\n"), "{whole}");
    assert!(whole.contains(" lines are not shown …\n"), "{whole}");
    let said = screen.split_once("Words,").unwrap().1;
    let (said, rest) = said.split_once("- an item").unwrap();
    let ends_whole = |line: &str| line.is_empty() || line.ends_with([',', '.', 'd']);
    assert!(said.lines().count() > 2 && said.lines().all(ends_whole), "{screen}");
    assert!(rest.contains("not\n  more columns\n"), "{screen}");
    assert!(rest.contains(" tokens read, "), "what it cost:\n{screen}");
}

/// The line about the wait, that the terminal has broken in two, goes whole; what is said then is
/// broken for the new width.
#[test]
fn a_terminal_that_becomes_narrower_and_wider_in_the_middle_of_a_turn_stays_readable() {
    let Some(tmux) = Tmux::new() else { return };
    let place = Place::new(*users().last().unwrap());
    let said = "Wörter 日本語 and others, ".repeat(6);
    let model = FakeModel::start(vec![
        Step::Shell("sleep 3; echo one".to_owned()),
        Step::Shell("sleep 3; echo two".to_owned()),
        Step::say(&said),
    ])
    .unwrap();
    tmux.start_with(&place.command(&model, &["local", "wait"]), "TERM=\"$TERM\"", "sh");
    tmux.screen(" s · turn 1/");
    assert!(tmux.run(&["resize-window", "-x", "22", "-y", "50"]).status.success());
    tmux.screen("one");
    tmux.screen(" s · turn 2/");
    tmux.run(&["resize-window", "-x", "60"]);
    tmux.screen("two");
    tmux.run(&["resize-window", "-x", "30"]);
    tmux.screen("STATUS 0");
    let whole = tmux.run(&["capture-pane", "-p", "-S", "-"]);
    let whole = String::from_utf8(whole.stdout).unwrap();
    assert!(!whole.contains(" turn ") && !whole.contains("· "), "left of the line:\n{whole}");
    for words in ["$ sleep 3; echo one", "\none\n", "\ntwo\n"] {
        assert!(whole.contains(words), "{words}: nothing else was taken back:\n{whole}");
    }
}
