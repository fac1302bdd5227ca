//! `stockade run --draft`: one command whose writes wait beside the files.

use std::ffi::OsString;
use std::path::PathBuf;

use stockade_sandbox::Layer;

use crate::bounds::Bounds;
use crate::draft::{Draft, Look};
use crate::ended::{Ended, not_in_diff, title, with_causes};
use crate::judge::Judge;
use crate::local::LocalError;
use crate::place::walls;
use crate::record::{CommandFinished, CommandStarted, Decision, Event, Kind, State};
use crate::store::{NewThread, Store, StoreError, Thread};
use crate::surroundings;

/// The only command of such a thread.
const COMMAND: &str = "c1";

/// A draft whose command is about to start, or has.
#[derive(Debug)]
pub struct Drafted {
    thread: Thread,
    draft: Draft,
}

impl Drafted {
    /// Begins the thread and its draft. `direct` are written to all the same: the state of an
    /// agent program.
    ///
    /// # Errors
    ///
    /// [`LocalError`]: nothing is left of it.
    pub fn begin(
        store: &Store,
        (judge, bounds): (&Judge, &Bounds),
        argv: &[OsString],
        direct: &[PathBuf],
    ) -> Result<Self, LocalError> {
        let policy = bounds.policy();
        let words: Vec<String> =
            argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let thread = store.create(&NewThread {
            kind: Kind::Run,
            workspace: policy.workspace.as_path().to_owned(),
            title: title(&words.join(" ")),
            mode: policy.mode.to_string(),
            approvals: judge.approval.to_string(),
            enforcement: walls(policy.mode).iter().map(|&wall| wall.to_owned()).collect(),
            policy: surroundings::pinned(judge, bounds),
        })?;
        let begin = || -> Result<Draft, LocalError> {
            let draft = Draft::begin(thread.folder(), policy, direct)?;
            thread.record(&Event::CommandStarted(CommandStarted {
                id: COMMAND.to_owned(),
                argv: Some(words),
                line: None,
                decision: Decision::Allow,
                rule: None,
            }))?;
            Ok(draft)
        };
        match begin() {
            Ok(draft) => Ok(Self { thread, draft }),
            Err(error) => {
                // The error that is told is the one above.
                store.forget(thread).ok();
                Err(error)
            }
        }
    }

    /// What the sandbox is to lay over the files.
    pub fn layers(&self) -> Vec<Layer> {
        self.draft.layers()
    }

    /// The command did not start: there is nothing to be told of it.
    pub fn forget(self, store: &Store) {
        // The error that is told is why it did not start.
        store.forget(self.thread).ok();
    }

    /// The command has ended, with `exit` for a shell.
    pub fn finish(self, state: State, exit: u8) -> Ended {
        let Self { thread, draft } = self;
        let finished = Event::CommandFinished(CommandFinished {
            id: COMMAND.to_owned(),
            exit,
            output: String::new(),
            // Its output was its own, and not ours to keep.
            truncated: true,
            denials: Vec::new(),
        });
        let record = || -> Result<(u64, Vec<String>), String> {
            let words = |error: StoreError| with_causes(&error);
            thread.record(&finished).map_err(words)?;
            let changes = draft.changes(Look::default()).map_err(|error| with_causes(&error))?;
            let (files, notes) = (changes.files, not_in_diff(&changes));
            thread.record(&Event::Changes(changes)).map_err(words)?;
            Ok((files, notes))
        };
        let (summary, notes) = match record() {
            Ok((files, notes)) => (format!("{files} files changed in the draft"), notes),
            Err(why) => ("the draft is kept".to_owned(), vec![format!("no diff of it yet: {why}")]),
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
