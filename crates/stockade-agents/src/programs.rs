//! Where Stockade finds the programs that it runs for itself, outside of any boundary.
//!
//! A user's `PATH` may name a folder of a project (`node_modules/.bin`, `.venv/bin`, `bin`), in which a
//! task has put a `git` of its own. What the user types is theirs; what Stockade starts unasked is not
//! taken from there.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `name`, found where no task can have put it. What it starts in turn is looked for there as well.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    if let Some(path) = path() {
        command.env("PATH", path);
    }
    command
}

/// The file that `program` names for who stands in `folder`: a path, or a name that is looked for in
/// `path`.
pub fn find(program: &OsStr, (path, folder): (Option<&OsStr>, &Path)) -> Option<PathBuf> {
    if Path::new(program).components().count() > 1 || Path::new(program).is_absolute() {
        return Some(folder.join(program)).filter(|path| is_program(path));
    }
    env::split_paths(path?)
        .map(|entry| folder.join(entry).join(program))
        .find(|candidate| is_program(candidate))
}

/// Whether it is a file that somebody may execute.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The user's `PATH` without the folders of projects.
pub fn path() -> Option<&'static OsStr> {
    static PATH: OnceLock<Option<OsString>> = OnceLock::new();
    let find = || {
        let home = env::var_os("HOME").unwrap_or_default();
        let here = env::current_dir().unwrap_or_default();
        Some(without_projects(&env::var_os("PATH")?, (Path::new(&home), &here)))
    };
    PATH.get_or_init(find).as_deref()
}

/// `path` without what is named from where one stands, without what lies in a work tree of git's below
/// home, and, when one stands in a project, without what lies in it.
fn without_projects(path: &OsStr, (home, here): (&Path, &Path)) -> OsString {
    let is_project = !home.starts_with(here);
    let is_in_project = |folder: &Path| {
        let real = folder.canonicalize();
        let real = real.as_deref().unwrap_or(folder);
        let is_tree = |above: &Path| !home.starts_with(above) && above.join(".git").exists();
        [folder, real]
            .iter()
            .any(|it| (is_project && it.starts_with(here)) || it.ancestors().any(is_tree))
    };
    let kept = env::split_paths(path).filter(|it| it.is_absolute() && !is_in_project(it));
    // None of them has a colon, which is what they were parted at.
    env::join_paths(kept).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_of_projects_are_left_out_and_the_users_own_stay() {
        let lab = tempfile::tempdir().unwrap();
        let home = lab.path().canonicalize().unwrap();
        for folder in ["a/.git", "a/bin", "plain/bin", "own/bin", "dots/.git"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        fs::create_dir(home.join(".git")).unwrap();
        std::os::unix::fs::symlink(home.join("a/bin"), home.join("link")).unwrap();
        let at = |name: &str| home.join(name).into_os_string();
        let all = env::join_paths(
            [
                at("a/bin"),
                "bin".into(),
                at("own/bin"),
                at("plain/bin"),
                at("link"),
                OsString::new(),
            ]
            .into_iter()
            .chain(["/usr/bin".into()]),
        )
        .unwrap();
        let kept = |here: &str| {
            let path = without_projects(&all, (&home, &home.join(here)));
            env::split_paths(&path).collect::<Vec<_>>()
        };
        let own = [home.join("own/bin"), home.join("plain/bin"), "/usr/bin".into()];
        assert_eq!(kept("a"), own);
        assert_eq!(kept(""), own, "home is no project, a repository or not");
        assert_eq!(kept("plain"), [own[0].clone(), own[2].clone()]);
        assert_eq!(kept(".."), own);
    }
}
