//! The journal of what was kept: a format, one line an operation, and nothing else.
//!
//! A line is the time in nanoseconds, a letter, and fields with a space between them. In a path every
//! byte that is not a plain character is `%XX`, so a line never holds anything but printable ASCII.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A file of the disk: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

/// How a file was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// The file itself has a second name in the store: object number.
    Link(u64),
    /// Its content at that time is in the store: object number.
    Copy(u64),
    /// Only what is in the line.
    Facts,
    /// An extended attribute that is about to change: its name, and its value if it had one.
    Attribute(Vec<u8>, Option<Vec<u8>>),
    /// Its content could not be kept, because of this.
    Not(String),
}

/// What is known of a file beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed last, in seconds and nanoseconds; `None` in lines of before.
    pub modified: Option<(i64, u32)>,
    /// When the inode changed last: nanoseconds since 1970; `None` in lines of before.
    pub changed: Option<u64>,
}

/// What is about to happen when the line is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file as it is before its first change; further lines on the same file know less.
    Kept {
        /// Which.
        id: FileId,
        /// What it is.
        facts: Facts,
        /// How.
        how: How,
    },
    /// A name that was not there comes into being.
    Born(PathBuf),
    /// The same, and it is another name for a file that is there.
    Linked {
        /// The name that it has.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
        /// The file.
        id: FileId,
    },
    /// A name goes away, which was this file's.
    Gone(PathBuf, FileId),
    /// A file gets another name in place of this one.
    Moved {
        /// The old.
        from: PathBuf,
        /// The new, which is free by now.
        to: PathBuf,
        /// The file.
        id: FileId,
    },
    /// Two names change places.
    Swapped(PathBuf, PathBuf),
    /// The content or the mode of a file changes in place.
    Touched(PathBuf, FileId),
    /// A name in this folder comes or goes for the first time, which changes the folder's time.
    Entered(PathBuf, FileId),
    /// The operation of an earlier line failed: its number, counted from 0.
    Failed(u64),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What.
    pub op: Op,
}

fn put_path(line: &mut String, path: &Path) {
    put_bytes(line, path.as_os_str().as_bytes());
}

fn put_bytes(line: &mut String, bytes: &[u8]) {
    line.push(' ');
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
    // Most are plain from end to end, and go in at once.
    for piece in bytes.chunk_by(|one, other| is_plain(one) && is_plain(other)) {
        match (str::from_utf8(piece), piece) {
            (Ok(plain), [first, ..]) if is_plain(first) => line.push_str(plain),
            // Writing to a string cannot fail.
            _ => piece.iter().for_each(|byte| {
                write!(line, "%{byte:02X}").ok();
            }),
        }
    }
}

fn put_id(line: &mut String, id: FileId) {
    write!(line, " {}:{}", id.device, id.inode).ok();
}

fn put_name(line: &mut String, letter: char, path: &Path, id: FileId) {
    line.push(letter);
    put_path(line, path);
    put_id(line, id);
}

impl Line {
    /// The line, with its end.
    pub fn encode(&self) -> String {
        let mut line = String::with_capacity(256);
        write!(line, "{} ", self.time).ok();
        match &self.op {
            Op::Kept { id, facts, how } => {
                line.push('K');
                put_id(&mut line, *id);
                write!(line, " {:o} {} {} ", facts.mode, facts.uid, facts.gid).ok();
                if let Some((seconds, nanos)) = facts.modified {
                    write!(line, "{seconds}.{nanos}").ok();
                    if let Some(changed) = facts.changed {
                        write!(line, "/{changed}").ok();
                    }
                    line.push(' ');
                }
                match how {
                    How::Link(object) => write!(line, "link {object}").ok(),
                    How::Copy(object) => write!(line, "copy {object}").ok(),
                    How::Facts => write!(line, "facts").ok(),
                    How::Attribute(name, value) => {
                        line.push_str(if value.is_some() { "attr" } else { "noattr" });
                        put_bytes(&mut line, name);
                        if let Some(value) = value {
                            put_bytes(&mut line, value);
                        }
                        None
                    }
                    How::Not(why) => {
                        line.push_str("not");
                        put_path(&mut line, Path::new(why));
                        None
                    }
                };
            }
            Op::Born(path) => {
                line.push('B');
                put_path(&mut line, path);
            }
            Op::Linked { from, to, id } | Op::Moved { from, to, id } => {
                line.push(if matches!(self.op, Op::Moved { .. }) { 'M' } else { 'L' });
                put_path(&mut line, from);
                put_path(&mut line, to);
                put_id(&mut line, *id);
            }
            Op::Gone(path, id) => put_name(&mut line, 'G', path, *id),
            Op::Touched(path, id) => put_name(&mut line, 'T', path, *id),
            Op::Entered(path, id) => put_name(&mut line, 'E', path, *id),
            Op::Swapped(one, other) => {
                line.push('S');
                put_path(&mut line, one);
                put_path(&mut line, other);
            }
            Op::Failed(number) => {
                write!(line, "F {number}").ok();
            }
        }
        line.push('\n');
        line
    }

    /// Takes a line without its end apart; `None` for what is no line.
    pub fn decode(line: &str) -> Option<Self> {
        let mut fields = Fields(line.split(' '));
        let time = fields.number()?;
        let op = match fields.0.next()? {
            "K" => {
                let id = fields.id()?;
                let mode = u32::from_str_radix(fields.0.next()?, 8).ok()?;
                let (uid, gid) = (fields.number()?, fields.number()?);
                let mut word = fields.0.next()?;
                let (mut modified, mut changed) = (None, None);
                if let Some((seconds, since)) = times(word) {
                    (modified, changed) = (Some(seconds), since);
                    word = fields.0.next()?;
                }
                let facts = Facts { mode, uid, gid, modified, changed };
                let how = match word {
                    "link" => How::Link(fields.number()?),
                    "copy" => How::Copy(fields.number()?),
                    "facts" => How::Facts,
                    "attr" => How::Attribute(fields.bytes()?, Some(fields.bytes()?)),
                    "noattr" => How::Attribute(fields.bytes()?, None),
                    "not" => How::Not(fields.path()?.to_string_lossy().into_owned()),
                    _ => return None,
                };
                Op::Kept { id, facts, how }
            }
            "B" => Op::Born(fields.path()?),
            "L" => Op::Linked { from: fields.path()?, to: fields.path()?, id: fields.id()? },
            "M" => Op::Moved { from: fields.path()?, to: fields.path()?, id: fields.id()? },
            "G" => Op::Gone(fields.path()?, fields.id()?),
            "T" => Op::Touched(fields.path()?, fields.id()?),
            "E" => Op::Entered(fields.path()?, fields.id()?),
            "S" => Op::Swapped(fields.path()?, fields.path()?),
            "F" => Op::Failed(fields.number()?),
            _ => return None,
        };
        fields.0.next().is_none().then_some(Self { time, op })
    }
}

struct Fields<'a>(std::str::Split<'a, char>);

impl Fields<'_> {
    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    fn id(&mut self) -> Option<FileId> {
        let (device, inode) = self.0.next()?.split_once(':')?;
        Some(FileId { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsString::from_vec(self.bytes()?)))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let text = self.0.next()?;
        let mut bytes = Vec::with_capacity(text.len());
        let mut parts = text.split('%');
        bytes.extend(parts.next()?.as_bytes());
        for part in parts {
            let (code, rest) = part.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            bytes.extend(rest.as_bytes());
        }
        Some(bytes)
    }
}

/// `SECONDS.NANOSECONDS` of the content, and behind a `/` nanoseconds of the inode.
fn times(word: &str) -> Option<((i64, u32), Option<u64>)> {
    let (seconds, rest) = word.split_once('.')?;
    let (nanos, changed) = match rest.split_once('/') {
        Some((nanos, changed)) => (nanos, Some(changed.parse().ok()?)),
        None => (rest, None),
    };
    Some(((seconds.parse().ok()?, nanos.parse().ok()?), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_survives_whatever_the_bytes_of_its_path() {
        let odd = || PathBuf::from(OsString::from_vec(b"/w/a b\n%41\xff\xc3\xa4".to_vec()));
        let id = FileId { device: 64769, inode: u64::MAX };
        let modified = Some((-1, 999_999_999));
        let changed = Some(u64::MAX);
        let facts = Facts { mode: 0o104_755, uid: 0, gid: u32::MAX, modified, changed };
        let kept = |how| Op::Kept { id, facts, how };
        let without = Facts { changed: None, ..facts };
        let of_before = Facts { modified: None, ..without };
        let ops = [
            Op::Kept { id, facts: of_before, how: How::Facts },
            Op::Kept { id, facts: without, how: How::Facts },
            kept(How::Attribute(b"user.a b".to_vec(), Some(b"\0%\n ".to_vec()))),
            kept(How::Attribute(b"user.a".to_vec(), Some(Vec::new()))),
            kept(How::Attribute(b"user.a".to_vec(), None)),
            kept(How::Link(0)),
            kept(How::Copy(u64::MAX)),
            kept(How::Facts),
            kept(How::Not("larger than 64 MiB".to_owned())),
            Op::Born(odd()),
            Op::Linked { from: odd(), to: odd(), id },
            Op::Gone(odd(), id),
            Op::Moved { from: odd(), to: "/b".into(), id },
            Op::Swapped(odd(), "/b".into()),
            Op::Touched(odd(), id),
            Op::Entered(odd(), id),
            Op::Failed(7),
        ];
        for op in ops {
            let line = Line { time: 17, op };
            let text = line.encode();
            assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            let text = text.strip_suffix('\n').unwrap();
            assert_eq!(Line::decode(text), Some(line), "{text}");
            for end in 0..text.len() {
                let part = text.get(..end).unwrap();
                assert!(Line::decode(part) != Line::decode(text), "{part}");
            }
        }
        for text in ["", "1", "1 B", "1 B /a /b", "x B /a", "1 Z /a", "1 G /a 1", "1 B /a%4"] {
            assert_eq!(Line::decode(text), None, "{text}");
        }
    }
}
