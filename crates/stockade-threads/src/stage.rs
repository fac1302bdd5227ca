//! Content on its way into a repository of ours: under a number each, until all of it is hashed at once.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::git::trees::Entry;
use crate::git::{COUNT_MAX, FILE_MAX, ObjectId, TOTAL_MAX};
use crate::patch::FileMode;

/// What is taken.
#[derive(Debug)]
pub(crate) enum Content {
    Link(Vec<u8>),
    File(OwnedFd),
}

/// Where it waits for its name.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) count: usize,
    bytes: u64,
}

impl Stage {
    /// Makes the place in the repository `directory`.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let folder = directory.join("draft");
        // What a killed process left.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(Self { folder, count: 0, bytes: 0 })
    }

    /// Whether two sides of one more file have no room.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= 2 * COUNT_MAX || self.bytes > 2 * TOTAL_MAX
    }

    /// The number that it has; `None`: it is larger than it was said to be.
    pub(crate) fn add(&mut self, content: Content) -> io::Result<Option<usize>> {
        let path = self.folder.join(self.count.to_string());
        let bytes = match content {
            Content::Link(target) => fs::write(&path, target).map(|()| 0)?,
            Content::File(file) => {
                let mut limited = File::from(file).take(FILE_MAX + 1);
                io::copy(&mut limited, &mut File::create(&path)?)?
            }
        };
        if bytes > FILE_MAX {
            // It grew meanwhile. Its number is used again.
            return Ok(None);
        }
        self.bytes += bytes;
        self.count += 1;
        Ok(Some(self.count - 1))
    }
}

/// Content with a number, if there is any.
pub(crate) type Numbered = Option<(FileMode, usize)>;

/// What stands in a tree for it, once all have their `names`.
pub(crate) fn entry(content: Numbered, names: &[ObjectId]) -> Option<Entry> {
    let (mode, number) = content?;
    Some(Entry { mode: mode.bits(), id: names.get(number)?.clone() })
}
