//! Questions of programs that wait in a boundary: a file outside, a new host, a rule that asks.
//!
//! The engine is that of a thread's commands ([`Approvals`]). What comes of a yes is exactly what was
//! asked about: the file is opened here, beneath a folder that was opened before the question, and
//! handed over; the boundary stays what it was.
//!
//! Invariants:
//! - a path is asked about only when its user could write there, and configuration lets a person open
//!   it: never a secret, a protected name, or what every boundary has for itself;
//! - what is not at its place any more when the answer comes is not opened;
//! - the same is asked once, however many wait for it.

mod change;
mod counter;
mod keeper;
mod offers;
mod target;
mod uses;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{Mode, OFlags};
use stockade_gateway::{AskHost, Given, Login};
use stockade_policy::guard::Guard;
use stockade_policy::secrets::{HIDDEN_BEGINNINGS_IN_HOME, HIDDEN_IN_HOME, NOT_ASKED_IN_HOME};
use stockade_policy::{AbsPath, ApprovalPolicy, Verdict};
use stockade_rules::{Exec, RuleRef, RuleSet, generalised};
use stockade_sandbox::{Asks, Question, Reply as Answer, Wanted};

use crate::approvals::{Approvals, Asking, Judged, Put, of_run};
use crate::bounds::{OUTSIDE, shown};
use crate::hits::Hits;
use crate::question::{Asked, Reply, entries};
use crate::record::{self, Event};
use crate::session::answered;
use crate::widen::Openings;
use crate::{Bounds, Refusal, ThreadId};
pub use counter::Counter;
pub(crate) use counter::counter;
use keeper::Keeper;
use target::Target;
use uses::Uses;

/// Folders that a boundary has for itself, or that are of the machine.
const NEVER: [&str; 14] = [
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/boot", "/etc", "/usr", "/bin", "/sbin",
    "/lib", "/lib32", "/lib64",
];

/// How long an answer is that of everybody who waited for the same.
const SAME: Duration = Duration::from_secs(5);
/// How often they look.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long the last questions of a run may take to be withdrawn, in turns.
const LAST_TURNS: usize = 10;

/// How the words begin by which an answer is no.
pub(crate) const ASKED: &str = "asked, and";

type Note<'a> = dyn Fn(&Event) + Send + Sync + 'a;

/// What the questions of one run or thread are judged by.
pub struct InPlaceOf<'a> {
    /// Which paths are open, and why others are not.
    pub bounds: Bounds,
    /// Which of them a person may open; without, none.
    pub openings: Option<&'a dyn Openings>,
    /// The rules that may ask.
    pub rules: RuleSet,
    /// When a person is asked.
    pub approval: ApprovalPolicy,
    /// Takes questions and answers down.
    pub note: Box<Note<'a>>,
    /// Folders over which a draft lies: what is beneath it is not written to.
    pub drafts: Vec<PathBuf>,
    /// Where it is counted how often each rule has asked.
    pub hits: Option<Hits>,
    /// The store and the thread for whose undo is kept what a yes changes; without, nothing is.
    pub undo: Option<(PathBuf, ThreadId)>,
}

/// Answers programs that wait.
pub struct InPlace<'a> {
    approvals: &'a Approvals<'a>,
    of: InPlaceOf<'a>,
    /// Where questions and grants are.
    folder: PathBuf,
    /// Whether that goes with this.
    is_own: bool,
    /// Which actions are asked about now, and what was answered a moment ago.
    turns: Mutex<HashMap<String, Option<(Instant, Said)>>>,
    open: AtomicUsize,
    is_over: AtomicBool,
    /// Commands of lines that were allowed and run now.
    allowed: Mutex<Vec<Vec<String>>>,
    keeper: Keeper,
    uses: Uses,
    /// Rules that asked and were counted.
    counted: Mutex<HashSet<String>>,
}

impl fmt::Debug for InPlaceOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlaceOf").field("approval", &self.approval).finish_non_exhaustive()
    }
}

impl fmt::Debug for InPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Commands that a line was allowed with, as long as it runs.
#[derive(Debug)]
pub(crate) struct Allowing<'a> {
    place: &'a InPlace<'a>,
    commands: Vec<Vec<String>>,
}

impl Drop for Allowing<'_> {
    fn drop(&mut self) {
        let mut allowed = self.place.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        for command in &self.commands {
            let at = allowed.iter().position(|other| other == command);
            at.map(|at| allowed.swap_remove(at));
        }
    }
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Once,
    Always,
    /// Nobody is there.
    Nobody,
    /// In words that follow the name of the action.
    No(String),
}

impl InPlace<'static> {
    /// The questions of run `id`, whose record is in the store at `root`.
    pub fn of_run(
        (root, id): (&Path, &ThreadId),
        asking: &Asking<'static>,
        stop: &'static stockade_agents::Stop,
        of: InPlaceOf<'static>,
    ) -> Arc<Self> {
        let folder = of_run(root, id);
        // As long as the process, which ends with the run.
        let approvals = Box::leak(Box::new(Approvals::new((id, &folder), asking, stop)));
        Arc::new(Self { is_own: true, ..Self::new(approvals, of) })
    }

    /// The questions of a thread in `folder` whose process ends with it.
    pub fn of_thread(
        (id, folder): (&ThreadId, &Path),
        asking: &Asking<'static>,
        stop: &'static stockade_agents::Stop,
        of: InPlaceOf<'static>,
    ) -> Arc<Self> {
        let approvals = Box::leak(Box::new(Approvals::new((id, folder), asking, stop)));
        Arc::new(Self::new(approvals, of))
    }

    /// Answers what comes, in threads.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had.
    pub fn serve(self: &Arc<Self>, asks: Asks) -> io::Result<()> {
        let this = Arc::clone(self);
        let run = move || {
            // What goes wrong here leaves every denial what it is.
            while let Ok(Some(question)) = asks.next() {
                let Some(question) = this.at_once(question) else { continue };
                let this = Arc::clone(&this);
                // At the limit of threads the question is dropped, which nobody answers then.
                let one = move || this.answer(question);
                std::thread::Builder::new().name("question".to_owned()).spawn(one).ok();
            }
        };
        std::thread::Builder::new().name("questions".to_owned()).spawn(run).map(drop)
    }
}

impl<'a> InPlace<'a> {
    /// The questions of a thread, by its own engine.
    pub fn new(approvals: &'a Approvals<'a>, of: InPlaceOf<'a>) -> Self {
        Self {
            approvals,
            keeper: Keeper::new(of.undo.clone()),
            of,
            folder: approvals.folder().to_owned(),
            is_own: false,
            turns: Mutex::default(),
            open: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            allowed: Mutex::default(),
            uses: Uses::default(),
            counted: Mutex::default(),
        }
    }

    /// The program of each of `commands` may be executed with these words as long as the value lives:
    /// a person has allowed the line that they are in.
    pub(crate) fn allow(&'a self, commands: Vec<Vec<String>>) -> Allowing<'a> {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.extend(commands.iter().cloned());
        Allowing { place: self, commands }
    }

    /// Whether anything has been allowed for longer than once.
    pub(crate) fn has_granted(&self) -> bool {
        self.approvals.has_granted()
    }

    /// Whether a write to `path`, which is resolved, would go on without a question.
    pub(crate) fn has_opened(&self, path: &Path) -> bool {
        let (action, paths) = (format!("write {}", shown(path)), self.offers(&[path]));
        let asked = Asked { action, paths, ..Asked::default() };
        self.may_be_asked(path) && self.approvals.grant_of(&asked, None).is_some()
    }

    /// Whether somebody is being asked now.
    pub(crate) fn is_asking(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Gives back what takes a while to answer.
    fn at_once(&self, question: Question) -> Option<Question> {
        let is_write = matches!(question.wanted, Wanted::Write { .. } | Wanted::Change(_));
        if is_write && !self.approvals.is_anybody_there() && !self.approvals.has_granted() {
            question.answer(Answer::Nobody);
            return None;
        }
        Some(question)
    }

    fn answer(&self, question: Question) {
        let reply = self.decide(&question);
        question.answer(reply);
    }

    /// Takes the last questions back, when nothing of the run is left. The value is what the user should
    /// know of what is kept.
    pub fn finish(&self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for _ in 0..LAST_TURNS {
            if self.open.load(Ordering::Relaxed) == 0 {
                break;
            }
            poll(&mut [], Some(&TURN)).ok();
        }
        if self.is_own {
            // Without questions there is none.
            std::fs::remove_dir_all(&self.folder).ok();
        }
        self.uses.totals().iter().for_each(&self.of.note);
        self.keeper.end()
    }

    /// Whether hosts may be asked about when something begins; `may_come` says that somebody is to be
    /// expected, as one is at a terminal.
    pub fn may_ask_about_hosts(&self, may_come: bool) -> bool {
        self.of.approval.asks_to_cross() && (may_come || self.approvals.has_client())
    }

    fn decide(&self, question: &Question) -> Answer {
        match &question.wanted {
            Wanted::Write { path, flags, mode } if self.of.approval.asks_to_cross() => {
                let flags = OFlags::from_bits_retain(flags.cast_unsigned());
                self.write(question, path, (flags, Mode::from_raw_mode(*mode)))
            }
            Wanted::Change(change) if self.of.approval.asks_to_cross() => {
                self.change(question, change)
            }
            Wanted::Execute { asked, file, argv } if self.of.approval.asks_by_rule() => {
                let exec = Exec { asked, file, argv };
                let judged = self.of.rules.judge_exec(exec);
                let rule = judged.filter(|(verdict, _)| *verdict == Verdict::Ask);
                self.execute(question, exec, rule.map(|(_, rule)| rule).as_ref())
            }
            Wanted::Write { .. } | Wanted::Change(_) | Wanted::Execute { .. } => Answer::Unasked,
        }
    }

    fn write(&self, question: &Question, path: &Path, how: (OFlags, Mode)) -> Answer {
        let target = self.may_be_asked(path).then(|| Target::find(path).ok()).flatten();
        let Some(target) = target else { return Answer::Unasked };
        let action = format!("write {}", shown(path));
        let program = escaped(&question.program);
        let verb = if target.is_new() { "makes" } else { "changes" };
        let effect = format!(
            "{action}\n`{program}` {verb} this file, which is outside what may be written.\n\
             A yes opens this one file to it."
        );
        let paths = self.offers(&[path]);
        let asked = Asked { action, effect, paths, ..Asked::default() };
        match self.ask(&asked, None, &|| question.is_wanted()) {
            Said::Once if !question.is_wanted() => self.keep(&asked),
            Said::Once | Said::Always => match target.open(how, &self.kept(&[path])) {
                Ok(file) => Answer::File(file),
                Err(error) => {
                    Answer::No(format!("allowed, but it could not be opened afterwards: {error}"))
                }
            },
            Said::Nobody => Answer::Nobody,
            Said::No(why) => Answer::No(why),
        }
    }

    fn execute(&self, question: &Question, exec: Exec<'_>, rule: Option<&RuleRef>) -> Answer {
        let Exec { asked: name, file, argv } = exec;
        if self.is_allowed(exec) {
            return Answer::Yes;
        }
        let line = argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let action = format!("run: {line}");
        let why = match rule {
            Some(RuleRef { prefix, source, reason, .. }) => {
                let reason = reason.as_ref().map(|text| format!(": {}", text.replace('\n', " ")));
                let reason = reason.unwrap_or_default();
                format!("rule \"{prefix}\" ({source}) asks about this command{reason}")
            }
            None => "a rule asks about what this starts".to_owned(),
        };
        let (program, file) = (escaped(&question.program), escaped(file));
        let effect = format!(
            "{action}\n{why}\n`{program}` executes {file}.\nA yes runs it this once inside the \
             boundary, and opens nothing."
        );
        // A yes to a beginning is for the program at this path: whoever calls chooses the first word.
        let words = [name.to_owned()].into_iter().chain(argv.iter().skip(1).cloned());
        let words: Vec<String> = words.collect();
        let again = |rules: &RuleSet| rules.evaluate_argv(&words);
        let asks = rule.map(|rule| rule.prefix.as_str());
        let judged = Judged { asking: vec![Some(&words)], again: &again };
        let prefixes = if name.starts_with('/') { beginnings(&words) } else { Vec::new() };
        let (can_be_kept, named) = (asks.is_some(), asks.map(str::to_owned));
        let asked =
            Asked { action, effect, prefixes, can_be_kept, rule: named, ..Asked::default() };
        match self.ask(&asked, Some(&judged), &|| question.is_wanted()) {
            Said::Once if !question.is_wanted() => self.keep(&asked),
            Said::Once | Said::Always => {
                if let Some(rule) = rule {
                    self.count(rule);
                }
                Answer::Yes
            }
            // Others wait for somebody who is there: lines that were allowed execute what asks.
            Said::Nobody => Answer::Unasked,
            Said::No(word) => {
                Answer::No(format!("stockade: refused: {why}; {word}; do not work around it"))
            }
        }
    }

    /// Counts a rule whose question was answered yes, once in a run as those that refuse are.
    fn count(&self, rule: &RuleRef) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = counted.insert(rule.decided());
        drop(counted);
        if let (Some(hits), true) = (&self.of.hits, is_new) {
            hits.count_rule(rule);
        }
    }

    /// Whether it is a command of a line that was allowed and runs now.
    fn is_allowed(&self, Exec { asked, file, argv }: Exec<'_>) -> bool {
        let base = |path: &str| Path::new(path).file_name().map(OsStr::to_owned);
        let allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.iter().any(|command| {
            let name = command.first().and_then(|name| base(name));
            command == argv && (name == base(asked) || name == base(file))
        })
    }

    /// Keeps a yes for the one who asks again in a moment: a signal came first, and the call is made
    /// once more.
    fn keep(&self, asked: &Asked) -> Answer {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.insert(asked.action.clone(), Some((Instant::now(), Said::Once)));
        Answer::Unasked
    }

    /// Asks, or has the answer of somebody who asked the same.
    fn ask(
        &self,
        asked: &Asked,
        judged: Option<&Judged<'_>>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Said {
        let is_wanted = &|| is_wanted() && !self.is_over.load(Ordering::Relaxed);
        loop {
            if let Some(grant) = self.approvals.grant_of(asked, judged) {
                self.uses.take(&grant, &asked.action).iter().for_each(&self.of.note);
                return Said::Always;
            }
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.as_ref().is_none_or(|(when, _)| when.elapsed() < SAME));
            match turns.get(&asked.action) {
                Some(Some((_, said))) => {
                    let said = said.clone();
                    if said == Said::Once {
                        turns.remove(&asked.action);
                    }
                    return said;
                }
                None => {
                    turns.insert(asked.action.clone(), None);
                    break;
                }
                Some(None) => {}
            }
            drop(turns);
            if !is_wanted() {
                return Said::No(String::new());
            }
            poll(&mut [], Some(&TURN)).ok();
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let said = self.put(asked, is_wanted);
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.remove(&asked.action);
        // Only a no is for others too: a yes for once is for who asked.
        if let Said::No(_) = said {
            turns.insert(asked.action.clone(), Some((Instant::now(), said.clone())));
        }
        said
    }

    fn put(&self, asked: &Asked, is_wanted: &dyn Fn() -> bool) -> Said {
        if !self.approvals.is_anybody_there() {
            return Said::Nobody;
        }
        let id = self.approvals.next();
        (self.of.note)(&Event::Question(record::Question {
            id: id.clone(),
            effect: asked.effect.clone(),
            choices: self.approvals.choices(asked),
            prefixes: asked.prefixes.clone(),
        }));
        let put = self.approvals.put_while(&id, asked, is_wanted);
        (self.of.note)(&Event::Answer(answered(id, &put)));
        let Put { reply, by } = put;
        match reply {
            Reply::Once => Said::Once,
            Reply::Thread(_) | Reply::Project(_) => Said::Always,
            Reply::Nobody => Said::Nobody,
            Reply::Late => Said::No("asked, and nobody answered in time".to_owned()),
            Reply::Stop => Said::No("asked, and not answered any more".to_owned()),
            Reply::Deny(word) if by == "flood" => Said::No(word),
            Reply::Deny(word) if word.is_empty() => Said::No("asked, and the user said no".into()),
            Reply::Deny(word) => Said::No(format!("asked, and the user said no: {word}")),
        }
    }

    /// Whether a person may be asked about a write to `path`.
    fn may_be_asked(&self, path: &Path) -> bool {
        let is_never = NEVER.iter().any(|root| path.starts_with(root)) || Guard::is_notable(path);
        let home = self.of.bounds.policy().home.as_ref().map(AbsPath::as_path);
        let is_secret = home.and_then(|home| path.strip_prefix(home).ok()).is_some_and(is_secret);
        let is_draft = self.of.drafts.iter().any(|root| path.starts_with(root));
        // What it resolves to on this machine is what it was inside. A link is a name of its own.
        let resolved = if path.is_symlink() { path.parent().unwrap_or(path) } else { path };
        let is_outside =
            |refusal: Refusal| refusal.decided_by == OUTSIDE && refusal.target == resolved;
        let is_open = || self.of.openings.is_some_and(|openings| openings.open(path).is_ok());
        !(is_never || is_secret || is_draft)
            && self.of.bounds.write(resolved).is_err_and(is_outside)
            && is_open()
    }
}

impl AskHost for InPlace<'_> {
    fn is_present(&self) -> bool {
        self.of.approval.asks_to_cross() && self.approvals.is_anybody_there()
    }

    fn is_granted(&self, host: &str, port: u16) -> bool {
        let action = connect(host, port);
        self.approvals.has_granted()
            // Each connection has a line of its own in the record.
            && self.approvals.grant_of(&Asked { action, ..Asked::default() }, None).is_some()
    }

    fn ask(&self, host: &str, port: u16, _process: Option<u32>) -> Given {
        let action = connect(host, port);
        let effect = format!(
            "{action}\nno entry of the network's list allows this host at this port.\n\
             A yes lets what runs inside connect to it."
        );
        let asked = Asked { action, effect, hosts: entries(host, port), ..Asked::default() };
        match Self::ask(self, &asked, None, &|| true) {
            Said::Once => Given::Once,
            Said::Always => Given::Always,
            Said::Nobody => Given::No("not allowed".to_owned()),
            Said::No(why) => Given::No(format!("not allowed: {why}")),
        }
    }

    fn ask_login(&self, login: &Login) -> Given {
        const REMEDY: &str = "not allowed; `[[network.ssh]]` would allow it";
        let Login { host, user, fingerprint, comment } = login;
        if !self.of.approval.asks_to_cross() {
            return Given::No(REMEDY.to_owned());
        }
        let action = format!("log in to {host} as {} by ssh, key {fingerprint}", escaped(user));
        let effect = format!(
            "{action}\nno rule of the network allows this log-in, by your key `{}`.\n\
             A yes signs it: what runs inside is then you at that host. The key stays outside.\n\
             Once is this log-in alone; git logs in anew for each fetch and push.",
            escaped(comment)
        );
        let asked = Asked { action, effect, ..Asked::default() };
        match Self::ask(self, &asked, None, &|| true) {
            Said::Once => Given::Once,
            Said::Always => Given::Always,
            Said::Nobody => Given::No(REMEDY.to_owned()),
            Said::No(why) => Given::No(format!("not allowed: {why}")),
        }
    }
}

fn connect(host: &str, port: u16) -> String {
    format!("connect to {host}:{port}")
}

/// Whether a path at home would be hidden if it were there: a secret, or what agents and shells keep;
/// or is what tools write there by themselves.
fn is_secret(path: &Path) -> bool {
    let is = |part: &OsStr, pattern: &OsStr| {
        let (part, pattern) = (part.to_string_lossy(), pattern.to_string_lossy());
        match pattern.split_once('*') {
            Some((start, end)) => part.starts_with(start) && part.ends_with(end),
            None => part == pattern,
        }
    };
    let lies_in = |pattern: &str| {
        let patterns: Vec<&OsStr> = Path::new(pattern).iter().collect();
        let parts: Vec<&OsStr> = path.iter().take(patterns.len()).collect();
        parts.len() == patterns.len() && parts.iter().zip(&patterns).all(|(one, two)| is(one, two))
    };
    let text = path.to_string_lossy();
    HIDDEN_IN_HOME.iter().any(|(_, patterns)| patterns.iter().any(|pattern| lies_in(pattern)))
        || HIDDEN_BEGINNINGS_IN_HOME.iter().any(|(_, start)| text.starts_with(start))
        || NOT_ASKED_IN_HOME.iter().any(|start| text.starts_with(start))
}

/// Beginnings that a yes to the program at an absolute path may be meant for.
fn beginnings(words: &[String]) -> Vec<Vec<String>> {
    let Some((path, rest)) = words.split_first() else { return Vec::new() };
    let base = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named: Vec<String> = [base].into_iter().chain(rest.iter().cloned()).collect();
    let mut all = generalised(&named);
    all.iter_mut().filter_map(|words| words.first_mut()).for_each(|first| first.clone_from(path));
    all
}

/// A text without anything that draws on a terminal.
fn escaped(text: &str) -> String {
    shown(Path::new(text))
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    escaped(&format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests;
