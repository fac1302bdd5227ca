//! What is said of a write that only a read-only mount refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::wish::{Given, Wish};
use super::{Files, Turn};
use crate::linux::asks::Change;
use crate::linux::supervisor::place::{self, Found, Place};

/// As many roots as one sentence names.
const NAMED: usize = 5;

/// Folders of the machine that no flag of the user's opens.
const NEVER: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

impl Files {
    /// Where the call would have landed.
    pub(super) fn landing(&self, turn: &Turn<'_>, wish: &Wish) -> Option<PathBuf> {
        match wish {
            Wish::Open { at, .. } | Wish::Truncate { at, .. } | Wish::Mode { at, .. } => {
                followed(turn, at)
            }
            Wish::MakeFolder { at, .. }
            | Wish::MakeNode { at, .. }
            | Wish::Symlink { at, .. }
            | Wish::Remove { at, .. } => placed(turn, at),
            Wish::Link { to, .. } => placed(turn, to),
            Wish::Rename { from, to, .. } => {
                let is_inside = |path: &PathBuf| self.is_writable(path);
                let from = placed(turn, from);
                from.filter(|path| !is_inside(path)).or_else(|| placed(turn, to))
            }
            Wish::ModeOf { descriptor, .. } => {
                let file = turn.caller.object(*descriptor).ok()?;
                place::name_of(&file).ok()
            }
            Wish::Metadata(wanted) => wanted.landing(turn),
            Wish::Bind { .. } => None,
        }
    }

    /// What of a call that landed at `target`, outside, somebody may be asked about. Both ends of a
    /// rename are: from a folder that can be written, it could be swapped meanwhile.
    pub(super) fn change(&self, turn: &Turn<'_>, wish: &Wish, target: &Path) -> Option<Change> {
        let target = target.to_owned();
        match wish {
            Wish::MakeFolder { at, mode } if names(at, true) => {
                Some(Change::MakeFolder { path: target, mode: *mode & 0o777 })
            }
            Wish::MakeNode { at, mode, .. }
                if names(at, false) && FileType::from_raw_mode(*mode) == FileType::Fifo =>
            {
                Some(Change::MakePipe { path: target, mode: *mode & 0o777 })
            }
            Wish::Remove { at, flags } => {
                let is_folder = *flags & libc::AT_REMOVEDIR != 0;
                names(at, is_folder).then_some(Change::Remove { path: target, is_folder })
            }
            Wish::Rename { from, to, flags }
                if names(from, true)
                    && names(to, true)
                    && matches!(*flags, 0 | libc::RENAME_NOREPLACE) =>
            {
                let [from, to] = [placed(turn, from)?, placed(turn, to)?];
                let is_outside = !self.is_writable(&from) && !self.is_writable(&to);
                let is_careful = *flags != 0;
                is_outside.then_some(Change::Rename { from, to, is_careful })
            }
            // What runs as its owner would be more than a mode.
            Wish::Mode { mode, .. } | Wish::ModeOf { mode, .. } if mode & !0o3777 == 0 => {
                Some(Change::Mode { path: target, mode: *mode })
            }
            Wish::Metadata(wanted) => wanted.asked(target),
            Wish::Truncate { length, .. } if i64::try_from(*length).is_ok() => {
                Some(Change::Truncate { path: target, length: *length })
            }
            Wish::Symlink { target: text, at } if names(at, false) => {
                let text = OsString::from_vec(text.clone()).into();
                Some(Change::Symlink { path: target, text })
            }
            Wish::Link { from, to, flags } if names(to, false) && *flags == 0 => {
                let from = placed(turn, from)?;
                (!self.is_writable(&from)).then_some(Change::Link { from, to: target })
            }
            Wish::Open { .. }
            | Wish::MakeFolder { .. }
            | Wish::MakeNode { .. }
            | Wish::Symlink { .. }
            | Wish::Link { .. }
            | Wish::Rename { .. }
            | Wish::Truncate { .. }
            | Wish::Mode { .. }
            | Wish::ModeOf { .. }
            | Wish::Bind { .. } => None,
        }
    }

    /// Whether a rename would lead over the edge of what may be written. Between mounts the kernel says
    /// so, and whoever hears it copies and removes, each of which is judged.
    pub(super) fn crosses(&self, turn: &Turn<'_>, wish: &Wish) -> bool {
        let Wish::Rename { from, to, .. } = wish else { return false };
        let is_inside = |at| placed(turn, at).map(|path| self.is_writable(&path));
        is_inside(from) != is_inside(to)
    }

    pub(super) fn is_writable(&self, path: &Path) -> bool {
        self.writable.iter().any(|root| path.starts_with(root))
    }
}

/// Whether the last component is a name, and says of no file that it is a folder.
fn names(at: &Given, may_be_folder: bool) -> bool {
    let end = at.path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let trimmed = at.path.get(..end).unwrap_or_default();
    let name = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_name = !matches!(name, b"" | b"." | b"..");
    is_name && (may_be_folder || end == at.path.len())
}

pub(super) fn placed(turn: &Turn<'_>, at: &Given) -> Option<PathBuf> {
    Some(Place::of(turn.caller, at.folder, &at.path).ok()?.path)
}

/// The same behind links.
pub(super) fn followed(turn: &Turn<'_>, at: &Given) -> Option<PathBuf> {
    let mut place = Place::of(turn.caller, at.folder, &at.path).ok()?;
    let mut links = 0;
    while place.kind() == Some(FileType::Symlink) {
        place = match place.follow(turn.caller, &mut links).ok()? {
            Found::Place(place) => place,
            Found::Object(_, name) => return Some(name),
        };
    }
    Some(place.path)
}

/// Where one may write instead, and how the user opens this.
pub(super) fn alternatives(writable: &[PathBuf], has_roots: bool, target: &Path) -> Vec<String> {
    let mut roots: Vec<_> =
        writable.iter().take(NAMED).map(|root| root.display().to_string()).collect();
    if writable.len() > NAMED {
        roots.push("…".to_owned());
    }
    let mut all = vec![format!("writable here: {}", roots.join(", "))];
    if !has_roots {
        all.push("the user can open the workspace: --sandbox workspace-write".to_owned());
        return all;
    }
    let folder = target.parent().filter(|folder| folder.parent().is_some());
    if let Some(folder) = folder.filter(|_| !NEVER.iter().any(|root| target.starts_with(root))) {
        all.push(format!("the user can open it: --add-dir {}", folder.display()));
    }
    all
}
