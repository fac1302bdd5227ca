//! What commits that were there before a run have at a path.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Format, Id, Kind, Moment, Objects};

/// As many commits as are looked at for one question, and for how long at most.
const COMMITS_MAX: usize = 1 << 14;
const TIME_MAX: Duration = Duration::from_secs(2);
/// As many commits with a name as are looked at in any case.
const NAMED_MAX: usize = 256;
/// As many names as are read from one place.
const NAMES_MAX: usize = 1 << 14;
/// As much of the log of what was checked out, in bytes.
const LOG_MAX: usize = 64 << 10;
/// The longest list of references, in bytes.
const LIST_MAX: u64 = 16 << 20;
/// Depth of folders of references.
const DEPTH_MAX: usize = 16;

/// What a tree has under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As git writes it: octal 100644, 100755, 120000, 040000, 160000.
    pub(crate) mode: u32,
    pub(crate) id: Id,
}

impl Entry {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.mode, 0o100_644 | 0o100_755 | 0o100_664)
    }

    pub(crate) fn is_program(&self) -> bool {
        self.mode == 0o100_755
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.mode == 0o040_000
    }
}

/// What a commit has at a path: nothing is a value too.
pub(crate) type Seen = Option<Entry>;

/// Where a look begins. Who makes two of them the same is refused what they would have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// The commits of a repository that were there before.
#[derive(Debug)]
pub(crate) struct Past {
    objects: Objects,
    tips: Vec<Id>,
}

impl Past {
    /// Of the repository with the git directory `own`, whose common part is `common`, before
    /// `since`. `None` when there is nothing that could be read.
    pub(crate) fn of(own: &Path, common: &Path, since: Moment) -> Option<Self> {
        let config = fs::read_to_string(common.join("config")).unwrap_or_default();
        let is_sha256 = config.lines().any(|line| {
            let line = line.to_ascii_lowercase();
            line.split_once('=').is_some_and(|(key, value)| {
                key.trim() == "objectformat" && value.trim() == "sha256"
            })
        });
        let format = if is_sha256 { Format::Sha256 } else { Format::Sha1 };
        let objects = Objects::open(&common.join("objects"), format, since)?;
        let tips = tips(own, common, format);
        Some(Self { objects, tips })
    }

    /// Tells whether another look begins with the same commits.
    pub(crate) fn mark(&self) -> Mark {
        let mut mark = DefaultHasher::new();
        self.tips.hash(&mut mark);
        Mark(mark.finish())
    }

    pub(crate) fn format(&self) -> Format {
        self.objects.format()
    }

    /// Shows to `look` what the commits have at `path`, those with a name first, and all of these,
    /// unless there are many; then until it has seen enough. The same tree is shown once.
    pub(crate) fn look(&self, path: &[&[u8]], look: &mut dyn FnMut(Seen) -> ControlFlow<()>) {
        let mut named = self.tips.len().min(NAMED_MAX);
        let mut has_seen_enough = false;
        let until = Instant::now() + TIME_MAX;
        // Whether a commit was there before: known of what one that was names.
        let mut queue: VecDeque<(Id, bool)> = self.tips.iter().map(|id| (*id, false)).collect();
        let mut known: HashMap<Id, bool> = HashMap::new();
        let mut trees: HashSet<Id> = HashSet::new();
        while let Some((id, is_named)) = queue.pop_front() {
            if known.len() >= COMMITS_MAX
                || Instant::now() >= until
                || (has_seen_enough && named == 0)
            {
                return;
            }
            named = named.saturating_sub(1);
            if known.get(&id).is_some_and(|held| *held || !is_named) {
                continue;
            }
            let Some((kind, content)) = self.objects.read(&id) else { continue };
            let held = is_named || self.objects.held(&id);
            known.insert(id, held);
            match kind {
                Kind::Tag => {
                    queue.extend(names(&content, "object", self.format()).map(|id| (id, held)));
                }
                Kind::Commit => {
                    queue.extend(names(&content, "parent", self.format()).map(|id| (id, held)));
                    let tree = names(&content, "tree", self.format()).next();
                    let Some(tree) = tree.filter(|_| held) else { continue };
                    if trees.insert(tree)
                        && let Some(seen) = self.at(tree, path)
                    {
                        has_seen_enough |= look(seen).is_break();
                    }
                }
                Kind::Tree | Kind::Blob => {}
            }
        }
    }

    /// What `tree` has at `path`; `None` when that cannot be read.
    fn at(&self, tree: Id, path: &[&[u8]]) -> Option<Seen> {
        let mut at = Entry { mode: 0o040_000, id: tree };
        for name in path {
            if !at.is_folder() {
                return Some(None);
            }
            let (Kind::Tree, content) = self.objects.read(&at.id)? else { return None };
            match entries(&content, self.format()).find(|(known, _)| known == name) {
                Some((_, entry)) => at = entry,
                None => return Some(None),
            }
        }
        Some(Some(at))
    }
}

/// The objects that the lines of a commit's or tag's head that begin with `key` name.
fn names<'a>(content: &'a [u8], key: &'a str, format: Format) -> impl Iterator<Item = Id> + 'a {
    let lines = content.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    lines.filter_map(move |line| {
        let rest = line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
        format.parse(rest).filter(|_| rest.len() == 2 * format.length())
    })
}

/// Mode, a space, a name, a zero byte, and the name of the object, one after the other.
fn entries(mut rest: &[u8], format: Format) -> impl Iterator<Item = (&[u8], Entry)> {
    std::iter::from_fn(move || {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let (mode, after) = rest.split_at_checked(space)?;
        let end = after.iter().position(|byte| *byte == 0)?;
        let name = after.get(1..end)?;
        let id = after.get(end + 1..end + 1 + format.length())?;
        rest = after.get(end + 1 + format.length()..)?;
        let mode = u32::from_str_radix(str::from_utf8(mode).ok()?, 8).ok()?;
        Some((name, Entry { mode, id: Id::of(id) }))
    })
}

/// Where to begin, as the repository says now: whatever is named here has to be found to have been
/// there. The order is that of what is most likely asked about.
fn tips(own: &Path, common: &Path, format: Format) -> Vec<Id> {
    let mut found = Vec::new();
    let mut take = |text: &[u8]| {
        let words = text.split(|byte| byte.is_ascii_whitespace() || *byte == b'^');
        let whole = words.filter(|word| word.len() == 2 * format.length());
        found.extend(whole.filter_map(|word| format.parse(word)).take(NAMES_MAX));
    };
    let small = |path: &Path| read(path, LIST_MAX).unwrap_or_default();
    for name in ["HEAD", "ORIG_HEAD", "rebase-merge/orig-head", "rebase-merge/onto"] {
        take(&small(&own.join(name)));
    }
    let mut files = Vec::new();
    references(&common.join("refs"), DEPTH_MAX, &mut files);
    for path in &files {
        take(&small(path));
    }
    // The last lines tell what a branch was before it was changed.
    let log = small(&own.join("logs/HEAD"));
    take(log.get(log.len().saturating_sub(LOG_MAX)..).unwrap_or_default());
    take(&small(&common.join("packed-refs")));
    let mut seen = HashSet::new();
    found.retain(|id| seen.insert(*id));
    found
}

fn references(folder: &Path, depth: usize, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if found.len() >= NAMES_MAX {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => references(&entry.path(), depth - 1, found),
            _ => {}
        }
    }
}

/// A file that is one, and not waited for.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    use rustix::fs::{CWD, Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut text).ok()?;
    Some(text)
}
