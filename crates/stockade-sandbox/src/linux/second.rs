//! The second backend: where user namespaces cannot be had.
//!
//! Landlock and seccomp alone hold it. The same two processes stand around the command, in the
//! host's own namespaces: the inner one is no PID 1, so it becomes the reaper of what the command
//! leaves behind (`prctl(2)`, `PR_SET_CHILD_SUBREAPER`), as does the outer one should it be ended
//! first. There is no view: what is hidden cannot be read, and what is not a root cannot be
//! written. There is no network: no socket reaches anything that it was not born connected to.
//!
//! What of the policy that cannot be held is refused, unless the user lets it go (`--degrade`).

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::net::SocketType;
use stockade_policy::{AbsPath, Mode};

use super::leash::Leash;
use super::outside;
use super::plan::{Content, Placement, Plan, Walls};
use super::sys::{exec_unsafe, landlock_unsafe};
use crate::launch::{Tell, Ties, Told, WayOut};
use crate::{Command, Launch, Outcome, SetupError};

/// Landlock cuts off signals and abstract sockets since.
const SCOPES_SINCE: u32 = 6;

/// Variables of Stockade's own that lead to the private `/tmp` of the first backend.
const TEMPORARY: [&str; 6] = ["TMPDIR", "TMP", "TEMP", "GOCACHE", "UV_CACHE_DIR", "CCACHE_TEMPDIR"];

const WEAKER: &str = "no user namespaces here: Landlock and seccomp alone hold this run. There is \
    no network, loopback included; `/tmp` is read-only and `$TMPDIR` a private folder; caches are \
    read-only; your other processes can be seen, names of hidden files too, and modes and times of \
    your files can be changed";

/// Whether `error` says that the namespaces of the first backend cannot be had, or are empty of
/// rights (Ubuntu's rule for `AppArmor`, a Landlock domain around this process).
pub(super) fn is_called_for(error: &SetupError) -> bool {
    let is_refused =
        |source: &io::Error| matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    match error {
        // Without a number it is this process that has a second thread.
        SetupError::Namespaces(source) => source.raw_os_error().is_some(),
        SetupError::Step { step, subject, source } => {
            let step = step.as_str();
            let is_map = step == "write" && subject.starts_with("/proc/self");
            let is_mount = ["clone", "make read-only", "mount over", "mount", "bring up"]
                .contains(&step)
                || step.starts_with("make a private tmpfs");
            (is_map || is_mount) && is_refused(source)
        }
        SetupError::Host(step, source) => step == "map user and group ids" && is_refused(source),
        SetupError::Canary { .. }
        | SetupError::Unheld { .. }
        | SetupError::Lost { .. }
        | SetupError::NotRun { .. } => false,
    }
}

/// Runs `launch` here, after the first backend failed with `why`.
pub(super) fn launch(
    launch: &Launch,
    why: SetupError,
    (plan, leash, tell): (&Plan, &Leash, Tell<'_>),
) -> Result<Outcome, SetupError> {
    let Ok(abi) = landlock_unsafe::abi() else { return Err(why) };
    let lost = lost(launch, plan, abi);
    if !launch.may_degrade && !lost.is_empty() {
        return Err(SetupError::Unheld { what: lost.join("; ") });
    }
    if !launch.layers.is_empty() {
        return Err(SetupError::Unheld { what: "a draft".to_owned() });
    }
    // What decides about the next run is not the user's to let go in passing.
    let is_own =
        |path: &&AbsPath| path.as_path().file_name().is_some_and(|name| name == "stockade");
    if let Some(own) = launch.policy.protected.iter().find(is_own) {
        let what = format!("`{}`, Stockade's own, in a writable root", own.as_path().display());
        return Err(SetupError::Unheld { what });
    }
    if (0..3).any(takes_addresses) {
        let what = "a standard stream that is a datagram socket";
        return Err(SetupError::Unheld { what: what.to_owned() });
    }
    let temporary = Temporary::make()
        .map_err(|error| SetupError::Host("make a private temporary folder".into(), error))?;
    tell(Told::Note(WEAKER));
    for what in lost {
        tell(Told::Note(&format!("--degrade: not held: {what}")));
    }
    let plan = narrowed(plan, &temporary.path);
    let command = moved(&launch.command, &temporary.path);
    let ties = Ties { tell, way_out: WayOut::Elsewhere(None) };
    outside::run(&plan, &command, &launch.policy, (leash, ties))
}

/// Whether descriptor `number` is a socket that each message can give another address.
fn takes_addresses(number: i32) -> bool {
    let kind = exec_unsafe::duplicate_stdio(number)
        .and_then(|fd| rustix::net::sockopt::socket_type(&fd).ok());
    kind.is_some_and(|kind| kind != SocketType::STREAM && kind != SocketType::SEQPACKET)
}

/// What the policy says and nothing here holds.
fn lost(launch: &Launch, plan: &Plan, abi: u32) -> Vec<&'static str> {
    let policy = &launch.policy;
    let is_writable = |path: &AbsPath| policy.writable.iter().any(|root| path.is_within(root));
    let mut lost = Vec::new();
    if policy.mode == Mode::WorkspaceWrite {
        lost.push("protected names in writable roots (git's hooks and configuration, `.env`, …)");
    }
    if policy.hidden.iter().any(is_writable) {
        lost.push("hidden paths in writable roots");
    }
    if plan.way_out.is_some() || !policy.network.host_ports.is_empty() {
        lost.push("a way to hosts or ports that are allowed");
    }
    if launch.execs.is_some() {
        lost.push("rules that ask or deny, for what the command starts");
    }
    if abi < SCOPES_SINCE {
        lost.push("signals to your other processes (Landlock here is older than Linux 6.12)");
    }
    lost
}

/// The same plan with what Landlock can say of it.
fn narrowed(plan: &Plan, temporary: &AbsPath) -> Plan {
    let mut plan = plan.clone();
    plan.walls = Walls::SECOND;
    plan.caches = None;
    plan.execs = None;
    plan.host_ports.clear();
    plan.way_out = None;
    plan.placements.retain_mut(|placement| match placement.content {
        Content::PrivateWritable | Content::Cached | Content::Pinned | Content::Protected => false,
        Content::PrivateEmpty => {
            placement.content = Content::Hidden;
            true
        }
        Content::Readable | Content::Writable | Content::Hidden => true,
    });
    let mut place = |path: &str, content| {
        let path = AbsPath::new(path).expect("invariant: an absolute path");
        plan.placements.push(Placement { path, content });
    };
    // The user's own terminals and cameras; harmless devices have a rule of their own each.
    place("/dev", Content::Hidden);
    temporary.as_path().parent().unwrap_or(Path::new("/")).clone_into(&mut plan.canary);
    let content = Content::Writable;
    plan.placements.push(Placement { path: temporary.clone(), content });
    // As everybody who reads a plan expects.
    plan.placements.sort_by(|a, b| a.path.cmp(&b.path));
    plan
}

/// The command with its temporary folder.
fn moved(command: &Command, temporary: &AbsPath) -> Command {
    let mut command = command.clone();
    for (name, value) in &mut command.environment {
        let is_ours = TEMPORARY.iter().any(|known| *known == name.as_os_str());
        if is_ours && let Ok(inner) = Path::new(&value).strip_prefix("/tmp") {
            let path: PathBuf = temporary.as_path().join(inner);
            *value = OsString::from(path.components().collect::<PathBuf>());
        }
    }
    command
}

/// A folder of this run's, gone after it.
#[derive(Debug)]
struct Temporary {
    path: AbsPath,
}

impl Temporary {
    fn make() -> io::Result<Self> {
        let time = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
        let folder = std::env::temp_dir().canonicalize()?;
        let path = folder.join(format!("stockade-{}-{time}", std::process::id()));
        // It must be new: who has made it may have left something in it.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path: AbsPath::new(path).map_err(io::Error::other)? })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        fs::remove_dir_all(self.path.as_path()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_namespaces_refuse_calls_for_it() {
        let error = |number| io::Error::from_raw_os_error(number);
        let step = |step: &str, subject: &str, number| SetupError::Step {
            step: step.to_owned(),
            subject: subject.into(),
            source: error(number),
        };
        for called in [
            SetupError::Namespaces(error(libc::EPERM)),
            SetupError::Namespaces(error(libc::ENOSPC)),
            SetupError::Namespaces(error(libc::ENOSYS)),
            step("write", "/proc/self/uid_map", libc::EPERM),
            step("clone", "/home/u/w", libc::EPERM),
            step("make read-only", "/", libc::EACCES),
        ] {
            assert!(is_called_for(&called), "{called:?}");
        }
        for other in [
            step("open", "/home/u/w", libc::EACCES),
            step("write", "/proc/sys/x", libc::EPERM),
            step("clone", "/home/u/w", libc::EINVAL),
            SetupError::Canary { wall: "mounts".to_owned() },
            SetupError::Lost { how: "signal 9".to_owned() },
        ] {
            assert!(!is_called_for(&other), "a fault is no reason for less: {other:?}");
        }
    }
}
