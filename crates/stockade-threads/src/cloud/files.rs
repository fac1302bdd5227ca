//! A machine for a command on the user's own files (`stockade run --vm`): all of them go in as they
//! are, and at the end what changed is written back, as far as the same command without a machine
//! could have written it.
//!
//! What comes out is hostile as ever: a diff that is taken in first, and applied three ways to what is
//! there by then. What may not be written waits in the thread.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use stockade_guest::ENVIRONMENT;

use super::{CloudError, Running};
use crate::apply::{ApplyError, ApplyOptions, FileOutcome, Outcome, apply};
use crate::bounds::Bounds;
use crate::changes::ChangeSet;
use crate::ended::{Ended, not_taken, with_causes};
use crate::flags::FlagKind;
use crate::git::{Cloned, LocalChanges, Repository};
use crate::local::Undo;
use crate::quoted;
use crate::record::{Applied, Changes, Denial, Event, PathText, State};
use crate::undo::Hands;

/// What a folder that is no repository has as the commit of its files.
const AS_THEY_ARE: &str = "The files as they are";

/// What is flagged because a person who reads a diff should see it, and what a command without a
/// machine may write all the same: the bounds say which.
const WRITTEN: [FlagKind; 3] = [FlagKind::ControlFile, FlagKind::CiFile, FlagKind::PackageHook];

/// What is different for root; the files are the user's, and git would not touch those of another.
const ROOT: [(&str, &str); 5] = [
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("GIT_CONFIG_COUNT", "1"),
    ("GIT_CONFIG_KEY_0", "safe.directory"),
    ("GIT_CONFIG_VALUE_0", "*"),
];

/// The user's own files, and what may become of them.
#[derive(Debug, Clone)]
pub struct Files {
    /// What may be written back.
    pub bounds: Bounds,
    /// Whether what was changed waits beside them.
    pub is_draft: bool,
    /// Whether the command is root in the machine.
    pub is_root: bool,
    /// What the command's environment has beside the machine's own.
    pub variables: Vec<(OsString, OsString)>,
}

/// A file that is ignored could not be taken into the machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy `{}`", path.display())]
pub struct CopyError {
    /// Which.
    pub path: PathBuf,
    /// The system call's error.
    pub source: io::Error,
}

impl Files {
    /// The whole environment of the command.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let own = ENVIRONMENT.iter().map(|(name, value)| (name.into(), value.into()));
        let root = ROOT.iter().filter(|_| self.is_root);
        let root = root.map(|(name, value)| (name.into(), value.into()));
        own.chain(root).chain(self.variables.iter().cloned()).collect()
    }

    /// Absolute, whether there or not.
    pub(super) fn hidden(&self) -> Vec<PathBuf> {
        let hidden = &self.bounds.policy().hidden;
        hidden.iter().map(|path| path.as_path().to_owned()).collect()
    }
}

/// The folder whose files go in: the repository's around `workspace`, or that alone.
pub(super) fn top(workspace: &Path) -> Result<PathBuf, CloudError> {
    let found = around(workspace)?;
    Ok(found.map_or_else(|| workspace.to_owned(), |repository| repository.top))
}

/// The repository that `workspace` is in; one that ignores it would see no change there.
fn around(workspace: &Path) -> Result<Option<Repository>, CloudError> {
    let failed = |source| CloudError::Repository { workspace: workspace.to_owned(), source };
    let Some(found) = Repository::discover(workspace).map_err(failed)? else { return Ok(None) };
    let is_ignored = found.top != workspace && found.ignores(workspace).map_err(failed)?;
    Ok((!is_ignored).then_some(found))
}

/// Where the machine has them: at their own place, which tools write down in what they make, unless
/// the machine has something there.
pub(super) fn place(top: &Path) -> Option<&Path> {
    let own = ["/dev", "/proc", "/run", "/sys"].iter().any(|own| top.starts_with(own));
    (!own && top.to_str().is_some()).then_some(top)
}

impl Running<'_> {
    /// Copies all of the user's files but the hidden ones. The value is also how many of them git
    /// ignores.
    pub(super) fn copy_files(
        &self,
        clone: &Path,
        files: &Files,
    ) -> Result<(Cloned, u64), CloudError> {
        let (hidden, workspace) = (files.hidden(), &self.task.workspace);
        let repository = around(workspace)?;
        let has_head = repository.as_ref().is_some_and(|repository| repository.head.is_some());
        let looked_at = (self.thread.folder(), hidden.as_slice());
        let looked = LocalChanges::within(repository, &top(workspace)?, looked_at)?;
        let ignored = looked.ignored()?;
        let (cloned, left_out) = if has_head {
            // It looks for itself, after the clone was made.
            (self.with_changes(clone, &hidden)?, Vec::new())
        } else {
            looked.clone_alone(clone, AS_THEY_ARE)?
        };
        for left in &left_out {
            self.note(&not_taken("not in the machine", left));
        }
        cloned.cover(clone, &hidden)?;
        let copy = Copy { top: &cloned.top, clone, hidden: &hidden };
        let copied = copy.all(&ignored, self.task.machine.disk_bytes)?;
        copy.folders(Path::new(""), &ignored.into_iter().collect())?;
        if let Some(first) = copied.unread.first() {
            let more = copied.unread.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let first = quoted(first.as_os_str().as_bytes());
            self.note(&format!("not in the machine: {first}{more}, which you may not read"));
        }
        Ok((cloned, copied.files))
    }

    /// Writes what was changed into the user's files, and says in `ended` what of it could not be.
    pub(super) fn write_back(&self, files: &Files, changes: &Changes, mut ended: Ended) -> Ended {
        if files.is_draft || changes.files == 0 {
            return ended;
        }
        match self.apply_all(files, changes, &mut ended) {
            Ok(outcomes) => self.tell_left(files, &outcomes),
            Err(error) => {
                (ended.state, ended.exit) = (State::Failed, ended.exit.max(1));
                let why = with_causes(&error);
                ended.summary = format!("{}; not all is written back: {why}", ended.summary);
                ended.hint = Some(format!("`stockade threads apply {}` goes on", ended.thread));
            }
        }
        ended
    }

    fn apply_all(
        &self,
        files: &Files,
        changes: &Changes,
        ended: &mut Ended,
    ) -> Result<Vec<FileOutcome>, ApplyError> {
        let set = ChangeSet::open(self.thread.folder(), changes)?;
        let policy = files.bounds.policy();
        let undo = Undo::beside(self.store, self.thread.id(), (policy, &[]));
        let options = ApplyOptions {
            accept: WRITTEN.iter().map(|kind| kind.as_str().to_owned()).collect(),
            never: files.hidden(),
            bounds: Some(files.bounds.clone()),
            undo: undo.segment.clone(),
            ..ApplyOptions::default()
        };
        let outcomes = apply(&set, self.thread, &options);
        ended.notes.extend(undo.notes());
        outcomes
    }

    /// Records what was written and what was not.
    fn tell_left(&self, files: &Files, outcomes: &[FileOutcome]) {
        let mut applied = Applied { applied: Vec::new(), left: Vec::new() };
        for FileOutcome { path, outcome } in outcomes {
            let name = PathText::from(Path::new(std::ffi::OsStr::from_bytes(path)));
            let why = match outcome {
                Outcome::Applied | Outcome::Merged | Outcome::Marked => {
                    applied.applied.push(name);
                    continue;
                }
                Outcome::Unchanged => continue,
                Outcome::Conflict(why) | Outcome::Refused(why) => (*why).to_owned(),
                Outcome::Held(kinds) => {
                    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                    format!("held ({})", names.join(", "))
                }
            };
            let whole = top(&self.task.workspace).unwrap_or_default().join(name.to_path());
            if let Err(by) = files.bounds.change(&whole) {
                let denial = Denial::new("write", whole.as_os_str(), by);
                // A record that cannot be kept is seen by whatever comes next.
                self.journal.record(&Event::Denial(denial)).ok();
            }
            self.left.borrow_mut().push(format!("not written back: {}: {why}", quoted(path)));
            applied.left.push(name);
        }
        self.journal.record(&Event::Applied(applied)).ok();
    }
}

/// Takes what git ignores along: what a build needs is often among it.
struct Copy<'a> {
    top: &'a Path,
    clone: &'a Path,
    hidden: &'a [PathBuf],
}

/// What was copied so far.
struct Copied {
    /// Bytes that are left of the disk.
    left: u64,
    files: u64,
    /// What may not be read.
    unread: Vec<PathBuf>,
}

impl Copy<'_> {
    fn all(&self, paths: &[PathBuf], disk_bytes: u64) -> Result<Copied, CloudError> {
        let hands = Hands::open(&[self.top.to_owned()], None)
            .map_err(|error| CloudError::Folder(self.top.to_owned(), error))?;
        let mut copied = Copied { left: disk_bytes, files: 0, unread: Vec::new() };
        for path in paths {
            self.one(&hands, path, &mut copied)?;
        }
        Ok(copied)
    }

    /// Makes the folders below `path` that git does not know of, but those in `known`.
    fn folders(&self, path: &Path, known: &BTreeSet<PathBuf>) -> Result<(), CloudError> {
        let failed = |path: PathBuf| move |source| CloudError::Copy(CopyError { path, source });
        // What may not be read, or is gone meanwhile, has nothing to show.
        for entry in fs::read_dir(self.top.join(path)).into_iter().flatten().flatten() {
            let path = path.join(entry.file_name());
            let (from, to) = (self.top.join(&path), self.clone.join(&path));
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_hidden = self.hidden.iter().any(|hidden| from.starts_with(hidden));
            let is_git = entry.file_name() == ".git" || from.join(".git").exists();
            if !is_folder || is_hidden || is_git || known.contains(&path) {
                continue;
            }
            match fs::create_dir(&to) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(to)(error));
                }
                _ => self.folders(&path, known)?,
            }
        }
        Ok(())
    }

    /// Copies the file, the link or the folder `path`, which is relative; through no link.
    fn one(&self, hands: &Hands, path: &Path, so_far: &mut Copied) -> Result<(), CloudError> {
        let (from, to) = (self.top.join(path), self.clone.join(path));
        if self.hidden.iter().any(|hidden| from.starts_with(hidden)) {
            return Ok(());
        }
        // What is gone meanwhile is gone.
        let Some(stat) = hands.look(&from) else { return Ok(()) };
        let failed = |source| CloudError::Copy(CopyError { path: from.clone(), source });
        let above = to.parent().unwrap_or(&to);
        fs::create_dir_all(above).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                fs::create_dir_all(&to).map_err(failed)?;
                let names = match hands.names(&from) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        so_far.unread.push(path.to_owned());
                        return Ok(());
                    }
                    names => names.map_err(failed)?,
                };
                for name in names {
                    self.one(hands, &path.join(name), so_far)?;
                }
                Ok(())
            }
            FileType::Symlink => {
                let (folder, name) = hands.at(&from).map_err(failed)?;
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                let target = target.map_err(|error| failed(error.into()))?;
                so_far.files += 1;
                symlink(std::ffi::OsStr::from_bytes(target.as_bytes()), &to).map_err(failed)
            }
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                let rest = so_far.left.checked_sub(size);
                so_far.left = rest.ok_or_else(|| CloudError::Ignored(self.top.to_owned()))?;
                match copy_file(hands, (&from, &to), stat.st_mode) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        so_far.unread.push(path.to_owned());
                        Ok(())
                    }
                    copied => {
                        so_far.files += 1;
                        copied.map_err(failed)
                    }
                }
            }
            // Nothing that another kernel could use.
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(()),
        }
    }
}

fn copy_file(hands: &Hands, (from, to): (&Path, &Path), mode: u32) -> io::Result<()> {
    let mut source = File::from(hands.open_file(from, OFlags::RDONLY)?);
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    // Build tools go by it.
    let modified = source.metadata()?.modified()?;
    target.set_times(fs::FileTimes::new().set_modified(modified))
}
