//! One engine for all questions of a thread, whoever answers them: a person at the thread's
//! terminal, or `stockade approvals` in another one.
//!
//! Invariants:
//! - a question that nobody can answer is a denial at once; one that nobody does answer is a denial
//!   that says so;
//! - a yes allows what was asked, no more: this action, or commands that begin as the answer says;
//! - the first answer counts.

mod desk;
mod grants;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use stockade_agents::Stop;
use stockade_policy::Verdict;
use stockade_rules::{Judgement, PartKind, Rule, RuleSet};

pub use desk::{
    AnswerError, Client, GivenAnswer, OpenQuestion, QuestionState, answer, find_question,
    open_questions,
};
pub use grants::{Granted, OpenGrant, RevokeError, granted, open_grants, revoke_grant};

use crate::ThreadId;
use crate::question::{Ask, Asked, Kept, Reply, spelled};
use crate::store::now;
use crate::widen::Openings;
use desk::Desk;
pub(crate) use desk::of_run;

/// How long a question waits unless the user says otherwise.
pub const QUESTION_TIMEOUT: Duration = Duration::from_mins(5);

/// How the reason of a no begins that nobody gave: there were too many questions.
pub const UNASKED: &str = "nobody was asked";

/// Questions that a person is asked in one minute; an agent that has more is told no.
const A_MINUTE_MAX: usize = 20;

/// How often the same action is asked again after a no.
const SAME_DENIED_MAX: u32 = 3;

/// How often an answer from elsewhere is looked for.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Keeps a yes for the project.
pub type Keep = dyn Fn(Kept<'_>) -> Result<(), String> + Send + Sync;

/// Who is asked, how long, and what can come of a yes.
pub struct Asking<'a> {
    /// Who asks a person.
    pub ask: &'a dyn Ask,
    /// How long a question waits.
    pub limit: Duration,
    /// Who keeps a yes for the project.
    pub keep: Option<&'a Keep>,
    /// Who says what opening a path comes to; without, a write outside is a denial.
    pub openings: Option<&'a dyn Openings>,
    /// What was answered for the project before, to rules that ask: the words of each and a beginning.
    pub answers: Vec<(String, Vec<String>)>,
}

impl<'a> Asking<'a> {
    /// Asking by `ask` alone: a yes is for the thread at most, and opens nothing.
    pub fn of(ask: &'a dyn Ask) -> Self {
        Self { ask, limit: QUESTION_TIMEOUT, keep: None, openings: None, answers: Vec::new() }
    }
}

impl std::fmt::Debug for Asking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What a thread's questions go through.
pub struct Approvals<'a> {
    thread: ThreadId,
    folder: PathBuf,
    root: PathBuf,
    ask: &'a dyn Ask,
    stop: &'a Stop,
    limit: Duration,
    keep: Option<&'a Keep>,
    openings: Option<&'a dyn Openings>,
    answers: Vec<(String, Vec<String>)>,
    count: AtomicU64,
    recent: Mutex<VecDeque<Instant>>,
    denied: Mutex<HashMap<String, u32>>,
}

impl std::fmt::Debug for Approvals<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approvals").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// A question that was put, and what came of it.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) reply: Reply,
    /// Who or what answered: `terminal`, `client`, `timeout`, `no-terminal`, `flood`.
    pub(crate) by: &'static str,
}

impl<'a> Approvals<'a> {
    /// The questions of the thread in `folder`.
    pub fn new((thread, folder): (&ThreadId, &Path), asking: &Asking<'a>, stop: &'a Stop) -> Self {
        let Asking { ask, limit, keep, openings, ref answers } = *asking;
        Self {
            thread: thread.clone(),
            folder: folder.to_owned(),
            root: folder.ancestors().nth(2).unwrap_or(folder).to_owned(),
            ask,
            stop,
            limit,
            keep,
            openings,
            answers: answers.clone(),
            // A thread that goes on does not take old answers for its own.
            count: AtomicU64::new(Desk::of(folder).last()),
            recent: Mutex::default(),
            denied: Mutex::default(),
        }
    }

    /// Where questions and what was granted are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a person has allowed anything for the rest of the thread.
    pub(crate) fn has_granted(&self) -> bool {
        granted(&self.folder) != Granted::default()
    }

    /// A number for the next question.
    pub(crate) fn next(&self) -> String {
        format!("q{}", self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// What can be answered to `asked`.
    pub(crate) fn choices(&self, asked: &Asked) -> Vec<String> {
        let has_any = asked.can_be_kept && !asked.prefixes.is_empty() || !asked.is_about_commands();
        let keeps = self.keep.is_some() && has_any;
        let choices = ["once", "thread", "project", "deny"];
        let offered = choices.into_iter().filter(|choice| keeps || *choice != "project");
        offered.map(str::to_owned).collect()
    }

    /// What a person has allowed before of which this is a part, or that covers every part of it that
    /// asks: the action itself, a path, beginnings of commands.
    pub(crate) fn grant_of(&self, asked: &Asked, judged: Option<&Judged<'_>>) -> Option<String> {
        let Granted { actions, prefixes, paths } = granted(&self.folder);
        let is_below = |path: &String| {
            asked.paths.first().is_some_and(|asked| Path::new(asked).starts_with(path))
        };
        let itself = actions.into_iter().find(|action| *action == asked.action);
        let commands = || {
            let answers = (self.answers.as_slice(), asked.rule.as_deref());
            judged.and_then(|judged| judged.covering(&prefixes, answers))
        };
        itself.or_else(|| paths.into_iter().find(is_below)).or_else(commands)
    }

    /// Whether somebody waits for questions elsewhere.
    pub(crate) fn has_client(&self) -> bool {
        Client::is_there(&self.root)
    }

    /// Whether somebody is there who could answer.
    pub(crate) fn is_anybody_there(&self) -> bool {
        self.ask.is_present() || Client::is_there(&self.root)
    }

    /// Puts a question and waits for its answer.
    pub(crate) fn put(&self, number: &str, asked: &Asked) -> Put {
        self.put_while(number, asked, &|| true)
    }

    /// The same as long as somebody wants to know; [`Reply::Stop`] when nobody does any more.
    pub(crate) fn put_while(
        &self,
        number: &str,
        asked: &Asked,
        is_wanted: &dyn Fn() -> bool,
    ) -> Put {
        if let Some(put) = self.flood(asked) {
            return put;
        }
        let at_terminal = self.ask.is_present();
        if !at_terminal && !Client::is_there(&self.root) {
            return Put { reply: Reply::Nobody, by: "no-terminal" };
        }
        let desk = Desk::of(&self.folder);
        let mut question = self.question(number, asked);
        // Where it cannot be laid down, the terminal alone can answer.
        let is_laid = desk.lay(number, &question).is_ok();
        if !is_laid && !at_terminal {
            return Put { reply: Reply::Nobody, by: "no-terminal" };
        }
        let end = Instant::now() + self.limit;
        let elsewhere = || {
            let given = desk.answer(number).map(GivenAnswer::reply);
            let is_over = || self.stop.is_requested() || !is_wanted();
            let stopped = || is_over().then_some(Reply::Stop);
            let late = || (Instant::now() >= end).then_some(Reply::Late);
            given.or_else(stopped).or_else(late)
        };
        let (reply, by) = self.wait(at_terminal, asked, &elsewhere);
        let reply = self.kept(asked, reply);
        question.state = match &reply {
            Reply::Late => QuestionState::Expired,
            Reply::Stop => QuestionState::Withdrawn,
            Reply::Once | Reply::Thread(_) | Reply::Project(_) | Reply::Deny(_) | Reply::Nobody => {
                QuestionState::Answered
            }
        };
        // It is settled whether or not this can still be read there.
        desk.lay(number, &question).ok();
        self.remember(asked, &reply);
        Put { reply, by }
    }

    fn wait(
        &self,
        at_terminal: bool,
        asked: &Asked,
        elsewhere: &dyn Fn() -> Option<Reply>,
    ) -> (Reply, &'static str) {
        let is_elsewhere = std::cell::Cell::new(false);
        let reply = if at_terminal {
            let noted = || elsewhere().inspect(|_| is_elsewhere.set(true));
            self.ask.ask(asked, &noted)
        } else {
            is_elsewhere.set(true);
            loop {
                if let Some(reply) = elsewhere() {
                    break reply;
                }
                rustix::event::poll(&mut [], Some(&TURN)).ok();
            }
        };
        let by = match (&reply, is_elsewhere.get()) {
            (Reply::Late, _) => "timeout",
            (Reply::Nobody, _) => "no-terminal",
            // Nobody said so: who asked is gone.
            (Reply::Stop, true) => "withdrawn",
            (_, true) => "client",
            (_, false) => "terminal",
        };
        (reply, by)
    }

    /// A yes for the project is kept before it counts, and one to a path is measured.
    fn kept(&self, asked: &Asked, reply: Reply) -> Reply {
        let not_kept = |why: String| Reply::Deny(format!("the answer could not be kept: {why}"));
        if let Reply::Thread(Some(words)) | Reply::Project(words) = &reply
            && let ([path], false) = (words.as_slice(), asked.paths.is_empty())
        {
            let opened = self.openings.map(|openings| openings.open(Path::new(path)));
            match opened {
                Some(Ok(_)) if asked.may_grant(words) => {}
                Some(Err(why)) => return not_kept(why),
                None | Some(Ok(_)) => return not_kept(format!("`{path}` cannot be opened")),
            }
        }
        let Reply::Project(prefix) = &reply else { return reply };
        let keeps = self.keep.filter(|_| asked.may_keep(prefix));
        let path;
        let kept = match prefix.as_slice() {
            [entry] if !asked.hosts.is_empty() => Kept::Host(entry),
            [entry] if !asked.paths.is_empty() => {
                path = spelled(entry);
                Kept::Path(&path)
            }
            words => match &asked.rule {
                Some(rule) => Kept::Answer(rule, words),
                None => Kept::Commands(words),
            },
        };
        match keeps.map(|keep| keep(kept)) {
            Some(Ok(())) => reply,
            Some(Err(why)) => not_kept(why),
            None => Reply::Deny("this cannot be allowed for the project".to_owned()),
        }
    }

    /// An agent that asks without end is told no without anybody being asked.
    fn flood(&self, asked: &Asked) -> Option<Put> {
        let no = |word: String| Some(Put { reply: Reply::Deny(word), by: "flood" });
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        if denied.get(&asked.action).is_some_and(|count| *count >= SAME_DENIED_MAX) {
            return no(format!("they said so {SAME_DENIED_MAX} times, and are not asked again"));
        }
        drop(denied);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = Duration::from_mins(1);
        while recent.front().is_some_and(|time| time.elapsed() > minute) {
            recent.pop_front();
        }
        if recent.len() >= A_MINUTE_MAX {
            return no(format!("{UNASKED}: more than {A_MINUTE_MAX} questions in a minute"));
        }
        recent.push_back(Instant::now());
        None
    }

    fn remember(&self, asked: &Asked, reply: &Reply) {
        if matches!(reply, Reply::Deny(_)) {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            *denied.entry(asked.action.clone()).or_default() += 1;
        }
        let add = |granted: &mut Granted| match reply {
            Reply::Thread(None) => granted.actions.push(asked.action.clone()),
            // A host is no beginning of a command: this one is open until the end, others from the next start.
            Reply::Project(_) if !asked.hosts.is_empty() => {
                granted.actions.push(asked.action.clone());
            }
            Reply::Thread(Some(words)) | Reply::Project(words) if !asked.paths.is_empty() => {
                granted.paths.extend(words.first().map(|path| spelled(path)));
            }
            Reply::Thread(Some(prefix)) | Reply::Project(prefix) => {
                granted.prefixes.push(prefix.clone());
            }
            Reply::Once | Reply::Deny(_) | Reply::Nobody | Reply::Late | Reply::Stop => {}
        };
        if matches!(reply, Reply::Thread(_) | Reply::Project(_)) {
            // Asked again next time, if it could not be kept.
            grants::change(&self.folder, add).ok();
        }
    }

    fn question(&self, number: &str, asked: &Asked) -> OpenQuestion {
        OpenQuestion {
            id: format!("{}:{number}", self.thread),
            thread: self.thread.to_string(),
            action: asked.action.clone(),
            effect: asked.effect.clone(),
            choices: self.choices(asked),
            prefixes: asked.prefixes.clone(),
            hosts: if self.keep.is_some() { asked.hosts.clone() } else { Vec::new() },
            paths: asked.paths.clone(),
            asked: now(),
            limit_seconds: self.limit.as_secs(),
            state: QuestionState::Open,
        }
    }
}

/// A command line that asks, and how it was read.
pub(crate) struct Judged<'a> {
    /// The parts that ask, as program and arguments; `None` for one that no prefix can speak of.
    pub(crate) asking: Vec<Option<&'a [String]>>,
    /// What other rules would say of the same line.
    pub(crate) again: &'a dyn Fn(&RuleSet) -> Judgement,
}

impl Judged<'_> {
    /// Whether each part that asks begins as a person has allowed, read as strictly as a rule that
    /// allows; an answer is to `rule`, which asks.
    /// The value is those that were needed.
    fn covering(
        &self,
        prefixes: &[Vec<String>],
        (answers, rule): (&[(String, Vec<String>)], Option<&str>),
    ) -> Option<String> {
        // Beside another part that asks, it would be an answer to that as well.
        let to = rule.filter(|_| self.asking.len() == 1);
        let is_to = |(rule, _): &&(String, Vec<String>)| to == Some(rule.as_str());
        let answers = answers.iter().filter(is_to).map(|(_, prefix)| prefix);
        let rule = |prefix: &Vec<String>| {
            let words = prefix.iter().map(|word| vec![word.clone()]).collect();
            Rule::new(words, Verdict::Allow, "this thread").ok()
        };
        let rules: Vec<Rule> = prefixes.iter().chain(answers).filter_map(rule).collect();
        if rules.is_empty() {
            return None;
        }
        let rules = RuleSet::new(rules).ok()?;
        let judgement = (self.again)(&rules);
        let allowed_by = |argv: &[String]| {
            let part = judgement.parts.iter().find(|part| {
                part.kind == PartKind::Command
                    && part.verdict == Some(Verdict::Allow)
                    && part.argv == argv
            });
            part.map(|part| part.rule.as_ref().map(|rule| rule.prefix.clone()).unwrap_or_default())
        };
        let by: Option<BTreeSet<String>> =
            self.asking.iter().map(|argv| argv.and_then(allowed_by)).collect();
        by.map(|by| by.into_iter().collect::<Vec<_>>().join(", "))
    }
}
