//! From a file's text and its hunks to the new text.

use super::{Hunk, Line, PatchError};

/// The text after all hunks, which stand in the order of the file.
pub(crate) fn apply(path: &str, text: &str, hunks: &[Hunk]) -> Result<String, PatchError> {
    let file = File::of(text);
    let mut result: Vec<&str> = Vec::new();
    let mut done = 0;
    for (number, hunk) in (1..).zip(hunks) {
        let found = file.find(hunk, done).map_err(|why| {
            PatchError::new(format!(
                "{path}: hunk {number}: {why}; nothing of the patch was applied"
            ))
        })?;
        result.extend(file.lines.get(done..found).unwrap_or_default());
        done = found;
        for line in &hunk.lines {
            match line {
                // Kept as the file has it: it may differ from the patch in spaces at its end.
                Line::Keep(_) => {
                    result.extend(file.lines.get(done));
                    done += 1;
                }
                Line::Remove(_) => done += 1,
                Line::Add(text) => result.push(text),
            }
        }
    }
    result.extend(file.lines.get(done..).unwrap_or_default());
    Ok(file.joined(&result))
}

/// A text as lines, and how they end.
struct File<'a> {
    lines: Vec<&'a str>,
    line_end: &'static str,
    has_last_end: bool,
}

impl<'a> File<'a> {
    fn of(text: &'a str) -> Self {
        let is_crlf = text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n"));
        Self {
            lines: text
                .split_inclusive('\n')
                .map(|line| line.strip_suffix('\n').unwrap_or(line))
                .collect(),
            line_end: if is_crlf { "\r\n" } else { "\n" },
            has_last_end: text.is_empty() || text.ends_with('\n'),
        }
    }

    /// `lines` as a text. A line of the file has its CR already; an added one gets it here.
    fn joined(&self, lines: &[&str]) -> String {
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let is_last = index + 1 == lines.len();
            text.push_str(line);
            if !is_last || self.has_last_end {
                let end = if line.ends_with('\r') { "\n" } else { self.line_end };
                text.push_str(end);
            }
        }
        text
    }

    /// Where `hunk` starts, at or behind line `from` (from 0).
    fn find(&self, hunk: &Hunk, from: usize) -> Result<usize, String> {
        let mut start = from;
        for anchor in &hunk.anchors {
            let behind = self.lines.get(start..).unwrap_or_default();
            let found = behind.iter().position(|line| line.trim() == anchor);
            start += found.ok_or_else(|| {
                let below = if start == 0 { String::new() } else { format!(" below line {start}") };
                format!("there is no line `{anchor}`{below}")
            })?;
        }
        let old = hunk.old();
        if old.is_empty() {
            return self.place_of_addition(hunk, start);
        }
        let mut places = self.matches(&old, start, |line, other| line == other);
        if places.is_empty() {
            places = self.matches(&old, start, |line, other| line.trim_end() == other.trim_end());
        }
        if hunk.is_at_end {
            places.retain(|place| place + old.len() == self.lines.len());
        }
        if let Some(wanted) = hunk.start {
            let distance = |place: &usize| (place + 1).abs_diff(wanted);
            places.sort_by_key(distance);
            places.truncate(1);
        }
        match places.as_slice() {
            [] => Err(self.what_is_there(&old, start)),
            [place] => Ok(*place),
            // Below an anchor the first one is meant.
            [place, ..] if !hunk.anchors.is_empty() => Ok(*place),
            places => {
                let lines: Vec<String> =
                    places.iter().take(5).map(|place| (place + 1).to_string()).collect();
                Err(format!(
                    "its lines stand more than once (at {}): give more lines around it, or name \
                     a line above it with `@@ LINE`",
                    lines.join(", ")
                ))
            }
        }
    }

    fn place_of_addition(&self, hunk: &Hunk, start: usize) -> Result<usize, String> {
        if hunk.is_at_end || self.lines.is_empty() {
            return Ok(self.lines.len());
        }
        if !hunk.anchors.is_empty() {
            return Ok(start + 1);
        }
        match hunk.start {
            // As diff(1) counts: below the line of this number.
            Some(line) if (start..=self.lines.len()).contains(&line) => Ok(line),
            Some(line) => Err(format!("there is no line {line} that is still to come")),
            None => Err("it only adds lines, so it needs a line of context, `@@ LINE` or \
                         `*** End of File` to say where"
                .to_owned()),
        }
    }

    fn matches(&self, old: &[&str], from: usize, same: fn(&str, &str) -> bool) -> Vec<usize> {
        let is_here =
            |window: &[&str]| window.iter().zip(old).all(|(line, other)| same(line, other));
        let rest = self.lines.get(from..).unwrap_or_default();
        let places = rest.windows(old.len()).enumerate();
        places.filter(|(_, window)| is_here(window)).map(|(at, _)| at + from).collect()
    }

    /// Where the beginning of the hunk fits best, what was expected next and what stands there.
    fn what_is_there(&self, old: &[&str], from: usize) -> String {
        let fits = |at: usize| {
            let lines = self.lines.get(at..).unwrap_or_default();
            lines.iter().zip(old).take_while(|(line, other)| line.trim() == other.trim()).count()
        };
        let best = (from..self.lines.len()).rev().max_by_key(|at| fits(*at));
        let count = best.map_or(0, fits);
        let expected = old.get(count).copied().unwrap_or_default();
        match best {
            // All of it fits, but for spaces in front.
            Some(at) if count == old.len() => {
                let differs =
                    self.lines.iter().skip(at).zip(old).zip(1..).find(|((a, b), _)| a != b);
                let ((line, other), offset) = differs.unwrap_or(((&"", &""), 1));
                format!(
                    "line {} is {line:?}, and {other:?} was expected: it differs in spaces",
                    at + offset
                )
            }
            Some(at) if count > 0 => match self.lines.get(at + count) {
                Some(line) => format!(
                    "its first lines stand at line {}, but then line {} is {line:?}, and {expected:?} was expected",
                    at + 1,
                    at + count + 1
                ),
                None => format!(
                    "the file ends at line {}, and {expected:?} was expected next",
                    self.lines.len()
                ),
            },
            _ if from > 0 => format!("there is no line {expected:?} below line {from}"),
            _ => format!("there is no line {expected:?} in the file"),
        }
    }
}
