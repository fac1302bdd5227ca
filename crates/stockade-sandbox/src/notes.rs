//! What is noted of a run for its end: a file that grows, one record a note.
//!
//! Only PID 1 writes it, before it carries out the call that a note is about. So a kill at any
//! moment leaves a list that is complete, but for a call that was not made.
//!
//! A record is a letter, the length of a path as four bytes, and the path.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use stockade_policy::AbsPath;
use stockade_policy::guard::{Guard, Noted};

/// As many as are taken down of one run.
const MOST: usize = 1 << 16;
/// As many refused names; what is beyond them was refused all the same.
const REFUSED_MOST: usize = 1 << 12;

const ROOT: u8 = b'w';
const REPOSITORY: u8 = b'r';
const GIT_FILE: u8 = b'f';
const INDEX: u8 = b'i';
const ABSENT: u8 = b'a';

/// What was noted of a run, with what it is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notes {
    /// The judge.
    pub guard: Guard,
    /// What was noted.
    pub noted: BTreeSet<Noted>,
}

impl Notes {
    /// Reads what was written by a run; `None` when that is nothing. Half a record at the end is
    /// about a call that was not made.
    pub fn read(mut rest: &[u8]) -> Option<Self> {
        let (mut roots, mut noted) = (Vec::new(), BTreeSet::new());
        while let Some((&[kind, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
            let Some((path, after)) = after.split_at_checked(length) else { break };
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            match kind {
                ROOT => roots.extend(AbsPath::new(path)),
                REPOSITORY => drop(noted.insert(Noted::Repository(path))),
                GIT_FILE => drop(noted.insert(Noted::GitFile(path))),
                INDEX => drop(noted.insert(Noted::Index(path))),
                ABSENT => drop(noted.insert(Noted::Absent(path))),
                _ => {}
            }
            rest = after;
        }
        let guard = Guard::from_parts(roots);
        (!noted.is_empty()).then_some(Self { guard, noted })
    }

    /// The whole as one text.
    pub fn write(&self) -> Vec<u8> {
        let mut text = beginning(&self.guard);
        for note in &self.noted {
            push_note(&mut text, note);
        }
        text
    }
}

/// Opens the file for PID 1, and holds it as long as that lives.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).open(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

/// Takes notes.
#[derive(Debug)]
pub(crate) struct Notebook {
    file: File,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    noted: BTreeSet<Noted>,
    refused: usize,
}

impl Notebook {
    pub(crate) fn new(file: File) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// Takes `note` down for `guard`, before what it is about is done.
    ///
    /// # Errors
    ///
    /// When it could not be kept: then that may not be done.
    pub(crate) fn take(&self, guard: &Guard, note: Noted) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.take(&self.file, guard, note)
    }

    /// Does `rename`, which gives what is at `from` the name `to`, with what is noted below it.
    ///
    /// # Errors
    ///
    /// Those of `rename`, or when a note could not be kept.
    pub(crate) fn rename<T, E: From<io::Error>>(
        &self,
        guard: &Guard,
        names: &[(&Path, &Path)],
        rename: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.noted.is_empty() {
            return rename();
        }
        let moved = names.iter().flat_map(|(from, to)| {
            known.noted.iter().filter_map(move |note| moved(note, from, to))
        });
        for note in moved.collect::<Vec<_>>() {
            known.take(&self.file, guard, note)?;
        }
        // No other rename comes between the look at the notes and this one.
        rename()
    }
}

/// What `note` is about once `from` is called `to`.
fn moved(note: &Noted, from: &Path, to: &Path) -> Option<Noted> {
    let moved = |path: &Path| {
        let inner = path.strip_prefix(from).ok()?;
        Some(if inner.as_os_str().is_empty() { to.to_owned() } else { to.join(inner) })
    };
    match note {
        Noted::Repository(path) => moved(path).map(Noted::Repository),
        Noted::GitFile(path) => moved(path).map(Noted::GitFile),
        Noted::Index(path) => moved(path).map(Noted::Index),
        // A name that nothing has moves nowhere.
        Noted::Absent(_) => None,
    }
}

impl Known {
    fn take(&mut self, mut file: &File, guard: &Guard, note: Noted) -> io::Result<()> {
        if self.noted.contains(&note) {
            return Ok(());
        }
        if matches!(note, Noted::Absent(_)) {
            if self.refused >= REFUSED_MOST {
                return Ok(());
            }
            self.refused += 1;
        } else if self.noted.len() >= MOST + REFUSED_MOST {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let mut record = if self.noted.is_empty() { beginning(guard) } else { Vec::new() };
        push_note(&mut record, &note);
        file.write_all(&record)?;
        self.noted.insert(note);
        Ok(())
    }
}

fn beginning(guard: &Guard) -> Vec<u8> {
    let mut text = Vec::new();
    for root in guard.roots() {
        push(&mut text, ROOT, root.as_path());
    }
    text
}

fn push_note(record: &mut Vec<u8>, note: &Noted) {
    let (kind, path) = match note {
        Noted::Repository(path) => (REPOSITORY, path),
        Noted::GitFile(path) => (GIT_FILE, path),
        Noted::Index(path) => (INDEX, path),
        Noted::Absent(path) => (ABSENT, path),
    };
    push(record, kind, path);
}

fn push(record: &mut Vec<u8>, kind: u8, path: &Path) {
    let path = path.as_os_str().as_bytes();
    record.push(kind);
    record.extend(u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notebook(folder: &Path) -> (Notebook, PathBuf) {
        let path = folder.join("notes");
        File::create(&path).unwrap();
        (Notebook::new(open(&path).unwrap()), path)
    }

    #[test]
    fn notes_are_read_as_they_were_taken_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (notebook, path) = notebook(folder.path());
        let guard = Guard::from_parts(vec![AbsPath::new("/w").unwrap()]);
        assert_eq!(Notes::read(&std::fs::read(&path).unwrap()), None);
        let odd = PathBuf::from(OsString::from_vec(b"/w/\n\xff".to_vec()));
        let all = [Noted::Repository(odd), Noted::Absent("/w/x".into())];
        for note in all.iter().chain(&all) {
            notebook.take(&guard, note.clone()).unwrap();
        }
        let text = std::fs::read(&path).unwrap();
        let noted = all.iter().cloned().collect();
        assert_eq!(Notes::read(&text), Some(Notes { guard: guard.clone(), noted }));
        let torn = Notes::read(text.get(..text.len() - 1).unwrap()).unwrap();
        assert_eq!(torn.noted.len(), 1);
    }

    #[test]
    fn what_is_noted_follows_the_folder_it_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let (notebook, path) = notebook(folder.path());
        let guard = Guard::from_parts(vec![AbsPath::new("/w").unwrap()]);
        notebook.take(&guard, Noted::Repository("/w/a/.git".into())).unwrap();
        let names = [(Path::new("/w/a"), Path::new("/w/b"))];
        notebook.rename(&guard, &names, || Ok::<_, io::Error>(())).unwrap();
        let notes = Notes::read(&std::fs::read(&path).unwrap()).unwrap();
        assert!(notes.noted.contains(&Noted::Repository("/w/b/.git".into())));
    }
}
