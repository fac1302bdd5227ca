//! Which folders of caches there are to lay a layer over.

use std::path::{Path, PathBuf};

use stockade_policy::caches::CACHE_FOLDERS;

use crate::locate::{canonical, is_within};

/// Canonical folders in home, and what in them stays read-only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Caches {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) kept: Vec<PathBuf>,
}

/// Looks for them in `home`. One that is a link leads to where it is laid; one that lies outside
/// of home, or in something hidden or writable (`taken`), is left as it is.
pub(crate) fn find(home: &Path, taken: &[&[PathBuf]]) -> Caches {
    let mut caches = Caches::default();
    for folder in CACHE_FOLDERS {
        let Some(path) = canonical(&home.join(folder.path)).filter(|path| path.is_dir()) else {
            continue;
        };
        let is_taken = taken.iter().copied().flatten().any(|taken| is_within(&path, taken));
        if is_taken || path == home || !path.starts_with(home) {
            continue;
        }
        caches.kept.extend(folder.kept.iter().filter_map(|name| canonical(&path.join(name))));
        caches.folders.push(path);
    }
    caches.kept.retain(|kept| caches.folders.iter().any(|folder| kept.starts_with(folder)));
    caches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_in_home_and_not_taken_is_found() {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        let home = top.join("home");
        for name in ["home/.cargo/bin", "home/.cargo/registry", "home/.m2", "home/w", "away"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        std::fs::write(home.join(".npm"), "a file").unwrap();
        std::os::unix::fs::symlink(top.join("away"), home.join("go")).unwrap();
        std::os::unix::fs::symlink(home.join("w"), home.join(".gradle")).unwrap();
        let roots = [home.join("w")];
        let caches = find(&home, &[&roots, &[]]);
        assert_eq!(caches.folders, [home.join(".cargo"), home.join(".m2")]);
        assert_eq!(caches.kept, [home.join(".cargo/bin")]);
    }
}
