//! Reading and writing beneath one folder, whatever lies in it.
//!
//! Folders are opened by `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`: a link in the way,
//! planted before or meanwhile, ends the attempt. A file is made whole under another name and
//! renamed, so that nobody sees half of it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use stockade_sandbox::keep::Keep;

use super::waiting_name;
use crate::ThreadId;
use crate::patch::{FILE_MAX, TreePath};
use crate::undo::Segment;

/// What a tree can hold under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File { bytes: Vec<u8>, is_executable: bool },
    Link(Vec<u8>),
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::File { bytes, .. } | Self::Link(bytes) => bytes,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::File { is_executable: false, .. } => "file",
            Self::File { is_executable: true, .. } => "executable",
            Self::Link(_) => "link",
        }
    }
}

/// What is there now.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) content: Option<Content>,
    stat: Option<Stat>,
}

/// The folder that everything is beneath.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    waiting: String,
    /// New files belong to whom the folder belongs to, when root applies.
    owner: Option<(Uid, Gid)>,
    /// Its own path, and who keeps what changes in it.
    keep: Option<(PathBuf, Keep)>,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Root {
    /// With `undo` what is written beneath `path` is kept before.
    pub(super) fn open(path: &Path, thread: &ThreadId, undo: Option<&Segment>) -> io::Result<Self> {
        let folder = rustix::fs::open(path, FOLDER | OFlags::RDONLY, Mode::empty())?;
        let stat = rustix::fs::fstat(&folder)?;
        let is_root = rustix::process::geteuid().is_root();
        let owner = is_root.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        let keep = undo.map(|undo| Ok::<_, io::Error>((path.to_owned(), undo.keep()?)));
        Ok(Self { folder, waiting: waiting_name(thread), owner, keep: keep.transpose()? })
    }

    /// What is at `path`; `None` when it is neither file nor link nor nothing, or when its
    /// folder is no folder.
    pub(super) fn read(&self, path: &TreePath) -> io::Result<Option<Present>> {
        let absent = Present { content: None, stat: None };
        let folder = match self.parent(path) {
            Err(Errno::NOENT) => return Ok(Some(absent)),
            // A link or a file where a folder should be; or a way that leads out.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Ok(None),
            folder => folder?,
        };
        let name = name(path);
        let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Some(absent)),
            stat => stat?,
        };
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                Content::Link(target.into_bytes())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
                if !is_same(&rustix::fs::fstat(&file)?, &stat) {
                    return Ok(None);
                }
                // What is longer than any result is none of the sides.
                let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
                let mut bytes = Vec::new();
                File::from(file).take(limit).read_to_end(&mut bytes)?;
                Content::File { bytes, is_executable: stat.st_mode & 0o100 != 0 }
            }
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Ok(None),
        };
        Ok(Some(Present { content: Some(content), stat: Some(stat) }))
    }

    /// Puts `content` where `present` is; `false`: that is not what is there any more, and
    /// nothing was done.
    pub(super) fn write(
        &self,
        path: &TreePath,
        present: &Present,
        content: Option<&Content>,
    ) -> io::Result<bool> {
        let folder = self.make_parent(path)?;
        let name = name(path);
        let Some(content) = content else {
            if !is_still_there(&folder, name, present)? {
                return Ok(false);
            }
            self.unlink(&folder, path.as_path(), AtFlags::empty())?;
            self.remove_empty(path);
            return Ok(true);
        };
        // What a killed process left.
        match rustix::fs::unlinkat(&folder, &*self.waiting, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let waiting = path.as_path().with_file_name(&self.waiting);
        let made = self.bear(&folder, &waiting, || self.make(&folder, present, content));
        let moved = made.and_then(|()| {
            let is_there = is_still_there(&folder, name, present)?;
            if is_there {
                self.rename(&folder, &waiting, path.as_path())?;
            }
            Ok(is_there)
        });
        if !matches!(moved, Ok(true)) {
            rustix::fs::unlinkat(&folder, &*self.waiting, AtFlags::empty()).ok();
        }
        moved
    }

    /// Makes the file under its waiting name.
    fn make(&self, folder: &OwnedFd, present: &Present, content: &Content) -> io::Result<()> {
        let waiting = &*self.waiting;
        let kept = present.stat.as_ref();
        let owner = kept.map(|stat| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        let owner = owner.filter(|_| self.owner.is_some()).or(self.owner);
        let (bytes, is_executable) = match content {
            Content::Link(target) => {
                rustix::fs::symlinkat(&**target, folder, waiting)?;
                if let Some((uid, gid)) = owner {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(folder, waiting, Some(uid), Some(gid), flags)?;
                }
                return Ok(());
            }
            Content::File { bytes, is_executable } => (bytes, *is_executable),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // What is new follows the user's umask.
        let new = Mode::from_raw_mode(if is_executable { 0o777 } else { 0o666 });
        let file = rustix::fs::openat(folder, waiting, flags | OFlags::CLOEXEC, new)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))?;
        }
        let was_file =
            kept.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if let Some(stat) = was_file {
            let mode = stat.st_mode & 0o777;
            // Whoever could read it can run it.
            let with = mode | ((mode & 0o444) >> 2);
            let mode = if is_executable { with } else { mode & !0o111 };
            rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// What has the name; `None` for nothing, or where no folder leads there.
    pub(super) fn look(&self, path: &TreePath) -> io::Result<Option<Stat>> {
        let folder = match self.parent(path) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Ok(None),
            folder => folder?,
        };
        match rustix::fs::statat(&folder, name(path), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => Ok(Some(stat?)),
        }
    }

    /// Makes a folder, and what is missing above it.
    pub(super) fn make_folder(&self, path: &TreePath, mode: u32) -> io::Result<()> {
        let folder = self.make_parent(path)?;
        rustix::fs::mkdirat(&folder, name(path), Mode::RWXU)?;
        if let Some((uid, gid)) = self.owner {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&folder, name(path), Some(uid), Some(gid), flags)?;
        }
        self.set_mode(path, mode)
    }

    /// Removes an empty folder, and what is empty above it then.
    pub(super) fn remove_folder(&self, path: &TreePath) -> io::Result<()> {
        rustix::fs::unlinkat(self.parent(path)?, name(path), AtFlags::REMOVEDIR)?;
        self.remove_empty(path);
        Ok(())
    }

    /// Sets the permissions of a file or folder, and never those of what a link leads to.
    pub(super) fn set_mode(&self, path: &TreePath, mode: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(self.parent(path)?, name(path), flags, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&object)?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(Errno::LOOP.into());
        }
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        Ok(rustix::fs::chmod(own, Mode::from_raw_mode(mode))?)
    }

    fn parent(&self, path: &TreePath) -> Result<OwnedFd, Errno> {
        let parent = path.as_path().parent().filter(|parent| !parent.as_os_str().is_empty());
        self.folder(parent.unwrap_or(Path::new(".")))
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.folder, path, FOLDER | OFlags::PATH, Mode::empty(), BENEATH)
    }

    /// The folder of `path`, made where it is missing.
    fn make_parent(&self, path: &TreePath) -> io::Result<OwnedFd> {
        let mut above = self.folder(Path::new("."))?;
        for folder in path.folders() {
            let path = Path::new(std::ffi::OsStr::from_bytes(folder));
            above = match self.folder(path) {
                Err(Errno::NOENT) => {
                    let name = path.file_name().unwrap_or_default();
                    self.bear(&above, path, || {
                        Ok(rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777))?)
                    })?;
                    if let Some((uid, gid)) = self.owner {
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        rustix::fs::chownat(&above, name, Some(uid), Some(gid), flags)?;
                    }
                    self.folder(path)?
                }
                folder => folder?,
            };
        }
        Ok(above)
    }

    /// Git has no empty folders: what nothing is left in goes too.
    fn remove_empty(&self, path: &TreePath) {
        let folders: Vec<&[u8]> = path.folders().collect();
        for folder in folders.iter().rev() {
            let path = Path::new(std::ffi::OsStr::from_bytes(folder));
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let Ok(above) = self.folder(parent.unwrap_or(Path::new("."))) else { return };
            if self.unlink(&above, path, AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }

    /// Makes what `path`, the name of which is in `folder`, is a new name of.
    fn bear<T>(
        &self,
        folder: &OwnedFd,
        path: &Path,
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some((root, keep)) = &self.keep else { return make() };
        let name = path.file_name().unwrap_or_default().as_bytes();
        let begun = keep.bears(folder, name, &root.join(path));
        let made = make();
        keep.bore(&begun, folder, name, made.is_ok());
        made
    }

    fn unlink(&self, folder: &OwnedFd, path: &Path, flags: AtFlags) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let keep = self
            .keep
            .as_ref()
            .map(|(root, keep)| (keep, keep.loses(folder, name.as_bytes(), &root.join(path))));
        let done = rustix::fs::unlinkat(folder, name, flags);
        if let Some((keep, begun)) = keep {
            keep.ended(&begun, done.is_ok());
        }
        Ok(done?)
    }

    /// Within one folder.
    fn rename(&self, folder: &OwnedFd, from: &Path, to: &Path) -> io::Result<()> {
        let [old, new] = [from, to].map(|path| path.file_name().unwrap_or_default());
        let keep = self.keep.as_ref().map(|(root, keep)| {
            let (one, other) = (root.join(from), root.join(to));
            let (one, other) = ((folder, old.as_bytes(), &*one), (folder, new.as_bytes(), &*other));
            (keep, keep.moves(one, other, false))
        });
        let done = rustix::fs::renameat(folder, old, folder, new);
        if let Some((keep, begun)) = keep {
            keep.ended(&begun, done.is_ok());
        }
        Ok(done?)
    }
}

fn name(path: &TreePath) -> &std::ffi::OsStr {
    path.as_path().file_name().unwrap_or_default()
}

/// Whether nobody changed the file since it was read.
fn is_still_there(folder: &OwnedFd, name: &std::ffi::OsStr, present: &Present) -> io::Result<bool> {
    let now = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => None,
        now => Some(now?),
    };
    Ok(match (&now, &present.stat) {
        (None, None) => true,
        (Some(now), Some(then)) => is_same(now, then),
        _ => false,
    })
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    let key = |stat: &Stat| {
        (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_mode)
    };
    key(one) == key(other)
}
