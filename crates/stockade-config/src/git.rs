//! Git directories that belong to a workspace, and what in them stays read-only.
//!
//! A `.git` entry is data that anybody may have written: it is followed only where the place
//! that it leads to is a repository of the user's own and, for a linked worktree, points back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names::GIT_PROTECTED;

use crate::locate::canonical;

/// How deep `.git/modules` is searched: a submodule of a submodule of a submodule.
const MODULES_DEPTH: usize = 8;

/// The git directories of one workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Folders that git writes: opened, with [`protected`](Self::protected) left out.
    pub(crate) opened: Vec<PathBuf>,
    /// Files and folders in them, and `.git` entries that are links or files.
    pub(crate) protected: Vec<PathBuf>,
    /// The folder that holds the `.git` entry.
    pub(crate) top: Option<PathBuf>,
    /// What was not opened, and why.
    pub(crate) warnings: Vec<String>,
}

/// Finds the repository that `workspace` (canonical) lies in. `uid` owns what is trusted.
pub(crate) fn repository(workspace: &Path, uid: u32) -> Repository {
    let mut found = Repository::default();
    let Some((top, entry)) = workspace.ancestors().find_map(|folder| {
        let entry = folder.join(".git");
        fs::symlink_metadata(&entry).ok().map(|_| (folder.to_owned(), entry))
    }) else {
        return found;
    };
    found.top = Some(top.clone());
    found.open_entry(&top, &entry, uid);
    found
}

impl Repository {
    fn open_entry(&mut self, top: &Path, entry: &Path, uid: u32) {
        let Ok(metadata) = fs::symlink_metadata(entry) else { return };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.open(entry, uid);
            return;
        }
        // A link or a file decides which repository the host's git uses: it stays as it is.
        self.protected.push(entry.to_owned());
        if kind.is_symlink() {
            match canonical(entry) {
                Some(target) => self.open(&target, uid),
                None => self.refuse(entry, "it leads nowhere"),
            }
        } else if kind.is_file() {
            self.open_file(top, entry, uid);
        }
    }

    /// A linked worktree or a submodule: `gitdir: PATH` (gitrepository-layout(5)).
    fn open_file(&mut self, top: &Path, entry: &Path, uid: u32) {
        let Some(folder) = pointer(entry, "gitdir:").and_then(|path| canonical(&top.join(path)))
        else {
            return self.refuse(entry, "it names no folder that exists");
        };
        let Some(common) = pointer(&folder.join("commondir"), "") else {
            // A submodule's git directory is a whole one.
            return self.open(&folder, uid);
        };
        let Some(common) = canonical(&folder.join(common)) else {
            return self.refuse(entry, "its common directory does not exist");
        };
        let back =
            pointer(&folder.join("gitdir"), "").and_then(|path| canonical(&folder.join(path)));
        let inside = folder.parent() == Some(&common.join("worktrees"));
        if !inside || back.as_deref() != Some(entry) {
            return self.refuse(entry, "the worktree that it names does not point back here");
        }
        self.open(&common, uid);
    }

    fn open(&mut self, folder: &Path, uid: u32) {
        if !is_repository(folder) {
            return self.refuse(folder, "it is not laid out as a repository");
        }
        if fs::metadata(folder).map(|metadata| metadata.uid()).ok() != Some(uid) {
            return self.refuse(folder, "it belongs to somebody else");
        }
        self.opened.push(folder.to_owned());
        self.protect_in(folder);
        for worktree in entries(&folder.join("worktrees")) {
            self.protect_existing(&worktree, &["commondir", "gitdir", "config.worktree"]);
        }
        self.protect_modules(&folder.join("modules"), 0);
    }

    fn protect_in(&mut self, folder: &Path) {
        self.protect_existing(folder, &GIT_PROTECTED);
    }

    fn protect_existing(&mut self, folder: &Path, names: &[&str]) {
        let paths = names.iter().map(|name| folder.join(name));
        self.protected.extend(paths.filter(|path| fs::symlink_metadata(path).is_ok()));
    }

    fn protect_modules(&mut self, folder: &Path, depth: usize) {
        if depth == MODULES_DEPTH {
            return;
        }
        for module in entries(folder) {
            if is_repository(&module) {
                self.protect_in(&module);
                self.protect_modules(&module.join("modules"), depth + 1);
            } else {
                // A submodule's name may contain slashes.
                self.protect_modules(&module, depth + 1);
            }
        }
    }

    fn refuse(&mut self, what: &Path, why: &str) {
        self.warnings.push(format!("git directory `{}` stays read-only: {why}", what.display()));
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    let folders = list.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// The layout that git itself asks for before it takes a folder for a repository.
fn is_repository(folder: &Path) -> bool {
    let is_folder = |name: &str| folder.join(name).is_dir();
    fs::symlink_metadata(folder.join("HEAD")).is_ok() && is_folder("objects") && is_folder("refs")
}

/// The path in a one-line file of git's, after `prefix`.
fn pointer(file: &Path, prefix: &str) -> Option<PathBuf> {
    /// Longer than any path.
    const MAX: u64 = 8192;
    let metadata = fs::symlink_metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > MAX {
        return None;
    }
    let text = fs::read(file).ok()?;
    let path = text.strip_prefix(prefix.as_bytes())?.trim_ascii();
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "git {arguments:?}");
    }

    fn lab() -> (tempfile::TempDir, PathBuf, u32) {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        let main = top.join("main");
        fs::create_dir(&main).unwrap();
        git(&main, &["init", "-q"]);
        git(&main, &["commit", "-q", "--allow-empty", "-m", "x"]);
        let uid = fs::metadata(&main).unwrap().uid();
        (lab, top, uid)
    }

    #[test]
    fn the_enclosing_repository_is_opened_with_its_protections() {
        let (_lab, top, uid) = lab();
        let inner = top.join("main/a/b");
        fs::create_dir_all(&inner).unwrap();
        let found = repository(&inner, uid);
        let git_dir = top.join("main/.git");
        assert_eq!(found.opened.as_slice(), std::slice::from_ref(&git_dir));
        assert_eq!(found.protected, [git_dir.join("hooks"), git_dir.join("config")]);
        assert_eq!(repository(&inner, uid + 1).opened, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_linked_worktree_opens_its_common_directory_only_when_it_points_back() {
        let (_lab, top, uid) = lab();
        git(&top.join("main"), &["worktree", "add", "-q", "../linked"]);
        let found = repository(&top.join("linked"), uid);
        assert_eq!(found.opened, [top.join("main/.git")], "{:?}", found.warnings);
        assert!(found.protected.contains(&top.join("linked/.git")));
        assert!(found.protected.contains(&top.join("main/.git/worktrees/linked/commondir")));
        // The same file in another folder is a forgery.
        let forged = top.join("forged");
        fs::create_dir(&forged).unwrap();
        fs::copy(top.join("linked/.git"), forged.join(".git")).unwrap();
        let found = repository(&forged, uid);
        assert!(found.opened.is_empty() && found.warnings.len() == 1);
    }

    #[test]
    fn a_git_link_is_followed_to_a_real_repository_only() {
        let (_lab, top, uid) = lab();
        for (name, target) in [("real", "main/.git"), ("fake", ".")] {
            let folder = top.join(name);
            fs::create_dir(&folder).unwrap();
            std::os::unix::fs::symlink(top.join(target), folder.join(".git")).unwrap();
        }
        let found = repository(&top.join("real"), uid);
        assert_eq!(found.opened, [top.join("main/.git")]);
        assert!(found.protected.contains(&top.join("real/.git")));
        assert!(repository(&top.join("fake"), uid).opened.is_empty());
    }

    #[test]
    fn submodules_are_protected_and_open() {
        let (_lab, top, uid) = lab();
        let outer = top.join("outer");
        fs::create_dir(&outer).unwrap();
        git(&outer, &["init", "-q"]);
        git(&outer, &["submodule", "--quiet", "add", "../main", "deps/sub"]);
        let module = outer.join(".git/modules/deps/sub");
        let found = repository(&outer, uid);
        assert!(found.protected.contains(&module.join("config")), "{found:?}");
        assert_eq!(repository(&outer.join("deps/sub"), uid).opened, [module]);
    }
}
