//! Shared memory, semaphores and messages of System V, where those of the host are there too.
//!
//! Objects are the kernel's, keys are the run's. What the command makes has no key in the kernel, so
//! nobody outside comes upon it by one, and a key of the host's leads nowhere inside. Every other
//! call names an object by its number, in a register, and goes on when the run made that one: no
//! memory decides, so there is nothing to race. A number comes back only after the kernel has
//! counted through all that it has.
//!
//! One process serves one run, so what the run made is known to the process.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::caller::Caller;
use super::{Answer, Prepared};
use crate::linux::sys::ipc_unsafe;

/// Objects of a run, of all kinds together: a machine has some thousands for everybody.
const MOST: usize = 256;
/// Semaphores of a run: what one set may have.
const SEMAPHORES: u64 = 32_000;
const CREATE: i32 = libc::IPC_CREAT;
const EXCLUSIVE: i32 = libc::IPC_EXCL;
/// The mode, and for memory that it is not reserved.
const PASSED_ON: i32 = 0o777 | libc::SHM_NORESERVE;
/// `IPC_64`, which old libraries set (linux/ipc.h).
const NEW_FORM: i32 = 0x100;

/// Commands that go on: what is known of an object and its values (linux/ipc.h, sem.h, shm.h).
const OF_ALL: [i32; 2] = [libc::IPC_SET, libc::IPC_STAT];
const OF_MEMORY: [i32; 2] = [11, 12];
const OF_SEMAPHORES: [i32; 7] = [11, 12, 13, 14, 15, 16, 17];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Semaphores,
    Messages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Object {
    kind: Kind,
    key: i32,
    id: i32,
    /// Bytes, or semaphores.
    size: u64,
}

/// What the run has made, and not removed.
static MADE: Mutex<Vec<Object>> = Mutex::new(Vec::new());
/// Bytes of shared memory that it may have.
static ROOM: AtomicU64 = AtomicU64::new(0);

fn made() -> MutexGuard<'static, Vec<Object>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

/// Lets the run have `bytes` of shared memory.
pub(crate) fn allow(bytes: u64) {
    ROOM.store(bytes, Ordering::Relaxed);
}

/// Removes what the run has left. To be called when it has ended.
pub(crate) fn remove_all() {
    for object in made().drain(..) {
        // Who has set another owner for it has taken it from us.
        object.remove().ok();
    }
}

/// Whether `call` is one of those that this module answers.
pub(super) fn is_one(call: libc::c_long) -> bool {
    kind_of(call).is_some()
}

fn kind_of(call: libc::c_long) -> Option<Kind> {
    match call {
        libc::SYS_shmget | libc::SYS_shmat | libc::SYS_shmctl => Some(Kind::Memory),
        libc::SYS_semget | libc::SYS_semop | libc::SYS_semtimedop | libc::SYS_semctl => {
            Some(Kind::Semaphores)
        }
        libc::SYS_msgget | libc::SYS_msgsnd | libc::SYS_msgrcv | libc::SYS_msgctl => {
            Some(Kind::Messages)
        }
        _ => None,
    }
}

/// Carries the call out, or lets it go on.
///
/// # Errors
///
/// Those of the call; `EINVAL` for an object that the run did not make, as if it were not there.
pub(super) fn serve(caller: &Caller<'_>) -> io::Result<Prepared> {
    let call = caller.number();
    let Some(kind) = kind_of(call) else { return error(libc::ENOSYS) };
    let first = caller.integer(0);
    caller.confirm()?;
    let answer = match call {
        libc::SYS_shmget => get((kind, first), caller.argument(1), caller.integer(2))?,
        libc::SYS_semget => {
            let count = u64::try_from(caller.integer(1)).or(error(libc::EINVAL))?;
            get((kind, first), count, caller.integer(2))?
        }
        libc::SYS_msgget => get((kind, first), 0, caller.integer(1))?,
        libc::SYS_shmctl | libc::SYS_msgctl => control(kind, first, caller.integer(1))?,
        libc::SYS_semctl => control(kind, first, caller.integer(2))?,
        _ => goes_on(kind, first)?,
    };
    Ok(Prepared::Answer(answer))
}

/// `shmget(2)` and its like.
fn get((kind, key): (Kind, i32), size: u64, flags: i32) -> io::Result<Answer> {
    let mut made = made();
    let is_named = key != libc::IPC_PRIVATE;
    let there = made.iter().find(|it| is_named && it.kind == kind && it.key == key);
    if let Some(there) = there {
        let is_refused = flags & CREATE != 0 && flags & EXCLUSIVE != 0;
        return match (is_refused, size > there.size) {
            (true, _) => error(libc::EEXIST),
            (false, true) => error(libc::EINVAL),
            (false, false) => Ok(Answer::Value(there.id.into())),
        };
    }
    if is_named && flags & CREATE == 0 {
        return error(libc::ENOENT);
    }
    let room = match kind {
        Kind::Memory => ROOM.load(Ordering::Relaxed),
        Kind::Semaphores => SEMAPHORES,
        Kind::Messages => u64::MAX,
    };
    let taken: u64 = made.iter().filter(|it| it.kind == kind).map(|it| it.size).sum();
    if made.len() >= MOST || taken.checked_add(size).is_none_or(|sum| sum > room) {
        return error(libc::ENOSPC);
    }
    let id = kind.make(size, flags & PASSED_ON)?;
    made.push(Object { kind, key, id, size });
    Ok(Answer::Value(id.into()))
}

/// `shmctl(2)` and its like.
fn control(kind: Kind, id: i32, command: i32) -> io::Result<Answer> {
    let command = command & !NEW_FORM;
    if command == libc::IPC_RMID {
        let mut made = made();
        let found = made.iter().position(|it| it.kind == kind && it.id == id);
        let Some(index) = found else { return error(libc::EINVAL) };
        made.remove(index).remove()?;
        return Ok(Answer::Value(0));
    }
    let of_kind: &[i32] = match kind {
        Kind::Memory => &OF_MEMORY,
        Kind::Semaphores => &OF_SEMAPHORES,
        Kind::Messages => &[],
    };
    // The others name objects by their place in the kernel's table, or are root's.
    if OF_ALL.contains(&command) || of_kind.contains(&command) {
        return goes_on(kind, id);
    }
    error(libc::EPERM)
}

fn goes_on(kind: Kind, id: i32) -> io::Result<Answer> {
    let is_made = made().iter().any(|it| it.kind == kind && it.id == id);
    if is_made { Ok(Answer::Continue) } else { error(libc::EINVAL) }
}

impl Kind {
    fn make(self, size: u64, flags: i32) -> io::Result<i32> {
        match self {
            Self::Memory => {
                ipc_unsafe::make_memory(usize::try_from(size).or(error(libc::EINVAL))?, flags)
            }
            Self::Semaphores => ipc_unsafe::make_semaphores(
                i32::try_from(size).or(error(libc::EINVAL))?,
                flags & 0o777,
            ),
            Self::Messages => ipc_unsafe::make_messages(flags & 0o777),
        }
    }
}

impl Object {
    fn remove(self) -> io::Result<()> {
        match self.kind {
            Kind::Memory => ipc_unsafe::remove_memory(self.id),
            Kind::Semaphores => ipc_unsafe::remove_semaphores(self.id),
            Kind::Messages => ipc_unsafe::remove_messages(self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_runs_and_an_object_of_others_is_not_there() {
        allow(1 << 20);
        let of = |answer: Answer| match answer {
            Answer::Value(id) => i32::try_from(id).unwrap(),
            other @ (Answer::Errno(_) | Answer::Continue) => panic!("{other:?}"),
        };
        let memory = (Kind::Memory, 77);
        let code = |done: io::Result<Answer>| done.err().and_then(|error| error.raw_os_error());
        assert_eq!(code(get(memory, 4096, 0o600)), Some(libc::ENOENT));
        let id = of(get(memory, 4096, 0o600 | CREATE).unwrap());
        assert_eq!(of(get(memory, 0, 0).unwrap()), id);
        assert_eq!(code(get(memory, 4096, CREATE | EXCLUSIVE)), Some(libc::EEXIST));
        assert_eq!(code(get(memory, 4097, 0)), Some(libc::EINVAL));
        assert_eq!(code(get((Kind::Memory, 78), 1 << 20, CREATE)), Some(libc::ENOSPC));
        assert!(matches!(control(Kind::Memory, id, libc::IPC_STAT), Ok(Answer::Continue)));
        assert_eq!(code(control(Kind::Semaphores, id, libc::IPC_STAT)), Some(libc::EINVAL));
        assert_eq!(code(control(Kind::Memory, 0, 13)), Some(libc::EPERM), "by its place");
        let others = ipc_unsafe::make_memory(4096, 0o600).unwrap();
        assert_eq!(code(goes_on(Kind::Memory, others)), Some(libc::EINVAL));
        assert_eq!(code(control(Kind::Memory, others, libc::IPC_RMID)), Some(libc::EINVAL));
        ipc_unsafe::remove_memory(others).unwrap();
        let semaphores = of(get((Kind::Semaphores, 77), 2, 0o600 | CREATE).unwrap());
        control(Kind::Memory, id, libc::IPC_RMID).unwrap();
        assert_eq!(code(goes_on(Kind::Memory, id)), Some(libc::EINVAL));
        remove_all();
        assert_eq!(code(goes_on(Kind::Semaphores, semaphores)), Some(libc::EINVAL));
        assert!(ipc_unsafe::remove_semaphores(semaphores).is_err(), "it is gone");
    }
}
