//! The disk with the repository: ext4, filled from a folder by an ordinary user.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};

use crate::cache;
use crate::system::Owner;
use crate::tool::{self, ToolError};

/// The disk could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The repository is larger than the disk may be.
    #[error("the repository and its tables take {} MiB, and the disk of the machine has {}", bytes.div_ceil(1 << 20), disk_bytes >> 20)]
    TooSmall {
        /// What it takes.
        bytes: u64,
        /// What the disk may have.
        disk_bytes: u64,
    },
    /// The host has no room for it.
    #[error("`{}` has {} MiB to spare, and the repository's disk needs {}", folder.display(), free >> 20, bytes.div_ceil(1 << 20))]
    NoSpace {
        /// Where it was to be.
        folder: PathBuf,
        /// What it needs.
        bytes: u64,
        /// What may be used there.
        free: u64,
    },
    /// The program that makes it failed.
    #[error("cannot make the repository's disk")]
    Tool(#[from] ToolError),
    /// The repository could not be read.
    #[error("cannot read the repository at `{}`", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk's file could not be made.
    #[error("cannot make `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DiskError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { .. } => {
                Some("a larger `[cloud] disk` in the configuration".to_owned())
            }
            Self::NoSpace { folder, .. } => {
                Some(format!("free some space on the disk of `{}`", folder.display()))
            }
            Self::Tool(ToolError::Missing(_)) => Some("`sudo apt install e2fsprogs`".to_owned()),
            Self::Tool(_) | Self::Read { .. } | Self::Write { .. } => None,
        }
    }
}

/// Names inside an ext4 that nobody looks for, journal and checksums included: the disk is not
/// used again after a crash.
const FEATURES: &str = "^has_journal,^metadata_csum,^resize_inode";

/// What makes it.
pub(crate) const TOOL: &str = "mke2fs";

/// Makes the disk at `path` from what is in `folder`, which is given to the guest's user when
/// this process may do so.
pub(crate) fn make(
    folder: &Path,
    path: &Path,
    disk_bytes: u64,
    owner: Owner,
    stop: &dyn Fn() -> bool,
) -> Result<(), DiskError> {
    let bytes = prepare(folder, owner)?;
    // Tables of the file system come on top: less than a sixteenth, and a little at least.
    let needed = bytes + bytes / 16 + 16 * 1024 * 1024;
    if needed > disk_bytes {
        return Err(DiskError::TooSmall { bytes: needed, disk_bytes });
    }
    let write = |source| DiskError::Write { path: path.to_owned(), source };
    let parent = path.parent().unwrap_or(path);
    let free = cache::space(parent).map_err(write)?;
    if needed > free {
        return Err(DiskError::NoSpace { folder: parent.to_owned(), bytes: needed, free });
    }
    File::create(path).and_then(|file| file.set_len(disk_bytes)).map_err(write)?;
    let root_owner = format!("lazy_itable_init=1,nodiscard,root_owner={}:{}", owner.uid, owner.gid);
    let arguments = |command: &mut std::process::Command| {
        command.args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-O",
            FEATURES,
            "-E",
            &root_owner,
            "-d",
        ]);
        command.arg(folder).arg(path);
    };
    Ok(tool::run(TOOL, arguments, (Stdio::null(), Stdio::null()), stop)?)
}

/// Counts what `folder` has, in whole blocks, and gives it to the guest's user.
fn prepare(folder: &Path, owner: Owner) -> Result<u64, DiskError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Read { path, source }
    };
    let mut bytes = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().map_err(failed(&path))?;
        bytes += metadata.len().next_multiple_of(4096) + 256;
        if owner.is_given && (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(&path)(error.into()))?;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed(&path))? {
                open.push(entry.map_err(failed(&path))?.path());
            }
        }
    }
    Ok(bytes)
}
