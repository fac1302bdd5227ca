//! What a set-up has left, kept for the next machine with the same system.
//!
//! An archive that a machine has made, and that the next one takes apart: on this side it is bytes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use stockade_guest::Generation;

use crate::cache::{Bound, Cache, Key};

/// Results that are kept: of as many projects, or lists of dependencies.
const KEPT: Bound = Bound { files: 16, bytes: 16 << 30 };

/// The name of such a file.
const NAME: (&str, &str) = ("setup", "tar");

/// A place for what a set-up leaves.
#[derive(Debug, Clone)]
pub struct Kept {
    cache: Cache,
    key: String,
    file: Option<PathBuf>,
}

impl Kept {
    /// For what `wanted` stands for, in machines with this image of a system.
    pub(crate) fn new(cache: &Cache, wanted: &str, image: &Path) -> Self {
        let mut key = Key::default();
        key.add(wanted.as_bytes());
        key.add(image.as_os_str().as_encoded_bytes());
        key.add(Generation::CURRENT.to_string().as_bytes());
        let key = key.name();
        Self { cache: cache.clone(), file: cache.find(NAME, &key), key }
    }

    /// The archive that the machine has, if there was one when it was booted.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Bytes that an archive may have here.
    ///
    /// # Errors
    ///
    /// When the folder's file system cannot be asked.
    pub fn space(&self) -> io::Result<u64> {
        self.cache.space()
    }

    /// Keeps what `write` writes. Nothing is kept when it fails.
    ///
    /// # Errors
    ///
    /// Those of `write`, and of the file system.
    pub fn keep<E: From<io::Error>>(
        &self,
        write: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        self.cache.file(NAME, (&self.key, KEPT), write).map(drop)
    }

    /// Does away with an archive that is of no use.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn forget(&self) -> io::Result<()> {
        match self.file.as_deref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_kept_is_found_for_the_same_system_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let kept = |wanted: &str, image: &str| Kept::new(&cache, wanted, image.as_ref());
        let first = kept("a", "system-1.erofs");
        assert_eq!(first.file(), None);
        let broken = first.keep(|file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the machine is gone"))
        });
        broken.unwrap_err();
        assert_eq!(kept("a", "system-1.erofs").file(), None);
        first.keep(|file| file.write_all(b"whole")).unwrap();
        let again = kept("a", "system-1.erofs");
        assert_eq!(fs::read(again.file().unwrap()).unwrap(), b"whole");
        assert_eq!(kept("a", "system-2.erofs").file(), None);
        assert_eq!(kept("b", "system-1.erofs").file(), None);
        again.forget().unwrap();
        again.forget().unwrap();
        assert_eq!(kept("a", "system-1.erofs").file(), None);
    }
}
