//! What a first write to each file replaces, kept so that it can be taken back.
//!
//! Whoever is about to change something calls this first, with the folder that it has resolved. A
//! file whose name goes away gets a second name in the store; one that is written in place is
//! copied. The journal says what happened to which name.
//!
//! Invariants:
//! - a line is written before its operation is done, or the operation has a line that says it failed;
//! - a file is kept before its first change, or its line says why not;
//! - nothing here looks at more of the tree than the name at hand.

mod line;
mod objects;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;

pub use line::{Facts, FileId, How, Line, Op};
use objects::Objects;
pub use objects::{COPY_MAX, copy_attributes, object_path};
pub(crate) use objects::{Reach, copy_all, copy_mode_and_times};

/// The journal's name in its folder. It is there before anything is kept, and its first line is its
/// owner's: lines of this module follow.
pub const JOURNAL: &str = "journal";
/// The folder of what was kept, each under a number ([`object_path`]).
pub const OBJECTS: &str = "objects";
/// Its time says when the run was last known to live.
pub const ALIVE: &str = "alive";

/// Keeps what is about to be changed in some folders.
#[derive(Debug)]
pub struct Keep {
    roots: Vec<PathBuf>,
    objects: Objects,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    journal: File,
    lines: u64,
    length: u64,
    /// Of these the content before the first write is kept, or it is known that it is not.
    copied: HashSet<FileId>,
    /// Of these at least type, mode and time.
    noted: HashSet<FileId>,
    /// The value of these extended attributes, or that there was none.
    attributes: HashSet<(FileId, Vec<u8>)>,
    /// These have a name in the store.
    linked: HashSet<FileId>,
    /// These were not there before.
    born: HashSet<FileId>,
    /// Of these folders the time is noted.
    entered: HashSet<FileId>,
    /// Nothing is kept any more.
    is_over: bool,
    /// Why, until it is told.
    broken: Option<io::Error>,
}

/// An operation whose line is written: what became of it is to be said.
#[derive(Debug)]
#[must_use]
pub struct Begun([Option<u64>; 2]);

impl Begun {
    const NOTHING: Self = Self([None, None]);

    fn has_line(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// Which file that is.
pub fn id_of(stat: &Stat) -> FileId {
    FileId { device: stat.st_dev, inode: stat.st_ino }
}

/// What is known of a file by a look at it.
pub fn facts_of(stat: &Stat) -> Facts {
    let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
    let modified = u32::try_from(stat.st_mtime_nsec).ok().map(|nanos| (stat.st_mtime, nanos));
    Facts { mode, uid, gid, modified, changed: Some(changed(stat)) }
}

/// When the file, its mode or its name changed last: nanoseconds since 1970.
pub fn changed(stat: &Stat) -> u64 {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(stat.st_ctime).saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec)
}

/// The time of this machine, in nanoseconds since 1970.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

impl Keep {
    /// Keeps what changes in `roots`, in the folder `store`, which is this process' own to write.
    ///
    /// # Errors
    ///
    /// When the journal is not there, or cannot be written.
    pub fn open(store: &Path, roots: Vec<PathBuf>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let store = rustix::fs::open(store, flags, Mode::empty())?;
        Self::of(&store, roots, Reach::Direct)
    }

    pub(crate) fn of(store: &OwnedFd, roots: Vec<PathBuf>, reach: Reach) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let journal = File::from(rustix::fs::openat(store, JOURNAL, flags, Mode::empty())?);
        let length = journal.metadata()?.len();
        // Whose journal it is may have an empty one left by a run that kept nothing.
        match rustix::fs::mkdirat(store, OBJECTS, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let objects = rustix::fs::openat(store, OBJECTS, flags, Mode::empty())?;
        let state = State {
            journal,
            lines: 0,
            length,
            copied: HashSet::new(),
            noted: HashSet::new(),
            attributes: HashSet::new(),
            linked: HashSet::new(),
            born: HashSet::new(),
            entered: HashSet::new(),
            is_over: false,
            broken: None,
        };
        Ok(Self { roots, objects: Objects::new(objects, reach), state: Mutex::new(state) })
    }

    /// The folder that kept files lie in.
    pub(crate) fn folder(&self) -> &OwnedFd {
        self.objects.folder()
    }

    /// Whether what happens at `path` is kept.
    pub fn covers(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| is_beneath(path, root))
    }

    /// Why nothing is kept from some point on: told once.
    pub fn failure(&self) -> Option<io::Error> {
        self.lock().broken.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name `path`, `name` in `folder`, is about to come into being, if nothing has it yet.
    pub fn bears(&self, folder: impl AsFd, name: &[u8], path: &Path) -> Begun {
        if look(folder.as_fd(), name).is_some() {
            return Begun::NOTHING;
        }
        self.bears_anew(folder, path)
    }

    /// The same of a name that nothing had at the last look, by a call that fails where something has.
    pub(crate) fn bears_anew(&self, folder: impl AsFd, path: &Path) -> Begun {
        if !self.covers(path) {
            return Begun::NOTHING;
        }
        let mut state = self.lock();
        self.enter_for(&mut state, folder.as_fd(), path);
        state.write([Op::Born(path.to_owned())])
    }

    /// The time of the folder behind `object`, called `path`, is about to change.
    pub fn enters(&self, object: impl AsFd, path: &Path) {
        if self.covers(path)
            && let Ok(stat) = rustix::fs::fstat(object)
        {
            self.lock().enter(&stat, path);
        }
    }

    /// A name in `folder` is about to come or go, which is called `path`. Which folder that is, where
    /// it had to be looked at.
    fn enter_for(&self, state: &mut State, folder: BorrowedFd<'_>, path: &Path) -> Option<FileId> {
        let above = path.parent().filter(|above| self.covers(above))?;
        // Without a descriptor of it nothing is lost but its time.
        let stat = rustix::fs::fstat(folder).ok()?;
        state.enter(&stat, above);
        Some(id_of(&stat))
    }

    /// It has, or has not.
    pub fn bore(&self, begun: &Begun, folder: impl AsFd, name: &[u8], done: bool) {
        if !begun.has_line() {
            return;
        }
        match look(folder.as_fd(), name).filter(|_| done) {
            Some(stat) => drop(self.lock().born.insert(id_of(&stat))),
            None => self.ended(begun, done),
        }
    }

    /// It has become this file.
    pub fn bore_file(&self, begun: &Begun, file: impl AsFd) {
        if begun.has_line()
            && let Ok(stat) = rustix::fs::fstat(file)
        {
            self.lock().born.insert(id_of(&stat));
        }
    }

    /// `path` is about to be another name for the file `object`, which is called `from`.
    pub fn links(
        &self,
        (object, from): (impl AsFd, &Path),
        (folder, name, path): (impl AsFd, &[u8], &Path),
    ) -> Begun {
        if !self.covers(path) || look(folder.as_fd(), name).is_some() {
            return Begun::NOTHING;
        }
        let Ok(stat) = rustix::fs::fstat(object) else { return Begun::NOTHING };
        let mut state = self.lock();
        self.enter_for(&mut state, folder.as_fd(), path);
        let (id, is_known) = (id_of(&stat), self.covers(from) && stat.st_nlink > 0);
        if is_known && !state.born.contains(&id) {
            let linked = Op::Linked { from: from.to_owned(), to: path.to_owned(), id };
            return state.write([kept(&stat, How::Facts), linked]);
        }
        state.write([Op::Born(path.to_owned())])
    }

    /// The operation was done, or failed.
    pub fn ended(&self, begun: &Begun, done: bool) {
        // The later line first, as they are read backwards.
        for number in begun.0.into_iter().rev().flatten().filter(|_| !done) {
            drop(self.lock().write([Op::Failed(number)]));
        }
    }

    /// The file behind `object`, called `path`, is about to be changed in place: its content and
    /// mode, or its mode alone.
    pub fn touches(&self, object: impl AsFd, path: &Path, with_content: bool) {
        if !self.covers(path) {
            return;
        }
        let object = object.as_fd();
        let Ok(stat) = rustix::fs::fstat(object) else { return };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let with_content = with_content && kind == FileType::RegularFile;
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return;
        }
        let id = id_of(&stat);
        let mut state = self.lock();
        let is_kept = if with_content { &state.copied } else { &state.noted };
        if state.is_over || state.born.contains(&id) || is_kept.contains(&id) {
            return;
        }
        let how = if with_content { self.objects.copy(object, &stat) } else { How::Facts };
        drop(state.write([kept(&stat, how), Op::Touched(path.to_owned(), id)]));
        state.noted.insert(id);
        if kind == FileType::Directory {
            state.enter(&stat, path);
        }
        if with_content {
            state.copied.insert(id);
        }
    }

    /// The extended attribute `name` of the file behind `object`, called `path`, is about to change.
    pub fn touches_attribute(&self, object: impl AsFd, path: &Path, name: &[u8]) {
        if !self.covers(path) {
            return;
        }
        let object = object.as_fd();
        let Ok(stat) = rustix::fs::fstat(object) else { return };
        let id = id_of(&stat);
        let mut state = self.lock();
        if state.is_over
            || state.born.contains(&id)
            || state.attributes.contains(&(id, name.to_owned()))
        {
            return;
        }
        let how = How::Attribute(name.to_owned(), attribute(object, name));
        drop(state.write([kept(&stat, how), Op::Touched(path.to_owned(), id)]));
        state.attributes.insert((id, name.to_owned()));
    }

    /// The name `path` is about to go away, or to be another file's.
    pub fn loses(&self, folder: impl AsFd, name: &[u8], path: &Path) -> Begun {
        if !self.covers(path) {
            return Begun::NOTHING;
        }
        let folder = folder.as_fd();
        let Some(stat) = look(folder, name) else { return Begun::NOTHING };
        let id = id_of(&stat);
        let mut state = self.lock();
        if state.is_over {
            return Begun::NOTHING;
        }
        let above = self.enter_for(&mut state, folder, path);
        if state.born.contains(&id) {
            return Begun::NOTHING;
        }
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !state.linked.contains(&id) && (!is_folder || !state.noted.contains(&id)) {
            let is_copied = state.copied.contains(&id);
            let how = if is_folder {
                How::Facts
            } else {
                self.objects.link((folder, name, path), (&stat, above), is_copied)
            };
            match &how {
                How::Link(_) => drop(state.linked.insert(id)),
                // The number may be the next file's.
                How::Copy(_) | How::Facts | How::Not(_) | How::Attribute(..) => {
                    state.copied.remove(&id);
                }
            }
            if !is_folder {
                return state.write([kept(&stat, how), Op::Gone(path.to_owned(), id)]);
            }
            drop(state.write([kept(&stat, how)]));
        }
        if is_folder {
            state.noted.remove(&id);
            state.entered.remove(&id);
            state.keep_attributes(&stat, folder, name);
        }
        state.write([Op::Gone(path.to_owned(), id)])
    }

    /// A file is about to get the name `to` instead of `from`. What has that name is lost to it, or
    /// with `swaps` gets the other.
    pub fn moves(
        &self,
        (folder, name, from): (impl AsFd, &[u8], &Path),
        (to_folder, to_name, to): (impl AsFd, &[u8], &Path),
        swaps: bool,
    ) -> Begun {
        if !self.covers(from) && !self.covers(to) {
            return Begun::NOTHING;
        }
        let Some(source) = look(folder.as_fd(), name) else { return Begun::NOTHING };
        let target = look(to_folder.as_fd(), to_name);
        let id = id_of(&source);
        {
            let mut state = self.lock();
            self.enter_for(&mut state, folder.as_fd(), from);
            self.enter_for(&mut state, to_folder.as_fd(), to);
        }
        match target {
            // Two names of one file: the kernel does nothing.
            Some(target) if id_of(&target) == id => return Begun::NOTHING,
            Some(_) if swaps => {
                return self.lock().write([Op::Swapped(from.to_owned(), to.to_owned())]);
            }
            _ => {}
        }
        let Begun([lost, _]) = self.loses(to_folder, to_name, to);
        let moved = Op::Moved { from: from.to_owned(), to: to.to_owned(), id };
        let mut state = self.lock();
        let Begun([moved, _]) = if state.born.contains(&id) {
            state.write([moved])
        } else {
            state.write([kept(&source, How::Facts), moved])
        };
        Begun([lost, moved])
    }
}

/// Whether `path` is `root` or beneath it. Both are as the kernel tells them, so that their bytes can
/// be compared: this is asked several times for each call.
fn is_beneath(path: &Path, root: &Path) -> bool {
    let (path, root) = (path.as_os_str().as_bytes(), root.as_os_str().as_bytes());
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]) || root.ends_with(b"/"))
}

/// The value of an extended attribute of what is behind `object`, a link included.
pub fn attribute(object: impl AsFd, name: &[u8]) -> Option<Vec<u8>> {
    let own = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    objects::with_room(|room| rustix::fs::getxattr(&own, name, room))
}

/// What has the name; a slash at its end is the caller's way to say folder.
fn look(folder: BorrowedFd<'_>, name: &[u8]) -> Option<Stat> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

fn kept(stat: &Stat, how: How) -> Op {
    Op::Kept { id: id_of(stat), facts: facts_of(stat), how }
}

impl State {
    fn enter(&mut self, stat: &Stat, path: &Path) {
        let id = id_of(stat);
        if self.is_over || self.born.contains(&id) || !self.entered.insert(id) {
            return;
        }
        let entered = Op::Entered(path.to_owned(), id);
        // What was noted before has the time of before.
        drop(if self.noted.contains(&id) {
            self.write([entered])
        } else {
            self.write([kept(stat, How::Facts), entered])
        });
    }

    /// A folder that goes away is made anew by an undo, and nothing of it is left but this.
    fn keep_attributes(&mut self, stat: &Stat, folder: BorrowedFd<'_>, name: &[u8]) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(object) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { return };
        for name in objects::attributes(&object) {
            if self.attributes.insert((id_of(stat), name.clone())) {
                let value = attribute(&object, &name);
                drop(self.write([kept(stat, How::Attribute(name, value))]));
            }
        }
    }

    /// Writes a line for each, in one call; the last one's number is the operation's.
    fn write<const COUNT: usize>(&mut self, ops: [Op; COUNT]) -> Begun {
        if self.is_over {
            return Begun::NOTHING;
        }
        let time = now();
        let lines: String = ops.into_iter().map(|op| Line { time, op }.encode()).collect();
        if let Err(error) = self.journal.write_all(lines.as_bytes()) {
            // Half of a line would be read as another one's beginning.
            self.journal.set_len(self.length).ok();
            // So that whoever reads it knows, which needs no room on the disk.
            rustix::fs::fchmod(&self.journal, Mode::RUSR).ok();
            self.broken = Some(error);
            self.is_over = true;
            return Begun::NOTHING;
        }
        self.length += lines.len() as u64;
        self.lines += COUNT as u64;
        Begun([Some(self.lines - 1), None])
    }
}
