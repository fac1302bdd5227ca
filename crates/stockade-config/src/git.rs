//! Git directories that belong to a workspace, and what in them stays read-only.
//!
//! A `.git` entry is data that anybody may have written: it is followed only where the place
//! that it leads to is a repository of the user's own and, for a linked worktree, points back.
//! What is looked for costs a handful of system calls: the enclosing repository, its submodules
//! and its linked worktrees. Repositories that merely lie somewhere in the tree are not searched
//! for; the tree may have 50,000 files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names::GIT_PROTECTED;

use crate::git_config;
use crate::locate::{canonical, follow, follow_on, links_in, with_target};

/// How deep `.git/modules` is searched: a submodule of a submodule of a submodule.
const MODULES_DEPTH: usize = 8;

/// How many configuration files are followed from one that includes others; git stops at a
/// depth of 10.
const INCLUDES: usize = 10;

/// Longer than any configuration that names a path for a reason; in bytes.
const CONFIG_BYTES: u64 = 1 << 20;

/// The git directories of one workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Folders that git writes: opened, with [`protected`](Self::protected) left out.
    pub(crate) opened: Vec<PathBuf>,
    /// Files and folders in them, and `.git` entries that are links or files.
    pub(crate) protected: Vec<PathBuf>,
    /// What the repository's configuration runs or reads elsewhere: hooks in the work tree,
    /// included files.
    pub(crate) named: Vec<PathBuf>,
    /// What it names in the work tree and is not there: whatever comes by that name, git obeys.
    pub(crate) awaited: Vec<PathBuf>,
    /// The folder that holds the `.git` entry, or a bare repository itself.
    pub(crate) top: Option<PathBuf>,
    /// What was not opened, and why.
    pub(crate) warnings: Vec<String>,
}

/// Whose repositories are trusted, and what `~` means in their configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) uid: u32,
    pub(crate) home: Option<&'a Path>,
}

/// Finds the repository that `workspace` (canonical) lies in: the nearest one above it, as git
/// does.
pub(crate) fn repository(workspace: &Path, user: User<'_>) -> Repository {
    let mut found = Repository::default();
    for folder in workspace.ancestors() {
        let entry = folder.join(".git");
        if fs::symlink_metadata(&entry).is_ok() {
            found.top = Some(folder.to_owned());
            found.open_entry(folder, &entry, user);
            break;
        }
        if is_repository(folder) {
            found.top = Some(folder.to_owned());
            found.open(folder, folder, user);
            break;
        }
    }
    let top = found.top.clone().unwrap_or_else(|| workspace.to_owned());
    found.follow_own(&top, user);
    found
}

impl Repository {
    fn open_entry(&mut self, top: &Path, entry: &Path, user: User<'_>) {
        let Ok(metadata) = fs::symlink_metadata(entry) else { return };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.open(entry, top, user);
            return;
        }
        // A link or a file decides which repository the host's git uses: it stays as it is.
        self.protected.push(entry.to_owned());
        if kind.is_symlink() {
            match canonical(entry) {
                Some(target) => self.open(&target, top, user),
                None => self.refuse(entry, "it leads nowhere"),
            }
        } else if kind.is_file() {
            self.open_file(top, entry, user);
        }
    }

    /// A linked worktree or a submodule: `gitdir: PATH` (gitrepository-layout(5)).
    fn open_file(&mut self, top: &Path, entry: &Path, user: User<'_>) {
        let named = pointer(entry, "gitdir:").map(|path| follow(&top.join(path)));
        let Some((links, Some(folder))) = named else {
            return self.refuse(entry, "it names no folder that exists");
        };
        self.protected.extend(links);
        let Some(common) = pointer(&folder.join("commondir"), "") else {
            // A submodule's git directory is a whole one, and so is one that was set apart.
            if belongs_elsewhere(&folder, top) {
                return self.refuse(entry, "the repository that it names has another work tree");
            }
            return self.open(&folder, top, user);
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
        self.open(&common, top, user);
    }

    fn open(&mut self, folder: &Path, top: &Path, user: User<'_>) {
        if !is_repository(folder) {
            return self.refuse(folder, "it is not laid out as a repository");
        }
        if fs::metadata(folder).map(|metadata| metadata.uid()).ok() != Some(user.uid) {
            return self.refuse(folder, "it belongs to somebody else");
        }
        self.opened.push(folder.to_owned());
        self.protect_in(folder, top);
        self.follow_config(folder, top, user);
        for worktree in entries(&folder.join("worktrees")) {
            self.protect_existing(&worktree, &["commondir", "gitdir", "config.worktree"]);
            // The `.git` file of the worktree itself; whoever replaces it leads git elsewhere.
            let file = pointer(&worktree.join("gitdir"), "").map(|path| worktree.join(path));
            self.named.extend(file.as_deref().and_then(canonical));
        }
        self.protect_modules(&folder.join("modules"), top, 0);
    }

    fn protect_in(&mut self, folder: &Path, top: &Path) {
        self.protect_existing(folder, &GIT_PROTECTED);
        self.name_links_in(&folder.join("hooks"), top);
    }

    fn protect_existing(&mut self, folder: &Path, names: &[&str]) {
        let paths = names.iter().map(|name| folder.join(name));
        self.protected.extend(paths.filter(|path| fs::symlink_metadata(path).is_ok()));
    }

    fn protect_modules(&mut self, folder: &Path, top: &Path, depth: usize) {
        if depth == MODULES_DEPTH {
            self.refuse(folder, "its submodules are nested too deeply");
            self.protected.push(folder.to_owned());
            return;
        }
        for module in entries(folder) {
            if is_repository(&module) {
                self.protect_in(&module, top);
                let config = read_config(&module.join("config"));
                let tree = config.and_then(|named| named.worktree).map(|path| module.join(path));
                self.named.extend(tree.and_then(|tree| canonical(&tree.join(".git"))));
                self.protect_modules(&module.join("modules"), top, depth + 1);
            } else {
                // A submodule's name may contain slashes.
                self.protect_modules(&module, top, depth + 1);
            }
        }
    }

    /// Hooks and configuration that the repository keeps in its work tree.
    fn follow_config(&mut self, folder: &Path, top: &Path, user: User<'_>) {
        let files = vec![folder.join("config"), folder.join("config.worktree")];
        self.follow_files(files, top, user);
    }

    /// The user's own configuration, as far as it names something in this work tree or, as a link of a
    /// collection of such files, lies in it.
    fn follow_own(&mut self, top: &Path, user: User<'_>) {
        let Some(home) = user.home else { return };
        let mut own = Self::default();
        let files = [home.join(".gitconfig"), home.join(".config/git/config")];
        for file in files.iter().filter(|file| canonical(file).as_ref() != Some(file)) {
            own.name_in_tree(file, top);
        }
        own.follow_files(files.to_vec(), top, user);
        let is_here = |path: &PathBuf| path.starts_with(top);
        self.named.extend(own.named.into_iter().filter(is_here));
        self.awaited.extend(own.awaited.into_iter().filter(is_here));
        self.warnings.extend(own.warnings);
    }

    fn follow_files(&mut self, mut files: Vec<PathBuf>, top: &Path, user: User<'_>) {
        let mut read = 0;
        while let Some(file) = files.pop() {
            read += 1;
            if read > INCLUDES + 2 {
                let text = "the repository's configuration includes too many files; what";
                self.warnings.push(format!("{text} `{}` names is not protected", file.display()));
                return;
            }
            let Some(named) = read_config(&file) else { continue };
            let base = file.parent().unwrap_or(top);
            for path in named.hooks.iter().chain(&named.attributes) {
                self.name_in_tree(&git_config::resolve(path, top, user.home), top);
            }
            for path in &named.included {
                let path = git_config::resolve(path, base, user.home);
                self.name_in_tree(&path, top);
                files.push(path);
            }
        }
    }

    fn name_in_tree(&mut self, path: &Path, top: &Path) {
        let (links, found, is_there) = follow_on(path);
        self.named.extend(links);
        if !is_there {
            return self.awaited.push(found);
        }
        if top.starts_with(&found) {
            self.refuse_naming(&found);
        } else {
            self.name_links_in(&found, top);
            self.named.push(found);
        }
    }

    /// Hooks are often links to scripts of the work tree, which git runs from there.
    fn name_links_in(&mut self, hooks: &Path, top: &Path) {
        for link in links_in(hooks) {
            let reached = with_target(link);
            self.named.extend(reached.into_iter().filter(|path| !top.starts_with(path)));
        }
    }

    fn refuse_naming(&mut self, path: &Path) {
        self.warnings.push(format!(
            "git's configuration takes hooks from `{}`, which holds the whole work tree: they are \
             not protected",
            path.display()
        ));
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
pub(crate) fn is_repository(folder: &Path) -> bool {
    let is_folder = |name: &str| folder.join(name).is_dir();
    fs::symlink_metadata(folder.join("HEAD")).is_ok() && is_folder("objects") && is_folder("refs")
}

/// Whether the git directory `folder` says itself that its work tree is not `top`: by
/// `core.worktree`, by being bare, or by being the `.git` of another folder.
fn belongs_elsewhere(folder: &Path, top: &Path) -> bool {
    let config = read_config(&folder.join("config")).unwrap_or_default();
    match config.worktree {
        Some(tree) => canonical(&folder.join(tree)).as_deref() != Some(top),
        None => config.is_bare || folder.ends_with(".git"),
    }
}

fn read_config(file: &Path) -> Option<git_config::Named> {
    Some(git_config::read(&String::from_utf8_lossy(&read_small(file, CONFIG_BYTES)?)))
}

/// A regular file of at most `max` bytes: what is no file could keep us waiting.
fn read_small(file: &Path, max: u64) -> Option<Vec<u8>> {
    let metadata = fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= max).then(|| fs::read(file).ok()).flatten()
}

/// The path in a one-line file of git's, after `prefix`.
fn pointer(file: &Path, prefix: &str) -> Option<PathBuf> {
    /// Longer than any path.
    const MAX: u64 = 8192;
    if !fs::symlink_metadata(file).ok()?.is_file() {
        return None;
    }
    let text = read_small(file, MAX)?;
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

    fn user(uid: u32) -> User<'static> {
        User { uid, home: None }
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
        let found = repository(&inner, user(uid));
        let git_dir = top.join("main/.git");
        assert_eq!(found.opened.as_slice(), std::slice::from_ref(&git_dir));
        assert_eq!(found.protected, [git_dir.join("hooks"), git_dir.join("config")]);
        assert_eq!(repository(&inner, user(uid + 1)).opened, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_linked_worktree_opens_its_common_directory_only_when_it_points_back() {
        let (_lab, top, uid) = lab();
        git(&top.join("main"), &["worktree", "add", "-q", "../linked"]);
        let found = repository(&top.join("linked"), user(uid));
        assert_eq!(found.opened, [top.join("main/.git")], "{:?}", found.warnings);
        assert!(found.protected.contains(&top.join("linked/.git")));
        assert!(found.protected.contains(&top.join("main/.git/worktrees/linked/commondir")));
        // The same file in another folder is a forgery.
        let forged = top.join("forged");
        fs::create_dir(&forged).unwrap();
        fs::copy(top.join("linked/.git"), forged.join(".git")).unwrap();
        let found = repository(&forged, user(uid));
        assert!(found.opened.is_empty() && found.warnings.len() == 1);
    }

    #[test]
    fn a_git_file_that_names_the_repository_of_another_folder_is_a_forgery() {
        let (_lab, top, uid) = lab();
        git(&top, &["init", "-q", "--bare", "bare.git"]);
        git(&top, &["init", "-q", "--separate-git-dir", "apart", "tree"]);
        for (name, target, opened) in
            [("a", "../main/.git", false), ("b", "../bare.git", false), ("c", "../apart", true)]
        {
            let folder = top.join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(".git"), format!("gitdir: {target}\n")).unwrap();
            assert_eq!(!repository(&folder, user(uid)).opened.is_empty(), opened, "{target}");
        }
        assert_eq!(repository(&top.join("tree"), user(uid)).opened, [top.join("apart")]);
    }

    #[test]
    fn a_git_link_is_followed_to_a_real_repository_only() {
        let (_lab, top, uid) = lab();
        for (name, target) in [("real", "main/.git"), ("fake", ".")] {
            let folder = top.join(name);
            fs::create_dir(&folder).unwrap();
            std::os::unix::fs::symlink(top.join(target), folder.join(".git")).unwrap();
        }
        let found = repository(&top.join("real"), user(uid));
        assert_eq!(found.opened, [top.join("main/.git")]);
        assert!(found.protected.contains(&top.join("real/.git")));
        assert!(repository(&top.join("fake"), user(uid)).opened.is_empty());
    }

    #[test]
    fn submodules_are_protected_and_open() {
        let (_lab, top, uid) = lab();
        let outer = top.join("outer");
        fs::create_dir(&outer).unwrap();
        git(&outer, &["init", "-q"]);
        git(&outer, &["submodule", "--quiet", "add", "../main", "deps/sub"]);
        let module = outer.join(".git/modules/deps/sub");
        let found = repository(&outer, user(uid));
        assert!(found.protected.contains(&module.join("config")), "{found:?}");
        assert_eq!(repository(&outer.join("deps/sub"), user(uid)).opened, [module]);
    }

    #[test]
    fn a_submodules_and_a_worktrees_git_file_stay_where_they_are() {
        let (_lab, top, uid) = lab();
        let outer = top.join("outer");
        fs::create_dir(&outer).unwrap();
        git(&outer, &["init", "-q"]);
        git(&outer, &["submodule", "--quiet", "add", "../main", "deps/sub"]);
        git(&outer, &["commit", "-q", "-m", "x"]);
        git(&outer, &["worktree", "add", "-q", "trees/one"]);
        let found = repository(&outer, user(uid));
        for name in ["deps/sub/.git", "trees/one/.git"] {
            assert!(found.named.contains(&outer.join(name)), "{name}: {found:?}");
        }
    }

    #[test]
    fn hooks_and_configuration_in_the_work_tree_count_as_gits_own() {
        let (_lab, top, uid) = lab();
        let main = top.join("main");
        for name in ["tools/hooks", "src"] {
            fs::create_dir_all(main.join(name)).unwrap();
        }
        fs::write(main.join(".gitconfig"), "[include]\npath = more\n").unwrap();
        fs::write(main.join("more"), "[core]\nattributesFile = src/attributes\n").unwrap();
        fs::write(main.join("src/attributes"), "").unwrap();
        git(&main, &["config", "core.hooksPath", "tools/hooks"]);
        git(&main, &["config", "include.path", "../.gitconfig"]);
        let mut named = repository(&main.join("src"), user(uid)).named;
        named.sort();
        let expected = [".gitconfig", "more", "src/attributes", "tools/hooks"];
        assert_eq!(named, expected.map(|name| main.join(name)));
        // A file that includes itself ends, and hooks that are everything are said.
        git(&main, &["config", "core.hooksPath", "."]);
        fs::write(main.join("more"), "[include]\npath = more\n").unwrap();
        assert_eq!(repository(&main, user(uid)).warnings.len(), 2);
    }

    #[test]
    fn what_configuration_names_and_is_not_there_is_awaited() {
        let (_lab, top, uid) = lab();
        let main = top.join("main");
        git(&main, &["config", "core.hooksPath", "tools/hooks"]);
        git(&main, &["config", "include.path", "../shared.cfg"]);
        let mut awaited = repository(&main, user(uid)).awaited;
        awaited.sort();
        assert_eq!(awaited, [main.join("shared.cfg"), main.join("tools/hooks")]);
    }

    #[test]
    fn the_users_own_configuration_is_followed_into_the_work_tree() {
        let (_lab, top, uid) = lab();
        let (main, home) = (top.join("main"), top.join("home"));
        fs::create_dir(&home).unwrap();
        fs::write(main.join("dotgit"), "[include]\n path = team.cfg\n path = ../home/own\n")
            .unwrap();
        std::os::unix::fs::symlink(main.join("dotgit"), home.join(".gitconfig")).unwrap();
        fs::write(home.join("own"), "[core]\n hooksPath = .githooks\n").unwrap();
        fs::write(main.join("team.cfg"), "").unwrap();
        let found = repository(&main, User { uid, home: Some(&home) });
        assert!(found.named.contains(&main.join("dotgit")), "{found:?}");
        assert!(found.named.iter().all(|path| path.starts_with(&main)), "{found:?}");
        assert_eq!(found.awaited, [main.join(".githooks")]);
    }

    #[test]
    fn a_bare_repository_is_opened_with_its_protections() {
        let (_lab, top, uid) = lab();
        git(&top, &["init", "-q", "--bare", "store"]);
        let found = repository(&top.join("store/refs"), user(uid));
        assert_eq!(found.opened, [top.join("store")]);
        assert!(found.protected.contains(&top.join("store/hooks")));
    }
}
