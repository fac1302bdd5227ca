//! Commands that have a terminal.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use stockade_guest::{CallError, Client, End, Exec, Stream, Terminal, Typing, WindowSize};

use crate::{Served, run, served, shell};

const PATIENCE: Duration = Duration::from_secs(20);

/// A command under way, as its user has it.
struct Seen {
    typing: Arc<Typing>,
    output: mpsc::Receiver<Vec<u8>>,
    text: String,
    end: thread::JoinHandle<Result<End, CallError>>,
}

fn at_terminal(line: &str) -> (Exec, Arc<Typing>) {
    let typing = Arc::<Typing>::default();
    let terminal = Terminal {
        name: "xterm-256color".into(),
        size: WindowSize { rows: 31, columns: 99 },
        typing: Arc::clone(&typing),
    };
    (Exec { terminal: Some(terminal), ..shell(line) }, typing)
}

fn start(client: &Client, line: &str) -> Seen {
    let (exec, typing) = at_terminal(line);
    let (sender, output) = mpsc::channel();
    let client = client.clone();
    let end = thread::spawn(move || {
        let outcome = client.exec(&exec, &|| false, &mut |stream, data| {
            assert_eq!(stream, Stream::Stdout, "a terminal has one output");
            sender.send(data.to_vec()).unwrap();
        });
        outcome.map(|outcome| outcome.end)
    });
    Seen { typing, output, text: String::new(), end }
}

impl Seen {
    /// Waits for `text`, and forgets what came before it.
    fn expect(&mut self, text: &str) -> String {
        while !self.text.contains(text) {
            let more = self.output.recv_timeout(PATIENCE);
            assert!(more.is_ok(), "{text:?} never came: {:?}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&more.unwrap()));
        }
        let (before, after) = self.text.split_once(text).unwrap();
        let (before, after) = (before.to_owned(), after.to_owned());
        self.text = after;
        before
    }

    fn end(self) -> End {
        self.end.join().unwrap().unwrap()
    }
}

#[test]
fn a_command_has_all_three_streams_on_a_terminal_of_its_own() {
    let Served { client, folder: _kept, .. } = served();
    let line = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM && echo err >&2; \
                : < /dev/tty && ps -o tpgid= -p $$ | tr -d ' ' && echo $$; exit 7";
    let (outcome, out, err) = run(&client, &at_terminal(line).0);
    assert_eq!((outcome.end, err.len()), (End::Exited(7), 0));
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let [size, name, error, foreground, own] = lines.as_slice() else { panic!("{out}") };
    assert_eq!([*size, *name, *error], ["31 99", "xterm-256color", "err"]);
    assert_eq!(foreground, own, "its job has the keyboard");
    // Without a terminal nothing of that is there.
    let (outcome, ..) = run(&client, &shell("test -t 0 || test -t 1 || : < /dev/tty"));
    assert_ne!(outcome.end, End::Exited(0));
}

#[test]
fn keys_are_echoed_edited_and_read_and_some_are_signals() {
    let Served { client, folder: _kept, .. } = served();
    let mut seen = start(
        &client,
        "read first; echo got:$first; trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.05; done",
    );
    // What is rubbed out is a whole character, of two bytes here.
    seen.typing.keys("aé\u{7f}b\n".as_bytes());
    assert!(seen.expect("got:ab").contains("a\u{e9}"), "typed text is echoed");
    seen.expect("up");
    seen.typing.keys(b"\x03");
    seen.expect("caught");
    assert_eq!(seen.end(), End::Exited(3));
    let mut seen = start(&client, "echo up; exec sleep 60");
    seen.expect("up");
    seen.typing.keys(b"\x1c");
    assert_eq!(seen.end(), End::Killed(3));
}

#[test]
fn a_window_that_changes_is_told_to_the_command() {
    let Served { client, folder: _kept, .. } = served();
    let line = "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.05; done";
    let mut seen = start(&client, line);
    seen.expect("up");
    seen.typing.resize(WindowSize { rows: 17, columns: 61 });
    seen.expect("17 61");
    assert_eq!(seen.end(), End::Exited(0));
}

#[test]
fn a_raw_terminal_takes_every_byte_and_much_of_them() {
    let Served { client, folder, .. } = served();
    let length = 300_000;
    let line = format!("stty raw -echo; echo up; head -c {length} | cksum; echo ok");
    let mut seen = start(&client, &line);
    seen.expect("up");
    let all: Vec<u8> = (0..length).map(|at| u8::try_from(at % 256).unwrap()).collect();
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(seen.typing.room().min(rest.len()));
        seen.typing.keys(now);
        rest = later;
        thread::yield_now();
    }
    let told = seen.expect("ok");
    std::fs::write(folder.path().join("all"), &all).unwrap();
    let (_, out, _) = run(&client, &shell("cksum < all"));
    assert_eq!(told.trim(), String::from_utf8(out).unwrap().trim());
    assert_eq!(seen.end(), End::Exited(0));
}

#[test]
fn output_is_whole_and_the_end_of_keys_is_no_end_of_the_command() {
    let Served { client, folder: _kept, .. } = served();
    let (exec, typing) = at_terminal("sleep 0.2; head -c 3000000 /dev/zero | tr '\\0' x");
    typing.end();
    let (outcome, out, _) = run(&client, &exec);
    assert_eq!((outcome.end, out.len()), (End::Exited(0), 3_000_000));
    // What it leaves behind and holds the terminal is hung up, and not waited for.
    let line = "trap '' HUP; (trap '' HUP; sleep 60) & echo left";
    let (outcome, out, _) = run(&client, &at_terminal(line).0);
    assert_eq!((outcome.end, out), (End::Exited(0), b"left\r\n".to_vec()));
}

#[test]
fn a_command_at_a_terminal_is_stopped_and_timed_like_any_other() {
    let Served { client, folder: _kept, .. } = served();
    let exec = at_terminal("sleep 60").0;
    let outcome = client.exec(&exec, &|| true, &mut |_, _| {}).unwrap();
    assert_eq!(outcome.end, End::Stopped);
    let exec = Exec { timeout: Some(Duration::from_millis(100)), ..exec };
    assert_eq!(run(&client, &exec).0.end, End::TimedOut);
    let missing = Exec { argv: vec!["no-such-program".into()], ..exec };
    let error = client.exec(&missing, &|| false, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, CallError::Refused { errno: 2, .. }), "{error}");
}
