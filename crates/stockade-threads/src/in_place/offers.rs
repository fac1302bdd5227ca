//! What a yes to a path outside may be meant for instead of one call: the path itself, or a folder
//! above it.
//!
//! An editor that saves one file makes, renames and removes several names beside it; a yes to each
//! is no answer. What is offered is what configuration could open, and narrower than what a person may
//! type: no folder of a home's own settings as a whole.

use std::path::{Path, PathBuf};

use stockade_policy::AbsPath;

use super::InPlace;

/// As many are offered.
const OFFERED_MAX: usize = 4;
/// What lies higher is a machine's or a user's whole.
const DEPTH_MIN: usize = 2;

impl InPlace<'_> {
    /// The narrowest path that holds all of `names`, and folders above it, widest last. None when it
    /// has no spelling.
    pub(crate) fn offers(&self, names: &[&Path]) -> Vec<String> {
        let Some(narrowest) = common(names) else { return Vec::new() };
        let may = |path: &&Path| self.may_be_offered(path);
        let all = narrowest.ancestors().take_while(may).take(OFFERED_MAX);
        all.map_while(|path| path.to_str().map(str::to_owned)).collect()
    }

    pub(super) fn may_be_offered(&self, path: &Path) -> bool {
        let home = self.of.bounds.policy().home.as_ref().map(AbsPath::as_path);
        let is_of_settings =
            home.and_then(|home| path.strip_prefix(home).ok()).is_some_and(|path| {
                let is_settings = path.to_string_lossy().starts_with('.');
                is_settings && path.components().count() == 1
            });
        path.components().count() > DEPTH_MIN
            && !is_of_settings
            && self.of.openings.is_some_and(|openings| openings.open(path).is_ok())
    }
}

/// The path that all of `names` are, or lie below.
fn common(names: &[&Path]) -> Option<PathBuf> {
    let (first, rest) = names.split_first()?;
    let holds = |path: &&Path| rest.iter().all(|other| other.starts_with(path));
    first.ancestors().find(holds).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_have_the_folder_in_common_that_both_lie_in() {
        let of = |names: &[&str]| {
            let names: Vec<&Path> = names.iter().map(Path::new).collect();
            common(&names)
        };
        assert_eq!(of(&["/a/b"]), Some("/a/b".into()));
        assert_eq!(of(&["/a/b/c", "/a/b/d"]), Some("/a/b".into()));
        assert_eq!(of(&["/a/b", "/a/b/d"]), Some("/a/b".into()));
        assert_eq!(of(&["/a", "/b"]), Some("/".into()));
        assert_eq!(of(&[]), None);
    }
}
