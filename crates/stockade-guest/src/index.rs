//! git's index, told where its files lie now.
//!
//! A repository's disk is filled from a clone on the host. For git there every file is another one
//! then, with another inode number and time of change, and its first look reads all of them again,
//! under emulation for a minute. Nothing but git has written the clone: what has the size and the
//! time of modification that the index tells is what the index says. Format: gitformat-index(5).

use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// An index of more bytes is left as it is.
const INDEX_MAX: u64 = 256 << 20;

/// Bytes of an entry before its object's name.
const STAT: usize = 40;

/// `assume-valid` and the stage of a merge: not what was checked out.
const UNUSUAL: u16 = 0x8000 | 0x3000;
/// There are sixteen flags more, all of which are unusual.
const EXTENDED: u16 = 0x4000;
/// The length of a path, and the value of what does not fit.
const LENGTH: u16 = 0x0fff;

/// Writes into the index of the repository at `folder` what its files are now, for those that have
/// the size and the time that it tells. Call it before anything else has written there.
///
/// An index that is not there, not understood, or locked stays as it is: git reads the files.
///
/// # Errors
///
/// It could not be read or replaced; it is as it was.
pub fn renew_index(folder: &Path) -> io::Result<()> {
    let git = folder.join(".git");
    let path = git.join("index");
    let old = match fs::symlink_metadata(&path) {
        Ok(old) if old.is_file() && old.len() <= INDEX_MAX => old,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    };
    let look = |name: &[u8]| fs::symlink_metadata(folder.join(OsStr::from_bytes(name))).ok();
    let Some(index) = renewed(fs::read(&path)?, &look) else { return Ok(()) };
    let lock = git.join("index.lock");
    let new = OpenOptions::new().write(true).create_new(true).mode(old.mode() & 0o777).open(&lock);
    let mut new = match new {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        new => new?,
    };
    let written = new
        .write_all(&index)
        .and_then(|()| fchown(&new, Some(old.uid()), Some(old.gid())))
        .and_then(|()| fs::rename(&lock, &path));
    written.or_else(|error| fs::remove_file(&lock).and(Err(error)))
}

/// The index with what `look` tells of its files; `None` when it is not understood.
fn renewed(mut index: Vec<u8>, look: &dyn Fn(&[u8]) -> Option<Metadata>) -> Option<Vec<u8>> {
    // Nothing in it says how long its objects' names are.
    let (digest, entries) =
        [20, 32].into_iter().find_map(|digest| Some((digest, entries(&index, digest)?)))?;
    let (content, sum) = index.split_at(index.len() - digest);
    // All zero: `index.skipHash`.
    let has_sum = sum.iter().any(|byte| *byte != 0);
    if has_sum && sum_of(content, digest) != sum {
        return None;
    }
    for Entry { at, name } in entries {
        let stat = index.get_mut(at..at + STAT)?;
        if let Some(found) = look(&name)
            && is_same(stat, &found)?
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "git keeps the lower half of each"
            )]
            let numbers = [
                (0, found.ctime() as u32),
                (4, found.ctime_nsec() as u32),
                (8, found.mtime() as u32),
                (12, found.mtime_nsec() as u32),
                (16, found.dev() as u32),
                (20, found.ino() as u32),
                (28, found.uid()),
                (32, found.gid()),
            ];
            for (at, number) in numbers {
                stat.get_mut(at..at + 4)?.copy_from_slice(&number.to_be_bytes());
            }
        }
    }
    let end = index.len() - digest;
    let (content, sum) = index.split_at_mut(end);
    if has_sum {
        sum.copy_from_slice(&sum_of(content, digest));
    }
    Some(index)
}

fn sum_of(content: &[u8], digest: usize) -> Vec<u8> {
    match digest {
        20 => Sha1::digest(content).to_vec(),
        _ => Sha256::digest(content).to_vec(),
    }
}

/// Whether a file is what an entry says of it: kind, size, and time of modification; of that the
/// seconds, when one of both has no more.
fn is_same(stat: &[u8], found: &Metadata) -> Option<bool> {
    let kind = match number(stat, 24)? {
        0o100_644 => found.is_file() && found.mode() & 0o100 == 0,
        0o100_755 => found.is_file() && found.mode() & 0o100 != 0,
        0o120_000 => found.is_symlink(),
        _ => false,
    };
    let (seconds, nanoseconds) = (number(stat, 8)?, number(stat, 12)?);
    let is_size = found.len() == u64::from(number(stat, 36)?);
    let is_second = found.mtime() == i64::from(seconds);
    let has_no_more = nanoseconds == 0 || found.mtime_nsec() == 0;
    Some(
        kind && is_size
            && is_second
            && (has_no_more || found.mtime_nsec() == i64::from(nanoseconds)),
    )
}

struct Entry {
    /// Where it begins.
    at: usize,
    name: Vec<u8>,
}

/// The usual entries of an index whose objects have names of `digest` bytes; `None` when it is not
/// of that kind, or has its entries elsewhere (`link`).
fn entries(index: &[u8], digest: usize) -> Option<Vec<Entry>> {
    let version = number(index, 4)?;
    if index.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let (mut found, mut at, mut name) = (Vec::new(), 12, Vec::new());
    for _ in 0..number(index, 8)? {
        let start = at;
        let flags_at = start + STAT + digest;
        let flags = u16::from_be_bytes(index.get(flags_at..flags_at + 2)?.try_into().ok()?);
        at = flags_at + if flags & EXTENDED == 0 { 2 } else { 4 };
        if version == 4 {
            let kept = name.len().checked_sub(offset(index, &mut at)?)?;
            name.truncate(kept);
        } else {
            name.clear();
        }
        let rest = index.get(at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        name.extend_from_slice(rest.get(..length)?);
        let told = usize::from(flags & LENGTH);
        if told != name.len().min(usize::from(LENGTH)) {
            return None;
        }
        at += length + 1;
        if version < 4 {
            at = start + (at - start).next_multiple_of(8);
        }
        if flags & (UNUSUAL | EXTENDED) == 0 {
            found.push(Entry { at: start, name: name.clone() });
        }
    }
    // Extensions up to the sum, each with its length.
    let end = index.len().checked_sub(digest)?;
    while at < end {
        let length = usize::try_from(number(index, at + 4)?).ok()?;
        if index.get(at..at + 4)? == b"link" {
            return None;
        }
        at = at.checked_add(8)?.checked_add(length)?;
    }
    (at == end).then_some(found)
}

/// A number of the fourth version: seven bits a byte, each but the last with one added.
fn offset(index: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    loop {
        let byte = *index.get(*at)?;
        *at += 1;
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 127))?;
        if byte & 128 == 0 {
            return Some(value);
        }
        value += 1;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell prints in `folder`.
    fn said(folder: &Path, line: &str) -> String {
        let settings = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
                        GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org \
                        GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org;";
        let output = Command::new("sh")
            .args(["-ec", &format!("{settings} {line}")])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A repository whose files have all been copied to other inodes.
    fn copied(begin: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let line = format!(
            "git init -q {begin} first; cd first; mkdir -p a/b; printf x > a/b/c; : > a/empty; \
             printf 'y\\n' > a/b/run; chmod +x a/b/run; ln -s b/c a/link; printf z > 'odd name'; \
             long=$(printf '%0200d' 0); mkdir -p $long/$long; echo > $long/$long/$long; \
             for n in 1 2 3 4 5 6 7 8; do echo $n > $n; done; git add -A; git commit -qm one; \
             cd ..; cp -a first second"
        );
        said(folder.path(), &line);
        let second = folder.path().join("second");
        (folder, second)
    }

    /// Names that git would have to read.
    fn unknown(folder: &Path) -> String {
        said(folder, "git diff-files --name-only")
    }

    #[test]
    fn what_was_copied_is_known_and_what_was_changed_is_not() {
        let kinds = ["", "--object-format=sha256"];
        let versions = ["2", "3", "4"];
        for (kind, version) in kinds.iter().flat_map(|kind| versions.map(|it| (*kind, it))) {
            let (_folder, second) = copied(kind);
            said(&second, &format!("git update-index --index-version {version}"));
            let first = second.parent().unwrap().join("first");
            said(&first, &format!("git update-index --index-version {version}"));
            fs::copy(first.join(".git/index"), second.join(".git/index")).unwrap();
            assert_eq!(unknown(&second).lines().count(), 14, "a control: {kind} {version}");
            // As long as before, at another time; and as long as before and at the same time, with
            // another mode.
            said(&second, "printf w > a/b/c; touch -d @1 a/b/c; chmod -x a/b/run");
            renew_index(&second).unwrap();
            assert_eq!(unknown(&second), "a/b/c\na/b/run\n", "{kind} {version}");
            assert_eq!(said(&second, "git status --porcelain"), " M a/b/c\n M a/b/run\n");
            said(
                &second,
                "git fsck --strict; git add -A; git commit -qm two; git checkout -q HEAD~",
            );
            assert_eq!(said(&second, "git status --porcelain; cat a/b/c"), "x");
        }
    }

    #[test]
    fn what_is_unusual_stays() {
        let (_folder, second) = copied("");
        said(&second, "echo > new; git add -N new; git update-index --skip-worktree 1; rm 1");
        said(&second, "git update-index --assume-unchanged 2; echo other > 2");
        let flags = "git ls-files -v 1 2 new; git status --porcelain";
        let before = said(&second, flags);
        renew_index(&second).unwrap();
        assert_eq!(said(&second, flags), before);
        // Two sides of a conflict.
        said(
            &second,
            "git checkout -qf HEAD; git checkout -qb side; echo s > 3; git commit -qam s; \
             git checkout -q -; echo t > 3; git commit -qam t; ! git merge -q side",
        );
        let conflict = said(&second, "git ls-files -u");
        assert_eq!(conflict.lines().count(), 3);
        renew_index(&second).unwrap();
        assert_eq!(said(&second, "git ls-files -u"), conflict);
    }

    #[test]
    fn what_is_not_understood_or_locked_is_left() {
        let (_folder, second) = copied("");
        let path = second.join(".git/index");
        let index = fs::read(&path).unwrap();
        let look = |name: &[u8]| fs::symlink_metadata(second.join(OsStr::from_bytes(name))).ok();
        assert!(renewed(index.clone(), &look).is_some());
        for length in 0..index.len() {
            assert!(renewed(index[..length].to_vec(), &look).is_none(), "{length}");
        }
        for at in 0..index.len() {
            let mut damaged = index.clone();
            damaged[at] ^= 0xff;
            assert!(renewed(damaged, &look).is_none(), "{at}");
        }
        // Without a sum some damage cannot be told from what is right; none of it panics.
        let sum = index.len() - 20..;
        for at in 0..sum.start {
            let mut damaged = index.clone();
            damaged[sum.clone()].fill(0);
            damaged[at] ^= 0xff;
            drop(renewed(damaged, &look));
        }
        fs::write(second.join(".git/index.lock"), "").unwrap();
        renew_index(&second).unwrap();
        assert_eq!(fs::read(&path).unwrap(), index);
        said(&second, "rm .git/index.lock; git update-index --split-index");
        let index = fs::read(&path).unwrap();
        renew_index(&second).unwrap();
        assert_eq!(fs::read(&path).unwrap(), index);
        fs::remove_file(&path).unwrap();
        renew_index(&second).unwrap();
        assert!(!path.exists());
    }
}
