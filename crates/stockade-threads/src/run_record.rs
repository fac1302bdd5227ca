//! The record of one command of `stockade run`: a thread of kind `run` that is one file.
//!
//! It costs a start an open and two writes, and nothing waits for the disk. It is written by the
//! process outside alone, which holds a lock on it while the command runs; the index takes it in
//! when somebody looks. The same lines go to the file of `--json-file`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use stockade_policy::{AbsPath, ApprovalPolicy, Policy};

use crate::ThreadId;
use crate::ended::title;
use crate::folder::{make_private, make_top};
use crate::record::{
    CommandFinished, CommandStarted, Decision, Denial, Event, Held, Kind, LimitsText, PathText,
    PolicyText, State, ThreadFinished, ThreadStarted,
};
use crate::store::{Lines, RUNS_END, StoreError, append};
use crate::undo::Segment;

/// Room that a record gets beforehand where it must not fail later, in bytes.
const RESERVED: u64 = 256 * 1024;

/// What a run begins with.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// The command and its arguments.
    pub words: &'a [OsString],
    /// What it may do.
    pub policy: &'a Policy,
    /// When an agent would be asked.
    pub approval: ApprovalPolicy,
    /// The walls that are put up; if one of them fails, nothing runs.
    pub enforcement: &'a [&'static str],
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// How.
    pub state: State,
    /// Stockade's exit status.
    pub exit: u8,
    /// In one line.
    pub summary: String,
    /// Whether the command ran at all.
    pub has_run: bool,
    /// What was refused to it.
    pub denials: Vec<Denial>,
    /// What was held back at the end.
    pub held: Vec<Held>,
    /// Where each value of the policy comes from that is not built in.
    pub sources: Vec<(String, String)>,
}

/// Where lines go.
#[derive(Debug)]
struct Sink {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
}

impl Sink {
    fn take(&mut self, line: &str) -> io::Result<()> {
        if let Err(error) = append(&self.file, line.as_bytes()) {
            // Half of a line is none; a file that is a pipe keeps it.
            self.file.set_len(self.length).ok();
            return Err(error);
        }
        self.length += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

/// A run's record, open.
#[derive(Debug)]
pub struct RunRecord {
    id: ThreadId,
    lines: Lines,
    /// That of the store first, if there is one.
    sinks: Vec<Sink>,
    is_firm: bool,
    /// What became of the policy's line, once it was written.
    policy: Option<Result<(), StoreError>>,
}

/// The record's place in the folder `root` of the store, made if need be.
///
/// # Errors
///
/// When the disk refuses.
fn open_record(root: &Path, id: &ThreadId, is_firm: bool) -> Result<Sink, StoreError> {
    let folder = root.join("threads");
    let path = folder.join(format!("{id}{RUNS_END}"));
    let open = || OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_top(root).map_err(StoreError::io("make", root))?;
            make_private(&folder).map_err(StoreError::io("make", &folder))?;
            open()
        }
        opened => opened,
    };
    let file = file.map_err(StoreError::io("make", &path))?;
    // While it is held, the run is alive.
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| StoreError::io("lock", &path)(error.into()))?;
    if is_firm {
        let flags = FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 0, RESERVED).map_err(|error| {
            std::fs::remove_file(&path).ok();
            StoreError::io("reserve room for", &path)(error.into())
        })?;
    }
    Ok(Sink { file, path, length: 0 })
}

impl RunRecord {
    /// Begins a record: in the store at `root`, in the file `copy`, in both.
    ///
    /// # Errors
    ///
    /// When the disk refuses; nothing of it is left in the store then.
    pub fn begin(
        (root, copy): (Option<&Path>, Option<(File, PathBuf)>),
        new: &NewRun<'_>,
        is_firm: bool,
    ) -> Result<Self, StoreError> {
        let id = ThreadId::generate();
        let mut record =
            Self { id, lines: Lines::of_run(), sinks: Vec::new(), is_firm, policy: None };
        if let Some(root) = root {
            record.sinks.push(open_record(root, &record.id, is_firm)?);
        }
        let kept = record.sinks.first().map(|sink| sink.path.clone());
        record.sinks.extend(copy.map(|(file, path)| Sink { file, path, length: 0 }));
        let started = record.start(new);
        if let (Err(_), Some(kept)) = (&started, kept) {
            // Half a record of a run that has not begun tells nothing.
            std::fs::remove_file(kept).ok();
        }
        started.map(|()| record)
    }

    /// The run's name.
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// Takes down what happens before the end. What cannot be written is told at the end: the rest
    /// does not follow it.
    pub fn note(&mut self, event: &Event) {
        self.write(event).ok();
    }

    /// Takes down the policy, if that was not done: hundreds of paths, for which there is time while
    /// the walls are put up. [`end`](Self::end) tells of an error.
    pub fn tell_policy(&mut self, policy: &Policy, sources: Vec<(String, String)>) {
        if self.policy.is_none() {
            self.policy = Some(self.write(&Event::Policy(policy_text(policy, sources))));
        }
    }

    /// Where what the run replaces is kept, in the store at `root`; `direct` are writable and no part
    /// of the work. `None` where nothing is: no record, nothing to write to.
    ///
    /// # Errors
    ///
    /// Words for the user when the disk refuses.
    pub fn keeps(
        &self,
        root: Option<&Path>,
        policy: &Policy,
        direct: &[PathBuf],
    ) -> Result<Option<Segment>, String> {
        let kept =
            root.filter(|root| self.sinks.first().is_some_and(|sink| sink.path.starts_with(root)));
        kept.map_or(Ok(None), |root| Segment::of_policy(root, &self.id, (policy, direct)))
    }

    fn start(&mut self, new: &NewRun<'_>) -> Result<(), StoreError> {
        let words: Vec<String> =
            new.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut started = ThreadStarted {
            thread: self.id.to_string(),
            kind: Kind::Run,
            workspace: String::new(),
            workspace_b64: None,
            title: title(&words.join(" ")),
            mode: new.policy.mode.to_string(),
            policy: new.approval.to_string(),
            enforcement: new.enforcement.iter().map(|&wall| wall.to_owned()).collect(),
            agent: None,
            with_changes: false,
        };
        started.set_workspace(new.policy.workspace.as_path());
        self.write(&Event::ThreadStarted(started))?;
        self.write(&Event::CommandStarted(CommandStarted {
            id: "1".to_owned(),
            argv: Some(words),
            line: None,
            // The user typed it: nobody questions it.
            decision: Decision::Allow,
            rule: None,
        }))
    }

    /// Writes the end, and the policy if it is not told yet.
    ///
    /// # Errors
    ///
    /// When some of it could not be written.
    pub fn end(mut self, policy: &Policy, end: RunEnd) -> Result<(), StoreError> {
        self.tell_policy(policy, end.sources);
        let mut result = self.policy.take().unwrap_or(Ok(()));
        let mut write = |event: Event| {
            let written = self.write(&event);
            if result.is_ok() {
                result = written;
            }
        };
        for denial in end.denials {
            write(Event::Denial(denial));
        }
        for held in end.held {
            write(Event::Held(held));
        }
        if end.has_run {
            write(Event::CommandFinished(CommandFinished {
                id: "1".to_owned(),
                exit: end.exit,
                // It went where the command's output goes, past Stockade.
                output: String::new(),
                truncated: true,
                timed_out: false,
                denials: Vec::new(),
            }));
        }
        let RunEnd { state, exit, summary, .. } = end;
        write(Event::ThreadFinished(ThreadFinished { state, exit, summary }));
        if self.is_firm
            && let Some(sink) = self.sinks.first()
        {
            // What was reserved and not needed.
            sink.file.set_len(sink.length).ok();
        }
        result
    }

    fn write(&mut self, event: &Event) -> Result<(), StoreError> {
        let line = self.lines.next(event).map_err(StoreError::io("record in", Path::new("")))?;
        let mut result = Ok(());
        self.sinks.retain_mut(|sink| match sink.take(&line) {
            Ok(()) => true,
            // Nothing may follow what is missing.
            Err(error) => {
                result = Err(StoreError::io("record in", &sink.path)(error));
                false
            }
        });
        result
    }
}

/// A policy as it is recorded.
fn policy_text(policy: &Policy, sources: Vec<(String, String)>) -> PolicyText {
    let paths =
        |paths: &[AbsPath]| paths.iter().map(|path| PathText::from(path.as_path())).collect();
    let limits = &policy.limits;
    PolicyText {
        writable: paths(&policy.writable),
        protected: paths(&policy.protected),
        hidden: paths(&policy.hidden),
        readable: paths(&policy.readable),
        host_ports: policy.network.host_ports.clone(),
        limits: LimitsText {
            processes: limits.processes,
            memory_bytes: limits.memory_bytes,
            open_files: limits.open_files,
            tmp_bytes: limits.tmp_bytes,
            wall_time_ms: limits
                .wall_time
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        },
        sources: sources.into_iter().map(|(key, place)| format!("{key}: {place}")).collect(),
    }
}
