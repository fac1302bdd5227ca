//! A draft: what a thread writes lands beside the user's files, until it is applied.
//!
//! The sandbox lays an overlay over the workspace ([`layers`](Draft::layers)). What is written is
//! in its upper folder, in the thread's own folder, which is hidden inside. [`changes`] reads that
//! folder (`walk`) and makes of it the two trees that every thread's changes are (`keep`): so what
//! it costs is what was changed, and beginning costs nothing.
//!
//! ```text
//! ROOT/threads/ID/draft/draft.json      what is laid over what, and since when
//! ROOT/threads/ID/draft/0/{upper,work}  one for each folder
//! ```
//!
//! The base of a changed file is the user's own file, as long as that was not changed after the
//! draft began. From then on nobody knows what the agent saw, and there is no base.
//!
//! [`changes`]: Draft::changes

mod keep;
mod remove;
mod walk;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use stockade_policy::{AbsPath, Mode, Policy};
use stockade_sandbox::Layer;

use crate::git::{GitError, SnapshotError};
use crate::record::PathText;
pub(crate) use keep::Earlier;
pub use keep::Look;
pub(crate) use remove::remove_tree;

/// The folder of a draft in a thread's.
pub(crate) const DRAFT: &str = "draft";
/// What it is made of.
const SHAPE: &str = "draft.json";

/// A draft cannot be begun, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// There is nothing that a draft could hold back.
    #[error("a draft is for `workspace-write`; in `{0}` there is none")]
    Mode(Mode),
    /// A writable root has no place in a draft.
    #[error("not yet: a draft with the writable root `{}`, which is {why}", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// An overlay there would begin, and lose what it has to note of folders.
    #[error("a draft cannot be kept in `{}`: its file system has no user attributes", .0.display())]
    Attributes(PathBuf),
    /// A file of the draft's own could not be used.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// What was being done, as a verb.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// More changed than can be looked at.
    #[error("the draft has more than {0} entries")]
    TooMany(usize),
    /// Git could not compare.
    #[error("cannot compare the draft with the files")]
    Git(#[from] GitError),
    /// Nor tell what it ignores.
    #[error(transparent)]
    Ignored(#[from] SnapshotError),
}

impl DraftError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mode(_) => Some("leave `--draft` out, or use `--sandbox workspace-write`"),
            Self::Root { .. } => Some("leave `--draft` out, or this root"),
            Self::Attributes(_) => Some(
                "set `XDG_STATE_HOME` to a folder elsewhere, or leave `--draft` out: the command \
                 then writes to the files",
            ),
            Self::Git(error) => error.hint(),
            Self::Io { .. } | Self::TooMany(_) | Self::Ignored(_) => None,
        }
    }
}

/// The draft of one thread.
#[derive(Debug)]
pub struct Draft {
    thread: PathBuf,
    shape: Shape,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shape {
    /// That of the workspace first.
    layers: Vec<Laid>,
    /// The time of the files' own clock at which it began: seconds, nanoseconds.
    since: (i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Laid {
    #[serde(flatten)]
    at: PathText,
    /// Its folder in that of the draft.
    name: String,
}

impl Draft {
    /// Begins a draft of the workspace of `policy` in the folder `thread`. `direct` are writable
    /// all the same: the state of an agent program, which is no part of the work.
    ///
    /// # Errors
    ///
    /// [`DraftError`]: nothing is there then that was not before.
    pub fn begin(thread: &Path, policy: &Policy, direct: &[PathBuf]) -> Result<Self, DraftError> {
        if policy.mode != Mode::WorkspaceWrite {
            return Err(DraftError::Mode(policy.mode));
        }
        let folders = folders(policy, direct)?;
        // The sandbox follows no link.
        let thread = fs::canonicalize(thread).map_err(DraftError::io("open", thread))?;
        if let Some(path) = folders.iter().find(|folder| thread.starts_with(folder)) {
            let (path, why) = (path.clone(), "where the records of threads are kept");
            return Err(DraftError::Root { path, why });
        }
        let draft = thread.join(DRAFT);
        let made = make(&draft, &folders);
        if made.is_err() {
            // The error that is told is the one that made it useless.
            remove_tree(&draft).ok();
        }
        Ok(Self { thread, shape: made? })
    }

    /// The draft of the thread in `thread`, if it has one.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(thread: &Path) -> Result<Option<Self>, DraftError> {
        let path = thread.join(DRAFT).join(SHAPE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(DraftError::io("read", &path))?,
        };
        let shape = serde_json::from_slice(&text)
            .map_err(|error| DraftError::io("read", &path)(error.into()))?;
        Ok(Some(Self { thread: thread.to_owned(), shape }))
    }

    /// What the sandbox is to lay over the user's folders.
    ///
    /// # Panics
    ///
    /// Never: the paths were absolute when the draft began.
    pub fn layers(&self) -> Vec<Layer> {
        let absolute =
            |path| AbsPath::new(path).expect("invariant: a thread's folder has an absolute path");
        let layer = |laid: &Laid| {
            let folder = self.folder(laid);
            Layer {
                at: absolute(laid.at.to_path()),
                upper: absolute(folder.join("upper")),
                work: absolute(folder.join("work")),
            }
        };
        self.shape.layers.iter().map(layer).collect()
    }

    fn folder(&self, laid: &Laid) -> PathBuf {
        self.thread.join(DRAFT).join(&laid.name)
    }
}

/// The folders to lay something over: the workspace, or the repository that it lies in (git looks
/// for one on the same file system only); and what git keeps of it elsewhere.
fn folders(policy: &Policy, direct: &[PathBuf]) -> Result<Vec<PathBuf>, DraftError> {
    let workspace = policy.workspace.as_path();
    let roots = || policy.writable.iter().map(AbsPath::as_path);
    let repositories = roots().filter(|root| root.ends_with(".git")).filter_map(Path::parent);
    let above = repositories.filter(|top| workspace.starts_with(top));
    let top = above.min_by_key(|top| top.as_os_str().len()).unwrap_or(workspace);
    let mut folders = vec![top.to_owned()];
    for root in roots() {
        let is_covered = folders.iter().any(|folder| root.starts_with(folder));
        if is_covered || direct.iter().any(|state| root.starts_with(state)) {
            continue;
        }
        let refuse = |why| Err(DraftError::Root { path: root.to_owned(), why });
        let is_git = |name: &OsStr| name.as_encoded_bytes().ends_with(b".git");
        if !root.iter().any(is_git) {
            return refuse("outside the workspace");
        }
        if !root.is_dir() {
            return refuse("no folder");
        }
        folders.push(root.to_owned());
    }
    Ok(folders)
}

fn make(draft: &Path, folders: &[PathBuf]) -> Result<Shape, DraftError> {
    let folder = |path: &Path| {
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.map_err(DraftError::io("make", path))
    };
    folder(draft)?;
    let began = fs::metadata(draft).map_err(DraftError::io("look at", draft))?;
    let mut shape = Shape { layers: Vec::new(), since: (began.ctime(), began.ctime_nsec()) };
    for (number, at) in folders.iter().enumerate() {
        let name = number.to_string();
        let own = draft.join(&name);
        let upper = own.join("upper");
        for path in [&own, &upper, &own.join("work")] {
            folder(path)?;
        }
        let named = (&upper, "user.stockade.draft");
        rustix::fs::setxattr(named.0, named.1, b"1", XattrFlags::empty())
            .and_then(|()| rustix::fs::removexattr(named.0, named.1))
            .map_err(|error| match error {
                Errno::OPNOTSUPP => DraftError::Attributes(upper.clone()),
                error => DraftError::io("note something at", &upper)(error.into()),
            })?;
        // The top of an overlay has the mode of its upper folder.
        let mode = fs::metadata(at).map_err(DraftError::io("look at", at))?.mode();
        let set = fs::set_permissions(&upper, fs::Permissions::from_mode(mode & 0o7777));
        set.map_err(DraftError::io("set the mode of", &upper))?;
        shape.layers.push(Laid { at: PathText::from(at.as_path()), name });
    }
    let path = draft.join(SHAPE);
    let text = serde_json::to_vec(&shape).map_err(io::Error::from);
    text.and_then(|text| fs::write(&path, text)).map_err(DraftError::io("write", &path))?;
    Ok(shape)
}
