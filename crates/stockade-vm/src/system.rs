//! The image of the system: built once for what the host has now, used by every machine.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::cache::Cache;
use crate::erofs::{Layout, WriteError};
use crate::kernel::Kernel;
use crate::seen;
use crate::view::{NoToolchain, Planted, View};

/// Images that are kept: of the present system, and of what it was a moment ago or is for other
/// toolchains.
const KEPT: usize = 2;

/// The image could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A folder may not be shown as a toolchain.
    #[error("`{}` is not a folder of a toolchain", .0.display())]
    NoToolchain(PathBuf),
    /// The host has no room for it.
    #[error("`{}` has {} MiB to spare, and the image of the system needs {}", folder.display(), free >> 20, bytes >> 20)]
    NoSpace {
        /// Where it was to be.
        folder: PathBuf,
        /// What it needs.
        bytes: u64,
        /// What may be used there.
        free: u64,
    },
    /// Packages were changed while the image was built, several times over.
    #[error("the system changes while its image is built")]
    Unsteady,
    /// It was not to be made any more.
    #[error("interrupted")]
    Stopped,
    /// A file of the host could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image could not be written.
    #[error("cannot write the image of the system")]
    Write(#[from] io::Error),
}

impl ImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoToolchain(_) => {
                Some("folders outside homes and of the system, such as `/opt/node`".to_owned())
            }
            Self::NoSpace { folder, .. } => {
                Some(format!("free some space on the disk of `{}`", folder.display()))
            }
            Self::Unsteady => Some("wait until packages have been installed".to_owned()),
            Self::Stopped | Self::Read { .. } | Self::Write(_) => None,
        }
    }
}

impl From<NoToolchain> for ImageError {
    fn from(NoToolchain(path): NoToolchain) -> Self {
        Self::NoToolchain(path)
    }
}

/// The user that commands in a guest run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether files have to be given to it, this process being root.
    pub(crate) is_given: bool,
    /// Whether the guest has to do that: this root is one of a user namespace that has no such id.
    pub(crate) is_given_inside: bool,
}

impl Owner {
    /// The same as on the host, so that files are theirs on both sides; for root an ordinary one.
    pub(crate) fn of_this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if uid.is_root() {
            let has = |file: &str| {
                fs::read_to_string(file).is_ok_and(|map: String| has_id(&map, ORDINARY))
            };
            let is_given = has("/proc/self/uid_map") && has("/proc/self/gid_map");
            let is_given_inside = !is_given;
            return Self { uid: ORDINARY, gid: ORDINARY, is_given, is_given_inside };
        }
        let (uid, gid) = (uid.as_raw(), gid.as_raw());
        Self { uid, gid, is_given: false, is_given_inside: false }
    }
}

/// Whom files of root belong to in a machine.
const ORDINARY: u32 = 1000;

/// Whether `map`, as a user namespace tells it in `/proc`, has `id`.
fn has_id(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), _, Some(Ok(count))) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        id.checked_sub(first).is_some_and(|at| at < count)
    })
}

/// Its file in the cache.
const NAME: (&str, &str) = ("system", "erofs");

/// How often a build is tried again because something was installed meanwhile.
const TRIES: u32 = 3;

/// The image for the host as it is now. `say` is told when one has to be built, and how far it is;
/// `stop` is asked often.
pub(crate) fn image(
    cache: &Cache,
    (toolchains, kernel): (&[PathBuf], &Kernel),
    owner: Owner,
    (stop, say): (&dyn Fn() -> bool, &mut dyn FnMut(String)),
) -> Result<PathBuf, ImageError> {
    let view = View::new(toolchains, Some(kernel), (owner.uid, owner.gid))?;
    for _ in 0..TRIES {
        let key = seen::key(cache, &view)?;
        let built = cache.file_unless(NAME, (&key, KEPT), stop, |file| {
            let planted = view.tree()?;
            let layout = planned(cache, planted, say)?;
            write(&layout, file, stop, say)?;
            // A file that was replaced between the plan and its copy would be torn.
            if view.key(&mut |_, _| ())? == key { Ok(()) } else { Err(ImageError::Unsteady) }
        });
        match built {
            Err(ImageError::Unsteady) => {}
            // What was planned has gone: something is being installed.
            Err(ImageError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result?.ok_or(ImageError::Stopped),
        }
    }
    Err(ImageError::Unsteady)
}

/// What the image that a machine of now would have is going to take, in bytes; `None` when it is
/// there.
pub(crate) fn wanted(
    cache: &Cache,
    kernel: Option<&Kernel>,
    owner: Owner,
) -> Result<Option<u64>, ImageError> {
    let view = View::new(&[], kernel, (owner.uid, owner.gid))?;
    if cache.find(NAME, &seen::key(cache, &view)?).is_some() {
        return Ok(None);
    }
    fits(cache, view.tree()?.tree.laid_out().bytes()).map(Some)
}

/// `bytes`, when there is room for them.
pub(crate) fn fits(cache: &Cache, bytes: u64) -> Result<u64, ImageError> {
    let free = cache.space()?;
    if bytes > free {
        return Err(ImageError::NoSpace { folder: cache.folder().to_owned(), bytes, free });
    }
    Ok(bytes)
}

fn planned(
    cache: &Cache,
    planted: Planted,
    say: &mut dyn FnMut(String),
) -> Result<Layout, ImageError> {
    let unreadable = planted.unreadable;
    let layout = planted.tree.laid_out();
    let bytes = fits(cache, layout.bytes())?;
    say(format!("building the image of this system, once: {} MiB", bytes >> 20));
    if unreadable > 0 {
        say(format!("{unreadable} files of the system are not readable for you, and left out"));
    }
    Ok(layout)
}

/// Parts of an image after each of which is said that it is there.
const PARTS: u64 = 4;

pub(crate) fn write(
    layout: &Layout,
    file: &mut std::fs::File,
    stop: &dyn Fn() -> bool,
    say: &mut dyn FnMut(String),
) -> Result<(), ImageError> {
    let (bytes, mut told) = (layout.bytes().max(1), 0);
    let mut goes_on = |at: u64| {
        let part = at.saturating_mul(PARTS) / bytes;
        if part > told {
            told = part;
            say(format!("the image of this system: {} %", part * 100 / PARTS));
        }
        !stop()
    };
    layout.write(file, &mut goes_on).map_err(|error| match error {
        WriteError::Stopped => ImageError::Stopped,
        WriteError::Read(path, source) => ImageError::Read { path, source },
        WriteError::Write(error) => ImageError::Write(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::{Attributes, Content, Node, Tree};

    #[test]
    fn a_user_namespace_has_the_ids_of_its_map() {
        let whole = "         0          0 4294967295\n";
        assert!(has_id(whole, 0) && has_id(whole, 1000));
        let one = "         0       1000          1\n";
        assert!(has_id(one, 0) && !has_id(one, 1000));
        let two = "0 1000 1\n500 100000 65536\n";
        assert!(has_id(two, 1000) && !has_id(two, 499) && !has_id("", 0));
    }

    #[test]
    fn an_image_is_written_with_its_progress_and_stops_when_it_is_to() {
        let mut tree = Tree::new();
        let plain = Attributes { mode: 0o644, mtime: (0, 0) };
        for name in 0..100_u8 {
            tree.file(Node::ROOT, &[name + 32], plain, Content::Bytes(vec![1; 4096]));
        }
        let layout = tree.laid_out();
        let written = |stop: &dyn Fn() -> bool| {
            let mut said = Vec::new();
            let mut file = tempfile::tempfile().unwrap();
            (write(&layout, &mut file, stop, &mut |text| said.push(text)), said)
        };
        let (whole, said) = written(&|| false);
        whole.unwrap();
        let parts = ["25 %", "50 %", "75 %"];
        assert_eq!(said.len(), parts.len(), "{said:?}");
        assert!(said.iter().zip(parts).all(|(said, part)| said.ends_with(part)), "{said:?}");
        let asked = std::cell::Cell::new(0);
        let (stopped, said) = written(&|| asked.replace(asked.get() + 1) >= 40);
        assert!(matches!(stopped, Err(ImageError::Stopped)) && asked.get() == 41);
        assert_eq!(said.len(), 1, "{said:?}");
    }
}
