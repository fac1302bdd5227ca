//! What is said of a write that only a read-only mount refused.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::wish::{Given, Wish};
use super::{Files, Turn};
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
                let file = turn.caller.descriptor(*descriptor).ok()?;
                place::name_of(&file).ok()
            }
            Wish::Bind { .. } => None,
        }
    }

    pub(super) fn is_writable(&self, path: &Path) -> bool {
        self.writable.iter().any(|root| path.starts_with(root))
    }
}

fn placed(turn: &Turn<'_>, at: &Given) -> Option<PathBuf> {
    Some(Place::of(turn.caller, at.folder, &at.path).ok()?.path)
}

/// The same behind links.
fn followed(turn: &Turn<'_>, at: &Given) -> Option<PathBuf> {
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
pub(super) fn alternatives(writable: &[PathBuf], target: &Path) -> Vec<String> {
    let mut roots: Vec<_> =
        writable.iter().take(NAMED).map(|root| root.display().to_string()).collect();
    if writable.len() > NAMED {
        roots.push("…".to_owned());
    }
    let mut all = vec![format!("writable here: {}", roots.join(", "))];
    let folder = target.parent().filter(|folder| folder.parent().is_some());
    if let Some(folder) = folder.filter(|_| !NEVER.iter().any(|root| target.starts_with(root))) {
        all.push(format!("the user can open it: --add-dir {}", folder.display()));
    }
    all
}
