//! The host's disk, for the engine that explains.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use stockade_policy::guard::{Kind, Tree};
use stockade_policy::{Disk, Found, Thing};

/// This machine's disk, as the user sees it who starts a run.
#[derive(Debug, Clone)]
pub struct HostDisk {
    uid: u32,
    groups: Vec<u32>,
}

impl HostDisk {
    /// That of this process.
    pub fn new() -> Self {
        let own = rustix::process::getegid().as_raw();
        let mut groups = vec![own];
        let others = rustix::process::getgroups().unwrap_or_default();
        groups.extend(others.into_iter().map(rustix::process::Gid::as_raw));
        Self { uid: rustix::process::geteuid().as_raw(), groups }
    }

    /// Whether the user may do what the bit `want` (4, 2, 1) stands for.
    fn may(&self, path: &Path, data: &fs::Metadata, want: u32) -> bool {
        if self.uid != 0 {
            let access = match want {
                4 => Access::READ_OK,
                2 => Access::WRITE_OK,
                _ => Access::EXEC_OK,
            };
            return rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
        }
        // Inside, root has no capability and is an owner like any other.
        let shift = if data.uid() == 0 {
            6
        } else if self.groups.contains(&data.gid()) {
            3
        } else {
            0
        };
        (data.mode() >> shift) & want != 0
    }
}

impl Default for HostDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree for HostDisk {
    fn kind(&self, path: &Path) -> Option<Kind> {
        let kind = fs::symlink_metadata(path).ok()?.file_type();
        Some(if kind.is_dir() {
            Kind::Folder
        } else if kind.is_file() {
            Kind::File
        } else {
            Kind::Other
        })
    }

    /// Nothing is: no run has begun.
    fn is_new(&self, _: &Path) -> bool {
        false
    }

    fn text(&self, path: &Path) -> Option<Vec<u8>> {
        const LONGEST: u64 = 1 << 20;
        let is_small = self.kind(path)? == Kind::File
            && fs::symlink_metadata(path).is_ok_and(|data| data.len() <= LONGEST);
        if is_small { fs::read(path).ok() } else { None }
    }

    fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        if self.kind(folder)? != Kind::Folder {
            return None;
        }
        let list = fs::read_dir(folder).ok()?;
        Some(list.flatten().map(|entry| entry.file_name().into_vec()).collect())
    }
}

impl Disk for HostDisk {
    fn look(&self, path: &Path) -> Found {
        let data = match fs::symlink_metadata(path) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Found::Closed;
            }
            Err(_) => return Found::Absent,
        };
        if data.is_symlink() {
            return fs::read_link(path).map_or(Found::Closed, Found::Link);
        }
        Found::There(Thing {
            is_folder: data.is_dir(),
            can_read: self.may(path, &data, 4),
            can_write: self.may(path, &data, 2),
            can_enter: self.may(path, &data, 1),
        })
    }
}
