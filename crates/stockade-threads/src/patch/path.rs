//! Paths that may stand in a tree that somebody else made.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Longer paths are refused by the system (`PATH_MAX`), longer names too (`NAME_MAX`).
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;
const DEPTH_MAX: usize = 256;

/// A relative path of plain names: below the folder that it is taken from, on every file
/// system, and in no `.git`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

/// Why a path is refused. The texts fit after the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// No names at all, or nothing between two slashes.
    #[error("has an empty name in it")]
    Empty,
    /// It starts at the root.
    #[error("is absolute")]
    Absolute,
    /// `.` or `..`.
    #[error("goes through `.` or `..`")]
    Dots,
    /// It leads into a repository's own folder, on this file system or another.
    #[error("leads into `.git`")]
    Git,
    /// A separator on other systems.
    #[error("has a backslash in it")]
    Backslash,
    /// What no system call takes.
    #[error("has a NUL byte in it")]
    Nul,
    /// Longer than the system takes.
    #[error("is too long")]
    TooLong,
}

impl TreePath {
    /// Checks `path`.
    ///
    /// # Errors
    ///
    /// The first [`PathFault`] that it has.
    pub fn new(path: &[u8]) -> Result<Self, PathFault> {
        if path.contains(&0) {
            return Err(PathFault::Nul);
        }
        if path.contains(&b'\\') {
            return Err(PathFault::Backslash);
        }
        if path.first() == Some(&b'/') {
            return Err(PathFault::Absolute);
        }
        let is_long = |name: &[u8]| name.len() > NAME_MAX;
        let names = || path.split(|byte| *byte == b'/');
        if path.len() > PATH_MAX || names().any(is_long) || names().count() > DEPTH_MAX {
            return Err(PathFault::TooLong);
        }
        for name in names() {
            match name {
                b"" => return Err(PathFault::Empty),
                b"." | b".." => return Err(PathFault::Dots),
                name if is_git(name) => return Err(PathFault::Git),
                _ => {}
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For system calls.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The folders above it, nearest last: `a`, `a/b` for `a/b/c`.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.filter_map(|(at, _)| self.0.get(..at))
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Whether some file system takes `name` for `.git`: case, HFS+'s ignored code points, NTFS's
/// short names, trailing dots and spaces, and streams.
pub(crate) fn is_git(name: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let kept = chunk.valid().chars().filter(|character| !is_ignored(*character));
        let mut buffer = [0; 4];
        for character in kept {
            plain.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
        plain.extend_from_slice(chunk.invalid());
    }
    plain.make_ascii_lowercase();
    let stem = plain.split(|byte| *byte == b':').next().unwrap_or_default();
    let end = stem.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |at| at + 1);
    let stem = stem.get(..end).unwrap_or_default();
    let is_short = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    stem == b".git" || stem.strip_prefix(b"git~").is_some_and(is_short)
}

/// Code points that HFS+ skips when it compares names (git's utf8.c, `next_hfs_char`).
fn is_ignored(character: char) -> bool {
    matches!(character,
        '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_or_into_git_are_refused() {
        #[rustfmt::skip]
        const CASES: &[(&str, Option<PathFault>)] = &[
            ("a",                          None),
            ("src/a b/c\u{e4}.rs",         None),
            (".gitignore",                 None),
            (".github/workflows/ci.yml",   None),
            ("git",                        None),
            ("a.git",                      None),
            (".git-blame-ignore-revs",     None),
            ("...",                        None),
            ("git~x",                      None),
            ("",                           Some(PathFault::Empty)),
            ("a//b",                       Some(PathFault::Empty)),
            ("a/",                         Some(PathFault::Empty)),
            ("/etc/passwd",                Some(PathFault::Absolute)),
            ("../a",                       Some(PathFault::Dots)),
            ("a/../b",                     Some(PathFault::Dots)),
            ("./a",                        Some(PathFault::Dots)),
            ("a\\b",                       Some(PathFault::Backslash)),
            ("a\0b",                       Some(PathFault::Nul)),
            (".git",                       Some(PathFault::Git)),
            (".git/config",                Some(PathFault::Git)),
            ("a/.git/hooks/x",             Some(PathFault::Git)),
            (".GIT/config",                Some(PathFault::Git)),
            (".gIt",                       Some(PathFault::Git)),
            (".git.",                      Some(PathFault::Git)),
            (".git . .",                   Some(PathFault::Git)),
            (".git/",                      Some(PathFault::Git)),
            ("git~1/config",               Some(PathFault::Git)),
            ("GIT~2",                      Some(PathFault::Git)),
            (".git::$INDEX_ALLOCATION/x",  Some(PathFault::Git)),
            (".git:stream",                Some(PathFault::Git)),
            ("git~1:x",                    Some(PathFault::Git)),
            (".g\u{200c}it/config",        Some(PathFault::Git)),
            ("\u{feff}.git",               Some(PathFault::Git)),
            (".GI\u{206f}T ",              Some(PathFault::Git)),
        ];
        for (path, expected) in CASES {
            let fault = TreePath::new(path.as_bytes()).err();
            let is_trailing = *path == ".git/";
            assert_eq!(fault, *expected, "{path:?} {is_trailing}");
        }
        assert_eq!(TreePath::new(&[b'a'; 300]), Err(PathFault::TooLong));
        assert_eq!(TreePath::new("a/".repeat(1000).as_bytes()), Err(PathFault::TooLong));
    }

    #[test]
    fn folders_are_those_above() {
        let path = TreePath::new(b"a/b/c").unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), [b"a".as_slice(), b"a/b"]);
    }
}
