//! Which of the files that a draft changed git ignores.
//!
//! The answer is for the tree as the draft would leave it: its `.gitignore` files stand in a
//! folder of ours (`tree`) and nothing else does. What the user's index has is not ignored.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::repository::file_settings;
use super::snapshot::{FILE_MAX, SnapshotError, copy_excludes, copy_index};
use super::{Git, GitError, Repository, fields};

/// Those of `paths` that are ignored. They are relative to `top`, and `directory` is a repository
/// of ours.
pub(crate) fn ignored<'a>(
    (repository, top): (Option<&Repository>, &Path),
    directory: &Path,
    tree: &Path,
    paths: impl Iterator<Item = &'a [u8]>,
) -> Result<BTreeSet<Vec<u8>>, SnapshotError> {
    let failed = |source| SnapshotError::Git { top: top.to_owned(), source };
    let mut input = Vec::new();
    for path in paths {
        // It takes paths for patterns with magic, of which none begins so.
        input.extend(b"./".iter().chain(path).chain(&[0]));
    }
    if input.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut git = Git::bare(directory).setting("core.bare", OsStr::new("false"));
    tree.clone_into(&mut git.folder);
    git = git.variable("GIT_WORK_TREE", tree).variable("GIT_LITERAL_PATHSPECS", "0");
    if let Some(excludes) = file_settings(repository, top).excludes {
        git = git.setting("core.excludesFile", excludes.as_os_str());
    }
    if let Some(repository) = repository {
        copy_excludes(repository, directory)?;
    }
    // Without the index: it would refuse paths below a submodule.
    let words = ["check-ignore", "-z", "--stdin", "--no-index"];
    // 1: none is.
    let (status, answer) = git.status_with(&words, &input).map_err(failed)?;
    if !matches!(status, Some(0 | 1)) {
        return Err(failed(GitError::answer("check-ignore")));
    }
    let path = |field: &[u8]| field.strip_prefix(b"./").unwrap_or(field).to_owned();
    let mut ignored: BTreeSet<Vec<u8>> = fields(&answer).map(path).collect();
    if let Some(repository) = repository
        && !ignored.is_empty()
    {
        copy_index(repository, directory)?;
        let listed = git.run(&["ls-files", "-z", "--cached"]).map_err(failed)?;
        for path in fields(&listed) {
            ignored.remove(path);
        }
    }
    Ok(ignored)
}

/// Fills a `tree`, which is there, for [`ignored`]: of the `.gitignore` files above `paths` those that
/// `open` has.
pub(crate) fn copy_ignores<'a>(
    paths: impl Iterator<Item = &'a Path>,
    open: impl Fn(&Path) -> Option<File>,
    tree: &Path,
) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for path in paths {
        for folder in path.ancestors().skip(1) {
            if !folders.insert(folder) {
                break;
            }
        }
    }
    for folder in folders {
        let path = folder.join(".gitignore");
        let Some(file) = open(&path) else { continue };
        let to = tree.join(&path);
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        io::copy(&mut file.take(FILE_MAX), &mut File::create(&to)?)?;
    }
    Ok(())
}
