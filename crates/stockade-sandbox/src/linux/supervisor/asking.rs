//! Calls that wait for somebody outside to decide, instead of being denied at once.
//!
//! The path of a question was copied and resolved once; what a yes opens is what the question named,
//! by the hand of the process outside, whatever stands in the caller's memory by then.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use stockade_policy::{Denial, Operation};

use super::caller::Caller;
use super::execs::{self, Refused};
use super::files::{Done, Outside, Stop};
use super::{Answer, Notification, Shared, errno};
use crate::linux::asks::{Asker, Pending, Reply, Wanted};

/// As much of a command line as a question shows, in bytes.
const PROGRAM_MAX: usize = 200;

/// linux/errno.h: the call is made again after the signal, or fails with `EINTR`.
const RESTART: i32 = 512;

/// What a call that opens gave beside the path. Both are values, which nobody changes.
fn opening(caller: &Caller<'_>) -> Option<(OFlags, u32)> {
    let (flags, mode) = match caller.number() {
        libc::SYS_openat => (caller.integer(2), caller.integer(3)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => (caller.integer(1), caller.integer(2)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, caller.integer(1)),
        _ => return None,
    };
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    // A file without a name, or a folder, is nothing that a path could be asked about.
    let is_other = flags.intersects(OFlags::TMPFILE | OFlags::DIRECTORY | OFlags::PATH);
    (!is_other).then_some((flags, mode.cast_unsigned() & 0o777))
}

/// The command line of the caller's process.
fn program(caller: &Caller<'_>) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", caller.thread())).unwrap_or_default();
    let mut line = line.strip_suffix(&[0]).unwrap_or(&line).to_vec();
    line.truncate(PROGRAM_MAX);
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Whether the caller still waits, and no signal for it.
///
/// # Errors
///
/// What it gets when it does not.
pub(super) fn goes_on(caller: &Caller<'_>) -> io::Result<()> {
    caller.confirm()?;
    if caller.status()?.has_signal_to_obey() {
        return Err(io::Error::from_raw_os_error(RESTART));
    }
    Ok(())
}

/// Waits as long as the caller does.
fn wait(pending: Pending<'_>, caller: &Caller<'_>) -> io::Result<Reply> {
    pending.wait(|| goes_on(caller))
}

impl Shared {
    /// Whether somebody may be asked about what a read-only mount refused.
    pub(super) fn asks_about(&self, call: &Notification, outside: &Outside) -> bool {
        let Outside { denial, change, .. } = outside;
        denial.decided_by == Denial::OUTSIDE
            && self.asker.as_ref().is_some_and(Asker::is_worth_it)
            && (change.is_some()
                || opening(&Caller::new(&self.listener, call).with(self.peers.as_deref()))
                    .is_some())
            && !self.denials.is_canary(denial)
    }

    /// Asks about a name outside, in a thread of its own.
    pub(super) fn ask_to_write(
        self: &Arc<Self>,
        call: &Notification,
        outside: Box<Outside>,
    ) -> io::Result<()> {
        let call = *call;
        self.aside(call.id, move |shared| {
            let caller = Caller::new(&shared.listener, &call).with(shared.peers.as_deref());
            shared.finish(call.id, shared.asked_to_write(&caller, outside))
        })
    }

    fn asked_to_write(&self, caller: &Caller<'_>, mut outside: Box<Outside>) -> Result<Done, Stop> {
        let opening = opening(caller);
        let umask = caller.status()?.umask;
        let path = outside.denial.target.clone();
        let wanted = match (outside.change.clone(), opening) {
            (Some(change), _) => Wanted::Change(change.cut(umask)),
            (None, Some((flags, mode))) => {
                Wanted::Write { path, flags: flags.bits().cast_signed(), mode: mode & !umask }
            }
            (None, None) => return Err(Stop::Outside(outside)),
        };
        let pending = self.asker.as_ref().map(|asker| asker.put(&wanted, &program(caller)));
        let Some(Ok(pending)) = pending else { return Err(Stop::Outside(outside)) };
        match (wait(pending, caller)?, opening) {
            (Reply::File(file), Some((flags, _))) => handed_over(file, flags),
            // It was done outside.
            (Reply::Yes, None) => Ok(Done::NOTHING),
            (Reply::Failed(errno), _) => Err(io::Error::from_raw_os_error(errno).into()),
            (Reply::No(word), _) => {
                outside.denial.decided_by = word;
                outside.is_quiet = false;
                outside.denial.alternatives.clear();
                Err(Stop::Outside(outside))
            }
            _ => Err(Stop::Outside(outside)),
        }
    }

    /// Takes a program down that is not executed.
    fn note_refused(&self, refused: &Refused) {
        let (target, decided_by) = (refused.target.clone(), refused.refusal.decided_by.clone());
        let (op, alternatives) = (Operation::Execute, Vec::new());
        self.denials.note(&Denial { op, target, decided_by, alternatives });
    }

    /// Asks about a program, where a rule asks and somebody may be there; the value is the answer
    /// to the caller, and the line that is told to it.
    pub(super) fn asked_to_execute(
        &self,
        call: &Notification,
        refused: &Refused,
    ) -> (Answer, Option<String>) {
        let no = |line: &str| {
            // Before the answer, as every refusal.
            self.note_refused(refused);
            (Answer::Errno(libc::EACCES), Some(line.to_owned()))
        };
        let line = &refused.refusal.line;
        let caller = Caller::new(&self.listener, call).with(self.peers.as_deref());
        let (Some(asker), Some(wanted)) = (&self.asker, &refused.asks) else { return no(line) };
        if !asker.is_worth_it() {
            return no(line);
        }
        let Ok(pending) = asker.put(wanted, &program(&caller)) else { return no(line) };
        match wait(pending, &caller) {
            // The kernel reads path and words again: at least they are what was asked about when
            // the answer came.
            Ok(Reply::Yes) if execs::is_still(&caller, wanted) => (Answer::Continue, None),
            Ok(Reply::Yes) => no(CHANGED),
            Ok(Reply::No(line)) => no(&line),
            Ok(Reply::Nobody | Reply::Unasked | Reply::File(_) | Reply::Failed(_)) => no(line),
            Err(error) => (errno(&error), None),
        }
    }
}

const CHANGED: &str =
    "stockade: refused: the command was changed while it was asked about; do not work around it";

/// A file that was opened outside, as the caller would have opened it.
fn handed_over(file: OwnedFd, flags: OFlags) -> Result<Done, Stop> {
    rustix::fs::fcntl_setfl(&file, flags)?;
    Ok(Done::File { file, close_on_exec: flags.contains(OFlags::CLOEXEC) })
}
