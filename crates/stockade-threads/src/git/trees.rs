//! The trees of a thread's changes. They hold what differs and nothing else, so they cost what
//! was changed and not what the repository is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use super::{Git, GitError, ObjectId, fields, line, object};
use crate::record::{Changes, PathText};

/// The thread's own repository, in its folder.
pub(crate) const CHANGES: &str = "changes.git";

/// A submodule: a commit of another repository, whose object is not here.
pub(crate) const SUBMODULE: u32 = 0o160_000;

/// What stands under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As in git: `0o100644`, `0o100755`, `0o120000`, `0o160000`.
    pub(crate) mode: u32,
    /// The content.
    pub(crate) id: ObjectId,
}

/// Files by their path.
pub(crate) type Listing = BTreeMap<Vec<u8>, Entry>;

/// The entries of the index of `git` that are in no conflict: all, or those at `paths`.
pub(crate) fn list(git: &Git, paths: &[&str]) -> Result<Listing, GitError> {
    let words = [["ls-files", "-z", "--stage", "--"].as_slice(), paths].concat();
    let listed = git.run(&words)?;
    let parsed = fields(&listed).map(|line| {
        // `100644 OID 0<tab>PATH`
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let head = str::from_utf8(line.get(..at)?).ok()?;
        let mut words = head.split(' ');
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let id = words.next()?.parse().ok()?;
        let entry = (words.next()? == "0").then_some(Entry { mode, id });
        Some((line.get(at + 1..)?.to_owned(), entry))
    });
    let mut listing = Listing::new();
    for entry in parsed {
        let (path, entry) = entry.ok_or_else(|| GitError::answer("ls-files"))?;
        listing.extend(entry.map(|entry| (path, entry)));
    }
    Ok(listing)
}

/// Writes the files `0`, `1`, … of `folder`, which lies in the repository `directory`, into it
/// as they are; the names of their content. The folder is gone then.
pub(crate) fn hash_staged(
    directory: &Path,
    folder: &Path,
    count: usize,
) -> Result<Vec<ObjectId>, GitError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut names = String::new();
    for number in 0..count {
        writeln!(names, "{name}/{number}").expect("invariant: a String takes everything");
    }
    let words = ["hash-object", "-w", "--no-filters", "--stdin-paths"];
    let git = Git::bare(directory);
    let hashed =
        if names.is_empty() { Vec::new() } else { git.run_with(&words, names.as_bytes())? };
    std::fs::remove_dir_all(folder).map_err(GitError::io("hash-object"))?;
    let hashed: Result<Vec<ObjectId>, String> =
        line("hash-object", &hashed)?.lines().map(str::parse).collect();
    match hashed {
        Ok(hashed) if hashed.len() == count => Ok(hashed),
        Ok(_) | Err(_) => Err(GitError::answer("hash-object")),
    }
}

/// Copies the content of `entries` into the repository `directory`; it may have a part of it,
/// the user's store `objects` has the rest.
pub(crate) fn copy<'a>(
    directory: &Path,
    objects: Option<&Path>,
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<(), GitError> {
    let mut names = String::new();
    for entry in entries.filter(|entry| entry.mode != SUBMODULE) {
        names.push_str(entry.id.as_str());
        names.push('\n');
    }
    if names.is_empty() {
        return Ok(());
    }
    let mut git = Git::bare(directory);
    if let Some(objects) = objects {
        git = git.borrowing(objects);
    }
    let pack = directory.join("objects/pack/pack");
    let words = [OsStr::new("pack-objects"), OsStr::new("--quiet"), pack.as_os_str()];
    git.run_with(&words, names.as_bytes()).map(drop)
}

/// Writes a tree of `listing`, whose content need not be there.
pub(crate) fn write(directory: &Path, listing: &Listing) -> Result<ObjectId, GitError> {
    write_with(&Git::bare(directory), directory, listing)
}

/// The same by `git`, which may know some of the trees from elsewhere: those are not written.
pub(crate) fn write_with(
    git: &Git,
    directory: &Path,
    listing: &Listing,
) -> Result<ObjectId, GitError> {
    let index = directory.join("index.tree");
    let git = git.clone().variable("GIT_INDEX_FILE", &index);
    let mut input = Vec::new();
    for (path, Entry { mode, id }) in listing {
        input.extend_from_slice(format!("{mode:06o} {id}\t").as_bytes());
        input.extend(path.iter().chain(&[0]));
    }
    std::fs::remove_file(&index).ok();
    git.run(&["read-tree", "--empty"])?;
    if !input.is_empty() {
        git.run_with(&["update-index", "-z", "--index-info"], &input)?;
    }
    let tree = git.run(&["write-tree", "--missing-ok"])?;
    std::fs::remove_file(&index).map_err(GitError::io("write-tree"))?;
    object("write-tree", &tree)
}

/// Keeps what differs between `(before, after)`: two trees, and the content that a diff of
/// them needs. `root` is the folder that the paths are relative to.
pub(crate) fn keep(
    directory: &Path,
    objects: Option<&Path>,
    root: &Path,
    (before, after): (&Listing, &Listing),
) -> Result<Changes, GitError> {
    let pair = keep_pair(directory, objects, (before, after))?;
    let git = Git::bare(directory);
    git.run(&["update-ref", "refs/stockade/base", pair.base.as_str()])?;
    git.run(&["update-ref", "refs/stockade/result", pair.result.as_str()])?;
    Ok(Changes {
        root: PathText::from(root),
        base: pair.base.to_string(),
        result: pair.result.to_string(),
        files: pair.files,
        left_out: Vec::new(),
        clone: None,
        commits: Vec::new(),
        ignored: 0,
        modes: Vec::new(),
    })
}

/// What differs between two listings, as a pair of trees.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) base: ObjectId,
    pub(crate) result: ObjectId,
    /// How many files differ.
    pub(crate) files: u64,
}

/// Keeps that pair. Nothing refers to it, and nothing in a repository of ours is ever swept up.
pub(crate) fn keep_pair(
    directory: &Path,
    objects: Option<&Path>,
    (before, after): (&Listing, &Listing),
) -> Result<Pair, GitError> {
    let only = |one: &Listing, other: &Listing| -> Listing {
        let differs = |(path, entry): &(&Vec<u8>, &Entry)| other.get(*path) != Some(*entry);
        let own = one.iter().filter(differs);
        own.map(|(path, entry)| (path.clone(), entry.clone())).collect()
    };
    let (before, after) = (only(before, after), only(after, before));
    copy(directory, objects, before.values().chain(after.values()))?;
    let new = after.keys().filter(|path| !before.contains_key(*path)).count();
    Ok(Pair {
        base: write(directory, &before)?,
        result: write(directory, &after)?,
        files: u64::try_from(before.len() + new).unwrap_or(u64::MAX),
    })
}

/// Every file of `commit` or tree, as `git` can read it.
pub(crate) fn of_commit(git: &Git, commit: &str) -> Result<Listing, GitError> {
    let listed = git.run(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
    let entry = |line: &[u8]| {
        // `100644 blob OID<tab>PATH`
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let mut words = str::from_utf8(line.get(..at)?).ok()?.split(' ');
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let id = words.nth(1)?.parse().ok()?;
        Some((line.get(at + 1..)?.to_owned(), Entry { mode, id }))
    };
    let entries =
        fields(&listed).map(|line| entry(line).ok_or_else(|| GitError::answer("ls-tree")));
    entries.collect()
}
