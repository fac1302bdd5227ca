//! Commands.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stockade_agents::{Exit, HandsError, ShellCall, ShellOutcome};
use stockade_guest::{CallError, End, Exec, Stream};
use stockade_policy::{Approved, Grant, Mode, Verdict, review};
use stockade_rules::{Part, PartKind, RuleSet, Ruling, generalised};

use super::capture::Capture;
use super::{Declined, NO_ENTRY, Session, failed};
use crate::approvals::Judged;
use crate::bounds::{Bounds, Refusal, shown};
use crate::in_place::{ASKED, InPlace};
use crate::journal::Live;
use crate::judge::{Judge, reading, refused};
use crate::place::{Noted, Place};
use crate::question::Asked;
use crate::record::{CommandFinished, CommandStarted, Connection, Decision, Denial, Event};

/// As a shell tells a time limit, timeout(1).
const TIMED_OUT: u8 = 124;
/// As a shell tells that a program cannot be run, or is not there.
pub(super) const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Who decides about a write outside.
const OUTSIDE: &str = stockade_policy::Denial::OUTSIDE;

/// What programs print when the boundary, or the owner of a file, refuses a write.
const REFUSED_BY_KERNEL: &str = "Read-only file system";

/// What a program prints for Stockade that a rule keeps from being executed.
const EXEC_REFUSED: &str = "stockade: refused: rule";

/// How the record names such a refusal.
const EXECUTE: &str = stockade_policy::Operation::Execute.as_str();

/// What came of a command.
pub(super) struct Ran {
    pub(super) end: Result<End, CallError>,
    /// As a shell has it.
    pub(super) status: u8,
    printed: Vec<u8>,
    is_truncated: bool,
    /// What the agent should know of refusals.
    words: Vec<String>,
    /// Whether a write outside is among them.
    tells_outside: bool,
}

/// How a command ended, what it printed, and where it was not let connect.
pub(super) struct Done {
    end: Result<End, CallError>,
    capture: Capture,
    refused: Vec<Connection>,
}

/// As many refusals as are told to the agent at once.
const WORDS_MAX: usize = 5;

/// Refused connections of one command in which those are looked for.
const REFUSED_MAX: usize = 1000;

impl Session<'_> {
    pub(super) fn next_command(&self) -> String {
        format!("c{}", self.commands.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn run_line(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        let id = self.next_command();
        let ruling = self.judged(call);
        if let Some(hits) = &self.parts.hits {
            hits.count(&ruling);
        }
        let exec = Exec {
            argv: vec![self.parts.place.shell().into(), "-c".into(), (&call.line).into()],
            folder: call.folder.clone(),
            timeout: call.timeout,
            ..Exec::default()
        };
        let open = match self.opening(call, &ruling) {
            Ok(open) => open,
            Err(refusal) => {
                self.record(&started(&id, call, &ruling, Decision::Deny))?;
                return Err(self.refuse(&refusal));
            }
        };
        let asked = self.question(call, &ruling, &open);
        let decision = match ruling.verdict {
            Verdict::Allow => Decision::Allow,
            Verdict::Ask => Decision::Ask,
            Verdict::Deny => Decision::Deny,
        };
        let again = |rules: &RuleSet| reading(rules, self.shell(), &call.line);
        let judged = Judged { asking: self.asking(&ruling), again: &again };
        match self.approve(review(exec, &[ruling.reviewed()]), &asked, Some(&judged)) {
            Ok(approved) => {
                self.record(&started(&id, call, &ruling, decision))?;
                let _allowing = self.parts.in_place.map(|it| it.allow(by_rule(&ruling)));
                self.execute(approved, (id, &open), output)
            }
            Err(Declined::Lost(error)) => Err(error),
            Err(declined) => {
                self.record(&started(&id, call, &ruling, Decision::Deny))?;
                Err(self.decline(call, &ruling, &declined))
            }
        }
    }

    fn shell(&self) -> &Path {
        self.parts.place.shell()
    }

    /// What is decided about a line, where it would run.
    fn judged(&self, call: &ShellCall) -> Ruling {
        let folder = call.folder.clone().unwrap_or_default();
        let is_outside = |target: &str| {
            let bounds = self.parts.bounds.as_ref().filter(|_| self.parts.widen.is_some());
            let path = folder.join(target);
            bounds.is_some_and(|it| it.is_outside(&path) && !self.has_opened(it, &path))
        };
        self.parts.judge.line(self.shell(), &call.line, is_outside)
    }

    /// Whether a person has opened what a redirection writes: its call will be answered so.
    fn has_opened(&self, bounds: &Bounds, path: &Path) -> bool {
        let resolved = || bounds.write(path).err().map(|refusal| refusal.target);
        let is_opened = |in_place: &InPlace<'_>| {
            in_place.has_granted() && resolved().is_some_and(|path| in_place.has_opened(&path))
        };
        self.parts.in_place.is_some_and(is_opened)
    }

    /// What running the line opens: what its rules grant, and the files outside that it writes.
    /// `Err` holds why one of these cannot be opened.
    fn opening(&self, call: &ShellCall, ruling: &Ruling) -> Result<Grant, Refusal> {
        let (Some(widen), Some(bounds)) = (self.parts.widen, &self.parts.bounds) else {
            return Ok(Grant::default());
        };
        let mut open = ruling.grant.clone();
        if ruling.verdict == Verdict::Deny || bounds.policy().mode != Mode::WorkspaceWrite {
            return Ok(Grant::default());
        }
        for target in ruling.parts.iter().filter_map(Part::outside) {
            let Some(refusal) = self.refusal(call, target) else { continue };
            match widen.open(&refusal.target) {
                Ok(grant) => open.add(&grant),
                // Nobody is asked about what nothing may open.
                Err(_why) => return Err(refusal),
            }
        }
        Ok(open)
    }

    /// The parts of a line that ask.
    fn asking<'r>(&self, ruling: &'r Ruling) -> Vec<Option<&'r [String]>> {
        let Judge { mode, approval, .. } = self.parts.judge;
        let asks = |part: &&Part| part.decision(mode, approval) == Verdict::Ask;
        let command = |part: &'r Part| match part.kind {
            PartKind::Command => Some(part.argv.as_slice()),
            PartKind::Write | PartKind::Opaque(_) => None,
        };
        ruling.parts.iter().filter(asks).map(command).collect()
    }

    fn question(&self, call: &ShellCall, ruling: &Ruling, open: &Grant) -> Asked {
        let place = call
            .folder
            .as_ref()
            .map_or_else(String::new, |folder| format!(" in {}", shown(folder)));
        let action = format!("run{place}: {}", call.line);
        let inside = match self.parts.bounds {
            Some(_) => format!("inside the boundary ({})", self.parts.judge.mode),
            None => "in the thread's machine".to_owned(),
        };
        // It has words of the command's, and a project's own.
        let reason = ruling.reason.replace('\n', " ");
        let opens = opened(open);
        let mut effect = format!("{action}\n{reason}\nA yes runs it {inside}, and opens {opens}.");
        if !ruling.grant.hosts.is_empty() && open.hosts.is_empty() {
            let hosts = ruling.grant.hosts.join(", ");
            effect.push_str("\nNot yet: hosts cannot be opened here, as the rule's grant says of ");
            effect.push_str(&hosts);
        }
        // What one prefix can speak of is one command, and one path of one file.
        let asking = self.asking(ruling);
        let prefixes = match asking.as_slice() {
            [Some(argv)] => generalised(argv),
            _ => Vec::new(),
        };
        let by_rule = ruling.parts.iter().any(|part| part.verdict == Some(Verdict::Ask));
        let rule = asking_rule(ruling);
        let can_be_kept = !by_rule || rule.is_some();
        let paths = self.paths(call, ruling);
        Asked { action, effect, prefixes, can_be_kept, rule, paths, ..Asked::default() }
    }

    /// What a yes may be meant for where one redirection to a file outside is all that asks.
    fn paths(&self, call: &ShellCall, ruling: &Ruling) -> Vec<String> {
        let mut outside = ruling.parts.iter().filter_map(Part::outside);
        match (outside.next(), outside.next(), self.asking(ruling).as_slice(), self.parts.in_place)
        {
            (Some(target), None, [None], Some(in_place)) => {
                let refusal = self.refusal(call, target);
                refusal
                    .map(|refusal| in_place.offers(&[refusal.target.as_path()]))
                    .unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn decline(&self, call: &ShellCall, ruling: &Ruling, declined: &Declined) -> HandsError {
        let outside = ruling.parts.iter().find_map(Part::outside);
        let refusal = outside.and_then(|target| self.refusal(call, target));
        if let (None, Declined::Nobody, Some(refusal)) = (&ruling.rule, declined, refusal) {
            return self.refuse(&refusal);
        }
        let decided_by = ruling.rule.as_ref().map_or("approval_policy", |rule| &rule.source);
        let denial = Denial::new("exec", call.line.as_ref(), decided_by);
        let why = declined.why();
        let words = if why.is_empty() {
            ruling.reason.clone()
        } else {
            format!("{}: {why}", ruling.reason)
        };
        self.deny(denial, &words)
    }

    /// What is said of a redirection to `target`, which is outside.
    fn refusal(&self, call: &ShellCall, target: &str) -> Option<Refusal> {
        let folder = call.folder.clone().unwrap_or_default();
        self.parts.bounds.as_ref()?.write(&folder.join(target)).err()
    }

    fn execute(
        &self,
        exec: Approved<Exec>,
        (id, open): (String, &Grant),
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        let wide = if open.is_empty() { None } else { Some(self.wide(open)?) };
        let place = wide.as_deref().unwrap_or(self.parts.place);
        let ran = self.carry_out(exec, (id, place), &mut |_stream, bytes| {
            self.parts.journal.show(&Live::Output(bytes));
            output(bytes);
        })?;
        let exit = match ran.end {
            Ok(End::Exited(status)) => Exit::Status(status),
            Ok(End::Killed(signal)) => Exit::Signal(signal),
            Ok(End::TimedOut) => Exit::TimedOut,
            Ok(End::Stopped) => return Err(HandsError::Interrupted),
            Err(error) => return Err(failed(error)),
        };
        let Ran { mut printed, is_truncated, words, tells_outside, .. } = ran;
        if !tells_outside {
            printed.extend(self.remark(&printed, exit).bytes());
        }
        // A command that went well did without what was refused, but a person's answer is for the
        // agent to know.
        for words in words.iter().filter(|it| exit != Exit::Status(0) || it.contains(ASKED)) {
            self.parts.journal.show(&Live::Refused(words));
            printed.extend(format!("\n{words}\n").bytes());
        }
        Ok(ShellOutcome { exit, output: printed, is_truncated })
    }

    /// Has it run, and records its end.
    pub(super) fn carry_out(
        &self,
        exec: Approved<Exec>,
        (id, place): (String, &dyn Place),
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, HandsError> {
        let done = self.have_done(exec, (&id, place), output);
        self.note_end(done, (id, place))
    }

    /// Has it run, and keeps what it prints.
    pub(super) fn have_done(
        &self,
        exec: Approved<Exec>,
        (id, place): (&str, &dyn Place),
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Done {
        let mut capture = Capture::default();
        let mut printing = self.parts.journal.printing(id);
        let mut exec = exec.into_action();
        // Where a person may be asked meanwhile, the time is kept here.
        let asks = self.parts.in_place.filter(|_| exec.timeout.is_some());
        let clock = asks.and_then(|asks| Some(Clock::new(exec.timeout.take()?, asks)));
        let is_late = || clock.as_ref().is_some_and(Clock::is_over);
        let is_stopped = || self.parts.stop.is_requested();
        let refused = RefCell::default();
        let look = || self.note_connections(place.connections(), &mut refused.borrow_mut());
        let stop = || {
            // Which is asked all the time: who follows the record sees them as they open.
            if look().is_err() {
                self.parts.stop.request();
            }
            is_stopped() || is_late()
        };
        let outcome = place.client().exec(&exec, &stop, &mut |stream, bytes| {
            capture.add(bytes);
            printing.add(bytes);
            output(stream, bytes);
        });
        let end = outcome.map(|outcome| {
            let by_clock = outcome.end == End::Stopped && is_late() && !is_stopped();
            if by_clock { End::TimedOut } else { outcome.end }
        });
        Done { end, capture, refused: refused.into_inner() }
    }

    /// Records what was connected, and keeps what was refused for the agent.
    fn note_connections(
        &self,
        connections: Vec<Event>,
        refused: &mut Vec<Connection>,
    ) -> Result<(), HandsError> {
        for event in connections {
            self.record(&event)?;
            if let Event::Connection(connection) = event
                && connection.decision == Decision::Deny
                && refused.len() < REFUSED_MAX
            {
                refused.push(connection);
            }
        }
        Ok(())
    }

    /// Records the end of a command that has run.
    pub(super) fn note_end(
        &self,
        Done { end, capture, mut refused }: Done,
        (id, place): (String, &dyn Place),
    ) -> Result<Ran, HandsError> {
        let (printed, is_truncated) = capture.finish();
        let status = match &end {
            Ok(End::Exited(status)) => *status,
            Ok(End::Killed(signal)) => of_signal(*signal),
            Ok(End::TimedOut) => TIMED_OUT,
            Err(CallError::Refused { errno: NO_ENTRY, .. }) => NOT_FOUND,
            Err(CallError::Refused { .. }) => NOT_EXECUTABLE,
            Ok(End::Stopped) | Err(_) => of_signal(9),
        };
        let noted = match &end {
            Ok(End::Exited(_) | End::Killed(_) | End::TimedOut) => place.noted(),
            Ok(End::Stopped) | Err(_) => Noted::default(),
        };
        self.note_connections(noted.connections, &mut refused)?;
        let cut_off = cut_off(&refused);
        if let Some(hits) = &self.parts.hits {
            let denials = noted.denials.iter().map(|(denial, _)| denial);
            hits.count_denials(&self.parts.judge.rules, denials);
        }
        // Who executed a program that a rule denies has been told why.
        let is_told = contains(&printed, EXEC_REFUSED);
        let untold = noted.denials.iter().filter(|(denial, _)| denial.op != EXECUTE || !is_told);
        let untold: Vec<_> = untold.take(WORDS_MAX).collect();
        let is_outside = |by: &str| by == OUTSIDE || by.starts_with(ASKED);
        let tells_outside =
            untold.iter().any(|(denial, _)| denial.op != EXECUTE && is_outside(&denial.decided_by));
        let words = untold.into_iter().map(|(denial, words)| self.in_words(denial, words));
        let words = words.chain(cut_off).collect();
        self.record(&Event::CommandFinished(CommandFinished {
            id,
            exit: status,
            output: String::from_utf8_lossy(&printed).into_owned(),
            truncated: is_truncated,
            timed_out: matches!(end, Ok(End::TimedOut)),
            denials: noted.denials.into_iter().map(|(denial, _)| denial).collect(),
        }))?;
        Ok(Ran { end, status, printed, is_truncated, words, tells_outside })
    }

    /// A refusal for the agent, who names paths as its own tools do.
    fn in_words(&self, denial: &Denial, words: &str) -> String {
        match &self.parts.bounds {
            Some(bounds) if denial.decided_by == OUTSIDE => refused(&format!(
                "{} of {} is outside the writable roots (writable here: {})",
                denial.op,
                bounds.shown(Path::new(&denial.target)),
                bounds.writable_here()
            )),
            _ => words.to_owned(),
        }
    }

    /// What is added for the agent when a command failed on something that is read-only, and which
    /// path that was is not known: a second try, or a place where nobody takes refusals down.
    fn remark(&self, printed: &[u8], exit: Exit) -> String {
        let Some(bounds) = &self.parts.bounds else { return String::new() };
        if exit == Exit::Status(0) || !contains(printed, REFUSED_BY_KERNEL) {
            return String::new();
        }
        let words = format!(
            "a write was outside what may be written (writable here: {})",
            bounds.writable_here()
        );
        let words = refused(&words);
        self.parts.journal.show(&Live::Refused(&words));
        format!("\n{words}\n")
    }
}

/// What is said of hosts that were refused, once each.
fn cut_off(refusals: &[Connection]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for Connection { host, port, rule, .. } in refusals {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let why = rule.as_deref().unwrap_or("not allowed");
        let words = refused(&format!("connect to {host}{port}: {why}"));
        if all.len() < WORDS_MAX && !all.contains(&words) {
            all.push(words);
        }
    }
    all
}

/// The time that a command may take, but for what it waits for a person's answer.
struct Clock<'a> {
    left: Cell<Duration>,
    looked: Cell<Instant>,
    asks: &'a InPlace<'a>,
}

impl<'a> Clock<'a> {
    fn new(limit: Duration, asks: &'a InPlace<'a>) -> Self {
        Self { left: Cell::new(limit), looked: Cell::new(Instant::now()), asks }
    }

    /// To be called often: what is asked and answered between two looks counts.
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let passed = now - self.looked.replace(now);
        if !self.asks.is_asking() {
            self.left.set(self.left.get().saturating_sub(passed));
        }
        self.left.get().is_zero()
    }
}

/// The commands that rules ask about.
fn by_rule(ruling: &Ruling) -> Vec<Vec<String>> {
    let asks = |part: &&Part| part.kind == PartKind::Command && part.verdict == Some(Verdict::Ask);
    ruling.parts.iter().filter(asks).map(|part| part.argv.clone()).collect()
}

/// The words of the rule that asks about the one part of a line that a rule asks about, and that part
/// asks alone: an answer to it is no answer to another's question.
fn asking_rule(ruling: &Ruling) -> Option<String> {
    let mut asking = ruling.parts.iter().filter(|part| part.verdict == Some(Verdict::Ask));
    let (part, None) = (asking.next()?, asking.next()) else { return None };
    part.rule.as_ref().map(|rule| rule.prefix.clone())
}

/// What is opened, in words.
pub(super) fn opened(open: &Grant) -> String {
    let paths = open.writable.iter().map(|path| format!("a write to {}", shown(path.as_path())));
    let ports = open.ports.iter().map(|port| format!("localhost:{port}"));
    let all: Vec<String> = paths.chain(ports).chain(open.hosts.iter().cloned()).collect();
    if all.is_empty() { "nothing else".to_owned() } else { format!("{} for it", all.join(", ")) }
}

fn started(id: &str, call: &ShellCall, ruling: &Ruling, decision: Decision) -> Event {
    Event::CommandStarted(CommandStarted {
        id: id.to_owned(),
        argv: None,
        line: Some(call.line.clone()),
        decision,
        rule: ruling.rule.as_ref().map(|rule| rule.source.clone()),
    })
}

fn contains(printed: &[u8], words: &str) -> bool {
    printed.windows(words.len()).any(|window| window == words.as_bytes())
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
}
