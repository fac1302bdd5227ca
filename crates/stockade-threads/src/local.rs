//! A local thread: the built-in agent at work on the user's own files.

mod history;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use stockade_agents::{AgentError, Builtin, Conversation, Model, Stop, Task};
use stockade_policy::{Mode, Policy};
use stockade_sandbox::Execs;

use crate::ThreadId;
use crate::approvals::{Approvals, Asking};
use crate::bounds::Bounds;
use crate::caches::Held;
use crate::draft::{Draft, DraftError, Look};
pub use crate::ended::Ended;
use crate::ended::{Deadline, NAMED, not_in_diff, title, with_causes};
use crate::git::{LocalChanges, SnapshotError};
use crate::held::{Settled, Watched};
use crate::hits::Hits;
use crate::in_place::{Counter, InPlace, InPlaceOf, counter};
use crate::instructions::{self, Instructions};
use crate::journal::{Journal, Watch};
use crate::judge::Judge;
use crate::place::{Kept, Local, PlaceError, walls};
use crate::record::{Changes, Event, Kind, Message, Phase, PhaseState, Role, State, ThreadResumed};
use crate::session::{Parts, Session};
use crate::store::{Cancel, NewThread, Store, StoreError, Thread};
use crate::surroundings;
use crate::undo::{self, Segment};
use crate::widen::{LocalWiden, Widen};
use crate::wrote;

/// What a local thread is to do, and within what.
#[derive(Debug)]
pub struct LocalTask {
    /// In the user's words.
    pub prompt: String,
    /// Who does it.
    pub model: Model,
    /// Which commands run, ask or are refused.
    pub judge: Judge,
    /// Which paths are within reach.
    pub bounds: Bounds,
    /// The environment of the commands.
    pub environment: Vec<(OsString, OsString)>,
    /// Where what they write to caches lands.
    pub caches: Option<Held>,
    /// Who judges what they start.
    pub execs: Option<Execs>,
    /// How long it may take.
    pub budget: Budget,
    /// Whether what it writes waits beside the files, to be applied. One that goes on is what it
    /// was.
    pub is_draft: bool,
    /// The thread that goes on with it, instead of a new one.
    pub goes_on: Option<ThreadId>,
}

/// What one task may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls to the model.
    pub max_turns: u32,
    /// Tokens in all.
    pub max_tokens: Option<u64>,
    /// What one command has.
    pub command_timeout: Duration,
    /// What the model can read at once, in tokens.
    pub context_tokens: u64,
}

/// The thread did not begin; nothing has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The model cannot be used as it is configured.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The boundary is not up.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The thread's record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no draft.
    #[error(transparent)]
    Draft(#[from] DraftError),
}

impl LocalError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Agent(error) => error.hint(),
            Self::Place(error) => error.hint().map(str::to_owned),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Draft(error) => error.hint().map(str::to_owned),
        }
    }
}

/// Who is there while a thread is at work.
pub struct Company<'a> {
    /// Sees what happens.
    pub watch: &'a mut dyn Watch,
    /// Answers questions.
    pub asking: &'a Asking<'a>,
    /// Wishes it to stop.
    pub stop: &'a Stop,
    /// Says what else is to be done, after each turn; nothing ends the thread.
    pub next: &'a mut dyn FnMut(&Ended) -> Option<String>,
}

impl std::fmt::Debug for Company<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Company")
    }
}

/// Runs a local thread to its end, and records it in `store`.
///
/// # Errors
///
/// [`LocalError`]: it did not begin. A thread that began and failed is [`Ended`].
pub fn run(task: LocalTask, store: &Store, company: Company<'_>) -> Result<Ended, LocalError> {
    let Company { watch, asking, stop, next } = company;
    let agent = Builtin::new(task.model.clone())?;
    let mut policy = task.bounds.policy().clone();
    policy.network.asks = task.judge.approval.asks_to_cross();
    // The limit is the thread's, which also waits for the model.
    let deadline = Deadline::set(policy.limits.wall_time.take(), stop);
    let wide = policy.clone();
    let (asks, coming) = counter();
    let asks = asks_in_place(&task.judge).then_some(asks);
    let begun = Begun::new(&task, policy, (store, asks.as_ref()))?;
    let Begun { thread, place, mut looked, undo, from, watched } = begun;
    let wider = asking.openings.filter(|_| !task.is_draft).map(|openings| LocalWiden {
        policy: wide,
        environment: task.environment.clone(),
        execs: task.execs.clone(),
        thread: (store.root().to_owned(), thread.id().clone()),
        openings,
        notes: watched.as_ref().map(Watched::path),
        asks: asks.clone(),
    });
    let cancel = Cancel::watch(thread.folder(), stop);
    let mut conversation = Conversation::new();
    let journal = match from {
        None => Journal::begin(store, &thread, watch)?,
        Some(from) => {
            let told = history::told(store.records(thread.id())?);
            conversation = Conversation::after(&told);
            let journal = Journal::new(&thread, watch);
            journal.record(&Event::ThreadResumed(ThreadResumed { from }))?;
            journal
        }
    };
    let approvals = Approvals::new((thread.id(), thread.folder()), asking, stop);
    let kept = (looked.laid_over(), Some((store.root().to_owned(), thread.id().clone())));
    let of = in_place_of((&task, asking), kept, Box::new(journal.noting(stop)));
    let questions = InPlace::new(&approvals, of);
    let session = Session::new(Parts {
        place: &place,
        judge: task.judge.clone(),
        bounds: Some(task.bounds.clone()),
        approvals: &approvals,
        widen: wider.as_ref().map(|wider| wider as &dyn Widen),
        journal: &journal,
        stop,
        hits: Some(Hits::of(store.root())),
        in_place: Some(&questions),
    });
    let turns = Turns {
        agent: &agent,
        session: &session,
        record: (&thread, &journal),
        ends: (&deadline, &cancel, stop),
    };
    let work = work(task, &session);
    let mut ended = thread::scope(|scope| {
        let _attended = coming.attend(scope, &questions).map_err(PlaceError::from)?;
        turns.all((&mut conversation, work), &mut looked, next)
    })?;
    drop(session);
    // The boundary comes down before the end is recorded: nothing happens after it.
    drop((place, wider));
    let kept_outside = questions.finish();
    let held = settled(watched, &journal)?;
    ended.notes = record_changes(looked.after(), &journal)
        .unwrap_or_else(|error| vec![format!("its changes could not be recorded: {error}")]);
    ended.notes.extend(held.line(thread.id()));
    ended.notes.extend(undo.notes());
    ended.notes.extend(kept_outside);
    Ok(ended.record(&thread, &journal))
}

/// One turn after the other, as long as somebody says what else is to be done.
struct Turns<'a> {
    agent: &'a Builtin,
    session: &'a Session<'a>,
    record: (&'a Thread, &'a Journal<'a>),
    ends: (&'a Deadline, &'a Cancel, &'a Stop),
}

impl Turns<'_> {
    fn all(
        &self,
        (conversation, mut work): (&mut Conversation, Task),
        looked: &mut Looked,
        next: &mut dyn FnMut(&Ended) -> Option<String>,
    ) -> Result<Ended, LocalError> {
        let Self { agent, session, record: (thread, journal), ends: (deadline, cancel, stop) } =
            *self;
        loop {
            let said = Message { role: Role::User, text: work.prompt.clone() };
            journal.record(&Event::Message(said))?;
            let heard = &mut |event| session.heard(event);
            let result = agent.go_on((conversation, &work), session, heard, stop);
            let ended = Ended::of_agent(thread, result).within(deadline).cancelled_by(cancel);
            let Some(prompt) = next(&ended).filter(|_| !ended.is_at_a_limit()) else {
                return Ok(ended);
            };
            // So that somebody who looks meanwhile, or after a kill, sees what there is.
            looked.so_far().map(|changes| journal.record(&Event::Changes(changes))).transpose()?;
            stop.withdraw();
            if deadline.has_passed() || cancel.was_wished() {
                stop.request();
            }
            work.prompt = prompt;
        }
    }
}

/// The agent's task.
fn work(task: LocalTask, session: &Session<'_>) -> Task {
    let policy = task.bounds.policy();
    let folders = instructions::folders(policy.workspace.as_path());
    let instructions = Instructions::new(session, task.budget.context_tokens);
    let is_held = policy.mode != Mode::DangerFullAccess;
    let instructions = if is_held { instructions } else { instructions.unheld() };
    let instructions = instructions.read(&folders);
    Task {
        system: surroundings::describe(&task.judge, &task.bounds, &instructions),
        prompt: task.prompt,
        max_turns: task.budget.max_turns,
        max_tokens: task.budget.max_tokens,
        context_tokens: task.budget.context_tokens,
        command_timeout: task.budget.command_timeout,
    }
}

/// What the questions of the commands are judged by.
fn in_place_of<'a>(
    (task, asking): (&LocalTask, &Asking<'a>),
    (drafts, undo): (Vec<PathBuf>, Option<(PathBuf, ThreadId)>),
    note: Box<dyn Fn(&Event) + Send + Sync + 'a>,
) -> InPlaceOf<'a> {
    InPlaceOf {
        bounds: task.bounds.clone(),
        openings: asking.openings,
        rules: task.judge.rules.clone(),
        approval: task.judge.approval,
        note,
        drafts,
        hits: undo.as_ref().map(|(root, _)| Hits::of(root)),
        undo,
    }
}

/// Whether anybody may be asked what the commands wait for.
fn asks_in_place(judge: &Judge) -> bool {
    judge.approval.asks_to_cross() || judge.approval.asks_by_rule()
}

/// Looks at what the thread left behind, and records what was held back of it.
fn settled(watched: Option<Watched>, journal: &Journal<'_>) -> Result<Settled, StoreError> {
    let settled = watched.map(Watched::settle).unwrap_or_default();
    settled.events().try_for_each(|event| journal.record(&event))?;
    Ok(settled)
}

/// Begins the list of what is looked at when the thread is over. A thread is not begun without.
pub(crate) fn watched(store: &Store, id: &ThreadId) -> Result<Watched, StoreError> {
    Watched::begin(store.root(), id).map_err(StoreError::io("keep a list in", store.root()))
}

/// A thread whose boundary is up.
struct Begun {
    thread: Thread,
    place: Local,
    looked: Looked,
    undo: Undo,
    /// Where it stood, when it goes on.
    from: Option<State>,
    /// What is looked at when it is over; of a draft nothing, which is not on the files.
    watched: Option<Watched>,
}

/// A boundary, how what happens in it is found, and what it keeps.
type Around = (Local, Looked, Undo, Option<Watched>);

/// What the boundary keeps of the files that it changes.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    pub(crate) segment: Option<Segment>,
    /// Why there is nothing.
    failure: Option<String>,
}

impl Undo {
    fn begin(store: &Store, id: &ThreadId, policy: &Policy) -> Self {
        Self::beside(store, id, (policy, &[]))
    }

    /// `direct` are writable roots that are no part of the work.
    pub(crate) fn beside(
        store: &Store,
        id: &ThreadId,
        (policy, direct): (&Policy, &[PathBuf]),
    ) -> Self {
        match Segment::of_policy(store.root(), id, (policy, direct)) {
            Ok(segment) => Self { segment, failure: None },
            Err(why) => Self { segment: None, failure: Some(why) },
        }
    }

    /// What the user should know of it. The boundary is down.
    pub(crate) fn notes(self) -> Vec<String> {
        self.failure.into_iter().chain(self.segment.as_ref().and_then(undo::missing)).collect()
    }
}

/// How what a thread changes is found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// By looking at the files before and after.
    Before(Box<Result<LocalChanges, SnapshotError>>),
    /// By what the boundary keeps of what it replaces.
    Kept(Box<WroteOf>),
    /// By looking at what the draft holds.
    Draft {
        draft: Draft,
        /// What was recorded of it before this process.
        earlier: Option<Box<Changes>>,
    },
}

/// A thread whose changes are told by what is kept.
#[derive(Debug)]
pub(crate) struct WroteOf {
    store: PathBuf,
    id: ThreadId,
    folder: PathBuf,
    workspace: PathBuf,
    hidden: Vec<PathBuf>,
    /// What was recorded of it before this process.
    earlier: Option<Changes>,
}

impl WroteOf {
    fn changes(&self) -> Result<Changes, String> {
        let look = wrote::Look {
            workspace: &self.workspace,
            hidden: &self.hidden,
            with_ignored: false,
            earlier: self.earlier.as_ref(),
        };
        let told = wrote::of_thread((&self.store, &self.id), &self.folder, look);
        let told = told.map_err(|error| with_causes(&error))?;
        let nothing = || match &self.earlier {
            Some(earlier) => Ok(earlier.clone()),
            // What changes nothing leaves no journal.
            None => wrote::nothing(&self.folder, look).map_err(|error| with_causes(&error)),
        };
        told.map_or_else(nothing, |(changes, _)| Ok(changes))
    }
}

impl Begun {
    fn new(
        task: &LocalTask,
        mut policy: Policy,
        (store, asks): (&Store, Option<&Counter>),
    ) -> Result<Self, LocalError> {
        store.hide(&mut policy);
        if let Some(id) = &task.goes_on {
            return Self::again(task, &policy, (store, asks), id);
        }
        let environment = task.environment.clone();
        let kept = Kept {
            layers: Vec::new(),
            caches: task.caches.as_ref().map(Held::layer),
            execs: task.execs.clone(),
            notes: None,
            undo: None,
            asks: asks.cloned(),
        };
        let create = |walls: &[&str]| {
            store.create(&NewThread {
                kind: Kind::Local,
                workspace: policy.workspace.as_path().to_owned(),
                title: title(&task.prompt),
                mode: task.judge.mode.to_string(),
                approvals: task.judge.approval.to_string(),
                enforcement: walls.iter().map(|&wall| wall.to_owned()).collect(),
                policy: surroundings::pinned(&task.judge, &task.bounds),
                agent: None,
                with_changes: false,
            })
        };
        let thread = create(walls(policy.mode))?;
        let begin = || -> Result<Around, LocalError> {
            if task.is_draft {
                let draft = Draft::begin(thread.folder(), &policy, &[])?;
                let kept = Kept { layers: draft.layers(), ..kept };
                let place = Local::start(policy.clone(), environment, kept)?;
                return Ok((place, Looked::Draft { draft, earlier: None }, Undo::default(), None));
            }
            let undo = Undo::begin(store, thread.id(), &policy);
            let watched = watched(store, thread.id())?;
            let kept = Kept { notes: Some(watched.path()), undo: undo.segment.clone(), ..kept };
            let place = Local::start(policy.clone(), environment, kept)?;
            let looked = Looked::at_first(&policy, (store, &thread), &undo, None);
            Ok((place, looked, undo, Some(watched)))
        };
        match begin() {
            Ok((place, looked, undo, watched)) => {
                Ok(Self { thread, place, looked, undo, from: None, watched })
            }
            Err(error) => {
                // Nothing has run: there is nothing to tell of it. The error is the one above.
                store.forget(thread).ok();
                Err(error)
            }
        }
    }

    /// The boundary of a thread that goes on, around what it left.
    fn again(
        task: &LocalTask,
        policy: &Policy,
        (store, asks): (&Store, Option<&Counter>),
        id: &ThreadId,
    ) -> Result<Self, LocalError> {
        let thread = store.resume(id)?;
        let detail = store.detail(id)?;
        let from = Some(detail.before_now());
        let draft = Draft::open(thread.folder())?;
        let layers = draft.as_ref().map(Draft::layers).unwrap_or_default();
        let caches = task.caches.as_ref().map(Held::layer);
        let (execs, asks) = (task.execs.clone(), asks.cloned());
        let kept = Kept { layers, caches, execs, asks, ..Kept::default() };
        let environment = task.environment.clone();
        let undo =
            if draft.is_none() { Undo::begin(store, thread.id(), policy) } else { Undo::default() };
        let watched = draft.is_none().then(|| watched(store, thread.id())).transpose()?;
        let notes = watched.as_ref().map(Watched::path);
        let kept = Kept { notes, undo: undo.segment.clone(), ..kept };
        let place = Local::start(policy.clone(), environment, kept)?;
        let looked = match draft {
            Some(draft) => Looked::Draft { draft, earlier: detail.changes.map(Box::new) },
            None => Looked::at_first(policy, (store, &thread), &undo, detail.changes),
        };
        Ok(Self { thread, place, looked, undo, from, watched })
    }
}

fn hidden(policy: &Policy) -> Vec<PathBuf> {
    policy.hidden.iter().map(|path| path.as_path().to_owned()).collect()
}

impl Looked {
    /// The same, where that is not needed: the boundary, which is up, keeps what it replaces.
    fn at_first(
        policy: &Policy,
        (store, thread): (&Store, &Thread),
        undo: &Undo,
        earlier: Option<Changes>,
    ) -> Self {
        if !undo.segment.as_ref().is_some_and(Segment::is_kept) {
            return Self::first(policy, thread, earlier.as_ref());
        }
        Self::kept(policy, (store, thread), earlier)
    }

    /// Tells what changes by what the boundary is going to keep.
    pub(crate) fn kept(
        policy: &Policy,
        (store, thread): (&Store, &Thread),
        earlier: Option<Changes>,
    ) -> Self {
        Self::Kept(Box::new(WroteOf {
            store: store.root().to_owned(),
            id: thread.id().clone(),
            folder: thread.folder().to_owned(),
            workspace: policy.workspace.as_path().to_owned(),
            hidden: hidden(policy),
            earlier,
        }))
    }

    /// Looks at the files before the agent begins.
    pub(crate) fn first(policy: &Policy, thread: &Thread, earlier: Option<&Changes>) -> Self {
        Self::in_folder(policy, thread.folder(), earlier)
    }

    /// The same, of the thread in `folder`.
    pub(crate) fn in_folder(policy: &Policy, folder: &Path, earlier: Option<&Changes>) -> Self {
        let hidden = hidden(policy);
        let looked = LocalChanges::begin(policy.workspace.as_path(), folder, &hidden);
        let looked = looked.and_then(|mut looked| {
            earlier.map(|earlier| looked.after(earlier)).transpose()?;
            Ok(looked)
        });
        Self::Before(Box::new(looked))
    }

    /// The folders over which a draft lies.
    pub(crate) fn laid_over(&self) -> Vec<PathBuf> {
        match self {
            Self::Before(_) | Self::Kept(_) => Vec::new(),
            Self::Draft { draft, .. } => {
                draft.layers().into_iter().map(|layer| layer.at.as_path().to_owned()).collect()
            }
        }
    }

    /// What the thread has changed until now, if that can be said.
    fn so_far(&mut self) -> Option<Changes> {
        match self {
            Self::Before(looked) => looked.as_mut().as_mut().ok()?.look_again().ok(),
            Self::Kept(thread) => thread.changes().ok(),
            Self::Draft { draft, earlier } => {
                let look = Look { earlier: earlier.as_deref(), ..Look::default() };
                draft.changes(look).ok()
            }
        }
    }

    /// What the thread changed, in words if that cannot be said.
    pub(crate) fn after(self) -> Result<Changes, String> {
        match self {
            Self::Before(looked) => {
                looked.and_then(LocalChanges::finish).map_err(|error| with_causes(&error))
            }
            Self::Kept(thread) => thread.changes(),
            Self::Draft { draft, earlier } => {
                let look = Look { earlier: earlier.as_deref(), ..Look::default() };
                draft.changes(look).map_err(|error| with_causes(&error))
            }
        }
    }
}

/// Records what the thread changed; what its diff does not have is in the notes.
pub(crate) fn record_changes(
    changes: Result<Changes, String>,
    journal: &Journal<'_>,
) -> Result<Vec<String>, StoreError> {
    match changes {
        Ok(changes) => {
            let notes = not_in_diff(&changes, NAMED);
            journal.record(&Event::Changes(changes))?;
            Ok(notes)
        }
        Err(why) => {
            let (name, state) = ("diff".to_owned(), PhaseState::Failed);
            journal.record(&Event::Phase(Phase { name, state, seconds: None }))?;
            Ok(vec![format!("no diff of this thread: {why}")])
        }
    }
}
