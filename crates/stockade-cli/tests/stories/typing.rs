//! A person at a real terminal: what they type and paste, which keys they press and when, and
//! what their terminal can.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::place::{Place, users};
use crate::tmux::Tmux;

const PLAIN: &str = "NO_COLOR=1 TERM=\"$TERM\"";

fn place() -> Place {
    Place::new(*users().last().unwrap())
}

fn enter(tmux: &Tmux, text: &str) {
    tmux.run(&["send-keys", "-l", text]);
    tmux.run(&["send-keys", "Enter"]);
}

/// Pastes `text` as a terminal does that was not told of pastes: line breaks are the Enter key.
fn paste(tmux: &Tmux, text: &str) {
    fs::write(tmux.path("pasted"), text).unwrap();
    for words in [&["load-buffer", "pasted"][..], &["paste-buffer"]] {
        assert!(tmux.run(words).status.success());
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn ctrl_c_interrupts_the_turn_wherever_it_is_and_ends_a_thread_that_waits() {
    let Some(tmux) = Tmux::new() else { return };
    let place = place();
    let script = vec![
        Step::Shell("touch src/began; sleep 100; touch src/late".to_owned()),
        Step::Shell("cargo fetch".to_owned()),
        Step::say("Here again."),
    ];
    let model = FakeModel::start_faulty(script, vec![Fault::Silent]).unwrap();
    tmux.start(&place.command(&model, &["local"]));
    tmux.screen("Ctrl-D ends");
    enter(&tmux, "one");
    tmux.screen("· turn 1/100");
    tmux.run(&["send-keys", "C-c"]);
    tmux.times_within(30, "stockade: interrupted", 1);
    enter(&tmux, "two");
    until("the command begins", || place.work().join("src/began").exists());
    tmux.run(&["send-keys", "C-c"]);
    tmux.times_within(30, "stockade: interrupted", 2);
    enter(&tmux, "three");
    tmux.screen("  no>");
    tmux.run(&["send-keys", "C-c"]);
    tmux.times_within(30, "stockade: interrupted", 3);
    enter(&tmux, "four");
    tmux.screen("Here again.");
    tmux.times_within(30, " tokens read", 4);
    tmux.run(&["send-keys", "C-c"]);
    tmux.screen("Ctrl-C again");
    tmux.run(&["send-keys", "C-c"]);
    let screen = tmux.screen("STATUS 0");
    assert!(screen.contains("stockade: finished; thread "), "{screen}");
    assert!(!place.work().join("src/late").exists());
    // Each line that waited is gone.
    assert!(!screen.contains("· turn"), "{screen}");
    let asked = model.requests().last().unwrap().to_string();
    for words in ["one", "two", "three", "four", "interrupted: whether this was carried out"] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
}

#[test]
fn ctrl_c_three_times_ends_a_thread_in_whatever_it_is() {
    let Some(tmux) = Tmux::new() else { return };
    let place = place();
    let line = "trap '' INT TERM; touch src/began; while :; do sleep 1; done";
    let model = FakeModel::start(vec![Step::Shell(line.to_owned())]).unwrap();
    tmux.start(&place.command(&model, &["local"]));
    tmux.screen("Ctrl-D ends");
    enter(&tmux, "go");
    until("the command begins", || place.work().join("src/began").exists());
    // Two that come at once are one signal.
    for _ in 0..3 {
        tmux.run(&["send-keys", "C-c"]);
        Command::new("sleep").arg("0.3").status().unwrap();
    }
    let screen = tmux.screen("STATUS 130");
    assert!(screen.contains("threads resume"), "how to go on:\n{screen}");
    assert!(model.requests().len() == 1, "nobody asked again");
}

#[test]
fn what_is_pasted_is_one_task_and_a_line_that_a_terminal_would_cut_is_none() {
    let Some(tmux) = Tmux::new() else { return };
    let place = place();
    let model = FakeModel::start(vec![Step::say("Read it.")]).unwrap();
    tmux.start(&place.command(&model, &["local"]));
    tmux.screen("Ctrl-D ends");
    let lines = (1..=40).map(|number| format!("line {number} of what is pasted"));
    let text = lines.collect::<Vec<_>>().join("\n");
    // Without a line break at its end, as one copies it.
    paste(&tmux, &text);
    tmux.screen("line 40 of what is pasted");
    let is_asked = || !model.requests().is_empty();
    Command::new("sleep").arg("0.5").status().unwrap();
    assert!(!is_asked(), "not before Enter");
    tmux.run(&["send-keys", "Enter"]);
    tmux.screen("Read it.");
    tmux.screen(" tokens read");
    let last = |text: &str| json!(model.requests().last().unwrap()).to_string().contains(text);
    let whole = json!(text).to_string();
    assert!(last(whole.trim_matches('"')), "{}", model.requests().last().unwrap());
    // A terminal hands over 4,095 bytes of a line and drops the rest.
    let long = "x".repeat(5_000);
    paste(&tmux, &long);
    tmux.run(&["send-keys", "Enter"]);
    tmux.screen("too long for a terminal");
    assert_eq!(model.requests().len(), 1, "half of a task is none");
    let fits = format!("{}y", "x".repeat(4_000));
    paste(&tmux, &format!("{fits}\n"));
    until("it is asked", || model.requests().len() == 2);
    tmux.screen(" tokens read");
    assert!(last(&fits));
    tmux.run(&["send-keys", "C-d"]);
    tmux.screen("STATUS 0");
    assert_eq!(model.requests().len(), 2);
}

#[test]
fn wide_and_combining_characters_take_the_room_that_they_have() {
    let Some(tmux) = Tmux::new() else { return };
    let place = place();
    let (wide, combined) = ("日本語 ".repeat(30), "e\u{301}a\u{308} ".repeat(60));
    let model = FakeModel::start(vec![Step::say(&format!("{wide}\n\n{combined}\n\nend."))]);
    let model = model.unwrap();
    tmux.start(&place.command(&model, &["local"]));
    tmux.screen("Ctrl-D ends");
    tmux.run(&["send-keys", "-l", "日本語xé"]);
    tmux.run(&["send-keys", "BSpace", "BSpace", "BSpace", "Enter"]);
    let screen = tmux.screen("end.");
    assert!(model.requests()[0].to_string().contains("日本\""), "{}", model.requests()[0]);
    let of = |mark: &str| -> Vec<String> {
        let lines = screen.lines().skip_while(|line| !line.contains("日本語 日本語"));
        lines.filter(|line| line.contains(mark)).map(|line| line.trim_end().to_owned()).collect()
    };
    // Eleven words of six columns, and a space between each two.
    let lines = of("日本語");
    assert!(lines.iter().all(|line| line.split(' ').all(|word| word == "日本語")), "{screen}");
    assert_eq!(lines[0].split(' ').count(), 11, "{screen}");
    let lines = of("\u{308}");
    assert_eq!(lines[0].split(' ').count(), 27, "{screen}");
}

#[test]
fn a_narrow_window_and_one_that_was_resized_are_used_as_they_are() {
    let Some(tmux) = Tmux::new() else { return };
    let place = place();
    place.configure("\n[agent]\nmax_tokens = 1000000\n");
    let words = "some words that are said ".repeat(8);
    let script = vec![Step::Shell("sleep 3".to_owned()), Step::say(&words), Step::say(&words)];
    let model = FakeModel::start(script).unwrap();
    tmux.start(&place.command(&model, &["local"]));
    tmux.screen("Ctrl-D ends");
    tmux.run(&["resize-window", "-x", "24", "-y", "50"]);
    enter(&tmux, "wait");
    tmux.screen("· 2 s");
    let screen = tmux.screen("written");
    assert!(!screen.contains("· "), "what told of the wait is gone:\n{screen}");
    let of = |screen: &str| -> Vec<String> {
        let said = screen.split_once("$ sleep").unwrap().1;
        let lines = said.lines().filter(|line| line.contains("words") || line.contains("said"));
        lines.map(str::to_owned).collect()
    };
    let whole = |line: &String| line.split_whitespace().all(|word| words.contains(word));
    assert!(of(&screen).len() >= 8 && of(&screen).iter().all(whole), "{screen}");
}

#[test]
fn colours_are_for_a_terminal_that_has_them_and_a_user_who_wants_them() {
    for (environment, is_coloured, has_line) in
        [("TERM=\"$TERM\"", true, true), (PLAIN, false, true), ("TERM=dumb", false, false)]
    {
        let Some(tmux) = Tmux::new() else { return };
        let place = place();
        let model = FakeModel::start(vec![
            Step::tool("write", json!({"path": "src/one.txt", "content": "one\n"})),
            Step::Shell("sleep 3".to_owned()),
            Step::say("Made one.txt."),
        ])
        .unwrap();
        tmux.start_with(&place.command(&model, &["local"]), environment, "sh");
        tmux.screen("Ctrl-D ends");
        enter(&tmux, "make one");
        if has_line {
            tmux.screen("turn 2/100");
        }
        let screen = tmux.screen("Made one.txt.");
        let line = screen.lines().find(|line| line.contains("+one")).unwrap();
        assert_eq!(line.contains("\u{1b}[32m"), is_coloured, "{environment}: {line:?}");
        assert_eq!(screen.contains('\u{1b}'), is_coloured, "{environment}: {screen}");
        assert!(screen.contains("created src/one.txt"), "{screen}");
        tmux.run(&["send-keys", "C-d"]);
        tmux.screen("STATUS 0");
    }
}

/// A server for log-ins by ssh on the loopback, for whoever runs this; it ends with this.
struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    fn start(tmux: &Tmux) -> Self {
        let folder = tmux.path("").canonicalize().unwrap();
        for name in ["host", "user"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f", name]).current_dir(&folder);
            assert!(made.status().unwrap().success());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile {0}/user.pub\nStrictModes no\nPasswordAuthentication no\n",
            folder.display()
        );
        fs::write(folder.join("config"), config).unwrap();
        let serve = "exec \"$(command -v sshd || echo /usr/sbin/sshd)\" -D -e -f config";
        let mut server = if rustix::process::geteuid().is_root() {
            // Where it wants a folder of the system's, it has one of its own.
            let mut server = Command::new("unshare");
            let own = "mount -t tmpfs own /run && mkdir /run/sshd";
            server.args(["--mount", "sh", "-c", &format!("{own} && {serve}")]);
            server
        } else {
            let mut server = Command::new("sh");
            server.args(["-c", serve]);
            server
        };
        server.current_dir(&folder).stdin(Stdio::null());
        server.stderr(fs::File::create(folder.join("log")).unwrap());
        let child = server.spawn().unwrap();
        let log = || fs::read_to_string(folder.join("log")).unwrap();
        until("the server listens", || {
            assert!(!log().contains("fatal"), "{}", log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether sshd can give out a terminal: it ends the session where it cannot set the terminal's group,
/// which an ordinary user cannot. Most systems mount `/dev/pts` so that there is nothing to set.
fn gives_terminals() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let of_terminals = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/dev/pts"));
    rustix::process::geteuid().is_root() || of_terminals.is_some_and(|line| line.contains("gid="))
}

#[test]
fn a_session_by_ssh_is_like_one_at_the_machine() {
    let Some(tmux) = Tmux::new() else { return };
    if !gives_terminals() {
        let mut error = std::io::stderr();
        error
            .write_all(
                b"skipped: /dev/pts gives no group to its terminals (gid=5), which sshd then sets, as only root may\n",
            )
            .unwrap();
        return;
    }
    let server = Sshd::start(&tmux);
    let place = Place::new(users()[0]);
    let model = FakeModel::start(vec![
        Step::tool("write", json!({"path": "src/one.txt", "content": "one\n"})),
        Step::Shell("cargo fetch".to_owned()),
        Step::Shell("touch src/began; sleep 100".to_owned()),
        Step::say("Over there."),
    ])
    .unwrap();
    let ssh = format!(
        "ssh -tt -q -F none -p {} -i user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=known 127.0.0.1 sh",
        server.port
    );
    tmux.start_with(&place.command(&model, &["local"]), PLAIN, &ssh);
    tmux.screen("Ctrl-D ends");
    enter(&tmux, "make one");
    tmux.screen("  no>");
    enter(&tmux, "no not now");
    until("the command begins", || place.work().join("src/began").exists());
    tmux.run(&["send-keys", "C-c"]);
    tmux.screen("stockade: interrupted");
    enter(&tmux, "where?");
    let screen = tmux.screen("Over there.");
    assert!(screen.contains("created src/one.txt") && screen.contains("  +one"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    let asked = model.requests().last().unwrap().to_string();
    assert!(asked.contains("the user said no: not now"), "{asked}");
    tmux.run(&["send-keys", "C-d"]);
    let screen = tmux.screen("STATUS 0");
    assert!(screen.contains("stockade: finished; thread "), "{screen}");
}
