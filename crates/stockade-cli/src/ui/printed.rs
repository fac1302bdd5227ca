//! What a command prints, as much of it as a person reads: the beginning as it comes, and the end.

use super::live::Pieces;

/// Lines that are shown as they come.
const LINES_MAX: usize = 1_000;

/// Bytes that are, which a few long lines have too.
const BYTES_MAX: usize = 64 << 10;

/// Bytes of the end that are shown when there is more.
const END_MAX: usize = 2 << 10;

/// The output of one command.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    pieces: Pieces,
    lines: usize,
    bytes: usize,
    /// The end of what is not shown.
    end: String,
    /// What was dropped before it.
    dropped_lines: usize,
    dropped_bytes: usize,
}

impl Printed {
    /// What is to be shown now.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> String {
        let text = self.pieces.add(bytes);
        self.take(text)
    }

    /// The rest, with what was left out before it: the command has ended.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.pieces.finish();
        let mut shown = self.take(rest);
        self.drop_to(END_MAX);
        let left_out = match (self.dropped_lines, self.dropped_bytes) {
            (0, 0) => String::new(),
            (0, bytes) => format!("\n… {bytes} bytes are not shown …\n"),
            (1, _) => "… 1 line is not shown …\n".to_owned(),
            (lines, _) => format!("… {lines} lines are not shown …\n"),
        };
        shown.push_str(&left_out);
        shown.push_str(&self.end);
        *self = Self::default();
        shown
    }

    fn take(&mut self, mut text: String) -> String {
        let mut room = 0;
        for line in text.split_inclusive('\n') {
            if self.lines >= LINES_MAX || self.bytes >= BYTES_MAX {
                break;
            }
            let most = line.len().min(BYTES_MAX - self.bytes);
            let part = (0..=most).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            room += part;
            self.lines += usize::from(part == line.len() && line.ends_with('\n'));
            // A character that is cut is beyond the limit too.
            self.bytes += if part < line.len() { BYTES_MAX } else { part };
        }
        let rest = text.split_off(room);
        self.end.push_str(&rest);
        if self.end.len() > 8 * END_MAX {
            self.drop_to(END_MAX);
        }
        text
    }

    /// Shortens the end to `most` bytes, by whole lines where it has some.
    fn drop_to(&mut self, most: usize) {
        let Some(over) = self.end.len().checked_sub(most).filter(|over| *over > 0) else { return };
        let from = (over..=self.end.len()).find(|at| self.end.is_char_boundary(*at));
        let from = from.unwrap_or(self.end.len());
        let line = self.end.get(from..).and_then(|rest| rest.find('\n'));
        let from = line.map(|at| from + at + 1).filter(|at| *at < self.end.len()).unwrap_or(from);
        let dropped: String = self.end.drain(..from).collect();
        self.dropped_lines += dropped.matches('\n').count();
        self.dropped_bytes += dropped.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let mut printed = Printed::default();
        let mut all: String = parts.iter().map(|part| printed.add(part)).collect();
        all.push_str(&printed.finish());
        all
    }

    #[test]
    fn what_a_person_reads_is_whole() {
        let text = "a line\n".repeat(LINES_MAX);
        assert_eq!(shown(&[text.as_bytes()]), text);
        assert_eq!(shown(&[text.as_bytes(), b"and", b" one more"]), text.clone() + "and one more");
        assert_eq!(shown(&["é".as_bytes(), b"\xc3", b"\xa9"]), "éé");
    }

    #[test]
    fn a_flood_has_its_beginning_its_end_and_a_count() {
        let all: Vec<String> = (0..900_000).map(|number| format!("line {number}\n")).collect();
        let parts: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
        let text = shown(&parts);
        assert!(text.len() < 20_000, "{}", text.len());
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("\nline 899999\n"));
        let lines: Vec<&str> = text.lines().collect();
        let (at, _) =
            lines.iter().enumerate().find(|(_, line)| line.contains("not shown")).unwrap();
        assert_eq!(at, LINES_MAX);
        let count = 900_000 - (lines.len() - 1);
        assert_eq!(lines[at], format!("… {count} lines are not shown …"));
    }

    #[test]
    fn one_endless_line_is_cut_too() {
        let text = shown(&["é".repeat(1 << 20).as_bytes()]);
        assert!(text.len() < BYTES_MAX + END_MAX + 100, "{}", text.len());
        assert!(text.contains("bytes are not shown") && text.ends_with('é'));
    }
}
