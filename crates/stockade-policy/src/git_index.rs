//! Git's index: by which names it writes when files are checked out.
//!
//! Git looks at a name when it comes into an index, and not when it is there: one that was made by hand has
//! `git checkout .` write to `../../.bashrc` or `.git/hooks/post-checkout`. So an index that a run wrote is read as
//! git reads it, and what is not understood is not harmless.
//!
//! Source: gitformat-index(5), and read-cache.c for what is believed of it.

/// What stands before a name in an entry, besides the object's id: ten numbers, and flags.
const NUMBERS: usize = 40;
const MODE_AT: usize = 24;
const FLAGS: usize = 2;
const FLAG_EXTENDED: u16 = 0x4000;
/// The length of a name, or that it is longer.
const LENGTH: u16 = 0x0fff;
/// `S_IFMT`, and a folder of a sparse index, the only entry whose name ends in a slash.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;

/// Whether a file of this name in a git directory is an index, or a part of one (`core.splitIndex`).
pub fn is_one(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"index")
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"sharedindex."))
}

/// Whether git finds only names in `index` that lie in the work tree, and not in `.git`; ids of objects have
/// `id` bytes.
pub fn is_harmless(index: &[u8], id: usize) -> bool {
    read(index, id).is_some()
}

/// The entries of an index, as far as they have been read.
#[derive(Debug, Default)]
struct Entries {
    /// Where each begins.
    starts: Vec<usize>,
    /// Which of them take nothing over from the name before.
    whole: Vec<bool>,
    name: Vec<u8>,
}

fn read(index: &[u8], id: usize) -> Option<()> {
    let body = index.get(..index.len().checked_sub(id)?)?;
    let version = number(body, 4).filter(|version| (2..=4).contains(version))?;
    let count = number(body, 8)?;
    if body.get(..4)? != b"DIRC" {
        return None;
    }
    let (mut entries, mut at) = (Entries::default(), 12);
    for _ in 0..count {
        at = entries.read(body, at, (version, id))?;
    }
    extensions(body, at, &entries, id)
}

impl Entries {
    /// Reads the entry at `start`; the value is where the next one begins.
    fn read(&mut self, body: &[u8], start: usize, (version, id): (u32, usize)) -> Option<usize> {
        let flags_at = start + NUMBERS + id;
        let flags = u16::from_be_bytes(*body.get(flags_at..)?.first_chunk()?);
        let is_extended = flags & FLAG_EXTENDED != 0;
        if is_extended && version < 3 {
            return None;
        }
        let mut at = flags_at + FLAGS * (1 + usize::from(is_extended));
        let kept = if version == 4 {
            let (taken_off, length) = varint(body.get(at..)?)?;
            at += length;
            self.name.len().checked_sub(taken_off)?
        } else {
            0
        };
        let rest = body.get(at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        self.name.truncate(kept);
        self.name.extend_from_slice(rest.get(..length)?);
        // Git goes by the length that is told, where it is.
        let told = usize::from(flags & LENGTH);
        let is_told = told == self.name.len() && told < usize::from(LENGTH)
            || told == usize::from(LENGTH) && self.name.len() >= told;
        let mode = number(body, start + MODE_AT)?;
        if !is_told || !may_be_written(&self.name, mode) {
            return None;
        }
        self.starts.push(start);
        self.whole.push(kept == 0);
        let end = at + length;
        // Up to eight zero bytes fill an entry of the older versions.
        Some(if version == 4 { end + 1 } else { start + ((end - start + 8) & !7) })
    }
}

fn may_be_written(name: &[u8], mode: u32) -> bool {
    if name.is_empty() {
        // Of a split index: what replaces an entry of the shared part has the name there.
        return true;
    }
    let name = if mode & KIND == FOLDER { name.strip_suffix(b"/").unwrap_or(name) } else { name };
    name.split(|byte| *byte == b'/').all(|part| {
        !matches!(part, b"" | b"." | b"..")
            && !part.eq_ignore_ascii_case(b".git")
            && !part.eq_ignore_ascii_case(b"git~1")
    })
}

/// What follows the entries. Git reads a long index by several threads, from where `IEOT` says that blocks of
/// entries begin, which it finds by `EOIE` at the end: they have to be the entries that were read here.
fn extensions(body: &[u8], start: usize, entries: &Entries, id: usize) -> Option<()> {
    const HEADER: usize = 8;
    let end_at = body.len().checked_sub(HEADER + 4 + id);
    let says_end =
        end_at.filter(|at| body.get(*at..).is_some_and(|rest| rest.starts_with(b"EOIE")));
    let (mut at, mut has_end) = (start, false);
    while at < body.len() {
        let length = usize::try_from(number(body, at + 4)?).ok()?;
        let content = body.get(at + HEADER..)?.get(..length)?;
        match body.get(at..at + 4)? {
            b"EOIE" => {
                let is_at_end = says_end == Some(at);
                let is_true = usize::try_from(number(content, 0)?).ok()? == start;
                if !is_at_end || !is_true {
                    return None;
                }
                has_end = true;
            }
            b"IEOT" => blocks(content, entries)?,
            _ => {}
        }
        at += HEADER + length;
    }
    (at == body.len() && has_end == says_end.is_some()).then_some(())
}

fn blocks(content: &[u8], entries: &Entries) -> Option<()> {
    let (version, blocks) = content.split_at_checked(4)?;
    if number(version, 0)? != 1 || blocks.len() % 8 != 0 {
        return None;
    }
    let mut next = 0;
    for block in blocks.chunks_exact(8) {
        let offset = usize::try_from(number(block, 0)?).ok()?;
        if entries.starts.get(next) != Some(&offset) || entries.whole.get(next) != Some(&true) {
            return None;
        }
        next += usize::try_from(number(block, 4)?).ok()?;
    }
    (next == entries.starts.len()).then_some(())
}

/// The number of four bytes at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of any length, as in a pack (varint.c), and how many bytes it has.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
        value = value.checked_add(1)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: usize = 20;

    /// An index of `version` with these names, each a file, and what comes after its entries.
    fn index(version: u32, names: &[&str], more: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let count = u32::try_from(names.len()).unwrap();
        let mut bytes = [b"DIRC", &version.to_be_bytes()[..], &count.to_be_bytes()].concat();
        let mut before = 0;
        for name in names {
            let start = bytes.len();
            bytes.extend([0; 24]);
            let mode: u32 = if name.ends_with('/') { 0o040_000 } else { 0o100_644 };
            bytes.extend(mode.to_be_bytes());
            bytes.extend([0; 12 + ID]);
            bytes.extend(u16::try_from(name.len().min(0xfff)).unwrap().to_be_bytes());
            if version == 4 {
                assert!(before < 128);
                bytes.push(u8::try_from(before).unwrap());
            }
            bytes.extend(name.as_bytes());
            before = name.len();
            let length = bytes.len() - start;
            let zeros = if version == 4 { 1 } else { 8 - length % 8 };
            bytes.extend(vec![0; zeros]);
        }
        for (kind, content) in more {
            bytes.extend(*kind);
            bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
            bytes.extend(content);
        }
        bytes.extend([7; ID]);
        bytes
    }

    fn is(version: u32, names: &[&str]) -> bool {
        is_harmless(&index(version, names, &[]), ID)
    }

    #[test]
    fn names_that_lead_out_or_into_a_git_directory_are_found() {
        let long = "d/".repeat(3000) + "x";
        for version in [2, 3, 4] {
            let honest = ["", "a", "a.git", "d/..x", "d/.gitignore", "git~2", "sparse/"];
            assert!(is(version, &honest) && is(version, &[]), "{version}");
            assert!(version == 4 || is(version, &[&long]), "{version}");
            for name in [
                "../x",
                "a/../x",
                "/x",
                "a//x",
                "./x",
                ".git/hooks/x",
                "d/.GIT/x",
                "GIT~1/x",
                "..",
                "d/.git",
            ] {
                assert!(!is(version, &["a", name, "z"]), "{version} {name}");
            }
        }
    }

    #[test]
    fn what_is_not_as_git_writes_it_is_not_harmless() {
        let good = index(2, &["a", "b"], &[(b"TREE", vec![1, 2, 3])]);
        assert!(is_harmless(&good, ID));
        for version in [0, 1, 5] {
            assert!(!is(version, &["a"]), "{version}");
        }
        // Cut behind its entries it is whole.
        let whole = index(2, &["a", "b"], &[]).len();
        for length in (0..good.len()).filter(|length| *length != whole) {
            assert!(!is_harmless(&good[..length], ID), "{length}");
        }
        let mut other = good.clone();
        // The length of the first name.
        other[12 + NUMBERS + ID + 1] = 2;
        assert!(!is_harmless(&other, ID));
        assert!(!is_harmless(&good, 32), "ids of another length");
    }

    #[test]
    fn blocks_for_several_threads_are_the_entries_that_were_read() {
        let end = u32::try_from(index(2, &["a", "b"], &[]).len() - ID).unwrap();
        let number = |number: u32| number.to_be_bytes().to_vec();
        let table = |blocks: &[(u32, u32)]| {
            let blocks =
                blocks.iter().flat_map(|(at, count)| [number(*at), number(*count)].concat());
            [number(1), blocks.collect()].concat()
        };
        let with = |blocks: &[(u32, u32)], end: u32| {
            let end = [number(end), vec![0; ID]].concat();
            is_harmless(&index(2, &["a", "b"], &[(b"IEOT", table(blocks)), (b"EOIE", end)]), ID)
        };
        assert!(with(&[(12, 1), (76, 1)], end) && with(&[(12, 2)], end));
        for blocks in [&[(12, 1), (77, 1)][..], &[(12, 1)], &[(76, 1)], &[(12, 1), (12, 1)]] {
            assert!(!with(blocks, end), "{blocks:?}");
        }
        assert!(!with(&[(12, 2)], end + 1), "the entries end elsewhere");
        // One that hides in another extension is at its place for git.
        let hidden = [b"EOIE\0\0\0\x18".to_vec(), number(12), vec![0; ID]].concat();
        assert!(!is_harmless(&index(2, &["a"], &[(b"TREE", hidden)]), ID));
    }

    #[test]
    fn a_name_of_the_last_version_is_what_git_makes_of_it() {
        // `..a`, of which one byte is taken off, and `/x`.
        let mut bytes = index(4, &["..a", "/x"], &[]);
        let second = 12 + NUMBERS + ID + FLAGS + 1 + 4;
        bytes[second + NUMBERS + ID + 1] = 4;
        bytes[second + NUMBERS + ID + FLAGS] = 1;
        assert_eq!(bytes[second + NUMBERS + ID + FLAGS + 1], b'/');
        assert!(!is_harmless(&bytes, ID));
        bytes[12 + NUMBERS + ID + FLAGS + 1 + 1] = b'b';
        assert!(is_harmless(&bytes, ID), "`.ba` and `.b/x`");
    }
}
