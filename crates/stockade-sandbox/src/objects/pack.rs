//! One pack: its index (version 2), and objects in it, by themselves or as differences.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use flate2::bufread::ZlibDecoder;

use super::{CONTENT_MAX, Format, Id, Kind, Moment, is_untouched};

/// "\377tOc" and the version.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// Where the table of first bytes begins, and how long it is.
const FANOUT: u64 = 8;
const FANOUT_BYTES: u64 = 256 * 4;
/// As many differences as lead to one object; git makes 50, or what it is told, up to 4,095.
const CHAIN_MAX: usize = 4096;
/// As much of them in memory at one time, in bytes.
const CHAIN_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Pack {
    index: File,
    content: File,
    format: Format,
    count: u64,
}

/// Reads a file from a place on, whoever else reads it.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What an object is stored as.
enum Stored {
    Whole(Kind),
    /// What differs from the object this far in front.
    Behind(u64),
    /// What differs from this object.
    From(Id),
}

impl Pack {
    pub(super) fn new(index: File, content: File, format: Format) -> Option<Self> {
        let mut magic = [0; 8];
        index.read_exact_at(&mut magic, 0).ok()?;
        if magic != MAGIC {
            return None;
        }
        let mut new = Self { index, content, format, count: 0 };
        new.count = new.number(FANOUT + FANOUT_BYTES - 4)?;
        Some(new)
    }

    fn number(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 4];
        self.index.read_exact_at(&mut bytes, at).ok()?;
        Some(u32::from_be_bytes(bytes).into())
    }

    /// Whether the index, untouched since, has `id`.
    pub(super) fn listed_before(&self, id: &Id, since: Moment) -> bool {
        // Looked at before, which is quick, and after, which counts.
        is_untouched(&self.index, since)
            && self.find(id).is_some()
            && is_untouched(&self.index, since)
    }

    /// Where in the pack the object is.
    fn find(&self, id: &Id) -> Option<u64> {
        let length = self.format.length() as u64;
        let first = u64::from(*id.bytes().first()?);
        let mut low = if first == 0 { 0 } else { self.number(FANOUT + (first - 1) * 4)? };
        let mut high = self.number(FANOUT + first * 4)?.min(self.count);
        let names = FANOUT + FANOUT_BYTES;
        while low < high {
            let middle = low.midpoint(high);
            let mut name = vec![0; self.format.length()];
            self.index.read_exact_at(&mut name, names + middle * length).ok()?;
            match name.as_slice().cmp(id.bytes()) {
                std::cmp::Ordering::Equal => return self.offset(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn offset(&self, position: u64) -> Option<u64> {
        /// Beyond, the number is a place in the table of long ones.
        const LONG: u64 = 1 << 31;
        let offsets = FANOUT + FANOUT_BYTES + self.count * (self.format.length() as u64 + 4);
        let short = self.number(offsets + position * 4)?;
        if short < LONG {
            return Some(short);
        }
        let at = offsets + self.count * 4 + (short - LONG) * 8;
        Some(self.number(at)? << 32 | self.number(at + 4)?)
    }

    /// The object, if the pack is in order where it is.
    pub(super) fn read(&self, id: &Id) -> Option<(Kind, Vec<u8>)> {
        let mut at = self.find(id)?;
        let mut differences: Vec<Vec<u8>> = Vec::new();
        let mut total = 0;
        let (kind, mut content) = loop {
            let (stored, size, body) = self.head(at)?;
            let content = self.inflate(body, size)?;
            total += content.len();
            if differences.len() >= CHAIN_MAX || total > CHAIN_BYTES_MAX {
                return None;
            }
            match stored {
                Stored::Whole(kind) => break (kind, content),
                Stored::Behind(back) => at = at.checked_sub(back).filter(|_| back > 0)?,
                Stored::From(base) => at = self.find(&base)?,
            }
            differences.push(content);
        };
        for difference in differences.iter().rev() {
            content = apply(&content, difference)?;
        }
        Some((kind, content))
    }

    /// What is stored at `at`, how long it is, and where its content begins.
    fn head(&self, at: u64) -> Option<(Stored, usize, u64)> {
        let mut from = BufReader::with_capacity(64, From { file: &self.content, at });
        let mut used = 0;
        let mut byte = || {
            let mut one = [0];
            from.read_exact(&mut one).ok()?;
            used += 1;
            Some(one[0])
        };
        let first = byte()?;
        let (mut size, mut shift, mut last) = (u64::from(first & 15), 4_u32, first);
        while last & 0x80 != 0 {
            last = byte()?;
            size |= u64::from(last & 0x7f).checked_shl(shift)?;
            shift += 7;
        }
        let stored = match first >> 4 & 7 {
            1 => Stored::Whole(Kind::Commit),
            2 => Stored::Whole(Kind::Tree),
            3 => Stored::Whole(Kind::Blob),
            4 => Stored::Whole(Kind::Tag),
            6 => {
                let mut last = byte()?;
                let mut back = u64::from(last & 0x7f);
                while last & 0x80 != 0 {
                    last = byte()?;
                    back = (back.checked_add(1)?.checked_mul(128)?) | u64::from(last & 0x7f);
                }
                Stored::Behind(back)
            }
            7 => {
                let name: Option<Vec<u8>> = (0..self.format.length()).map(|_| byte()).collect();
                Stored::From(Id::of(&name?))
            }
            _ => return None,
        };
        Some((stored, usize::try_from(size).ok()?, at + used))
    }

    fn inflate(&self, at: u64, size: usize) -> Option<Vec<u8>> {
        if size > CONTENT_MAX {
            return None;
        }
        let from = BufReader::with_capacity(4096, From { file: &self.content, at });
        let mut content = Vec::new();
        ZlibDecoder::new(from).take(size as u64 + 1).read_to_end(&mut content).ok()?;
        (content.len() == size).then_some(content)
    }
}

/// `base` with `difference`: what is copied from it, and what is new.
pub(super) fn apply(base: &[u8], difference: &[u8]) -> Option<Vec<u8>> {
    let mut rest = difference.iter().copied();
    let length = |rest: &mut dyn Iterator<Item = u8>| {
        let (mut value, mut shift) = (0_usize, 0_u32);
        loop {
            let byte = rest.next()?;
            value |= usize::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    };
    let (of_base, of_result) = (length(&mut rest)?, length(&mut rest)?);
    if of_base != base.len() || of_result > CONTENT_MAX {
        return None;
    }
    let mut result = Vec::with_capacity(of_result);
    while let Some(order) = rest.next() {
        if order & 0x80 != 0 {
            let mut number = |bits: u8, first: u8| {
                (0..bits).try_fold(0_usize, |value, bit| {
                    let has = order & 1 << (first + bit) != 0;
                    let byte = has.then(|| rest.next().ok_or(())).transpose().ok()?;
                    Some(value | usize::from(byte.unwrap_or(0)) << (8 * bit))
                })
            };
            let (from, size) = (number(4, 0)?, number(3, 4)?);
            let size = if size == 0 { 0x1_0000 } else { size };
            result.extend_from_slice(base.get(from..from.checked_add(size)?)?);
        } else if order == 0 {
            return None;
        } else {
            let before = result.len();
            result.extend(rest.by_ref().take(order.into()));
            if result.len() != before + usize::from(order) {
                return None;
            }
        }
        if result.len() > of_result {
            return None;
        }
    }
    (result.len() == of_result).then_some(result)
}
