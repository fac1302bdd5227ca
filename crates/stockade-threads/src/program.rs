//! A thread that is one program with a terminal of its own: an external agent, or a command whose
//! writes wait beside the files. What it prints is its own, and is not kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use stockade_sandbox::{Keeping, Layer};

use crate::ThreadId;
use crate::bounds::Bounds;
use crate::draft::Draft;
use crate::ended::{Ended, NAMED, files, not_in_diff, title, with_causes};
use crate::held::Watched;
use crate::judge::Judge;
use crate::local::{LocalError, Looked, Undo, watched};
use crate::place::walls;
use crate::record::{
    CommandFinished, CommandStarted, Decision, Denial, Event, Kind, Message, Role, State,
};
use crate::store::{NewThread, Store, StoreError, Thread};
use crate::surroundings;
use crate::undo::Segment;

/// The only command of such a thread.
const COMMAND: &str = "c1";

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// An agent on these files, or a command.
    pub kind: Kind,
    /// The task, if it was given one.
    pub task: Option<&'a str>,
    /// The words.
    pub argv: &'a [OsString],
    /// What it writes to, draft or not: the state of an agent program.
    pub direct: &'a [PathBuf],
    /// Whether what it writes waits beside the files.
    pub is_draft: bool,
}

/// A program that is about to start, or has ended.
#[derive(Debug)]
pub struct Programmed {
    id: ThreadId,
    folder: PathBuf,
    /// Nothing once it has ended, for those who note what happens meanwhile.
    thread: Arc<Mutex<Option<Thread>>>,
    looked: Looked,
    /// The same by looking, where the boundary turned out to keep nothing.
    instead: Mutex<Option<Looked>>,
    watched: Option<Watched>,
    kept: Undo,
}

impl Programmed {
    /// Begins the thread.
    ///
    /// # Errors
    ///
    /// [`LocalError`]: nothing is left of it.
    pub fn begin(
        store: &Store,
        (judge, bounds): (&Judge, &Bounds),
        program: &Program<'_>,
    ) -> Result<Self, LocalError> {
        let policy = bounds.policy();
        let words: Vec<String> =
            program.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let thread = store.create(&NewThread {
            kind: program.kind,
            workspace: policy.workspace.as_path().to_owned(),
            title: title(program.task.unwrap_or(&words.join(" "))),
            mode: policy.mode.to_string(),
            approvals: judge.approval.to_string(),
            enforcement: walls(policy.mode).iter().map(|&wall| wall.to_owned()).collect(),
            policy: surroundings::pinned(judge, bounds),
            agent: None,
            with_changes: false,
        })?;
        let kept = if program.is_draft {
            Undo::default()
        } else {
            Undo::beside(store, thread.id(), (policy, program.direct))
        };
        let begin = || -> Result<(Looked, Option<Watched>), LocalError> {
            let looked = if program.is_draft {
                let draft = Draft::begin(thread.folder(), policy, program.direct)?;
                Looked::Draft { draft, earlier: None }
            } else if kept.segment.is_some() {
                // Whoever starts it says so where the boundary keeps nothing.
                Looked::kept(policy, (store, &thread), None)
            } else {
                Looked::first(policy, &thread, None)
            };
            if let Some(task) = program.task {
                let said = Message { role: Role::User, text: task.to_owned() };
                thread.record(&Event::Message(said))?;
            }
            thread.record(&Event::CommandStarted(CommandStarted {
                id: COMMAND.to_owned(),
                argv: Some(words),
                line: None,
                decision: Decision::Allow,
                rule: None,
            }))?;
            let watched = (!program.is_draft).then(|| watched(store, thread.id())).transpose()?;
            Ok((looked, watched))
        };
        match begin() {
            Ok((looked, watched)) => {
                let (id, folder) = (thread.id().clone(), thread.folder().to_owned());
                let thread = Arc::new(Mutex::new(Some(thread)));
                let instead = Mutex::default();
                Ok(Self { id, folder, thread, looked, instead, watched, kept })
            }
            Err(error) => {
                // The error that is told is the one above.
                store.forget(thread).ok();
                Err(error)
            }
        }
    }

    /// The thread's name.
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes down what happens while it runs.
    pub fn notes(&self) -> impl Fn(&Event) + Send + Sync + use<> {
        let thread = Arc::clone(&self.thread);
        move |event| {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
            // What cannot be written now cannot be at the end either, which is told.
            thread.as_ref().map(|thread| thread.record(event));
        }
    }

    /// Looks at the files, which nothing has changed yet, because the boundary keeps nothing.
    pub fn look(&self, bounds: &Bounds) {
        if matches!(self.looked, Looked::Kept(_)) {
            let looked = Looked::in_folder(bounds.policy(), &self.folder, None);
            *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        }
    }

    /// The folders over which a draft lies.
    pub fn drafts(&self) -> Vec<PathBuf> {
        self.looked.laid_over()
    }

    /// What the sandbox is to lay over the files.
    pub fn layers(&self) -> Vec<Layer> {
        match &self.looked {
            Looked::Draft { draft, .. } => draft.layers(),
            Looked::Before(_) | Looked::Kept(_) => Vec::new(),
        }
    }

    /// Where it is noted what is looked at when it is over.
    pub fn list(&self) -> Option<PathBuf> {
        self.watched.as_ref().map(Watched::path)
    }

    /// Where what it replaces is kept.
    pub fn keeping(&self) -> Option<Keeping> {
        self.kept.segment.as_ref().map(Segment::keeping)
    }

    /// It did not start: there is nothing to be told of it.
    pub fn forget(self, store: &Store) {
        self.watched.map(Watched::settle);
        if let Some(thread) = taken(&self.thread) {
            // The error that is told is why it did not start.
            store.forget(thread).ok();
        }
    }

    /// It has ended, with `exit` for a shell; `denials` were refused to it. The text is to be told
    /// in any case: what was held back.
    pub fn finish(self, state: State, exit: u8, denials: Vec<Denial>) -> (Ended, Option<String>) {
        let Self { id, folder: _, thread, looked, instead, watched, kept } = self;
        let looked = instead.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or(looked);
        let held = watched.map(Watched::settle).unwrap_or_default();
        let finished = Event::CommandFinished(CommandFinished {
            id: COMMAND.to_owned(),
            exit,
            output: String::new(),
            // Its output was its own, and not ours to keep.
            truncated: true,
            timed_out: false,
            denials,
        });
        let thread = taken(&thread);
        let record = || -> Result<(u64, Vec<String>), String> {
            let words = |error: StoreError| with_causes(&error);
            let thread = thread.as_ref().ok_or("it has ended before")?;
            thread.record(&finished).map_err(words)?;
            for event in held.events() {
                thread.record(&event).map_err(words)?;
            }
            let changes = looked.after()?;
            let (count, notes) = (changes.files, not_in_diff(&changes, NAMED));
            thread.record(&Event::Changes(changes)).map_err(words)?;
            Ok((count, notes))
        };
        let (summary, mut notes) = match record() {
            Ok((count, notes)) => (format!("{} changed", files(count)), notes),
            Err(why) => ("it ended".to_owned(), vec![format!("no diff of it: {why}")]),
        };
        notes.extend(kept.notes());
        let ended = thread.map(|thread| thread.finish(state, exit, &summary)).transpose();
        let summary = match ended {
            Ok(_) => summary,
            Err(error) => format!("{summary}; its end could not be recorded: {error}"),
        };
        let held = held.line(&id);
        let ended = Ended { thread: id.to_string(), state, exit, summary, hint: None, notes };
        (ended, held)
    }
}

/// The thread, which from now on is nobody else's.
fn taken(thread: &Mutex<Option<Thread>>) -> Option<Thread> {
    thread.lock().unwrap_or_else(PoisonError::into_inner).take()
}
