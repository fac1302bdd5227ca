//! What is said when configuration is wrong.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Why there is no policy. Nothing has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A place in a file (or in a `-c` option) is wrong; the text shows the line.
    #[error("{0}")]
    Place(Box<Diagnostic>),
    /// A file could not be read.
    #[error("cannot read `{}`", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// A file could not be written; what was there is still there.
    #[error("cannot write `{}`", .0.display())]
    Unwritable(PathBuf, #[source] std::io::Error),
    /// A flag is wrong, or a path that it names.
    #[error("{what}")]
    Refused {
        /// What is refused and why.
        what: String,
        /// What to do instead.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Place(_) | Self::Unreadable(..) | Self::Unwritable(..) => None,
            Self::Refused { hint, .. } => hint.as_deref(),
        }
    }

    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: Some(hint.into()) }
    }
}

/// One wrong place, with the text it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) help: Option<String>,
    pub(crate) source: Source,
    pub(crate) span: Range<usize>,
}

/// Where a value comes from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// `/etc/stockade/config.toml`.
    System,
    /// Codex' own file, which the user has asked for.
    Codex,
    /// The user's own file.
    User,
    /// A profile of the user's.
    Profile,
    /// The workspace's own file, which may only narrow.
    Project,
    /// The same, with exactly the content that the user has trusted.
    Trusted,
    /// What the user has answered for one project: `~/.config/stockade/projects/`.
    Answers,
    /// `-c`.
    Option,
    /// `/etc/stockade/requirements.toml`, which bounds all the others.
    Requirements,
}

/// A text that was read as configuration, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: PathBuf,
    pub(crate) text: String,
    pub(crate) layer: Layer,
}

impl Source {
    /// `file:line` of the byte at `offset`.
    pub(crate) fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.name.display())
    }

    pub(crate) fn wrong(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) -> ConfigError {
        ConfigError::Place(Box::new(Diagnostic {
            message: message.into(),
            label: label.into(),
            help,
            source: self.clone(),
            span,
        }))
    }
}

impl Diagnostic {
    /// The file, or `-c`.
    pub fn file(&self) -> &Path {
        &self.source.name
    }

    /// The line and the column, in characters, that are wrong; both count from 1.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.span.start).unwrap_or(&self.source.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

impl fmt::Display for Diagnostic {
    /// The message alone, then the place as compilers show it; without the word "error",
    /// which whoever prints it puts in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source.name.display().to_string();
        let annotation = AnnotationKind::Primary.span(self.span.clone()).label(self.label.as_str());
        let snippet = Snippet::source(self.source.text.as_str()).path(name).annotation(annotation);
        let title = Level::ERROR.primary_title(self.message.as_str());
        let mut group = title.element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let text = Renderer::plain().render(&[group]);
        f.write_str(text.strip_prefix("error: ").unwrap_or(&text))
    }
}

/// The entry of `known` that is nearest to `found`, if it is near.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = found.len().div_ceil(3).max(1);
    known
        .iter()
        .map(|&name| (distance(found.as_bytes(), name.as_bytes()), name))
        .min()
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, removals and changes of one byte.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, other) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(0);
            let change = diagonal + usize::from(byte != other);
            let best = change.min(above + 1).min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            left = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_levenshteins() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
        assert_eq!(nearest("sandbox_mod", &["sandbox_mode", "hidden"]), Some("sandbox_mode"));
        assert_eq!(nearest("xyzzy", &["sandbox_mode", "hidden"]), None);
    }
}
