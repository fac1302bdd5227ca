//! The guest agent, which is a part of this program (see `build.rs`).

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::cache::{Cache, Key};

/// A static program; empty when none could be built.
pub(crate) const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stockade-guest"));

/// The same as a file, for what of it runs on the host.
pub(crate) fn file(cache: &Cache) -> io::Result<PathBuf> {
    let mut key = Key::default();
    key.add(PROGRAM);
    cache.file(("guest", "elf"), (&key.name(), 2), |file: &mut File| {
        file.write_all(PROGRAM)?;
        file.set_permissions(Permissions::from_mode(0o700))
    })
}
