//! QEMU behind the walls that any command has: what a guest may have made of it can write the disk
//! of its machine and read what it boots, and nothing of the user's.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use stockade_policy::{AbsPath, Limits, Mode, Network, Policy, Reason, Review, Verdict, review};
use stockade_sandbox::{Command, Launch, Outcome, Stdio};
use stockade_vm::{Enclosed, Running, Walls};

/// QEMU's threads, with room.
const THREADS: u32 = 512;
/// It opens a dozen files.
const FILES: u32 = 1024;
/// It has no use for temporary files.
const TMP_BYTES: u64 = 16 << 20;
const TMP_INODES: u64 = 1024;

/// The boundary of this machine around a machine's QEMU.
#[derive(Debug)]
pub(crate) struct Boundary {
    /// What cannot be read: homes, the workspace.
    pub(crate) hidden: Vec<PathBuf>,
}

impl Walls for Boundary {
    fn start(&self, enclosed: Enclosed) -> io::Result<Running> {
        let [stdin, stdout, stderr] = enclosed.stdio;
        let policy = policy(
            &enclosed.folder,
            &self.hidden,
            &Paths {
                readable: &enclosed.readable,
                writable: &enclosed.writable,
                memory_bytes: enclosed.memory_bytes,
            },
        )?;
        let command = Command {
            program: enclosed.program.into(),
            arguments: enclosed.arguments,
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            folder: enclosed.folder,
        };
        let launch = Launch {
            command,
            policy,
            layers: Vec::new(),
            caches: None,
            execs: None,
            notes: None,
            keeping: None,
            may_degrade: false,
        };
        let launch = match review(launch, &[(Verdict::Allow, Reason::Own)]) {
            Review::Allowed(launch) => launch,
            Review::Ask(_) | Review::Denied(_) => {
                unreachable!("Stockade's own machine has one verdict, which allows it")
            }
        };
        let stdio = Stdio { stdin, stdout, stderr };
        let running = stockade_sandbox::spawn(launch, stdio, |_doors| Ok(()), None);
        let running = running.map_err(|error| {
            let words = crate::ended::with_causes(&error);
            io::Error::other(format!("put up walls around QEMU: {words}"))
        })?;
        let pidfd = running.pidfd().as_fd().try_clone_to_owned()?;
        let wait = move || {
            let outcome = running.wait().map_err(io::Error::other)?;
            Ok(outcome == Outcome::Exited(0))
        };
        Ok(Running { pidfd, wait: Box::new(wait) })
    }
}

/// What is let through.
struct Paths<'a> {
    readable: &'a [PathBuf],
    writable: &'a [PathBuf],
    memory_bytes: u64,
}

fn policy(folder: &Path, hidden: &[PathBuf], paths: &Paths<'_>) -> io::Result<Policy> {
    let there = |paths: &[PathBuf]| -> io::Result<Vec<AbsPath>> {
        let there = paths.iter().map(|path| absolute(path));
        there.collect()
    };
    let folder = absolute(folder)?;
    let mut readable = there(paths.readable)?;
    readable.push(folder.clone());
    Ok(Policy {
        mode: Mode::WorkspaceWrite,
        workspace: folder,
        home: None,
        writable: there(paths.writable)?,
        protected: Vec::new(),
        hidden: there(hidden)?,
        readable,
        caches: Vec::new(),
        tops: Vec::new(),
        unprotected: Vec::new(),
        awaited: Vec::new(),
        network: Network::default(),
        limits: Limits {
            processes: THREADS,
            memory_bytes: paths.memory_bytes,
            open_files: FILES,
            tmp_bytes: TMP_BYTES,
            tmp_inodes: TMP_INODES,
            wall_time: None,
        },
    })
}

fn absolute(path: &Path) -> io::Result<AbsPath> {
    AbsPath::new(path.canonicalize()?).map_err(io::Error::other)
}
