//! What is noted for the end of the run: cost goes by what is noted, and is nothing else.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;
use stockade_policy::git_index;
use stockade_policy::guard::{Act, Noted, Tree as _};

use super::{Done, Files, Stop, config, staged};

impl Files {
    /// The call that is about to be done makes `folder` a repository.
    pub(super) fn completes(&self, folder: PathBuf) -> Result<(), Stop> {
        config::renew(&folder, self.keep.as_deref())?;
        self.note(Noted::Repository(folder))
    }

    /// A folder that is about to be made: named so, it is a repository with what comes into it.
    pub(super) fn note_made(&self, path: &Path) -> Result<(), Stop> {
        let is_writable = || self.guard.roots().iter().any(|root| path.starts_with(root.as_path()));
        // One that is there already is somebody else's.
        if staged::is_git_file(path) && is_writable() && self.disk.kind(path).is_none() {
            return self.note(Noted::Repository(path.to_owned()));
        }
        Ok(())
    }

    /// A file that git obeys is about to be written: in a repository that the run made, all of it
    /// is looked at.
    pub(super) fn note_controlled(&self, path: &Path) -> Result<(), Stop> {
        match path.parent().filter(|folder| self.notes.is_some() && self.disk.is_new(folder)) {
            Some(folder) => self.note(Noted::Repository(folder.to_owned())),
            None => Ok(()),
        }
    }

    /// A `.git` file that is about to be written.
    pub(super) fn note_git_file(&self, path: &Path) -> Result<(), Stop> {
        if staged::is_git_file(path) { self.note(Noted::GitFile(path.to_owned())) } else { Ok(()) }
    }

    /// An index that may be about to be written, by whatever call.
    pub(super) fn note_index(&self, path: &Path, act: &Act<'_>) -> Result<(), Stop> {
        let name = path.file_name().unwrap_or_default();
        if *act == Act::Remove || !git_index::is_one(name.as_bytes()) {
            return Ok(());
        }
        self.note(Noted::Index(path.to_owned()))
    }

    /// A name that is refused. What has it already is not of this call's making.
    pub(super) fn note_refused(&self, path: &Path) {
        if self.disk.kind(path).is_none() {
            // It is refused, whether it is noted or not.
            self.note(Noted::Absent(path.to_owned())).ok();
        }
    }

    fn note(&self, note: Noted) -> Result<(), Stop> {
        let Some(notes) = &self.notes else { return Ok(()) };
        Ok(notes.take(&self.guard, note)?)
    }

    /// Does `rename`; what is noted below one of the names is noted below the other.
    pub(super) fn renaming(
        &self,
        (from, to): (&Path, &Path),
        flags: RenameFlags,
        rename: impl FnOnce() -> Result<(), Stop>,
    ) -> Result<Done, Stop> {
        let Some(notes) = &self.notes else { return rename().map(|()| Done::NOTHING) };
        let both = [(from, to), (to, from)];
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let names = if exchange { &both[..] } else { &both[..1] };
        notes.rename(&self.guard, names, rename).map(|()| Done::NOTHING)
    }
}
