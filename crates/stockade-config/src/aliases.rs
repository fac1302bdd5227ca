//! Other places at which a path is shown: the same file system mounted twice, or a part of it.
//!
//! `~/.ssh` is also `/sysroot/…/.ssh` (ostree), `/mnt/disk/@home/…` (the top of a btrfs disk) or
//! wherever somebody made a bind mount. A mask covers one path; so each of them needs its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// One line of `proc_pid_mountinfo(5)`. Paths are bytes: they are normalized, and a start compares
/// hundreds of them.
#[derive(Debug)]
struct Mount<'a> {
    /// The file system, as `major:minor`.
    device: &'a [u8],
    /// The part of it that is shown.
    root: Cow<'a, [u8]>,
    /// Where.
    point: Cow<'a, [u8]>,
}

/// Where else, by `mountinfo`, the canonical `paths` or something in them should be seen. Another
/// mount may cover such a place.
pub(crate) fn aliases(paths: &[PathBuf], mountinfo: &[u8]) -> Vec<PathBuf> {
    let mounts: Vec<Mount<'_>> = mountinfo.split(|byte| *byte == b'\n').filter_map(parse).collect();
    let mut of_device: HashMap<&[u8], Vec<&Mount<'_>>> = HashMap::new();
    for mount in &mounts {
        of_device.entry(mount.device).or_default().push(mount);
    }
    of_device.retain(|_, mounts| mounts.len() > 1);
    if of_device.is_empty() {
        return Vec::new();
    }
    // Of two at one point the later one is on top, and is the one that stays in the map.
    let at: HashMap<&[u8], &Mount<'_>> =
        mounts.iter().map(|mount| (mount.point.as_ref(), mount)).collect();
    let mut found = Vec::new();
    for path in paths {
        let path = path.as_os_str().as_bytes();
        let Some(own) = ancestors(path).find_map(|above| at.get(above)) else { continue };
        let (Some(others), Some(rest)) = (of_device.get(own.device), beneath(path, &own.point))
        else {
            continue;
        };
        let inner = joined(&own.root, rest);
        for other in others {
            let alias = match beneath(&inner, &other.root) {
                Some(rest) => joined(&other.point, rest),
                None if beneath(&other.root, &inner).is_some() => other.point.to_vec(),
                None => continue,
            };
            if beneath(&alias, path).is_none() {
                found.push(PathBuf::from(OsString::from_vec(alias)));
            }
        }
    }
    found
}

/// `path` and every folder above it, the nearest first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let slash = path.iter().rposition(|byte| *byte == b'/')?;
        let above = path.get(..slash.max(1))?;
        (above.len() < path.len()).then_some(above)
    })
}

/// What of `path` is below `folder`, without a slash at its start; nothing when they are the same.
fn beneath<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    if folder == b"/" {
        return path.strip_prefix(b"/");
    }
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

fn joined(folder: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    if !rest.is_empty() {
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend(rest);
    }
    path
}

fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Mount { device, root: unescaped(root), point: unescaped(point) })
}

/// Blanks, line breaks and backslashes stand as three octal digits.
fn unescaped(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_wherever_its_file_system_is_shown() {
        let mountinfo = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:9 /@home /home rw - btrfs b rw\n\
            3 1 0:9 / /mnt/the\\040disk rw - btrfs b rw\n\
            4 1 0:9 /@home/u/.ssh/keys /srv/keys rw - btrfs b rw\n\
            5 1 8:1 /etc /srv/etc rw - ext4 a rw\n";
        let found = |path: &str| {
            let found = aliases(&[PathBuf::from(path)], mountinfo);
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("/home/u/.ssh"), ["/mnt/the disk/@home/u/.ssh", "/srv/keys"]);
        assert_eq!(found("/etc/shadow"), ["/srv/etc/shadow"]);
        assert_eq!(found("/var/log"), Vec::<String>::new());
        assert_eq!(found("/"), Vec::<String>::new());
        assert_eq!(found("/etcetera"), Vec::<String>::new());
        assert_eq!(found("/home"), ["/mnt/the disk/@home", "/srv/keys"]);
        assert!(aliases(&[PathBuf::from("/home")], b"1 0 8:1 / / rw\nbroken\n").is_empty());
    }
}
