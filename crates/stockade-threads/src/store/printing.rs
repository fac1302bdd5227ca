//! What a command prints while it runs, for those who follow its thread from elsewhere: a file that
//! is there from its first byte until the command has ended. Then the record has it, and the file is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::folder::make_private;

/// In a thread's folder, a file for each command that runs and has printed something.
const FOLDER: &str = "printing";

/// Of one command, in bytes: more is not followed, and its end is in the record.
const PRINTED_MAX: u64 = 16 << 20;

/// What is read at once.
const CHUNK: u64 = 64 << 10;

/// Where a command's output goes as it comes, from its first byte on. That nobody can follow is no
/// reason to end a thread: what cannot be written is left out, and is in the record all the same.
#[derive(Debug, Default)]
pub struct Printing(State);

#[derive(Debug, Default)]
enum State {
    /// Nobody follows.
    #[default]
    Nowhere,
    /// Nothing was printed yet.
    At(PathBuf),
    Begun(Begun),
}

/// A file of a command's output; it goes with this.
#[derive(Debug)]
struct Begun {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Printing {
    /// That of the command `id` of the thread in `folder`.
    pub(super) fn of(folder: &Path, id: &str) -> Self {
        Self(State::At(place(folder, id)))
    }

    /// Adds a piece.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if let State::At(path) = &self.0 {
            self.0 = Begun::new(path).map_or(State::Nowhere, State::Begun);
        }
        let State::Begun(Begun { file, length, .. }) = &mut self.0 else { return };
        let room = PRINTED_MAX.saturating_sub(*length).min(bytes.len() as u64);
        let piece = usize::try_from(room).ok().and_then(|room| bytes.get(..room));
        match file.write_all(piece.unwrap_or_default()) {
            Ok(()) => *length += room,
            Err(_) => self.0 = State::Nowhere,
        }
    }
}

impl Begun {
    fn new(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            make_private(folder)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, length: 0 })
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // What stays is swept away when the thread goes on.
        fs::remove_file(&self.path).ok();
    }
}

/// Removes what a process that was killed left.
pub(super) fn sweep(folder: &Path) {
    fs::remove_dir_all(folder.join(FOLDER)).ok();
}

fn place(folder: &Path, id: &str) -> PathBuf {
    folder.join(FOLDER).join(id)
}

/// A command that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) id: String,
    file: Option<File>,
    length: u64,
}

impl Followed {
    pub(super) fn new(id: String) -> Self {
        Self { id, file: None, length: 0 }
    }

    /// What it has printed since the last look.
    pub(super) fn look(&mut self, folder: &Path) -> Vec<u8> {
        // A name that is a path would be none of ours.
        let is_name = self.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if self.file.is_none() && is_name {
            self.file = File::open(place(folder, &self.id)).ok();
        }
        self.read(CHUNK)
    }

    /// The rest, when it has ended; `None` when it was never looked at.
    pub(super) fn rest(mut self) -> Option<Vec<u8>> {
        self.file.as_ref()?;
        let mut rest = self.read(PRINTED_MAX);
        if self.length >= PRINTED_MAX {
            rest.extend(b"\n[more was printed; its end is in the record]\n");
        }
        Some(rest)
    }

    fn read(&mut self, most: u64) -> Vec<u8> {
        let mut piece = Vec::new();
        if let Some(file) = &self.file {
            // What cannot be read is in the record when the command has ended.
            file.take(most).read_to_end(&mut piece).ok();
        }
        self.length += piece.len() as u64;
        piece
    }
}
