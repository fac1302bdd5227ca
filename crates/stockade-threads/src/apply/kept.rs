//! What applying replaces, kept in the thread's folder before it is replaced.
//!
//! `kept/journal.jsonl` has one line for each write, made before it: the path, the file in
//! `kept/` that has what was there, and a hash of what was written. From the last it is known
//! that a file which was merged needs no second merge.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ApplyError;
use super::beneath::Content;
use crate::folder::make_private;
use crate::record::PathText;
use crate::store::hash;

const JOURNAL: &str = "journal.jsonl";

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    path: PathText,
    /// What was there: `file`, `executable`, `link`; missing when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    /// The file that has its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
    /// The hash of what came instead; missing when it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The hash of what the thread has there, of which `written` may be a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

/// The folder of what was replaced.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    written: BTreeSet<(Vec<u8>, Option<String>, Option<String>)>,
    next: usize,
    /// The last line has no end: its writer was killed, and wrote nothing after it.
    is_torn: bool,
}

impl Kept {
    pub(super) fn open(thread: &Path) -> Result<Self, ApplyError> {
        let folder = thread.join("kept");
        make_private(&folder).map_err(ApplyError::io("make", &folder))?;
        let text = match fs::read_to_string(folder.join(JOURNAL)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(ApplyError::io("read", &folder.join(JOURNAL)))?,
        };
        let mut written = BTreeSet::new();
        let mut next = 0;
        for line in text.lines() {
            next += 1;
            if let Ok(entry) = serde_json::from_str::<Entry>(line) {
                let path = entry.path.to_path().as_os_str().as_bytes().to_owned();
                written.insert((path, entry.written, entry.of));
            }
        }
        let is_torn = !text.is_empty() && !text.ends_with('\n');
        Ok(Self { folder, written, next, is_torn })
    }

    /// Whether what is there now is what applying `result` once wrote there.
    pub(super) fn has_written(
        &self,
        path: &[u8],
        present: Option<&Content>,
        result: Option<&Content>,
    ) -> bool {
        self.written.contains(&(path.to_owned(), present.map(hash_of), result.map(hash_of)))
    }

    /// Keeps `present` before `content` takes its place.
    pub(super) fn keep(
        &mut self,
        path: &[u8],
        present: Option<&Content>,
        (content, result): (Option<&Content>, Option<&Content>),
    ) -> Result<(), ApplyError> {
        let kept = present.map(|_| self.next.to_string());
        if let (Some(name), Some(present)) = (&kept, present) {
            let file = self.folder.join(name);
            // A number that a killed process took, and made no line for, is taken again.
            let options = &mut OpenOptions::new();
            let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
            let written = opened.and_then(|mut opened| opened.write_all(present.bytes()));
            written.map_err(ApplyError::io("keep", &file))?;
        }
        let entry = Entry {
            path: PathText::from(Path::new(std::ffi::OsStr::from_bytes(path))),
            was: present.map(|present| present.kind().to_owned()),
            kept,
            written: content.map(hash_of),
            of: result.map(hash_of),
        };
        self.append(&entry).map_err(ApplyError::io("write", &self.folder.join(JOURNAL)))?;
        self.written.insert((path.to_owned(), entry.written, entry.of));
        self.is_torn = false;
        self.next += 1;
        Ok(())
    }

    fn append(&self, entry: &Entry) -> io::Result<()> {
        let line = if self.is_torn { "\n" } else { "" }.to_owned();
        let line = line + &serde_json::to_string(entry)? + "\n";
        let options = &mut OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(self.folder.join(JOURNAL));
        crate::store::append(&file?, line.as_bytes())
    }
}

fn hash_of(content: &Content) -> String {
    let mut bytes = content.kind().as_bytes().to_owned();
    bytes.push(0);
    bytes.extend_from_slice(content.bytes());
    hash(&bytes)
}
