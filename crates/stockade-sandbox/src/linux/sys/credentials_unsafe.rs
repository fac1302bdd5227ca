//! Capabilities, `no_new_privs`, securebits and the other things a process gives up.
#![expect(unsafe_code, reason = "prctl(2) and capset(2) are variadic or take raw structs")]

use std::io;

/// `CAP_SYS_PTRACE` (linux/capability.h): the one capability that PID 1 keeps in every run, so that it
/// may read the arguments of a trapped call.
pub(crate) const CAP_SYS_PTRACE: u32 = 19;

/// `CAP_NET_BIND_SERVICE`: ports below 1024, where connections to hosts begin.
pub(crate) const CAP_NET_BIND_SERVICE: u32 = 10;

/// The highest capability this code knows of is far below; the loop ends at the kernel's.
const CAP_LIMIT: libc::c_ulong = 64;

// Pairs of "set" and "locked" bits: NOROOT, NO_SETUID_FIXUP, KEEP_CAPS (locked off),
// NO_CAP_AMBIENT_RAISE (linux/securebits.h).
const NOROOT: libc::c_ulong = 0b11;
const NO_SETUID_FIXUP: libc::c_ulong = 0b11 << 2;
const KEEP_CAPS_LOCKED: libc::c_ulong = 0b10 << 4;
const NO_CAP_AMBIENT_RAISE: libc::c_ulong = 0b11 << 6;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn prctl(option: i32, argument: libc::c_ulong) -> io::Result<i32> {
    let zero: libc::c_ulong = 0;
    // SAFETY: every option used in this file takes integers only; unused ones are zero.
    match unsafe { libc::prctl(option, argument, zero, zero, zero) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Sets the signal that this thread's parent's end sends to this process; 0 for none.
pub(crate) fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.cast_unsigned())).map(drop)
}

/// Forbids gaining privileges by execve, for good.
pub(crate) fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

/// Makes this process' memory and `/proc` entries unreachable for others of its user.
pub(crate) fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// Lets this process be inspected by its user again, as after an execve.
pub(crate) fn set_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 1).map(drop)
}

/// Empties the bounding set and locks the securebits, so that uid 0 is a number only:
/// no execve gives a capability any more.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP` in this user namespace. Source: capabilities(7).
pub(crate) fn forsake_privileges() -> io::Result<()> {
    for capability in 0..CAP_LIMIT {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    prctl(
        libc::PR_SET_SECUREBITS,
        NOROOT | NO_SETUID_FIXUP | KEEP_CAPS_LOCKED | NO_CAP_AMBIENT_RAISE,
    )
    .map(drop)
}

/// Keeps exactly the capabilities of `mask` (bit N is capability N; only 0–31), effective
/// and permitted, none inheritable.
pub(crate) fn keep_capabilities(mask: u32) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let low = Set { effective: mask, permitted: mask, inheritable: 0 };
    let sets = [low, Set::default()];
    // SAFETY: version 3 takes one header and exactly two sets, both live for the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process has no capability at all.
pub(crate) fn has_no_capability() -> io::Result<bool> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Set::default(); 2];
    // SAFETY: version 3 takes one header and exactly two sets, both live for the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(sets == [Set::default(); 2])
}

/// Makes this process a session leader without a controlling terminal.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: setsid takes nothing and touches no memory of this process.
    match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives up this process' user, group and supplementary groups for `uid` and `gid`.
pub(crate) fn change_ids(uid: u32, gid: u32) -> io::Result<()> {
    let check = |result: i32| {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: one group is read from a live integer.
    check(unsafe { libc::setgroups(1, &raw const gid) })?;
    // SAFETY: setresgid takes integers only.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: setresuid takes integers only.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    // The change of ids made the process undumpable, and its /proc entries root's; the child
    // has to write its own id maps there.
    set_dumpable()
}
