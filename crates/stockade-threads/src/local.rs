//! A local thread: the built-in agent at work on the user's own files.

mod history;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use stockade_agents::{AgentError, Builtin, Conversation, Model, Stop, Task};
use stockade_policy::Policy;

use crate::ThreadId;
use crate::approvals::{Approvals, Asking};
use crate::bounds::Bounds;
use crate::caches::Held;
use crate::draft::{Draft, DraftError, Look};
pub use crate::ended::Ended;
use crate::ended::{Deadline, not_in_diff, title, with_causes};
use crate::git::{LocalChanges, SnapshotError};
use crate::hits::Hits;
use crate::journal::{Journal, Watch};
use crate::judge::Judge;
use crate::place::{Local, Place as _, PlaceError, walls};
use crate::record::{Changes, Event, Kind, Message, Phase, PhaseState, Role, State, ThreadResumed};
use crate::session::{Parts, Session};
use crate::store::{Cancel, NewThread, Store, StoreError, Thread};
use crate::surroundings;
use crate::widen::{LocalWiden, Widen};

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
    // The limit is the thread's, which also waits for the model.
    let deadline = Deadline::set(policy.limits.wall_time.take(), stop);
    let wider = asking.openings.filter(|_| !task.is_draft).map(|openings| LocalWiden {
        policy: policy.clone(),
        environment: task.environment.clone(),
        openings,
    });
    let Begun { thread, place, mut looked, from } = Begun::new(&task, policy, store)?;
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
    let session = Session::new(Parts {
        place: &place,
        judge: task.judge.clone(),
        bounds: Some(task.bounds.clone()),
        approvals: &approvals,
        widen: wider.as_ref().map(|wider| wider as &dyn Widen),
        journal: &journal,
        stop,
        hits: Some(Hits::of(store.root())),
    });
    let instructions = surroundings::instructions(&session);
    let mut work = Task {
        prompt: task.prompt,
        system: surroundings::describe(&task.judge, &task.bounds, &instructions),
        max_turns: task.budget.max_turns,
        max_tokens: task.budget.max_tokens,
        context_tokens: task.budget.context_tokens,
        command_timeout: task.budget.command_timeout,
    };
    let mut ended = loop {
        let said = Message { role: Role::User, text: work.prompt.clone() };
        journal.record(&Event::Message(said))?;
        let heard = &mut |event| session.heard(event);
        let result = agent.go_on((&mut conversation, &work), &session, heard, stop);
        let ended = Ended::of_agent(&thread, result).within(&deadline).cancelled_by(&cancel);
        let Some(prompt) = next(&ended).filter(|_| !ended.is_at_a_limit()) else { break ended };
        // So that somebody who looks meanwhile, or after a kill, sees what there is.
        looked.so_far().map(|changes| journal.record(&Event::Changes(changes))).transpose()?;
        stop.withdraw();
        if deadline.has_passed() || cancel.was_wished() {
            stop.request();
        }
        work.prompt = prompt;
    };
    drop(session);
    // The boundary comes down before the end is recorded: nothing happens after it.
    drop(place);
    ended.notes = record_changes(looked.after(), &journal)
        .unwrap_or_else(|error| vec![format!("its changes could not be recorded: {error}")]);
    Ok(ended.record(&thread, &journal))
}

/// A thread whose boundary is up.
struct Begun {
    thread: Thread,
    place: Local,
    looked: Looked,
    /// Where it stood, when it goes on.
    from: Option<State>,
}

/// How what a thread changes is found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// By looking at the files before and after.
    Before(Box<Result<LocalChanges, SnapshotError>>),
    /// By looking at what the draft holds.
    Draft {
        draft: Draft,
        /// What was recorded of it before this process.
        earlier: Option<Box<Changes>>,
    },
}

impl Begun {
    fn new(task: &LocalTask, mut policy: Policy, store: &Store) -> Result<Self, LocalError> {
        store.hide(&mut policy);
        if let Some(id) = &task.goes_on {
            return Self::again(task, &policy, store, id);
        }
        let environment = task.environment.clone();
        let caches = task.caches.as_ref().map(Held::layer);
        let create = |walls: &[&str]| {
            store.create(&NewThread {
                kind: Kind::Local,
                workspace: policy.workspace.as_path().to_owned(),
                title: title(&task.prompt),
                mode: task.judge.mode.to_string(),
                approvals: task.judge.approval.to_string(),
                enforcement: walls.iter().map(|&wall| wall.to_owned()).collect(),
                policy: surroundings::pinned(&task.judge, &task.bounds),
            })
        };
        if !task.is_draft {
            let place = Local::start(policy.clone(), environment, (Vec::new(), caches))?;
            let thread = create(place.enforcement())?;
            let looked = Looked::first(&policy, &thread, None);
            return Ok(Self { thread, place, looked, from: None });
        }
        let thread = create(walls(policy.mode))?;
        let begin = || -> Result<(Draft, Local), LocalError> {
            let draft = Draft::begin(thread.folder(), &policy, &[])?;
            let place = Local::start(policy, environment, (draft.layers(), caches))?;
            Ok((draft, place))
        };
        match begin() {
            Ok((draft, place)) => {
                let looked = Looked::Draft { draft, earlier: None };
                Ok(Self { thread, place, looked, from: None })
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
        store: &Store,
        id: &ThreadId,
    ) -> Result<Self, LocalError> {
        let thread = store.resume(id)?;
        let detail = store.detail(id)?;
        let from = Some(detail.before_now());
        let draft = Draft::open(thread.folder())?;
        let layers = draft.as_ref().map(Draft::layers).unwrap_or_default();
        let caches = task.caches.as_ref().map(Held::layer);
        let environment = task.environment.clone();
        let place = Local::start(policy.clone(), environment, (layers, caches))?;
        let looked = match draft {
            Some(draft) => Looked::Draft { draft, earlier: detail.changes.map(Box::new) },
            None => Looked::first(policy, &thread, detail.changes.as_ref()),
        };
        Ok(Self { thread, place, looked, from })
    }
}

impl Looked {
    /// Looks at the files before the agent begins.
    pub(crate) fn first(policy: &Policy, thread: &Thread, earlier: Option<&Changes>) -> Self {
        let hidden: Vec<PathBuf> =
            policy.hidden.iter().map(|path| path.as_path().to_owned()).collect();
        let looked = LocalChanges::begin(policy.workspace.as_path(), thread.folder(), &hidden);
        let looked = looked.and_then(|mut looked| {
            earlier.map(|earlier| looked.after(earlier)).transpose()?;
            Ok(looked)
        });
        Self::Before(Box::new(looked))
    }

    /// What the thread has changed until now, if that can be said.
    fn so_far(&mut self) -> Option<Changes> {
        match self {
            Self::Before(looked) => looked.as_mut().as_mut().ok()?.look_again().ok(),
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
            let notes = not_in_diff(&changes);
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
