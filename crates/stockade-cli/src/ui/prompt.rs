//! Questions and the user's own lines on the terminal.
//!
//! A question shows the action to the byte, escaped; no is the default; what was typed before it was
//! shown is no answer.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::event::{Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};
use stockade_agents::Stop;
use stockade_config::Notify;
use stockade_threads::{Ask, Asked, Reply};

use super::question::shown;
use super::typed::{self, Typed};
use super::{columns_of, printable};
use crate::ui;

/// How often the user's wish to stop is looked at.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How often it is looked whether a terminal is free.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// As much of an action as a notification shows, in characters.
const CALL_MAX: usize = 100;
/// What is said of a text of which a part is lost.
const CUT: &str =
    "a line was too long for a terminal, which drops what is behind 4,095 bytes; nothing was sent";
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 4096;

/// Asks on the controlling terminal, if there is one and standard error is shown on one.
#[derive(Debug)]
pub(crate) struct Prompt {
    stop: Stop,
    notify: Notify,
    turns: Arc<Turns>,
}

/// Whose the terminal is: questions of several threads of this process come one after the other,
/// and what the user types to the agent is no answer.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turn: Mutex<()>,
    is_talking: AtomicBool,
    /// Whether keys mean something else for now.
    is_held: AtomicBool,
    /// Whether the user has left this process to itself.
    is_left: AtomicBool,
    /// Whether a question's answer is being read.
    is_reading: AtomicBool,
}

impl Turns {
    /// Reads no answers before [`Turns::release`], so that the terminal can be read for another
    /// purpose; returns when nobody does.
    pub(crate) fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
        while self.is_reading.load(Ordering::SeqCst) {
            poll(&mut [], Some(&MOMENT)).ok();
        }
    }

    /// Goes on with the question that is open, if one is.
    pub(crate) fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }

    /// Nobody is at the terminal any more who could answer.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::SeqCst);
        self.release();
    }

    /// Waits while keys mean something else; false when nobody is there afterwards.
    pub(crate) fn waits_to_be_free(&self) -> bool {
        while self.is_held.load(Ordering::SeqCst) {
            poll(&mut [], Some(&TURN)).ok();
        }
        !self.is_left.load(Ordering::SeqCst)
    }

    /// Whether an answer is not waited for any more. While keys mean something else it waits here,
    /// and says afterwards what is waited for.
    fn is_given_up(&self, is_over: &dyn Fn() -> bool) -> bool {
        while !is_over() {
            // First told, then looked: whoever holds does it the other way round.
            let was_reading = self.is_reading.swap(true, Ordering::SeqCst);
            if self.is_free() {
                if !was_reading {
                    write!(std::io::stderr(), "  no> ").ok();
                }
                return false;
            }
            self.is_reading.store(false, Ordering::SeqCst);
            poll(&mut [], Some(&TURN)).ok();
        }
        true
    }

    fn is_free(&self) -> bool {
        !self.is_held.load(Ordering::SeqCst) && !self.is_left.load(Ordering::SeqCst)
    }

    /// Has the terminal for what the user says: no question is put before the value is dropped.
    fn talk(&self) -> Talking<'_> {
        // A question that is open comes first.
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_talking.store(true, Ordering::Relaxed);
        Talking { is_talking: &self.is_talking, _turn: turn }
    }
}

struct Talking<'a> {
    is_talking: &'a AtomicBool,
    _turn: MutexGuard<'a, ()>,
}

impl Drop for Talking<'_> {
    fn drop(&mut self) {
        self.is_talking.store(false, Ordering::Relaxed);
    }
}

impl Prompt {
    /// A prompt that is given up when `stop` is requested.
    pub(crate) fn new(stop: Stop) -> Self {
        Self { stop, notify: Notify::Off, turns: Arc::default() }
    }

    /// Whose the terminal is.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        Arc::clone(&self.turns)
    }

    /// The same that calls when it waits.
    pub(crate) fn calling(self, notify: Notify) -> Self {
        Self { notify, ..self }
    }

    /// One line, or a reply that came from elsewhere; `None` at the end of the input, or when the
    /// thread is to stop.
    fn line(
        &self,
        terminal: &File,
        elsewhere: &dyn Fn() -> Option<Reply>,
    ) -> Option<Result<String, Reply>> {
        let came = RefCell::new(None);
        let is_over = || {
            if !self.stop.is_requested() {
                came.replace(elsewhere());
            }
            self.stop.is_requested() || came.borrow().is_some()
        };
        let is_given_up = || self.turns.is_given_up(&is_over);
        let text = line(terminal, &is_given_up);
        self.turns.is_reading.store(false, Ordering::SeqCst);
        came.into_inner().map(Err).or(text.map(Ok))
    }
}

/// One line; `None` at the end of the input, or when it is given up.
pub(super) fn line(terminal: &File, is_given_up: &dyn Fn() -> bool) -> Option<String> {
    let answer = typed::line(terminal, is_given_up, ANSWER_MAX)?;
    let is_whole = answer.ends_with(b"\n") || answer.len() >= ANSWER_MAX;
    is_whole.then(|| String::from_utf8_lossy(&answer).trim().to_owned())
}

/// The controlling terminal, where standard error is shown on one.
pub(crate) fn terminal() -> Option<File> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    terminal.ok().filter(|_| std::io::stderr().is_terminal())
}

/// What the user says next, on a terminal that is theirs.
#[derive(Debug)]
pub(crate) struct Line {
    terminal: File,
    turns: Arc<Turns>,
}

impl Line {
    /// A line of the controlling terminal, when standard error is shown on one.
    pub(crate) fn open(turns: Arc<Turns>) -> Option<Self> {
        terminal().map(|terminal| Self { terminal, turns })
    }

    /// Waits for a line that says something, or for several that are pasted, and looks meanwhile whether to go on waiting. `None`
    /// at the end of the input (Ctrl-D), or when it is over.
    pub(crate) fn read(&self, look: &dyn Fn() -> Look) -> Option<String> {
        let _talking = self.turns.talk();
        let seen = Cell::new(Look::Wait);
        let is_given_up = || {
            seen.set(look());
            seen.get() != Look::Wait
        };
        loop {
            let mut error = std::io::stderr().lock();
            // Without a terminal to write to there is none to read from either.
            drop((write!(error, "> "), error.flush()));
            drop(error);
            match typed::text(&self.terminal, &is_given_up) {
                Some(Typed::Text(text)) if !text.is_empty() => return Some(text),
                Some(Typed::Cut) => {
                    ui::say("error", CUT);
                    ui::hint("write it into a file, and say which");
                }
                None if seen.get() != Look::Anew => return None,
                Some(_) | None => {}
            }
            if seen.get() == Look::Anew {
                writeln!(std::io::stderr(), "\n(Ctrl-C again, or Ctrl-D, ends the thread)").ok();
                seen.set(Look::Wait);
            }
        }
    }
}

/// What is to be done about a line that is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Wait on.
    Wait,
    /// Ask for it anew: the user has taken it back.
    Anew,
    /// Give it up.
    Over,
}

/// What makes the terminal call the user to a question about `action`: hostile words.
pub(super) fn call(notify: Notify, action: &str) -> String {
    match notify {
        Notify::Off => String::new(),
        Notify::Bell => "\u{7}".to_owned(),
        Notify::Desktop => {
            let line = printable(action.lines().next().unwrap_or_default());
            let short: String = line.chars().take(CALL_MAX).collect();
            format!("\u{1b}]9;stockade asks: {short}\u{7}")
        }
    }
}

/// Waits until no other question is on the terminal; the reply, if this one is answered elsewhere
/// meanwhile.
pub(super) fn turn<'a>(
    turn: &'a Mutex<()>,
    elsewhere: &dyn Fn() -> Option<Reply>,
) -> Result<MutexGuard<'a, ()>, Reply> {
    loop {
        match turn.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        if let Some(reply) = elsewhere() {
            return Err(reply);
        }
        poll(&mut [], Some(&TURN)).ok();
    }
}

impl Ask for Prompt {
    fn is_present(&self) -> bool {
        !self.turns.is_talking.load(Ordering::Relaxed)
            && !self.turns.is_left.load(Ordering::SeqCst)
            && terminal().is_some()
    }

    fn ask(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        let Some(terminal) = terminal() else { return Reply::Nobody };
        let _turn = match turn(&self.turns.turn, elsewhere) {
            Ok(turn) => turn,
            Err(reply) => return reply,
        };
        // Before it is shown: what is typed from then on is the answer.
        tcflush(&terminal, QueueSelector::IFlush).ok();
        let mut error = std::io::stderr().lock();
        let width = columns_of(&terminal);
        let effect = shown(&question.action, &question.effect, width);
        // Without a terminal to write to there is none to read from either.
        writeln!(error, "\n? {effect}").ok();
        writeln!(error, "  [y] once  [t] this exact one, for this thread  [n] no, or type why not")
            .ok();
        write!(error, "{}", offered(question, "this thread")).ok();
        write!(error, "{}", call(self.notify, &question.action)).ok();
        error.flush().ok();
        drop(error);
        match self.line(&terminal, elsewhere) {
            Some(Ok(answer)) => {
                let reply = reply(&answer, question);
                if let Some(text) = taken_for_a_no(&answer, &reply) {
                    writeln!(std::io::stderr().lock(), "{text}").ok();
                }
                reply
            }
            Some(Err(reply)) => {
                let said = match &reply {
                    Reply::Late => "nobody answered in time: no",
                    Reply::Deny(_) => "answered elsewhere: no",
                    Reply::Once | Reply::Thread(_) | Reply::Project(_) => "answered elsewhere: yes",
                    Reply::Nobody | Reply::Stop => "",
                };
                writeln!(std::io::stderr().lock(), "{said}").ok();
                reply
            }
            None if self.stop.is_requested() => Reply::Stop,
            None => Reply::Deny(String::new()),
        }
    }
}

/// Anything that is no clear yes is a no, and told to the agent. `t2` takes the second of the
/// beginnings, `t WORDS` and `p WORDS` one that is typed; a command that is asked about begins so.
pub(super) fn reply(answer: &str, question: &Asked) -> Reply {
    let (kind, rest) = answer.split_at(answer.chars().next().map_or(0, char::len_utf8));
    let wanted = rest.trim();
    let numbered = wanted.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let entries = if question.hosts.is_empty() { &question.paths } else { &question.hosts };
    let prefix = match numbered {
        Some(at) if !entries.is_empty() => entries.get(at).map(|it| vec![it.clone()]),
        Some(at) => question.prefixes.get(at).cloned(),
        None if rest.starts_with(' ') && !entries.is_empty() => Some(vec![wanted.to_owned()]),
        None if rest.starts_with(' ') => typed(wanted, &question.prefixes),
        None => None,
    };
    match (kind.to_ascii_lowercase().as_str(), prefix) {
        ("t", Some(prefix)) if question.may_grant(&prefix) => return Reply::Thread(Some(prefix)),
        ("p", Some(prefix)) if question.may_keep(&prefix) => return Reply::Project(prefix),
        _ => {}
    }
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" | "once" => Reply::Once,
        "t" | "thread" => Reply::Thread(None),
        "" | "n" | "no" => Reply::Deny(String::new()),
        _ => {
            let word = answer.strip_prefix("n ").or_else(|| answer.strip_prefix("no "));
            Reply::Deny(word.unwrap_or(answer).trim().to_owned())
        }
    }
}

/// What is said to an answer that begins like a yes for more, and is none.
pub(super) fn taken_for_a_no(answer: &str, reply: &Reply) -> Option<String> {
    let rest = answer.strip_prefix(['t', 'T', 'p', 'P'])?;
    let is_meant = rest.is_empty() || rest.starts_with(' ') || rest.parse::<usize>().is_ok();
    let is_no = matches!(reply, Reply::Deny(word) if word == answer);
    let text = || format!("taken for a no: `{}` is nothing that is offered", printable(answer));
    (is_meant && is_no).then(text)
}

/// What a yes may be meant for besides, a line each; `thread` is what the thread is called.
pub(super) fn offered(question: &Asked, thread: &str) -> String {
    let shown = |text: &str| printable(text).replace('\n', "\\n");
    let beginning = |(number, prefix): (usize, &Vec<String>)| {
        let kept = question.can_be_kept.then(|| format!("  [p{number}] for this project"));
        let (prefix, kept) = (shown(&prefix.join(" ")), kept.unwrap_or_default());
        format!("  [t{number}] `{prefix} …` for {thread}{kept}\n")
    };
    let host = |(number, entry): (usize, &String)| {
        format!("  [p{number}] `{}` for this project\n", shown(entry))
    };
    let path = |(number, path): (usize, &String)| {
        let path = shown(path);
        format!("  [t{number}] for {thread}  [p{number}] for this project: `{path}` and below\n")
    };
    let prefixes = (1..).zip(&question.prefixes).map(beginning);
    let hosts = (1..).zip(&question.hosts).map(host);
    let mut all: String =
        prefixes.chain(hosts).chain((1..).zip(&question.paths).map(path)).collect();
    let kept = if question.can_be_kept { "`t WORDS`, `p WORDS`" } else { "`t WORDS`" };
    if !question.prefixes.is_empty() {
        all.extend(["  or a beginning of your own: ", kept, "\n"]);
    } else if !question.hosts.is_empty() {
        all.push_str("  or an entry of your own: `p HOST:PORT`\n");
    } else if !question.paths.is_empty() {
        all.push_str("  or a folder of your own: `t PATH`, `p PATH`\n");
    }
    all
}

/// The words that were typed, when a command that is asked about begins with them.
fn typed(line: &str, prefixes: &[Vec<String>]) -> Option<Vec<String>> {
    let mut words = stockade_rules::split_words(line).ok()?;
    // Who reads `/usr/bin/git push` writes `git push`.
    let longest = prefixes.first().and_then(|words| words.first());
    if let (Some(first), Some(program)) = (words.first_mut(), longest)
        && program.rsplit_once('/').is_some_and(|(_, name)| name == first)
    {
        first.clone_from(program);
    }
    prefixes.iter().any(|longest| longest.starts_with(&words)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_draws_nothing_but_itself() {
        assert_eq!(call(Notify::Off, "x"), "");
        assert_eq!(call(Notify::Bell, "x"), "\u{7}");
        let hostile = format!("write /a\u{7}\u{1b}[2J\u{9c}{}\nmore", "b".repeat(999));
        let called = call(Notify::Desktop, &hostile);
        let inner = called.strip_prefix("\u{1b}]9;").unwrap().strip_suffix('\u{7}').unwrap();
        assert!(inner.starts_with("stockade asks: write /a"), "{inner}");
        assert!(!inner.contains(char::is_control) && inner.len() < 200, "{inner}");
    }

    #[test]
    fn a_host_is_allowed_for_the_project_by_an_entry_that_names_it() {
        let hosts = ["a.example.org:443", "a.example.org", "*.example.org:443"];
        let hosts = hosts.map(str::to_owned).to_vec();
        let question = Asked { hosts, ..Asked::default() };
        let kept = |entry: &str| Reply::Project(vec![entry.to_owned()]);
        for (answer, expected) in [
            ("p1", kept("a.example.org:443")),
            ("p3", kept("*.example.org:443")),
            ("p a.example.org:*", kept("a.example.org:*")),
            ("p b.example.org", Reply::Deny("p b.example.org".to_owned())),
            ("p4", Reply::Deny("p4".to_owned())),
            ("t1", Reply::Deny("t1".to_owned())),
            ("t", Reply::Thread(None)),
        ] {
            assert_eq!(reply(answer, &question), expected, "{answer}");
        }
        let shown = offered(&question, "this run");
        assert!(shown.contains("[p2] `a.example.org` for this project\n"), "{shown}");
    }

    #[test]
    fn a_path_is_allowed_with_what_is_below_it_by_a_folder_that_holds_it() {
        let paths = ["/srv/out/\u{202e}x", "/srv/out"].map(str::to_owned).to_vec();
        let question = Asked { paths, ..Asked::default() };
        let words = |path: &str| vec![path.to_owned()];
        for (answer, expected) in [
            ("t2", Reply::Thread(Some(words("/srv/out")))),
            ("p2", Reply::Project(words("/srv/out"))),
            ("p /srv/out", Reply::Project(words("/srv/out"))),
            ("t /srv/other", Reply::Deny("t /srv/other".to_owned())),
            ("p3", Reply::Deny("p3".to_owned())),
            ("p", Reply::Deny("p".to_owned())),
            ("t", Reply::Thread(None)),
        ] {
            assert_eq!(reply(answer, &question), expected, "{answer}");
        }
        let shown = offered(&question, "this run");
        let line = "  [t2] for this run  [p2] for this project: `/srv/out` and below\n";
        assert!(shown.contains(line), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
    }

    #[test]
    fn what_is_no_clear_yes_is_a_no() {
        let no = |word: &str| Reply::Deny(word.to_owned());
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let question = Asked {
            prefixes: vec![words("cargo test -p x"), words("cargo test")],
            can_be_kept: true,
            ..Asked::default()
        };
        for (answer, expected) in [
            ("y", Reply::Once),
            ("t2", Reply::Thread(Some(words("cargo test")))),
            ("p1", Reply::Project(words("cargo test -p x"))),
            ("t cargo", Reply::Thread(Some(words("cargo")))),
            ("p 'cargo' test", Reply::Project(words("cargo test"))),
            ("p", no("p")),
            ("t /bin/cargo", no("t /bin/cargo")),
            ("t3", no("t3")),
            ("p make", no("p make")),
            ("t0", no("t0")),
            ("YES", Reply::Once),
            ("t", Reply::Thread(None)),
            ("", no("")),
            ("n", no("")),
            ("no use the mock", no("use the mock")),
            ("yes please", no("yes please")),
            ("yy", no("yy")),
        ] {
            assert_eq!(reply(answer, &question), expected, "{answer}");
        }
    }

    #[test]
    fn a_beginning_may_be_typed_as_a_person_writes_it() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let prefixes = vec![words("/usr/bin/git push origin"), words("/usr/bin/git push")];
        let question = Asked { prefixes, can_be_kept: true, ..Asked::default() };
        assert_eq!(reply("p git push", &question), Reply::Project(words("/usr/bin/git push")));
        let shown = offered(&question, "this run");
        assert!(shown.ends_with("  or a beginning of your own: `t WORDS`, `p WORDS`\n"), "{shown}");
        for (answer, is_told) in [
            ("p git pull", true),
            ("t9", true),
            ("p", true),
            ("p git push", false),
            ("put it elsewhere", false),
            ("n", false),
        ] {
            let told = taken_for_a_no(answer, &reply(answer, &question));
            assert_eq!(told.is_some(), is_told, "{answer}");
        }
    }
}
