//! What Stockade keeps, and what of it may go: by age and size.
//!
//! A list of cleaners, each of which says what it would remove and why; removing is another step,
//! so that both are the same with `--dry-run`. What holds work that nobody has taken in (a thread
//! with changes) is never among it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::ThreadId;
use crate::record::State;
use crate::store::{Store, StoreError};
use crate::{caches, held, undo};

const DAY: Duration = Duration::from_hours(24);
const MIB: u64 = 1 << 20;

/// What is kept of one sort.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    age: Duration,
    bytes: u64,
    /// What is younger stays, however much there is.
    least: Duration,
}

impl Bounds {
    const fn new(age: Duration, bytes: u64) -> Self {
        Self { age, bytes, least: Duration::ZERO }
    }
}

/// What the user wants to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Records of runs.
    pub runs: Duration,
    /// Threads that hold no changes.
    pub threads: Duration,
    /// What undo has.
    pub undo: Duration,
    /// And how much of it.
    pub undo_bytes: u64,
}

impl Kept {
    /// Runs leave a few KiB each.
    fn runs(&self) -> Bounds {
        Bounds::new(self.runs, 64 * MIB)
    }

    /// Threads that changed nothing, or whose changes were discarded.
    fn threads(&self) -> Bounds {
        Bounds::new(self.threads, 1024 * MIB)
    }

    /// What threads replaced: a file that was removed takes its room until then.
    fn undo(&self) -> Bounds {
        Bounds::new(self.undo, self.undo_bytes)
    }
}

/// What is younger does not go unasked for its size: somebody may still want yesterday's undone.
const LEAST: Duration = DAY.saturating_mul(7);

/// How often is looked for what is old, unasked.
const TURN: Duration = DAY;

/// Says when that was.
const MARK: &str = "cleaned";

/// Machines that were lost.
const MACHINES: Bounds = Bounds::new(DAY.saturating_mul(90), 1024 * MIB);
/// What runs left behind that may not stay, until somebody wants it.
const HELD: Bounds = Bounds::new(DAY.saturating_mul(90), 256 * MIB);
/// The files that machines boot from can be made again.
const IMAGES: Bounds = Bounds::new(DAY.saturating_mul(30), 20 * 1024 * MIB);
/// What set-ups of machines have left: made again by the script.
const SETUPS: Bounds = Bounds::new(DAY.saturating_mul(30), 10 * 1024 * MIB);
/// What runs have written to caches, for each workspace.
const LAYERS: Bounds = Bounds::new(DAY.saturating_mul(30), 20 * 1024 * MIB);

/// Something that may go.
#[derive(Debug)]
pub struct Item {
    /// Of which sort.
    pub sort: &'static str,
    /// Why.
    pub why: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
    way: Way,
}

/// How it goes.
#[derive(Debug)]
enum Way {
    Thread(Store, ThreadId),
    /// What undo has of a thread.
    Undo(Store, ThreadId),
    /// A folder of a thread that nobody works on.
    Machine(Store, ThreadId),
    File,
    Layer(caches::Kept),
    Held,
}

impl Item {
    /// Removes it; `false` when it is in use now.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove(&self) -> io::Result<bool> {
        match &self.way {
            Way::Thread(store, id) => match store.remove(id) {
                Ok(()) => Ok(true),
                Err(StoreError::Busy(_)) => Ok(false),
                Err(error) => Err(io::Error::other(error)),
            },
            Way::Undo(store, id) => undo::remove(store.root(), id),
            Way::Machine(store, id) => match store.resume(id) {
                // Held meanwhile, so that nobody goes on with the thread.
                Ok(_thread) => fs::remove_dir_all(&self.path).map(|()| true),
                Err(StoreError::Busy(_)) => Ok(false),
                Err(error) => Err(io::Error::other(error)),
            },
            Way::File => fs::remove_file(&self.path).map(|()| true),
            Way::Layer(layer) => layer.remove(),
            Way::Held => crate::draft::remove_tree(&self.path).map(|()| true),
        }
    }
}

/// Something that is kept, before anybody has said whether it may go.
struct Seen {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// A reason of its own.
    why: Option<&'static str>,
    way: Way,
}

/// All that may go at the time `now`, of the store at `state` and of the cache folder.
///
/// # Errors
///
/// When the store cannot be read.
pub fn find(
    state: &Path,
    cache: Option<&Path>,
    (kept, now): (&Kept, SystemTime),
) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    if state.is_dir() {
        let store = Store::open(state)?;
        items.extend(records(&store, kept, Duration::ZERO, now)?);
        items.extend(bounded("quarantine", quarantine(state), HELD, now));
        items.extend(bounded("disks of lost machines", machines(&store)?, MACHINES, now));
    }
    if let Some(cache) = cache {
        let (setups, images) = images(cache);
        items.extend(bounded("images of machines", images, IMAGES, now));
        items.extend(bounded("results of set-ups", setups, SETUPS, now));
        items.extend(bounded("layers of caches", layers(cache), LAYERS, now));
    }
    Ok(items)
}

/// What may go unasked: records of what is over and holds nobody's work, and what undo has of it
/// when that is old. Quarantines, machines and caches stay until somebody cleans.
///
/// # Errors
///
/// When the store cannot be read.
pub fn find_old(state: &Path, (kept, now): (&Kept, SystemTime)) -> Result<Vec<Item>, StoreError> {
    if !state.is_dir() {
        return Ok(Vec::new());
    }
    records(&Store::open(state)?, kept, LEAST, now)
}

/// Records that may go, and what undo has; nothing younger than `least` for its size.
fn records(
    store: &Store,
    kept: &Kept,
    least: Duration,
    now: SystemTime,
) -> Result<Vec<Item>, StoreError> {
    let (runs, threads) = threads(store)?;
    let of = |sort, seen, bounds: Bounds| {
        bounded(sort, seen, Bounds { least: least.min(bounds.age), ..bounds }, now)
    };
    let mut items = of("records of runs", runs, kept.runs());
    items.extend(of("threads without changes", threads, kept.threads()));
    items.extend(of("what undo has", undos(store)?, kept.undo()));
    Ok(items)
}

/// Whether it is time to look for that again; if so, the next time is a day later.
pub fn is_due(state: &Path, now: SystemTime) -> bool {
    let mark = state.join(MARK);
    let last = fs::symlink_metadata(&mark).and_then(|data| data.modified());
    // One from the future is a clock that was wrong.
    let is_due = last.is_ok_and(|last| now.duration_since(last).is_ok_and(|age| age < TURN));
    // Where nothing can be written, nothing can be removed either.
    !is_due && state.is_dir() && fs::write(&mark, "").is_ok()
}

/// Those that are too old, have a reason of their own, or are the oldest of too many.
fn bounded(sort: &'static str, mut seen: Vec<Seen>, bounds: Bounds, now: SystemTime) -> Vec<Item> {
    seen.sort_by_key(|seen| std::cmp::Reverse(seen.used));
    let mut kept = 0_u64;
    let mut items = Vec::new();
    for Seen { path, bytes, used, why, way } in seen {
        let age = now.duration_since(used).unwrap_or_default();
        let too_old = (age > bounds.age).then_some("not used for long");
        let is_more = kept + bytes > bounds.bytes && age >= bounds.least;
        let too_many = is_more.then_some("more than is kept");
        match why.or(too_old).or(too_many) {
            Some(why) => items.push(Item { sort, why, path, bytes, way }),
            None => kept += bytes,
        }
    }
    items
}

/// Ended threads that hold nobody's work: runs, and others.
fn threads(store: &Store) -> Result<(Vec<Seen>, Vec<Seen>), StoreError> {
    let (mut runs, mut others) = (Vec::new(), Vec::new());
    for summary in store.list(None)? {
        let Ok(id) = summary.id.parse::<ThreadId>() else { continue };
        if !summary.state.is_final() || summary.changes > 0 {
            continue;
        }
        let (path, is_run) = store.at(&id);
        // What was interrupted may hold work that no record counts.
        if !is_run && summary.state == State::Interrupted {
            continue;
        }
        let way = Way::Thread(store.clone(), id);
        let used = modified(&if is_run { path.clone() } else { path.join("events.jsonl") });
        let seen = Seen { bytes: size(&path, 8), used, why: None, way, path };
        if is_run { &mut runs } else { &mut others }.push(seen);
    }
    Ok((runs, others))
}

/// What undo has of threads that have ended, and of such as are gone.
fn undos(store: &Store) -> Result<Vec<Seen>, StoreError> {
    let mut alive: HashMap<String, bool> = HashMap::new();
    for summary in store.list(None)? {
        alive.insert(summary.id, !summary.state.is_final());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(store.root().join(undo::UNDO)).into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<ThreadId>() else { continue };
        let path = entry.path();
        let why = match alive.get(id.as_str()) {
            Some(true) => continue,
            Some(false) => None,
            None => Some("its thread is gone"),
        };
        let (bytes, used) = (size(&path, 64), modified(&path));
        found.push(Seen { path, bytes, used, why, way: Way::Undo(store.clone(), id) });
    }
    Ok(found)
}

/// What a machine leaves whose Stockade was killed. To go on, a thread makes another.
fn machines(store: &Store) -> Result<Vec<Seen>, StoreError> {
    let mut found = Vec::new();
    for summary in store.list(None)?.into_iter().filter(|summary| summary.state.is_final()) {
        let Ok(id) = summary.id.parse::<ThreadId>() else { continue };
        let path = store.folder(&id).join("machine");
        if path.is_dir() {
            let (bytes, used) = (size(&path, 64), modified(&path));
            let why = Some("its machine is gone");
            found.push(Seen { path, bytes, used, why, way: Way::Machine(store.clone(), id) });
        }
    }
    Ok(found)
}

fn quarantine(state: &Path) -> Vec<Seen> {
    let seen = |path: PathBuf| {
        let (bytes, used) = (size(&path, 64), modified(&path));
        Seen { path, bytes, used, why: None, way: Way::Held }
    };
    held::all(state).into_iter().map(seen).collect()
}

/// What set-ups have left, and the rest that machines are made of.
fn images(cache: &Path) -> (Vec<Seen>, Vec<Seen>) {
    let (mut setups, mut images) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        // One that is being built has a name that starts with a dot.
        if is_hidden || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let (bytes, used) = (size(&path, 0), modified(&path));
        let is_setup = name.as_encoded_bytes().starts_with(b"setup-");
        let found = if is_setup { &mut setups } else { &mut images };
        found.push(Seen { bytes, used, why: None, way: Way::File, path });
    }
    (setups, images)
}

fn layers(cache: &Path) -> Vec<Seen> {
    let mut found = Vec::new();
    for layer in caches::kept(cache) {
        let path = layer.folder().to_owned();
        let why = (!layer.workspace.exists()).then_some("its workspace is gone");
        let used = [path.clone(), path.join("upper"), path.join("work/work")];
        let used = used.iter().map(|path| modified(path)).max().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Seen { bytes: size(&path, 64), used, why, way: Way::Layer(layer), path });
    }
    found
}

fn modified(path: &Path) -> SystemTime {
    let time = fs::symlink_metadata(path).and_then(|data| data.modified());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What `path` takes on the disk, with what is in it to this depth; no link is followed.
fn size(path: &Path, depth: u32) -> u64 {
    let Ok(data) = fs::symlink_metadata(path) else { return 0 };
    let own = data.blocks() * 512;
    if depth == 0 || !data.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold(own, |sum, entry| sum.saturating_add(size(&entry.path(), depth - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;
    use crate::store::NewThread;

    #[test]
    fn of_too_much_the_oldest_go_and_what_is_too_old_goes_in_any_case() {
        let now = SystemTime::now();
        let seen = |name: &str, bytes, days: u32, why| {
            let (path, used) = (PathBuf::from(name), now - DAY * days);
            Seen { path, bytes, used, why, way: Way::File }
        };
        let all = || {
            vec![
                seen("large", 70, 2, None),
                seen("old", 1, 31, None),
                seen("new", 40, 0, None),
                seen("small", 50, 3, None),
                seen("lost", 1, 1, Some("its workspace is gone")),
            ]
        };
        let items = bounded("files", all(), Bounds::new(DAY * 30, 100), now);
        let told: Vec<_> = items.iter().map(|it| (it.path.to_str().unwrap(), it.why)).collect();
        let expected = [
            ("lost", "its workspace is gone"),
            ("large", "more than is kept"),
            ("old", "not used for long"),
        ];
        assert_eq!(told, expected);
        // Unasked nothing that is young goes for its size.
        let bounds = Bounds { least: DAY * 3, ..Bounds::new(DAY * 30, 60) };
        let items = bounded("files", all(), bounds, now);
        let told: Vec<_> = items.iter().map(|it| it.path.to_str().unwrap()).collect();
        assert_eq!(told, ["lost", "small", "old"]);
    }

    #[test]
    fn it_is_looked_once_a_day_whatever_the_clock_said() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let due = |at: SystemTime| is_due(folder.path(), at);
        assert!(due(now) && !due(now) && !due(now + DAY / 2) && due(now + DAY * 2));
        let mark = fs::File::options().write(true).open(folder.path().join(MARK)).unwrap();
        mark.set_modified(now + DAY * 400).unwrap();
        assert!(due(now), "the clock was wrong");
        assert!(!is_due(&folder.path().join("missing"), now));
    }

    #[test]
    fn the_disk_of_a_lost_machine_goes_and_its_thread_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let new = NewThread {
            kind: Kind::Cloud,
            workspace: "/w".into(),
            title: String::new(),
            mode: String::new(),
            approvals: String::new(),
            enforcement: Vec::new(),
            policy: String::new(),
            agent: None,
            with_changes: false,
        };
        let thread = store.create(&new).unwrap();
        let disk = thread.folder().join("machine/repository.ext4");
        fs::create_dir(disk.parent().unwrap()).unwrap();
        fs::write(&disk, "disk").unwrap();
        let kept = Kept { runs: DAY, threads: DAY, undo: DAY, undo_bytes: MIB };
        let found = || find(folder.path(), None, (&kept, SystemTime::now())).unwrap();
        assert!(found().is_empty(), "it is at work");
        drop(thread);
        let items = found();
        assert_eq!((items.len(), items[0].sort), (1, "disks of lost machines"));
        let again = store.resume(&store.list(None).unwrap()[0].id.parse().unwrap()).unwrap();
        assert!(!items[0].remove().unwrap() && disk.exists(), "it goes on just now");
        drop(again);
        assert!(items[0].remove().unwrap() && !disk.exists());
        assert_eq!(store.list(None).unwrap().len(), 1);
    }
}
