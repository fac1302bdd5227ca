//! Other places at which a path is shown: the same file system mounted twice, or a part of it.
//!
//! `~/.ssh` is also `/sysroot/…/.ssh` (ostree), `/mnt/disk/@home/…` (the top of a btrfs disk) or
//! wherever somebody made a bind mount. A mask covers one path; so each of them needs its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
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
    let mut of_device: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        of_device.entry(mount.device).or_default().push(index);
    }
    of_device.retain(|_, mounts| mounts.len() > 1);
    if of_device.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (own, paths) in by_mount(paths, &mounts) {
        let Some(mount) = mounts.get(own) else { continue };
        let others = of_device.get(mount.device).into_iter().flatten().filter(|it| **it != own);
        for other in others.filter_map(|it| mounts.get(*it)) {
            found.extend(also_shown(mount, other, &paths));
        }
    }
    found
}

/// The paths by the mount that each is on, sorted by their bytes.
fn by_mount<'a>(paths: &'a [PathBuf], mounts: &[Mount<'_>]) -> BTreeMap<usize, Vec<&'a [u8]>> {
    // Of two at one point the later one is on top, and is the one that stays in the map.
    let at: HashMap<&[u8], usize> =
        mounts.iter().enumerate().map(|(index, mount)| (mount.point.as_ref(), index)).collect();
    let mut paths: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
    paths.sort_unstable();
    let mut of_mount: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    // Most paths are in the folder of the one before.
    let mut last: Option<(&[u8], Option<usize>)> = None;
    for path in paths {
        let mut above = ancestors(path);
        let own = above.next().and_then(|path| at.get(path).copied());
        let own = own.or_else(|| {
            let folder = above.next()?;
            match last {
                Some((known, own)) if known == folder => own,
                _ => {
                    let own = ancestors(folder).find_map(|above| at.get(above).copied());
                    last = Some((folder, own));
                    own
                }
            }
        });
        if let Some(own) = own {
            of_mount.entry(own).or_default().push(path);
        }
    }
    of_mount
}

/// Where `other` shows the sorted `paths` of `own`, or something in them.
fn also_shown(own: &Mount<'_>, other: &Mount<'_>, paths: &[&[u8]]) -> Vec<PathBuf> {
    // The folder of `own` that both show, and what it is called in the other.
    let (common, called) = if let Some(rest) = beneath(&other.root, &own.root) {
        (joined(&own.point, rest), other.point.to_vec())
    } else if let Some(rest) = beneath(&own.root, &other.root) {
        (own.point.to_vec(), joined(&other.point, rest))
    } else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut show = |path: &[u8], alias: Vec<u8>| {
        if beneath(&alias, path).is_none() {
            found.push(PathBuf::from(OsString::from_vec(alias)));
        }
    };
    // What is hidden as a whole, with the common folder in it.
    for above in ancestors(&common).filter(|above| paths.binary_search(above).is_ok()) {
        show(above, called.clone());
    }
    let mut inside = common.clone();
    if !inside.ends_with(b"/") {
        inside.push(b'/');
    }
    let start = paths.partition_point(|path| *path < inside.as_slice());
    for path in paths.iter().skip(start).take_while(|path| path.starts_with(&inside)) {
        let rest = path.get(inside.len()..).filter(|rest| !rest.is_empty());
        if let Some(rest) = rest {
            show(path, joined(&called, rest));
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

    /// What every path has by itself, all have together.
    #[test]
    fn many_paths_are_found_as_one_is() {
        let mountinfo = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 8:1 /home/u/.config /srv/config rw - ext4 a rw\n\
            3 1 8:1 / /mnt rw - ext4 a rw\n\
            4 1 8:2 / /home/v rw - ext4 b rw\n\
            5 1 8:2 /.ssh /home/v/other rw - ext4 b rw\n";
        let names = ["/home/u/.config", "/home/u/.config-old", "/home/u/.config/gh", "/home/u"];
        let paths: Vec<PathBuf> = names
            .iter()
            .chain(&["/home/v/.ssh/id", "/home/v", "/etc"])
            .map(PathBuf::from)
            .collect();
        let sorted = |mut found: Vec<PathBuf>| {
            found.sort();
            found.dedup();
            found
        };
        let alone: Vec<PathBuf> =
            paths.iter().flat_map(|path| aliases(std::slice::from_ref(path), mountinfo)).collect();
        let found = sorted(aliases(&paths, mountinfo));
        assert_eq!(found, sorted(alone));
        let expected = [
            "/home/v/other/id",
            "/mnt/etc",
            "/mnt/home/u",
            "/mnt/home/u/.config",
            "/mnt/home/u/.config/gh",
            "/mnt/home/u/.config-old",
            "/srv/config",
            "/srv/config/gh",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
