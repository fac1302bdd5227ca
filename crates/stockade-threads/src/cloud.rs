//! A cloud thread: an agent, or one command, at work on a clone in a machine of its own. It ends
//! in a diff.
//!
//! The agent's loop runs here and its hands in the machine, which is the boundary: inside it
//! everything is allowed that no rule denies. The user's repository is a store of objects to read
//! from, and nothing else.

pub mod check;
mod clone;
mod error;
mod external;
mod files;
mod harvest;
mod limits;
mod out;
mod package;
mod phases;
mod prepared;
mod setup;
mod user;
mod work;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_agents::{AgentError, Builtin, Model};
use stockade_policy::Mode;
use stockade_vm::{Accelerator, BootError, VmSpec};

use crate::ThreadId;
use crate::approvals::{Approvals, Asking};
use crate::conversation::Conversation;
use crate::ended::{Deadline, Ended, title, with_causes};
use crate::git::{CloneError, Repository};
use crate::hits::Hits;
use crate::journal::{Journal, Live, Watch};
use crate::judge::Judge;
use crate::local::Budget;
use crate::place::{Boundary, Place as _, Vm};
use crate::record::{Changes, Event, Kind, PhaseState, State, ThreadResumed};
use crate::session::{Parts, Session};
use crate::store::{Cancel, NewThread, Slot, Store, Thread};
use crate::surroundings;
use clone::{Earlier, Source};
pub use error::CloudError;
pub use external::{External, ModelServer, PROMPT};
pub use files::{CopyError, Files};
use harvest::{HarvestError, INDEX, Inside};
pub use package::{Package, PackageError, package};
use phases::Phases;
pub use setup::SetUp;
pub(crate) use setup::allowing;
pub use user::{User, Wishes};
use work::WorkEnd;

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
    /// How long it may take, all phases but the first, the queue, and the last together.
    pub wall_time: Option<Duration>,
    /// Whether work that is not committed is cloned too: all but what lies below these paths.
    pub with_changes: Option<Vec<PathBuf>>,
    /// What prepares the machine.
    pub setup: Option<SetUp>,
    /// Command lines that are run when the work is done.
    pub checks: Vec<String>,
    /// How many machines there may be at once.
    pub parallel: u32,
    /// The user's own files, which it works on; `None`: a clone of what is committed.
    pub files: Option<Files>,
    /// Which one of several attempts at the same this is.
    pub attempt: Option<(u32, u32)>,
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
    /// The same by another agent's program.
    External(Box<External>),
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
    /// The user's home, which QEMU sees nothing of.
    pub home: Option<PathBuf>,
}

/// What came of a thread that began.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it changed; `None` when nothing could be taken out.
    pub changes: Option<Changes>,
    /// What of that was to be written into the user's files and is not, in words.
    pub left: Vec<String>,
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
    user: User<'_>,
) -> Result<Outcome, CloudError> {
    let top = match &task.files {
        Some(_) => files::top(&task.workspace)?,
        None => top(&task.workspace)?,
    };
    let agent = agent(task)?;
    let thread = store.create(&new_thread(task))?;
    let journal = Journal::begin(store, &thread, watch)?;
    let source = task.with_changes.clone().map_or(Source::Head, Source::WithChanges);
    let inner = task.workspace.strip_prefix(&top).unwrap_or(Path::new("")).to_owned();
    let (thread, journal, before, left) = (&thread, &journal, None, RefCell::default());
    Running { task, agent, store, thread, journal, user, inner, source, before, left }.finish()
}

/// Goes on with a thread that has ended, or lost its process: a new machine, with what the last one
/// left. The task's workspace is that of the thread.
///
/// # Errors
///
/// [`CloudError`]: nothing has run.
pub fn resume(
    task: &CloudTask,
    store: &Store,
    id: &ThreadId,
    watch: &mut dyn Watch,
    user: User<'_>,
) -> Result<Outcome, CloudError> {
    let agent = agent(task)?;
    let thread = store.resume(id)?;
    let detail = store.detail(id)?;
    if detail.summary.kind != Kind::Cloud {
        return Err(CloudError::NoCloud(id.to_string()));
    }
    let from = store.state_of(id)?;
    let mut before = Conversation::default();
    for record in store.records(id)? {
        before.add(record?.event);
    }
    let top = top(&task.workspace)?;
    let inner = task.workspace.strip_prefix(&top).unwrap_or(Path::new("")).to_owned();
    let source = match detail.cloned {
        Some(cloned) => Source::Again(Box::new(Earlier {
            cloned,
            changes: detail.changes,
            when: detail.changed,
            title: detail.summary.title,
        })),
        // It never had a clone, and what it should have had is not what lies there now.
        None if detail.started.with_changes => return Err(CloudError::NoSnapshot(id.to_string())),
        None => Source::Head,
    };
    let journal = Journal::new(&thread, watch);
    journal.record(&Event::ThreadResumed(ThreadResumed { from }))?;
    let (thread, journal, before, left) = (&thread, &journal, Some(before), RefCell::default());
    Running { task, agent, store, thread, journal, user, inner, source, before, left }.finish()
}

fn agent(task: &CloudTask) -> Result<Option<Builtin>, CloudError> {
    Ok(match &task.work {
        Work::Agent { model, .. } => Some(Builtin::new(model.clone())?),
        Work::External(_) | Work::Command(_) => None,
    })
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
        Work::External(agent) => vec![agent.prompt.as_str().into()],
        Work::Command(argv) => argv.iter().map(|word| word.to_string_lossy()).collect(),
    };
    let mode = task.files.as_ref().map_or(Mode::DangerFullAccess, |it| it.bounds.policy().mode);
    NewThread {
        kind: if task.files.is_some() { Kind::Run } else { Kind::Cloud },
        workspace: task.workspace.clone(),
        title: match task.attempt {
            Some((number, of)) => format!("{} ({number} of {of})", title(&words.join(" "))),
            None => title(&words.join(" ")),
        },
        mode: mode.to_string(),
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
            task.setup.as_ref().map(|set_up| &set_up.network),
        ),
        agent: match &task.work {
            Work::External(agent) => Some(agent.name.clone()),
            Work::Agent { .. } | Work::Command(_) => None,
        },
        with_changes: task.with_changes.is_some(),
    }
}

/// A thread under way.
struct Running<'a> {
    task: &'a CloudTask,
    agent: Option<Builtin>,
    store: &'a Store,
    thread: &'a Thread,
    journal: &'a Journal<'a>,
    user: User<'a>,
    /// From the top of the repository to where the user stands.
    inner: PathBuf,
    source: Source,
    /// What was said in earlier machines of the same thread.
    before: Option<Conversation>,
    /// What of the result was to be written and is not.
    left: RefCell<Vec<String>>,
}

impl Running<'_> {
    fn finish(self) -> Result<Outcome, CloudError> {
        self.record_task()?;
        let cancel = Cancel::watch(self.thread.folder(), &self.user.wishes.stop);
        let mut phases = Phases::new(self.journal);
        let slot = self.queue(&mut phases);
        let deadline = Deadline::set(self.task.wall_time, &self.user.wishes.stop);
        let outcome = slot.and_then(|_slot| self.run(&mut phases));
        // The disk and the clone go in any case.
        fs::remove_dir_all(self.folder()).ok();
        let (ended, changes) = match outcome {
            Ok((ended, changes)) => (ended, changes),
            Err(CloudError::Boot(BootError::Stopped) | CloudError::Interrupted) => {
                (Ended::of_agent(self.thread, Err(AgentError::Interrupted)), None)
            }
            Err(error) => {
                self.ended(State::Failed, NOTHING_RAN, with_causes(&error))
                    .record(self.thread, self.journal);
                return Err(error);
            }
        };
        let mut ended = ended.within(&deadline).cancelled_by(&cancel);
        if let Err(error) = phases.kept() {
            (ended.state, ended.exit) = (State::Failed, ended.exit.max(1));
            ended.summary = format!("{}; {}", ended.summary, with_causes(&error));
        }
        let ended = ended.record(self.thread, self.journal);
        Ok(Outcome { ended, changes, left: self.left.take() })
    }

    /// Waits for a place among those that may have a machine. Without a wait there is no phase.
    fn queue(&self, phases: &mut Phases<'_>) -> Result<Slot, CloudError> {
        let stop = || self.user.wishes.stop.is_requested();
        let began = Instant::now();
        let mut waits = false;
        let slot = self.store.slot(self.task.parallel, &stop, &mut || {
            waits = true;
            phases.note("queue", PhaseState::Started, None);
        });
        let slot = slot?;
        if waits {
            let state = if slot.is_some() { PhaseState::Finished } else { PhaseState::Failed };
            phases.note("queue", state, Some(began.elapsed()));
        }
        slot.ok_or(CloudError::Interrupted)
    }

    fn run(&self, phases: &mut Phases<'_>) -> Result<(Ended, Option<Changes>), CloudError> {
        let (cloned, ignored) = phases.during("clone", || self.clone_repository())?;
        let vm = self.boot(phases)?;
        let asking = Asking::of(self.user.ask);
        let thread = (self.thread.id(), self.thread.folder());
        let approvals = Approvals::new(thread, &asking, &self.user.wishes.stop);
        let session = Session::new(Parts {
            place: &vm,
            judge: Judge { mode: Mode::DangerFullAccess, ..self.task.judge.clone() },
            bounds: None,
            approvals: &approvals,
            widen: None,
            journal: self.journal,
            stop: &self.user.wishes.stop,
            hits: self.thread.folder().ancestors().nth(2).map(Hits::of),
            in_place: None,
        });
        if let Some(set_up) = &self.task.setup {
            self.prepare((&session, &vm), set_up, phases)?;
        }
        let ended = phases.during("agent", || {
            let ended = self.work(&session, &vm)?;
            // What ended badly is a phase that failed.
            if ended.state == State::Completed { Ok(ended) } else { Err(WorkEnd::Ended(ended)) }
        });
        let ended = match ended {
            Ok(ended) | Err(WorkEnd::Ended(ended)) => self.checked(ended, &session, phases)?,
            Err(WorkEnd::Store(error)) => return Err(error.into()),
        };
        drop(session);
        let client = vm.client();
        let stop = || self.user.wishes.abandon.is_requested();
        let thread = self.thread.folder();
        let (folder, index) = (self.place(), INDEX.as_ref());
        let inside = Inside { client, folder, index, thread, stop: &stop, ignored };
        let harvest = phases.during("diff", || inside.harvest(&cloned));
        let went_wrong = ended.state != State::Completed || harvest.is_err();
        let met = limits::met(client, folder, &self.task.machine, went_wrong);
        let mut settled = self.settle(ended, harvest, &vm);
        settled.0.notes.extend(met);
        // It ends either way; in good order is only faster.
        vm.stop().ok();
        Ok(settled)
    }

    /// Runs the checks, unless the work was broken off. An agent's task that fails one has failed.
    fn checked(
        &self,
        ended: Ended,
        session: &Session<'_>,
        phases: &mut Phases<'_>,
    ) -> Result<Ended, CloudError> {
        let was_broken_off = self.user.wishes.stop.is_requested();
        if self.task.checks.is_empty() || was_broken_off {
            return Ok(ended);
        }
        let checked = phases.during("checks", || {
            let failures = self.check(session)?;
            if failures.is_empty() { Ok(()) } else { Err(CheckEnd::Failures(failures)) }
        });
        let mut ended = ended;
        match checked {
            Ok(()) => {}
            Err(CheckEnd::Failures(failures)) => {
                let is_agents = !matches!(self.task.work, Work::Command(_));
                if is_agents && ended.state == State::Completed {
                    (ended.state, ended.exit) = (State::Failed, 1);
                }
                ended.summary = format!("{}; {}", ended.summary, failures.join("; "));
            }
            Err(CheckEnd::Work(WorkEnd::Ended(broken))) => ended = broken,
            Err(CheckEnd::Work(WorkEnd::Store(error))) => return Err(error.into()),
        }
        Ok(ended)
    }

    /// Where the machine has the repository.
    fn place(&self) -> &Path {
        let at = |_: &Files| {
            // Where the user stands, without the way down from the top.
            let up = self.inner.components().count();
            self.task.workspace.ancestors().nth(up).and_then(files::place)
        };
        self.task.files.as_ref().and_then(at).unwrap_or(FOLDER.as_ref())
    }

    /// The folder of the machine alone.
    fn folder(&self) -> PathBuf {
        self.thread.folder().join("machine")
    }

    /// What nobody in QEMU's place has to see: home, where it is no part of the system, and the
    /// user's repository.
    fn hidden(&self) -> Vec<PathBuf> {
        let machine = &self.task.machine;
        let top = self.task.workspace.ancestors().find(|path| path.join(".git").exists());
        let all = machine.home.iter().cloned().chain(top.map(Path::to_owned));
        all.filter(|path| path.parent().is_some() && path.exists()).collect()
    }

    fn boot(&self, phases: &mut Phases<'_>) -> Result<Vm, CloudError> {
        let (machine, state) = (&self.task.machine, self.folder());
        let spec = VmSpec {
            cache: machine.cache.clone(),
            repository: state.join("clone"),
            state,
            folder: self.place().to_owned(),
            is_root: self.task.files.as_ref().is_some_and(|files| files.is_root),
            toolchains: Vec::new(),
            program: match &self.task.work {
                Work::External(agent) => agent.package.shown.clone(),
                Work::Agent { .. } | Work::Command(_) => Vec::new(),
            },
            memory_bytes: machine.memory_bytes,
            cpus: machine.cpus,
            disk_bytes: machine.disk_bytes,
            setup: self.prepared_by()?,
            is_booted: false,
            accelerator: None,
            walls: Some(Arc::new(Boundary { hidden: self.hidden() })),
        };
        let stop = || self.user.wishes.stop.is_requested();
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
                    Ok(()) => {
                        if let Some(files) = &self.task.files {
                            ended = self.write_back(files, &changes, ended);
                        }
                        return (ended, Some(changes));
                    }
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
        // A record that cannot be kept is seen by whatever comes next.
        self.journal.record(&Event::Note { text: text.to_owned() }).ok();
    }
}

/// Why the checks did not all go well.
enum CheckEnd {
    Failures(Vec<String>),
    Work(WorkEnd),
}

impl From<WorkEnd> for CheckEnd {
    fn from(end: WorkEnd) -> Self {
        Self::Work(end)
    }
}
