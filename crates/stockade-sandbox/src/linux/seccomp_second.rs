//! The filter of the second backend with its supervisor: what namespaces and mounts hold elsewhere
//! is refused by number, or carried out.

use super::seccomp::{
    AND, EXEC_RULES, JUMP_ANY_BIT, JUMP_EQUAL, KEEP_CAPABILITIES, RET_ALLOW, RET_USER_NOTIF, RULES,
    Rule, WRITE_RULES, WRITING, assemble, choose, fail, give, load, low, op,
};
use super::seccomp_alone::ALONE;
use super::seccomp_ids::{self, Own};
use super::seccomp_sockets::{NETLINK_PROTOCOLS, SOCKET_TYPE};
use super::sys::seccomp_unsafe::Instruction;
use super::{seccomp_kept, seccomp_limits};

/// Besides those of the first backend, for which see there: attributes of a file's inode, and what
/// makes it read-only (linux/fs.h, linux/fsverity.h, linux/fscrypt.h), and of btrfs the same for
/// subvolumes. Their owner may ask for them by a descriptor that only reads.
const REFUSED_REQUESTS: &[u32] = &[
    0x5412,
    0x541c,
    0x5423,
    0x541d,
    0x5000_9401,
    0x5000_9417,
    0x5000_940e,
    0x5000_9418,
    0x4008_6602,
    0x4004_6602,
    0x401c_5820,
    0x4008_7602,
    0x4004_7602,
    0x4008_6604,
    0x4080_6685,
    0x800c_6613,
    0x4008_941a,
    0x5000_940f,
    0x5000_943f,
    0xc0c8_9425,
];

/// Options that a program may set of IPv4 and IPv6: none that names a way or an interface.
const IPV4: &[u32] = &[1, 2, 8, 10, 11, 12, 13, 24, 33, 34, 49];
const IPV6: &[u32] = &[16, 18, 19, 23, 24, 25, 26, 49, 51, 66, 67];
/// `SO_BINDTODEVICE` and `SO_BINDTOIFINDEX`; `TCP_FASTOPEN_CONNECT`.
const NOT_OF_SOCKETS: &[u32] = &[25, 62];
const NOT_OF_TCP: &[u32] = &[30];

/// Not in libc for every target: Linux 6.17. Libraries fall back.
const FILE_SETATTR: libc::c_long = 469;

/// `PR_SET_DUMPABLE` answers and does nothing: the supervisor has to look into its callers, and no
/// core dump is written anyway.
const DUMPABLE: u32 = 4;
/// As in the first backend: there is none to keep.
const ANSWERED: &[u32] = &[DUMPABLE, KEEP_CAPABILITIES];

const OWN: &[(libc::c_long, Rule)] = &[
    (
        libc::SYS_ioctl,
        Rule::DenyValues { argument: 1, values: REFUSED_REQUESTS, errno: libc::EPERM },
    ),
    (libc::SYS_prctl, Rule::DenyValues { argument: 0, values: ANSWERED, errno: 0 }),
    (libc::SYS_fcntl, Rule::By(seccomp_limits::locks_beside_hidden)),
    (libc::SYS_socket, Rule::By(socket)),
    (libc::SYS_setsockopt, Rule::By(options)),
    (libc::SYS_listen, Rule::Trap),
    (libc::SYS_bind, Rule::Trap),
    (libc::SYS_prlimit64, Rule::By(seccomp_limits::of_others)),
    (libc::SYS_setpriority, Rule::By(seccomp_limits::priority)),
    (libc::SYS_ioprio_set, Rule::By(seccomp_limits::io_priority)),
    (libc::SYS_sched_setscheduler, Rule::TrapUnlessZero(0)),
    (libc::SYS_sched_setparam, Rule::TrapUnlessZero(0)),
    (libc::SYS_sched_setattr, Rule::TrapUnlessZero(0)),
    (libc::SYS_sched_setaffinity, Rule::TrapUnlessZero(0)),
    // Shared memory, semaphores and messages by a key of the run's.
    (libc::SYS_shmget, Rule::Trap),
    (libc::SYS_shmat, Rule::Trap),
    (libc::SYS_shmctl, Rule::Trap),
    (libc::SYS_semget, Rule::Trap),
    (libc::SYS_semop, Rule::Trap),
    (libc::SYS_semtimedop, Rule::Trap),
    (libc::SYS_semctl, Rule::Trap),
    (libc::SYS_msgget, Rule::Trap),
    (libc::SYS_msgsnd, Rule::Trap),
    (libc::SYS_msgrcv, Rule::Trap),
    (libc::SYS_msgctl, Rule::Trap),
    (libc::SYS_fchown, Rule::Trap),
    (libc::SYS_fchownat, Rule::Trap),
    (libc::SYS_utimensat, Rule::Trap),
    (FILE_SETATTR, Rule::Deny(libc::EOPNOTSUPP)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_futimesat, Rule::Trap),
];

/// Calls that read by a path: where that begins with a folder that is another by name, the
/// supervisor carries them out, and the kernel all others. What comes by a descriptor of a folder has
/// been led there by the open of that.
const READS: &[(libc::c_long, Rule)] = &[
    (libc::SYS_openat, Rule::OpensHere),
    (libc::SYS_newfstatat, Rule::TrapHere),
    (libc::SYS_statx, Rule::TrapHere),
    (libc::SYS_faccessat, Rule::TrapHere),
    (libc::SYS_faccessat2, Rule::TrapHere),
    (libc::SYS_readlinkat, Rule::TrapHere),
    (libc::SYS_execveat, Rule::TrapHere),
    (libc::SYS_execve, Rule::Trap),
    (libc::SYS_chdir, Rule::Trap),
    (libc::SYS_statfs, Rule::Trap),
    (libc::SYS_inotify_add_watch, Rule::Trap),
    (libc::SYS_getxattr, Rule::Trap),
    (libc::SYS_lgetxattr, Rule::Trap),
    (libc::SYS_listxattr, Rule::Trap),
    (libc::SYS_llistxattr, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, Rule::Trap),
];

/// Those that speak of sockets in [`ALONE`], which there is a supervisor for.
const OF_SOCKETS: [libc::c_long; 6] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_sendto,
];

/// What is carried out by a descriptor of the caller's, besides.
const BY_DESCRIPTOR: [libc::c_long; 4] =
    [libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_inotify_add_watch, libc::SYS_getsockopt];

/// The program, for seccomp(2). Without the callers' `descriptors` no socket can be judged: they reach
/// nothing, as where there is no supervisor, and of those that can be had none takes an address with
/// a message.
pub(crate) fn filter(execs: bool, descriptors: bool, ids: Option<Own>) -> Vec<Instruction> {
    let execs = if execs { EXEC_RULES } else { &[] };
    let alone = ALONE.iter().filter(|(number, _)| !descriptors || !OF_SOCKETS.contains(number));
    let others = execs.iter().chain(READS).chain(WRITE_RULES).chain(RULES);
    let others = others.filter(|(number, _)| descriptors || !BY_DESCRIPTOR.contains(number));
    let own = OWN.iter().filter(|(number, _)| descriptors || !OF_SOCKETS.contains(number));
    let rules = own.chain(seccomp_kept::RULES).chain(alone).chain(others).copied();
    let ids = ids.into_iter().flat_map(seccomp_ids::rules_of_processes);
    assemble(rules.chain(ids).collect())
}

/// Whether an open with these flags is one that writes: it is judged, and not only looked at.
pub(super) const fn writes(flags: u32) -> bool {
    flags & WRITING != 0 && flags & libc::O_PATH.cast_unsigned() == 0
}

/// `openat`: what starts at the current folder, what `rest` traps, and a reference to a folder in another
/// one: who walks from `/` by such comes to folders that are others by name.
pub(super) fn opens_here(rest: Vec<Instruction>) -> Vec<Instruction> {
    let [reference, folder] = [libc::O_PATH, libc::O_DIRECTORY].map(i32::cast_unsigned);
    let mut body = vec![
        load(low(2)),
        op(JUMP_ANY_BIT, reference, 0, 2),
        op(JUMP_ANY_BIT, folder, 0, 1),
        give(RET_USER_NOTIF),
    ];
    body.extend(rest);
    here(body)
}

/// Traps a call whose path starts at the current folder, or at `/`; of others decides `rest`.
pub(super) fn here(rest: Vec<Instruction>) -> Vec<Instruction> {
    let here = libc::AT_FDCWD.cast_unsigned();
    let mut body = vec![load(low(0)), op(JUMP_EQUAL, here, 0, 1), give(RET_USER_NOTIF)];
    body.extend(rest);
    body
}

/// `socket` in the host's network: the same families, of the internet TCP and UDP only.
pub(super) fn socket() -> Vec<Instruction> {
    let [unix, inet, inet6, netlink] =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(i32::cast_unsigned);
    let [stream, datagram] = [libc::SOCK_STREAM, libc::SOCK_DGRAM].map(i32::cast_unsigned);
    let [tcp, udp] = [libc::IPPROTO_TCP, libc::IPPROTO_UDP].map(i32::cast_unsigned);
    // Neither MPTCP, which has ways of its own, nor ICMP.
    let internet = choose(2, &[0, tcp, udp], give(RET_ALLOW), fail(libc::EPROTONOSUPPORT));
    let netlink_protocol =
        choose(2, &NETLINK_PROTOCOLS, give(RET_ALLOW), fail(libc::EPROTONOSUPPORT));
    let over = u8::try_from(netlink_protocol.len()).expect("invariant: lists are short");
    let mut body = vec![
        load(low(0)),
        op(JUMP_EQUAL, unix, 0, 1),
        give(RET_ALLOW),
        op(JUMP_EQUAL, netlink, 0, over),
    ];
    body.extend(netlink_protocol);
    body.extend([
        op(JUMP_EQUAL, inet, 2, 0),
        op(JUMP_EQUAL, inet6, 1, 0),
        fail(libc::EAFNOSUPPORT),
        load(low(1)),
        op(AND, SOCKET_TYPE, 0, 0),
        op(JUMP_EQUAL, stream, 2, 0),
        op(JUMP_EQUAL, datagram, 1, 0),
        fail(libc::EPERM),
    ]);
    body.extend(internet);
    body
}

/// `setsockopt` in the host's network: nothing that leads a packet elsewhere.
pub(super) fn options() -> Vec<Instruction> {
    let (allow, refuse) = (give(RET_ALLOW), fail(libc::EPERM));
    let levels = [
        (libc::SOL_SOCKET, choose(2, NOT_OF_SOCKETS, refuse, allow)),
        (libc::IPPROTO_TCP, choose(2, NOT_OF_TCP, refuse, allow)),
        (libc::IPPROTO_IP, choose(2, IPV4, allow, refuse)),
        (libc::IPPROTO_IPV6, choose(2, IPV6, allow, refuse)),
    ];
    let mut body = Vec::new();
    for (level, inner) in levels {
        let skip = u8::try_from(inner.len()).expect("invariant: lists are short");
        body.push(load(low(1)));
        body.push(op(JUMP_EQUAL, level.cast_unsigned(), 0, skip));
        body.extend(inner);
    }
    body.push(allow);
    body
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::AUDIT_ARCH;
    use super::super::seccomp::tests::run_in;
    use super::*;

    fn given(call: libc::c_long, arguments: [u64; 6]) -> u32 {
        run_in(&filter(false, true, None), (AUDIT_ARCH, u32::try_from(call).unwrap()), arguments)
    }

    #[test]
    fn without_descriptors_no_socket_reaches_anything() {
        let program = filter(false, false, None);
        let given = |call: libc::c_long, arguments| {
            run_in(&program, (AUDIT_ARCH, u32::try_from(call).unwrap()), arguments)
        };
        let socket = |family: i32, kind: i32| {
            let [family, kind] = [family, kind].map(|it| u64::from(it.cast_unsigned()));
            given(libc::SYS_socket, [family, kind, 0, 0, 0, 0])
        };
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM), RET_ALLOW);
        let refused = fail(libc::EACCES).operand;
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_DGRAM), refused);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM), refused);
        for call in [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen] {
            assert_eq!(given(call, [0; 6]), refused, "call {call}");
        }
        assert_eq!(given(libc::SYS_sendto, [0, 0, 0, 0, 1, 0]), refused);
        for call in [libc::SYS_mkdirat, libc::SYS_fchmod, libc::SYS_statfs, libc::SYS_shmget] {
            assert_eq!(given(call, [0; 6]), RET_USER_NOTIF, "call {call}");
        }
    }

    #[test]
    fn what_of_prctl_would_change_nothing_is_answered() {
        let ask = |option: u32| given(libc::SYS_prctl, [option.into(), 1, 0, 0, 0, 0]);
        let done = fail(0).operand;
        assert_eq!((ask(DUMPABLE), ask(KEEP_CAPABILITIES), ask(38)), (done, done, RET_ALLOW));
    }

    #[test]
    fn of_a_folder_that_changes_nobody_is_told() {
        let ask = |command: u64| given(libc::SYS_fcntl, [3, command, 0, 0, 0, 0]);
        assert_eq!(
            (ask(1026), ask(1024)),
            (fail(libc::EINVAL).operand, fail(libc::EACCES).operand)
        );
        assert_eq!((ask(4), ask(37)), (RET_ALLOW, RET_USER_NOTIF), "F_SETFL, F_OFD_SETLK");
        let alone = super::super::seccomp_alone::filter();
        let ask = |command: u64| {
            let call = (AUDIT_ARCH, u32::try_from(libc::SYS_fcntl).unwrap());
            run_in(&alone, call, [3, command, 0, 0, 0, 0])
        };
        assert_eq!((ask(1026), ask(37)), (fail(libc::EINVAL).operand, RET_ALLOW));
    }

    const HERE: u64 = libc::AT_FDCWD.cast_unsigned() as u64;

    #[test]
    fn what_reads_is_trapped_where_a_path_may_lead_elsewhere_and_not_beneath_a_folder() {
        let open = |folder: u64, flags: i32| {
            given(libc::SYS_openat, [folder, 0, flags.cast_unsigned().into(), 0, 0, 0])
        };
        assert_eq!(open(HERE, 0), RET_USER_NOTIF);
        assert_eq!(open(HERE, libc::O_PATH), RET_USER_NOTIF);
        assert_eq!(open(3, libc::O_PATH | libc::O_RDWR), RET_ALLOW);
        assert_eq!(open(3, libc::O_DIRECTORY), RET_ALLOW);
        assert_eq!(open(3, libc::O_PATH), RET_ALLOW);
        assert_eq!(open(3, libc::O_PATH | libc::O_DIRECTORY), RET_USER_NOTIF, "a step of a walk");
        assert_eq!(open(3, libc::O_WRONLY), RET_USER_NOTIF, "it writes");
        for call in [libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_readlinkat] {
            let of = |folder| given(call, [folder, 0, 0, 0, 0, 0]);
            assert_eq!((of(HERE), of(3)), (RET_USER_NOTIF, RET_ALLOW), "call {call}");
        }
        for call in [libc::SYS_chdir, libc::SYS_execve, libc::SYS_statfs] {
            assert_eq!(given(call, [0; 6]), RET_USER_NOTIF, "call {call}");
        }
        for call in [libc::SYS_shmget, libc::SYS_shmat, libc::SYS_semop, libc::SYS_msgctl] {
            assert_eq!(given(call, [0; 6]), RET_USER_NOTIF, "call {call}: its object is judged");
        }
        for call in [libc::SYS_read, libc::SYS_fstat, libc::SYS_fchdir, libc::SYS_getdents64] {
            assert_eq!(given(call, [0; 6]), RET_ALLOW, "call {call}");
        }
    }
}
