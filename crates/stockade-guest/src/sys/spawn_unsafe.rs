//! A command in a session of its own, started without a copy of who starts it.
#![expect(unsafe_code, reason = "posix_spawn has no safe form that makes a session")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use rustix::process::Pid;

/// What is started.
pub(crate) struct Spawn<'a> {
    /// The program's file; a relative one is looked for from `folder`.
    pub(crate) file: &'a CStr,
    pub(crate) argv: &'a [CString],
    /// `NAME=VALUE` each.
    pub(crate) environment: &'a [CString],
    pub(crate) folder: &'a CStr,
    /// Its standard input, output and error: none of them is one of the caller's own three.
    pub(crate) streams: [BorrowedFd<'a>; 3],
}

/// Starts it as the leader of a new session and group, without a terminal. The caller's memory is not
/// copied, not even its tables: its thread waits until the command's program runs.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> io::Result<Pid> {
    let attributes = Attributes::new()?;
    let actions = Actions::new(spawn)?;
    let pointers = |words: &[CString]| -> Vec<*mut libc::c_char> {
        words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (argv, environment) = (pointers(spawn.argv), pointers(spawn.environment));
    let mut pid = 0;
    // SAFETY: both arrays end with a null, and what they, the actions and the attributes lead to lives to
    // the end of this function. glibc only reads it.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            spawn.file.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            environment.as_ptr(),
        )
    };
    done(result)?;
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// These functions return what others leave in `errno`.
fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A new session, no signal blocked, and SIGPIPE as programs expect it, which Rust ignores.
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: it only writes to the place for attributes that it is given.
        done(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above has filled it.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: it only writes to the set that it is given.
        unsafe { libc::sigemptyset(none.as_mut_ptr()) };
        // SAFETY: the call above has filled it, and cannot fail with a valid pointer.
        let none = unsafe { none.assume_init() };
        let mut pipe = none;
        // SAFETY: the set was filled, and the signal is one.
        unsafe { libc::sigaddset(&raw mut pipe, libc::SIGPIPE) };
        // Their types differ from one C library to the other.
        let all = i32::from(libc::POSIX_SPAWN_SETSID)
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(all).map_err(io::Error::other)?;
        let raw = &raw mut attributes.0;
        // SAFETY: the attributes were initialised above.
        done(unsafe { libc::posix_spawnattr_setflags(raw, flags) })?;
        // SAFETY: the same, and the set was filled.
        done(unsafe { libc::posix_spawnattr_setsigmask(raw, &raw const none) })?;
        // SAFETY: the same.
        done(unsafe { libc::posix_spawnattr_setsigdefault(raw, &raw const pipe) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they were initialised, and nobody uses them any more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(spawn: &Spawn<'_>) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: it only writes to the place for actions that it is given.
        done(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above has filled it.
        let mut actions = Self(unsafe { raw.assume_init() });
        let raw = &raw mut actions.0;
        // SAFETY: the actions were initialised above, and the path is copied.
        done(unsafe { libc::posix_spawn_file_actions_addchdir_np(raw, spawn.folder.as_ptr()) })?;
        for (stream, number) in spawn.streams.iter().zip(0..) {
            // SAFETY: the actions were initialised above, and both are descriptors.
            done(unsafe {
                libc::posix_spawn_file_actions_adddup2(raw, stream.as_raw_fd(), number)
            })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they were initialised, and nobody uses them any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}
