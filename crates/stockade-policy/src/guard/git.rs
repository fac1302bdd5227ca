//! Git's own files, wherever a repository is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::layout::{self, Control};
use super::{Act, COMMONDIR, Denied, Judgement, Kind, Tree};
use crate::git_config;

const HOOKS: &str = "git runs what is there";
const CONFIG: &str = "git runs programs that it names";
const LEADS: &str = "git takes its configuration and hooks from where it leads";
const INFO: &str = "git reads instructions from it";
const OBJECTS: &str = "what was somewhere else before would count as what the repository held";
const MOVED: &str = "git would find another repository there";

/// One call, below one writable root.
pub(super) struct Question<'a> {
    pub(super) tree: &'a dyn Tree,
    pub(super) root: &'a Path,
    pub(super) path: &'a Path,
    pub(super) act: &'a Act<'a>,
}

/// Also where a file system knows no difference between upper and lower case.
pub(super) fn is_dot_git(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

/// Wider than git's own test (`is_git_directory`), which wants a `HEAD` in any case: a linked
/// worktree, which has its own, takes configuration and hooks from a folder that needs none.
fn is_repository(has: &dyn Fn(&str) -> bool) -> bool {
    (has("objects") && has("refs") && (has("HEAD") || has("worktrees")))
        || (has("HEAD") && has("commondir"))
}

/// Whether git would take `folder` for a repository, or for that of a linked worktree.
pub(super) fn is_git_folder(tree: &dyn Tree, folder: &Path) -> bool {
    is_repository(&|name| tree.kind(&folder.join(name)).is_some())
}

/// Whether nothing of `hooks` in `folder` is run by git.
pub(super) fn has_samples_only(tree: &dyn Tree, folder: &Path) -> bool {
    tree.names(&folder.join("hooks")).is_some_and(|all| all.iter().all(|name| is_sample(name)))
}

/// Whether a file of this name in `hooks` is one of git's examples, or what rsync writes before it
/// gives it such a name (`.x.sample.Ab12Cd`). Git runs neither.
fn is_sample(name: &[u8]) -> bool {
    let temporary = || name.strip_prefix(b".")?.rsplitn(2, |byte| *byte == b'.').nth(1);
    name.ends_with(b".sample") || temporary().is_some_and(|whole| whole.ends_with(b".sample"))
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().map(OsStr::as_bytes).unwrap_or_default()
}

impl Question<'_> {
    pub(super) fn judge(&self, is_lifted: &dyn Fn(&str) -> bool) -> Judgement {
        if is_dot_git(name_of(self.path)) {
            return self.entry();
        }
        if *self.act == Act::MoveAway && self.holds_worktree() {
            return Self::denied(".git/worktrees", LEADS);
        }
        if self.brings_objects() {
            return Self::denied(".git/objects", OBJECTS);
        }
        let parts: Vec<&[u8]> = self.path.iter().map(OsStr::as_bytes).collect();
        let folders = self.path.ancestors().skip(1);
        for (folder, depth) in folders.take_while(|at| at.starts_with(self.root)).zip(1..) {
            let inner = parts.get(parts.len().saturating_sub(depth)..).unwrap_or_default();
            let Some((control, length)) = layout::control(inner) else { continue };
            if !is_dot_git(name_of(folder)) && !self.is_repository(folder) {
                continue;
            }
            let known = inner.iter().map(|part| String::from_utf8_lossy(part));
            let known = format!(".git/{}", known.collect::<Vec<_>>().join("/"));
            if !matches!(control, Control::HooksFolder | Control::Hook) && is_lifted(&known) {
                return Judgement::Ordinary;
            }
            let base = self.path.ancestors().nth(length).unwrap_or(folder);
            return self.control(control, base, &known);
        }
        self.completing()
    }

    fn is_repository(&self, folder: &Path) -> bool {
        is_git_folder(self.tree, folder)
    }

    /// Whether a linked worktree would take another folder than before as its repository: its
    /// `commondir` says `../..`, so it belongs to what is above its `worktrees`.
    fn holds_worktree(&self) -> bool {
        let is_linked = |folder: &Path| self.tree.kind(&folder.join("commondir")).is_some();
        if self.path.parent().is_some_and(|above| name_of(above) == b"worktrees") {
            return is_linked(self.path);
        }
        let inner = |name: &Vec<u8>| is_linked(&self.path.join(OsStr::from_bytes(name)));
        name_of(self.path) == b"worktrees"
            && self.tree.names(self.path).is_some_and(|names| names.iter().any(inner))
    }

    /// Whether something that was there before the run would get a place among the objects of a
    /// repository that was, too: what nobody has changed there is what it held (git itself moves
    /// only what it has just made).
    fn brings_objects(&self) -> bool {
        let Act::MoveHere { source: Some(source), .. } = *self.act else { return false };
        let within = |folder: &&Path| folder.starts_with(self.root);
        let mut above = self.path.ancestors().skip(1).take_while(within);
        above.any(|objects| {
            let folder = objects.parent().filter(|_| name_of(objects) == b"objects");
            folder.is_some_and(|folder| self.is_repository(folder) && !self.tree.is_new(folder))
        }) && !self.tree.is_new(source)
    }

    fn denied(name: &str, why: &'static str) -> Judgement {
        Denied::judged(name, why)
    }

    /// The name `.git` itself.
    fn entry(&self) -> Judgement {
        let denied = || Self::denied(".git", MOVED);
        let free = |free: bool| if free { Judgement::Ordinary } else { denied() };
        match *self.act {
            Act::MakeFolder | Act::Execute => Judgement::Ordinary,
            Act::Write => match self.tree.kind(self.path) {
                // The kernel refuses to write a folder.
                Some(Kind::Folder) => Judgement::Ordinary,
                Some(_) if !self.tree.is_new(self.path) => denied(),
                Some(_) | None => Judgement::GitFile,
            },
            Act::MoveHere { source: Some(source), is_folder: true } => {
                free(is_dot_git(name_of(source)) && self.tree.is_new(source))
            }
            Act::MoveAway | Act::Remove => {
                free(self.tree.kind(self.path).is_none() || self.tree.is_new(self.path))
            }
            Act::MakeOther | Act::MoveHere { .. } | Act::Alias => denied(),
        }
    }

    /// A name that git obeys, in the git directory `base`.
    fn control(&self, control: Control, base: &Path, known: &str) -> Judgement {
        let why = match control {
            Control::HooksFolder | Control::Hook => HOOKS,
            Control::Config | Control::WorktreeConfig => CONFIG,
            Control::Commondir { .. } | Control::Gitdir | Control::Structure => LEADS,
            Control::Info | Control::Alternates => INFO,
        };
        let free = |free: bool| if free { Judgement::Ordinary } else { Self::denied(known, why) };
        let tree = self.tree;
        match (control, *self.act) {
            (
                Control::Hook,
                Act::Write | Act::Execute | Act::Alias | Act::MoveHere { is_folder: false, .. },
            ) => {
                let is_sample = self.path.parent().is_some_and(|at| name_of(at) == b"hooks")
                    && is_sample(name_of(self.path));
                free(is_sample && (tree.kind(self.path).is_none() || tree.is_new(self.path)))
            }
            (_, Act::Execute) | (Control::HooksFolder | Control::Structure, Act::MakeFolder) => {
                Judgement::Ordinary
            }
            (
                Control::Config | Control::WorktreeConfig,
                Act::Write | Act::MoveHere { source: Some(_), is_folder: false },
            ) => Judgement::Config(self.path.to_owned()),
            (Control::Commondir { of_worktree: true }, Act::Write) => {
                if tree.kind(self.path).is_none() {
                    Judgement::Commondir
                } else {
                    Self::denied(known, why)
                }
            }
            (Control::Gitdir, Act::Write)
                if base.parent().is_some_and(|above| name_of(above) == b"worktrees")
                    && tree.is_new(base) =>
            {
                Judgement::GitFile
            }
            (Control::Alternates, Act::Write | Act::MoveHere { is_folder: false, .. }) => {
                free(tree.is_new(base))
            }
            (
                Control::Structure,
                Act::Write | Act::Remove | Act::Alias | Act::MoveHere { is_folder: false, .. },
            ) => Judgement::Ordinary,
            (Control::Structure, Act::MoveHere { source: Some(source), is_folder: true }) => {
                // A submodule's git directory that is moved below the outer one's.
                free(is_dot_git(name_of(source)) && tree.is_new(source))
            }
            (Control::Hook, Act::Remove) => free(tree.is_new(self.path)),
            (Control::Structure, Act::MoveAway) => {
                free(tree.kind(self.path) != Some(Kind::Folder) || tree.is_new(self.path))
            }
            (_, Act::Remove | Act::MoveAway) => {
                free(tree.kind(self.path).is_none() || tree.is_new(base))
            }
            _ => Self::denied(known, why),
        }
    }

    /// The last of the names that make a folder a repository: what is in it by then counts.
    fn completing(&self) -> Judgement {
        let makes = match *self.act {
            Act::Write | Act::MakeFolder | Act::MakeOther | Act::MoveHere { .. } => true,
            Act::MoveAway | Act::Alias | Act::Remove | Act::Execute => false,
        };
        let name = name_of(self.path);
        let Some(folder) = self.path.parent().filter(|at| at.starts_with(self.root)) else {
            return Judgement::Ordinary;
        };
        if !makes || !layout::makes_repository(name) || self.is_repository(folder) {
            return Judgement::Ordinary;
        }
        let has = |wanted: &str| {
            wanted.as_bytes() == name || self.tree.kind(&folder.join(wanted)).is_some()
        };
        if !is_repository(&has) {
            return Judgement::Ordinary;
        }
        match self.harm_in(folder, name) {
            None => Judgement::Completes(folder.to_owned()),
            Some(harm) => Self::denied(harm, "the folder would become a repository with it"),
        }
    }

    /// What in `folder` must not be there when it becomes a repository.
    fn harm_in(&self, folder: &Path, made: &[u8]) -> Option<&'static str> {
        let there = |name: &str| self.tree.kind(&folder.join(name));
        let of_worktree = folder.parent().is_some_and(|above| name_of(above) == b"worktrees");
        if made == b"commondir" {
            return Some("commondir");
        }
        if there("commondir").is_some()
            && !(of_worktree
                && self.tree.text(&folder.join("commondir")).as_deref() == Some(COMMONDIR))
        {
            return Some("commondir");
        }
        for name in ["config", "config.worktree"] {
            let harmless = |text: Vec<u8>| git_config::check_new(&text, folder).is_ok();
            if there(name).is_some() && !self.tree.text(&folder.join(name)).is_some_and(harmless) {
                return Some(name);
            }
        }
        if there("hooks").is_some() && !has_samples_only(self.tree, folder) {
            return Some("hooks");
        }
        ["info/attributes", "info/grafts", "objects/info/alternates"]
            .into_iter()
            .find(|name| there(name).is_some())
    }
}
