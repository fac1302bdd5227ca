//! Paths that a policy may name.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// An absolute path without `.`, `..` or NUL. It need not be UTF-8, and it need not exist.
///
/// Whether a component is a symbolic link is not known here: whoever reads the disk
/// (`stockade-config`) resolves links before it makes one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AbsPath(PathBuf);

/// Why a path cannot be named by a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path is relative.
    #[error("`{}` is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// The path contains `..`, whose meaning depends on the disk.
    #[error("`{}` contains `..`", .0.display())]
    Parent(PathBuf),
    /// The path contains a NUL byte, which no system call can take.
    #[error("`{}` contains a NUL byte", .0.display())]
    Nul(PathBuf),
}

impl AbsPath {
    /// Checks and normalizes `path`: `.` and repeated or trailing slashes are dropped.
    ///
    /// # Errors
    ///
    /// [`PathError`] when the path is relative, contains `..` or a NUL byte; the caller
    /// resolves it against a folder, or refuses it by name.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, PathError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(PathError::Relative(path));
        }
        let bytes = path.as_os_str().as_bytes();
        if bytes.contains(&0) {
            return Err(PathError::Nul(path));
        }
        // Nearly every path comes from the disk, normalized; taking it as it is costs a tenth.
        let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
        if bytes.split(|byte| *byte == b'/').skip(1).all(is_plain) {
            return Ok(Self(path));
        }
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(PathError::Parent(path));
        }
        Ok(Self(path.components().collect()))
    }

    /// The path, for system calls and messages.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path's bytes, for system calls.
    pub fn as_os_str(&self) -> &OsStr {
        self.0.as_os_str()
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        is_within(self.0.as_os_str().as_bytes(), ancestor.0.as_os_str().as_bytes())
    }
}

/// Normalized paths need no look at their components, which costs ten times as much.
fn is_within(path: &[u8], ancestor: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(ancestor) else { return false };
    rest.is_empty() || rest.starts_with(b"/") || ancestor == b"/"
}

/// A folder comes before what is in it, and that follows it without a gap.
impl Ord for AbsPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.as_os_str().as_bytes(), other.as_os_str().as_bytes());
        // No name contains the separator, so it may stand before every other byte.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((&a, &b)) => rank(a).cmp(&rank(b)),
            None => a.len().cmp(&b.len()),
        }
    }
}

impl PartialOrd for AbsPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalized_or_refused() {
        assert_eq!(AbsPath::new("/a//b/./c/").unwrap().as_path(), Path::new("/a/b/c"));
        assert!(matches!(AbsPath::new("a"), Err(PathError::Relative(_))));
        assert!(matches!(AbsPath::new("/a/../b"), Err(PathError::Parent(_))));
        assert!(matches!(AbsPath::new("/a\0b"), Err(PathError::Nul(_))));
    }

    #[test]
    fn a_longer_name_is_not_within_a_shorter_one() {
        let [a, ab, ab_c] = ["/a", "/ab", "/ab/c"].map(|path| AbsPath::new(path).unwrap());
        assert!(ab_c.is_within(&ab) && ab.is_within(&ab) && !ab.is_within(&a));
        let root = AbsPath::new("/").unwrap();
        assert!(a.is_within(&root) && root.is_within(&root) && !root.is_within(&a));
    }

    #[test]
    fn what_is_in_a_folder_follows_it_without_a_gap() {
        let mut paths = ["/a-b", "/a/b", "/a", "/", "/a/b/c", "/a\u{1}", "/b"]
            .map(|path| AbsPath::new(path).unwrap());
        paths.sort();
        let sorted = paths.map(|path| path.as_path().to_str().unwrap().to_owned());
        assert_eq!(sorted, ["/", "/a", "/a/b", "/a/b/c", "/a\u{1}", "/a-b", "/b"]);
    }
}
