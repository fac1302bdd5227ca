//! What a patch has no word for: folders that stand empty, and permissions.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::{ApplyError, Outcome, Work};
use crate::patch::TreePath;
use crate::record::{ModeChange, Permissions};

/// Bits that let a program be somebody else; of a folder only the one that passes its group on.
const SET_ID: u32 = 0o6000;

impl Work<'_> {
    /// Those folders of `changes` that are not here before anything is applied.
    pub(super) fn absent(&self, changes: &[&ModeChange]) -> Result<BTreeSet<Vec<u8>>, ApplyError> {
        let mut absent = BTreeSet::new();
        for change in changes.iter().filter(|change| change.folder) {
            let (path, bytes) = (change.path.to_path(), super::bytes(change));
            if let Ok(tree) = TreePath::new(&bytes)
                && self.root.look(&tree).map_err(ApplyError::io("look at", &path))?.is_none()
            {
                absent.insert(bytes);
            }
        }
        Ok(absent)
    }

    /// Does one of them. `outcome` is what became of the file's content, where it has one here.
    pub(super) fn mode(
        &self,
        change: &ModeChange,
        outcome: Option<&Outcome>,
    ) -> Result<Outcome, ApplyError> {
        if let Some(outcome) = outcome.filter(|outcome| !outcome.is_clean()) {
            return Ok(outcome.clone());
        }
        let whole = self.changes.root().join(change.path.to_path());
        let Ok(path) = TreePath::new(&super::bytes(change)) else {
            return Ok(Outcome::Refused("its name is not safe on every system"));
        };
        if self.options.never.iter().any(|hidden| whole.starts_with(hidden)) {
            return Ok(Outcome::Refused("it is hidden"));
        }
        if let Some(Err(why)) = self.options.bounds.as_ref().map(|bounds| bounds.change(&whole)) {
            return Ok(Outcome::Refused(why));
        }
        let present = self.root.look(&path).map_err(ApplyError::io("look at", &whole))?;
        let is_kind = |stat: &Stat| {
            let kind = if change.folder { FileType::Directory } else { FileType::RegularFile };
            FileType::from_raw_mode(stat.st_mode) == kind
        };
        let done = match (&present, change.after) {
            (Some(stat), None) if is_kind(stat) => self.remove_folder(&path),
            (None | Some(_), None) => Ok(Outcome::Unchanged),
            (None, Some(after)) if change.folder => {
                self.root.make_folder(&path, after.bits() & !SET_ID).map(|()| Outcome::Applied)
            }
            (None, Some(_)) => Ok(Outcome::Conflict("it is gone here")),
            (Some(stat), Some(_)) if !is_kind(stat) => {
                Ok(Outcome::Conflict("something else stands in its way"))
            }
            (Some(stat), Some(_)) => self.set_mode(&path, stat, change, outcome),
        };
        let done = done.map_err(ApplyError::io("set the mode of", &whole))?;
        Ok(match (outcome, done) {
            (Some(outcome), Outcome::Unchanged | Outcome::Applied)
                if *outcome != Outcome::Unchanged =>
            {
                outcome.clone()
            }
            (_, done) => done,
        })
    }

    fn remove_folder(&self, path: &TreePath) -> io::Result<Outcome> {
        Ok(match self.root.remove_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Outcome::Conflict("the thread removed it, and it is not empty here")
            }
            removed => removed.map(|()| Outcome::Applied)?,
        })
    }

    fn set_mode(
        &self,
        path: &TreePath,
        stat: &Stat,
        change: &ModeChange,
        outcome: Option<&Outcome>,
    ) -> io::Result<Outcome> {
        let now = stat.st_mode & 0o7777;
        let after = change.after.map_or(now, Permissions::bits);
        let before = change.before.map(Permissions::bits);
        // A file that was written just now has the mode that git knows; a new one, any.
        let is_ours = outcome.is_some_and(|outcome| *outcome != Outcome::Unchanged);
        let wanted = (after & !SET_ID) | (now & SET_ID);
        if wanted != now {
            if !is_ours && before.is_some_and(|before| before != now) {
                return Ok(Outcome::Conflict("its mode was changed here"));
            }
            // Whose mode before nobody knows is the user's by now.
            if !is_ours && before.is_none() {
                return Ok(Outcome::Unchanged);
            }
            self.root.set_mode(path, wanted)?;
        }
        if after & SET_ID & !now != 0 && !change.folder {
            return Ok(Outcome::Refused("a set-id bit is yours to set"));
        }
        Ok(if wanted == now { Outcome::Unchanged } else { Outcome::Applied })
    }
}

/// Whether `change` is asked for by one of `paths`.
pub(super) fn is_below(change: &ModeChange, path: &Path) -> bool {
    path == Path::new(".") || change.path.to_path().starts_with(path)
}
