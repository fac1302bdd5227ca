//! A user's repository for tests, and a way to see that nothing of it was touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Project {
    pub(crate) folder: tempfile::TempDir,
}

impl Project {
    /// A folder `work` that is no repository, beside a folder `thread`.
    pub(crate) fn plain() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::create_dir(folder.path().join("thread")).unwrap();
        Self { folder }
    }

    /// With a repository in it, one commit, and `files`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self::plain();
        project.git(&["init", "-q", "-b", "main"]);
        for (name, content) in files {
            project.write(name, content);
        }
        project.commit();
        project
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("work")
    }

    pub(crate) fn thread(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("thread")
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", "state", "--allow-empty"]);
    }

    /// Git as the user runs it.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        git(&self.work(), words)
    }

    /// Every file of the work tree and of `.git`, with content, mode and time.
    pub(crate) fn everything(&self) -> Everything {
        everything(&self.work())
    }
}

pub(crate) fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(words)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) type Everything = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

/// Every file below `folder`, with content, mode and time.
pub(crate) fn everything(folder: &Path) -> Everything {
    let mut seen = BTreeMap::new();
    collect(folder, &mut seen);
    seen
}

/// Names what differs, and not with all its bytes.
pub(crate) fn assert_same(before: &Everything, after: &Everything, claim: &str) {
    let names: std::collections::BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let differ: Vec<_> =
        names.iter().filter(|name| before.get(**name) != after.get(**name)).collect();
    assert!(differ.is_empty(), "{claim}: {differ:?} differ");
}

fn collect(folder: &Path, seen: &mut Everything) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        let content = if data.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        seen.insert(path.clone(), (data.mode(), data.mtime(), data.mtime_nsec(), content));
        if data.is_dir() {
            collect(&path, seen);
        }
    }
}
