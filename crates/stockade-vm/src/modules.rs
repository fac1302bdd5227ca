//! Which of a kernel's modules a guest needs to reach its system, and in which order. All others are in the
//! image of the system.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::kernel::{Kernel, KernelError};

/// What a guest cannot do without.
const NEEDED: &[&str] =
    &["virtio_mmio", "virtio_blk", "virtio_console", "erofs", "overlay", "ext4"];

/// Needed by others through the kernel's own look-up by algorithm, which no table of
/// dependencies has, where it is a module at all.
const FIRST: &[&str] = &["crc32c_generic"];

/// Names of what is asked for.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FIRST.iter().chain(NEEDED).copied()
}

/// Files of modules to be loaded, first to last. What is built in is not among them.
pub(crate) fn needed(kernel: &Kernel) -> Result<Vec<PathBuf>, KernelError> {
    let read = |name: &str| fs::read_to_string(kernel.modules.join(name));
    // A kernel with nothing built in has no such file.
    let (dependencies, built_in) = (read("modules.dep")?, read("modules.builtin"));
    let built_in = built_in.unwrap_or_default();
    let table = Table::new(&dependencies, &built_in);
    let paths = table.in_order(FIRST, NEEDED).map_err(|module| KernelError::NoModule {
        release: kernel.release.clone(),
        module: module.to_owned(),
    })?;
    Ok(paths.into_iter().map(|path| kernel.modules.join(path)).collect())
}

/// `modules.dep` and `modules.builtin`, by names of modules.
struct Table<'a> {
    /// Path, and paths of all that it needs, the nearest first.
    files: HashMap<String, (&'a str, Vec<&'a str>)>,
    built_in: Vec<String>,
}

/// `kernel/fs/ext4/ext4.ko.xz` is `ext4`; `-` and `_` are the same in a name.
fn name_of(path: &str) -> String {
    let file = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

impl<'a> Table<'a> {
    fn new(dependencies: &'a str, built_in: &'a str) -> Self {
        let files = dependencies.lines().filter_map(|line| {
            let (path, needs) = line.split_once(':')?;
            Some((name_of(path), (path, needs.split_whitespace().collect())))
        });
        Self { files: files.collect(), built_in: built_in.lines().map(name_of).collect() }
    }

    fn in_order(
        &self,
        first: &[&'static str],
        needed: &[&'static str],
    ) -> Result<Vec<&'a str>, &'static str> {
        let mut order = Vec::new();
        let mut add = |path: &'a str| {
            if !order.contains(&path) {
                order.push(path);
            }
        };
        for name in first.iter().chain(needed) {
            match self.files.get(*name) {
                // The farthest first: each comes after what it needs itself.
                Some((path, needs)) => {
                    needs.iter().rev().for_each(|need| add(need));
                    add(path);
                }
                None if first.contains(name) => {}
                None if self.built_in.iter().any(|built| built == name) => {}
                None => return Err(name),
            }
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/a/virtio-blk.ko.xz: kernel/a/virtio_ring.ko.xz kernel/a/virtio.ko.xz
kernel/a/virtio_ring.ko.xz: kernel/a/virtio.ko.xz
kernel/a/virtio.ko.xz:
kernel/fs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c_generic.ko:
";

    #[test]
    fn each_comes_after_what_it_needs_and_once() {
        let table = Table::new(DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n");
        let needed = ["virtio_blk", "erofs", "ext4", "erofs"];
        let order = table.in_order(&["crc32c_generic"], &needed).unwrap();
        assert_eq!(
            order,
            [
                "kernel/crypto/crc32c_generic.ko",
                "kernel/a/virtio.ko.xz",
                "kernel/a/virtio_ring.ko.xz",
                "kernel/a/virtio-blk.ko.xz",
                "kernel/lib/libcrc32c.ko",
                "kernel/fs/erofs.ko",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_named_unless_it_may_be_built_in() {
        let table = Table::new(DEPENDENCIES, "");
        assert_eq!(table.in_order(&[], &["erofs", "overlay"]), Err("overlay"));
        assert_eq!(table.in_order(&["crc32c_intel"], &[]), Ok(vec![]));
    }
}
