//! The journals of a thread on the disk.
//!
//! ```text
//! ROOT/undo/ID/N-run/       one for each boundary: journal, objects/, alive
//! ROOT/undo/ID/N-undo/      what an undo replaced, by the same means; N-redo likewise
//! ROOT/undo/ID/N-undo/back  the names that it took back
//! ROOT/undo/ID/N-*/ended    its time is when nothing wrote any more
//! ROOT/undo/ID/lock         held by who takes back
//! ROOT/undo/spare-N/1-run/  of a run that changed nothing, for the next
//! ```
//!
//! The first line of a journal is its [`Shape`]; a run that changed nothing leaves nothing. Every
//! file less is felt by each start: to make and remove one costs more than ten other calls.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode as FileMode, OFlags, Timespec};
use serde::{Deserialize, Serialize};
use stockade_policy::{AbsPath, Mode, Policy};
use stockade_sandbox::Keeping;
use stockade_sandbox::keep::{
    ALIVE, FileId, How, JOURNAL, Keep, Line, OBJECTS, Op, now, object_path,
};

use super::plan::Object;
use super::reverted::Reverted;
use crate::ThreadId;
use crate::folder::{self, canonical, make_private};
use crate::record::PathText;

/// The folder of all of them in the store.
pub(crate) const UNDO: &str = "undo";
const ENDED: &str = "ended";
/// The names that an undo has taken back, each with a zero after it.
const BACK: &str = "back";
/// Marks an undo that left nothing.
const WHOLE: &str = "whole";
const LOCK: &str = "lock";
/// The first journal of a thread.
const FIRST: &str = "1-run";

/// A first line is filled up to a multiple of this, so that those of most runs are equally long.
const FIRST_LINE: usize = 512;

/// How much longer than its last sign of life a run that was killed may have written.
const SLACK: u64 = 2_000_000_000;
/// As many lines at the end of a killed run may tell of what never happened.
const OPEN_LINES: usize = 8;

/// Why a journal was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sort {
    Run,
    Undo,
    Redo,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shape {
    sort: Sort,
    roots: Vec<PathText>,
}

/// A journal that is being written.
#[derive(Debug, Clone)]
pub struct Segment {
    folder: PathBuf,
    roots: Vec<AbsPath>,
    sort: Sort,
    /// How long the journal is while nothing is in it.
    empty: u64,
}

/// What the user is told when nothing can be kept.
fn not_kept(error: &io::Error) -> String {
    format!("`stockade undo` will have nothing of this: {error}")
}

/// What the user is told of files whose content was too much.
pub fn missing(segment: &Segment) -> Option<String> {
    let missing = segment.end().ok()?;
    let (path, why) = missing.first()?;
    let more = missing.len() - 1;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "`stockade undo` cannot restore {} ({why}){more}",
        crate::quoted(path.as_os_str().as_bytes())
    ))
}

/// The folder of a thread.
pub(crate) fn folder(root: &Path, id: &ThreadId) -> PathBuf {
    root.join(UNDO).join(id.as_str())
}

impl Segment {
    /// Begins one for a boundary of the thread `id` that may write to `roots`, in the store at `root`.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn begin(root: &Path, id: &ThreadId, roots: Vec<AbsPath>) -> io::Result<Self> {
        Self::of(&folder(root, id), Sort::Run, roots)
    }

    pub(crate) fn of(thread: &Path, sort: Sort, roots: Vec<AbsPath>) -> io::Result<Self> {
        let texts = || roots.iter().map(|root| PathText::from(root.as_path())).collect();
        let mut line = serde_json::to_vec(&Shape { sort, roots: texts() })?;
        let length = (line.len() + 1).next_multiple_of(FIRST_LINE);
        line.resize(length - 1, b' ');
        line.push(b'\n');
        if sort == Sort::Run
            && let Some(folder) = taken(thread)?
        {
            rewrite(&folder.join(JOURNAL), &line)?;
            return Ok(Self { folder, roots, sort, empty: line.len() as u64 });
        }
        let thread = {
            make_private(thread)?;
            // The sandbox follows no link.
            canonical(thread)?
        };
        let last = list(&thread)?.last().map_or(0, |(number, _)| *number);
        let name = match sort {
            Sort::Run => "run",
            Sort::Undo => "undo",
            Sort::Redo => "redo",
        };
        for number in last + 1..last + 1000 {
            let folder = thread.join(format!("{number}-{name}"));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            let mut options = File::options();
            let options = options.write(true).create_new(true).mode(0o600);
            options.open(folder.join(JOURNAL))?.write_all(&line)?;
            return Ok(Self { folder, roots, sort, empty: line.len() as u64 });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The same for a boundary of `policy`, with words for the user where there can be none. `direct` are roots that are no part of the work: an agent's state.
    pub(crate) fn of_policy(
        root: &Path,
        id: &ThreadId,
        (policy, direct): (&Policy, &[PathBuf]),
    ) -> Result<Option<Self>, String> {
        if policy.mode != Mode::WorkspaceWrite {
            return Ok(None);
        }
        let is_work = |path: &&AbsPath| !direct.iter().any(|state| path.as_path() == state);
        let mut roots: Vec<AbsPath> = policy.writable.iter().filter(is_work).cloned().collect();
        // That of the workspace decides where files can have a second name.
        roots.sort_by_key(|root| !policy.workspace.is_within(root));
        Self::begin(root, id, roots).map(Some).map_err(|error| not_kept(&error))
    }

    /// What the sandbox is to be told.
    ///
    /// # Panics
    ///
    /// Never: the folder's path was made absolute.
    pub fn keeping(&self) -> Keeping {
        let store = AbsPath::new(self.folder.clone()).expect("invariant: an absolute path");
        Keeping { store, roots: self.roots.clone() }
    }

    /// What keeps in it what this process changes.
    pub(crate) fn keep(&self) -> io::Result<Keep> {
        let roots = self.roots.iter().map(|root| root.as_path().to_owned());
        Keep::open(&self.folder, roots.collect())
    }

    /// Whether its boundary, which is up, keeps anything: there are some that cannot.
    pub(crate) fn is_kept(&self) -> bool {
        self.folder.join(OBJECTS).exists()
    }

    /// Nothing writes any more. The names whose content is not kept, with the reason.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn end(&self) -> io::Result<Vec<(PathBuf, String)>> {
        if self.sort == Sort::Run
            && fs::metadata(self.folder.join(JOURNAL)).is_ok_and(|it| it.len() == self.empty)
        {
            // A run that changed nothing keeps nothing; other journals of the thread stay.
            if !self.put_by() {
                self.remove()?;
            }
            return Ok(Vec::new());
        }
        File::create(self.folder.join(ENDED))?;
        let mut missing: HashMap<FileId, String> = HashMap::new();
        let mut found = Vec::new();
        for line in lines(&self.folder)? {
            match line {
                Op::Kept { id, how: How::Not(why), .. } => drop(missing.insert(id, why)),
                Op::Gone(path, id) | Op::Touched(path, id) => {
                    found.extend(missing.remove(&id).map(|why| (path, why)));
                }
                Op::Kept { .. }
                | Op::Born(_)
                | Op::Linked { .. }
                | Op::Moved { .. }
                | Op::Swapped(..)
                | Op::Entered(..)
                | Op::Failed(_) => {}
            }
        }
        Ok(found)
    }

    /// These were taken back: the next undo leaves them alone.
    pub(crate) fn mark_back<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let all: Vec<u8> =
            paths.flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        fs::write(self.folder.join(BACK), all)
    }

    /// All was taken back.
    pub(crate) fn mark_whole(&self) -> io::Result<()> {
        File::create(self.folder.join(WHOLE)).map(drop)
    }

    /// Nothing ran: nothing of it stays.
    pub fn forget(&self) {
        self.remove().ok();
    }

    /// Leaves it to a later run, if it is as that would make it.
    fn put_by(&self) -> bool {
        let above = || Some((self.folder.parent()?, self.folder.parent()?.parent()?));
        let Some((thread, all)) = above() else { return false };
        fs::remove_file(self.folder.join(ALIVE)).ok();
        let is_usual =
            |data: fs::Metadata| data.is_file() && data.permissions().mode() & 0o777 == 0o600;
        self.folder.ends_with(FIRST)
            && has_only(thread, &[FIRST])
            && has_only(&self.folder, &[JOURNAL, OBJECTS])
            && has_only(&self.folder.join(OBJECTS), &[])
            && fs::symlink_metadata(self.folder.join(JOURNAL)).is_ok_and(is_usual)
            && folder::put_by(all, thread)
    }

    fn remove(&self) -> io::Result<()> {
        // Mostly that is all there is.
        fs::remove_file(self.folder.join(JOURNAL)).ok();
        fs::remove_dir(self.folder.join(OBJECTS)).ok();
        if fs::remove_dir(&self.folder).is_err() {
            fs::remove_dir_all(&self.folder)?;
        }
        self.folder.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// Takes what an earlier run has put by for `thread`, which has nothing yet: the folder of its first
/// journal.
fn taken(thread: &Path) -> io::Result<Option<PathBuf>> {
    let all = thread.parent().unwrap_or(thread);
    if !folder::spares(all).any(|spare| fs::rename(spare, thread).is_ok()) {
        return Ok(None);
    }
    // How old it is decides how long it stays.
    let now = rustix::fs::Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        last_modification: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    };
    rustix::fs::utimensat(CWD, thread, &now, AtFlags::SYMLINK_NOFOLLOW)?;
    // The sandbox follows no link.
    Ok(Some(canonical(thread)?.join(FIRST)))
}

/// Puts `line` in the place of a journal's only one. A file that is cut to nothing and written again
/// is given another block, ext4 writes it to the disk when it is closed, and where it discards blocks
/// whoever cuts waits for the disk.
fn rewrite(journal: &Path, line: &[u8]) -> io::Result<()> {
    let mut journal = File::options().write(true).open(journal)?;
    if journal.metadata()?.len() != line.len() as u64 {
        journal.set_len(0)?;
    }
    journal.write_all(line)
}

/// Whether `folder` is one, and has these entries and no others.
fn has_only(folder: &Path, names: &[&str]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(CWD, folder, flags, FileMode::empty())
        .map_err(io::Error::from)
        .and_then(folder::names);
    found.is_ok_and(|found| {
        found.len() == names.len() && found.iter().all(|name| names.iter().any(|it| name == it))
    })
}

/// The operations of one journal; what failed is not among them.
fn lines(folder: &Path) -> io::Result<Vec<Op>> {
    Ok(read(folder)?.1.into_iter().map(|line| line.op).collect())
}

/// The first line as it is, and what follows.
fn read(folder: &Path) -> io::Result<(Vec<u8>, Vec<Line>)> {
    let mut file = BufReader::new(File::open(folder.join(JOURNAL))?);
    let mut shape = Vec::new();
    file.read_until(b'\n', &mut shape)?;
    let mut all: Vec<Option<Line>> = Vec::new();
    for line in file.split(b'\n') {
        // Whatever stands after a line that was cut off is not to be trusted.
        let Some(line) = std::str::from_utf8(&line?).ok().and_then(Line::decode) else { break };
        if let Op::Failed(number) = line.op {
            let failed = usize::try_from(number).ok().and_then(|number| all.get_mut(number));
            failed.map(Option::take);
            all.push(None);
        } else {
            all.push(Some(line));
        }
    }
    Ok((shape, all.into_iter().flatten().collect()))
}

pub(super) fn list(thread: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(thread)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// One journal that is over.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) folder: PathBuf,
    pub(crate) sort: Sort,
    pub(crate) is_whole: bool,
    pub(crate) roots: Vec<PathBuf>,
    pub(super) lines: Vec<Line>,
    /// Nothing was kept any more from some line on.
    is_cut: bool,
    /// What changed later was not by it: nanoseconds.
    pub(super) end: u64,
}

/// All journals of a thread, held for this process.
#[derive(Debug)]
pub(crate) struct Journals {
    pub(crate) all: Vec<Journal>,
    pub(crate) folder: PathBuf,
    _lock: File,
}

impl Journals {
    /// Opens those of a thread; `None` when it has none.
    ///
    /// With `settles`, which is for a thread that has ended, what can only be told now is written
    /// down: what a killed run still did, and until when it lived.
    pub(crate) fn open(root: &Path, id: &ThreadId, settles: bool) -> io::Result<Option<Self>> {
        Self::locked((root, id), FlockOperation::NonBlockingLockExclusive, settles)
    }

    /// Opens those of a thread to look at them, while it is at work too; `None` when it has none.
    pub(crate) fn look(root: &Path, id: &ThreadId) -> io::Result<Option<Self>> {
        Self::locked((root, id), FlockOperation::LockShared, false)
    }

    fn locked(
        (root, id): (&Path, &ThreadId),
        operation: FlockOperation,
        settles: bool,
    ) -> io::Result<Option<Self>> {
        let folder = folder(root, id);
        if !folder.is_dir() {
            return Ok(None);
        }
        let options = &mut File::options();
        let lock = options.write(true).create(true).truncate(false).open(folder.join(LOCK))?;
        rustix::fs::flock(&lock, operation)?;
        let all = list(&folder)?.into_iter().map(|(_, path)| Journal::open(path, settles));
        let all = all.collect::<io::Result<Vec<_>>>()?;
        Ok((!all.is_empty()).then_some(Self { all, folder, _lock: lock }))
    }

    /// Where a kept file lies.
    pub(crate) fn object(&self, object: Object) -> PathBuf {
        let journal = self.all.get(object.journal);
        let folder = journal.map(|journal| journal.folder.join(OBJECTS)).unwrap_or_default();
        let path = folder.join(object_path(object.number));
        if path.symlink_metadata().is_ok() {
            return path;
        }
        // In stores of before there was one folder for all.
        folder.join(object.number.to_string())
    }

    /// Whether one of them does not have all that happened.
    pub(crate) fn are_cut(&self) -> bool {
        self.all.iter().any(|journal| journal.is_cut)
    }

    /// The folders that they are of.
    pub(crate) fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<PathBuf> =
            self.all.iter().flat_map(|journal| journal.roots.iter().cloned()).collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// The operations of the journals from `first` on, in order of time.
    pub(crate) fn ops(&self, first: usize) -> Vec<(usize, Op)> {
        let mut lines: Vec<_> = self
            .all
            .iter()
            .enumerate()
            .skip(first)
            .flat_map(|(index, journal)| journal.lines.iter().map(move |line| (index, line)))
            .collect();
        lines.sort_by_key(|(_, line)| line.time);
        lines.into_iter().map(|(index, line)| (index, line.op.clone())).collect()
    }

    /// What was taken back since the thread last did anything, and since the last redo.
    pub(crate) fn back(&self) -> HashSet<PathBuf> {
        let undos = self.all.iter().rev().take_while(|journal| journal.sort == Sort::Undo);
        // One that was killed has not said what it had done: it is judged anew.
        let said = undos.filter_map(|journal| fs::read(journal.folder.join(BACK)).ok());
        let paths = |said: Vec<u8>| -> Vec<PathBuf> {
            let names = said.split(|&byte| byte == 0).filter(|name| !name.is_empty());
            names.map(|name| OsStr::from_bytes(name).into()).collect()
        };
        said.flat_map(paths).collect()
    }

    /// Until when what changed at each path was ours.
    pub(crate) fn ends(&self) -> Ends {
        let mut ends = Ends { began: now(), ..Ends::default() };
        for journal in &self.all {
            if journal.sort == Sort::Run {
                ends.all = ends.all.max(journal.end);
                continue;
            }
            for line in &journal.lines {
                if let Op::Kept { id, .. } = line.op {
                    let end = ends.files.entry(id).or_default();
                    *end = (*end).max(journal.end);
                }
            }
            for path in journal.lines.iter().flat_map(|line| names(&line.op)) {
                let end = ends.named.entry(path.to_owned()).or_default();
                *end = (*end).max(journal.end);
            }
        }
        ends
    }
}

/// See [`Journals::ends`].
#[derive(Debug, Default)]
pub(crate) struct Ends {
    named: HashMap<PathBuf, u64>,
    /// What is done to a file by one name is seen by all.
    files: HashMap<FileId, u64>,
    all: u64,
    /// From then on what changes is this process' doing.
    began: u64,
    /// What other threads' undos have made what it was.
    reverted: Vec<Reverted>,
}

impl Ends {
    /// Whether what is at `path`, which changed at `time`, is as we left it.
    pub(crate) fn is_ours(&self, path: &Path, (id, time): (FileId, u64)) -> bool {
        // A later thread's undo leaves a file as it was before that thread, so what counts is when
        // it had changed by then. That is always earlier.
        let earlier = |it: &Reverted| it.before(id, time).filter(|before| *before < time);
        self.is_left(path, (id, time))
            || self.reverted.iter().filter_map(earlier).any(|it| self.is_ours(path, (id, it)))
    }

    /// The same with what undos of other threads have left.
    pub(crate) fn beside(self, reverted: Vec<Reverted>) -> Self {
        Self { reverted, ..self }
    }

    fn is_left(&self, path: &Path, (id, time): (FileId, u64)) -> bool {
        time <= self.all
            || time >= self.began
            || self.files.get(&id).is_some_and(|end| time <= *end)
            || path.ancestors().any(|path| self.named.get(path).is_some_and(|end| time <= *end))
    }
}

fn names(op: &Op) -> Vec<&Path> {
    match op {
        Op::Born(path) | Op::Gone(path, _) | Op::Touched(path, _) => vec![path],
        Op::Linked { from, to, .. } | Op::Moved { from, to, .. } | Op::Swapped(from, to) => {
            vec![from, to]
        }
        Op::Kept { .. } | Op::Entered(..) | Op::Failed(_) => Vec::new(),
    }
}

impl Journal {
    pub(super) fn open(folder: PathBuf, settles: bool) -> io::Result<Self> {
        let (text, mut lines) = read(&folder)?;
        let shape: Shape = serde_json::from_slice(&text)?;
        let modified = |name: &str| Some(nanos(&fs::metadata(folder.join(name)).ok()?));
        let ended = modified(ENDED);
        let broke = fs::metadata(folder.join(JOURNAL))
            .is_ok_and(|data| data.permissions().mode() & 0o200 == 0);
        let end = match ended {
            Some(end) if !broke => end,
            _ if broke => modified(JOURNAL).unwrap_or(0),
            _ => modified(ALIVE).unwrap_or(0).max(modified(JOURNAL).unwrap_or(0)) + SLACK,
        };
        if ended.is_none() {
            drop_the_unhappened(&mut lines);
        }
        let roots = shape.roots.iter().map(PathText::to_path).collect();
        if settles && ended.is_none() {
            let lines = lines.iter().flat_map(|line| line.encode().into_bytes());
            let whole: Vec<u8> = text.into_iter().chain(lines).collect();
            let new = folder.join("journal.new");
            fs::write(&new, whole)?;
            fs::rename(new, folder.join(JOURNAL))?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(end);
            File::create(folder.join(ENDED))?.set_modified(time)?;
        }
        let (sort, is_whole) = (shape.sort, folder.join(WHOLE).exists());
        Ok(Self { folder, sort, is_whole, roots, lines, is_cut: broke, end })
    }
}

/// The last lines of a run that was killed may have been written for nothing. What can be told by
/// looking is: only where no later line is about the same names.
fn drop_the_unhappened(lines: &mut Vec<Line>) {
    let mut later: Vec<PathBuf> = Vec::new();
    for index in (lines.len().saturating_sub(OPEN_LINES)..lines.len()).rev() {
        let Some(op) = lines.get(index).map(|line| &line.op) else { continue };
        let named: Vec<PathBuf> = names(op).into_iter().map(Path::to_owned).collect();
        if never_happened(op) && !named.iter().any(|name| later.contains(name)) {
            lines.remove(index);
        }
        later.extend(named);
    }
}

/// Whether the old name still has the file, and the new one has not.
fn never_happened(op: &Op) -> bool {
    let Op::Moved { from, to, id } = op else { return false };
    let has = |path: &Path| {
        fs::symlink_metadata(path)
            .is_ok_and(|data| FileId { device: data.dev(), inode: data.ino() } == *id)
    };
    has(from) && !has(to)
}

fn nanos(data: &fs::Metadata) -> u64 {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(data.mtime()).saturating_mul(1_000_000_000).saturating_add(part(data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    struct Lab(tempfile::TempDir);

    impl Lab {
        fn root(&self) -> PathBuf {
            self.0.path().canonicalize().unwrap()
        }

        /// A run that has got as far as the sandbox takes it.
        fn run(&self, id: &ThreadId, work: &str) -> Segment {
            let roots = vec![AbsPath::new(work).unwrap()];
            let segment = Segment::begin(&self.root(), id, roots).unwrap();
            let store = segment.folder.join(OBJECTS);
            fs::create_dir(&store).or_else(|_| fs::read_dir(&store).map(drop)).unwrap();
            segment
        }

        fn names(&self) -> Vec<String> {
            let all = fs::read_dir(self.root().join(UNDO)).unwrap().flatten();
            let mut all: Vec<_> = all.map(|it| it.file_name().into_string().unwrap()).collect();
            all.sort();
            all
        }
    }

    #[test]
    fn a_run_that_changed_nothing_leaves_its_folder_to_the_next() {
        let lab = Lab(tempfile::tempdir().unwrap());
        let (one, other) = (ThreadId::generate(), ThreadId::generate());
        let first = lab.run(&one, "/a/long/name/of/a/workspace");
        let inode = |segment: &Segment| fs::metadata(&segment.folder).unwrap().ino();
        let was = inode(&first);
        fs::write(first.folder.join(ALIVE), "").unwrap();
        assert_eq!(first.end().unwrap(), []);
        assert_eq!(lab.names(), ["spare-0"]);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let spare = File::open(lab.root().join(UNDO).join("spare-0")).unwrap();
        spare.set_modified(old).unwrap();
        let second = lab.run(&other, "/w");
        assert_eq!((inode(&second), lab.names()), (was, vec![other.to_string()]));
        let text = fs::read_to_string(second.folder.join(JOURNAL)).unwrap();
        assert_eq!(text.trim_end(), "{\"sort\":\"run\",\"roots\":[{\"path\":\"/w\"}]}");
        assert_eq!(text.len(), FIRST_LINE);
        let time = fs::metadata(folder(&lab.root(), &other)).unwrap().modified().unwrap();
        assert!(time > old + Duration::from_hours(24), "it is as old as its run");
        let third = lab.run(&one, "/w");
        assert_ne!(inode(&third), was, "two runs at once have two");
        let both = [second.end().unwrap(), third.end().unwrap()];
        assert_eq!(
            (both, lab.names()),
            ([vec![], vec![]], vec!["spare-0".into(), "spare-1".into()])
        );
    }

    #[test]
    fn a_journal_that_is_taken_over_keeps_its_blocks() {
        let lab = Lab(tempfile::tempdir().unwrap());
        lab.run(&ThreadId::generate(), "/a/long/name/of/a/workspace").end().unwrap();
        let journal = lab.root().join(UNDO).join("spare-0").join(FIRST).join(JOURNAL);
        let journal = File::options().write(true).open(journal).unwrap();
        // Beyond the end: to cut the file gives them back.
        let beyond = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&journal, beyond, 0, 1 << 20).unwrap();
        let blocks = || journal.metadata().unwrap().blocks();
        let before = blocks();
        assert!(before >= 2048, "{before}");
        lab.run(&ThreadId::generate(), "/w");
        assert_eq!(blocks(), before);
    }

    #[test]
    fn what_a_later_run_would_not_make_so_is_not_left_to_it() {
        let spoilers: [fn(&Segment); 5] = [
            |it| fs::write(it.folder.join(OBJECTS).join("0"), "forged").unwrap(),
            |it| fs::write(it.folder.join("other"), "").unwrap(),
            |it| fs::write(it.folder.join("../lock"), "").unwrap(),
            |it| {
                let journal = it.folder.join(JOURNAL);
                fs::set_permissions(journal, Permissions::from_mode(0o400)).unwrap();
            },
            |it| {
                let objects = it.folder.join(OBJECTS);
                fs::remove_dir(&objects).unwrap();
                std::os::unix::fs::symlink("/tmp", objects).unwrap();
            },
        ];
        for spoil in spoilers {
            let lab = Lab(tempfile::tempdir().unwrap());
            let segment = lab.run(&ThreadId::generate(), "/w");
            spoil(&segment);
            segment.end().unwrap();
            assert!(!segment.folder.exists());
            assert!(!lab.names().iter().any(|name| name.starts_with("spare")));
        }
        // One that another boundary of the thread has begun beside.
        let lab = Lab(tempfile::tempdir().unwrap());
        let id = ThreadId::generate();
        let (first, second) = (lab.run(&id, "/w"), lab.run(&id, "/w"));
        assert_ne!(first.folder, second.folder);
        first.end().unwrap();
        assert_eq!(lab.names(), [id.to_string()]);
    }
}
