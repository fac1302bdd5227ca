//! The tools `read`, `list`, `search` and `write`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::output::{SHOWN_BYTES, floor};
use super::{Bench, ToolError};
use crate::hands::{EntryKind, Search};

/// Entries of one folder that are shown.
const ENTRIES_MAX: usize = 1_000;
/// Matches of one search.
const MATCHES_MAX: usize = 200;
/// Bytes of one line that matches: generated files have long ones.
const LINE_BYTES: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    path: PathBuf,
    offset: Option<usize>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    pattern: String,
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    path: PathBuf,
    content: String,
}

impl Bench<'_> {
    /// The lines asked for, as the file has them: a patch has to name them exactly.
    pub(super) fn read(&mut self, arguments: &Read) -> Result<String, ToolError> {
        let path = named(&arguments.path)?;
        let bytes = self.hands.read(path)?;
        let count = bytes.len();
        let text =
            String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
                ToolError::Slip(format!("`{}` is not text ({count} bytes)", path.display()))
            })?;
        let total = text.lines().count();
        let first = arguments.offset.unwrap_or(1).max(1);
        if first > total.max(1) {
            let text = format!("`{}` has {total} lines", path.display());
            return Err(ToolError::Slip(text));
        }
        let mut shown = String::new();
        let mut last = first - 1;
        let limit = arguments.limit.unwrap_or(usize::MAX);
        for line in text.split_inclusive('\n').skip(first - 1).take(limit) {
            // Room for the line below, and never nothing.
            if shown.len() + line.len() > SHOWN_BYTES - 100 && !shown.is_empty() {
                break;
            }
            shown.push_str(line);
            last += 1;
        }
        let is_part = first > 1 || last < total;
        let lines = if is_part { format!(", lines {first} to {last}") } else { String::new() };
        self.step(&format!("read {}{lines}", path.display()));
        if is_part {
            if !shown.ends_with('\n') {
                shown.push('\n');
            }
            write!(shown, "[lines {first} to {last} of {total}]").ok();
        } else if shown.is_empty() {
            shown.push_str("[the file is empty]");
        }
        Ok(shown)
    }

    pub(super) fn list(&mut self, arguments: &List) -> Result<String, ToolError> {
        let mut entries = self.hands.list(named(&arguments.path)?)?;
        self.step(&format!("listed {}", arguments.path.display()));
        if entries.is_empty() {
            return Ok("[the folder is empty]".to_owned());
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut text = String::new();
        for entry in entries.iter().take(ENTRIES_MAX) {
            let name = entry.name.to_string_lossy();
            match entry.kind {
                EntryKind::File => writeln!(text, "{name}  {} bytes", entry.bytes),
                EntryKind::Folder => writeln!(text, "{name}/"),
                EntryKind::Link => writeln!(text, "{name}  link"),
                EntryKind::Other => writeln!(text, "{name}  special"),
            }
            .ok();
        }
        if entries.len() > ENTRIES_MAX {
            writeln!(text, "[{} more]", entries.len() - ENTRIES_MAX).ok();
        }
        Ok(text)
    }

    pub(super) fn search(&mut self, arguments: Find) -> Result<String, ToolError> {
        let query = Search { pattern: arguments.pattern, path: arguments.path, max: MATCHES_MAX };
        let matches = self.hands.search(&query)?;
        let within = query.path.as_ref().map(|path| format!(" in {}", path.display()));
        let found = match matches.len() {
            0 => "nothing".to_owned(),
            1 => "1 line".to_owned(),
            count => format!("{count} lines"),
        };
        let text = format!("searched{} for {}: {found}", within.unwrap_or_default(), query.pattern);
        self.step(&text);
        if matches.is_empty() {
            return Ok("[no match]".to_owned());
        }
        let mut text = String::new();
        for found in &matches {
            let line = found.text.get(..floor(&found.text, LINE_BYTES)).unwrap_or_default();
            writeln!(text, "{}:{}: {line}", found.path.display(), found.line).ok();
        }
        if matches.len() >= MATCHES_MAX {
            writeln!(text, "[the first {MATCHES_MAX} matches; there may be more]").ok();
        }
        Ok(text)
    }

    pub(super) fn write(&mut self, arguments: &Write) -> Result<String, ToolError> {
        let path = named(&arguments.path)?;
        self.hands.write(path, Some(arguments.content.as_bytes()))?;
        Ok(format!("wrote `{}`: {} bytes", path.display(), arguments.content.len()))
    }
}

/// `path`, if it can be one.
pub(super) fn named(path: &Path) -> Result<&Path, ToolError> {
    let text = path.as_os_str();
    if text.is_empty() || text.as_encoded_bytes().contains(&0) {
        return Err(ToolError::Slip("`path` names nothing".to_owned()));
    }
    Ok(path)
}
