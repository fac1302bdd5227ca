//! How a thread ends, wherever it ran.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use stockade_agents::{AgentError, Finished, Stop};

use crate::journal::{Journal, Live};
use crate::quoted;
use crate::record::{Changes, Event, LeftOut, State, ThreadFinished};
use crate::store::{CANCELLED, Cancel, Thread};

/// The longest title, in characters.
const TITLE_MAX: usize = 72;

/// So many that were left out for one reason are named where the result is told.
pub(crate) const NAMED: usize = 5;

/// As a shell tells a time limit, timeout(1).
const TIMED_OUT: u8 = 124;

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The thread's name.
    pub thread: String,
    /// Where it stands.
    pub state: State,
    /// The exit status: 0 finished, 1 failed, 124 time limit, 130 interrupted; that of a command
    /// which was the whole task is its own.
    pub exit: u8,
    /// In one line, for a person.
    pub summary: String,
    /// What the user can do about a failure, if anything.
    pub hint: Option<String>,
    /// What its diff does not have, and else of its result that a person should know.
    pub notes: Vec<String>,
}

impl Ended {
    /// The end of an agent's task.
    pub(crate) fn of_agent(thread: &Thread, result: Result<Finished, AgentError>) -> Self {
        let (state, exit, summary, hint) = match result {
            Ok(finished) => (State::Completed, 0, title(&finished.text), None),
            Err(error @ AgentError::Interrupted) => {
                (State::Interrupted, 130, error.to_string(), None)
            }
            Err(error) => (State::Failed, 1, with_causes(&error), error.hint()),
        };
        Self { thread: thread.id().to_string(), state, exit, summary, hint, notes: Vec::new() }
    }

    /// Says that it was the limit, where it was.
    pub(crate) fn within(mut self, deadline: &Deadline) -> Self {
        if let Some(limit) = deadline.passed()
            && self.state != State::Completed
        {
            self.state = State::Failed;
            self.exit = TIMED_OUT;
            self.summary = format!("the thread reached its wall-time limit of {limit:?}");
        }
        self
    }

    /// Says that it was the user in another process, where it was.
    pub(crate) fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        if cancel.was_wished() && self.state != State::Completed {
            (self.state, self.exit) = (State::Cancelled, CANCELLED);
            "cancelled".clone_into(&mut self.summary);
        }
        self
    }

    /// Whether nothing more may follow: its time is over, or it was cancelled.
    pub fn is_at_a_limit(&self) -> bool {
        self.exit == TIMED_OUT || self.state == State::Cancelled
    }

    /// Makes it the last record of the thread.
    pub(crate) fn record(mut self, thread: &Thread, journal: &Journal<'_>) -> Self {
        for text in self.notes.iter().cloned() {
            // An end that cannot be recorded either says so.
            journal.record(&Event::Note { text }).ok();
        }
        let (state, exit, summary) = (self.state, self.exit, self.summary.clone());
        match thread.finish(state, exit, &summary) {
            Ok(line) => {
                let finished = Event::ThreadFinished(ThreadFinished { state, exit, summary });
                journal.show(&Live::Event(&finished, &line));
            }
            Err(error) => {
                (self.state, self.exit) = (State::Failed, 1);
                self.summary = format!("{summary}; its end could not be recorded: {error}");
            }
        }
        self
    }
}

/// Ends a thread at its wall-time limit.
pub(crate) struct Deadline {
    limit: Option<Duration>,
    has_passed: Arc<AtomicBool>,
    /// Dropped with the deadline, which the waiting thread sees.
    _done: mpsc::Sender<()>,
}

impl Deadline {
    pub(crate) fn set(limit: Option<Duration>, stop: &Stop) -> Self {
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

    /// Whether the limit was reached.
    pub(crate) fn has_passed(&self) -> bool {
        self.passed().is_some()
    }

    /// The limit, when it was reached.
    fn passed(&self) -> Option<Duration> {
        self.limit.filter(|_| self.has_passed.load(Ordering::SeqCst))
    }
}

/// `1 file`, `2 files`.
pub fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// What the diff of `changes` does not have, in words; of what has the same reason so many as are
/// to be `named`.
pub fn not_in_diff(changes: &Changes, named: usize) -> Vec<String> {
    let ignored = (changes.ignored > 0).then(|| {
        format!("not in the diff: {} that git ignores (`--ignored`)", files(changes.ignored))
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left_out = Vec::new();
    for left in &changes.left_out {
        let count = counts.entry(&left.why).or_default();
        *count += 1;
        if *count <= named {
            left_out.push(not_taken("not in the diff", left));
        }
    }
    let more = counts.into_iter().filter(|(_, count)| *count > named).map(|(why, count)| {
        let more = files((count - named) as u64);
        format!("not in the diff: {more} more, {why}; `stockade threads diff` names each")
    });
    let modes = changes.modes.iter().map(|change| {
        let path = quoted(change.path.to_path().as_os_str().as_encoded_bytes());
        format!("in no patch: `{path}`, {}", change.words())
    });
    left_out.into_iter().chain(more).chain(modes).chain(ignored).collect()
}

/// What was left out, and of what.
pub(crate) fn not_taken(of: &str, left: &LeftOut) -> String {
    let path = quoted(left.path.to_path().as_os_str().as_encoded_bytes());
    format!("{of}: `{path}`, {}", left.why)
}

/// An error and what is behind it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// The first line of `text`, shortened.
pub(crate) fn title(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(TITLE_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::Watch;
    use crate::record::Kind;
    use crate::store::{NewThread, Store};

    #[derive(Debug, Default)]
    struct Seen(Vec<Event>);

    impl Watch for Seen {
        fn see(&mut self, live: &Live<'_>) {
            if let Live::Event(event, _) = live {
                self.0.push((*event).clone());
            }
        }
    }

    #[test]
    fn what_is_said_of_a_result_is_in_its_record_before_the_end() {
        let lab = tempfile::tempdir().unwrap();
        let store = Store::open(lab.path()).unwrap();
        let new = NewThread {
            kind: Kind::Local,
            workspace: Path::new("/w").to_owned(),
            title: "a task".to_owned(),
            mode: "workspace-write".to_owned(),
            approvals: "never".to_owned(),
            enforcement: Vec::new(),
            policy: String::new(),
            agent: None,
            with_changes: false,
        };
        let thread = store.create(&new).unwrap();
        let mut seen = Seen::default();
        let journal = Journal::new(&thread, &mut seen);
        let finished = Finished { text: "done".to_owned() };
        let ended = Ended::of_agent(&thread, Ok(finished));
        let ended = Ended { notes: vec!["not kept: `big`, too large".to_owned()], ..ended };
        let ended = ended.record(&thread, &journal);
        assert_eq!(ended.notes.len(), 1, "they are for the terminal, too");
        drop(journal);
        let recorded: Vec<Event> =
            store.records(thread.id()).unwrap().map(|record| record.unwrap().event).collect();
        let [_, note, Event::ThreadFinished(_)] = recorded.as_slice() else {
            panic!("{recorded:?}")
        };
        assert_eq!(*note, Event::Note { text: "not kept: `big`, too large".to_owned() });
        assert_eq!(seen.0, recorded.get(1..).unwrap());
    }

    #[test]
    fn a_hundred_files_outside_are_a_few_lines_and_their_number() {
        let left = |number: usize, why: &str| LeftOut {
            path: Path::new(&format!("/out/{number}")).into(),
            why: why.to_owned(),
        };
        let outside = (0..100).map(|number| left(number, "outside the workspace"));
        let left_out = outside.chain([left(100, "a large file")]).collect();
        let changes = Changes {
            root: Path::new("/w").into(),
            base: String::new(),
            result: String::new(),
            files: 0,
            left_out,
            clone: None,
            commits: Vec::new(),
            ignored: 0,
            modes: Vec::new(),
        };
        let told = not_in_diff(&changes, NAMED);
        assert_eq!(told.len(), NAMED + 2, "{told:?}");
        assert!(told.iter().any(|line| line.ends_with("`/out/100`, a large file")), "{told:?}");
        let more = "not in the diff: 95 files more, outside the workspace; `stockade threads diff`";
        assert!(told.iter().any(|line| line.starts_with(more)), "{told:?}");
        assert_eq!(not_in_diff(&changes, usize::MAX).len(), 101);
    }
}
