//! From names to paths that are there: the workspace, and what is protected in it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names::{GIT_PROTECTED, is_lifted, is_protected, nested};

use crate::diagnose::ConfigError;
use crate::env::{Env, Homes};
use crate::git::Repository;

/// The path without links, or `None` when there is nothing.
pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
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
                found.extend(with_target(entry.path()));
            }
        }
        for name in nested().filter(|name| !is_lifted(lifted, name)) {
            let path = folder.join(name);
            if fs::symlink_metadata(&path).is_ok() {
                found.extend(with_target(path));
            }
        }
    }
    found
}

/// A link is protected itself, and so is what it leads to.
pub(crate) fn with_target(path: PathBuf) -> Vec<PathBuf> {
    let target = canonical(&path).filter(|target| *target != path);
    std::iter::once(path).chain(target).collect()
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
