//! What a git repository held before a run began, read without git.
//!
//! Programs inside may write every file of the store: none of it is believed. An object counts when its
//! content has its name, and it was there before when a file that nobody has touched since (`st_ctime`,
//! which no program can set) has it or lists it. What a commit that was there before names, its
//! tree and its parents, is fixed by its name, wherever it is read from.
//!
//! No configuration, no replacement, graft, alternate or remote is looked at. Formats:
//! gitrepository-layout(5), gitformat-pack(5).

mod pack;
mod past;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use sha1::Digest as _;

use pack::Pack;
pub(crate) use past::{Entry, Mark, Past, Seen};

/// The longest object that is read, in bytes: a commit, or a folder of 100,000 names.
pub(crate) const CONTENT_MAX: usize = 8 << 20;
/// As many packs as are opened.
const PACKS_MAX: usize = 1 << 10;

/// How objects are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    Sha1,
    Sha256,
}

/// The name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    bytes: [u8; 32],
    length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

/// A moment: seconds since 1970 and nanoseconds.
pub(crate) type Moment = (i64, u32);

impl Format {
    const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The name of what has this content.
    pub(crate) fn name(self, kind: Kind, content: &[u8]) -> Id {
        let head = format!("{} {}\0", kind.word(), content.len());
        match self {
            Self::Sha1 => {
                Id::of(&sha1::Sha1::new().chain_update(head).chain_update(content).finalize())
            }
            Self::Sha256 => {
                Id::of(&sha2::Sha256::new().chain_update(head).chain_update(content).finalize())
            }
        }
    }

    /// The name that `text` begins with.
    fn parse(self, text: &[u8]) -> Option<Id> {
        let digits = text.get(..2 * self.length())?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let bytes = digits.chunks_exact(2).map(|pair| {
            let &[high, low] = pair else { return None };
            Some(digit(high)? << 4 | digit(low)?)
        });
        Some(Id::of(&bytes.collect::<Option<Vec<u8>>>()?))
    }
}

impl Id {
    fn of(name: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(name).for_each(|(byte, given)| *byte = *given);
        Self { bytes, length: name.len().min(32) }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    const ALL: [Self; 4] = [Self::Commit, Self::Tree, Self::Blob, Self::Tag];
}

/// The objects of one repository.
#[derive(Debug)]
pub(crate) struct Objects {
    folder: OwnedFd,
    format: Format,
    since: Moment,
    packs: Vec<Pack>,
}

/// Opens what lies beneath `folder` and is a file, without waiting and by no link.
fn open_file(folder: &OwnedFd, path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve).ok()?;
    let file = File::from(file);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// Whether nobody has changed the file, its name or its mode from `since` on.
fn is_untouched(file: &File, since: Moment) -> bool {
    rustix::fs::fstat(file.as_fd()).is_ok_and(|found| {
        let nanoseconds = u32::try_from(found.st_ctime_nsec).unwrap_or(u32::MAX);
        (found.st_ctime, nanoseconds) < since
    })
}

impl Objects {
    /// The store in the folder at `path`; `None` when there is none, or a link is on the way.
    pub(crate) fn open(path: &Path, format: Format, since: Moment) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS;
        let folder = rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).ok()?;
        let names = std::fs::read_dir(path.join("pack")).into_iter().flatten().flatten();
        let names = names.map(|entry| Path::new("pack").join(entry.file_name()));
        let indexes = names.filter(|name| name.extension().is_some_and(|end| end == "idx"));
        let open = |name: std::path::PathBuf| {
            let index = open_file(&folder, &name)?;
            let pack = open_file(&folder, &name.with_extension("pack"))?;
            Pack::new(index, pack, format)
        };
        let packs = indexes.take(PACKS_MAX).filter_map(open).collect();
        Some(Self { folder, format, since, packs })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn loose(&self, id: &Id) -> Option<File> {
        let mut digits = String::new();
        for byte in id.bytes() {
            write!(digits, "{byte:02x}").ok()?;
        }
        let (folder, rest) = digits.split_at_checked(2)?;
        open_file(&self.folder, &Path::new(folder).join(rest))
    }

    /// Whether the repository held `id` before.
    fn held(&self, id: &Id) -> bool {
        let is_loose = || self.loose(id).is_some_and(|file| is_untouched(&file, self.since));
        self.packs.iter().any(|pack| pack.listed_before(id, self.since)) || is_loose()
    }

    /// The object, whose content has this name.
    fn read(&self, id: &Id) -> Option<(Kind, Vec<u8>)> {
        let is_it = |(kind, content): &(Kind, Vec<u8>)| self.format.name(*kind, content) == *id;
        let packed = self.packs.iter().find_map(|pack| pack.read(id).filter(is_it));
        packed.or_else(|| read_loose(self.loose(id)?).filter(is_it))
    }
}

fn read_loose(file: File) -> Option<(Kind, Vec<u8>)> {
    let mut text = Vec::new();
    let limit = CONTENT_MAX as u64 + 64;
    ZlibDecoder::new(BufReader::new(file)).take(limit).read_to_end(&mut text).ok()?;
    let end = text.iter().position(|byte| *byte == 0)?;
    let kind = Kind::ALL.into_iter().find(|kind| {
        text.strip_prefix(kind.word().as_bytes()).is_some_and(|rest| rest.first() == Some(&b' '))
    })?;
    Some((kind, text.split_off(end + 1)))
}

#[cfg(test)]
mod tests;
