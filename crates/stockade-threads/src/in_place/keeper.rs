//! What a yes changes outside is kept for undo as the boundary keeps what is changed in its roots.
//!
//! Each folder outside has a journal of its own, begun by the first change in it: a run in which nobody
//! says yes pays nothing.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD};
use stockade_policy::AbsPath;
use stockade_sandbox::keep::{Begun, Keep};

use super::InPlace;
use crate::ThreadId;
use crate::undo::{Segment, missing};

/// The journals of one run or thread.
pub(super) struct Keeper {
    /// The store and the thread; `None` keeps nothing.
    of: Option<(PathBuf, ThreadId)>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    kept: Vec<(Segment, Arc<Keep>)>,
    failure: Option<String>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("of", &self.of).finish_non_exhaustive()
    }
}

/// One name in a folder that is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) path: &'a Path,
}

/// Who keeps what is done to one or two names.
#[derive(Debug, Default, Clone)]
pub(super) struct Kept(Vec<Arc<Keep>>);

impl Keeper {
    pub(super) fn new(of: Option<(PathBuf, ThreadId)>) -> Self {
        Self { of, open: Mutex::default() }
    }

    /// Who keeps what is done in a folder like `root`, which is there and the user's to write.
    fn of(&self, path: &Path, root: &dyn Fn() -> PathBuf) -> Option<Arc<Keep>> {
        let (store, id) = self.of.as_ref()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keep)) = open.kept.iter().find(|(_, keep)| keep.covers(path)) {
            return Some(Arc::clone(keep));
        }
        match begin((store, id), root()) {
            Ok((segment, keep)) => {
                let keep = Arc::new(keep);
                open.kept.push((segment, Arc::clone(&keep)));
                Some(keep)
            }
            Err(error) => {
                let text = || format!("`stockade undo` will not have {}: {error}", path.display());
                open.failure.get_or_insert_with(text);
                None
            }
        }
    }

    /// Nothing is changed any more. What the user should know.
    pub(super) fn end(&self) -> Vec<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: Vec<String> = open.failure.take().into_iter().collect();
        for (segment, keep) in std::mem::take(&mut open.kept) {
            let failure = keep.failure();
            let text =
                |error| format!("`stockade undo` has not all that was done outside: {error}");
            told.extend(failure.map(text).or_else(|| missing(&segment)));
        }
        told
    }
}

fn begin((store, id): (&Path, &ThreadId), root: PathBuf) -> io::Result<(Segment, Keep)> {
    let root = AbsPath::new(root).map_err(io::Error::other)?;
    let segment = Segment::begin(store, id, vec![root])?;
    let keep = segment.keep().inspect_err(|_| segment.forget())?;
    Ok((segment, keep))
}

impl InPlace<'_> {
    /// Who keeps what is done to `paths`.
    pub(super) fn kept(&self, paths: &[&Path]) -> Kept {
        let mut kept: Vec<Arc<Keep>> = Vec::new();
        for path in paths {
            let found = self.keeper.of(path, &|| self.root_of(path));
            kept.extend(found.filter(|keep| !kept.iter().any(|other| Arc::ptr_eq(other, keep))));
        }
        Kept(kept)
    }

    /// The widest folder above `path` that is one piece of work and its user's to write: an undo needs
    /// a place there.
    fn root_of(&self, path: &Path) -> PathBuf {
        let folder = path.parent().unwrap_or(path);
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let is_own =
            |folder: &&Path| rustix::fs::accessat(CWD, *folder, access, AtFlags::EACCESS).is_ok();
        let may = |folder: &&Path| self.may_be_offered(folder) && is_own(folder);
        folder.ancestors().take_while(may).last().unwrap_or(folder).to_owned()
    }
}

impl Kept {
    #[cfg(test)]
    pub(super) const fn nobody() -> Self {
        Self(Vec::new())
    }

    /// `act` gives the name to something new; says whether it is a file that is open then.
    pub(super) fn bears<T: AsFd>(
        &self,
        name: At<'_>,
        act: impl FnOnce() -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let begun = self.each(|keep| keep.bears(name.folder, name.name, name.path));
        let made = act();
        for (keep, begun) in &begun {
            match &made {
                Ok(Some(file)) => keep.bore_file(begun, file),
                Ok(None) => keep.bore(begun, name.folder, name.name, true),
                Err(_) => keep.ended(begun, false),
            }
        }
        made
    }

    /// `act` takes the name away.
    pub(super) fn loses(
        &self,
        name: At<'_>,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let begun = self.each(|keep| keep.loses(name.folder, name.name, name.path));
        ended(&begun, act())
    }

    /// `act` gives what has the name `from` the name `to`.
    pub(super) fn moves(
        &self,
        (from, to): (At<'_>, At<'_>),
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        // Whose root the new name is in keeps what it replaces, and the other one knows of the move.
        let mut others = self.0.iter().filter(|keep| !keep.covers(from.path));
        let lost = others.next().map(|keep| (keep, keep.loses(to.folder, to.name, to.path)));
        let lost: Vec<_> = lost.into_iter().collect();
        let source = self.0.iter().filter(|keep| keep.covers(from.path)).map(|keep| {
            let names = ((from.folder, from.name, from.path), (to.folder, to.name, to.path));
            (keep, keep.moves(names.0, names.1, false))
        });
        let begun: Vec<_> = lost.into_iter().chain(source).collect();
        ended(&begun, act())
    }

    /// `act` makes `to` another name of `object`, which is called `from`.
    pub(super) fn links(
        &self,
        (object, from, to): (impl AsFd, &Path, At<'_>),
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let names = (object.as_fd(), from);
        let begun = self.each(|keep| keep.links(names, (to.folder, to.name, to.path)));
        ended(&begun, act())
    }

    /// What is behind `object` is about to be changed in place.
    pub(super) fn touches(&self, object: impl AsFd, path: &Path, with_content: bool) {
        for keep in &self.0 {
            keep.touches(object.as_fd(), path, with_content);
        }
    }

    /// An extended attribute of what is behind `object` is about to be changed.
    pub(super) fn touches_attribute(&self, object: impl AsFd, path: &Path, name: &str) {
        for keep in &self.0 {
            keep.touches_attribute(object.as_fd(), path, name.as_bytes());
        }
    }

    fn each(&self, begin: impl Fn(&Keep) -> Begun) -> Vec<(&Arc<Keep>, Begun)> {
        self.0.iter().map(|keep| (keep, begin(keep))).collect()
    }
}

fn ended(begun: &[(&Arc<Keep>, Begun)], done: io::Result<()>) -> io::Result<()> {
    // The later line first, as they are read backwards.
    for (keep, begun) in begun.iter().rev() {
        keep.ended(begun, done.is_ok());
    }
    done
}
