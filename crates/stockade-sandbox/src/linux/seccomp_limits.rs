//! Limits and priorities, of a program itself and of others.
//!
//! The limit of core files stays 1, the one value with which the kernel gives nothing to a program of
//! the host's that `core_pattern` names (core(5)); 0, which many set to have no core file, is
//! ignored there. So that call succeeds and does nothing.

use super::seccomp::{JUMP_EQUAL, RET_ALLOW, RET_USER_NOTIF, choose, fail, give, load, low, op};
use super::sys::seccomp_unsafe::Instruction;

/// `RLIMIT_CORE` (asm-generic/resource.h).
pub(super) const CORE: u32 = 4;

/// A lease on a file that can only be read makes each of its writers wait, outside as well, for as
/// long as 45 seconds (`/proc/sys/fs/lease-break-time`).
pub(super) const SETS_LEASE: &[u32] = &[libc::F_SETLEASE.cast_unsigned()];

/// What tells of a folder who can list it (`F_NOTIFY`, linux/fcntl.h): hidden ones can be.
const NOTIFIES: &[u32] = &[1026];

/// As from a kernel that tells nothing of folders programs hear `EINVAL`.
const BESIDE_HIDDEN: &[(&[u32], i32)] = &[(SETS_LEASE, libc::EACCES), (NOTIFIES, libc::EINVAL)];

/// Locks that belong to an open file, as those of flock(2) do (linux/fcntl.h).
const LOCKS: &[u32] = &[libc::F_OFD_SETLK.cast_unsigned(), libc::F_OFD_SETLKW.cast_unsigned()];

/// `PRIO_PROCESS` and `PRIO_USER` (linux/resource.h).
const PRIORITY: (u32, u32) = (0, 2);
/// `IOPRIO_WHO_PROCESS` and `IOPRIO_WHO_USER` (linux/ioprio.h).
const IO_PRIORITY: (u32, u32) = (1, 3);

const ALLOW: Instruction = give(RET_ALLOW);
const REFUSE: Instruction = fail(libc::EPERM);
const TRAP: Instruction = give(RET_USER_NOTIF);

/// `fcntl` where PID 1 opens files: a lease is refused, a lock of an open file waits for PID 1.
pub(super) fn locks() -> Vec<Instruction> {
    refusing(&[(SETS_LEASE, libc::EACCES)], choose(1, LOCKS, TRAP, ALLOW))
}

/// The same where hidden folders can be opened, and listed.
pub(super) fn locks_beside_hidden() -> Vec<Instruction> {
    refusing(BESIDE_HIDDEN, choose(1, LOCKS, TRAP, ALLOW))
}

/// The same where nobody opens files for others.
pub(super) fn beside_hidden() -> Vec<Instruction> {
    refusing(BESIDE_HIDDEN, vec![ALLOW])
}

/// `fcntl` without the commands of each list, which fail in its way; of the others decides `rest`.
fn refusing(lists: &[(&[u32], i32)], rest: Vec<Instruction>) -> Vec<Instruction> {
    let mut body = vec![load(low(1))];
    for &(commands, errno) in lists {
        for &command in commands {
            body.extend([op(JUMP_EQUAL, command, 0, 1), fail(errno)]);
        }
    }
    body.extend(rest);
    body
}

/// `prlimit64` where there are no others.
pub(super) fn own() -> Vec<Instruction> {
    limits(vec![ALLOW])
}

/// `prlimit64` of other processes is carried out.
pub(super) fn of_others() -> Vec<Instruction> {
    limits(unless_zero(0, TRAP))
}

/// `prlimit64` of other processes is refused.
pub(super) fn own_alone() -> Vec<Instruction> {
    limits(unless_zero(0, REFUSE))
}

/// `setpriority` of other threads is carried out.
pub(super) fn priority() -> Vec<Instruction> {
    of_one(PRIORITY, TRAP)
}

/// `setpriority` of other threads is refused.
pub(super) fn own_priority() -> Vec<Instruction> {
    of_one(PRIORITY, REFUSE)
}

/// `ioprio_set` of other threads is carried out.
pub(super) fn io_priority() -> Vec<Instruction> {
    of_one(IO_PRIORITY, TRAP)
}

/// `ioprio_set` of other threads is refused.
pub(super) fn own_io_priority() -> Vec<Instruction> {
    of_one(IO_PRIORITY, REFUSE)
}

/// `prlimit64(pid, resource, new, old)`: one that sets the limit of core files does nothing, one that
/// asks for the old limit as well is refused, and `rest` decides about all others.
fn limits(rest: Vec<Instruction>) -> Vec<Instruction> {
    let [resource, new, old] = [1, 2, 3].map(low);
    let mut body = vec![
        load(resource),
        op(JUMP_EQUAL, CORE, 0, 11),
        load(new),
        op(JUMP_EQUAL, 0, 0, 3),
        load(new + 4),
        op(JUMP_EQUAL, 0, 0, 1),
        ALLOW,
        load(old),
        op(JUMP_EQUAL, 0, 0, 3),
        load(old + 4),
        op(JUMP_EQUAL, 0, 0, 1),
        fail(0),
        REFUSE,
    ];
    body.extend(rest);
    body
}

/// Allows the call when its argument is 0, which means the caller.
fn unless_zero(argument: u8, others: Instruction) -> Vec<Instruction> {
    vec![load(low(argument)), op(JUMP_EQUAL, 0, 0, 1), ALLOW, others]
}

/// A call whose first argument says of what the second is the number: of a thread, of a group, which
/// 0 makes the caller's own (a run has a session of its own), or of a user, who has more than this run.
fn of_one((thread, user): (u32, u32), others: Instruction) -> Vec<Instruction> {
    vec![
        load(low(0)),
        op(JUMP_EQUAL, user, 4, 0),
        load(low(1)),
        op(JUMP_EQUAL, 0, 3, 0),
        load(low(0)),
        op(JUMP_EQUAL, thread, 2, 0),
        REFUSE,
        ALLOW,
        others,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::tests::run_in;
    use super::super::seccomp::{self, AUDIT_ARCH, Traps};
    use super::super::{seccomp_alone, seccomp_second};
    use super::*;

    fn given(program: &[Instruction], call: libc::c_long, arguments: [u64; 6]) -> u32 {
        run_in(program, (AUDIT_ARCH, u32::try_from(call).unwrap()), arguments)
    }

    fn all() -> [Vec<Instruction>; 3] {
        let first = seccomp::filter(Traps::default(), None);
        [first, seccomp_second::filter(false, true, None), seccomp_alone::filter()]
    }

    #[test]
    fn the_limit_of_core_files_stays_and_can_be_asked_for() {
        let (done, refused) = (fail(0).operand, REFUSE.operand);
        for program in all() {
            let limit = |arguments| given(&program, libc::SYS_prlimit64, arguments);
            for place in [8, 1 << 32] {
                assert_eq!(limit([0, 4, place, 0, 0, 0]), done);
                assert_eq!(limit([7, 4, place, 0, 0, 0]), done, "of another");
                assert_eq!(limit([0, 4, 8, place, 0, 0]), refused);
            }
            assert_eq!(limit([0, 4, 0, 8, 0, 0]), RET_ALLOW);
            assert_eq!(limit([0, 7, 8, 8, 0, 0]), RET_ALLOW, "open files");
            assert_eq!(given(&program, libc::SYS_setrlimit, [4, 8, 0, 0, 0, 0]), done);
            assert_eq!(given(&program, libc::SYS_setrlimit, [7, 8, 0, 0, 0, 0]), RET_ALLOW);
        }
    }

    #[test]
    fn others_are_judged_where_they_are_the_hosts() {
        let [first, second, alone] = all();
        for (program, others) in
            [(first, RET_ALLOW), (second, RET_USER_NOTIF), (alone, REFUSE.operand)]
        {
            let is_first = others == RET_ALLOW;
            let of = |call, arguments| given(&program, call, arguments);
            assert_eq!(of(libc::SYS_prlimit64, [7, 7, 8, 8, 0, 0]), others);
            for call in
                [libc::SYS_sched_setaffinity, libc::SYS_sched_setattr, libc::SYS_sched_setparam]
            {
                assert_eq!(of(call, [0; 6]), RET_ALLOW, "call {call}");
                assert_eq!(of(call, [7, 0, 0, 0, 0, 0]), others, "call {call}");
            }
            for (call, thread) in [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)] {
                assert_eq!(of(call, [thread, 0, 5, 0, 0, 0]), RET_ALLOW);
                assert_eq!(of(call, [thread, 7, 5, 0, 0, 0]), others);
                assert_eq!(of(call, [thread + 1, 0, 5, 0, 0, 0]), RET_ALLOW, "its own group");
                let unless_first = |refused| if is_first { RET_ALLOW } else { refused };
                let refused = unless_first(REFUSE.operand);
                assert_eq!(of(call, [thread + 1, 7, 5, 0, 0, 0]), refused, "a group");
                assert_eq!(
                    of(call, [thread + 2, 0, 5, 0, 0, 0]),
                    refused,
                    "everything of the user's"
                );
            }
        }
    }

    #[test]
    fn nobody_takes_a_lease() {
        for program in all() {
            let command = |number| given(&program, libc::SYS_fcntl, [3, number, 0, 0, 0, 0]);
            assert_eq!(command(1024), fail(libc::EACCES).operand);
            assert_eq!((command(1), command(6), command(1032)), (RET_ALLOW, RET_ALLOW, RET_ALLOW));
        }
    }

    #[test]
    fn a_lock_of_an_open_file_waits_where_files_are_opened_for_the_caller() {
        let writes = seccomp::filter(Traps { writes: true, ..Traps::default() }, None);
        let [bare, second, alone] = all();
        for (program, is_trapped) in [(writes, true), (bare, false), (second, true), (alone, false)]
        {
            let command = |number| given(&program, libc::SYS_fcntl, [3, number, 0, 0, 0, 0]);
            let lock = if is_trapped { TRAP.operand } else { RET_ALLOW };
            assert_eq!((command(36), command(37), command(38)), (RET_ALLOW, lock, lock));
        }
    }
}
