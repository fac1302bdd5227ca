//! From names to paths that are there: the workspace, and what is protected in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use stockade_policy::names::{GIT_PROTECTED, is_lifted, is_part, is_protected, nested};

use crate::diagnose::ConfigError;
use crate::env::{Env, Homes};
use crate::git::Repository;

/// The absolute `path` without links, or `None` when there is nothing, or nothing that this
/// user can reach.
///
/// Most paths have no link in them, which one call finds out; realpath(3) makes one for each
/// component.
pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    let is_plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if !is_plain {
        return fs::canonicalize(path).ok();
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Without `.` and repeated slashes, as realpath(3) gives it.
        Ok(_) => Some(path.components().collect()),
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        Err(_) => fs::canonicalize(path).ok(),
    }
}

/// Whether `path` is `folder` or lies in it, both canonical. By their bytes: `Path::starts_with` compares
/// component by component, which a start would feel with its hundreds of hidden paths.
pub(crate) fn is_within(path: &Path, folder: &Path) -> bool {
    let (path, folder) = (path.as_os_str().as_bytes(), folder.as_os_str().as_bytes());
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder == b"/")
}

/// Sorts canonical paths by their bytes and drops what stands twice. Comparing them component
/// by component, as `Path` does, costs ten times as much, which 250 hidden paths make felt.
pub(crate) fn sort(paths: &mut Vec<PathBuf>) {
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    paths.dedup_by(|a, b| a.as_os_str() == b.as_os_str());
}

/// The workspace: `-C` or the current folder.
///
/// # Errors
///
/// Names the folder when it does not exist, is no folder, is home or above it, or belongs to
/// the kernel.
pub(crate) fn workspace(
    env: &Env,
    homes: &Homes,
    wanted: Option<&Path>,
) -> Result<PathBuf, ConfigError> {
    let wanted = wanted.map_or_else(|| env.current.clone(), |path| env.resolve(path, &env.current));
    let found = fs::canonicalize(&wanted)
        .map_err(|error| ConfigError::Unreadable(wanted.clone(), error))?;
    let refuse = |why: &str, hint: &str| {
        let what = format!("`{}` cannot be a workspace: {why}", found.display());
        Err(ConfigError::refused(what, hint))
    };
    let other = "change to the project's own folder, or name it with `-C DIR`";
    if !found.is_dir() {
        return refuse("it is not a folder", "the workspace is a folder: `-C DIR`");
    }
    if homes.any_within(&found) {
        return refuse("it holds your home", other);
    }
    if ["/proc", "/sys", "/dev"].iter().any(|kernel| found.starts_with(kernel)) {
        return refuse("it belongs to the system", other);
    }
    Ok(found)
}

/// The protected names that exist at the top of each of `folders`, except `lifted`.
pub(crate) fn protected_names(folders: &[PathBuf], lifted: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if is_protected(name.as_bytes()) && !is_lifted(lifted, &name.to_string_lossy()) {
                let reached = with_target(entry.path());
                // A file of it that is a link into the work tree stays as it is, too.
                let inner = reached.last().into_iter().flat_map(|target| links_in(target));
                let inner = inner.flat_map(with_target).filter(|path| !folder.starts_with(path));
                found.extend(inner.collect::<Vec<_>>());
                found.extend(reached);
            }
        }
        for name in nested().filter(|name| !is_lifted(lifted, name)) {
            for path in standing_for(&folder.join(name)) {
                found.extend(with_target(path));
            }
        }
    }
    found
}

/// What is there under the name `path`, whose last component may begin or end with `*`.
fn standing_for(path: &Path) -> Vec<PathBuf> {
    let last = path.file_name().and_then(OsStr::to_str).filter(|last| last.contains('*'));
    let (Some(last), Some(above)) = (last, path.parent()) else {
        return fs::symlink_metadata(path).map(|_| path.to_owned()).into_iter().collect();
    };
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| is_part(last, name.as_bytes())).map(|name| above.join(name)).collect()
}

/// What `path` leads to, if it is there, and every link on the way: whoever replaces one of them
/// leads it elsewhere.
pub(crate) fn with_target(path: PathBuf) -> Vec<PathBuf> {
    if canonical(&path).as_ref() == Some(&path) {
        return vec![path];
    }
    let (mut found, target) = follow(&path);
    found.extend(target);
    found
}

/// Every link on the way to `path` (absolute) and the file at its end, each by its canonical path;
/// `None` when there is nothing.
pub fn way_to(path: &Path) -> Option<Vec<PathBuf>> {
    let (mut way, end) = follow(path);
    way.push(end?);
    Some(way)
}

/// The links that are met on the way from `/` to `path` (absolute), each by its canonical path,
/// and what is at the end.
pub(crate) fn follow(path: &Path) -> (Vec<PathBuf>, Option<PathBuf>) {
    let (links, place, is_there) = follow_on(path);
    (links, is_there.then_some(place))
}

/// The same, with the place where something would have to be, and whether it is there.
pub(crate) fn follow_on(path: &Path) -> (Vec<PathBuf>, PathBuf, bool) {
    /// The kernel's own limit (`path_resolution(7)`).
    const LINKS_MAX: usize = 40;
    let reversed = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut links, mut place) = (Vec::new(), PathBuf::from("/"));
    let mut rest = reversed(path);
    while let Some(part) = rest.pop() {
        if part == ".." {
            place.pop();
            continue;
        }
        // An absolute part starts anew.
        let next = place.join(&part);
        match fs::read_link(&next) {
            Ok(_) if links.len() == LINKS_MAX => return (links, place, false),
            Ok(target) => {
                links.push(next);
                rest.extend(reversed(&target));
            }
            Err(_) if part == "." => {}
            Err(_) => place = next,
        }
    }
    let is_there = fs::symlink_metadata(&place).is_ok();
    (links, place, is_there)
}

/// The links directly in `folder`, each with what it leads to.
pub(crate) fn links_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    links.map(|entry| entry.path()).collect()
}

/// Git's protections with their targets, without what was lifted (`.git/config`), and never
/// without the hooks.
pub(crate) fn protected_by_git(repository: &Repository, lifted: &[String]) -> Vec<PathBuf> {
    let is_lifted = |path: &Path| {
        GIT_PROTECTED
            .iter()
            .any(|name| path.ends_with(name) && is_lifted(lifted, &format!(".git/{name}")))
    };
    let kept = repository.protected.iter().filter(|path| !is_lifted(path));
    let with_targets = kept.cloned().flat_map(with_target);
    // What a `.git` link leads to is opened; only the link stays.
    let named = repository.named.iter().cloned();
    with_targets.chain(named).filter(|path| !repository.opened.contains(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_within_itself_and_what_is_above_it() {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/a.b", "/b"].map(Path::new);
        for path in paths {
            for folder in paths {
                assert_eq!(
                    is_within(path, folder),
                    path.starts_with(folder),
                    "{path:?} {folder:?}"
                );
            }
        }
    }

    #[test]
    fn every_link_on_the_way_is_found() {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("tools/real")).unwrap();
        fs::write(top.join("tools/real/file"), "").unwrap();
        for (target, name) in
            [("tools/../way", "link"), ("./tools", "way"), ("b", "a"), ("a", "b"), ("no", "gone")]
        {
            symlink(target, top.join(name)).unwrap();
        }
        let found = |name: &str| {
            let found = with_target(top.join(name));
            let short = found.iter().map(|path| path.strip_prefix(&top).unwrap().to_owned());
            short.map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("link/real/file"), ["link", "way", "tools/real/file"]);
        assert_eq!(found("tools/real/file"), ["tools/real/file"]);
        assert_eq!(found("gone"), ["gone"]);
        assert!(found("a").iter().all(|name| name == "a" || name == "b"), "a circle ends");
    }
}
