//! Caches without mounts: their tools are led to places of their own, by their variables.
//!
//! Where there is no overlay the user's caches can be read only. Each workspace has a folder
//! for what its runs write instead, beside the folders of the layer that stands over the caches
//! elsewhere. What a tool of the table (`stockade_policy::caches`) would miss of the user's is in
//! it from the start: small files are copied, so that tools may write to them, and of the rest there
//! are links, by which nothing is written.
//!
//! It is made whole before anything inside sees it, once: nothing that a run left there is
//! followed here.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use stockade_policy::caches::{APART, Apart, Begin, Instead, MOVED, NAMED, Usual};
use stockade_policy::{AbsPath, Policy};

use super::plan::{Content, Placement};
use crate::Launch;

/// In the folder of a layer.
const FOLDER: &str = "apart";
/// Beside it: what was hidden when it was made.
const BEGUN: &str = "apart-begun";
/// Changes with what a folder begins with, so that one of an earlier version is made anew.
const FORM: &[u8] = b"2\n";
/// Its name until it is whole.
const NEW: &str = "apart-new";

/// What is copied of a file; a larger one is linked.
const SMALL: u64 = 64 << 10;

/// What is done at most for a beginning. A cache that begins with a part is a cache all the same.
const MOST: Room = Room { entries: 20_000, bytes: 64 << 20 };

/// Where the configuration has led tools whose cache was not there: here, or into the user's folder
/// of caches.
const PRIVATE: &str = "/tmp";

#[derive(Debug, Clone, Copy)]
struct Room {
    entries: usize,
    bytes: u64,
}

/// A workspace's folder.
#[derive(Debug)]
pub(super) struct Store {
    folder: AbsPath,
    kept: Vec<AbsPath>,
    names: Vec<(PathBuf, PathBuf)>,
}

impl Store {
    /// Takes the folder of `launch`'s workspace, and makes it if it is not there. `None` when no
    /// cache may be written.
    pub(super) fn take(launch: &Launch) -> io::Result<Option<Self>> {
        let Some(above) = launch.caches.as_ref().and_then(|layer| layer.upper.as_path().parent())
        else {
            return Ok(None);
        };
        let policy = &launch.policy;
        let (folder, begun) = (above.join(FOLDER), above.join(BEGUN));
        let is_cached = |path: &&AbsPath| policy.caches.iter().any(|cache| path.is_within(cache));
        let hidden: Vec<&Path> =
            policy.hidden.iter().filter(is_cached).map(AbsPath::as_path).collect();
        let of_hidden =
            hidden.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\n"].concat());
        let note: Vec<u8> = FORM.iter().copied().chain(of_hidden).collect();
        let places = places(policy, &launch.command.environment);
        if !folder.is_dir() || fs::read(&begun).ok().as_ref() != Some(&note) {
            let new = above.join(NEW);
            for old in [&folder, &new] {
                clear(old)?;
            }
            make_folder(&new)?;
            let mut room = MOST;
            for (cache, place) in &places {
                begin((place, &new.join(cache.folder)), cache.begins, &hidden, &mut room)?;
            }
            fs::write(begun, note)?;
            fs::rename(new, &folder)?;
        }
        let kept = APART.iter().flat_map(|cache| {
            let names = cache.begins.iter().flat_map(|begin| match begin {
                Begin::Kept(names) => *names,
                Begin::Shadow(..) => &[],
            });
            names.map(|name| folder.join(cache.folder).join(name))
        });
        let kept = kept.filter(|path| path.symlink_metadata().is_ok());
        let kept = kept.filter_map(|path| AbsPath::new(path).ok()).collect();
        let usual = |cache: &Apart| Some(policy.home.as_ref()?.as_path().join(cache.usual));
        let named = places
            .into_iter()
            .filter(|(cache, place)| cache.by_name && usual(cache).as_ref() == Some(place));
        let named = named.map(|(cache, place)| (place, folder.join(cache.folder)));
        let names = named.filter(|(_, ours)| ours.is_dir()).collect();
        Ok(Some(Self { folder: AbsPath::new(folder).map_err(io::Error::other)?, kept, names }))
    }

    /// Caches whose paths lead to what is here instead.
    pub(super) fn names(&self) -> &[(PathBuf, PathBuf)] {
        &self.names
    }

    /// What of it may be written.
    pub(super) fn placements(&self) -> impl Iterator<Item = Placement> {
        let folder = Placement { path: self.folder.clone(), content: Content::Writable };
        let kept = self.kept.iter().cloned();
        let kept = kept.map(|path| Placement { path, content: Content::Protected });
        kept.chain([folder])
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.as_path()
    }
}

/// The caches of the table that could only be read, and where they are.
fn places(policy: &Policy, environment: &[(OsString, OsString)]) -> Vec<(&'static Apart, PathBuf)> {
    let place = |cache: &'static Apart| {
        if cache.unless.is_some_and(|name| value(environment, name).is_some()) {
            return None;
        }
        let set = cache.variable.and_then(|name| value(environment, name)).map(PathBuf::from);
        let place = match set {
            Some(place) => place,
            None => policy.home.as_ref()?.as_path().join(cache.usual),
        };
        is_read_only(policy, &place).then_some((cache, place))
    };
    APART.iter().filter_map(place).collect()
}

/// Whether `place` lies in a cache of the policy's.
fn is_read_only(policy: &Policy, place: &Path) -> bool {
    let real = place.canonicalize();
    let real = real.as_deref().unwrap_or(place);
    policy.caches.iter().any(|cache| real.starts_with(cache.as_path()))
}

fn value<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsString> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Leads tools to `base` that the configuration leads elsewhere or that could write their cache in
/// an overlay only, and to what a store has.
pub(super) fn lead(
    environment: &mut Vec<(OsString, OsString)>,
    policy: &Policy,
    (base, store): (&Path, Option<&Store>),
) {
    let apart = if store.is_some() { places(policy, environment) } else { Vec::new() };
    let home = policy.home.as_ref().map(AbsPath::as_path);
    let caches = value(environment, "XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(home?.join(".cache")));
    let before: Vec<&Path> = [Path::new(PRIVATE)].into_iter().chain(caches.as_deref()).collect();
    for cache in MOVED {
        let is_led = cache.instead.iter().any(|instead| is_of(environment, *instead, &before));
        let usual = || match cache.usual {
            Usual::Caches(folder) => Some(caches.as_ref()?.join(folder)),
            Usual::Home(folder) => Some(home?.join(folder)),
        };
        let set = cache.variable.and_then(|name| value(environment, name)).map(PathBuf::from);
        let is_closed = || set.or_else(usual).is_some_and(|place| is_read_only(policy, &place));
        if is_led || (!cache.only_missing && store.is_some() && is_closed()) {
            for instead in cache.instead {
                set_one(environment, *instead, (base, &before));
            }
        }
    }
    forget_named(environment, |place| is_read_only(policy, place));
    for instead in apart.iter().filter_map(|(cache, _)| cache.instead) {
        set_one(environment, instead, (base, &before));
    }
}

/// A cache that is named is written to where it stands: one that is read-only is not named.
fn forget_named(environment: &mut Vec<(OsString, OsString)>, is_read_only: impl Fn(&Path) -> bool) {
    environment.retain(|(name, value)| {
        let is_named = NAMED.iter().any(|(known, _)| name.as_os_str() == *known);
        !(is_named && is_read_only(Path::new(value)))
    });
}

/// What of the value of a variable comes after what was put in front of it.
fn behind<'a>(value: &'a OsStr, front: &OsStr) -> Option<&'a OsStr> {
    let rest = value.as_bytes().strip_prefix(front.as_bytes())?;
    match rest {
        [] => Some(OsStr::new("")),
        [b' ', rest @ ..] => Some(OsStr::from_bytes(rest)),
        _ => None,
    }
}

/// Whether the variable leads to one of `before` by the table.
fn is_of(environment: &[(OsString, OsString)], instead: Instead, before: &[&Path]) -> bool {
    let Some(value) = value(environment, instead.name()) else { return false };
    before.iter().any(|base| {
        let led = instead.led(base);
        match instead {
            Instead::Set(_, text) => text.contains("{}") && *value == led,
            Instead::Front(..) => behind(value, &led).is_some(),
        }
    })
}

fn set_one(
    environment: &mut Vec<(OsString, OsString)>,
    instead: Instead,
    (base, before): (&Path, &[&Path]),
) {
    let name = instead.name();
    let mut led = instead.led(base);
    if let (Instead::Front(..), Some(value)) = (instead, value(environment, name)) {
        // Theirs is the last word, ours of before is not.
        let others = before.iter().find_map(|old| behind(value, &instead.led(old)));
        let others = others.unwrap_or(value);
        if !others.is_empty() {
            led.push(" ");
            led.push(others);
        }
    }
    environment.retain(|(known, _)| known != name);
    environment.push((name.into(), led));
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Removes what a run may have left, closed folders included. No run is there.
fn clear(path: &Path) -> io::Result<()> {
    let mut below = vec![path.to_owned()];
    while let Some(folder) = below.pop() {
        if !folder.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let entries = fs::read_dir(&folder)?.flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        below.extend(folders.map(|entry| entry.path()));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes `ours` with what it begins with of `users`.
fn begin(
    (users, ours): (&Path, &Path),
    begins: &[Begin],
    hidden: &[&Path],
    room: &mut Room,
) -> io::Result<()> {
    make_folder(ours)?;
    for begin in begins {
        match begin {
            Begin::Kept(names) => {
                for name in *names {
                    let path = users.join(name);
                    if path.symlink_metadata().is_ok() {
                        symlink(path, ours.join(name))?;
                    }
                }
            }
            Begin::Shadow(name, levels) => {
                let (users, ours) = (users.join(name), ours.join(name));
                if users.is_dir() {
                    make_folder(&ours)?;
                    shadow((users, ours), *levels, hidden, room)?;
                }
            }
        }
    }
    Ok(())
}

/// Fills the folder `ours` with what `users` has. What cannot be read there is not there.
fn shadow(
    (users, ours): (PathBuf, PathBuf),
    levels: usize,
    hidden: &[&Path],
    room: &mut Room,
) -> io::Result<()> {
    let mut folders = vec![(users, ours, levels)];
    while let Some((users, ours, levels)) = folders.pop() {
        for entry in fs::read_dir(&users).into_iter().flatten().flatten() {
            let Some(left) = room.entries.checked_sub(1) else { return Ok(()) };
            room.entries = left;
            let (path, name) = (entry.path(), entry.file_name());
            let to = ours.join(&name);
            // An earlier entry of the table has made it.
            if to.symlink_metadata().is_ok_and(|made| made.is_dir()) {
                continue;
            }
            let (Ok(found), false) =
                (entry.metadata(), hidden.iter().any(|it| path.starts_with(it)))
            else {
                continue;
            };
            if found.is_dir() && levels > 0 && !is_whole(&name) {
                make_folder(&to)?;
                folders.push((path, to, levels - 1));
                continue;
            }
            let bytes = room.bytes.checked_sub(found.len());
            match bytes.filter(|_| found.is_file() && found.len() <= SMALL) {
                Some(left) if fs::copy(&path, &to).is_ok() => room.bytes = left,
                _ => {
                    fs::remove_file(&to).ok();
                    symlink(path, to)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a folder of this name never changes (a Go module, `name@version`) or must not be taken to
/// pieces (a repository).
fn is_whole(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes == b".git" || bytes.iter().skip(1).any(|byte| *byte == b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_folder_that_was_begun_stays_ones_own_beside_those_that_are_links() {
        let lab = tempfile::tempdir().unwrap();
        let (users, ours) = (lab.path().join("users"), lab.path().join("ours"));
        for folder in ["tool/1/deep", "other"] {
            fs::create_dir_all(users.join(folder)).unwrap();
        }
        let begins = [Begin::Shadow("tool", 8), Begin::Shadow("", 0)];
        begin((&users, &ours), &begins, &[], &mut { MOST }).unwrap();
        fs::write(ours.join("tool/1/deep/lock"), "").unwrap();
        assert!(!users.join("tool/1/deep/lock").exists());
        assert_eq!(fs::read_link(ours.join("other")).unwrap(), users.join("other"));
    }

    #[test]
    fn a_beginning_has_what_the_user_has_and_leads_no_write_to_it() {
        let lab = tempfile::tempdir().unwrap();
        let (users, ours) = (lab.path().join("users"), lab.path().join("ours"));
        let small = users.join("r/mod/small");
        for folder in ["bin", "r/mod/a@1", "r/mod/@v", "r/mod/deep/er", "r/mod/.git"] {
            fs::create_dir_all(users.join(folder)).unwrap();
        }
        for file in ["r/mod/a@1/source", "r/mod/@v/list", "r/mod/secret", "r/mod/deep/er/file"] {
            fs::write(users.join(file), "users").unwrap();
        }
        fs::write(&small, "users").unwrap();
        fs::write(users.join("r/large"), vec![0; 65 << 10]).unwrap();
        let secret = users.join("r/mod/secret");
        let begins = [Begin::Kept(&["bin", "config"]), Begin::Shadow("r", 2)];
        let mut room = MOST;
        begin((&users, &ours), &begins, &[&secret], &mut room).unwrap();
        let link = |name: &str| fs::read_link(ours.join(name)).ok();
        for linked in ["bin", "r/large", "r/mod/a@1", "r/mod/.git", "r/mod/deep/er"] {
            assert_eq!(link(linked), Some(users.join(linked)), "{linked}");
        }
        for own in ["r/mod/small", "r/mod/@v/list"] {
            fs::write(ours.join(own), "ours").unwrap();
            assert_eq!(fs::read_to_string(users.join(own)).unwrap(), "users", "{own}");
        }
        assert!(!ours.join("r/mod/secret").exists() && link("config").is_none());
        let mut room = Room { entries: 1, bytes: 0 };
        begin((&users, &lab.path().join("less")), &begins, &[], &mut room).unwrap();
        assert_eq!(fs::read_dir(lab.path().join("less/r")).unwrap().count(), 1);
        fs::set_permissions(ours.join("r/mod"), Permissions::from_mode(0o500)).unwrap();
        clear(&ours).unwrap();
        assert!(!ours.exists() && small.exists());
    }

    #[test]
    fn a_store_that_cannot_be_written_is_not_named() {
        let before = pairs(&[("pnpm_config_store_dir", "/h/store"), ("OTHER", "/h/store")]);
        let mut environment = before.clone();
        forget_named(&mut environment, |place| place.starts_with("/srv"));
        assert_eq!(environment, before);
        forget_named(&mut environment, |place| place.starts_with("/h"));
        assert_eq!(environment, pairs(&[("OTHER", "/h/store")]));
    }

    #[test]
    fn what_was_put_in_front_before_is_put_there_once() {
        let mut environment = pairs(&[("MAVEN_OPTS", "-Dmaven.repo.local=/tmp/m2 -Xmx1g")]);
        let front = Instead::Front("MAVEN_OPTS", "-Dmaven.repo.local={}/m2");
        let before = [Path::new("/tmp")];
        assert!(is_of(&environment, front, &before));
        set_one(&mut environment, front, (Path::new("/s"), &before));
        assert_eq!(environment, pairs(&[("MAVEN_OPTS", "-Dmaven.repo.local=/s/m2 -Xmx1g")]));
        assert!(!is_of(&environment, front, &before));
        let mut environment = pairs(&[("MAVEN_OPTS", "-Xmx1g")]);
        set_one(&mut environment, front, (Path::new("/s"), &before));
        assert_eq!(environment, pairs(&[("MAVEN_OPTS", "-Dmaven.repo.local=/s/m2 -Xmx1g")]));
    }
}
