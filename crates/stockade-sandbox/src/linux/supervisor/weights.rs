//! Limits and priorities of threads by their number, where the numbers of others are the host's.
//!
//! The call is made for threads of this run only: below the guardian, which takes in all orphans of
//! the run. It holds no capability, so the kernel gives it no more than the caller. A number is free
//! again once its thread has ended; between the look and the call the whole range would have to come
//! round for it to be somebody else's.

use std::io;

use super::caller::{Caller, field, of_kernel};
use super::{Answer, Prepared};
use crate::linux::sys::priority_unsafe;

/// `PRIO_PROCESS` and `IOPRIO_WHO_PROCESS`.
const THREAD: [i32; 2] = [0, 1];

/// More than any machine has processors, in bits.
const LONGEST_MASK: usize = 1024;

/// `struct sched_attr` (`sched_setattr(2)`): as it was first, and the kernel's limit.
const ATTRIBUTES: (usize, usize) = (48, 4096);

/// As many parents as anybody has.
const DEEPEST: usize = 100_000;

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

/// What is to be set.
enum Wish {
    Number { which: i32, value: i32 },
    Affinity(Vec<u8>),
    Scheduler { policy: Option<i32>, parameter: i32 },
    Attributes { text: Vec<u8>, flags: u32 },
    Limit { resource: u32, new: Option<[u64; 2]>, old: u64 },
}

/// Whether `call` is one of those that this module carries out.
pub(super) fn is_one(call: libc::c_long) -> bool {
    matches!(
        call,
        libc::SYS_setpriority
            | libc::SYS_ioprio_set
            | libc::SYS_sched_setaffinity
            | libc::SYS_sched_setscheduler
            | libc::SYS_sched_setparam
            | libc::SYS_sched_setattr
            | libc::SYS_prlimit64
    )
}

/// Carries the call out.
///
/// # Errors
///
/// `EPERM` for a thread that is not of this run, `ESRCH` where there is none.
pub(super) fn set(caller: &Caller<'_>) -> io::Result<Prepared> {
    let index =
        usize::from(matches!(caller.number(), libc::SYS_setpriority | libc::SYS_ioprio_set));
    let thread = match caller.integer(index) {
        0 => caller.thread(),
        number if number < 0 => return error(libc::EINVAL),
        number => number,
    };
    let wish = read(caller)?;
    if !is_of_run(thread)? {
        return error(libc::EPERM);
    }
    caller.confirm()?;
    match wish {
        Wish::Number { which, value } => {
            priority_unsafe::set_number(caller.number(), which, thread, value)?;
        }
        Wish::Affinity(mask) => priority_unsafe::set_affinity(thread, &mask)?,
        Wish::Scheduler { policy, parameter } => {
            priority_unsafe::set_scheduler(thread, policy, parameter)?;
        }
        Wish::Attributes { mut text, flags } => {
            priority_unsafe::set_attributes(thread, &mut text, flags)?;
        }
        Wish::Limit { resource, new, old } => {
            let was = priority_unsafe::limit(thread, resource, new)?;
            if old != 0 {
                caller.write(old, &was.map(u64::to_ne_bytes).concat())?;
            }
        }
    }
    Ok(Prepared::Answer(Answer::Value(0)))
}

/// Copies what the call's arguments point to.
fn read(caller: &Caller<'_>) -> io::Result<Wish> {
    let integer = |index| {
        let bytes = caller.read(caller.argument(index), 4)?;
        Ok::<_, io::Error>(bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes)))
    };
    Ok(match caller.number() {
        libc::SYS_sched_setaffinity => {
            let length = usize::try_from(caller.word(1)).unwrap_or(LONGEST_MASK);
            Wish::Affinity(caller.read(caller.argument(2), length.min(LONGEST_MASK))?)
        }
        libc::SYS_sched_setscheduler => {
            Wish::Scheduler { policy: Some(caller.integer(1)), parameter: integer(2)? }
        }
        libc::SYS_sched_setparam => Wish::Scheduler { policy: None, parameter: integer(1)? },
        libc::SYS_sched_setattr => attributes(caller, integer(1)?)?,
        libc::SYS_prlimit64 => limit(caller)?,
        _ if THREAD.contains(&caller.integer(0)) => {
            Wish::Number { which: caller.integer(0), value: caller.integer(2) }
        }
        _ => return error(libc::EPERM),
    })
}

/// `struct sched_attr`, which says itself how long it is.
fn attributes(caller: &Caller<'_>, says: i32) -> io::Result<Wish> {
    let (first, most) = ATTRIBUTES;
    let length = match usize::try_from(says) {
        Ok(0) => first,
        Ok(length) if (first..=most).contains(&length) => length,
        _ => return error(libc::E2BIG),
    };
    let mut text = caller.read(caller.argument(1), length)?;
    // The length that was judged, whatever it has become since.
    let says = u32::try_from(length).unwrap_or_default().to_ne_bytes();
    if let Some(field) = text.first_chunk_mut() {
        *field = says;
    }
    Ok(Wish::Attributes { text, flags: caller.word(2) })
}

fn limit(caller: &Caller<'_>) -> io::Result<Wish> {
    let new = match caller.argument(2) {
        0 => None,
        address => {
            let bytes = caller.read(address, 16)?;
            let (numbers, _) = bytes.as_chunks::<8>();
            let number = |index: usize| numbers.get(index).map_or(0, |it| u64::from_ne_bytes(*it));
            Some([number(0), number(1)])
        }
    };
    Ok(Wish::Limit { resource: caller.word(1), new, old: caller.argument(3) })
}

/// Whether the thread is below this process.
fn is_of_run(thread: i32) -> io::Result<bool> {
    let own = i64::from(std::process::id());
    let mut at = i64::from(thread);
    for _ in 0..DEEPEST {
        let text = match of_kernel(&format!("/proc/{at}/status")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self::error(libc::ESRCH);
            }
            Err(error) => return Err(error),
        };
        let number = |name| field(&text, name).and_then(|number| number.parse::<i64>().ok());
        let (group, parent) = (number("Tgid:"), number("PPid:"));
        if group == Some(own) {
            return Ok(false);
        }
        match parent {
            Some(parent) if parent == own => return Ok(true),
            Some(parent) if parent > 1 => at = parent,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_this_process_nor_one_above_it_is_of_the_run() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_of_run(own).unwrap());
        assert!(!is_of_run(rustix::process::getppid().unwrap().as_raw_nonzero().get()).unwrap());
        assert!(!is_of_run(1).unwrap());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let is_ours = is_of_run(i32::try_from(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_ours.unwrap());
        let gone = is_of_run(i32::try_from(child.id()).unwrap()).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }
}
