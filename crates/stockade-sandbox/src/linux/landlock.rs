//! The second wall: landlock(7) over the same policy as the mount view.
//!
//! Landlock only ever grants, and what it grants on a folder holds for everything below. To
//! leave a hidden path out, reading is therefore granted to its siblings: a name that is
//! made beside a hidden one after the start cannot be read through this wall.
//!
//! It cannot say: protected names inside a writable root, metadata (mode, owner, times,
//! extended attributes), and TCP while the loopback is open. Those have one wall.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::failure::{Failure, step};
use super::mounts;
use super::plan::{Content, Plan};
use super::sys::landlock_unsafe::{self as sys, RulesetAttr};

// linux/landlock.h, LANDLOCK_ACCESS_FS_*.
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
/// `REMOVE_DIR`, `REMOVE_FILE`, `MAKE_CHAR`, _DIR, _REG, _SOCK, _FIFO, _BLOCK, _SYM: bits 4–12.
const CHANGE_FOLDER: u64 = 0x1ff0;
/// ABI 2.
const REFER: u64 = 1 << 13;
/// ABI 3.
const TRUNCATE: u64 = 1 << 14;
/// ABI 5.
const IOCTL_DEV: u64 = 1 << 15;
/// ABI 6: `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPES: u64 = 0b11;

/// Rights that make sense on a file.
const OF_A_FILE: u64 = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Restricts this process and everything it will start.
///
/// # Errors
///
/// A [`Failure`] that names the path; `ENOSYS`/`EOPNOTSUPP` where there is no Landlock.
pub(crate) fn restrict(plan: &Plan) -> Result<(), Failure> {
    let abi = sys::abi().map_err(step("use", "Landlock"))?;
    let mut handled = WRITE_FILE | READ_FILE | CHANGE_FOLDER;
    for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if abi >= since {
            handled |= right;
        }
    }
    let scoped = if abi >= 6 { SCOPES } else { 0 };
    let attr = RulesetAttr { handled_fs: handled, handled_net: 0, scoped };
    let ruleset = sys::create_ruleset(&attr).map_err(step("make a ruleset of", "Landlock"))?;
    let rules = Rules { ruleset, handled };
    rules.allow_writes(plan)?;
    let hidden: Vec<&Path> = plan
        .placements
        .iter()
        .filter(|placement| placement.content == Content::Hidden)
        .map(|placement| placement.path.as_path())
        .collect();
    let root = open_folder(&mounts::open("/")?, c".").map_err(step("open", "/"))?;
    rules.allow_reads(&root, Path::new("/"), &hidden)?;
    sys::restrict_self(rules.ruleset.as_fd()).map_err(step("enter", "Landlock"))
}

struct Rules {
    ruleset: OwnedFd,
    handled: u64,
}

impl Rules {
    fn allow_writes(&self, plan: &Plan) -> Result<(), Failure> {
        for placement in &plan.placements {
            match placement.content {
                Content::Writable | Content::PrivateWritable => {
                    self.allow(&placement.path, self.handled & !IOCTL_DEV)?;
                }
                // Its own rule: it may lie below a hidden folder, whose siblings get theirs.
                Content::Readable => self.allow(&placement.path, READ_FILE)?,
                Content::PrivateEmpty | Content::Pinned | Content::Protected | Content::Hidden => {}
            }
        }
        self.allow(Path::new("/dev/shm"), self.handled & !IOCTL_DEV)?;
        self.allow(
            Path::new("/dev"),
            (WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV) & self.handled,
        )?;
        // A process writes to files of its own there (`comm`, `oom_score_adj`); what concerns
        // the machine is read-only by mount and by owner.
        self.allow(Path::new("/proc"), WRITE_FILE | READ_FILE)
    }

    fn allow(&self, path: &Path, access: u64) -> Result<(), Failure> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(step("open", path)(error)),
        };
        self.allow_fd(&fd, access).map_err(step("allow in Landlock", path))
    }

    fn allow_fd(&self, fd: &OwnedFd, access: u64) -> io::Result<()> {
        let stat = rustix::fs::fstat(fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            return Ok(());
        }
        let of_kind = if kind == FileType::Directory { u64::MAX } else { OF_A_FILE & self.handled };
        let access = access & of_kind;
        sys::allow_beneath(self.ruleset.as_fd(), fd.as_fd(), access)
    }

    /// Grants reading of everything in `folder` except `hidden`, which are paths below it.
    fn allow_reads(&self, folder: &OwnedFd, path: &Path, hidden: &[&Path]) -> Result<(), Failure> {
        if hidden.is_empty() {
            return self.allow_fd(folder, READ_FILE).map_err(step("allow in Landlock", path));
        }
        let mut level = vec![(reopen(folder, path)?, path.to_owned())];
        while let Some((folder, path)) = level.pop() {
            for name in names(&folder).map_err(step("list", &path))? {
                let child = child_path(&path, &name);
                if hidden.iter().any(|hidden| hidden.starts_with(&child) && *hidden != child) {
                    // A folder that cannot be listed hides what is in it by itself.
                    level.extend(open_folder(&folder, &name).ok().map(|inner| (inner, child)));
                } else if !hidden.contains(&child.as_path()) {
                    self.allow_entry(&folder, &name).map_err(step("allow in Landlock", &child))?;
                }
            }
        }
        Ok(())
    }

    /// Grants reading of one entry of `folder`; what cannot be opened needs no rule.
    fn allow_entry(&self, folder: &OwnedFd, name: &CStr) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => self.allow_fd(&fd, READ_FILE),
            Err(_) => Ok(()),
        }
    }
}

fn child_path(folder: &Path, name: &CString) -> PathBuf {
    folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

fn reopen(folder: &OwnedFd, path: &Path) -> Result<OwnedFd, Failure> {
    open_folder(folder, c".").map_err(step("open", path))
}

fn open_folder(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let keeps = !matches!(name.to_bytes(), b"." | b"..")
            && !matches!(entry.file_type(), FileType::Symlink | FileType::Socket | FileType::Fifo);
        if keeps {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
