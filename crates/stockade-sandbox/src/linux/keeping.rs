//! Opening the store of what a run replaces, and telling that the run lives.
//!
//! The store is hidden in the view, and is reached by a copy of the host's mount that holds both it
//! and the workspace: on two mounts no file can have two names.

use std::fs::{File, FileTimes};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::OpenTreeFlags;

use super::failure::{Failure, step};
use super::mounts::{clone_tree, open, open_quietly};
use crate::keep::{self, Keep, Reach};
use crate::launch::Keeping;

/// Opens the store. To be called before the view is built, which hides it, if one `is_viewed`.
pub(super) fn begin(keeping: &Keeping, is_viewed: bool) -> Result<Keep, Failure> {
    let path = keeping.store.as_path();
    let roots: Vec<_> = keeping.roots.iter().map(|root| root.as_path().to_owned()).collect();
    let store = open(path)?;
    if !is_viewed {
        return Keep::of(&store, roots, Reach::Direct).map_err(step("keep a journal in", path));
    }
    let near = roots.first().and_then(|root| Some((common(root, path)?, root)));
    let near = near.filter(|(above, root)| are_on_one_mount(&[above, root, path]));
    if let Some((above, _)) = near
        && let Ok(tree) = clone(above)
        && let Ok(inner) = path.strip_prefix(above)
    {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let store = rustix::fs::openat2(&tree, inner, flags, Mode::empty(), resolve)
            .map_err(step("open", path))?;
        let reach = Reach::Beneath(tree, above.to_owned());
        return Keep::of(&store, roots, reach).map_err(step("keep a journal in", path));
    }
    let tree = clone_tree(&store, path)?;
    Keep::of(&tree, roots, Reach::Direct).map_err(step("keep a journal in", path))
}

/// The folder that both are in.
fn common<'a>(one: &'a Path, other: &Path) -> Option<&'a Path> {
    one.ancestors().find(|folder| other.starts_with(folder))
}

fn are_on_one_mount(paths: &[&Path]) -> bool {
    let mount = |path: &&Path| {
        let folder = open_quietly(path).ok()?;
        let stat = rustix::fs::statx(&folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        Some(stat.stx_mnt_id)
    };
    let mounts: Vec<_> = paths.iter().map(mount).collect();
    mounts.iter().all(|mount| mount.is_some() && Some(mount) == mounts.first())
}

/// A copy of the mount at `path`, with what is mounted below only where the kernel insists: what
/// another user's namespace mounted there may not be uncovered.
fn clone(path: &Path) -> Result<OwnedFd, Failure> {
    let folder = open(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    match rustix::mount::open_tree(&folder, "", flags) {
        Ok(tree) => Ok(tree),
        Err(_) => clone_tree(&folder, path),
    }
}

/// Says now and then that the run lives: whoever looks after a kill knows until when what changed
/// was the run's. A run that lives for less than the first pause leaves no such file.
#[derive(Debug)]
pub(super) struct Beat {
    path: PathBuf,
    file: Option<File>,
    next: Instant,
}

impl Beat {
    const PAUSE: Duration = Duration::from_millis(900);

    pub(super) fn begin(keeping: &Keeping) -> Self {
        let path = keeping.store.as_path().join(keep::ALIVE);
        Self { path, file: None, next: Instant::now() + Self::PAUSE }
    }

    /// One more, if it is time.
    pub(super) fn beat(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Self::PAUSE;
            // A time that is too old leaves more to the user's eye, never less.
            if let Some(file) = &self.file {
                file.set_times(FileTimes::new().set_modified(SystemTime::now())).ok();
            } else {
                let mut options = File::options();
                self.file = options.write(true).create(true).truncate(false).open(&self.path).ok();
            }
        }
    }
}
