//! Questions as files in a thread's folder, where another terminal finds them and leaves answers.
//!
//! ```text
//! THREAD/questions/qN.json    the question, with its state; written by the thread's process alone
//! THREAD/questions/qN.answer  the first answer; whoever comes second is told so
//! THREAD/granted.json         what was allowed for the rest of the thread; revoked, it is asked again
//! ROOT/asks/RUN/              the same of a run that asked, as long as it lives
//! ROOT/clients.lock           held by everybody who waits for questions
//! ```
//! The folders are the user's own and closed to others, and no sandbox has them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::folder::make_private;
use crate::question::{Reply, is_entry_for, is_path_for};
use crate::store::{Store, StoreError};
use crate::{ThreadId, json_for_terminals};

const QUESTIONS: &str = "questions";
const RUNS: &str = "asks";
const CLIENTS: &str = "clients.lock";

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionState {
    /// It waits.
    Open,
    /// Somebody answered.
    Answered,
    /// Nobody did in time.
    Expired,
    /// The thread was stopped.
    Withdrawn,
}

/// A question, as `stockade approvals` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenQuestion {
    /// `THREAD:qN`.
    pub id: String,
    /// The thread that waits.
    pub thread: String,
    /// What would be done.
    pub action: String,
    /// What would happen, and why it is asked.
    pub effect: String,
    /// What can be answered.
    pub choices: Vec<String>,
    /// Beginnings of commands that a yes may be meant for; counted from 1.
    pub prefixes: Vec<Vec<String>>,
    /// For a host: entries that a yes for the project may be meant for; counted from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// For a path outside: what a yes may be meant for, with what is below it; counted from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// When it was asked (RFC 3339, UTC).
    pub asked: String,
    /// After how many seconds it is a denial.
    pub limit_seconds: u64,
    /// Where it stands.
    pub state: QuestionState,
}

/// An answer, as it is left in the thread's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenAnswer {
    /// `once`, `thread`, `project`, `deny`.
    pub answer: String,
    /// For `thread` and `project`: commands that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Vec<String>>,
    /// For `deny`: a word to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No such question is open.
    #[error("no question `{0}` is open")]
    NotOpen(String),
    /// Several are meant.
    #[error("`{0}` may be several questions")]
    Ambiguous(String),
    /// Somebody was quicker.
    #[error("question `{0}` has been answered already")]
    Answered(String),
    /// The question does not offer this.
    #[error("question `{0}` cannot be answered with `{1}`")]
    NotOffered(String, String),
    /// It does not cover what was asked about.
    #[error("`{0}` is not how the command begins, and no entry for what was asked about")]
    NotPrefix(String),
    /// The folder of threads cannot be read, or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenQuestion {
    /// `qN`.
    fn number(&self) -> &str {
        self.id.split_once(':').map_or("", |(_, number)| number)
    }
}

impl GivenAnswer {
    /// What it means.
    pub(super) fn reply(self) -> Reply {
        match (self.answer.as_str(), self.prefix) {
            ("once", _) => Reply::Once,
            ("thread", prefix) => Reply::Thread(prefix),
            ("project", Some(prefix)) => Reply::Project(prefix),
            _ => Reply::Deny(self.word.unwrap_or_default()),
        }
    }
}

/// Somebody waits for questions as long as this lives.
#[derive(Debug)]
pub struct Client(#[expect(dead_code, reason = "the lock is held by being open")] File);

impl Client {
    /// Takes a place among those who answer.
    ///
    /// # Errors
    ///
    /// When the folder of the state cannot be written.
    pub fn register(store: &Store) -> Result<Self, StoreError> {
        let path = store.root().join(CLIENTS);
        let options = &mut fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(StoreError::io("open", &path))?;
        let locked = rustix::fs::flock(&file, FlockOperation::LockShared);
        locked.map_err(|error| StoreError::io("lock", &path)(error.into()))?;
        Ok(Self(file))
    }

    /// Whether somebody has one.
    pub(super) fn is_there(root: &Path) -> bool {
        let Ok(file) = File::open(root.join(CLIENTS)) else { return false };
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    }
}

/// Where a thread's questions are: in its folder, or for a run, which has none, in one made for them.
pub(super) fn place(store: &Store, id: &ThreadId) -> PathBuf {
    if store.at(id).1 { of_run(store.root(), id) } else { store.folder(id) }
}

/// The folder for the questions of a run, which goes with it.
pub(crate) fn of_run(root: &Path, id: &ThreadId) -> PathBuf {
    root.join(RUNS).join(id.as_str())
}

/// Threads that are alive, with the folders of their questions.
pub(super) fn alive(store: &Store) -> Result<Vec<(ThreadId, PathBuf)>, StoreError> {
    let threads = store.list(None)?.into_iter().filter(|thread| !thread.state.is_final());
    let ids = threads.filter_map(|thread| thread.id.parse::<ThreadId>().ok());
    Ok(ids.map(|id| (id.clone(), place(store, &id))).collect())
}

/// All open questions of threads that are alive, oldest first.
///
/// # Errors
///
/// When the folder of threads cannot be read.
pub fn open_questions(store: &Store) -> Result<Vec<OpenQuestion>, StoreError> {
    let mut all = Vec::new();
    for (_, folder) in alive(store)? {
        for entry in fs::read_dir(folder.join(QUESTIONS)).into_iter().flatten().flatten() {
            let question = is_question(&entry.path()).then(|| read(&entry.path())).flatten();
            all.extend(question.filter(|question| question.state == QuestionState::Open));
        }
    }
    all.sort_by(|one, other| (&one.asked, &one.id).cmp(&(&other.asked, &other.id)));
    Ok(all)
}

/// The open question that `name` means: `THREAD:qN`, the start of the thread's ID with `:qN`, or
/// `qN` where only one is open under that name.
///
/// # Errors
///
/// [`AnswerError::NotOpen`], [`AnswerError::Ambiguous`].
pub fn find_question(store: &Store, name: &str) -> Result<OpenQuestion, AnswerError> {
    let (thread, number) = name.split_once(':').unwrap_or(("", name));
    let is_meant = |question: &OpenQuestion| {
        question.number() == number && question.thread.starts_with(thread)
    };
    let mut meant: Vec<OpenQuestion> =
        open_questions(store)?.into_iter().filter(is_meant).collect();
    match (meant.pop(), meant.len()) {
        (Some(question), 0) => Ok(question),
        (None, _) => Err(AnswerError::NotOpen(name.to_owned())),
        (Some(_), _) => Err(AnswerError::Ambiguous(name.to_owned())),
    }
}

/// Leaves `answer` for the question that `name` means.
///
/// # Errors
///
/// [`AnswerError`]; nothing is answered then.
pub fn answer(
    store: &Store,
    name: &str,
    answer: &GivenAnswer,
) -> Result<OpenQuestion, AnswerError> {
    let question = find_question(store, name)?;
    if !question.choices.contains(&answer.answer)
        || (answer.answer == "project" && answer.prefix.is_none())
    {
        return Err(AnswerError::NotOffered(question.id, answer.answer.clone()));
    }
    let is_entry = |prefix: &Vec<String>| match prefix.as_slice() {
        [entry] if !question.paths.is_empty() => is_path_for(entry, &question.paths),
        [entry] => answer.answer == "project" && is_entry_for(entry, &question.hosts),
        _ => false,
    };
    if let Some(prefix) = &answer.prefix
        && !is_entry(prefix)
        && !question.prefixes.iter().any(|longest| longest.starts_with(prefix))
    {
        return Err(AnswerError::NotPrefix(prefix.join(" ")));
    }
    let id = question.thread.parse::<ThreadId>();
    let id = id.map_err(|_bad| AnswerError::NotOpen(name.to_owned()))?;
    let path = place(store, &id).join(QUESTIONS).join(format!("{}.answer", question.number()));
    match leave(&path, answer) {
        Ok(()) => Ok(question),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(AnswerError::Answered(question.id))
        }
        Err(error) => Err(StoreError::io("write", &path)(error).into()),
    }
}

/// The questions of one thread, for its own process.
#[derive(Debug)]
pub(super) struct Desk {
    folder: PathBuf,
}

impl Desk {
    pub(super) fn of(thread: &Path) -> Self {
        Self { folder: thread.join(QUESTIONS) }
    }

    /// The highest number of a question that was ever laid down.
    pub(super) fn last(&self) -> u64 {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix('q')?.split('.').next()?;
            number.parse::<u64>().ok()
        };
        names.filter_map(number).max().unwrap_or(0)
    }

    /// Lays a question down, in whatever state.
    pub(super) fn lay(&self, number: &str, question: &OpenQuestion) -> io::Result<()> {
        make_private(&self.folder)?;
        replace(&self.folder.join(format!("{number}.json")), &serde_json::to_string(question)?)
    }

    /// The answer that somebody left, if there is one that can be read.
    pub(super) fn answer(&self, number: &str) -> Option<GivenAnswer> {
        let text = fs::read(self.folder.join(format!("{number}.answer"))).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

fn is_question(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

fn read(path: &Path) -> Option<OpenQuestion> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let options = &mut fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(json_for_terminals(text.to_owned()).as_bytes())?;
    fs::rename(&new, path)
}

/// Writes the whole answer under a name of its own first, so that nobody reads half of one.
fn leave(path: &Path, answer: &GivenAnswer) -> io::Result<()> {
    let new = path.with_extension(format!("answer-{}", std::process::id()));
    let options = &mut fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(json_for_terminals(serde_json::to_string(answer)?).as_bytes())?;
    // Of two who answer at once, the second fails.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    linked
}
