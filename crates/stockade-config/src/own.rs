//! Stockade's own files: no run may write what decides about the next one.

use std::path::{Path, PathBuf};

use stockade_policy::names::NEVER_WRITABLE_IN_HOME;

use crate::diagnose::ConfigError;
use crate::env::{Env, Homes};
use crate::locate::canonical;

/// Where Stockade's configuration, record and images lie, or would lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Canonical folders and files that are there.
    existing: Vec<PathBuf>,
    /// Folders that are not, below their nearest canonical ancestor.
    missing: Vec<PathBuf>,
}

impl Own {
    /// Looks for them; `files` are the configuration files of this start, which may be links
    /// into a folder of dotfiles.
    pub(crate) fn of(env: &Env, homes: &Homes, files: &[PathBuf]) -> Self {
        let mut wanted: Vec<PathBuf> = vec![env.system.clone()];
        wanted.extend(
            [env.user_folder(), env.state_folder(), env.cache_folder()].into_iter().flatten(),
        );
        for home in &homes.all {
            wanted.extend(NEVER_WRITABLE_IN_HOME.map(|name| home.join(name)));
        }
        // Most of them are the same twice, and each is looked for on the disk.
        wanted.sort_unstable();
        wanted.dedup();
        let mut own = Self::default();
        for folder in wanted {
            match canonical(&folder) {
                Some(found) => own.existing.push(found),
                None => own.missing.push(below_nearest(&folder)),
            }
        }
        let files = files.iter().filter_map(|file| canonical(file));
        let elsewhere: Vec<PathBuf> = files.filter(|file| !own.holds(file)).collect();
        own.existing.extend(elsewhere);
        for list in [&mut own.existing, &mut own.missing] {
            list.sort();
            list.dedup();
        }
        own
    }

    /// Whether `path` is one of them or lies in one.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.existing.iter().chain(&self.missing).any(|own| path.starts_with(own))
    }

    /// One that is not there and whose place lies in `path`.
    pub(crate) fn missing_below(&self, path: &Path) -> Option<&Path> {
        self.missing.iter().find(|own| own.starts_with(path)).map(PathBuf::as_path)
    }

    /// Refuses a workspace in which this configuration lies, or could be planted.
    ///
    /// # Errors
    ///
    /// Names the folder.
    pub(crate) fn refuse_workspace(&self, workspace: &Path) -> Result<(), ConfigError> {
        let refuse = |why: &str, hint: String| {
            let what = format!("`{}` cannot be a workspace: {why}", workspace.display());
            Err(ConfigError::refused(what, hint))
        };
        if self.holds(workspace) {
            let hint = "look at it with `--sandbox read-only`".to_owned();
            return refuse("Stockade's own files lie there", hint);
        }
        if let Some(missing) = self.missing_below(workspace) {
            let hint = format!("make `{}` first, so that it can be protected", missing.display());
            return refuse("Stockade's own files could be planted in it", hint);
        }
        Ok(())
    }

    /// Those that lie in one of `roots`, and so have to be protected there.
    pub(crate) fn within<'a>(&'a self, roots: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
        self.existing.iter().filter(|own| roots.iter().any(|root| own.starts_with(root)))
    }
}

/// `path`, which is not there, with links resolved as far as there is something.
fn below_nearest(path: &Path) -> PathBuf {
    let mut above = path.ancestors().skip(1);
    let found = above.find_map(|part| canonical(part).map(|found| (part, found)));
    match found {
        Some((part, found)) => found.join(path.strip_prefix(part).unwrap_or(path)),
        None => path.to_owned(),
    }
}
