//! From names to paths that are there: the workspace, its roots, what is protected in them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names::{NEVER_WRITABLE_IN_HOME, is_protected, nested};

use crate::diagnose::ConfigError;
use crate::env::Env;
use crate::git::Repository;

/// The path without links, or `None` when there is nothing.
pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// Whether `path` is home, one of its ancestors, or `/`.
fn holds_home(path: &Path, home: Option<&Path>) -> bool {
    path == Path::new("/") || home.is_some_and(|home| home.starts_with(path))
}

/// The workspace: `-C` or the current folder.
///
/// # Errors
///
/// Names the folder when it does not exist, is no folder, or is home or above it.
pub(crate) fn workspace(env: &Env, wanted: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let wanted = wanted.map_or_else(|| env.current.clone(), |path| env.current.join(path));
    let found = fs::canonicalize(&wanted)
        .map_err(|error| ConfigError::Unreadable(wanted.clone(), error))?;
    if !found.is_dir() {
        return Err(ConfigError::refused(
            format!("`{}` is not a folder", found.display()),
            "the workspace is a folder: `-C DIR`",
        ));
    }
    if holds_home(&found, home(env).as_deref()) {
        return Err(ConfigError::refused(
            format!("`{}` cannot be a workspace: it holds your home", found.display()),
            "change to the project's own folder, or name it with `-C DIR`",
        ));
    }
    Ok(found)
}

/// The user's home without links.
pub(crate) fn home(env: &Env) -> Option<PathBuf> {
    canonical(env.home.as_deref()?)
}

/// What the writable roots come to.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    /// Canonical, existing.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

/// Applies the rule of narrowing: entries inside the workspace replace it, entries outside
/// are added to it.
///
/// # Errors
///
/// Names the entry that is protected, secret, or holds home.
pub(crate) fn roots(
    env: &Env,
    workspace: &Path,
    wanted: &[PathBuf],
    hidden: &[PathBuf],
) -> Result<Roots, ConfigError> {
    let mut roots = Roots::default();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let mut names_inside = false;
    let home = home(env);
    for entry in wanted {
        let path = env.resolve(entry, workspace);
        let Some(found) = canonical(&path) else {
            // An entry that is missing still says that the workspace was to be narrowed.
            names_inside |= path.starts_with(workspace);
            roots.warnings.push(format!("writable root `{}` does not exist", path.display()));
            continue;
        };
        refuse_root(&found, entry, home.as_deref(), hidden)?;
        if found.starts_with(workspace) {
            names_inside = true;
            inside.push(found);
        } else {
            outside.push(found);
        }
    }
    roots.paths = if names_inside { inside } else { vec![workspace.to_owned()] };
    roots.paths.extend(outside);
    Ok(roots)
}

fn refuse_root(
    found: &Path,
    entry: &Path,
    home: Option<&Path>,
    hidden: &[PathBuf],
) -> Result<(), ConfigError> {
    let refuse = |why: &str| {
        Err(ConfigError::refused(
            format!("writable root `{}` is refused: {why}", entry.display()),
            "name a folder that holds nothing but work",
        ))
    };
    if holds_home(found, home) {
        return refuse("it holds your home");
    }
    if hidden.iter().any(|secret| found.starts_with(secret)) {
        return refuse("it is secret");
    }
    if let Some(home) = home
        && NEVER_WRITABLE_IN_HOME.iter().any(|name| found.starts_with(home.join(name)))
    {
        return refuse("Stockade's own configuration lies there");
    }
    if ["/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/run"]
        .iter()
        .any(|system| found == Path::new(system))
    {
        return refuse("it belongs to the system");
    }
    if ["/proc", "/sys", "/dev"].iter().any(|system| found.starts_with(system)) {
        return refuse("it belongs to the system");
    }
    if is_inside_protected(found) {
        return refuse("it is protected");
    }
    Ok(())
}

/// Whether `path` is a protected name or lies below one; inside a git directory, only what
/// git keeps its objects and references in may be a root of its own.
fn is_inside_protected(path: &Path) -> bool {
    let mut in_git = false;
    for part in path.components() {
        let name = part.as_os_str().as_bytes();
        if in_git && matches!(name, b"hooks" | b"config" | b"info" | b"modules" | b"worktrees") {
            return true;
        }
        in_git = name == b".git";
        if is_protected(name) {
            return true;
        }
    }
    false
}

/// The protected names that exist at the top of each of `folders`, except `lifted`.
pub(crate) fn protected_names(folders: &[PathBuf], lifted: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let is_lifted = |name: &str| lifted.iter().any(|lift| lift == name);
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if is_protected(name.as_bytes()) && !is_lifted(&name.to_string_lossy()) {
                found.extend(with_target(entry.path()));
            }
        }
        for name in nested().filter(|name| !is_lifted(name)) {
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
        !path.ends_with("hooks")
            && lifted.iter().any(|name| name.starts_with(".git/") && path.ends_with(name))
    };
    let kept = repository.protected.iter().filter(|path| !is_lifted(path));
    kept.cloned().flat_map(with_target).collect()
}
