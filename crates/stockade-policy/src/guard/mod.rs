//! What a call that writes may do to a name, whether or not that name exists yet.
//!
//! Mounts hold the protected names that are there when a run starts. This decides about all
//! others: names that come into being, repositories that lie deeper in the tree, repositories
//! that the command makes itself. It is asked at the moment of each call, by the path at which
//! the call lands after every link was followed, and sees the disk through [`Tree`] only.
//!
//! Invariants:
//! - a path outside every writable root is [`Judgement::Ordinary`]: other walls hold it;
//! - what can turn a folder into a repository is judged together with what lies in it, so that
//!   the order in which names are made does not matter.

mod git;
mod layout;
mod leads;
mod remains;
mod spelling;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::names::{self, is_lifted};
use crate::{AbsPath, Mode, Policy, git_index};

pub use leads::lead;
pub use remains::{Noted, Remains};
pub(crate) use spelling::folded;

/// The disk, as the judgement sees it. Links are not followed.
pub trait Tree {
    /// What stands at `path`.
    fn kind(&self, path: &Path) -> Option<Kind>;
    /// Whether it came into being during this run.
    fn is_new(&self, path: &Path) -> bool;
    /// The text of a small regular file.
    fn text(&self, path: &Path) -> Option<Vec<u8>>;
    /// The names in a folder; `None` when there is none or it cannot be listed.
    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>>;
    /// The content of a regular file of any length that git has for such files.
    fn whole(&self, path: &Path) -> Option<Vec<u8>> {
        self.text(path)
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// Anything else: a link, a socket, a FIFO.
    Other,
}

/// What a call would do to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// Open the file for writing, making it if it is not there.
    Write,
    /// Make a folder.
    MakeFolder,
    /// Make a link, a socket or a FIFO.
    MakeOther,
    /// Give what is at `source` this name.
    MoveHere {
        /// Where it comes from, or `None` for a further name of a file (a hard link).
        source: Option<&'a Path>,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Take the name away from what has it, to give it another.
    MoveAway,
    /// Give what has the name a further one.
    Alias,
    /// Remove it.
    Remove,
    /// Let it be executed.
    Execute,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is none of this wall's business.
    Ordinary,
    /// It is refused.
    Denied(Denied),
    /// It is a control name, which is refused, but for what its repository held at this path
    /// before the run: git switches between branches.
    Control(Denied),
    /// Git's configuration in this folder: the new text decides.
    Config(PathBuf),
    /// A `.git` that is a file, or a worktree's `gitdir`: the text decides, see
    /// [`Guard::check_lead`].
    GitFile,
    /// A worktree's `commondir`, whose text is always the same.
    Commondir,
    /// The call makes its folder a repository. What is there was found harmless; its
    /// configuration must not stay a file that somebody may still hold open.
    Completes(PathBuf),
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The protected name, as the documentation has it.
    pub name: String,
    /// Why it is protected.
    pub why: &'static str,
}

impl Denied {
    pub(crate) fn judged(name: impl Into<String>, why: &'static str) -> Judgement {
        Judgement::Denied(Self { name: name.into(), why })
    }
}

/// The text of a linked worktree's `commondir` (gitrepository-layout(5)).
pub const COMMONDIR: &[u8] = b"../..\n";

/// Folders that hold other people's work: in them the control names are ordinary.
const FOREIGN: [&[u8]; 6] =
    [b"node_modules", b"vendor", b"target", b".venv", b"venv", b"site-packages"];

/// The judge of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    roots: Vec<AbsPath>,
    tops: Vec<AbsPath>,
    unprotected: Vec<String>,
    awaited: Vec<AbsPath>,
}

impl Guard {
    /// The judge for `policy`; `None` without a boundary. Without a root it has nothing to refuse by
    /// its names, and what the view refuses is told all the same.
    pub fn of(policy: &Policy) -> Option<Self> {
        if policy.mode == Mode::DangerFullAccess {
            return None;
        }
        Some(Self {
            roots: policy.writable.clone(),
            tops: policy.tops.clone(),
            unprotected: policy.unprotected.clone(),
            awaited: policy.awaited.clone(),
        })
    }

    /// Whether there is any folder of the user's to write to.
    pub fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// The same judge from its parts, as it was noted.
    pub fn from_parts(roots: Vec<AbsPath>) -> Self {
        Self { roots, tops: Vec::new(), unprotected: Vec::new(), awaited: Vec::new() }
    }

    /// Where one may write.
    pub fn roots(&self) -> &[AbsPath] {
        &self.roots
    }

    /// Whether the judgement of `path` needs more than its text. What is judged by text alone is
    /// always ordinary; the rest must not be interleaved with other calls.
    pub fn is_notable(path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        let last = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        // A folder of that name is cargo's, and no index of git's.
        git_index::is_one(last) || bytes.split(|byte| *byte == b'/').any(is_notable_name)
    }

    /// The same for this run, which may wait for more names.
    pub fn concerns(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        let is_near = |name: &AbsPath| are_nested(name.as_os_str().as_bytes(), bytes);
        Self::is_notable(path) || self.awaited.iter().any(is_near)
    }

    /// Decides about one call.
    pub fn judge(&self, tree: &dyn Tree, path: &Path, act: &Act<'_>) -> Judgement {
        if self.awaited.iter().any(|name| brings(tree, name.as_path(), path, act)) {
            let why = "git's configuration names it, and it did not exist";
            return Denied::judged(path.to_string_lossy(), why);
        }
        if !Self::is_notable(path) {
            return Judgement::Ordinary;
        }
        // Of nested roots the innermost: what it is called itself was the user's choice.
        let within = |root: &&AbsPath| path.starts_with(root.as_path()) && path != root.as_path();
        let Some(root) = self.roots.iter().filter(within).max_by_key(|root| root.as_os_str().len())
        else {
            return Judgement::Ordinary;
        };
        let respelled = spelling::path(tree, root.as_path(), path);
        let path = respelled.as_deref().unwrap_or(path);
        let git = git::Question { tree, root: root.as_path(), path, act };
        match git.judge(&|name| self.is_lifted(name)) {
            Judgement::Ordinary => self.control(tree, root.as_path(), path, act),
            decided @ (Judgement::Denied(_)
            | Judgement::Control(_)
            | Judgement::Config(_)
            | Judgement::GitFile
            | Judgement::Commondir
            | Judgement::Completes(_)) => decided,
        }
    }

    fn is_lifted(&self, name: &str) -> bool {
        is_lifted(&self.unprotected, name)
    }

    /// Control names at the top of the workspace and of the repositories that were there.
    fn control(&self, tree: &dyn Tree, root: &Path, path: &Path, act: &Act<'_>) -> Judgement {
        let Ok(below) = path.strip_prefix(root) else { return Judgement::Ordinary };
        let parts: Vec<&[u8]> = below.iter().map(OsStr::as_bytes).collect();
        let mut top = root.to_owned();
        for (index, part) in parts.iter().enumerate() {
            let inner = parts.get(index..).unwrap_or_default();
            if let Some(entry) = self.control_at(inner, tree, (path, act))
                && self.is_top(tree, &top)
            {
                if *act == Act::Execute {
                    return Judgement::Ordinary;
                }
                let name = entry.name.to_owned();
                return Judgement::Control(Denied { name, why: entry.why });
            }
            if FOREIGN.contains(part) {
                break;
            }
            top.push(OsStr::from_bytes(part));
        }
        Judgement::Ordinary
    }

    /// The entry that `parts`, seen from a top, are protected by.
    fn control_at(
        &self,
        parts: &[&[u8]],
        tree: &dyn Tree,
        (path, act): (&Path, &Act<'_>),
    ) -> Option<&'static names::Protected> {
        let first = parts.first()?;
        if let Some(entry) = names::protecting(first) {
            return (!self.is_lifted(&String::from_utf8_lossy(first))).then_some(entry);
        }
        names::nested_entries().filter(|entry| !self.is_lifted(entry.name)).find(|entry| {
            let wanted: Vec<&str> = entry.name.split('/').collect();
            if !parts.iter().zip(&wanted).all(|(part, wanted)| names::is_part(wanted, part)) {
                return false;
            }
            let Some(rest) = wanted.get(parts.len()..).filter(|rest| !rest.is_empty()) else {
                return true;
            };
            let holds = |folder: &Path| holds(tree, folder, rest);
            // A folder above it is an ordinary one, until it brings it along or takes it away.
            match *act {
                Act::MakeFolder | Act::Remove | Act::Execute | Act::Alias => false,
                Act::MoveHere { source: Some(source), is_folder: true } => {
                    holds(source) || holds(path)
                }
                Act::MoveAway => holds(path),
                Act::Write | Act::MakeOther | Act::MoveHere { .. } => {
                    tree.kind(path) != Some(Kind::Folder)
                }
            }
        })
    }

    fn is_top(&self, tree: &dyn Tree, folder: &Path) -> bool {
        if self.tops.iter().any(|top| top.as_path() == folder) {
            return true;
        }
        let entry = folder.join(".git");
        tree.kind(&entry).is_some() && !tree.is_new(&entry)
    }
}

/// Whether there is something in `folder` that `rest`, the components of an entry below it, stand for.
fn holds(tree: &dyn Tree, folder: &Path, rest: &[&str]) -> bool {
    let Some((last, above)) = rest.split_last() else { return false };
    let mut folder = folder.to_owned();
    folder.extend(above);
    if !last.contains('*') {
        return tree.kind(&folder.join(last)).is_some();
    }
    let names = tree.names(&folder).unwrap_or_default();
    names.iter().any(|name| names::is_part(last, name))
}

/// Whether `act` at `path` gives the name `awaited` to something, itself or by a folder above it.
fn brings(tree: &dyn Tree, awaited: &Path, path: &Path, act: &Act<'_>) -> bool {
    if path.starts_with(awaited) {
        return !matches!(act, Act::Remove | Act::MoveAway);
    }
    let Ok(rest) = awaited.strip_prefix(path) else { return false };
    match *act {
        Act::MoveHere { source: Some(source), is_folder: true } => {
            tree.kind(&source.join(rest)).is_some()
        }
        // A link there could lead to anything.
        Act::MoveHere { .. } | Act::MakeOther => true,
        Act::Write | Act::MakeFolder | Act::Remove | Act::MoveAway | Act::Execute | Act::Alias => {
            false
        }
    }
}

/// Whether one of two absolute paths is the other, or leads through it. Asked for each call that
/// writes, so by bytes: to take a path apart costs more than all else that is asked of it.
fn are_nested(one: &[u8], other: &[u8]) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let rest = long.strip_prefix(short.strip_suffix(b"/").unwrap_or(short));
    rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// Whether a path with this component may be protected.
fn is_notable_name(name: &[u8]) -> bool {
    is_known(name) || spelling::respelled(name).is_some() || spelling::is_short(name)
}

fn is_known(name: &[u8]) -> bool {
    // Most names are none of these by their first byte.
    match name.first() {
        None => false,
        Some(b'.') => {
            git::is_dot_git(name)
                || names::is_protected(name)
                || names::nested_entries().any(|entry| {
                    entry.name.as_bytes().split(|byte| *byte == b'/').next() == Some(name)
                })
        }
        Some(_) => {
            layout::is_of_git(name)
                || names::is_protected(name)
                || names::PLAIN_FOLDERS.contains(&name)
        }
    }
}

#[cfg(test)]
mod tests;
