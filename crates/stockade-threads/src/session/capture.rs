//! Keeping the beginning and the end of what a command prints.

use std::collections::VecDeque;

/// Bytes kept of each end: what a person or a model reads of a long output.
const END_MAX: usize = 256 * 1024;

/// Output in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Capture {
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        let room = END_MAX.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend(head);
        // Of one piece no more than the end can stay.
        let skipped = rest.len().saturating_sub(END_MAX);
        bytes = rest.get(skipped..).unwrap_or_default();
        let over = (self.tail.len() + bytes.len()).saturating_sub(END_MAX);
        self.tail.drain(..over);
        self.tail.extend(bytes);
        self.left_out += (skipped + over) as u64;
    }

    /// All of it, or both ends with a line between that says how much is missing.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        let mut all = self.head;
        if self.left_out > 0 {
            all.extend(format!("\n[{} bytes left out]\n", self.left_out).bytes());
        }
        all.extend(self.tail);
        (all, self.left_out > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_output_is_whole_and_a_long_one_keeps_its_ends() {
        let mut short = Capture::default();
        for piece in [&b"a"[..], b"", b"bc"] {
            short.add(piece);
        }
        assert_eq!(short.finish(), (b"abc".to_vec(), false));
        for piece in [1, 1000, END_MAX - 1, 3 * END_MAX] {
            let all: Vec<u8> = (0..5 * END_MAX).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut long = Capture::default();
            all.chunks(piece).for_each(|piece| long.add(piece));
            let (kept, is_truncated) = long.finish();
            let note = format!("\n[{} bytes left out]\n", 3 * END_MAX);
            assert!(is_truncated);
            assert_eq!(kept.len(), 2 * END_MAX + note.len());
            assert!(kept.starts_with(&all[..END_MAX]) && kept.ends_with(&all[4 * END_MAX..]));
        }
    }
}
