//! Where a path of the caller's leads, found without the kernel following it for us.
//!
//! The folder that the last name lies in is opened first, and everything is done beneath that
//! descriptor. `/proc/self` and the links of `/proc/PID` mean the caller's own process, never this
//! one, and are walked by hand.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};

use super::caller::Caller;
use super::known;

/// The kernel's own limit (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

const REFERENCE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A name in a folder.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder.
    pub(super) folder: OwnedFd,
    /// The last component, with a slash at its end where the caller wrote one.
    pub(super) name: Vec<u8>,
    /// The whole, as this mount view shows it, without that slash.
    pub(super) path: PathBuf,
}

/// An object that a link of `/proc/PID` leads to.
#[derive(Debug)]
pub(super) enum Found {
    Place(Place),
    /// A file that has a descriptor already; its name, where it has one.
    Object(OwnedFd, PathBuf),
}

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

/// What the descriptor is called in this mount view: a path, or `pipe:[1]` and the like.
pub(super) fn name_of(fd: &OwnedFd) -> io::Result<PathBuf> {
    let name = known::link_of(fd.as_raw_fd())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(name)))
}

impl Place {
    /// Finds the folder of the last name of `path`, which starts at the caller's `folder`.
    pub(super) fn of(caller: &Caller<'_>, folder: i32, path: &[u8]) -> io::Result<Self> {
        if path.is_empty() {
            return error(libc::ENOENT);
        }
        let (above, name, is_folder) = split(path);
        let at = walk(caller, folder, above)?;
        Self::beneath(at, name.to_vec(), is_folder)
    }

    /// The place of an absolute `path` without links.
    pub(super) fn named(path: &Path) -> io::Result<Self> {
        let (above, name, _) = split(path.as_os_str().as_bytes());
        Self::beneath(straight(CWD, above)?, name.to_vec(), false)
    }

    fn beneath(folder: OwnedFd, mut name: Vec<u8>, is_folder: bool) -> io::Result<Self> {
        let mut path = name_of(&folder)?;
        if !path.is_absolute() {
            // Not in this view: nothing is written by a way that cannot be judged.
            return error(libc::EACCES);
        }
        match name.as_slice() {
            b"." => {}
            b".." => drop(path.pop()),
            _ => path.push(OsStr::from_bytes(&name)),
        }
        if is_folder {
            name.push(b'/');
        }
        Ok(Self { folder, name, path })
    }

    /// The same name in the same folder, wherever that is by now.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::beneath(self.folder.try_clone()?, self.name.clone(), false)
    }

    /// What the link at this place leads to; an error of the kernel's when it is none.
    pub(super) fn follow(self, caller: &Caller<'_>, links: &mut usize) -> io::Result<Found> {
        *links += 1;
        if *links > LINKS_MAX {
            return error(libc::ELOOP);
        }
        if let Some(inner) = in_proc(&self.path)
            && inner.components().count() > 1
        {
            let object = follow_in_proc(caller, &self.folder, &self.name, inner)?;
            let name = name_of(&object)?;
            return Ok(Found::Object(object, name));
        }
        let target = rustix::fs::readlinkat(&self.folder, self.name.as_slice(), Vec::new())?;
        let target = caller.moved(target.into_bytes());
        let (above, name, is_folder) = split(&target);
        let at = walk_from(caller, self.folder, above)?;
        Self::beneath(at, name.to_vec(), is_folder).map(Found::Place)
    }

    /// A reference to what has the name; a link is not followed.
    pub(super) fn reference(&self) -> io::Result<OwnedFd> {
        let flags = REFERENCE | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.folder, self.name.as_slice(), flags, Mode::empty())?)
    }

    /// What has the name; `None` for nothing.
    pub(super) fn kind(&self) -> Option<FileType> {
        let stat =
            rustix::fs::statat(&self.folder, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        stat.ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8], bool) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let trimmed = path.get(..end).unwrap_or_default();
    let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (above, name) = trimmed.split_at(start);
    if name.is_empty() { (b"/", b".", false) } else { (above, name, end < path.len()) }
}

/// The part of `path` below `/proc`.
pub(super) fn in_proc(path: &Path) -> Option<&Path> {
    path.strip_prefix("/proc").ok()
}

/// The folder that the caller's `path` leads to.
pub(super) fn walk(caller: &Caller<'_>, folder: i32, path: &[u8]) -> io::Result<OwnedFd> {
    if path.starts_with(b"/") {
        return match straight(CWD, path) {
            Err(rustix::io::Errno::LOOP) => by_hand(caller, root()?, path),
            found => Ok(found?),
        };
    }
    walk_from(caller, caller.folder(folder)?, path)
}

/// Most paths have no link in them, and then this is all.
fn straight(start: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = REFERENCE | OFlags::DIRECTORY;
    rustix::fs::openat2(start, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/", REFERENCE | OFlags::DIRECTORY, Mode::empty())?)
}

fn walk_from(caller: &Caller<'_>, start: OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    if path.is_empty() {
        return Ok(start);
    }
    match straight(&start, path) {
        Err(rustix::io::Errno::LOOP) => by_hand(caller, start, path),
        found => Ok(found?),
    }
}

fn by_hand(caller: &Caller<'_>, start: OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
    };
    let mut at = if path.starts_with(b"/") { root()? } else { start };
    let (mut rest, mut links) = (parts(path), 0);
    while let Some(part) = rest.pop() {
        if matches!(part.as_slice(), b"" | b".") {
            continue;
        }
        let here = name_of(&at)?;
        let inner = in_proc(&here);
        if inner == Some(Path::new("")) && matches!(part.as_slice(), b"self" | b"thread-self") {
            rest.extend(parts(&own_folder(caller, &part)?));
            continue;
        }
        let flags = REFERENCE | OFlags::NOFOLLOW;
        let next = rustix::fs::openat(&at, part.as_slice(), flags, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) != FileType::Symlink {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return error(libc::ELOOP);
        }
        if let Some(inner) = inner.filter(|inner| *inner != Path::new("")) {
            at = follow_in_proc(caller, &at, &part, inner)?;
            continue;
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
        let target = caller.moved(target);
        if target.starts_with(b"/") {
            at = root()?;
        }
        rest.extend(parts(&target));
    }
    // A folder, or the kernel's own word for what it is.
    Ok(rustix::fs::openat(&at, ".", REFERENCE | OFlags::DIRECTORY, Mode::empty())?)
}

/// What `/proc/self` and `/proc/thread-self` are for the caller.
fn own_folder(caller: &Caller<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    let process = caller.process()?;
    Ok(match name {
        b"self" => process.to_string(),
        _ => format!("{process}/task/{}", caller.thread()),
    }
    .into_bytes())
}

/// Follows a link of `/proc/PID` by the kernel's hand, when the process is the caller's own.
/// `inner` is the link's path below `/proc`.
fn follow_in_proc(
    caller: &Caller<'_>,
    folder: &OwnedFd,
    name: &[u8],
    inner: &Path,
) -> io::Result<OwnedFd> {
    if !is_own(caller, inner)? {
        return error(libc::EACCES);
    }
    Ok(rustix::fs::openat(folder, name, REFERENCE, Mode::empty())?)
}

/// Whether `inner`, a path below `/proc`, is about no process, the caller's own, or one that it
/// traces. This process may look into all of them, the caller may not.
pub(super) fn is_own(caller: &Caller<'_>, inner: &Path) -> io::Result<bool> {
    let first = inner.iter().next().unwrap_or_default().to_string_lossy();
    let Ok(process) = first.parse::<i32>() else { return Ok(true) };
    Ok(process == caller.thread() || process == caller.process()? || caller.traces(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_its_last_name() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, &str, bool)] = &[
            ("a",        "",      "a",  false),
            ("a/b",      "a/",    "b",  false),
            ("/a",       "/",     "a",  false),
            ("a//b//",   "a//",   "b",  true),
            ("/",        "/",     ".",  false),
            ("a/..",     "a/",    "..", false),
        ];
        for &(path, above, name, is_folder) in CASES {
            let found = split(path.as_bytes());
            assert_eq!(found, (above.as_bytes(), name.as_bytes(), is_folder), "{path}");
        }
    }
}
