//! Becoming the owner of a workspace, for root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::sys::credentials_unsafe;
use crate::SetupError;

/// A user of this system, as its user database knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// The id of their first group.
    pub gid: u32,
    /// Log-in name.
    pub name: OsString,
    /// Home folder.
    pub home: PathBuf,
}

/// The owner of `path`; `None` when it does not exist or its owner has no entry in
/// `/etc/passwd`, so that nobody's home would be known.
pub fn owner_of(path: &Path) -> Option<Owner> {
    let uid = fs::metadata(path).ok()?.uid();
    let passwd = fs::read("/etc/passwd").ok()?;
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, _, id, gid, _, home, ..] = fields.as_slice() else { return None };
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u32>().ok();
        (number(id)? == uid).then(|| Owner {
            uid,
            gid: number(gid).unwrap_or(uid),
            name: OsString::from_vec(name.to_vec()),
            home: PathBuf::from(OsString::from_vec(home.to_vec())),
        })
    })
}

/// Makes this process, all of it and for good, run as `owner` with no further group.
///
/// # Errors
///
/// [`SetupError::Host`] when this process may not change its ids.
pub fn become_user(owner: &Owner) -> Result<(), SetupError> {
    credentials_unsafe::change_ids(owner.uid, owner.gid)
        .map_err(|error| SetupError::Host("become the owner of the workspace".into(), error))
}
