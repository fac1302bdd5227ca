//! Where a `.git` file and a worktree's `gitdir` may lead.
//!
//! What they lead to inside the roots is a repository whose configuration and hooks are held like
//! any other's. So a text may lead to what this run made or will make, and to the places that
//! belong to this folder already; never out of the roots, where nothing is judged (but for a worktree
//! in a private temporary folder, which is gone with it), and never to a repository of the user's,
//! whose settings were not made for this folder.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::{Denied, Guard, Kind, Tree, git};
use crate::git_config;

const OUT: &str = "it would lead out of the writable folders";
const OTHER: &str = "it would lead to a repository that is not this folder's";
/// Folders that are private to a run, as are those that it is given in them.
const PASSING: [&str; 2] = ["/tmp", "/var/tmp"];
const UNCLEAR: &str = "it does not say where it leads as git writes it";

impl Guard {
    /// Whether the file at `path`, a `.git` or the `gitdir` of a worktree, may have this text, and
    /// where it leads.
    ///
    /// # Errors
    ///
    /// Where it would lead, and may not.
    pub fn check_lead(&self, tree: &dyn Tree, path: &Path, text: &[u8]) -> Result<PathBuf, Denied> {
        let is_git_file = git::is_dot_git(name_of(path));
        let denied = |why| {
            let name = if is_git_file { ".git" } else { ".git/worktrees/*/gitdir" };
            Denied { name: name.to_owned(), why }
        };
        let folder = path.parent().unwrap_or(path);
        let prefix: &[u8] = if is_git_file { b"gitdir: " } else { b"" };
        let leads = lead(folder, text, prefix).ok_or_else(|| denied(UNCLEAR))?;
        // A worktree in a private temporary folder is gone after the run, and git says so then. Nothing
        // is run or read by such a text.
        let is_passing = || !is_git_file && PASSING.iter().any(|folder| leads.starts_with(folder));
        let is_inside = self.roots.iter().any(|root| leads.starts_with(root.as_path()));
        if !is_inside && !is_passing() {
            return Err(denied(OUT));
        }
        let may = if is_git_file {
            Self::belongs(tree, path, &leads)
        } else {
            git::is_dot_git(name_of(&leads))
        };
        if may { Ok(leads) } else { Err(denied(OTHER)) }
    }

    /// The text that git will write to the `.git` at `path`, when it is a submodule that is checked
    /// out again. Git reads the file at once after it has closed it, and nothing can make it wait.
    pub fn foresee_lead(&self, tree: &dyn Tree, path: &Path) -> Option<Vec<u8>> {
        let folder = path.parent().filter(|_| git::is_dot_git(name_of(path)))?;
        let mut above = folder.ancestors().skip(1);
        let top = above.find(|top| tree.kind(&top.join(".git")).is_some())?;
        let place = folder.strip_prefix(top).ok()?;
        let listed = tree.text(&top.join(".gitmodules")).unwrap_or_default();
        let listed = git_config::parse(&listed).unwrap_or_default().into_iter();
        let is_it = |entry: &git_config::Entry| {
            entry.section == "submodule"
                && entry.key == "path"
                && entry.value.as_deref() == Some(place.as_os_str().as_bytes())
        };
        let name = listed.filter(is_it).find_map(|entry| entry.subsection);
        let name = name.unwrap_or_else(|| place.as_os_str().as_bytes().to_vec());
        let entry = top.join(".git");
        let outer = match tree.kind(&entry)? {
            Kind::Folder => entry,
            Kind::File => lead(top, &tree.text(&entry)?, b"gitdir: ")?,
            Kind::Other => return None,
        };
        let module = outer.join("modules").join(OsStr::from_bytes(&name));
        if tree.kind(&module) != Some(Kind::Folder) {
            return None;
        }
        let text = [b"gitdir: ", relative(folder, &module).as_os_str().as_bytes(), b"\n"].concat();
        self.check_lead(tree, path, &text).is_ok().then_some(text)
    }

    fn belongs(tree: &dyn Tree, path: &Path, leads: &Path) -> bool {
        match tree.kind(leads) {
            None => return true,
            Some(Kind::Folder) if tree.is_new(leads) => return true,
            Some(Kind::Folder) => {}
            Some(Kind::File | Kind::Other) => return false,
        }
        Self::belongs_to(tree, path, leads)
    }

    /// Whether the folder at `leads` is this `.git` file's own.
    pub(super) fn belongs_to(tree: &dyn Tree, path: &Path, leads: &Path) -> bool {
        let parts: Vec<&[u8]> = leads.iter().map(OsStr::as_bytes).collect();
        // A submodule that is checked out again, below the git directory of the one around it.
        let is_module = |pair: &[&[u8]]| {
            pair.first().is_some_and(|name| git::is_dot_git(name))
                && pair.get(1).is_some_and(|name| *name == b"modules")
        };
        let outer = parts.windows(2).position(is_module).filter(|at| at + 2 < parts.len());
        if let Some(outer) = outer {
            let top: PathBuf = leads.iter().take(outer).collect();
            return path.starts_with(top);
        }
        // A linked worktree that is there says itself which folder is its own.
        let own = tree.text(&leads.join("gitdir"));
        own.and_then(|text| lead(leads, &text, b"")).is_some_and(|own| own == path)
    }
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().map(OsStr::as_bytes).unwrap_or_default()
}

fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.iter().zip(to.iter()).take_while(|(one, other)| one == other).count();
    let up = from.iter().skip(shared).map(|_| OsStr::new(".."));
    up.chain(to.iter().skip(shared)).collect()
}

/// The path in `text`, as git reads it: after `prefix`, without the line's end, from `folder`.
/// `None` when that is no path.
pub fn lead(folder: &Path, text: &[u8], prefix: &[u8]) -> Option<PathBuf> {
    let mut rest = text.strip_prefix(prefix)?;
    while let [before @ .., b'\n' | b'\r'] = rest {
        rest = before;
    }
    if rest.is_empty() || rest.iter().any(|byte| *byte < 0x20) {
        return None;
    }
    let mut leads = PathBuf::new();
    for part in folder.join(OsStr::from_bytes(rest)).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(leads.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => leads.push(part),
        }
    }
    Some(leads)
}
