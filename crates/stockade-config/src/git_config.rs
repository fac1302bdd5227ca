//! What a repository's own configuration makes git run or read from inside its work tree.
//!
//! `core.hooksPath = .githooks` and `include.path = ../.gitconfig` are common, and move what
//! `.git/hooks` and `.git/config` are protected for to places that look like ordinary files.
//! This is no full reader of git-config(1): what it does not understand names no path.

use std::path::{Path, PathBuf};

/// The paths that one configuration file names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// `core.hooksPath`; git takes a relative one from the top of the work tree.
    pub(crate) hooks: Vec<PathBuf>,
    /// `core.attributesFile`, from the top of the work tree too.
    pub(crate) attributes: Vec<PathBuf>,
    /// `include.path` and `includeIf.*.path`, relative to the file that names them.
    pub(crate) included: Vec<PathBuf>,
    /// `core.worktree`, relative to the git directory.
    pub(crate) worktree: Option<PathBuf>,
    /// `core.bare`.
    pub(crate) is_bare: bool,
}

/// Reads `text`, a configuration file of git's.
pub(crate) fn read(text: &str) -> Named {
    let mut named = Named::default();
    let mut section = String::new();
    // A line that ends in a backslash goes on in the next one.
    let text = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in text.lines() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split([']', '"']).next().unwrap_or_default();
            section = name.trim().to_ascii_lowercase();
            // `[core] hooksPath = x` on one line is allowed.
            let rest = header.rsplit_once(']').map_or("", |(_, rest)| rest.trim());
            named.entry(&section, rest);
        } else {
            named.entry(&section, line);
        }
    }
    named
}

impl Named {
    fn entry(&mut self, section: &str, line: &str) {
        let Some((key, text)) = line.split_once('=') else { return };
        let path = PathBuf::from(value(text));
        if path.as_os_str().is_empty() {
            return;
        }
        match (section, key.trim().to_ascii_lowercase().as_str()) {
            ("core", "hookspath") => self.hooks.push(path),
            ("core", "attributesfile") => self.attributes.push(path),
            ("core", "worktree") => self.worktree = Some(path),
            ("core", "bare") => self.is_bare = path != Path::new("false"),
            ("include" | "includeif", "path") => self.included.push(path),
            _ => {}
        }
    }
}

/// The value without quotes, comment and surrounding blanks.
fn value(text: &str) -> String {
    let mut result = String::new();
    let mut quoted = false;
    let mut characters = text.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => result.extend(characters.next()),
            '#' | ';' if !quoted => break,
            _ => result.push(character),
        }
    }
    if quoted { result } else { result.trim_end().to_owned() }
}

/// `path` of a configuration file with `~/` replaced, from `base` when it is relative.
pub(crate) fn resolve(path: &Path, base: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_however_they_are_written() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str)] = &[
            ("[core]\n\thooksPath = .githooks\n",           ".githooks"),
            ("[CORE]\nHOOKSPATH=.githooks # here\n",        ".githooks"),
            ("[core] hooksPath = \"a b;c\"\n",              "a b;c"),
            ("[core]\nhooksPath = a\\\nb\n",                "ab"),
            ("[core]\n\tbare = false\n[user]\nname = x\n",  ""),
            ("[core \"x\"]\n# hooksPath = y\n",             ""),
        ];
        for &(text, expected) in CASES {
            let hooks = read(text).hooks;
            let shown = hooks.first().map(|path| path.display().to_string()).unwrap_or_default();
            assert_eq!(shown, expected, "{text:?}");
        }
        let named = read(
            "[include]\npath = ../.gitconfig\n[includeIf \"gitdir:~/x/\"]\npath = ~/y\n[core]\nworktree = ../../../sub\n",
        );
        assert_eq!(named.included, [Path::new("../.gitconfig"), Path::new("~/y")]);
        assert_eq!(named.worktree.as_deref(), Some(Path::new("../../../sub")));
    }
}
