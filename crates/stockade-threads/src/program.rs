//! A thread that is one program with a terminal of its own: an external agent, or a command whose
//! writes wait beside the files. What it prints is its own, and is not kept.

use std::ffi::OsString;
use std::path::PathBuf;

use stockade_sandbox::Layer;

use crate::bounds::Bounds;
use crate::draft::Draft;
use crate::ended::{Ended, not_in_diff, title, with_causes};
use crate::judge::Judge;
use crate::local::{LocalError, Looked};
use crate::place::walls;
use crate::record::{
    CommandFinished, CommandStarted, Decision, Denial, Event, Kind, Message, Role, State,
};
use crate::store::{NewThread, Store, StoreError, Thread};
use crate::surroundings;

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
    thread: Thread,
    looked: Looked,
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
        })?;
        let begin = || -> Result<Looked, LocalError> {
            let looked = if program.is_draft {
                let draft = Draft::begin(thread.folder(), policy, program.direct)?;
                Looked::Draft { draft, earlier: None }
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
            Ok(looked)
        };
        match begin() {
            Ok(looked) => Ok(Self { thread, looked }),
            Err(error) => {
                // The error that is told is the one above.
                store.forget(thread).ok();
                Err(error)
            }
        }
    }

    /// What the sandbox is to lay over the files.
    pub fn layers(&self) -> Vec<Layer> {
        match &self.looked {
            Looked::Draft { draft, .. } => draft.layers(),
            Looked::Before(_) => Vec::new(),
        }
    }

    /// It did not start: there is nothing to be told of it.
    pub fn forget(self, store: &Store) {
        // The error that is told is why it did not start.
        store.forget(self.thread).ok();
    }

    /// It has ended, with `exit` for a shell; `denials` were refused to it.
    pub fn finish(self, state: State, exit: u8, denials: Vec<Denial>) -> Ended {
        let Self { thread, looked } = self;
        let finished = Event::CommandFinished(CommandFinished {
            id: COMMAND.to_owned(),
            exit,
            output: String::new(),
            // Its output was its own, and not ours to keep.
            truncated: true,
            denials,
        });
        let record = || -> Result<(u64, Vec<String>), String> {
            let words = |error: StoreError| with_causes(&error);
            thread.record(&finished).map_err(words)?;
            let changes = looked.after()?;
            let (files, notes) = (changes.files, not_in_diff(&changes));
            thread.record(&Event::Changes(changes)).map_err(words)?;
            Ok((files, notes))
        };
        let (summary, notes) = match record() {
            Ok((1, notes)) => ("1 file changed".to_owned(), notes),
            Ok((files, notes)) => (format!("{files} files changed"), notes),
            Err(why) => ("it ended".to_owned(), vec![format!("no diff of it: {why}")]),
        };
        let ended = thread.finish(state, exit, &summary);
        let summary = match ended {
            Ok(_) => summary,
            Err(error) => format!("{summary}; its end could not be recorded: {error}"),
        };
        let id = thread.id().to_string();
        Ended { thread: id, state, exit, summary, hint: None, notes }
    }
}
