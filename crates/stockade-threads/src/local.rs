//! A local thread: the built-in agent at work on the user's own files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use stockade_agents::{AgentError, Builtin, Model, Stop, Task};
use stockade_policy::Policy;

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
use crate::record::{Changes, Event, Kind, Message, Phase, PhaseState, Role};
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
    /// Whether what it writes waits beside the files, to be applied.
    pub is_draft: bool,
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

/// Runs a local thread to its end, and records it in `store`.
///
/// # Errors
///
/// [`LocalError`]: it did not begin. A thread that began and failed is [`Ended`].
pub fn run(
    task: LocalTask,
    store: &Store,
    watch: &mut dyn Watch,
    asking: &Asking<'_>,
    stop: &Stop,
) -> Result<Ended, LocalError> {
    let agent = Builtin::new(task.model.clone())?;
    let mut policy = task.bounds.policy().clone();
    // The limit is the thread's, which also waits for the model.
    let deadline = Deadline::set(policy.limits.wall_time.take(), stop);
    let wider = asking.openings.filter(|_| !task.is_draft).map(|openings| LocalWiden {
        policy: policy.clone(),
        environment: task.environment.clone(),
        openings,
    });
    let Begun { thread, place, looked } = Begun::new(&task, policy, store)?;
    let cancel = Cancel::watch(thread.folder(), stop);
    let journal = Journal::begin(store, &thread, watch)?;
    journal.record(&Event::Message(Message { role: Role::User, text: task.prompt.clone() }))?;
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
    let work = Task {
        prompt: task.prompt,
        system: surroundings::describe(&task.judge, &task.bounds, &instructions),
        max_turns: task.budget.max_turns,
        max_tokens: task.budget.max_tokens,
        command_timeout: task.budget.command_timeout,
    };
    let result = agent.run(&work, &session, &mut |event| session.heard(event), stop);
    let mut ended = Ended::of_agent(&thread, result).within(&deadline).cancelled_by(&cancel);
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
}

/// How what a thread changes is found.
enum Looked {
    /// By looking at the files before and after.
    Before(Box<Result<LocalChanges, SnapshotError>>),
    /// By looking at what the draft holds.
    Draft(Draft),
}

impl Begun {
    fn new(task: &LocalTask, mut policy: Policy, store: &Store) -> Result<Self, LocalError> {
        store.hide(&mut policy);
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
            let hidden: Vec<PathBuf> =
                policy.hidden.iter().map(|path| path.as_path().to_owned()).collect();
            let workspace = policy.workspace.as_path();
            let looked = LocalChanges::begin(workspace, thread.folder(), &hidden);
            return Ok(Self { thread, place, looked: Looked::Before(Box::new(looked)) });
        }
        let thread = create(walls(policy.mode))?;
        let begin = || -> Result<(Draft, Local), LocalError> {
            let draft = Draft::begin(thread.folder(), &policy, &[])?;
            let place = Local::start(policy, environment, (draft.layers(), caches))?;
            Ok((draft, place))
        };
        match begin() {
            Ok((draft, place)) => Ok(Self { thread, place, looked: Looked::Draft(draft) }),
            Err(error) => {
                // Nothing has run: there is nothing to tell of it. The error is the one above.
                store.forget(thread).ok();
                Err(error)
            }
        }
    }
}

impl Looked {
    /// What the thread changed, in words if that cannot be said.
    fn after(self) -> Result<Changes, String> {
        match self {
            Self::Before(looked) => {
                looked.and_then(LocalChanges::finish).map_err(|error| with_causes(&error))
            }
            Self::Draft(draft) => {
                draft.changes(Look::default()).map_err(|error| with_causes(&error))
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
