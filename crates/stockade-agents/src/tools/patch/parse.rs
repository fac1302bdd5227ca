//! From the text of a patch to operations.

use super::{Hunk, Line, Operation, PatchError};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const UPDATE: &str = "*** Update File: ";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";

/// Reads a patch.
pub(crate) fn parse(text: &str) -> Result<Vec<Operation>, PatchError> {
    // Models put a fence of Markdown around it, as they do where a person reads it.
    let is_fence = |line: &str| line.trim_start().starts_with("```");
    let is_around = |line: &str| line.trim().is_empty() || is_fence(line);
    let mut lines = (1..).zip(text.lines()).skip_while(|(_, line)| is_around(line));
    if lines.next().is_none_or(|(_, line)| line.trim_end() != BEGIN) {
        return Err(PatchError::new(format!("a patch starts with the line `{BEGIN}`")));
    }
    let mut operations = Vec::new();
    let mut is_ended = false;
    for (number, line) in lines {
        if is_ended {
            if is_around(line) {
                continue;
            }
            return Err(wrong(number, line, &format!("nothing comes after `{END}`")));
        }
        match header(line) {
            Some(Header::End) => is_ended = true,
            Some(Header::File(operation)) => operations.push(operation),
            None => match operations.last_mut() {
                Some(operation) => operation.line(number, line)?,
                None => {
                    return Err(wrong(
                        number,
                        line,
                        "a file is named first, as in `*** Update File: PATH`",
                    ));
                }
            },
        }
    }
    if !is_ended {
        return Err(PatchError::new(format!("a patch ends with the line `{END}`")));
    }
    if operations.is_empty() {
        return Err(PatchError::new("the patch names no file"));
    }
    operations.iter().try_for_each(check)?;
    Ok(operations)
}

enum Header {
    File(Operation),
    End,
}

/// A line that starts or ends a file's part. A line of content has a mark in front, so it
/// cannot be taken for one.
fn header(line: &str) -> Option<Header> {
    let line = line.trim_end();
    if line == END {
        return Some(Header::End);
    }
    let path = |prefix: &str| line.strip_prefix(prefix).map(|path| path.trim().to_owned());
    let operation = if let Some(path) = path(UPDATE) {
        Operation::Update { path, target: None, hunks: Vec::new() }
    } else if let Some(path) = path(ADD) {
        Operation::Add { path, content: String::new() }
    } else if let Some(path) = path(DELETE) {
        Operation::Delete { path }
    } else {
        return None;
    };
    Some(Header::File(operation))
}

impl Operation {
    /// Takes in a line that belongs to this file.
    fn line(&mut self, number: usize, line: &str) -> Result<(), PatchError> {
        match self {
            Self::Delete { .. } if line.trim().is_empty() => Ok(()),
            Self::Delete { .. } => Err(wrong(number, line, "a file that goes away has no content")),
            Self::Add { content, .. } => {
                let text = line.strip_prefix('+').ok_or_else(|| {
                    wrong(number, line, "every line of a new file starts with `+`")
                })?;
                content.push_str(text);
                content.push('\n');
                Ok(())
            }
            Self::Update { target, hunks, .. } => {
                if let Some(path) = line.strip_prefix(MOVE) {
                    if target.is_some() || !hunks.is_empty() {
                        return Err(wrong(number, line, "it stands once, right below the file"));
                    }
                    *target = Some(path.trim().to_owned());
                    return Ok(());
                }
                hunk_line(hunks, number, line)
            }
        }
    }
}

fn hunk_line(hunks: &mut Vec<Hunk>, number: usize, line: &str) -> Result<(), PatchError> {
    if let Some(header) = line.strip_prefix("@@") {
        // Several in a row name one place, from the outside in.
        if hunks.last().is_none_or(|hunk| !hunk.lines.is_empty()) {
            hunks.push(Hunk::default());
        }
        if let Some(hunk) = hunks.last_mut() {
            place(hunk, header);
        }
        return Ok(());
    }
    if line.trim_end() == END_OF_FILE {
        let hunk = hunks.last_mut().filter(|hunk| !hunk.lines.is_empty());
        let hunk =
            hunk.ok_or_else(|| wrong(number, line, "it stands below the lines of a hunk"))?;
        hunk.is_at_end = true;
        return Ok(());
    }
    let parsed = if let Some(text) = line.strip_prefix('+') {
        Line::Add(text.to_owned())
    } else if let Some(text) = line.strip_prefix('-') {
        Line::Remove(text.to_owned())
    } else if let Some(text) = line.strip_prefix(' ') {
        Line::Keep(text.to_owned())
    } else if line.is_empty() {
        // An empty line of context, whose mark was trimmed away.
        Line::Keep(String::new())
    } else {
        let why = "every line of a hunk starts with ` `, `-` or `+`, and every hunk with `@@`";
        return Err(wrong(number, line, why));
    };
    if hunks.last().is_none_or(|hunk| hunk.is_at_end) {
        hunks.push(Hunk::default());
    }
    if let Some(hunk) = hunks.last_mut() {
        hunk.lines.push(parsed);
    }
    Ok(())
}

/// Takes in what stands behind `@@`: nothing, a line to look for, or numbers as diff(1) writes
/// them, perhaps with a line behind.
fn place(hunk: &mut Hunk, header: &str) {
    let numbers = header.trim_start().strip_prefix('-').and_then(|rest| rest.split_once("@@"));
    let start = numbers.and_then(|(numbers, _)| numbers.split([',', ' ']).next()?.parse().ok());
    if start.is_some() {
        // What diff(1) writes behind the numbers is above the hunk somewhere, and says nothing new.
        hunk.start = start;
        return;
    }
    let anchor = header.trim().trim_end_matches("@@").trim();
    if !anchor.is_empty() {
        hunk.anchors.push(anchor.to_owned());
    }
}

/// What is wrong with an operation that can be seen without the file.
fn check(operation: &Operation) -> Result<(), PatchError> {
    let (Operation::Add { path, .. } | Operation::Delete { path } | Operation::Update { path, .. }) =
        operation;
    if path.is_empty() {
        return Err(PatchError::new("a file has no name"));
    }
    let Operation::Update { target, hunks, .. } = operation else { return Ok(()) };
    if target.as_ref().is_some_and(String::is_empty) {
        return Err(PatchError::new(format!("{path}: `{}` names nothing", MOVE.trim_end())));
    }
    if hunks.is_empty() && target.is_none() {
        return Err(PatchError::new(format!("{path}: there is no hunk")));
    }
    for (number, hunk) in (1..).zip(hunks) {
        if hunk.lines.iter().all(|line| matches!(line, Line::Keep(_))) {
            let text = format!("{path}: hunk {number} changes nothing");
            return Err(PatchError::new(text));
        }
    }
    Ok(())
}

fn wrong(number: usize, line: &str, why: &str) -> PatchError {
    let short: String = line.chars().take(120).collect();
    PatchError::new(format!("line {number} of the patch: {why}; here stands {short:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_read_as_its_grammar_says() {
        let text = "\n*** Begin Patch\n*** Add File: new.txt\n+a\n+\n*** Delete File: old.txt\n\
                    *** Update File: a.py\n*** Move to: b.py\n@@ class A:\n@@ def f():\n x\n-y\n+z\n\n\
                    @@ -7,2 +8,1 @@ def g():\n-q\n*** End of File\n*** End Patch\n";
        let lines = |lines: &[(char, &str)]| -> Vec<Line> {
            let line = |(mark, text): &(char, &str)| match mark {
                '+' => Line::Add((*text).to_owned()),
                '-' => Line::Remove((*text).to_owned()),
                _ => Line::Keep((*text).to_owned()),
            };
            lines.iter().map(line).collect()
        };
        let first = Hunk {
            anchors: vec!["class A:".to_owned(), "def f():".to_owned()],
            lines: lines(&[(' ', "x"), ('-', "y"), ('+', "z"), (' ', "")]),
            ..Hunk::default()
        };
        let second = Hunk {
            start: Some(7),
            lines: lines(&[('-', "q")]),
            is_at_end: true,
            ..Hunk::default()
        };
        assert_eq!(
            parse(text).unwrap(),
            [
                Operation::Add { path: "new.txt".to_owned(), content: "a\n\n".to_owned() },
                Operation::Delete { path: "old.txt".to_owned() },
                Operation::Update {
                    path: "a.py".to_owned(),
                    target: Some("b.py".to_owned()),
                    hunks: vec![first, second],
                },
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(said("--- a\n+++ b\n"), "a patch starts with the line `*** Begin Patch`");
        assert_eq!(said("*** Begin Patch\n"), "a patch ends with the line `*** End Patch`");
        assert_eq!(
            said("*** Begin Patch\n*** Update File: a\n@@\nx\n*** End Patch"),
            "line 4 of the patch: every line of a hunk starts with ` `, `-` or `+`, and every hunk \
             with `@@`; here stands \"x\""
        );
        assert_eq!(
            said("*** Begin Patch\n*** Update File: a\n@@\n x\n*** End Patch"),
            "a: hunk 1 changes nothing"
        );
        assert_eq!(
            said("*** Begin Patch\n*** Add File: a\nx\n*** End Patch"),
            "line 3 of the patch: every line of a new file starts with `+`; here stands \"x\""
        );
    }
}
