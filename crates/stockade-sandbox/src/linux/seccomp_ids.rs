//! Ids that are not the user's own, where the namespace knows no other.
//!
//! The kernel calls an id that it has no word for invalid (`EINVAL`); who runs without a namespace is
//! told that it is not permitted, and programs know only that answer: `chown`, `sudo`, test suites.

use super::seccomp::{
    JUMP_EQUAL, Owners, RET_ALLOW, RET_USER_NOTIF, Rule, Traps, fail, give, load, low, op,
};
use super::sys::seccomp_unsafe::Instruction;

/// The user and the group that a namespace knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The ids of this process, where its namespace knows no other (`user_namespaces(7)`).
pub(super) fn own() -> Option<Own> {
    let alone = |name: &str| {
        let map = std::fs::read_to_string(format!("/proc/self/{name}")).ok()?;
        let mut lines = map.lines().map(|line| line.split_whitespace().nth(2) == Some("1"));
        (lines.next() == Some(true) && lines.next().is_none()).then_some(())
    };
    alone("uid_map")?;
    alone("gid_map")?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    Some(Own { user: user.as_raw(), group: group.as_raw() })
}

/// Where a call has ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    own: Own,
    users: &'static [u8],
    groups: &'static [u8],
    /// Whether PID 1 carries it out, which knows what comes first: that there is no such file.
    by_path: bool,
}

/// All ones: no change.
const UNCHANGED: u32 = u32::MAX;

/// A call, where it has users, and groups.
type Call = (libc::c_long, &'static [u8], &'static [u8]);

const CALLS_OF_PROCESSES: &[Call] = &[
    (libc::SYS_setuid, &[0], &[]),
    (libc::SYS_setreuid, &[0, 1], &[]),
    (libc::SYS_setresuid, &[0, 1, 2], &[]),
    (libc::SYS_setgid, &[], &[0]),
    (libc::SYS_setregid, &[], &[0, 1]),
    (libc::SYS_setresgid, &[], &[0, 1, 2]),
];

const CALLS_BY_DESCRIPTOR: &[Call] = &[(libc::SYS_fchown, &[1], &[2])];

const CALLS_BY_PATH: &[Call] = &[
    (libc::SYS_fchownat, &[2], &[3]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, &[1], &[2]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, &[1], &[2]),
];

/// `own` where no other ids are known.
pub(super) fn rules(own: Option<Own>, traps: Traps) -> impl Iterator<Item = (libc::c_long, Rule)> {
    let by_path = CALLS_BY_PATH.iter().filter_map(move |call| match own {
        _ if traps.owners == Owners::All => Some((call.0, Rule::Trap)),
        own => own.map(|own| rule(own, traps.writes)(call)),
    });
    let others = own.into_iter().flat_map(|own| {
        rules_of_processes(own).chain(CALLS_BY_DESCRIPTOR.iter().map(rule(own, false)))
    });
    others.chain(by_path)
}

/// Those that change the ids of the caller.
pub(super) fn rules_of_processes(own: Own) -> impl Iterator<Item = (libc::c_long, Rule)> {
    CALLS_OF_PROCESSES.iter().map(rule(own, false))
}

fn rule(own: Own, by_path: bool) -> impl Fn(&Call) -> (libc::c_long, Rule) {
    move |&(call, users, groups)| (call, Rule::Ids(Named { own, users, groups, by_path }))
}

/// Lets the call be when each id is the user's own or none.
pub(super) fn body(named: Named) -> Vec<Instruction> {
    let Named { own, users, groups, by_path } = named;
    let users = users.iter().map(|&argument| (argument, own.user));
    let all: Vec<_> = users.chain(groups.iter().map(|&argument| (argument, own.group))).collect();
    let mut body = Vec::with_capacity(3 * all.len() + 2);
    for (index, &(argument, id)) in all.iter().enumerate() {
        let left = 3 * (all.len() - index - 1) + 1;
        let to_refused = u8::try_from(left).expect("invariant: lists are short");
        body.extend([
            load(low(argument)),
            op(JUMP_EQUAL, id, 1, 0),
            op(JUMP_EQUAL, UNCHANGED, 0, to_refused),
        ]);
    }
    let refused = if by_path { give(RET_USER_NOTIF) } else { fail(libc::EPERM) };
    body.extend([give(RET_ALLOW), refused]);
    body
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::tests::{errno, run_in};
    use super::super::seccomp::{self, AUDIT_ARCH, Traps};
    use super::*;

    fn given(writes: bool, call: libc::c_long, arguments: [u32; 4]) -> u32 {
        let traps = Traps { writes, ..Traps::default() };
        let program = seccomp::filter(traps, Some(Own { user: 1000, group: 100 }));
        let [a, b, c, d] = arguments.map(u64::from);
        run_in(&program, (AUDIT_ARCH, u32::try_from(call).unwrap()), [a, b, c, d, 0, 0])
    }

    #[test]
    fn ids_of_others_are_not_permitted_and_ones_own_are() {
        let refused = errno(libc::EPERM);
        let set = |user, group| {
            (
                given(true, libc::SYS_setuid, [user, 0, 0, 0]),
                given(true, libc::SYS_setresgid, [UNCHANGED, group, UNCHANGED, 0]),
            )
        };
        assert_eq!(set(1000, 100), (RET_ALLOW, RET_ALLOW));
        assert_eq!(set(0, 0), (refused, refused));
        assert_eq!(set(100, 1000), (refused, refused), "a group is no user");
        assert_eq!(set(UNCHANGED, UNCHANGED), (RET_ALLOW, RET_ALLOW), "the kernel's to judge");
        assert_eq!(given(true, libc::SYS_setreuid, [1000, 0, 0, 0]), refused);
    }

    #[test]
    fn an_owner_is_given_by_pid_1_where_it_knows_the_file() {
        let owner = |writes, user, group| {
            let by_path = given(writes, libc::SYS_fchownat, [3, 0, user, group]);
            (by_path, given(writes, libc::SYS_fchown, [3, user, group, 0]))
        };
        let refused = errno(libc::EPERM);
        assert_eq!(owner(true, 1000, 100), (RET_ALLOW, RET_ALLOW));
        assert_eq!(owner(true, UNCHANGED, 0), (RET_USER_NOTIF, refused));
        assert_eq!(owner(true, 0, UNCHANGED), (RET_USER_NOTIF, refused));
        assert_eq!(owner(false, 0, UNCHANGED), (refused, refused));
        let traps = Traps { writes: true, owners: Owners::All, ..Traps::default() };
        for own in [Some(Own { user: 1000, group: 100 }), None] {
            let program = seccomp::filter(traps, own);
            let call = (AUDIT_ARCH, u32::try_from(libc::SYS_fchownat).unwrap());
            let ids = [3, 0, 1000, 100, 0, 0];
            assert_eq!(run_in(&program, call, ids), RET_USER_NOTIF, "somebody may be asked");
        }
    }

    #[test]
    fn where_all_ids_are_known_the_kernel_decides() {
        let program = seccomp::filter(Traps { writes: true, ..Traps::default() }, None);
        let of = |call| (AUDIT_ARCH, u32::try_from(call).unwrap());
        assert_eq!(run_in(&program, of(libc::SYS_setuid), [5; 6]), RET_ALLOW);
        assert_eq!(run_in(&program, of(libc::SYS_fchownat), [5; 6]), RET_ALLOW);
    }
}
