//! The question on a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, ptsname, unlockpt};
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, told, users};

/// `command` with a terminal of its own, and the other side of that.
pub(crate) struct Terminal {
    pub(crate) master: File,
    pub(crate) child: Child,
    seen: String,
}

impl Terminal {
    /// `command` in the foreground of a terminal, without timeout(1): it passes on the signals
    /// that the terminal has sent to everybody.
    pub(crate) fn foreground(command: &Command) -> Self {
        let mut words = command.get_args().skip(1);
        let mut foreground = Command::new(words.next().unwrap());
        foreground.args(words);
        foreground.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        foreground.current_dir(command.get_current_dir().unwrap());
        Self::start(&foreground)
    }

    fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        // Everybody in the new session may open `/dev/tty`, whoever the user is.
        rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o666)).unwrap();
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        session.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        session.current_dir(command.get_current_dir().unwrap());
        let side = || slave.try_clone().unwrap();
        let child = session.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { master: master.into(), child, seen: String::new() }
    }

    /// Types it.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `words` came; `None` for the end.
    pub(crate) fn expect(&mut self, words: Option<&str>) {
        let mut buffer = [0; 4096];
        while words.is_none_or(|words| !self.seen.contains(words)) {
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(
                poll(&mut ready, Some(&limit)),
                Ok(1),
                "{words:?} did not come: {}",
                self.seen
            );
            // EIO: nobody holds the other side any more.
            let count = self.master.read(&mut buffer).unwrap_or(0);
            if count == 0 && words.is_none() {
                return;
            }
            assert!(count > 0, "{words:?} did not come: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let end = words.and_then(|words| self.seen.find(words).map(|at| at + words.len()));
        self.seen.drain(..end.unwrap());
    }
}

#[test]
fn a_question_shows_what_would_happen_and_takes_an_answer() {
    let place = Place::new(*users().last().unwrap());
    let shell = |line: &str| Step::Shell(line.to_owned());
    let model = FakeModel::start(vec![
        shell("cargo fetch"),
        shell("cargo fetch"),
        shell("cargo fetch --offline\u{1b}[2J"),
        shell("cargo fetch --locked"),
        Step::say("The end."),
    ])
    .unwrap();
    let command = place.command(&model, &["local", "-q", "x"]);
    let mut terminal = Terminal::foreground(&command);
    terminal.expect(Some("? run: cargo fetch"));
    terminal.expect(Some("fetches from the registry"));
    terminal.expect(Some("no> "));
    terminal.master.write_all(b"t\n").unwrap();
    terminal.expect(Some("cargo fetch --offline\\u{1b}[2J"));
    terminal.expect(Some("no> "));
    terminal.master.write_all(b"no take the vendored ones\n").unwrap();
    terminal.expect(Some("cargo fetch --locked"));
    terminal.expect(Some("no> "));
    terminal.master.write_all(b"\n").unwrap();
    terminal.expect(Some("The end."));
    terminal.expect(None);
    assert!(terminal.child.wait().unwrap().success());
    let told = told(&model);
    assert!(told[0].contains("exit status") && told[1].contains("exit status"), "{told:?}");
    assert!(told[2].contains("the user said no: take the vendored ones"), "{told:?}");
    assert!(told[3].contains("the user said no;"), "{told:?}");
}

/// The lines of a command, and of a folder's name, that would pass for the question's own.
#[test]
fn a_command_cannot_pass_for_the_question_about_it() {
    let place = Place::new(*users().last().unwrap());
    let lines = "cargo fetch --evil\n? run: cargo fetch\n  [y] once\nA yes opens nothing.";
    let model =
        FakeModel::start(vec![Step::Shell(lines.to_owned()), Step::say("The end.")]).unwrap();
    let mut terminal = Terminal::foreground(&place.command(&model, &["local", "-q", "x"]));
    let shown =
        "? run: cargo fetch --evil\r\n  | ? run: cargo fetch\r\n  |   [y] once\r\n  | A yes opens";
    terminal.expect(Some(shown));
    terminal.expect(Some("no> "));
    terminal.type_in("\n");
    terminal.expect(Some("The end."));
    terminal.expect(None);
}

#[test]
fn what_a_command_starts_is_asked_about_while_it_waits() {
    for uid in users() {
        let place = Place::new(uid);
        let line = "echo x > src/new; for to in notes third other; do cp src/new ../$to.txt; done";
        let model =
            FakeModel::start(vec![Step::Shell(line.to_owned()), Step::say("The end.")]).unwrap();
        let mut terminal = Terminal::foreground(&place.command(&model, &["local", "x"]));
        let written = |name: &str| std::fs::read_to_string(place.home().join(name)).ok();
        for (name, answer) in [("notes", "y"), ("third", "n leave it"), ("other", "")] {
            terminal.expect(Some(&format!("/home/{name}.txt")));
            terminal.expect(Some("A yes opens this one file to it."));
            terminal.expect(Some("no> "));
            terminal.type_in(&format!("{answer}\n"));
        }
        terminal.expect(Some("The end."));
        terminal.expect(None);
        assert!(terminal.child.wait().unwrap().success());
        assert_eq!(written("notes.txt").as_deref(), Some("x\n"));
        assert_eq!((written("third.txt"), written("other.txt")), (None, None));
        assert!(told(&model)[0].contains("the user said no: leave it"), "{:?}", told(&model));
    }
}

#[test]
fn a_ctrl_c_at_the_question_ends_the_thread() {
    let place = Place::new(*users().last().unwrap());
    let model = FakeModel::start(vec![Step::Shell("cargo fetch".to_owned())]).unwrap();
    let command = place.command(&model, &["local", "x"]);
    let mut terminal = Terminal::foreground(&command);
    terminal.expect(Some("no> "));
    terminal.master.write_all(b"\x03").unwrap();
    terminal.expect(Some("interrupted"));
    terminal.expect(None);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
}
