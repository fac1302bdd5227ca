//! What in a result deserves a look before it lands on the user's files.
//!
//! *Hold*: it runs, or is trusted, on the host without anybody looking at it again; `apply` leaves
//! it out until it is accepted by name. *Note*: it is shown, and applied.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use stockade_policy::names::{is_part, is_protected_in_any_case, nested};

use crate::changes::{Change, ChangeSet, Side};
use crate::git::{GitError, Objects};
use crate::patch::{FileMode, TreePath};
use crate::record::PathText;

/// Above this a file is large, in bytes.
const LARGE: u64 = 1 << 20;

/// Content above this is not looked into, in bytes: no tool's settings are that long.
const READ_MAX: u64 = 4 << 20;

/// How many links are followed from one to the next; the kernel stops at 40.
const LINKS_MAX: usize = 40;

/// One reason to look at a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flag {
    /// Which file, relative to the root.
    #[serde(flatten)]
    pub path: PathText,
    /// Why.
    pub flag: FlagKind,
    /// What follows from it.
    pub weight: Weight,
}

/// What follows from a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It waits to be accepted.
    Hold,
    /// It is shown.
    Note,
}

/// Why a file deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlagKind {
    /// Git, an agent, an editor or a tool takes instructions or secrets from it.
    ControlFile,
    /// A server runs it after a push.
    CiFile,
    /// A package manager runs what it newly names.
    PackageHook,
    /// Git in its folder would take that for a repository, and instructions from it.
    Repository,
    /// A link that leads out of the tree, or into `.git`.
    SymlinkOut,
    /// Another repository.
    Submodule,
    /// What a run left behind that may not stay.
    HeldBack,
    /// A file that becomes executable.
    Executable,
    /// Content that is no text.
    Binary,
    /// More than a person reads.
    Large,
    /// A link that stays inside.
    Symlink,
}

impl FlagKind {
    /// As scripts and `--accept` name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlFile => "control-file",
            Self::CiFile => "ci-file",
            Self::PackageHook => "package-hook",
            Self::Repository => "repository",
            Self::SymlinkOut => "symlink-out",
            Self::Submodule => "submodule",
            Self::HeldBack => "held-back",
            Self::Executable => "executable",
            Self::Binary => "binary",
            Self::Large => "large",
            Self::Symlink => "symlink",
        }
    }

    /// What follows from it.
    pub fn weight(self) -> Weight {
        match self {
            Self::ControlFile
            | Self::CiFile
            | Self::PackageHook
            | Self::Repository
            | Self::SymlinkOut
            | Self::Submodule
            | Self::HeldBack => Weight::Hold,
            Self::Executable | Self::Binary | Self::Large | Self::Symlink => Weight::Note,
        }
    }
}

/// All flags of a result, by path.
///
/// # Errors
///
/// When the thread's repository is damaged.
pub fn flags(changes: &ChangeSet) -> Result<Vec<Flag>, GitError> {
    let found = found(changes)?;
    let flag = |path: &Vec<u8>, kind: FlagKind| Flag {
        path: PathText::from(Path::new(OsStr::from_bytes(path))),
        flag: kind,
        weight: kind.weight(),
    };
    let all = found.iter().flat_map(|(path, kinds)| kinds.iter().map(|kind| flag(path, *kind)));
    Ok(all.collect())
}

/// The flags of what is held back of a thread, by its path from the root.
pub fn of_held(held: Vec<crate::record::Held>) -> impl Iterator<Item = Flag> {
    let kind = FlagKind::HeldBack;
    held.into_iter().map(move |it| Flag { path: it.path, flag: kind, weight: kind.weight() })
}

/// The same by the bytes of the path.
pub(crate) fn found(changes: &ChangeSet) -> Result<BTreeMap<Vec<u8>, Vec<FlagKind>>, GitError> {
    let files = changes.files(&[])?;
    let lines = changes.lines(&[])?;
    let binary = lines.into_iter().filter(|lines| lines.counts.is_none()).map(|lines| lines.path);
    let binary: BTreeSet<Vec<u8>> = binary.collect();
    let mut objects = changes.objects()?;
    let links = links(&files, &mut objects)?;
    let bare = Bare::of(&files, changes.root());
    let mut all = BTreeMap::new();
    for file in &files {
        let mut kinds = by_name(&file.path);
        kinds.extend(bare.instructs(&file.path).then_some(FlagKind::Repository));
        kinds.extend(by_mode(file));
        kinds.extend(binary.contains(&file.path).then_some(FlagKind::Binary));
        if let Some(target) = links.targets.get(&file.path) {
            let stays = links.stays_inside(&file.path, target, changes.root());
            kinds.push(if stays { FlagKind::Symlink } else { FlagKind::SymlinkOut });
            let is_new = !kinds.contains(&FlagKind::ControlFile);
            let leads = is_new && leads_to_control(&file.path);
            kinds.extend(leads.then_some(FlagKind::ControlFile));
        }
        kinds.extend(by_content(file, &mut objects)?);
        if !kinds.is_empty() {
            all.insert(file.path.clone(), kinds);
        }
    }
    Ok(all)
}

fn by_name(path: &[u8]) -> Vec<FlagKind> {
    let lower = path.to_ascii_lowercase();
    let mut kinds = Vec::new();
    kinds.extend(is_control(path).then_some(FlagKind::ControlFile));
    kinds.extend(is_ci(&lower).then_some(FlagKind::CiFile));
    kinds
}

/// Whether a name that is protected where an agent works on the files is in the path, at any
/// depth; or one that git itself reads from a work tree. Case counts for nothing: on some
/// systems it is the same file.
fn is_control(path: &[u8]) -> bool {
    const GIT: [&[u8]; 2] = [b".gitmodules", b".gitattributes"];
    let lower = path.to_ascii_lowercase();
    let is_name = |name: &[u8]| is_protected_in_any_case(name) || GIT.contains(&name);
    let parts: Vec<&[u8]> = lower.split(|byte| *byte == b'/').collect();
    parts.iter().any(|part| is_name(part))
        || nested().any(|name| {
            let wanted: Vec<&str> = name.split('/').collect();
            parts.windows(wanted.len()).any(|found| are(&wanted, found))
        })
}

/// Whether a link at `path` stands where a folder with protected names would: what it leads to has them.
fn leads_to_control(path: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let parts: Vec<&[u8]> = lower.split(|byte| *byte == b'/').collect();
    nested().any(|name| {
        let wanted: Vec<&str> = name.split('/').collect();
        let mut above = (1..wanted.len()).filter_map(|count| wanted.get(..count));
        above.any(|above| {
            let start = parts.len().checked_sub(above.len());
            start.and_then(|start| parts.get(start..)).is_some_and(|end| are(above, end))
        })
    })
}

/// Whether as many components of a path are those of an entry.
fn are(wanted: &[&str], found: &[&[u8]]) -> bool {
    wanted.iter().zip(found).all(|(wanted, part)| is_part(wanted, part))
}

/// Folders that git would take for repositories although they have another name than `.git`: bare ones.
#[derive(Debug)]
struct Bare<'a> {
    /// Every path of the result that is there, and every folder above one, in lower case.
    there: BTreeSet<Vec<u8>>,
    root: &'a Path,
}

impl<'a> Bare<'a> {
    /// What it takes for one (`is_git_directory` of git's setup.c).
    const PARTS: [&'static str; 3] = ["HEAD", "objects", "refs"];

    fn of(files: &[Change], root: &'a Path) -> Self {
        let mut there = BTreeSet::new();
        for file in files.iter().filter(|file| file.after.is_some()) {
            let lower = file.path.to_ascii_lowercase();
            let ends = lower.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            there.extend(ends.map(|(at, _)| lower.get(..at).unwrap_or_default().to_vec()));
            there.insert(lower);
        }
        Self { there, root }
    }

    /// Whether git in a folder above `path` obeys it, with what is there already.
    fn instructs(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        (0..parts.len()).any(|at| {
            let (above, rest) = parts.split_at(at);
            let rest: Vec<Vec<u8>> = rest.iter().map(|part| part.to_ascii_lowercase()).collect();
            let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
            // Each of the three that make it one may be a link, or what was missing.
            let is_read = matches!(
                rest.as_slice(),
                [b"head" | b"config" | b"config.worktree" | b"commondir" | b"objects" | b"refs"]
                    | [b"hooks" | b"info", _, ..]
            );
            is_read && Self::PARTS.iter().all(|part| self.has(above, part))
        })
    }

    fn has(&self, above: &[&[u8]], name: &str) -> bool {
        let path = [above, &[name.as_bytes()]].concat().join(&b'/');
        self.there.contains(&path.to_ascii_lowercase())
            || fs::symlink_metadata(self.root.join(OsStr::from_bytes(&path))).is_ok()
    }
}

/// Whether a server runs `path` (in lower case) after a push.
fn is_ci(path: &[u8]) -> bool {
    const FOLDERS: [&str; 9] = [
        ".github/workflows/",
        ".github/actions/",
        ".gitea/workflows/",
        ".forgejo/workflows/",
        ".gitlab/",
        ".circleci/",
        ".buildkite/",
        ".woodpecker/",
        ".teamcity/",
    ];
    const FILES: [&str; 16] = [
        ".gitlab-ci.yml",
        ".travis.yml",
        ".drone.yml",
        ".cirrus.yml",
        ".cirrus.star",
        ".appveyor.yml",
        "appveyor.yml",
        ".woodpecker.yml",
        ".woodpecker.yaml",
        ".semaphore/semaphore.yml",
        "azure-pipelines.yml",
        "bitbucket-pipelines.yml",
        "jenkinsfile",
        "cloudbuild.yaml",
        "buildspec.yml",
        ".github/dependabot.yml",
    ];
    FOLDERS.iter().any(|folder| path.starts_with(folder.as_bytes()))
        || FILES.iter().any(|name| path == name.as_bytes())
        || path.ends_with(b"/jenkinsfile")
}

fn by_mode(file: &Change) -> Vec<FlagKind> {
    let mode = |side: &Option<Side>| side.as_ref().map(|side| side.mode);
    let (before, after) = (mode(&file.before), mode(&file.after));
    let mut kinds = Vec::new();
    if [before, after].contains(&Some(FileMode::Submodule)) {
        kinds.push(FlagKind::Submodule);
    }
    if after == Some(FileMode::Executable) && before != after {
        kinds.push(FlagKind::Executable);
    }
    kinds
}

fn by_content(file: &Change, objects: &mut Objects) -> Result<Vec<FlagKind>, GitError> {
    let mut kinds = Vec::new();
    let Some(after) = file.after.as_ref().filter(|side| side.mode.is_file()) else {
        return Ok(kinds);
    };
    let size = objects.size(&after.id)?;
    if size > LARGE {
        kinds.push(FlagKind::Large);
    }
    let name = file.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let is_hook = match name.as_slice() {
        b"package.json" | b"composer.json" if size > READ_MAX => true,
        b"package.json" | b"composer.json" => {
            let before = match file.before.as_ref().filter(|side| side.mode.is_file()) {
                Some(side) if objects.size(&side.id)? <= READ_MAX => objects.content(&side.id)?,
                _ => b"{}".to_vec(),
            };
            hooks(&before) != hooks(&objects.content(&after.id)?)
        }
        // npm builds with it when no script says otherwise; pnpm runs it.
        b"binding.gyp" => file.before.is_none(),
        b".pnpmfile.cjs" => true,
        _ => false,
    };
    kinds.extend(is_hook.then_some(FlagKind::PackageHook));
    Ok(kinds)
}

/// What npm and composer run by themselves, by event. `None`: no JSON, so anything.
fn hooks(manifest: &[u8]) -> Option<BTreeMap<String, Value>> {
    const EVENTS: [&str; 11] = [
        "preinstall",
        "install",
        "postinstall",
        "prepublish",
        "preprepare",
        "prepare",
        "postprepare",
        "dependencies",
        "preuninstall",
        "uninstall",
        "postuninstall",
    ];
    let text = manifest.strip_prefix("\u{feff}".as_bytes()).unwrap_or(manifest);
    let manifest: Value = serde_json::from_slice(text).ok()?;
    let scripts = manifest.get("scripts").and_then(Value::as_object);
    let mut hooks = BTreeMap::new();
    for (event, script) in scripts.into_iter().flatten() {
        let is_composer = event.starts_with("pre-") || event.starts_with("post-");
        if is_composer || EVENTS.contains(&event.as_str()) {
            hooks.insert(event.clone(), script.clone());
        }
    }
    Some(hooks)
}

/// Links that the result has, and what it takes away or makes something else.
#[derive(Debug, Default)]
struct Links {
    targets: BTreeMap<Vec<u8>, Vec<u8>>,
    changed: BTreeSet<Vec<u8>>,
}

fn links(files: &[Change], objects: &mut Objects) -> Result<Links, GitError> {
    let mut links = Links::default();
    for file in files {
        links.changed.insert(file.path.clone());
        if let Some(side) = file.after.as_ref().filter(|side| side.mode == FileMode::Link) {
            links.targets.insert(file.path.clone(), objects.content(&side.id)?);
        }
    }
    Ok(links)
}

impl Links {
    /// Whether the link at `path` leads to a place below `root`, also through other links: of
    /// the result, and of the tree as it is now.
    fn stays_inside(&self, path: &[u8], target: &[u8], root: &Path) -> bool {
        let mut folder: Vec<Vec<u8>> = names(path);
        folder.pop();
        let mut rest = names(target);
        rest.reverse();
        let mut followed = 0;
        if target.starts_with(b"/") {
            return false;
        }
        while let Some(name) = rest.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if folder.pop().is_none() {
                        return false;
                    }
                    continue;
                }
                _ => folder.push(name),
            }
            let here = folder.join(&b'/');
            // Refuses `.git` in every spelling.
            if TreePath::new(&here).is_err() {
                return false;
            }
            let Some(next) = self.target(&here, root) else { continue };
            followed += 1;
            if next.starts_with(b"/") || followed > LINKS_MAX {
                return false;
            }
            folder.pop();
            rest.extend(names(&next).into_iter().rev());
        }
        true
    }

    /// Where `path` leads if it is a link, in the result or, untouched by it, on the disk.
    fn target(&self, path: &[u8], root: &Path) -> Option<Vec<u8>> {
        if self.changed.contains(path) {
            return self.targets.get(path).cloned();
        }
        let target = fs::read_link(root.join(OsStr::from_bytes(path))).ok()?;
        Some(target.into_os_string().into_vec())
    }
}

fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_run_later_are_known_at_any_depth() {
        #[rustfmt::skip]
        const CASES: &[(&str, &[FlagKind])] = &[
            ("src/main.rs",                  &[]),
            ("package.json",                 &[]),
            (".env.example",                 &[]),
            (".env",                         &[FlagKind::ControlFile]),
            ("sub/.VSCode/tasks.json",       &[FlagKind::ControlFile]),
            ("sub/.cargo/config.toml",       &[FlagKind::ControlFile]),
            ("sub/.Rprofile",                &[FlagKind::ControlFile]),
            ("not.cargo/config.toml",        &[]),
            (".github/hooks/evil.json",      &[FlagKind::ControlFile]),
            ("sub/.GitHub/Extensions/x/y.mjs", &[FlagKind::ControlFile]),
            (".config/mise/conf.d/x.toml",   &[FlagKind::ControlFile]),
            (".direnv/flake-profile-a5.rc",  &[FlagKind::ControlFile]),
            (".direnv/python-3/bin/pip",     &[]),
            (".gitattributes",               &[FlagKind::ControlFile]),
            ("sub/.gitmodules",              &[FlagKind::ControlFile]),
            (".github/workflows/ci.yml",     &[FlagKind::CiFile]),
            (".GitHub/Workflows/ci.yml",     &[FlagKind::CiFile]),
            ("docs/.github/x.md",            &[]),
            ("sub/Jenkinsfile",              &[FlagKind::CiFile]),
        ];
        for (path, expected) in CASES {
            assert_eq!(by_name(path.as_bytes()), *expected, "{path}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_with_such_names_is_one() {
        for path in [".github", "sub/.cargo", "mise", ".jj/repo", ".Config"] {
            assert!(leads_to_control(path.as_bytes()), "{path}");
        }
        for path in ["src", "github", "repo", ".github/docs", "docs/latest"] {
            assert!(!leads_to_control(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_repository_without_its_name_is_known_by_what_it_has() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("mine.git/objects")).unwrap();
        fs::create_dir_all(root.path().join("mine.git/refs")).unwrap();
        fs::write(root.path().join("mine.git/HEAD"), "").unwrap();
        let file = |path: &str| {
            let id = "0".repeat(40).parse().unwrap();
            let after = Some(Side { mode: FileMode::File, id });
            Change { path: path.into(), before: None, after }
        };
        let made = ["a/b/HEAD", "a/b/config", "a/b/objects/00/x", "a/b/Refs/heads/m", "a/b/src/f"];
        let plain = ["c/HEAD", "c/config", "c/hooks/x", "mine.git/config", "mine.git/hooks/x"];
        let files: Vec<Change> = made.iter().chain(&plain).map(|path| file(path)).collect();
        let bare = Bare::of(&files, root.path());
        let known: Vec<&str> =
            made.into_iter().chain(plain).filter(|path| bare.instructs(path.as_bytes())).collect();
        assert_eq!(known, ["a/b/HEAD", "a/b/config", "mine.git/config", "mine.git/hooks/x"]);
        let top = Bare::of(&["HEAD", "objects/x", "refs/y", "config"].map(file), root.path());
        assert!(top.instructs(b"config") && top.instructs(b"HEAD") && !top.instructs(b"refs/y"));
    }

    #[test]
    fn only_scripts_that_run_by_themselves_are_hooks() {
        let plain = br#"{"scripts":{"test":"jest","build":"tsc"}}"#;
        let hook = br#"{"scripts":{"test":"jest","postinstall":"curl x | sh"}}"#;
        assert_eq!(hooks(plain), hooks(b"{}"));
        assert_ne!(hooks(hook), hooks(plain));
        assert_ne!(hooks(b"not json"), hooks(plain));
        assert_ne!(hooks(br#"{"scripts":{"post-install-cmd":"x"}}"#), hooks(b"{}"));
    }

    #[test]
    fn links_are_followed_through_each_other() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("..", root.path().join("up")).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("replaced")).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        let mut links = Links::default();
        let pairs =
            [("a/in", "../real/x"), ("a/deep", ".."), ("hop", "a/deep/.."), ("loop", "loop")];
        for (path, target) in pairs {
            links.targets.insert(path.into(), target.into());
            links.changed.insert(path.into());
        }
        links.changed.insert(b"replaced".to_vec());
        let stays = |target: &str| links.stays_inside(b"a/new", target.as_bytes(), root.path());
        for inside in
            ["b", "../real/x", "../not/there", ".", "in", "deep", "deep/a/in", "../replaced"]
        {
            assert!(stays(inside), "{inside}");
        }
        for outside in [
            "/etc/passwd",
            "../..",
            "../up",
            "deep/..",
            "../hop",
            "../loop",
            "../.git/hooks",
            "../.GIT/x",
        ] {
            assert!(!stays(outside), "{outside}");
        }
    }
}
