//! From a plan that takes everything back to the files of both sides.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use stockade_sandbox::keep::id_of;

use super::ByPath;
use crate::git::{FILE_MAX, copy_ignores};
use crate::patch::FileMode;
use crate::record::{ModeChange, PathText, Permissions};
use crate::stage::Content;
use crate::undo::{Hands, Journals, KeptFile, Plan, Want, plan_of};

/// Entries that are looked at below what a thread made or moved.
const ENTRIES_MAX: usize = 500_000;

/// Files as they were.
pub(super) type Files = ByPath<File>;

/// A file or link as it was.
#[derive(Debug, Clone)]
pub(super) enum File {
    /// In the store.
    Kept(Box<KeptFile>),
    /// Here now, by another name or with another mode.
    Here { path: PathBuf, mode: Option<u32> },
}

/// What was taken of one side.
#[derive(Debug)]
pub(super) enum Taken {
    Nothing,
    Content(FileMode, Content),
    /// For this reason it was not.
    Not(String),
}

/// Both sides, by absolute path.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) before: Files,
    pub(super) after: BTreeSet<PathBuf>,
    pub(super) modes: Vec<ModeChange>,
}

fn kind(mode: u32) -> FileType {
    FileType::from_raw_mode(mode)
}

fn mode_of(mode: u32) -> Option<FileMode> {
    match kind(mode) {
        FileType::RegularFile if mode & 0o100 != 0 => Some(FileMode::Executable),
        FileType::RegularFile => Some(FileMode::File),
        FileType::Symlink => Some(FileMode::Link),
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => None,
    }
}

impl Sides {
    pub(super) fn of(journals: &Journals, hands: &Hands) -> Self {
        let plan = plan_of(&journals.ops(0));
        let mut gathered = Gathered { hands, plan: &plan, sides: Self::default(), entries: 0 };
        gathered.gather();
        gathered.sides
    }
}

struct Gathered<'a> {
    hands: &'a Hands,
    plan: &'a Plan,
    sides: Sides,
    entries: usize,
}

impl Gathered<'_> {
    fn gather(&mut self) {
        let plan = self.plan;
        let mut gone = Vec::new();
        // A folder comes before what is in it.
        for it in &plan.wanted {
            let present = self.hands.look(&it.path);
            match &it.want {
                Want::Absent => {
                    self.forget(&it.path);
                    self.made(&it.path, present.as_ref());
                }
                Want::Moved(from) => self.moved(&it.path, from),
                Want::Kept(id) | Want::Anew(id) => {
                    // A folder that has the name may not have gone after all.
                    let is_here = present.as_ref().is_some_and(|stat| id_of(stat) == *id);
                    if let Some(file) = plan.files.get(id) {
                        gone.extend(
                            self.kept(&it.path, file, is_here).map(|mode| (it, mode, present)),
                        );
                    }
                }
                Want::InPlace(id) => {
                    if let Some(file) = plan.files.get(id) {
                        self.in_place((&it.path, &it.now), file);
                    }
                }
            }
        }
        for (it, mode, present) in gone {
            self.gone(&it.path, mode, present.as_ref());
        }
    }

    /// What is at `from` now was at `path`.
    fn moved(&mut self, path: &Path, from: &Path) {
        self.forget(path);
        for file in self.below(from) {
            let inner = file.strip_prefix(from).unwrap_or(Path::new(""));
            // Joined to nothing it would be a folder.
            let was = if inner == Path::new("") { path.to_owned() } else { path.join(inner) };
            self.sides.before.insert(was, File::Here { path: file, mode: None });
        }
        self.made(path, None);
    }

    /// A kept file was at `path`; the mode of one that is a folder, and has gone.
    fn kept(&mut self, path: &Path, file: &KeptFile, is_here: bool) -> Option<u32> {
        let mode = file.facts.mode;
        let is_folder = kind(mode) == FileType::Directory;
        if is_folder && is_here {
            return None;
        }
        if !is_folder {
            self.sides.before.insert(path.to_owned(), File::Kept(Box::new(file.clone())));
        }
        self.made(path, None);
        is_folder.then_some(mode)
    }

    /// Nothing that was told of `path` holds: it was not there.
    fn forget(&mut self, path: &Path) {
        let files: Vec<PathBuf> = self.told(path).cloned().collect();
        for file in files {
            self.sides.before.remove(&file);
        }
    }

    /// The files at or below `path`, as they were: in order of their parts, so beside each other.
    fn told<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        let files = self.sides.before.range(path.to_owned()..).map(|(file, _)| file);
        files.take_while(move |file| file.starts_with(path))
    }

    /// What is at `path` is the thread's.
    fn made(&mut self, path: &Path, born: Option<&Stat>) {
        let files = self.below(path);
        if let Some(stat) = born.filter(|stat| kind(stat.st_mode) == FileType::Directory)
            && self.hands.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY).is_ok()
            && files.is_empty()
        {
            let after = Some(Permissions::of(stat.st_mode));
            self.moded(path, true, (None, after));
        }
        self.sides.after.extend(files);
    }

    /// A folder that was there is not, or is another one.
    fn gone(&mut self, path: &Path, mode: u32, present: Option<&Stat>) {
        let was_empty = self.told(path).next().is_none();
        let before = Permissions::of(mode);
        match present.filter(|stat| kind(stat.st_mode) == FileType::Directory) {
            None if was_empty => self.moded(path, true, (Some(before), None)),
            Some(stat) if Permissions::of(stat.st_mode) != before => {
                self.moded(path, true, (Some(before), Some(Permissions::of(stat.st_mode))));
            }
            None | Some(_) => {}
        }
    }

    fn in_place(&mut self, (path, now): (&Path, &Path), file: &KeptFile) {
        let present = self.hands.look(now);
        let mode = file.facts.mode;
        let is_folder = kind(mode) == FileType::Directory;
        if let Some(stat) = &present {
            let (was, is) = (Permissions::of(mode), Permissions::of(stat.st_mode));
            // Git knows one bit of a file's.
            let is_known = !is_folder && (was.bits() ^ is.bits()) & 0o100 != 0;
            if was != is && !is_known && kind(stat.st_mode) == kind(mode) {
                self.moded(path, is_folder, (Some(was), Some(is)));
            }
        }
        if is_folder {
            return;
        }
        let kept = if file.copy.is_some() || file.not.is_some() {
            File::Kept(Box::new(file.clone()))
        } else {
            File::Here { path: now.to_owned(), mode: Some(mode) }
        };
        self.sides.before.insert(path.to_owned(), kept);
        self.made(path, None);
    }

    fn moded(
        &mut self,
        path: &Path,
        folder: bool,
        modes: (Option<Permissions>, Option<Permissions>),
    ) {
        let (before, after) = modes;
        self.sides.modes.push(ModeChange { path: PathText::from(path), folder, before, after });
    }

    /// The files at or below `path`, without what git keeps.
    fn below(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX || path.file_name().is_some_and(|name| name == ".git") {
                continue;
            }
            match self.hands.look(&path).map(|stat| kind(stat.st_mode)) {
                Some(FileType::Directory) => {
                    let folder = self.hands.open_file(&path, OFlags::RDONLY | OFlags::DIRECTORY);
                    let names = folder.and_then(crate::folder::names).unwrap_or_default();
                    pending.extend(names.iter().map(|name| path.join(name)));
                }
                Some(_) => files.push(path),
                None => {}
            }
        }
        files
    }
}

impl File {
    pub(super) fn take(self, journals: &Journals, hands: &Hands) -> io::Result<Taken> {
        let file = match self {
            Self::Here { path, mode } => {
                let taken = take(hands, &path)?;
                return Ok(match (taken, mode.and_then(mode_of)) {
                    (Taken::Content(_, content), Some(mode)) => Taken::Content(mode, content),
                    (taken, _) => taken,
                });
            }
            Self::Kept(file) => file,
        };
        let Some(mode) = mode_of(file.facts.mode) else { return Ok(other()) };
        let Some(object) = file.copy.or(file.link) else {
            let why = file.not.unwrap_or_else(|| "its content is not there".to_owned());
            return Ok(Taken::Not(format!("not kept: {why}")));
        };
        let path = journals.object(object);
        if mode == FileMode::Link {
            let target = fs::read_link(&path)?.into_os_string().into_encoded_bytes();
            return Ok(Taken::Content(mode, Content::Link(target)));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(opened) if is_large(&rustix::fs::fstat(&opened)?) => Ok(large()),
            Ok(opened) => Ok(Taken::Content(mode, Content::File(opened))),
            // Its own mode may say so.
            Err(rustix::io::Errno::ACCESS) => Ok(closed()),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_large(stat: &Stat) -> bool {
    u64::try_from(stat.st_size).is_ok_and(|size| size > FILE_MAX)
}

fn other() -> Taken {
    Taken::Not("neither a file nor a link".to_owned())
}

fn large() -> Taken {
    Taken::Not("a large file".to_owned())
}

fn closed() -> Taken {
    Taken::Not("a file that cannot be read".to_owned())
}

/// What is at `path` now.
pub(super) fn take(hands: &Hands, path: &Path) -> io::Result<Taken> {
    let Some(stat) = hands.look(path) else { return Ok(Taken::Nothing) };
    if kind(stat.st_mode) == FileType::Directory {
        return Ok(Taken::Nothing);
    }
    let Some(mode) = mode_of(stat.st_mode) else { return Ok(other()) };
    if mode == FileMode::Link {
        let (folder, name) = hands.at(path)?;
        let target = rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes();
        return Ok(Taken::Content(mode, Content::Link(target)));
    }
    if is_large(&stat) {
        return Ok(large());
    }
    match hands.open_file(path, OFlags::RDONLY) {
        Ok(file) if kind(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile => {
            Ok(Taken::Content(mode, Content::File(file)))
        }
        Ok(_) => Ok(other()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(closed()),
        Err(error) => Err(error),
    }
}

/// Makes a tree of the `.gitignore` files above `paths`, which are below `top`. Git follows no link to
/// one either.
pub(super) fn ignores(top: &Path, paths: &BTreeSet<PathBuf>, tree: &Path) -> io::Result<()> {
    fs::create_dir_all(tree)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(top, flags, Mode::empty())?;
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(&top, path, flags, Mode::empty(), resolve);
        let file = fs::File::from(opened.ok()?);
        file.metadata().is_ok_and(|data| data.is_file()).then_some(file)
    };
    copy_ignores(paths.iter().map(PathBuf::as_path), open, tree)
}
