//! What a machine gets of the user's repository, made anew on this side for each machine.

use std::fs;
use std::path::Path;

use super::{CloudError, Running};
use crate::branch::{BranchTask, UNCOMMITTED, again};
use crate::ended::not_taken;
use crate::git::trees::CHANGES;
use crate::git::{Cloned, LocalChanges, Repository, clone_commit, clone_head};
use crate::record::{self, Changes, Event};

/// What a machine begins with.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The commit that is checked out.
    Head,
    /// And what of the work is not committed, except what lies below these paths.
    WithChanges(Vec<std::path::PathBuf>),
    /// What an earlier machine of the same thread left.
    Again(Box<Earlier>),
}

/// An earlier machine of the same thread.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    pub(super) cloned: record::Cloned,
    pub(super) changes: Option<Changes>,
    /// When that was recorded.
    pub(super) when: String,
    pub(super) title: String,
}

impl Running<'_> {
    /// Clones what the machine gets. The value is also how many files are in it that git ignores.
    pub(super) fn clone_repository(&self) -> Result<(Cloned, u64), CloudError> {
        let folder = self.folder();
        // That of a process that was killed.
        fs::remove_dir_all(&folder).ok();
        fs::create_dir(&folder).map_err(|error| CloudError::Folder(folder.clone(), error))?;
        let clone = folder.join("clone");
        let (cloned, ignored) = match (&self.task.files, &self.source) {
            (Some(files), _) => self.copy_files(&clone, files)?,
            (None, Source::Head) => (clone_head(&self.task.workspace, &clone)?, 0),
            (None, Source::WithChanges(hidden)) => (self.with_changes(&clone, hidden)?, 0),
            (None, Source::Again(earlier)) => (self.again(&clone, earlier)?, 0),
        };
        if !clone.join(&self.inner).is_dir() {
            return Err(CloudError::NotCommitted(self.task.workspace.clone()));
        }
        let submodules = cloned.submodules.len();
        if submodules > 0 {
            self.note(&format!("submodules are empty folders in the clone: {submodules}"));
        }
        if cloned.lfs_pointers > 0 {
            let count = cloned.lfs_pointers;
            self.note(&format!("files of git-lfs are pointers in the clone: {count}"));
        }
        self.journal.record(&Event::Cloned(cloned.recorded()))?;
        self.tell(&cloned);
        Ok((cloned, ignored))
    }

    fn tell(&self, cloned: &Cloned) {
        if self.task.files.is_some() {
            return;
        }
        let name = cloned.branch.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
        let commit = cloned.head.as_str().get(..12).unwrap_or_default();
        let rest = match &self.source {
            Source::Head => "what is not committed stays here",
            Source::WithChanges(_) if cloned.commit == cloned.head => {
                "there is nothing that is not committed"
            }
            Source::WithChanges(_) => "and on what is not committed",
            Source::Again(_) => "and goes on where the thread ended",
        };
        self.note(&format!("works on commit {commit}{name}; {rest}"));
    }

    pub(super) fn with_changes(
        &self,
        clone: &Path,
        hidden: &[std::path::PathBuf],
    ) -> Result<Cloned, CloudError> {
        let mut cloned = clone_head(&self.task.workspace, clone)?;
        let looked = LocalChanges::begin(&cloned.top, self.thread.folder(), hidden)?;
        let (start, left_out) = looked.commit(&cloned.head, UNCOMMITTED)?;
        for left in &left_out {
            self.note(&not_taken("not in the clone", left));
        }
        if let Some(start) = start {
            let from = self.thread.folder().join(CHANGES);
            cloned.bring(clone, &from, (start.as_str(), start.as_str()))?;
            cloned.commit = start;
        }
        Ok(cloned)
    }

    fn again(&self, clone: &Path, earlier: &Earlier) -> Result<Cloned, CloudError> {
        let Earlier { cloned: of, changes, when, title } = earlier;
        let lost = || CloudError::NoBase(of.commit.clone());
        let head = of.commit.parse().ok().ok_or_else(lost)?;
        let repository = Repository::discover(&self.task.workspace)
            .ok()
            .flatten()
            .filter(|repository| repository.has_commit(&of.commit).unwrap_or(false))
            .ok_or_else(lost)?;
        let mut cloned = clone_commit(&self.task.workspace, clone, Some(head))?;
        cloned.branch.clone_from(&of.branch);
        if let Some(start) = &of.start {
            cloned.commit = start.parse().ok().ok_or_else(lost)?;
        }
        let base = cloned.commit.to_string();
        let folder = self.thread.folder();
        let chain = match changes {
            Some(changes) if changes.files > 0 || !changes.commits.is_empty() => {
                let thread = self.thread.id().as_str();
                let (when, title) = (when.as_str(), title.as_str());
                let task =
                    BranchTask { thread, folder, changes, when, title, summary: "", name: None };
                let chain = again(&task, &repository, &base)?;
                (chain.committed, chain.last)
            }
            _ => (base.clone(), base),
        };
        if chain.1 != of.commit {
            cloned.bring(clone, &folder.join(CHANGES), (&chain.0, &chain.1))?;
        }
        Ok(cloned)
    }
}
