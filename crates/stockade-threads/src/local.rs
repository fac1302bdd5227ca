//! A local thread: the built-in agent at work on the user's own files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use stockade_agents::{AgentError, Builtin, Hands as _, Model, Stop, Task};

use crate::bounds::Bounds;
use crate::git::{LocalChanges, SnapshotError};
use crate::journal::{Journal, Live, Watch};
use crate::judge::Judge;
use crate::place::{Local, Place as _, PlaceError};
use crate::question::Ask;
use crate::quoted;
use crate::record::{Event, Kind, LeftOut, Message, Phase, PhaseState, Role, State};
use crate::session::{Parts, Session};
use crate::store::{NewThread, Store, StoreError};
use crate::surroundings;

/// The longest title, in characters.
const TITLE_MAX: usize = 72;
/// What is read of the project's own instructions, in bytes.
const INSTRUCTIONS_MAX: usize = 32 * 1024;

/// As a shell tells a time limit, timeout(1).
const TIMED_OUT: u8 = 124;

/// What a local thread is to do, and within what.
#[derive(Debug, Clone)]
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
    /// How long it may take.
    pub budget: Budget,
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
}

impl LocalError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Agent(error) => error.hint(),
            Self::Place(error) => error.hint().map(str::to_owned),
            Self::Store(error) => error.hint().map(str::to_owned),
        }
    }
}

/// Ends a thread at its wall-time limit.
struct Deadline {
    limit: Option<Duration>,
    has_passed: Arc<AtomicBool>,
    /// Dropped with the deadline, which the waiting thread sees.
    _done: mpsc::Sender<()>,
}

impl Deadline {
    fn set(limit: Option<Duration>, stop: &Stop) -> Self {
        let (done, waiting) = mpsc::channel();
        let has_passed = Arc::new(AtomicBool::new(false));
        if let Some(limit) = limit {
            let (stop, has_passed) = (stop.clone(), Arc::clone(&has_passed));
            thread::spawn(move || {
                if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                    has_passed.store(true, Ordering::SeqCst);
                    stop.request();
                }
            });
        }
        Self { limit, has_passed, _done: done }
    }

    /// The limit, when it was reached.
    fn passed(&self) -> Option<Duration> {
        self.limit.filter(|_| self.has_passed.load(Ordering::SeqCst))
    }
}

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The thread's name.
    pub thread: String,
    /// Where it stands.
    pub state: State,
    /// The exit status: 0 finished, 1 failed, 124 time limit, 130 interrupted.
    pub exit: u8,
    /// In one line, for a person.
    pub summary: String,
    /// What the user can do about a failure, if anything.
    pub hint: Option<String>,
    /// What its diff does not have.
    pub notes: Vec<String>,
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
    ask: &dyn Ask,
    stop: &Stop,
) -> Result<Ended, LocalError> {
    let agent = Builtin::new(task.model)?;
    let mut policy = task.bounds.policy().clone();
    let workspace = policy.workspace.as_path().to_owned();
    // The limit is the thread's, which also waits for the model.
    let deadline = Deadline::set(policy.limits.wall_time.take(), stop);
    let hidden: Vec<PathBuf> = policy.hidden.iter().map(|path| path.as_path().into()).collect();
    let place = Local::start(policy, task.environment)?;
    let thread = store.create(&NewThread {
        kind: Kind::Local,
        workspace: workspace.clone(),
        title: title(&task.prompt),
        mode: task.judge.mode.to_string(),
        approvals: task.judge.approval.to_string(),
        enforcement: place.enforcement().iter().map(|&wall| wall.to_owned()).collect(),
        policy: surroundings::pinned(&task.judge, &task.bounds),
    })?;
    for record in store.records(thread.id())? {
        let record = record?;
        watch.see(&Live::Event(&record.event, &record.line));
    }
    let looked = LocalChanges::begin(&workspace, thread.folder(), &hidden);
    let journal = Journal::new(&thread, watch);
    journal.record(&Event::Message(Message { role: Role::User, text: task.prompt.clone() }))?;
    let session = Session::new(Parts {
        place: &place,
        judge: task.judge.clone(),
        bounds: Some(task.bounds.clone()),
        ask,
        journal: &journal,
        stop,
    });
    // Read inside, so that a link in the project cannot show the model what is hidden.
    let instructions = session.read(Path::new("AGENTS.md")).unwrap_or_default();
    let instructions = instructions.get(..INSTRUCTIONS_MAX).unwrap_or(&instructions);
    let instructions = String::from_utf8_lossy(instructions);
    let work = Task {
        prompt: task.prompt,
        system: surroundings::describe(&task.judge, &task.bounds, &instructions),
        max_turns: task.budget.max_turns,
        max_tokens: task.budget.max_tokens,
        command_timeout: task.budget.command_timeout,
    };
    let result = agent.run(&work, &session, &mut |event| session.heard(event), stop);
    let mut ended = ended(thread.id().to_string(), result);
    if let Some(limit) = deadline.passed()
        && ended.state != State::Completed
    {
        ended.state = State::Failed;
        ended.exit = TIMED_OUT;
        ended.summary = format!("the thread reached its wall-time limit of {limit:?}");
    }
    // The boundary comes down before the end is recorded: nothing happens after it.
    drop(place);
    ended.notes = look_again(looked, &Journal::new(&thread, &mut *watch))
        .unwrap_or_else(|error| vec![format!("its changes could not be recorded: {error}")]);
    match thread.finish(ended.state, ended.exit, &ended.summary) {
        Ok(line) => {
            let finished = crate::record::ThreadFinished {
                state: ended.state,
                exit: ended.exit,
                summary: ended.summary.clone(),
            };
            watch.see(&Live::Event(&Event::ThreadFinished(finished), &line));
        }
        Err(error) => {
            (ended.state, ended.exit) = (State::Failed, 1);
            ended.summary = format!("{}; its end could not be recorded: {error}", ended.summary);
        }
    }
    Ok(ended)
}

/// Records what the thread changed; what its diff does not have is in the notes.
fn look_again(
    looked: Result<LocalChanges, SnapshotError>,
    journal: &Journal<'_>,
) -> Result<Vec<String>, StoreError> {
    match looked.and_then(LocalChanges::finish) {
        Ok(changes) => {
            let note = |left: &LeftOut| {
                let path = quoted(left.path.to_path().as_os_str().as_encoded_bytes());
                format!("not in the diff: `{path}`, {}", left.why)
            };
            let notes = changes.left_out.iter().map(note).collect();
            journal.record(&Event::Changes(changes))?;
            Ok(notes)
        }
        Err(error) => {
            let (name, state) = ("diff".to_owned(), PhaseState::Failed);
            journal.record(&Event::Phase(Phase { name, state, seconds: None }))?;
            let mut text = format!("no diff of this thread: {error}");
            if let Some(cause) = std::error::Error::source(&error) {
                text = format!("{text}: {cause}");
            }
            Ok(vec![text])
        }
    }
}

fn ended(thread: String, result: Result<stockade_agents::Finished, AgentError>) -> Ended {
    let (state, exit, summary, hint) = match result {
        Ok(finished) => (State::Completed, 0, title(&finished.text), None),
        Err(error @ AgentError::Interrupted) => (State::Interrupted, 130, error.to_string(), None),
        Err(error) => {
            let mut summary = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                summary = format!("{summary}: {error}");
                cause = error.source();
            }
            (State::Failed, 1, summary, error.hint())
        }
    };
    Ended { thread, state, exit, summary, hint, notes: Vec::new() }
}

/// The first line of `text`, shortened.
fn title(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(TITLE_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}
