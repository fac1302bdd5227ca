//! The user's own repository: where its parts are. Read, never written.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{Git, GitError, ObjectId, fields, line, object};

/// A repository with a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// The top of its work tree.
    pub top: PathBuf,
    /// The commit that is checked out; `None` before the first.
    pub head: Option<ObjectId>,
    /// Its branch, `main`; `None` when no branch is checked out.
    pub branch: Option<String>,
    pub(super) directory: PathBuf,
    pub(super) common: PathBuf,
    pub(super) index: PathBuf,
    pub(crate) objects: PathBuf,
    pub(crate) format: String,
}

/// What the user's configuration says about files, and nothing that runs.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) excludes: Option<PathBuf>,
    /// Other keys, as they are.
    pub(super) others: Vec<(&'static str, OsString)>,
}

impl Repository {
    /// Finds the repository whose work tree `folder` (absolute, without links) lies in.
    ///
    /// # Errors
    ///
    /// When there is one that git cannot read.
    pub fn discover(folder: &Path) -> Result<Option<Self>, GitError> {
        let is_there = |folder: &Path| fs::symlink_metadata(folder.join(".git")).is_ok();
        if !folder.ancestors().any(is_there) {
            return Ok(None);
        }
        let git = Git::discovering(folder);
        let words = [
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
            "--git-path",
            "index",
            "--git-path",
            "objects",
            "--show-object-format",
        ];
        let answer = git.run(&words)?;
        let mut lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut path = || lines.next().map(|line| PathBuf::from(OsStr::from_bytes(line)));
        let (Some(top), Some(directory), Some(common), Some(index), Some(objects), Some(format)) =
            (path(), path(), path(), path(), path(), path())
        else {
            return Err(GitError::answer("rev-parse"));
        };
        // `core.worktree` may name any folder; what it names is not what the user gave us.
        if !folder.starts_with(&top) {
            return Err(GitError::answer("rev-parse"));
        }
        let format = format.to_string_lossy().into_owned();
        let own = git.variable("GIT_DIR", &directory);
        let head = own.is_true(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"])?;
        let head = head.map(|answer| object("rev-parse", &answer)).transpose()?;
        let branch = own.is_true(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
        let branch = branch.map(|answer| line("symbolic-ref", &answer).map(str::to_owned));
        let branch = branch.transpose()?;
        Ok(Some(Self { top, head, branch, directory, common, index, objects, format }))
    }

    /// Whether git ignores `folder`, an absolute path below the top.
    pub(crate) fn ignores(&self, folder: &Path) -> Result<bool, GitError> {
        let mut git = Git::discovering(&self.top).variable("GIT_DIR", &self.directory);
        git = git.variable("GIT_WORK_TREE", &self.top).variable("GIT_LITERAL_PATHSPECS", "0");
        if let Some(excludes) = file_settings(Some(self), &self.top).excludes {
            git = git.setting("core.excludesFile", excludes.as_os_str());
        }
        let words = [OsStr::new("check-ignore"), OsStr::new("-q"), folder.as_os_str()];
        Ok(git.is_true(&words)?.is_some())
    }

    /// The commits at which a shallow repository ends, one a line.
    pub(super) fn shallow(&self) -> Option<Vec<u8>> {
        fs::read(self.common.join("shallow")).ok().filter(|text| !text.is_empty())
    }
}

/// Asks for the settings that decide which files count and what is in them. The user's own
/// configuration is read for it, and that of `repository`; `git config` runs nothing.
pub(super) fn file_settings(repository: Option<&Repository>, folder: &Path) -> FileSettings {
    const KEYS: [&str; 4] = ["core.filemode", "core.ignorecase", "core.autocrlf", "core.eol"];
    let home = std::env::var_os("HOME").unwrap_or_default();
    let named = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
    let config = named.map_or_else(|| Path::new(&home).join(".config"), PathBuf::from);
    let mut git = Git::discovering(folder).variable("HOME", &home);
    git = git.variable("XDG_CONFIG_HOME", &config);
    git.is_users = true;
    if let Some(repository) = repository {
        git = git.variable("GIT_DIR", &repository.directory);
    }
    let pattern = "^core\\.(excludesfile|filemode|ignorecase|autocrlf|eol)$";
    let words = ["config", "--null", "--type=path", "--get-regexp", pattern];
    // No such key: the answer is empty and the status 1.
    let answer = git.is_true(&words).ok().flatten().unwrap_or_default();
    let mut settings = FileSettings::default();
    for field in fields(&answer) {
        let mut parts = field.splitn(2, |byte| *byte == b'\n');
        let key = parts.next().unwrap_or_default();
        let value = OsString::from_vec(parts.next().unwrap_or(b"true").to_vec());
        if key == b"core.excludesfile" {
            settings.excludes = Some(value.into());
        } else if let Some(known) = KEYS.iter().find(|known| known.as_bytes() == key) {
            settings.others.push((known, value));
        }
    }
    settings.excludes = settings.excludes.or_else(|| Some(config.join("git/ignore")));
    settings
}
