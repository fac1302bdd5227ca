//! The second wall: landlock(7) over the same policy as the mount view.
//!
//! Landlock only ever grants, and what it grants on a folder holds for everything below. To
//! leave a hidden path out, reading is therefore granted to its siblings: a name that is
//! made beside a hidden one after the start cannot be read through this wall.
//!
//! It cannot say: protected names inside a writable root, metadata (mode, owner, times,
//! extended attributes), and TCP while the loopback is open. Those have one wall.

use std::cmp::Ordering;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use super::devices;
use super::failure::{Failure, step};
use super::mounts;
use super::names;
use super::plan::{Content, Placement, Plan};
use super::sys::landlock_unsafe::{self as sys, RulesetAttr};
use crate::keep::Keep;

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

/// Room for what one call lists of a folder: a home has hundreds of names.
const LISTING: usize = 32 * 1024;

/// Restricts this process and everything it will start.
///
/// # Errors
///
/// A [`Failure`] that names the path; `ENOSYS`/`EOPNOTSUPP` where there is no Landlock.
pub(crate) fn restrict(
    plan: &Plan,
    (terminal, mask): (Option<&OwnedFd>, Option<&OwnedFd>),
    keep: Option<&Keep>,
) -> Result<(), Failure> {
    let rules = Rules::new(WRITE_FILE | READ_FILE | CHANGE_FOLDER | REFER | TRUNCATE | IOCTL_DEV)?;
    rules.allow_writes(plan)?;
    if let Some(terminal) = terminal {
        // The run's own, which may lie among the user's.
        rules
            .allow_fd(terminal, rules.handled & OF_A_FILE)
            .map_err(step("allow in Landlock", "the inner terminal"))?;
    }
    if let Some(mask) = mask {
        // By what it is, and not by where it stands: a hidden file that nothing stands over stays
        // refused. Tools that read settings take no file or an empty one, and fail at a refusal.
        rules.allow_fd(mask, READ_FILE).map_err(step("allow in Landlock", "the mask"))?;
    }
    if let Some(keep) = keep {
        // The same as on a root: the kernel gives no file a second name where more is allowed.
        let access = rules.handled & !IOCTL_DEV;
        rules.allow_fd(keep.folder(), access).map_err(step("allow in Landlock", "the store"))?;
    }
    if plan.runs_itself {
        rules.allow_own_program()?;
    }
    let is_hidden = |placement: &&Placement| placement.content == Content::Hidden;
    let hidden = plan.placements.iter().filter(is_hidden);
    let hidden: Vec<&[u8]> =
        hidden.map(|placement| placement.path.as_os_str().as_bytes()).collect();
    rules.allow_beside(&hidden, READ_FILE)?;
    rules.enter()
}

/// What only the guardian opens, for writing or (terminals) at all: it looks at whose they are.
const TERMINALS: [&str; 2] = ["/dev/ptmx", "/dev/pts"];
const PROC: &str = "/proc";

/// Enters a domain inside the one that this process is in already, the guardian's: processes in that
/// one are out of reach for signals, and what it opens for others cannot be opened past it.
pub(crate) fn part_from_parent(plan: &Plan, terminal: Option<&OwnedFd>) -> Result<(), Failure> {
    if !plan.walls.supervisor {
        // Without scopes in this kernel there is nothing to gain.
        return if sys::abi().is_ok_and(|abi| abi < 6) { Ok(()) } else { Rules::new(0)?.enter() };
    }
    let rules = Rules::new(READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV)?;
    for placement in plan.placements.iter().filter(|it| it.content == Content::Writable) {
        rules.allow(placement.path.as_path(), rules.handled & !IOCTL_DEV)?;
    }
    if let Some(terminal) = terminal {
        rules
            .allow_fd(terminal, rules.handled & OF_A_FILE)
            .map_err(step("allow in Landlock", "the inner terminal"))?;
    }
    rules.allow(Path::new(PROC), READ_FILE)?;
    rules.allow_devices()?;
    rules.allow_stdio();
    rules.allow_beside(&[b"/dev", PROC.as_bytes()], rules.handled)?;
    rules.enter()
}

struct Rules {
    ruleset: OwnedFd,
    handled: u64,
}

impl Rules {
    /// None yet, over those of `rights` that this kernel knows, and over [`SCOPES`].
    fn new(rights: u64) -> Result<Self, Failure> {
        let abi = sys::abi().map_err(step("use", "Landlock"))?;
        let mut handled = rights;
        for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
            if abi < since {
                handled &= !right;
            }
        }
        let scoped = if abi >= 6 { SCOPES } else { 0 };
        let attr = RulesetAttr { handled_fs: handled, handled_net: 0, scoped };
        let ruleset = sys::create_ruleset(&attr).map_err(step("make a ruleset of", "Landlock"))?;
        Ok(Self { ruleset, handled })
    }

    fn enter(self) -> Result<(), Failure> {
        sys::restrict_self(self.ruleset.as_fd()).map_err(step("enter", "Landlock"))
    }

    fn allow_writes(&self, plan: &Plan) -> Result<(), Failure> {
        for placement in &plan.placements {
            match placement.content {
                Content::Writable | Content::Cached | Content::PrivateWritable => {
                    self.allow(placement.path.as_path(), self.handled & !IOCTL_DEV)?;
                }
                // Its own rule: it may lie below a hidden folder, whose siblings get theirs.
                Content::Readable => self.allow(placement.path.as_path(), READ_FILE)?,
                Content::PrivateEmpty | Content::Pinned | Content::Protected | Content::Hidden => {}
            }
        }
        if plan.walls.namespaces {
            for private in ["/dev/shm", devices::QUEUES] {
                self.allow(Path::new(private), self.handled & !IOCTL_DEV)?;
            }
            self.allow(
                Path::new("/dev"),
                (WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV) & self.handled,
            )?;
            // A process writes to files of its own there (`comm`, `oom_score_adj`), with `O_TRUNC`
            // when a shell does it; what concerns the machine is read-only by mount and by owner.
            self.allow(Path::new("/proc"), (WRITE_FILE | READ_FILE | TRUNCATE) & self.handled)?;
        } else if plan.walls.supervisor {
            // For the guardian alone: the command's domain is inside this one.
            for path in TERMINALS {
                self.allow(Path::new(path), self.handled & OF_A_FILE)?;
            }
            self.allow(Path::new(PROC), (WRITE_FILE | READ_FILE | TRUNCATE) & self.handled)?;
        }
        self.allow_devices()?;
        if plan.way_out.as_ref().is_some_and(|way| way.has_hosts) {
            // Ours, over what may be a link there, which gets no rule by itself.
            for name in names::FILES {
                self.allow(&Path::new("/etc").join(name), READ_FILE)?;
            }
        }
        self.allow_stdio();
        Ok(())
    }

    /// A rule is tied to the file, not to its mount: this one also holds for a device that the caller
    /// opened outside and that is opened again here, as `/dev/stdout`.
    fn allow_devices(&self) -> Result<(), Failure> {
        let devices = devices::DEVICES.iter().map(|name| Path::new("/dev").join(name));
        devices.into_iter().try_for_each(|path| self.allow(&path, self.handled & OF_A_FILE))
    }

    /// What descriptors 0–2 lead to may be opened again (`/dev/stdout`), in the direction in
    /// which they are open: a log outside the roots that the user named to the shell. This
    /// gives nothing that the descriptor does not: whoever holds it can truncate, and clear
    /// `O_APPEND`.
    fn allow_stdio(&self) {
        let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for fd in stdio {
            let Ok(flags) = rustix::fs::fcntl_getfl(fd) else { continue };
            let is_file = |stat: &rustix::fs::Stat| {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            };
            if flags.contains(OFlags::PATH) || !rustix::fs::fstat(fd).is_ok_and(|s| is_file(&s)) {
                continue;
            }
            let access = match flags & OFlags::RWMODE {
                OFlags::RDONLY => READ_FILE,
                OFlags::WRONLY => WRITE_FILE | TRUNCATE,
                _ => READ_FILE | WRITE_FILE | TRUNCATE,
            };
            // What has no path (a memfd) takes no rule, and Landlock does not restrict it.
            sys::allow_beneath(self.ruleset.as_fd(), fd, access & self.handled).ok();
        }
    }

    /// Execution opens a program for reading. Ours may lie below a hidden or a private folder,
    /// which no other rule reaches.
    fn allow_own_program(&self) -> Result<(), Failure> {
        let path = Path::new(crate::launch::OWN_PROGRAM);
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(step("open", path))?;
        self.allow_fd(&fd, READ_FILE).map_err(step("allow in Landlock", path))
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

    /// Grants `access` to everything but `hidden`.
    fn allow_beside(&self, hidden: &[&[u8]], access: u64) -> Result<(), Failure> {
        let root = open_folder(&mounts::open("/")?, c".").map_err(step("open", "/"))?;
        let hidden = Hidden::all(hidden);
        if hidden.paths.is_empty() {
            return self.allow_fd(&root, access).map_err(step("allow in Landlock", "/"));
        }
        let mut level = vec![(root, hidden)];
        let mut listing = Vec::with_capacity(LISTING);
        while let Some((folder, hidden)) = level.pop() {
            let mut entries = RawDir::new(&folder, listing.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry.map_err(|error| step("list", hidden.folder())(error))?;
                let (name, kind) = (entry.file_name(), entry.file_type());
                if is_passed_over(name, kind) {
                    continue;
                }
                let inner = hidden.inside(name.to_bytes());
                if inner.paths.is_empty() {
                    self.allow_entry((&folder, name), kind, access)
                        .map_err(|error| step("allow in Landlock", hidden.entry(name))(error))?;
                } else if !inner.is_whole() {
                    // A folder that cannot be listed hides what is in it by itself.
                    level.extend(open_folder(&folder, name).ok().map(|folder| (folder, inner)));
                }
            }
        }
        Ok(())
    }

    /// Grants `access` to one entry of a folder; what cannot be opened needs no rule.
    fn allow_entry(
        &self,
        (folder, name): (&OwnedFd, &CStr),
        kind: FileType,
        access: u64,
    ) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            // Some file systems do not say in a listing what an entry is.
            Ok(fd) if kind == FileType::Unknown => self.allow_fd(&fd, access),
            Ok(fd) => {
                let of_kind = if kind == FileType::Directory { u64::MAX } else { OF_A_FILE };
                sys::allow_beneath(self.ruleset.as_fd(), fd.as_fd(), access & of_kind)
            }
            Err(_) => Ok(()),
        }
    }
}

/// The hidden paths of one folder: a part of the sorted list of all, in which those that are in
/// one folder stand together.
#[derive(Debug, Clone, Copy)]
struct Hidden<'a> {
    paths: &'a [&'a [u8]],
    /// Where in each of them the name begins that stands in this folder.
    at: usize,
}

impl<'a> Hidden<'a> {
    /// Of `/`; `paths` are in the order of `AbsPath`.
    fn all(paths: &'a [&'a [u8]]) -> Self {
        Self { paths, at: 1 }
    }

    /// Those that are `name`, or lie in it.
    fn inside(&self, name: &[u8]) -> Self {
        let named = |path: &&[u8]| compare(path.get(self.at..).unwrap_or_default(), name);
        let start = self.paths.partition_point(|path| named(path) == Ordering::Less);
        let rest = self.paths.get(start..).unwrap_or_default();
        let count = rest.partition_point(|path| named(path) == Ordering::Equal);
        Self { paths: rest.get(..count).unwrap_or_default(), at: self.at + name.len() + 1 }
    }

    /// Whether this folder is hidden itself.
    fn is_whole(&self) -> bool {
        self.paths.first().is_some_and(|path| path.len() < self.at)
    }

    /// The folder's path, for messages.
    fn folder(&self) -> &'a Path {
        let path = self.paths.first().and_then(|path| path.get(..self.at));
        Path::new(OsStr::from_bytes(path.unwrap_or(b"/")))
    }

    fn entry(&self, name: &CStr) -> PathBuf {
        self.folder().join(OsStr::from_bytes(name.to_bytes()))
    }
}

/// The first name in `path`, beside `name`.
fn compare(path: &[u8], name: &[u8]) -> Ordering {
    // A separator ends a name as the end of the path does, which comes before every byte.
    let bytes = path.iter().map(|byte| Some(*byte).filter(|byte| *byte != b'/'));
    let first = bytes.chain(std::iter::once(None));
    let mut rest = name.iter().copied();
    for byte in first {
        match (byte, rest.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a != b => return a.cmp(&b),
            (Some(_), Some(_)) => {}
        }
    }
    Ordering::Equal
}

fn open_folder(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Needs no rule: a link is not what it leads to, and a socket or pipe is not read by its name.
fn is_passed_over(name: &CStr, kind: FileType) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
        || matches!(kind, FileType::Symlink | FileType::Socket | FileType::Fifo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_hidden_names_are_found_and_no_others() {
        let paths: [&[u8]; 5] =
            [b"/etc/shadow", b"/home/u/.a", b"/home/u/.a.b/c", b"/home/u/.a.b/d", b"/var"];
        let all = Hidden::all(&paths);
        let home = all.inside(b"home").inside(b"u");
        assert_eq!(home.paths, &paths[1..4]);
        assert!(home.inside(b".a").is_whole() && all.inside(b"var").is_whole());
        let inner = home.inside(b".a.b");
        assert!(
            !inner.is_whole() && inner.inside(b"c").is_whole() && inner.inside(b"d").is_whole()
        );
        for name in ["", ".", ".a.", ".b", "a", ".a.b/c"] {
            assert!(home.inside(name.as_bytes()).paths.is_empty(), "{name}");
        }
        assert_eq!(inner.entry(c"c"), Path::new("/home/u/.a.b/c"));
    }
}
