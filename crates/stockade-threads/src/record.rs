//! What a thread's record says: the events of `events.jsonl`, which are also the lines that
//! `--json` prints. Scripts rely on these names (docs/reference/threads.md).
//!
//! The types here are the format and nothing else. A reader of this version takes events and
//! keys that it does not know ([`Event::Unknown`]); a key that is gone, or means something
//! else, is a new [`SCHEMA`].

mod connection;
mod denial;
mod held;
mod mode;
mod question;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

pub use connection::{Connection, ConnectionOpened};
pub use denial::Denial;
pub use held::Held;
pub use mode::{ModeChange, Permissions};
pub use question::{Answer, Question, Used};
use serde::{Deserialize, Serialize};
use stockade_gateway::base64;

/// The version of the format, in the first record of a thread.
pub const SCHEMA: u32 = 1;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Event {
    /// Always the first record.
    #[serde(rename = "thread.started")]
    ThreadStarted(ThreadStarted),
    /// The thread goes on: a follow-up, or after an interruption.
    #[serde(rename = "thread.resumed")]
    ThreadResumed(ThreadResumed),
    /// The policy of a run, resolved.
    #[serde(rename = "policy")]
    Policy(PolicyText),
    /// A phase began, ended or failed.
    #[serde(rename = "phase")]
    Phase(Phase),
    /// What was said, by the user or the agent.
    #[serde(rename = "message")]
    Message(Message),
    /// A command was decided about; it starts unless the decision is [`Decision::Deny`].
    #[serde(rename = "command.started")]
    CommandStarted(CommandStarted),
    /// A command ended.
    #[serde(rename = "command.finished")]
    CommandFinished(CommandFinished),
    /// The agent wrote a file by its own tool.
    #[serde(rename = "edit")]
    Edit(Edit),
    /// A call of the model's was none that could be carried out: the model was told, and goes on.
    #[serde(rename = "slip")]
    Slip {
        /// What was wrong, in one line.
        why: String,
    },
    /// Something waits for an answer.
    #[serde(rename = "question")]
    Question(Question),
    /// The answer to a question.
    #[serde(rename = "answer")]
    Answer(Answer),
    /// Something went on because of an answer before.
    #[serde(rename = "used")]
    Used(Used),
    /// Something was refused.
    #[serde(rename = "denial")]
    Denial(Denial),
    /// Something was held back at the end.
    #[serde(rename = "held")]
    Held(Held),
    /// A connection was made; its end is a [`Event::Connection`].
    #[serde(rename = "connection.opened")]
    ConnectionOpened(ConnectionOpened),
    /// A connection is over, or was refused.
    #[serde(rename = "connection")]
    Connection(Connection),
    /// Tokens used since the event of this type before.
    #[serde(rename = "usage")]
    Usage(Usage),
    /// A check of `[cloud] checks` ended.
    #[serde(rename = "check")]
    Check(Check),
    /// What a thread in a machine works on.
    #[serde(rename = "cloned")]
    Cloned(Cloned),
    /// What the thread changed, as trees in its own repository.
    #[serde(rename = "changes")]
    Changes(Changes),
    /// Changes were applied to the user's files.
    #[serde(rename = "applied")]
    Applied(Applied),
    /// A branch of the user's repository was made of the changes.
    #[serde(rename = "branched")]
    Branched(Branched),
    /// A pull request was opened for that branch, or found open.
    #[serde(rename = "proposed")]
    Proposed(Proposed),
    /// The user dropped the changes.
    #[serde(rename = "discarded")]
    Discarded(Discarded),
    /// What a person was told of the result, or of what it began with.
    #[serde(rename = "note")]
    Note {
        /// In a sentence.
        text: String,
    },
    /// A torn end of the record was cut off and kept aside.
    #[serde(rename = "record.recovered")]
    Recovered(Recovered),
    /// The end of the task. What is recorded later is what the user does with the thread.
    #[serde(rename = "thread.finished")]
    ThreadFinished(ThreadFinished),
    /// An event of a later version.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// How a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// On the user's own files.
    Local,
    /// On a clone in a microVM.
    Cloud,
    /// One command of `stockade run`.
    Run,
}

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for a place.
    Queued,
    /// At work.
    Running,
    /// A question is open.
    Waiting,
    /// The task ended well.
    Completed,
    /// The task ended badly.
    Failed,
    /// Its process is gone, or a signal ended it.
    Interrupted,
    /// The user ended it.
    Cancelled,
}

impl State {
    /// Whether nothing more is to come.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Waiting => false,
            Self::Completed | Self::Failed | Self::Interrupted | Self::Cancelled => true,
        }
    }

    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Kind {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Run => "run",
        }
    }
}

/// A path in a record: `path`, lossy where it is not UTF-8, and then its bytes as `path_b64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathText {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl PathText {
    /// The path as it was.
    pub fn to_path(&self) -> PathBuf {
        Self::whole(&self.path, self.path_b64.as_deref())
    }

    /// The path that stands in a record as `text` and, where it is not UTF-8, as `base64`.
    pub(crate) fn whole(text: &str, base64: Option<&str>) -> PathBuf {
        let bytes = base64.and_then(|text| base64::decode(text.as_bytes()));
        bytes.map_or_else(|| PathBuf::from(text), |bytes| OsString::from_vec(bytes).into())
    }
}

impl From<&Path> for PathText {
    fn from(path: &Path) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            path_b64: path.to_str().is_none().then(|| base64::encode(path.as_os_str().as_bytes())),
        }
    }
}

/// The beginning of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStarted {
    /// The thread's ID.
    pub thread: String,
    /// How it runs.
    pub kind: Kind,
    /// The folder given to the agent.
    pub workspace: String,
    /// Its bytes, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_b64: Option<String>,
    /// What it is about, in one line: the start of the prompt, or the command.
    #[serde(default)]
    pub title: String,
    /// Sandbox mode: `read-only`, `workspace-write`, `danger-full-access`.
    pub mode: String,
    /// Approval policy: `untrusted`, `on-request`, `never`.
    pub policy: String,
    /// The walls that are up: `mounts`, `landlock`, `seccomp`, ….
    pub enforcement: Vec<String>,
    /// The agent, where that is another's program in a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether its clone has what is not committed too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_changes: bool,
}

impl ThreadStarted {
    /// The workspace as it was.
    pub fn workspace(&self) -> PathBuf {
        PathText::whole(&self.workspace, self.workspace_b64.as_deref())
    }

    /// Sets the workspace, with its bytes where they are needed.
    pub(crate) fn set_workspace(&mut self, path: &Path) {
        let PathText { path, path_b64 } = PathText::from(path);
        (self.workspace, self.workspace_b64) = (path, path_b64);
    }
}

/// What a run might do, as it was resolved. Mode and approval policy are in the first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// What could be written.
    pub writable: Vec<PathText>,
    /// What in it could not.
    pub protected: Vec<PathText>,
    /// What could not be read.
    pub hidden: Vec<PathText>,
    /// What in it could.
    pub readable: Vec<PathText>,
    /// Ports of the host's loopback that were open.
    pub host_ports: Vec<u16>,
    /// What could be used up.
    pub limits: LimitsText,
    /// `KEY: PLACE` of each value that was not built in.
    pub sources: Vec<String>,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsText {
    /// Processes and threads alive at once.
    pub processes: u32,
    /// Memory of all together.
    pub memory_bytes: u64,
    /// Open files of one process.
    pub open_files: u32,
    /// Private temporary files.
    pub tmp_bytes: u64,
    /// The whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time_ms: Option<u64>,
}

/// A thread goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadResumed {
    /// Where it stood.
    pub from: State,
}

/// One step in a phase: `queue`, `image`, `boot`, `clone`, `setup`, `agent`, `checks`, `diff`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Which.
    pub name: String,
    /// What became of it.
    pub state: PhaseState,
    /// How long it took, in seconds; missing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Where a phase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseState {
    /// It began.
    Started,
    /// It ended well.
    Finished,
    /// It ended badly.
    Failed,
    /// There was nothing to do.
    Skipped,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user.
    User,
    /// The agent.
    Assistant,
}

/// Something said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// All of it.
    pub text: String,
}

/// What was decided about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may happen.
    Allow,
    /// It was asked about.
    Ask,
    /// It may not.
    Deny,
}

/// A command before it starts: either words, or a line for the shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStarted {
    /// Ties `command.finished` to this.
    pub id: String,
    /// The words, lossy where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// The line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// The rule that decided: `config.toml:12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A command after its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFinished {
    /// That of `command.started`.
    pub id: String,
    /// As a shell has it: the command's own, 128+N for a signal, 124 for the time limit.
    pub exit: u8,
    /// Both streams as they came, lossy where they are not UTF-8.
    pub output: String,
    /// Whether a part of the output is missing.
    pub truncated: bool,
    /// Whether it was an agent's command that its time limit ended: a command's own status may be 124 too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// What was refused to it.
    #[serde(default)]
    pub denials: Vec<Denial>,
}

/// A file that the agent's own tool wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Which, relative to the workspace.
    #[serde(flatten)]
    pub path: PathText,
    /// How.
    pub kind: EditKind,
}

/// How a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EditKind {
    /// It is new.
    Created,
    /// Its content changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by it.
    pub output_tokens: u64,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The command line.
    pub name: String,
    /// As a shell has it.
    pub exit: u8,
    /// How long it took.
    pub seconds: f64,
}

/// What changed: two trees in the thread's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The folder that the trees are of, which the paths are relative to.
    #[serde(flatten)]
    pub root: PathText,
    /// The tree before, as a hexadecimal object name.
    pub base: String,
    /// The tree after.
    pub result: String,
    /// How many files differ.
    pub files: u64,
    /// What was not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Of a clone: what it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<Cloned>,
    /// What was committed in the clone, in order, when that is a line from its base on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<Commit>,
    /// Files of a draft that differ, and are in no tree because git ignores them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ignored: u64,
    /// What of a draft no tree has: folders and permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<ModeChange>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What was cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloned {
    /// The user's commit.
    pub commit: String,
    /// The branch that was checked out, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A commit upon it, in the thread's repository, with the work that was not committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// A commit, as far as it is believed: two trees that hold what differs, and words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The tree before.
    pub base: String,
    /// The tree after.
    pub result: String,
    /// What its author said: hostile text without control characters.
    pub message: String,
}

/// A branch was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branched {
    /// Its name, without `refs/heads/`.
    pub branch: String,
    /// Where it points.
    pub commit: String,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// Where a person looks at it.
    pub url: String,
    /// Its number on the forge.
    pub number: u64,
    /// The branch.
    pub branch: String,
}

/// Changes were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// How many files they were of.
    pub files: u64,
}

/// Something that a diff does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Relative to the folder that the changes are of.
    #[serde(flatten)]
    pub path: PathText,
    /// What it is: `a large file`, `a repository of its own`, ….
    pub why: String,
}

/// What became of changes that were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Files that changed.
    pub applied: Vec<PathText>,
    /// Files that were left as they are: in conflict, held or refused.
    pub left: Vec<PathText>,
}

/// A repaired record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// How many bytes were cut off.
    pub bytes: u64,
    /// The file in the thread's folder that has them now.
    pub kept: String,
}

/// The end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFinished {
    /// How.
    pub state: State,
    /// Stockade's exit status.
    pub exit: u8,
    /// In one line, for a person.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_that_is_no_utf_8_survives() {
        let odd = Path::new(OsStr::from_bytes(b"a\xffb"));
        let text = serde_json::to_string(&PathText::from(odd)).unwrap();
        assert_eq!(text, r#"{"path":"a\ufffdb","path_b64":"Yf9i"}"#.replace("\\ufffd", "\u{fffd}"));
        assert_eq!(serde_json::from_str::<PathText>(&text).unwrap().to_path(), odd);
        let plain = serde_json::to_string(&PathText::from(Path::new("a/b"))).unwrap();
        assert_eq!(plain, r#"{"path":"a/b"}"#);
    }

    #[test]
    fn events_carry_their_type_and_later_ones_are_taken() {
        let edit = Event::Edit(Edit { path: Path::new("a").into(), kind: EditKind::Created });
        let text = serde_json::to_string(&edit).unwrap();
        assert_eq!(text, r#"{"type":"edit","path":"a","kind":"created"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), edit);
        let later = r#"{"type":"teleported","to":"moon"}"#;
        assert_eq!(serde_json::from_str::<Event>(later).unwrap(), Event::Unknown);
    }
}
