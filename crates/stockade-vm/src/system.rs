//! The image of the system: built once for what the host has now, used by every machine.

use std::io;
use std::path::PathBuf;

use crate::cache::Cache;
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
    #[error("`{}` has {free} bytes to spare, and the image of the system needs {bytes}", folder.display())]
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
            Self::Read { .. } | Self::Write(_) => None,
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
}

impl Owner {
    /// The same as on the host, so that files are theirs on both sides; for root an ordinary one.
    pub(crate) fn of_this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if uid.is_root() {
            return Self { uid: 1000, gid: 1000, is_given: true };
        }
        Self { uid: uid.as_raw(), gid: gid.as_raw(), is_given: false }
    }
}

/// How often a build is tried again because something was installed meanwhile.
const TRIES: u32 = 3;

/// The image for the host as it is now. `say` is told when one has to be built.
pub(crate) fn image(
    cache: &Cache,
    toolchains: &[PathBuf],
    owner: Owner,
    say: &mut dyn FnMut(String),
) -> Result<PathBuf, ImageError> {
    let view = View::new(toolchains, owner.uid, owner.gid)?;
    for _ in 0..TRIES {
        let key = view.key()?;
        let built = cache.file(("system", "erofs"), (&key, KEPT), |file| {
            let planted = view.tree()?;
            build(cache, planted, file, say)?;
            // A file that was replaced between the plan and its copy would be torn.
            if view.key()? == key { Ok(()) } else { Err(ImageError::Unsteady) }
        });
        match built {
            Err(ImageError::Unsteady) => {}
            // What was planned has gone: something is being installed.
            Err(ImageError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(ImageError::Unsteady)
}

fn build(
    cache: &Cache,
    planted: Planted,
    file: &mut std::fs::File,
    say: &mut dyn FnMut(String),
) -> Result<(), ImageError> {
    let unreadable = planted.unreadable;
    let layout = planted.tree.laid_out();
    let (bytes, free) = (layout.bytes(), cache.space()?);
    if bytes > free {
        return Err(ImageError::NoSpace { folder: cache.folder().to_owned(), bytes, free });
    }
    say(format!("building the image of this system, once: {} MiB", bytes >> 20));
    if unreadable > 0 {
        say(format!("{unreadable} files of the system are not readable for you, and left out"));
    }
    layout.write(file).map_err(|(path, source)| match path {
        Some(path) => ImageError::Read { path, source },
        None => ImageError::Write(source),
    })
}
