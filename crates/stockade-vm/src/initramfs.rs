//! The initial file system: the guest agent as PID 1, and the modules that it needs to reach its
//! disks and its channel.

use std::io::Write as _;
use std::path::PathBuf;

use stockade_guest::{Generation, MODULES_FOLDER};

use crate::cache::{Cache, Key};
use crate::cpio::Archive;
use crate::guest;
use crate::kernel::{self, Kernel, KernelError};
use crate::modules;

/// The archive for `kernel`.
pub(crate) fn of(kernel: &Kernel, cache: &Cache) -> Result<PathBuf, KernelError> {
    let mut key = Key::default();
    key.add(guest::PROGRAM);
    key.add(kernel.key()?.as_bytes());
    key.add(Generation::CURRENT.to_string().as_bytes());
    for name in modules::names() {
        key.add(name.as_bytes());
    }
    cache.file(("initramfs", "cpio"), (&key.name(), 2), |file| {
        let mut archive = Archive::default();
        archive.console();
        archive.file("init", guest::PROGRAM);
        archive.folder(MODULES_FOLDER);
        for (number, path) in modules::needed(kernel)?.into_iter().enumerate() {
            let name = format!("{MODULES_FOLDER}/{number:03}.ko");
            archive.file(&name, &kernel::module(&path)?);
        }
        Ok(file.write_all(&archive.finish())?)
    })
}
