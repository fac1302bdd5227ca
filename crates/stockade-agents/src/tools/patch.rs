//! Patches in the form that models know from Codex' `apply_patch`, read and applied in memory.
//!
//! ```text
//! *** Begin Patch
//! *** Update File: src/a.py
//! *** Move to: src/b.py
//! @@ def f():
//!  context
//! -old
//! +new
//! *** Add File: c.txt
//! +content
//! *** Delete File: d.txt
//! *** End Patch
//! ```
//!
//! A hunk is found by its lines, never by a number alone. Where they stand more than once and
//! nothing says which is meant, or nowhere, nothing is changed and the error says what is there.
//! Line ends at the end of a file and CRLF stay as the file has them.

mod apply;
#[cfg(test)]
mod laws;
mod parse;

pub(super) use apply::apply;
pub(super) use parse::parse;

/// What is to be done to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// A new file.
    Add { path: String, content: String },
    /// A file goes away.
    Delete { path: String },
    /// A file changes, and perhaps its name.
    Update { path: String, target: Option<String>, hunks: Vec<Hunk> },
}

/// One place that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Lines that stand above it, each below the one before: `@@ def f():`.
    pub(super) anchors: Vec<String>,
    /// The line at which it starts, as `@@ -12,3 +12,4 @@` says; counted from 1.
    pub(super) start: Option<usize>,
    pub(super) lines: Vec<Line>,
    /// It stands at the end of the file.
    pub(super) is_at_end: bool,
}

/// A line of a hunk, without its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Keep(String),
    Remove(String),
    Add(String),
}

impl Hunk {
    /// What has to be there.
    fn old(&self) -> Vec<&str> {
        let old = self.lines.iter().filter_map(|line| match line {
            Line::Keep(text) | Line::Remove(text) => Some(text.as_str()),
            Line::Add(_) => None,
        });
        old.collect()
    }
}

/// Why nothing was changed, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct PatchError(String);

impl PatchError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
