//! A cloud thread: an agent, or one command, at work on a clone in a machine of its own. It ends
//! in a diff.
//!
//! The agent's loop runs here and its hands in the machine, which is the boundary: inside it
//! everything is allowed that no rule denies. The user's repository is a store of objects to read
//! from, and nothing else.

mod harvest;
mod phases;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stockade_agents::{AgentError, Builtin, HandsError, Model, Stop, Task};
use stockade_policy::Mode;
use stockade_vm::{Accelerator, BootError, VmSpec};

use crate::ended::{Deadline, Ended, title, with_causes};
use crate::git::{CloneError, Cloned, GitError, Repository, clone_head};
use crate::hits::Hits;
use crate::journal::{Journal, Live, Watch};
use crate::judge::Judge;
use crate::local::Budget;
use crate::place::{Place as _, Vm};
use crate::question::Ask;
use crate::record::{Changes, Event, Kind, Message, Role, State};
use crate::session::{Parts, Session};
use crate::store::{Cancel, NewThread, Store, StoreError, Thread};
use crate::surroundings;
use harvest::{HarvestError, Inside};
use phases::Phases;

/// Where a machine has the repository. The user's own path would tell who they are.
const FOLDER: &str = "/workspace";

/// What a cloud thread is to do, and with what.
#[derive(Debug, Clone)]
pub struct CloudTask {
    /// What is done in the machine.
    pub work: Work,
    /// Which commands ask or are refused; the machine is the boundary of the others.
    pub judge: Judge,
    /// The folder that the user stands in: absolute, without links.
    pub workspace: PathBuf,
    /// How large the machine is.
    pub machine: Machine,
    /// How long it may take, all phases but the last together.
    pub wall_time: Option<Duration>,
}

/// What is done in the machine.
#[derive(Debug, Clone)]
pub enum Work {
    /// An agent's task.
    Agent {
        /// In the user's words.
        prompt: String,
        /// Who does it.
        model: Model,
        /// What it may use up.
        budget: Budget,
    },
    /// One command.
    Command(Vec<OsString>),
}

/// A machine that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Folder of what all machines share.
    pub cache: PathBuf,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its processors.
    pub cpus: u32,
    /// How large its disk may grow.
    pub disk_bytes: u64,
}

/// The user's wishes, made while a thread is at work.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// That the work ends; its result is still taken out.
    pub stop: Stop,
    /// That not even the result is waited for.
    pub abandon: Stop,
}

/// What came of a thread that began.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it changed; `None` when nothing could be taken out.
    pub changes: Option<Changes>,
}

/// Nothing has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// A bare repository has no files to work on.
    #[error("`{}` is a bare repository, which has no files to work on", .0.display())]
    Bare(PathBuf),
    /// The repository cannot be read.
    #[error("cannot read the repository around `{}`", workspace.display())]
    Repository {
        /// Where the user stands.
        workspace: PathBuf,
        /// What git says.
        source: GitError,
    },
    /// There is no clone.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// Where the user stands is not in the commit.
    #[error("the folder `{}` is not committed, so it is not in the clone", .0.display())]
    NotCommitted(PathBuf),
    /// There is no machine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The model cannot be used as it is configured.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The thread's record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine's own folder cannot be had.
    #[error("cannot make `{}`", .0.display())]
    Folder(PathBuf, #[source] io::Error),
}

impl CloudError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bare(_) => Some("clone it, and start from there".to_owned()),
            Self::Repository { source, .. } => source.hint().map(str::to_owned),
            Self::Clone(error) => error.hint().map(str::to_owned),
            Self::NotCommitted(_) => Some("commit what is in it, or start further up".to_owned()),
            Self::Boot(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Folder(..) => None,
        }
    }
}

/// Runs a cloud thread to its end, and records it in `store`.
///
/// # Errors
///
/// [`CloudError`]: nothing has run. A thread that began and failed is an [`Outcome`].
pub fn run(
    task: &CloudTask,
    store: &Store,
    watch: &mut dyn Watch,
    ask: &dyn Ask,
    wishes: &Wishes,
) -> Result<Outcome, CloudError> {
    let top = top(&task.workspace)?;
    let agent = match &task.work {
        Work::Agent { model, .. } => Some(Builtin::new(model.clone())?),
        Work::Command(_) => None,
    };
    let thread = store.create(&new_thread(task))?;
    let journal = Journal::begin(store, &thread, watch)?;
    let inner = task.workspace.strip_prefix(&top).unwrap_or(Path::new("")).to_owned();
    let deadline = Deadline::set(task.wall_time, &wishes.stop);
    let cancel = Cancel::watch(thread.folder(), &wishes.stop);
    let mut phases = Phases::new(&journal);
    let running = Running { task, agent, thread: &thread, journal: &journal, ask, wishes, inner };
    let outcome = running.run(&mut phases);
    // The disk and the clone go in any case.
    fs::remove_dir_all(running.folder()).ok();
    let (ended, changes) = match outcome {
        Ok((ended, changes)) => (ended, changes),
        Err(CloudError::Boot(BootError::Stopped)) => {
            (Ended::of_agent(&thread, Err(AgentError::Interrupted)), None)
        }
        Err(error) => {
            running
                .ended(State::Failed, NOTHING_RAN, with_causes(&error))
                .record(&thread, &journal);
            return Err(error);
        }
    };
    let mut ended = ended.within(&deadline).cancelled_by(&cancel);
    if let Err(error) = phases.kept() {
        (ended.state, ended.exit) = (State::Failed, ended.exit.max(1));
        ended.summary = format!("{}; {}", ended.summary, with_causes(&error));
    }
    Ok(Outcome { ended: ended.record(&thread, &journal), changes })
}

/// Stockade itself failed, and nothing has run.
const NOTHING_RAN: u8 = 125;

/// The top of the work tree around `workspace`, when there is a commit to clone.
fn top(workspace: &Path) -> Result<PathBuf, CloudError> {
    let is_bare = ["HEAD", "objects", "refs"].iter().all(|name| workspace.join(name).exists());
    let found = Repository::discover(workspace)
        .map_err(|source| CloudError::Repository { workspace: workspace.to_owned(), source })?;
    match found {
        None if is_bare => Err(CloudError::Bare(workspace.to_owned())),
        None => Err(CloneError::NoRepository(workspace.to_owned()).into()),
        Some(repository) if repository.head.is_none() => {
            Err(CloneError::NoCommit(repository.top).into())
        }
        Some(repository) => Ok(repository.top),
    }
}

fn new_thread(task: &CloudTask) -> NewThread {
    let machine = &task.machine;
    let words: Vec<_> = match &task.work {
        Work::Agent { prompt, .. } => vec![prompt.as_str().into()],
        Work::Command(argv) => argv.iter().map(|word| word.to_string_lossy()).collect(),
    };
    NewThread {
        kind: Kind::Cloud,
        workspace: task.workspace.clone(),
        title: title(&words.join(" ")),
        mode: Mode::DangerFullAccess.to_string(),
        approvals: task.judge.approval.to_string(),
        enforcement: Vm::ENFORCEMENT.iter().map(|&wall| wall.to_owned()).collect(),
        policy: surroundings::pinned_machine(
            &task.judge,
            &task.workspace,
            &[
                ("memory_bytes", machine.memory_bytes),
                ("cpus", machine.cpus.into()),
                ("disk_bytes", machine.disk_bytes),
            ],
        ),
    }
}

/// A thread under way.
struct Running<'a> {
    task: &'a CloudTask,
    agent: Option<Builtin>,
    thread: &'a Thread,
    journal: &'a Journal<'a>,
    ask: &'a dyn Ask,
    wishes: &'a Wishes,
    /// From the top of the repository to where the user stands.
    inner: PathBuf,
}

impl Running<'_> {
    fn run(&self, phases: &mut Phases<'_>) -> Result<(Ended, Option<Changes>), CloudError> {
        let cloned = phases.during("clone", || self.clone_repository())?;
        let vm = self.boot(phases)?;
        let ended = phases.during("agent", || {
            let ended = self.work(&vm)?;
            // What ended badly is a phase that failed.
            if ended.state == State::Completed { Ok(ended) } else { Err(WorkEnd::Ended(ended)) }
        });
        let ended = match ended {
            Ok(ended) | Err(WorkEnd::Ended(ended)) => ended,
            Err(WorkEnd::Store(error)) => return Err(error.into()),
        };
        let client = vm.client();
        let stop = || self.wishes.abandon.is_requested();
        let inside =
            Inside { client, folder: FOLDER.as_ref(), thread: self.thread.folder(), stop: &stop };
        let harvest = phases.during("diff", || inside.harvest(&cloned));
        let settled = self.settle(ended, harvest, &vm);
        // It ends either way; in good order is only faster.
        vm.stop().ok();
        Ok(settled)
    }

    /// The folder of the machine alone.
    fn folder(&self) -> PathBuf {
        self.thread.folder().join("machine")
    }

    fn clone_repository(&self) -> Result<Cloned, CloudError> {
        let folder = self.folder();
        fs::create_dir(&folder).map_err(|error| CloudError::Folder(folder.clone(), error))?;
        let clone = folder.join("clone");
        let cloned = clone_head(&self.task.workspace, &clone)?;
        if !clone.join(&self.inner).is_dir() {
            return Err(CloudError::NotCommitted(self.task.workspace.clone()));
        }
        let name = cloned.branch.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
        let commit = cloned.commit.as_str().get(..12).unwrap_or_default();
        self.note(&format!("works on commit {commit}{name}; what is not committed stays here"));
        if !cloned.submodules.is_empty() {
            let count = cloned.submodules.len();
            self.note(&format!("submodules are empty folders in the clone: {count}"));
        }
        if cloned.lfs_pointers > 0 {
            let count = cloned.lfs_pointers;
            self.note(&format!("files of git-lfs are pointers in the clone: {count}"));
        }
        Ok(cloned)
    }

    fn boot(&self, phases: &mut Phases<'_>) -> Result<Vm, CloudError> {
        let (machine, state) = (&self.task.machine, self.folder());
        let spec = VmSpec {
            cache: machine.cache.clone(),
            repository: state.join("clone"),
            state,
            folder: FOLDER.into(),
            toolchains: Vec::new(),
            memory_bytes: machine.memory_bytes,
            cpus: machine.cpus,
            disk_bytes: machine.disk_bytes,
            accelerator: None,
        };
        let stop = || self.wishes.stop.is_requested();
        let booted = Vm::boot(&spec, &stop, &mut |progress| phases.boot(progress));
        if booted.is_err() {
            phases.boot_failed();
        }
        let vm = booted?;
        if vm.accelerator() == Accelerator::Kvm {
            self.note("the machine runs under KVM");
        }
        // It is on the disk now.
        fs::remove_dir_all(&spec.repository).ok();
        Ok(vm)
    }

    fn work(&self, vm: &Vm) -> Result<Ended, WorkEnd> {
        let session = Session::new(Parts {
            place: vm,
            judge: Judge { mode: Mode::DangerFullAccess, ..self.task.judge.clone() },
            bounds: None,
            ask: self.ask,
            journal: self.journal,
            stop: &self.wishes.stop,
            hits: self.thread.folder().ancestors().nth(2).map(Hits::of),
        });
        match (&self.task.work, &self.agent) {
            (Work::Agent { prompt, budget, .. }, Some(agent)) => {
                let said = Message { role: Role::User, text: prompt.clone() };
                self.journal.record(&Event::Message(said))?;
                let instructions = surroundings::instructions(&session);
                let place = (Path::new(FOLDER), self.inner.as_path());
                let work = Task {
                    prompt: prompt.clone(),
                    system: surroundings::describe_machine(&self.task.judge, place, &instructions),
                    max_turns: budget.max_turns,
                    max_tokens: budget.max_tokens,
                    command_timeout: budget.command_timeout,
                };
                let stop = &self.wishes.stop;
                let result = agent.run(&work, &session, &mut |event| session.heard(event), stop);
                Ok(Ended::of_agent(self.thread, result))
            }
            (Work::Command(argv), _) => Ok(self.command(&session, argv)),
            (Work::Agent { .. }, None) => {
                unreachable!("an agent's task has an agent from the start")
            }
        }
    }

    fn command(&self, session: &Session<'_>, argv: &[OsString]) -> Ended {
        match session.typed(argv, &self.inner) {
            Ok(end) => {
                let state = if end.status == 0 { State::Completed } else { State::Failed };
                let said = format!("the command ended with status {}", end.status);
                self.ended(state, end.status, end.failure.unwrap_or(said))
            }
            Err(HandsError::Interrupted) => {
                Ended::of_agent(self.thread, Err(AgentError::Interrupted))
            }
            Err(
                HandsError::Lost(words) | HandsError::Refused(words) | HandsError::Failed(words),
            ) => Ended::of_agent(self.thread, Err(AgentError::Lost(words))),
        }
    }

    /// What the result means for the end, and records it.
    fn settle(
        &self,
        mut ended: Ended,
        harvest: Result<(Changes, Vec<String>), HarvestError>,
        vm: &Vm,
    ) -> (Ended, Option<Changes>) {
        let failure = match harvest {
            Ok((changes, notes)) => {
                ended.notes = notes;
                match self.journal.record(&Event::Changes(changes.clone())) {
                    Ok(()) => return (ended, Some(changes)),
                    Err(error) => with_causes(&error),
                }
            }
            Err(HarvestError::Call(error)) => {
                let said = vm.last_words();
                let said = if said.is_empty() { said } else { format!(" (it said: {said})") };
                format!("its result is lost: {}{said}", with_causes(&error))
            }
            Err(error) => format!("its result was not taken: {}", with_causes(&error)),
        };
        if ended.state == State::Completed {
            (ended.state, ended.exit) = (State::Failed, 1);
        }
        ended.summary = format!("{}; {failure}", ended.summary);
        (ended, None)
    }

    fn ended(&self, state: State, exit: u8, summary: String) -> Ended {
        Ended {
            thread: self.thread.id().to_string(),
            state,
            exit,
            summary,
            hint: None,
            notes: Vec::new(),
        }
    }

    fn note(&self, text: &str) {
        self.journal.show(&Live::Note(text));
    }
}

/// Why there is nothing more to be done in the machine.
enum WorkEnd {
    Ended(Ended),
    Store(StoreError),
}

impl From<StoreError> for WorkEnd {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
