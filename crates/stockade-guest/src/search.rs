//! Looks for a regular expression in files.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use regex::bytes::Regex;

use crate::call::{Call, Ended};
use crate::codec::Encoder;
use crate::message::Finish;
use crate::serve::Refusal;

/// A line is shown up to this many bytes.
const LINE_SHOWN: usize = 500;

/// A file is looked at up to the first line that is longer than this many bytes: people do not
/// read such ones.
const LINE_READ: u64 = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) pattern: String,
    /// Where the place's relative paths start.
    pub(crate) folder: PathBuf,
    /// Where to look; what is found is named from here.
    pub(crate) path: PathBuf,
    pub(crate) max: u32,
}

impl Search {
    pub(crate) fn run(self, call: &Call) -> Result<Finish, Refusal> {
        let pattern = Regex::new(&self.pattern).map_err(|error| {
            Refusal::new(libc::EINVAL, format!("not a regular expression: {error}"))
        })?;
        let start = self.folder.join(&self.path);
        // The walk would say nothing of a start that is not there.
        start.metadata().map_err(|error| Refusal::at("search", &start, &error))?;
        let walk = WalkBuilder::new(&start)
            .hidden(false)
            .require_git(false)
            .sort_by_file_name(Ord::cmp)
            .filter_entry(|entry| entry.file_name() != ".git" || entry.depth() == 0)
            .build();
        let mut left = self.max;
        // A folder that cannot be read is left out, as `rg` does after saying so.
        for entry in walk.filter_map(Result::ok) {
            if call.is_stopped() {
                return Ok(Finish::Stopped);
            }
            if left == 0 {
                break;
            }
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let shown = self.shown(&start, entry.path());
            let found = in_file(entry.path(), &shown, &pattern, &mut left).unwrap_or_default();
            if call.send_all(&found) == Err(Ended) {
                return Ok(Finish::Stopped);
            }
        }
        Ok(Finish::Done)
    }

    /// `path` below `start`, as reached from the path that was asked for.
    fn shown(&self, start: &Path, path: &Path) -> PathBuf {
        match path.strip_prefix(start) {
            Ok(below) if below.as_os_str().is_empty() => self.path.clone(),
            Ok(below) if self.path == Path::new(".") => below.to_owned(),
            Ok(below) => self.path.join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// The lines of one file that match, as they are sent. Nothing of a file with a NUL: it is not
/// text.
fn in_file(path: &Path, shown: &Path, pattern: &Regex, left: &mut u32) -> io::Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut found = Encoder(Vec::new());
    let mut line = Vec::new();
    let mut wanted = *left;
    for number in 1_u64.. {
        line.clear();
        if io::Read::take(&mut file, LINE_READ).read_until(b'\n', &mut line)? == 0 || wanted == 0 {
            break;
        }
        if line.contains(&0) {
            return Ok(Vec::new());
        }
        if line.len() as u64 == LINE_READ {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if pattern.is_match(text) {
            found.text(shown.as_os_str().as_bytes());
            found.u64(number);
            found.text(text.get(..LINE_SHOWN).unwrap_or(text));
            wanted -= 1;
        }
    }
    *left = wanted;
    Ok(found.0)
}
