//! The system call filter: what no program inside may ask of the kernel, and the calls that
//! PID 1 carries out on behalf because their meaning depends on a path in memory.
//!
//! The filter allows what it does not list. It is a second wall for what namespaces and
//! dropped capabilities already refuse, and the only one for what they do not: sockets of
//! odd families, `io_uring`, keyrings, terminal injection, sockets of the host with a name.
//!
//! Pure: from tables to a BPF program, which the tests run in an interpreter of their own.
//! Sources: seccomp(2), linux/filter.h, linux/seccomp.h; call numbers from libc.

use super::seccomp_limits::{self as limits, CORE, SETS_LEASE};
use super::sys::seccomp_unsafe::Instruction;
use super::{seccomp_ids, seccomp_kept, seccomp_second, seccomp_sockets};

/// What the filter does with one system call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Fails with this errno.
    Deny(i32),
    /// Is carried out by PID 1.
    Trap,
    /// Is carried out by PID 1 when the argument of this number is not zero.
    TrapUnlessZero(u8),
    /// Is carried out by PID 1 when the argument's low half has a bit of `mask` and none of
    /// `unless`.
    TrapBits { argument: u8, mask: u32, unless: u32 },
    /// The same when its path starts at the current folder.
    TrapHere,
    /// `openat`: also when it writes.
    OpensHere,
    /// Fails with `errno` when the argument's low half has a bit of `mask`.
    DenyBits { argument: u8, mask: u32, errno: i32 },
    /// Fails with `errno` when the argument's low half is one of `values`. The kernel looks
    /// at no more than the low half of an ioctl number (CVE-2019-10063).
    DenyValues { argument: u8, values: &'static [u32], errno: i32 },
    /// Fails with `errno` unless the argument's low half is one of `values`.
    OnlyValues { argument: u8, values: &'static [u32], errno: i32 },
    /// Is judged by a body of its own.
    By(fn() -> Vec<Instruction>),
    /// `socket` and `socketpair`: Unix ones that take no address with a message.
    UnixWithoutAddress,
    /// `getsockopt`: who is at the other end of a Unix socket is told by PID 1.
    TrapPeer,
    /// Fails with `errno` when the argument's low half is not zero.
    DenyUnlessZero { argument: u8, errno: i32 },
    /// Ids of others are refused.
    Ids(seccomp_ids::Named),
}

#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Bit 30 of a call number marks the x32 ABI, which shares `AUDIT_ARCH_X86_64`.
const X32_BIT: u32 = 0x4000_0000;

const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// `CLONE_NEWTIME` shares its bit with a part of clone's exit signal, so only `unshare`
/// can be asked for it.
const NEW_TIME: u32 = 0x80;

/// Terminal injection (TIOCSTI, TIOCLINUX), line disciplines (TIOCSETD) and the console
/// (TIOCCONS). Source: `ioctl_tty(2)`, `ioctl_console(2)`.
///
/// Snapshots of btrfs (`BTRFS_IOC_SNAP_CREATE`, `_V2`): one of a subvolume of the user's, made
/// in a root, shows what the mount view hides. New subvolumes (`BTRFS_IOC_SUBVOL_CREATE`, `_V2`)
/// are names that come into being without a call that takes a path. Source: linux/btrfs.h.
pub(super) const REFUSED_REQUESTS: &[u32] =
    &[0x5412, 0x541c, 0x5423, 0x541d, 0x5000_9401, 0x5000_9417, 0x5000_940e, 0x5000_9418];

/// `PER_LINUX`, `PER_LINUX32`, each with and without `ADDR_NO_RANDOMIZE` (debuggers), and the
/// question for the present value.
const PERSONALITIES: &[u32] = &[0, 8, 0x0004_0000, 0x0004_0008, 0xffff_ffff];

/// `PR_SET_KEEPCAPS` (linux/prctl.h).
pub(super) const KEEP_CAPABILITIES: u32 = 8;

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;

/// The table. Calls with numbers above 424 are the same on every architecture.
pub(super) const RULES: &[(libc::c_long, Rule)] = &[
    (libc::SYS_ioctl, Rule::DenyValues { argument: 1, values: REFUSED_REQUESTS, errno: EPERM }),
    (libc::SYS_clone, Rule::DenyBits { argument: 0, mask: NAMESPACE_FLAGS, errno: EPERM }),
    // Its flags are behind a pointer; the C library falls back to clone.
    (libc::SYS_clone3, Rule::Deny(ENOSYS)),
    (libc::SYS_socket, Rule::By(seccomp_sockets::socket)),
    (libc::SYS_connect, Rule::Trap),
    // Who has connected is PID 1, which knows for whom.
    (libc::SYS_getsockopt, Rule::TrapPeer),
    (libc::SYS_sendto, Rule::TrapUnlessZero(4)),
    (libc::SYS_sendmsg, Rule::Trap),
    (libc::SYS_sendmmsg, Rule::Trap),
    (
        libc::SYS_socketpair,
        Rule::OnlyValues { argument: 0, values: &[1], errno: libc::EAFNOSUPPORT },
    ),
    (
        libc::SYS_unshare,
        Rule::DenyBits { argument: 0, mask: NAMESPACE_FLAGS | NEW_TIME, errno: EPERM },
    ),
    (libc::SYS_fcntl, Rule::DenyValues { argument: 1, values: SETS_LEASE, errno: libc::EACCES }),
    (libc::SYS_setrlimit, Rule::DenyValues { argument: 0, values: &[CORE], errno: 0 }),
    (libc::SYS_prlimit64, Rule::By(limits::own)),
    (libc::SYS_personality, Rule::OnlyValues { argument: 0, values: PERSONALITIES, errno: EPERM }),
    // No capability is left to keep, and who says that it shall (setpriv) need not hear that this is settled.
    (libc::SYS_prctl, Rule::DenyValues { argument: 0, values: &[KEEP_CAPABILITIES], errno: 0 }),
    (libc::SYS_setns, Rule::Deny(EPERM)),
    // The mount family, old and new.
    (libc::SYS_mount, Rule::Deny(EPERM)),
    (libc::SYS_umount2, Rule::Deny(EPERM)),
    (libc::SYS_pivot_root, Rule::Deny(EPERM)),
    (libc::SYS_chroot, Rule::Deny(EPERM)),
    (libc::SYS_open_tree, Rule::Deny(EPERM)),
    (OPEN_TREE_ATTR, Rule::Deny(EPERM)),
    (libc::SYS_move_mount, Rule::Deny(EPERM)),
    (libc::SYS_fsopen, Rule::Deny(EPERM)),
    (libc::SYS_fsconfig, Rule::Deny(EPERM)),
    (libc::SYS_fsmount, Rule::Deny(EPERM)),
    (libc::SYS_fspick, Rule::Deny(EPERM)),
    (libc::SYS_mount_setattr, Rule::Deny(EPERM)),
    (libc::SYS_swapon, Rule::Deny(EPERM)),
    (libc::SYS_swapoff, Rule::Deny(EPERM)),
    (libc::SYS_quotactl, Rule::Deny(EPERM)),
    (libc::SYS_quotactl_fd, Rule::Deny(EPERM)),
    (libc::SYS_open_by_handle_at, Rule::Deny(EPERM)),
    (libc::SYS_fanotify_init, Rule::Deny(EPERM)),
    // Ways around the checks on calls; libraries fall back when they are not there.
    (libc::SYS_io_uring_setup, Rule::Deny(ENOSYS)),
    (libc::SYS_io_uring_enter, Rule::Deny(ENOSYS)),
    (libc::SYS_io_uring_register, Rule::Deny(ENOSYS)),
    (libc::SYS_pidfd_getfd, Rule::Deny(EPERM)),
    (libc::SYS_bpf, Rule::Deny(EPERM)),
    (libc::SYS_perf_event_open, Rule::Deny(EPERM)),
    (libc::SYS_userfaultfd, Rule::Deny(EPERM)),
    (libc::SYS_kcmp, Rule::Deny(EPERM)),
    // Keyrings are not namespaced.
    (libc::SYS_keyctl, Rule::Deny(EPERM)),
    (libc::SYS_add_key, Rule::Deny(EPERM)),
    (libc::SYS_request_key, Rule::Deny(EPERM)),
    // The machine itself.
    (libc::SYS_kexec_load, Rule::Deny(EPERM)),
    (libc::SYS_kexec_file_load, Rule::Deny(EPERM)),
    (libc::SYS_init_module, Rule::Deny(EPERM)),
    (libc::SYS_finit_module, Rule::Deny(EPERM)),
    (libc::SYS_delete_module, Rule::Deny(EPERM)),
    (libc::SYS_reboot, Rule::Deny(EPERM)),
    (libc::SYS_syslog, Rule::Deny(EPERM)),
    (libc::SYS_acct, Rule::Deny(EPERM)),
    (libc::SYS_settimeofday, Rule::Deny(EPERM)),
    (libc::SYS_clock_settime, Rule::Deny(EPERM)),
    (libc::SYS_sethostname, Rule::Deny(EPERM)),
    (libc::SYS_setdomainname, Rule::Deny(EPERM)),
    (libc::SYS_vhangup, Rule::Deny(EPERM)),
    (libc::SYS_lookup_dcookie, Rule::Deny(EPERM)),
    (libc::SYS_nfsservctl, Rule::Deny(EPERM)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, Rule::Deny(EPERM)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, Rule::Deny(EPERM)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, Rule::Deny(EPERM)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_uselib, Rule::Deny(ENOSYS)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS__sysctl, Rule::Deny(ENOSYS)),
];

/// The bits of an open that writes, makes or cuts a file.
pub(super) const WRITING: u32 = (libc::O_WRONLY
    | libc::O_RDWR
    | libc::O_CREAT
    | libc::O_TRUNC
    | (libc::O_TMPFILE & !libc::O_DIRECTORY))
    .cast_unsigned();

const fn opens(argument: u8) -> Rule {
    // A reference (`O_PATH`) writes nothing whatever else is asked for.
    Rule::TrapBits { argument, mask: WRITING, unless: libc::O_PATH.cast_unsigned() }
}

/// A mode that lets a file be executed: it could wake up a hook.
const fn executable(argument: u8) -> Rule {
    Rule::TrapBits { argument, mask: EXECUTE, unless: 0 }
}

pub(crate) const EXECUTE: u32 = 0o111;

/// Calls that give, take or change a name, or open one for writing. Reading is never trapped.
pub(super) const WRITE_RULES: &[(libc::c_long, Rule)] = &[
    (libc::SYS_openat, opens(2)),
    // Its flags are behind a pointer; libraries fall back to openat.
    (libc::SYS_openat2, Rule::Deny(ENOSYS)),
    (libc::SYS_mkdirat, Rule::Trap),
    (libc::SYS_mknodat, Rule::Trap),
    (libc::SYS_symlinkat, Rule::Trap),
    (libc::SYS_linkat, Rule::Trap),
    (libc::SYS_unlinkat, Rule::Trap),
    (libc::SYS_renameat2, Rule::Trap),
    (libc::SYS_truncate, Rule::Trap),
    (libc::SYS_fchmod, executable(1)),
    (libc::SYS_fchmodat, executable(2)),
    (FCHMODAT2, executable(2)),
    (libc::SYS_bind, Rule::Trap),
    (libc::SYS_renameat, Rule::Trap),
    // Locks of files that may still be open in PID 1: they wait, and the kernel carries them out.
    (libc::SYS_flock, Rule::Trap),
    (libc::SYS_fcntl, Rule::By(limits::locks)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, opens(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, Rule::Trap),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, executable(1)),
];

/// Calls that execute a program. They are judged, and the kernel carries them out.
pub(super) const EXEC_RULES: &[(libc::c_long, Rule)] =
    &[(libc::SYS_execve, Rule::Trap), (libc::SYS_execveat, Rule::Trap)];

/// Linux 6.6; not in libc for every target.
pub(crate) const FCHMODAT2: libc::c_long = 452;

/// Linux 6.15; not in libc yet.
const OPEN_TREE_ATTR: libc::c_long = 467;

// linux/bpf_common.h and linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_ANY_BIT: u16 = 0x45;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
pub(super) const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
pub(super) const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
pub(super) const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// Offsets into `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

pub(super) const fn op(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

pub(super) const fn load(offset: u32) -> Instruction {
    op(LOAD_WORD, offset, 0, 0)
}

pub(super) const fn give(action: u32) -> Instruction {
    op(RETURN, action, 0, 0)
}

/// The low half of an argument; both supported architectures are little-endian.
pub(super) const fn low(argument: u8) -> u32 {
    OFFSET_ARGUMENTS + 8 * argument as u32
}

pub(super) const fn fail(errno: i32) -> Instruction {
    give(RET_ERRNO | errno.cast_unsigned())
}

/// Which calls are carried out by PID 1 besides those on sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traps {
    /// Those that write to a path.
    pub(crate) writes: bool,
    /// Every change of a mode, a time by a path, and an attribute: what is kept for an undo.
    pub(crate) modes: bool,
    /// Those that execute a program.
    pub(crate) execs: bool,
    /// Changes of an owner by a path.
    pub(crate) owners: Owners,
}

/// Which changes of an owner PID 1 carries out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Those to ids that the namespace does not know.
    #[default]
    Unknown,
    /// Every one: somebody may have allowed it outside.
    All,
}

/// The program, for seccomp(2); `own` where no other ids are known.
pub(crate) fn filter(traps: Traps, own: Option<seccomp_ids::Own>) -> Vec<Instruction> {
    let writes = if traps.writes { WRITE_RULES } else { &[] };
    let execs = if traps.execs { EXEC_RULES } else { &[] };
    let kept = if traps.modes { seccomp_kept::RULES } else { &[] };
    let rules = kept.iter().chain(writes).chain(execs).chain(RULES).copied();
    assemble(rules.chain(seccomp_ids::rules(own, traps)).collect())
}

/// The program where there is no boundary and rules hold all the same. Programs of 32 bits, whose
/// calls have other numbers, do not run under it.
pub(crate) fn execs_alone() -> Vec<Instruction> {
    assemble(EXEC_RULES.to_vec())
}

/// The program of these rules: the first that speaks of a call decides about it.
pub(super) fn assemble(rules: Vec<(libc::c_long, Rule)>) -> Vec<Instruction> {
    let mut program = vec![
        load(OFFSET_ARCH),
        op(JUMP_EQUAL, AUDIT_ARCH, 1, 0),
        fail(ENOSYS),
        load(OFFSET_NUMBER),
        op(JUMP_ANY_BIT, X32_BIT, 0, 1),
        fail(ENOSYS),
    ];
    let number = |number| u32::try_from(number).expect("invariant: call numbers are not negative");
    let mut rules: Vec<(u32, Rule)> =
        rules.into_iter().map(|(call, rule)| (number(call), rule)).collect();
    rules.sort_by_key(|(number, _)| *number);
    rules.dedup_by_key(|(number, _)| *number);
    program.extend(search(&rules));
    program
}

/// A binary search for the call number: the kernel runs the program once for every call there
/// is when it is installed (`seccomp_cache_prepare`), which is a part of each start.
fn search(rules: &[(u32, Rule)]) -> Vec<Instruction> {
    const LEAF: usize = 3;
    let mut program = Vec::new();
    if rules.len() <= LEAF {
        for &(number, rule) in rules {
            let body = body(rule);
            let skip = u8::try_from(body.len()).expect("invariant: bodies are short");
            program.push(op(JUMP_EQUAL, number, 0, skip));
            program.extend(body);
        }
        program.push(give(RET_ALLOW));
        return program;
    }
    let (below, above) = rules.split_at(rules.len() / 2);
    let pivot = above.first().map_or(0, |(number, _)| *number);
    let below = search(below);
    let over = u32::try_from(below.len()).expect("invariant: programs are short");
    // A conditional jump reaches 255 instructions, an unconditional one all.
    program.push(op(JUMP_AT_LEAST, pivot, 0, 1));
    program.push(op(JUMP, over, 0, 0));
    program.extend(below);
    program.extend(search(above));
    program
}

/// What is done with one call; every path through it returns.
fn body(rule: Rule) -> Vec<Instruction> {
    match rule {
        Rule::Deny(errno) => vec![fail(errno)],
        Rule::Trap => vec![give(RET_USER_NOTIF)],
        Rule::TrapBits { argument, mask, unless } => vec![
            load(low(argument)),
            op(JUMP_ANY_BIT, unless, 2, 0),
            op(JUMP_ANY_BIT, mask, 0, 1),
            give(RET_USER_NOTIF),
            give(RET_ALLOW),
        ],
        Rule::TrapHere => seccomp_second::here(vec![give(RET_ALLOW)]),
        Rule::OpensHere => seccomp_second::opens_here(body(opens(2))),
        Rule::TrapUnlessZero(argument) => vec![
            load(low(argument)),
            op(JUMP_EQUAL, 0, 0, 3),
            load(low(argument) + 4),
            op(JUMP_EQUAL, 0, 0, 1),
            give(RET_ALLOW),
            give(RET_USER_NOTIF),
        ],
        Rule::DenyBits { argument, mask, errno } => {
            vec![load(low(argument)), op(JUMP_ANY_BIT, mask, 0, 1), fail(errno), give(RET_ALLOW)]
        }
        Rule::DenyValues { argument, values, errno } => {
            choose(argument, values, fail(errno), give(RET_ALLOW))
        }
        Rule::OnlyValues { argument, values, errno } => {
            choose(argument, values, give(RET_ALLOW), fail(errno))
        }
        Rule::By(body) => body(),
        Rule::DenyUnlessZero { argument, errno } => {
            vec![load(low(argument)), op(JUMP_EQUAL, 0, 1, 0), fail(errno), give(RET_ALLOW)]
        }
        Rule::TrapPeer => seccomp_sockets::peer(),
        Rule::Ids(named) => seccomp_ids::body(named),
        Rule::UnixWithoutAddress => seccomp_sockets::unix_without_address(),
    }
}

/// `listed` when the argument is one of `values`, else `other`.
pub(super) fn choose(
    argument: u8,
    values: &[u32],
    listed: Instruction,
    other: Instruction,
) -> Vec<Instruction> {
    let mut body = vec![load(low(argument))];
    for (index, &value) in values.iter().enumerate() {
        let to_listed = u8::try_from(values.len() - index).expect("invariant: lists are short");
        body.push(op(JUMP_EQUAL, value, to_listed, 0));
    }
    body.extend([other, listed]);
    body
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs the program as the kernel would, on one call.
    fn run(arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let program = filter(Traps { writes: true, modes: false, ..Traps::default() }, None);
        run_in(&program, (arch, number), arguments)
    }

    pub(crate) fn run_in(program: &[Instruction], call: (u32, u32), arguments: [u64; 6]) -> u32 {
        let (arch, number) = call;
        let word = |offset: u32| match offset {
            OFFSET_NUMBER => number,
            OFFSET_ARCH => arch,
            _ => {
                let index = usize::try_from((offset - OFFSET_ARGUMENTS) / 8).unwrap();
                let half = if offset.is_multiple_of(8) { 0 } else { 32 };
                u32::try_from(arguments[index] >> half & 0xffff_ffff).unwrap()
            }
        };
        let (mut at, mut register) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let holds = match code {
                LOAD_WORD | AND => {
                    register = if code == AND { register & operand } else { word(operand) };
                    continue;
                }
                RETURN => return operand,
                JUMP => {
                    at += usize::try_from(operand).unwrap();
                    continue;
                }
                JUMP_EQUAL => register == operand,
                JUMP_AT_LEAST => register >= operand,
                JUMP_ANY_BIT => register & operand != 0,
                other => panic!("unknown operation {other:#x}"),
            };
            at += usize::from(if holds { jump_true } else { jump_false });
        }
    }

    pub(crate) fn native(number: libc::c_long, arguments: [u64; 6]) -> u32 {
        run(AUDIT_ARCH, u32::try_from(number).unwrap(), arguments)
    }

    pub(crate) const fn errno(number: i32) -> u32 {
        RET_ERRNO | number.cast_unsigned()
    }

    #[test]
    fn foreign_architectures_and_x32_get_enosys() {
        const AUDIT_ARCH_I386: u32 = 0x4000_0003;
        assert_eq!(run(AUDIT_ARCH_I386, 4, [0; 6]), errno(libc::ENOSYS));
        let getpid = u32::try_from(libc::SYS_getpid).unwrap();
        assert_eq!(run(AUDIT_ARCH, getpid | X32_BIT, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(run(AUDIT_ARCH, getpid, [0; 6]), RET_ALLOW);
    }

    #[test]
    fn refused_requests_are_recognised_by_the_low_half() {
        let ioctl = |request: u64| native(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
        assert_eq!(ioctl(0x5412), errno(libc::EPERM));
        assert_eq!(ioctl(0xdead_0000_5412), errno(libc::EPERM));
        assert_eq!(ioctl(0x5413), RET_ALLOW, "TIOCGWINSZ");
        assert_eq!(ioctl(0x5000_9417), errno(libc::EPERM), "BTRFS_IOC_SNAP_CREATE_V2");
        assert_eq!(ioctl(0x4004_9409), RET_ALLOW, "FICLONE");
    }

    #[test]
    fn new_namespaces_are_refused_and_threads_are_not() {
        let clone =
            |flags: i32| native(libc::SYS_clone, [u64::from(flags.cast_unsigned()), 0, 0, 0, 0, 0]);
        assert_eq!(clone(libc::CLONE_NEWUSER | libc::SIGCHLD), errno(libc::EPERM));
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND), RET_ALLOW);
        assert_eq!(native(libc::SYS_clone3, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(native(libc::SYS_unshare, [0x80, 0, 0, 0, 0, 0]), errno(libc::EPERM));
        assert_eq!(native(libc::SYS_unshare, [0x400, 0, 0, 0, 0, 0]), RET_ALLOW, "CLONE_FILES");
    }

    #[test]
    fn opens_are_trapped_when_they_write_and_never_when_they_read() {
        let open = |flags: i32| {
            native(libc::SYS_openat, [0, 0, u64::from(flags.cast_unsigned()), 0, 0, 0])
        };
        let reads = [0, libc::O_CLOEXEC | libc::O_DIRECTORY, libc::O_NOFOLLOW | libc::O_NONBLOCK];
        for flags in reads.into_iter().chain([libc::O_PATH | libc::O_RDWR]) {
            assert_eq!(open(flags), RET_ALLOW, "flags {flags:#o}");
        }
        let writes = [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, 3];
        for flags in writes.into_iter().chain([libc::O_TMPFILE | libc::O_WRONLY]) {
            assert_eq!(open(flags), RET_USER_NOTIF, "flags {flags:#o}");
        }
        let chmod = |mode: u64| native(libc::SYS_fchmod, [3, mode, 0, 0, 0, 0]);
        assert_eq!((chmod(0o644), chmod(0o744)), (RET_ALLOW, RET_USER_NOTIF));
        let modes = filter(Traps { writes: true, modes: true, ..Traps::default() }, None);
        let of = |call| (AUDIT_ARCH, u32::try_from(call).unwrap());
        assert_eq!(run_in(&modes, of(libc::SYS_fchmod), [3, 0o644, 0, 0, 0, 0]), RET_USER_NOTIF);
        let times = |path| run_in(&modes, of(libc::SYS_utimensat), [3, path, 0, 0, 0, 0]);
        assert_eq!((times(0), times(1)), (RET_ALLOW, RET_USER_NOTIF));
        for call in [libc::SYS_read, libc::SYS_newfstatat, libc::SYS_close, libc::SYS_umask] {
            assert_eq!(native(call, [0; 6]), RET_ALLOW, "call {call}");
        }
    }

    #[test]
    fn what_nobody_judges_is_not_trapped() {
        let bare = filter(Traps::default(), None);
        let writes = filter(Traps { writes: true, modes: false, ..Traps::default() }, None);
        assert!(bare.len() < writes.len());
        let execs = Traps { writes: true, execs: true, ..Traps::default() };
        assert!(writes.len() < filter(execs, None).len());
    }

    #[test]
    fn keeping_capabilities_is_answered_and_not_done() {
        let ask = |option: u64| native(libc::SYS_prctl, [option, 1, 0, 0, 0, 0]);
        assert_eq!(ask(8), errno(0));
        assert_eq!(
            (ask(38), ask(4)),
            (RET_ALLOW, RET_ALLOW),
            "PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE"
        );
    }

    #[test]
    fn personality_allows_what_debuggers_need() {
        let personality = |value: u64| native(libc::SYS_personality, [value, 0, 0, 0, 0, 0]);
        assert_eq!(personality(0xffff_ffff), RET_ALLOW);
        assert_eq!(personality(0x0004_0000), RET_ALLOW);
        assert_eq!(personality(0x0040_0000), errno(libc::EPERM), "READ_IMPLIES_EXEC");
    }

    #[test]
    fn every_plain_denial_of_the_table_is_in_the_program() {
        for &(number, rule) in RULES {
            if let Rule::Deny(error) = rule {
                assert_eq!(native(number, [u64::MAX; 6]), errno(error), "call {number}");
            }
        }
    }
}
