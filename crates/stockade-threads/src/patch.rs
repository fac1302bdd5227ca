//! The diff that comes out of a place where something hostile worked.
//!
//! [`Patch::parse`] reads git's extended format as [`GUEST_DIFF`] makes it, and nothing else: no
//! fuzz, no guesses, no second way to say the same. What is there afterwards has checked paths,
//! one entry a path and known modes. Whether it fits the base is [`take_in`]'s question: it builds the result from
//! the user's own commit and this text, and no git ever runs in what the guest wrote.
//!
//! Everything is bounded: the text, the number of files, what one of them and all together
//! unpack to.

mod binary;
mod intake;
mod parse;
mod path;

use std::borrow::Cow;

pub use intake::{IntakeError, Told, take_in, take_in_commits};
pub use path::{PathFault, TreePath};

use crate::git::ObjectId;
use crate::quote::quoted;

/// How the guest makes its diff: the arguments of `git`, before the base commit.
pub const GUEST_DIFF: [&str; 12] = [
    "diff",
    "--cached",
    "--binary",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-indent-heuristic",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
];

/// The whole text, in bytes.
pub const TEXT_MAX: usize = 256 << 20;
/// How many files may differ.
pub const FILES_MAX: usize = 50_000;
/// One file of the result, in bytes.
pub const FILE_MAX: usize = 64 << 20;
/// All changed files of the result, in bytes.
pub const TOTAL_MAX: usize = 512 << 20;

/// A diff that was read; it borrows from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patch<'a> {
    /// In the order of the text. A path comes once, or twice in a row: gone, and made anew as
    /// something else.
    pub files: Vec<FileChange<'a>>,
}

/// What becomes of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileChange<'a> {
    /// The line of the text at which it starts.
    pub line: usize,
    /// Where.
    pub path: TreePath,
    /// What was there.
    pub before: Option<FileMode>,
    /// What is there then.
    pub after: Option<FileMode>,
    /// The content's names before and after; missing when only the mode changes.
    pub ids: Option<(ObjectId, ObjectId)>,
    /// How the content changes.
    pub edit: Edit<'a>,
}

/// All that a tree can hold, apart from folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// 100644.
    File,
    /// 100755.
    Executable,
    /// 120000: the content is where it leads.
    Link,
    /// 160000: a commit of another repository.
    Submodule,
}

impl FileMode {
    /// As git writes it.
    pub fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Submodule => 0o160_000,
        }
    }

    /// From git's bits.
    pub fn from_bits(bits: u32) -> Option<Self> {
        [Self::File, Self::Executable, Self::Link, Self::Submodule]
            .into_iter()
            .find(|mode| mode.bits() == bits)
    }

    /// Whether it is a file, executable or not.
    pub fn is_file(self) -> bool {
        match self {
            Self::File | Self::Executable => true,
            Self::Link | Self::Submodule => false,
        }
    }
}

/// How content changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Not at all.
    None,
    /// Lines.
    Text(Vec<Hunk<'a>>),
    /// The content itself.
    Literal(Vec<u8>),
    /// Instructions to build it from what was there (gitformat-pack(5), "Deltified
    /// representation").
    Delta(Vec<u8>),
}

/// A run of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hunk<'a> {
    /// Where in the text it starts.
    pub line: usize,
    /// The first line that it covers, from 0.
    pub start: usize,
    /// Its lines.
    pub lines: Vec<HunkLine<'a>>,
}

/// One line, with its line break if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HunkLine<'a> {
    /// What becomes of it.
    pub kind: LineKind,
    /// The line.
    pub text: Cow<'a, [u8]>,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// It stays.
    Context,
    /// It goes.
    Removed,
    /// It comes.
    Added,
}

/// The diff is refused; nothing of it was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the diff: {fault}")]
#[non_exhaustive]
pub struct PatchError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub fault: PatchFault,
}

/// What is wrong with a diff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchFault {
    /// It is not what git writes.
    #[error("{0}")]
    Syntax(&'static str),
    /// It is what git writes when asked for something else.
    #[error("{0} are not taken")]
    Unsupported(&'static str),
    /// A path that no work tree should have.
    #[error("`{}` {fault}", quoted(path))]
    Path {
        /// Which.
        path: Vec<u8>,
        /// Why.
        fault: PathFault,
    },
    /// A mode that git does not write.
    #[error("mode {0} is neither a file, a link nor a submodule")]
    Mode(String),
    /// A path that comes twice.
    #[error("`{}` comes twice", quoted(.0))]
    Duplicate(Vec<u8>),
    /// A path that would be a file and a folder.
    #[error("`{}` would be a file and a folder", quoted(.0))]
    FileAndFolder(Vec<u8>),
    /// The base has something else there.
    #[error("`{}` is not in the base as the diff has it", quoted(.0))]
    Base(Vec<u8>),
    /// The result is not what the diff says that it is.
    #[error("`{}` does not become what the diff says", quoted(.0))]
    Result(Vec<u8>),
    /// Binary content that cannot be unpacked.
    #[error("the binary content of `{}` is broken", quoted(.0))]
    Binary(Vec<u8>),
    /// A link to nowhere.
    #[error("`{}` is a link without a target that a system takes", quoted(.0))]
    Link(Vec<u8>),
    /// More than is taken.
    #[error("{what} exceed {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// At most.
        limit: usize,
    },
}

impl PatchFault {
    fn at(self, line: usize) -> PatchError {
        PatchError { line, fault: self }
    }
}
