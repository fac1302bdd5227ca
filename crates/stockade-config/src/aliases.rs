//! Other places at which a path is shown: the same file system mounted twice, or a part of it.
//!
//! `~/.ssh` is also `/sysroot/…/.ssh` (ostree), `/mnt/disk/@home/…` (the top of a btrfs disk) or
//! wherever somebody made a bind mount. A mask covers one path; so each of them needs its own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// One line of `proc_pid_mountinfo(5)`.
#[derive(Debug)]
struct Mount<'a> {
    /// The file system, as `major:minor`.
    device: &'a [u8],
    /// The part of it that is shown.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

/// Where else, by `mountinfo`, the canonical `paths` or something in them should be seen. Another
/// mount may cover such a place.
pub(crate) fn aliases(paths: &[PathBuf], mountinfo: &[u8]) -> Vec<PathBuf> {
    let mounts: Vec<Mount<'_>> = mountinfo.split(|byte| *byte == b'\n').filter_map(parse).collect();
    let is_twice = |device: &[u8]| mounts.iter().filter(|other| other.device == device).nth(1);
    if !mounts.iter().any(|mount| is_twice(mount.device).is_some()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for path in paths {
        let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
        // Of two at one point the later one is on top.
        let Some(own) = above.max_by_key(|mount| mount.point.as_os_str().len()) else { continue };
        let Ok(rest) = path.strip_prefix(&own.point) else { continue };
        let inner = own.root.join(rest);
        for other in mounts.iter().filter(|other| other.device == own.device) {
            let alias = match inner.strip_prefix(&other.root) {
                Ok(rest) => other.point.join(rest),
                Err(_) if other.root.starts_with(&inner) => other.point.clone(),
                Err(_) => continue,
            };
            if !alias.starts_with(path) {
                found.push(alias);
            }
        }
    }
    found
}

fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Mount { device, root: unescaped(root), point: unescaped(point) })
}

/// Blanks, line breaks and backslashes stand as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
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
    PathBuf::from(OsString::from_vec(bytes))
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
        assert!(aliases(&[PathBuf::from("/home")], b"1 0 8:1 / / rw\nbroken\n").is_empty());
    }
}
