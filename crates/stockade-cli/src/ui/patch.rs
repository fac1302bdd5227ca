//! Patches on a terminal: the same colours for what an agent changes before the user's eyes and for what
//! `threads diff` shows later.

use std::io::{self, IsTerminal as _, Write as _};

use super::for_terminal;

pub(crate) const BOLD: &str = "\u{1b}[1m";
pub(crate) const DIM: &str = "\u{1b}[2m";
pub(crate) const RED: &str = "\u{1b}[31m";
pub(crate) const GREEN: &str = "\u{1b}[32m";
pub(crate) const PLAIN: &str = "\u{1b}[0m";

/// Where in a patch the next line is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Before the first hunk of a file.
    #[default]
    Head,
    Hunk,
    /// Content that is no text.
    Binary,
}

impl Part {
    /// The colour of `line`, which comes next.
    pub(crate) fn colour(&mut self, line: &[u8]) -> &'static str {
        if line.starts_with(b"diff --git ") {
            *self = Self::Head;
        } else if line.starts_with(b"@@ ") {
            *self = Self::Hunk;
        } else if line == b"GIT binary patch" {
            *self = Self::Binary;
        }
        match (*self, line.first()) {
            (Self::Head, _) => BOLD,
            (Self::Hunk, Some(b'+')) => GREEN,
            (Self::Hunk, Some(b'-')) => RED,
            (Self::Hunk | Self::Binary, _) => DIM,
        }
    }
}

/// A patch on its way to standard output: as it is for a file or a pipe, escaped and coloured for a
/// terminal.
#[derive(Debug)]
pub(crate) struct Patch {
    is_terminal: bool,
    is_coloured: bool,
    part: Part,
    /// The beginning of a line whose end is still to come.
    rest: Vec<u8>,
}

impl Patch {
    /// `is_coloured` on a terminal.
    pub(crate) fn new(is_coloured: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { is_terminal, is_coloured, part: Part::default(), rest: Vec::new() }
    }

    /// Writes what is whole of all so far.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_terminal {
            return io::stdout().lock().write_all(bytes);
        }
        self.rest.extend(bytes);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = self.drawn(&whole);
        io::stdout().lock().write_all(text.as_bytes())
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        let text = self.drawn(&rest);
        io::stdout().lock().write_all(text.as_bytes())
    }

    fn drawn(&mut self, whole: &[u8]) -> String {
        let mut text = String::with_capacity(whole.len());
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            let (inner, end) = match line.strip_suffix(b"\n") {
                Some(inner) => (inner, "\n"),
                None => (line, ""),
            };
            let colour = self.part.colour(inner);
            let inner = for_terminal(inner);
            if self.is_coloured {
                text.extend([colour, &inner, PLAIN, end]);
            } else {
                text.extend([&*inner, end]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_coloured_by_what_its_lines_are_and_draws_nothing_else() {
        let patch =
            b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n--- a\n+++\x1b[2J\n \xff\n\
            diff --git a/y b/y\nGIT binary patch\n-abc\n";
        for size in [1, 7, patch.len()] {
            let mut shown =
                Patch { is_terminal: true, is_coloured: true, part: Part::Head, rest: Vec::new() };
            let mut text = String::new();
            for part in patch.chunks(size) {
                shown.rest.extend(part);
                let end = shown.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let whole: Vec<u8> = shown.rest.drain(..end).collect();
                text.push_str(&shown.drawn(&whole));
            }
            let lines: Vec<&str> = text.lines().collect();
            let line = |colour: &str, text: &str| format!("{colour}{text}{PLAIN}");
            assert_eq!(lines[1], line(BOLD, "--- a/x"), "{size}");
            assert_eq!(lines[4], line(RED, "--- a"));
            assert_eq!(lines[5], line(GREEN, "+++\\u{1b}[2J"));
            assert_eq!(lines[6], line(DIM, " \\xff"));
            assert_eq!(lines[7], line(BOLD, "diff --git a/y b/y"));
            assert_eq!(lines[9], line(DIM, "-abc"));
        }
    }
}
