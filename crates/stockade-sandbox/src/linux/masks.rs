//! What stands over hidden paths, of which there may be hundreds: three calls each.
//!
//! A mask is moved onto a name in a folder that was opened without following a link, and neither
//! the name is followed: `move_mount` does so only when it is asked to.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use super::failure::{Failure, step};
use super::mounts::{attach_on, clone_tree, is_absent, open_quietly};

/// An empty thing to clone masks from, and a clone that is not used yet.
#[derive(Debug)]
struct Mask<'a> {
    model: &'a OwnedFd,
    /// What a first attempt left over. To throw it away would wait for the kernel.
    spare: Option<OwnedFd>,
}

/// Puts up masks, in the order of the plan.
#[derive(Debug)]
pub(super) struct Masks<'a> {
    /// An empty folder, an empty file.
    kinds: [Mask<'a>; 2],
    /// Folders of the view in which something was hidden, each inside the one before. A folder is
    /// placed before what is in it, so nothing is mounted over one of them later.
    folders: Vec<(&'a Path, OwnedFd)>,
}

impl<'a> Masks<'a> {
    pub(super) fn new(empty_folder: &'a OwnedFd, empty_file: &'a OwnedFd) -> Self {
        let kinds = [empty_folder, empty_file].map(|model| Mask { model, spare: None });
        Self { kinds, folders: Vec::new() }
    }

    /// Covers `path`. What is gone since it was looked for, or has become a link, has nothing to
    /// hide.
    pub(super) fn hide(&mut self, path: &'a Path) -> Result<(), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(step("hide", path)(Errno::INVAL));
        };
        let Some(folder) = folder_at(&mut self.folders, parent)? else { return Ok(()) };
        let [of_folder, of_file] = &mut self.kinds;
        // To ask which it is would cost more than to try.
        let (likely, other) =
            if is_file_mostly(name) { (of_file, of_folder) } else { (of_folder, of_file) };
        // What a folder over a file gives, and a file over a folder.
        let error = match likely.cover(folder, name.as_ref(), path) {
            Err(error) if error.errno == libc::EINVAL => other.cover(folder, name.as_ref(), path),
            result => result,
        };
        let Err(error) = error else { return Ok(()) };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statat(folder, name, flags) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Ok(()),
            Err(gone) if is_absent(&gone.into()) => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Puts away what is left over, on the scratch that nobody sees.
    pub(super) fn finish(self) -> Result<(), Failure> {
        for Mask { model, spare } in self.kinds {
            if let Some(spare) = spare {
                attach_on(&spare, model).map_err(step("put away", "a mask"))?;
            }
        }
        Ok(())
    }
}

impl Mask<'_> {
    fn cover(&mut self, folder: &OwnedFd, name: &Path, path: &Path) -> Result<(), Failure> {
        let tree = match self.spare.take() {
            Some(spare) => spare,
            None => clone_tree(self.model, path)?,
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", folder, name, flags).map_err(|error| {
            self.spare = Some(tree);
            step("hide", path)(error)
        })
    }
}

/// Whether what is called so is a file more often than a folder. A wrong guess costs one call.
fn is_file_mostly(name: &OsStr) -> bool {
    const ENDINGS: [&[u8]; 8] =
        [b"rc", b"history", b"hst", b"hsts", b"cfg", b"info", b"credentials", b"token"];
    // Of programs from an app store.
    const FOLDERS: [&[u8]; 3] = [b"com.", b"org.", b"io."];
    let bytes = name.as_bytes();
    let has_ending = ENDINGS.iter().any(|ending| bytes.ends_with(ending));
    let is_folder = FOLDERS.iter().any(|start| bytes.starts_with(start));
    has_ending || (Path::new(name).extension().is_some() && !is_folder)
}

/// The folder at `path` as the view shows it now.
fn folder_at<'a, 'b>(
    folders: &'b mut Vec<(&'a Path, OwnedFd)>,
    path: &'a Path,
) -> Result<Option<&'b OwnedFd>, Failure> {
    while folders.last().is_some_and(|(above, _)| !is_within(path, above)) {
        folders.pop();
    }
    if folders.last().is_none_or(|(above, _)| *above != path) {
        match open_quietly(path) {
            Ok(fd) => folders.push((path, fd)),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(step("open", path)(error)),
        }
    }
    Ok(folders.last().map(|(_, fd)| fd))
}

/// By their bytes: both are normalized.
fn is_within(path: &Path, folder: &Path) -> bool {
    let (path, folder) = (path.as_os_str().as_bytes(), folder.as_os_str().as_bytes());
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder == b"/")
}
