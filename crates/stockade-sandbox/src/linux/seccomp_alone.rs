//! The filter of the second backend, where no namespace stands beside it and nobody answers trapped
//! calls: no socket reaches anybody, and what belongs to the host's processes is refused by its
//! number.

use super::seccomp::{RULES, Rule, assemble};
use super::seccomp_limits;
use super::sys::seccomp_unsafe::Instruction;

const EPERM: i32 = libc::EPERM;
const REFUSED: Rule = Rule::Deny(libc::EACCES);
const ABSENT: Rule = Rule::Deny(libc::ENOSYS);
const NOT_OF_OTHERS: Rule = Rule::DenyUnlessZero { argument: 0, errno: EPERM };

/// What stands in the place of namespaces and of the supervisor.
pub(super) const ALONE: &[(libc::c_long, Rule)] = &[
    (libc::SYS_fcntl, Rule::By(seccomp_limits::beside_hidden)),
    (libc::SYS_socket, Rule::UnixWithoutAddress),
    (libc::SYS_socketpair, Rule::UnixWithoutAddress),
    (libc::SYS_connect, REFUSED),
    (libc::SYS_bind, REFUSED),
    (libc::SYS_listen, REFUSED),
    (libc::SYS_sendto, Rule::DenyUnlessZero { argument: 4, errno: libc::EACCES }),
    // Shared memory, semaphores and messages of the host. As from a kernel that has none: who is told
    // that a segment is another user's looks for the next one, and never ends (PostgreSQL).
    (libc::SYS_shmget, ABSENT),
    (libc::SYS_shmat, ABSENT),
    (libc::SYS_shmctl, ABSENT),
    (libc::SYS_semget, ABSENT),
    (libc::SYS_semop, ABSENT),
    (libc::SYS_semtimedop, ABSENT),
    (libc::SYS_semctl, ABSENT),
    (libc::SYS_msgget, ABSENT),
    (libc::SYS_msgsnd, ABSENT),
    (libc::SYS_msgrcv, ABSENT),
    (libc::SYS_msgctl, ABSENT),
    (libc::SYS_mq_open, ABSENT),
    (libc::SYS_mq_unlink, ABSENT),
    // Limits and priorities of other processes: 0 is one's own.
    (libc::SYS_prlimit64, Rule::By(seccomp_limits::own_alone)),
    (libc::SYS_setpriority, Rule::By(seccomp_limits::own_priority)),
    (libc::SYS_ioprio_set, Rule::By(seccomp_limits::own_io_priority)),
    (libc::SYS_sched_setscheduler, NOT_OF_OTHERS),
    (libc::SYS_sched_setparam, NOT_OF_OTHERS),
    (libc::SYS_sched_setattr, NOT_OF_OTHERS),
    (libc::SYS_sched_setaffinity, NOT_OF_OTHERS),
];

/// The program, for seccomp(2).
pub(crate) fn filter() -> Vec<Instruction> {
    // `sendmsg` and `sendmmsg` pass: of the sockets that can be had, none takes an address with a
    // message. (One that came in as a standard stream might: `second` looks for those.)
    let is_kept = |(_, rule): &&(libc::c_long, Rule)| {
        !matches!(
            rule,
            Rule::Trap | Rule::TrapPeer | Rule::TrapUnlessZero(_) | Rule::TrapBits { .. }
        )
    };
    assemble(ALONE.iter().chain(RULES.iter().filter(is_kept)).copied().collect())
}
