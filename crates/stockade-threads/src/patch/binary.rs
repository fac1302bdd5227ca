//! Binary content in a diff: base 85, deflated, whole or as a delta.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Git's digits (base85.c).
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// The bytes of one line; its first character says how many.
pub(super) fn decode_line(line: &[u8]) -> Option<Vec<u8>> {
    let (first, digits) = line.split_first()?;
    let length = usize::from(match first {
        b'A'..=b'Z' => first - b'A' + 1,
        b'a'..=b'z' => first - b'a' + 27,
        _ => return None,
    });
    if digits.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let mut bytes = Vec::with_capacity(length + 3);
    for group in digits.chunks(5) {
        let mut word = 0_u32;
        for digit in group {
            let value = DIGITS.iter().position(|known| known == digit)?;
            word = word.checked_mul(85)?.checked_add(u32::try_from(value).ok()?)?;
        }
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.truncate(length);
    Some(bytes)
}

/// Unpacks `packed` to exactly `size` bytes. However much it would unpack to, no more than
/// that is made.
pub(super) fn inflate(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let limit = u64::try_from(size).ok()?.checked_add(1)?;
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed).take(limit).read_to_end(&mut bytes).ok()?;
    (bytes.len() == size).then_some(bytes)
}

/// Builds content from `base` by `delta`; `None` when they do not fit together, or when the
/// result is longer than `limit`.
pub(super) fn apply_delta(base: &[u8], delta: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut delta = delta.iter().copied();
    if size(&mut delta)? != base.len() {
        return None;
    }
    let length = size(&mut delta).filter(|length| *length <= limit)?;
    let mut result = Vec::new();
    while let Some(instruction) = delta.next() {
        if instruction & 0x80 != 0 {
            // Copy: bits 0-3 say which bytes of the offset follow, bits 4-6 of the size.
            let mut number = |bits: std::ops::Range<u32>| {
                let first = bits.start;
                bits.filter(|bit| instruction & (1 << bit) != 0).try_fold(0_usize, |sum, bit| {
                    Some(sum | (usize::from(delta.next()?) << (8 * (bit - first))))
                })
            };
            let offset = number(0..4)?;
            let count = match number(4..7)? {
                0 => 0x1_0000,
                count => count,
            };
            result.extend_from_slice(base.get(offset..offset.checked_add(count)?)?);
        } else if instruction == 0 {
            return None;
        } else {
            let start = result.len();
            result.extend(delta.by_ref().take(usize::from(instruction)));
            (result.len() - start == usize::from(instruction)).then_some(())?;
        }
        if result.len() > length {
            return None;
        }
    }
    (result.len() == length).then_some(result)
}

/// A number of seven bits a byte, the lowest first.
fn size(bytes: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..usize::BITS - 7).step_by(7) {
        let byte = bytes.next()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_git_does_not_write_are_refused() {
        assert_eq!(decode_line(b"A00000").unwrap(), [0]);
        assert_eq!(decode_line(b"A"), None, "digits are missing");
        assert_eq!(decode_line(b"D~~~~~"), None, "more than 32 bits");
        assert_eq!(decode_line(b"1aaaaa"), None, "no length");
    }

    #[test]
    fn no_more_is_unpacked_than_was_said() {
        use std::io::Write as _;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 10 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert_eq!(inflate(&bomb, 100), None);
        assert_eq!(inflate(&bomb, 10 << 20).map(|bytes| bytes.len()), Some(10 << 20));
        assert_eq!(inflate(b"no zlib", 4), None);
    }

    #[test]
    fn deltas_stay_inside_base_and_result() {
        let base = b"hello world";
        // 11 -> 8: copy 5 from 0, insert "!!!".
        let good = [11, 8, 0x90, 5, 3, b'!', b'!', b'!'];
        assert_eq!(apply_delta(base, &good, 100).unwrap(), b"hello!!!");
        assert_eq!(apply_delta(base, &good, 7), None, "longer than allowed");
        assert_eq!(apply_delta(b"other", &good, 100), None, "another base");
        assert_eq!(apply_delta(base, &[11, 99, 0x91, 9, 5], 100), None, "past the base's end");
        assert_eq!(apply_delta(base, &[11, 1, 0], 100), None, "a reserved instruction");
        assert_eq!(apply_delta(base, &[11, 3, 3, b'a'], 100), None, "an end too early");
        assert_eq!(apply_delta(base, &[0xff; 20], 100), None, "a number without an end");
    }
}
