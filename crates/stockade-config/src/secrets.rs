//! Which hidden names are on this machine.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use stockade_policy::environment::glob;
use stockade_policy::names::{HIDDEN_HOST_KEY, HIDDEN_IN_HOME, HIDDEN_IN_SYSTEM};

use crate::locate::canonical;

/// How deep a glob that starts with `**` is searched in the workspace.
const GLOB_DEPTH: usize = 32;

/// Existing, canonical paths of the built-in table. One system call for each entry that is
/// not there; links are resolved, because dotfile managers make them.
pub(crate) fn built_in(home: Option<&Path>, uid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(home) = home
        && let Ok(folder) = open_folder(home)
    {
        found.extend(HIDDEN_IN_HOME.iter().filter_map(|name| in_home(home, &folder, name)));
    }
    // What only uid 0 may read needs no hiding from anybody else.
    if uid == 0 {
        for name in HIDDEN_IN_SYSTEM {
            if fs::symlink_metadata(name).is_ok() {
                found.extend(canonical(Path::new(name)));
            }
        }
        let (start, end) = HIDDEN_HOST_KEY;
        for entry in fs::read_dir("/etc/ssh").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(start) && name.ends_with(end) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The canonical path of `name` in home (`folder`, canonical), if it is there.
fn in_home(home: &Path, folder: &OwnedFd, name: &str) -> Option<PathBuf> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // One call for the many that are not there, and one for those without a link on the way.
    match rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) if is_link(&fd) => canonical(&home.join(name)),
        Ok(_) => Some(home.join(name)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
        Err(_) => canonical(&home.join(name)),
    }
}

fn is_link(fd: &OwnedFd) -> bool {
    let kind = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode);
    rustix::fs::fstat(fd).map(kind).is_ok_and(|kind| kind == FileType::Symlink)
}

/// What the pattern or path `wanted` of a `hidden` list names now, below `workspace` when it
/// is relative.
pub(crate) fn expand(wanted: &Path, workspace: &Path) -> Vec<PathBuf> {
    let text = wanted.to_string_lossy();
    if !text.contains(['*', '?']) {
        return canonical(wanted).into_iter().collect();
    }
    let Ok(pattern) = wanted.strip_prefix(workspace) else { return Vec::new() };
    let parts: Vec<Vec<u8>> = pattern
        .components()
        .map(|part| std::os::unix::ffi::OsStrExt::as_bytes(part.as_os_str()).to_vec())
        .collect();
    let mut found = Vec::new();
    let mut folders = vec![(workspace.to_owned(), parts, 0)];
    while let Some((folder, parts, depth)) = folders.pop() {
        let Some((first, rest)) = parts.split_first() else { continue };
        if depth == GLOB_DEPTH {
            continue;
        }
        let any_depth = first == b"**";
        if any_depth && !rest.is_empty() {
            folders.push((folder.clone(), rest.to_vec(), depth));
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if any_depth && is_folder {
                folders.push((entry.path(), parts.clone(), depth + 1));
            }
            let name = entry.file_name();
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str());
            if any_depth || !glob(first, name) {
                continue;
            }
            if rest.is_empty() {
                found.extend(canonical(&entry.path()));
            } else if is_folder {
                folders.push((entry.path(), rest.to_vec(), depth + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_reach_every_depth_of_the_workspace() {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        for file in ["x.pem", "a/y.pem", "a/b/z.pem", "a/b/z.txt"] {
            fs::write(top.join(file), "").unwrap();
        }
        let mut found = expand(&top.join("**/*.pem"), &top);
        found.sort();
        assert_eq!(found, [top.join("a/b/z.pem"), top.join("a/y.pem"), top.join("x.pem")]);
        assert_eq!(expand(&top.join("*.pem"), &top), [top.join("x.pem")]);
        assert_eq!(expand(&top.join("a/b/z.txt"), &top), [top.join("a/b/z.txt")]);
        assert!(expand(&top.join("missing"), &top).is_empty());
    }

    #[test]
    fn a_linked_secret_is_hidden_where_it_lies() {
        let lab = tempfile::tempdir().unwrap();
        let home = lab.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("dotfiles/ssh")).unwrap();
        std::os::unix::fs::symlink("dotfiles/ssh", home.join(".ssh")).unwrap();
        fs::write(home.join(".netrc"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", home.join(".npmrc")).unwrap();
        assert_eq!(built_in(Some(&home), 1), [home.join("dotfiles/ssh"), home.join(".netrc")]);
    }
}
