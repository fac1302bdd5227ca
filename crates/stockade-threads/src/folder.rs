//! Folders, as several of the stores here make and read them.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, IFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Makes `path`, and what is missing above it, for the user alone; there it may be already.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The same for a folder whose folders have little to do with each other. ext4 then spreads them over
/// the disk (`chattr +T`) instead of putting them where the rest of the user's home is: the search for
/// a free inode there is long after much was removed, without a journal 10 ms for what one overlay makes.
pub(crate) fn make_top(path: &Path) -> io::Result<()> {
    make_private(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A file system without such a wish has no need of it.
    if let Ok(folder) = rustix::fs::openat(CWD, path, flags, Mode::empty())
        && let Ok(flags) = rustix::fs::ioctl_getflags(&folder)
        && !flags.contains(IFlags::TOPDIR)
    {
        rustix::fs::ioctl_setflags(&folder, flags | IFlags::TOPDIR).ok();
    }
    Ok(())
}

/// As many are kept of what each run needs one of.
const SPARES: u32 = 4;

/// What runs have used and left as it was is given a name here and taken by a later run: to make and
/// to remove it each time is dearer than most of what a start does.
fn spare(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("spare-{number}"))
}

/// The spares in `folder` that there are, for a caller that takes one by renaming it. Another may be
/// faster.
pub(crate) fn spares(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..SPARES).map(move |number| spare(folder, number))
}

/// Makes `path` a spare of `folder`, which it is in; `false` when there are enough.
pub(crate) fn put_by(folder: &Path, path: &Path) -> bool {
    let given = |number| {
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(CWD, path, CWD, spare(folder, number), flags)
    };
    (0..SPARES).map(given).find(|given| *given != Err(Errno::EXIST)).is_some_and(|it| it.is_ok())
}

/// `path` without links. Most have none, which one call finds out; realpath(3) makes one for each
/// component.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let is_plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = || rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    if is_plain && found().is_ok() {
        return Ok(path.components().collect());
    }
    path.canonicalize()
}

/// The names in a folder that is open for reading.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_top_folder_has_the_wish_that_its_file_system_knows() {
        let lab = tempfile::tempdir().unwrap();
        let flags = |path: &Path| {
            let folder = fs::File::open(path).unwrap();
            rustix::fs::ioctl_getflags(&folder).ok()
        };
        let (top, control) = (lab.path().join("a/top"), lab.path().join("control"));
        make_top(&top).unwrap();
        make_private(&control).unwrap();
        let opened = fs::File::open(&control).unwrap();
        let known = rustix::fs::ioctl_getflags(&opened)
            .and_then(|flags| rustix::fs::ioctl_setflags(&opened, flags | IFlags::TOPDIR));
        assert_eq!(known.is_ok(), flags(&top).is_some_and(|it| it.contains(IFlags::TOPDIR)));
        assert_eq!(flags(&top), flags(&control));
        make_top(&top).unwrap();
    }

    #[test]
    fn as_many_spares_are_kept_as_there_are_names_and_each_is_taken_once() {
        let lab = tempfile::tempdir().unwrap();
        let count = usize::try_from(SPARES).unwrap();
        for number in 0..=count {
            let path = lab.path().join(format!("used-{number}"));
            fs::write(&path, number.to_string()).unwrap();
            assert_eq!(put_by(lab.path(), &path), number < count);
            assert_eq!(path.exists(), number == count, "what is not taken stays");
        }
        let taken: Vec<_> = spares(lab.path()).filter_map(|it| fs::read(it).ok()).collect();
        assert_eq!(taken, [b"0", b"1", b"2", b"3"]);
        assert!(!put_by(lab.path(), &lab.path().join("gone")));
    }
}
