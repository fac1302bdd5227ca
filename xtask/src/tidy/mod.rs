//! What no compiler and no lint checks.
//!
//! Every check is a function from the files of the repository to findings, one line each, as
//! `path:line: what`; so each has a test that shows what it catches.

pub(crate) mod claims;
mod code;
mod edges;
mod sources;
mod text;

use std::fs;
use std::path::Path;
use std::process::Command;

/// One text file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Relative to the top, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl SourceFile {
    /// Whether its name ends with a dot and `ending`.
    fn has_ending(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == ending)
    }

    /// The last component without its ending.
    fn stem(&self) -> &str {
        Path::new(&self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }
}

/// The text files of the repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    files: Vec<SourceFile>,
}

impl Tree {
    /// What git tracks, and what is new and not ignored.
    pub(crate) fn of_repository(root: &Path) -> Result<Self, String> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cannot run `git ls-files`: {error}"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`git ls-files` failed: {}", words.trim()));
        }
        let names = String::from_utf8(output.stdout);
        let names = names.map_err(|error| format!("a file name is not UTF-8: {error}"))?;
        let mut files = Vec::new();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            // Deleted but not yet committed, a link, or not text: nothing to read here.
            if let Ok(bytes) = fs::read(root.join(name))
                && let Ok(text) = String::from_utf8(bytes)
            {
                files.push(SourceFile { path: name.to_owned(), text });
            }
        }
        Ok(Self { files })
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.iter().filter(|file| file.has_ending("rs"))
    }

    fn text_of(&self, path: &str) -> Option<&str> {
        self.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Self { files: files.iter().map(file).collect() }
    }
}

/// Everything that is wrong, in the order of the files.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.iter() {
        findings.extend(text::check(file));
    }
    for file in tree.rust() {
        findings.extend(sources::check(file));
    }
    findings.extend(edges::check(tree));
    findings.extend(claims::check(tree));
    findings
}
