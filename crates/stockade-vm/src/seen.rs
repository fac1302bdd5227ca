//! What was looked at when the key of a view was made, so that the next start looks whether that is as it was
//! and need not walk to find it.
//!
//! Invariant: a key that is found so is the one that a walk would make. A folder that is the same file with the
//! same times has the same names in it; what was not there is looked at as well. Times tell changes apart only
//! when some time lies between them, so nothing is kept of a system that was changed just now.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::{Cache, Key};
use crate::view::View;

/// Changes with the form of such a file.
const VERSION: &[u8] = b"1";

/// Its file in the cache, and how many are kept: of as many views.
const NAME: (&str, &str) = ("seen", "list");
const KEPT: usize = 4;

/// Seconds after a change before what was seen of it is kept: more than any file system rounds its times by.
const SETTLED: i64 = 3;

/// The name of what an image of `view` would hold now.
pub(crate) fn key(cache: &Cache, view: &View) -> io::Result<String> {
    let mut name = view.name();
    name.add(VERSION);
    view.sources()?.iter().for_each(|source| name.add(source.as_os_str().as_bytes()));
    let name = name.name();
    if let Some(path) = cache.find(NAME, &name) {
        if let Some(key) = fs::read(path).ok().as_deref().and_then(unchanged) {
            return Ok(key);
        }
        cache.forget(NAME, &name)?;
    }
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut seen = Seen::default();
    let key = view.key(&mut |path, metadata| seen.add(path, metadata))?;
    if seen.latest.saturating_add(SETTLED) < i64::try_from(began).unwrap_or_default() {
        cache.file(NAME, (&name, KEPT), |file| file.write_all(&seen.file(&key)))?;
    }
    Ok(key)
}

/// What was seen, one row after the other.
#[derive(Debug, Default)]
struct Seen {
    rows: Vec<u8>,
    /// When the last of it was changed.
    latest: i64,
}

impl Seen {
    fn add(&mut self, path: &Path, metadata: Option<&Metadata>) {
        let path = path.as_os_str().as_bytes();
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        self.rows.extend(length.to_le_bytes());
        self.rows.extend(path);
        self.rows.extend(state(metadata));
        // The one that nobody can set.
        self.latest = self.latest.max(metadata.map(MetadataExt::ctime).unwrap_or_default());
    }

    /// The whole file: a sum, the key, and the rows.
    fn file(&self, key: &str) -> Vec<u8> {
        let body = [&[u8::try_from(key.len()).unwrap_or_default()], key.as_bytes(), &self.rows];
        let body = body.concat();
        [sum(&body).as_bytes(), &body].concat()
    }
}

/// Characters of a [`sum`].
const SUM: usize = 32;

/// Against damage.
fn sum(body: &[u8]) -> String {
    let mut key = Key::default();
    key.add(body);
    key.name()
}

/// The key in `file`, when everything is as its rows have it.
fn unchanged(file: &[u8]) -> Option<String> {
    let (told, body) = file.split_at_checked(SUM)?;
    if told != sum(body).as_bytes() {
        return None;
    }
    let (length, rest) = body.split_first()?;
    let (key, mut rows) = rest.split_at_checked(usize::from(*length))?;
    while !rows.is_empty() {
        let (length, rest) = rows.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (path, rest) = rest.split_at_checked(length)?;
        let (was, rest) = rest.split_first_chunk::<STATE>()?;
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if state(path.symlink_metadata().ok().as_ref()) != *was {
            return None;
        }
        rows = rest;
    }
    String::from_utf8(key.to_vec()).ok()
}

const STATE: usize = 9 * 8;

/// Which file it is, and what changes with it or with what is in it; zeros when it is not there.
fn state(metadata: Option<&Metadata>) -> [u8; STATE] {
    let mut state = [0; STATE];
    let Some(of) = metadata else { return state };
    let numbers = [
        of.dev().to_le_bytes(),
        of.ino().to_le_bytes(),
        of.len().to_le_bytes(),
        u64::from(of.mode()).to_le_bytes(),
        of.mtime().to_le_bytes(),
        of.mtime_nsec().to_le_bytes(),
        of.ctime().to_le_bytes(),
        of.ctime_nsec().to_le_bytes(),
        u64::from(of.uid()).to_le_bytes(),
    ];
    state.copy_from_slice(numbers.as_flattened());
    state
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::view::add_to_key;

    /// A folder of which everything counts, as it was seen.
    fn seen(folder: &Path) -> (String, Seen) {
        let (mut key, mut seen) = (Key::default(), Seen::default());
        add_to_key(&mut key, folder);
        crate::view::walk(folder, true, &mut |path, metadata| seen.add(path, metadata));
        crate::view::walk(&folder.join("absent"), true, &mut |path, metadata| {
            seen.add(path, metadata);
        });
        (key.name(), seen)
    }

    /// Returns when what is changed now has another time than what was changed before.
    fn tick(folder: &Path) {
        let changed = || {
            fs::write(folder.join("clock"), "").unwrap();
            let of = fs::metadata(folder.join("clock")).unwrap();
            (of.ctime(), of.ctime_nsec())
        };
        let before = changed();
        while changed() == before {}
    }

    #[test]
    fn what_was_seen_stands_for_a_walk_until_anything_changes() {
        let lab = tempfile::tempdir().unwrap();
        let own = lab.path().join("own");
        fs::create_dir_all(own.join("a/b")).unwrap();
        fs::write(own.join("a/file"), "1").unwrap();
        let moved = lab.path().join("moved");
        let changes: [(&str, &dyn Fn()); 7] = [
            ("a file is written", &|| fs::write(own.join("a/file"), "22").unwrap()),
            ("one more", &|| fs::write(own.join("a/b/more"), "").unwrap()),
            ("one less", &|| fs::remove_file(own.join("a/b/more")).unwrap()),
            ("a folder", &|| fs::create_dir(own.join("a/b/c")).unwrap()),
            ("what was not there", &|| fs::write(own.join("absent"), "").unwrap()),
            ("another file of the same name", &|| {
                let file = own.join("a/file");
                let times = fs::metadata(&file).unwrap().modified().unwrap();
                fs::rename(&file, &moved).unwrap();
                fs::write(&file, "22").unwrap();
                fs::File::open(&file).unwrap().set_modified(times).unwrap();
            }),
            ("gone", &|| fs::remove_dir_all(&own).unwrap()),
        ];
        for (what, change) in changes {
            let (key, seen) = seen(&own);
            let file = seen.file(&key);
            assert_eq!(unchanged(&file).as_ref(), Some(&key), "before {what}");
            tick(lab.path());
            change();
            assert_eq!(unchanged(&file), None, "{what}");
        }
    }

    #[test]
    fn a_damaged_file_is_of_no_use() {
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("file"), "").unwrap();
        let (key, seen) = seen(lab.path());
        let whole = seen.file(&key);
        assert!(unchanged(&whole).is_some());
        for at in [0, SUM, SUM + 1, SUM + 40, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(unchanged(&damaged), None, "{at}");
            assert_eq!(unchanged(&whole[..at]), None, "{at}");
        }
    }

    /// The key of this machine is the same by a walk and by what was seen, and is not kept of a
    /// system that was changed just now.
    #[test]
    fn a_key_is_found_again_and_not_of_what_was_changed_just_now() {
        let lab = tempfile::tempdir().unwrap();
        let cache = Cache::open(&lab.path().join("cache")).unwrap();
        let tools = lab.path().join("tools");
        fs::create_dir(&tools).unwrap();
        let lists = || -> Vec<PathBuf> {
            let files = fs::read_dir(cache.folder()).unwrap().flatten();
            files
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "list"))
                .collect()
        };
        let view = View { toolchains: vec![tools.clone()], modules: None, uid: 1, gid: 1 };
        let walked = |view: &View| view.key(&mut |_, _| ()).unwrap();
        fs::write(tools.join("tool"), "1").unwrap();
        assert_eq!(key(&cache, &view).unwrap(), walked(&view));
        assert!(lists().is_empty(), "it was changed just now");
        let old = View { toolchains: Vec::new(), ..view };
        let first = key(&cache, &old).unwrap();
        if lists().len() == 1 {
            assert_eq!(key(&cache, &old).unwrap(), first);
        }
    }
}
