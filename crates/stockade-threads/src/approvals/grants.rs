//! What a person has allowed for the rest of a thread: read anew each time, and taken back from another
//! terminal while it runs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::desk::{alive, replace};
use crate::store::{Store, StoreError};

const GRANTED: &str = "granted.json";
/// Held by who changes it.
const LOCK: &str = "granted.lock";

/// What has been allowed for the rest of a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Exactly these actions.
    pub actions: Vec<String>,
    /// Commands that begin so.
    pub prefixes: Vec<Vec<String>>,
    /// Paths outside that may be written, each with what is below it.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// One of them, of a thread that is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenGrant {
    /// `THREAD:gN`, where N counts what the thread has now.
    pub id: String,
    /// The thread.
    pub thread: String,
    /// Exactly this action …
    pub action: Option<String>,
    /// … or commands that begin so …
    pub prefix: Option<Vec<String>>,
    /// … or what is done to this path, and below it.
    pub path: Option<String>,
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// There is no such grant.
    #[error("no thread that is alive has a grant `{0}`")]
    NotThere(String),
    /// Several are meant.
    #[error("`{0}` may be several grants")]
    Ambiguous(String),
    /// The folder of threads cannot be read, or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenGrant {
    /// What is allowed, as a person reads it.
    pub fn text(&self) -> String {
        let begins = self.prefix.as_ref().map(|words| format!("{} …", words.join(" ")));
        let path = self.path.as_ref().map(|path| format!("path {path}"));
        self.action.clone().or(begins).or(path).unwrap_or_default()
    }

    /// Whether `name` is what is allowed, in these words.
    pub fn is_of(&self, name: &str) -> bool {
        self.text() == name || self.path.as_deref() == Some(name)
    }

    fn number(&self) -> &str {
        self.id.split_once(':').map_or("", |(_, number)| number)
    }
}

/// What has been allowed for the rest of the thread in `folder`. What cannot be read is nothing.
pub fn granted(folder: &Path) -> Granted {
    let text = fs::read(folder.join(GRANTED)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Changes what has been allowed for the rest of the thread in `folder`.
///
/// # Errors
///
/// When it cannot be written; what was there is still there.
pub(super) fn change(folder: &Path, change: impl FnOnce(&mut Granted)) -> io::Result<()> {
    let path = folder.join(LOCK);
    let options = &mut File::options();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let mut now = granted(folder);
    change(&mut now);
    replace(&folder.join(GRANTED), &serde_json::to_string(&now)?)
}

/// What has been allowed for the rest of threads that are alive.
///
/// # Errors
///
/// When the folder of threads cannot be read.
pub fn open_grants(store: &Store) -> Result<Vec<OpenGrant>, StoreError> {
    let mut all = Vec::new();
    for (id, folder) in alive(store)? {
        let Granted { actions, prefixes, paths } = granted(&folder);
        let actions = actions.into_iter().map(|action| (Some(action), None, None));
        let prefixes = prefixes.into_iter().map(|prefix| (None, Some(prefix), None));
        let paths = paths.into_iter().map(|path| (None, None, Some(path)));
        for (number, (action, prefix, path)) in (1..).zip(actions.chain(prefixes).chain(paths)) {
            let thread = id.to_string();
            all.push(OpenGrant { id: format!("{id}:g{number}"), thread, action, prefix, path });
        }
    }
    Ok(all)
}

/// Takes one back, by its ID (the thread may be shortened, or left out where only one is meant) or by what
/// is allowed; it is asked again from then on. A file that was opened by then stays open, and a connection
/// ends.
///
/// # Errors
///
/// [`RevokeError`]; nothing is taken back then.
pub fn revoke_grant(store: &Store, name: &str) -> Result<OpenGrant, RevokeError> {
    let (thread, number) = name.split_once(':').unwrap_or(("", name));
    let is_meant = |grant: &OpenGrant| {
        (grant.number() == number && grant.thread.starts_with(thread)) || grant.is_of(name)
    };
    let mut meant: Vec<OpenGrant> = open_grants(store)?.into_iter().filter(is_meant).collect();
    let grant = match (meant.pop(), meant.len()) {
        (Some(grant), 0) => grant,
        (None, _) => return Err(RevokeError::NotThere(name.to_owned())),
        (Some(_), _) => return Err(RevokeError::Ambiguous(name.to_owned())),
    };
    let found = alive(store)?.into_iter().find(|(id, _)| id.as_str() == grant.thread);
    let (_, folder) = found.ok_or_else(|| RevokeError::NotThere(name.to_owned()))?;
    let taken = change(&folder, |now| {
        now.actions.retain(|action| Some(action) != grant.action.as_ref());
        now.prefixes.retain(|prefix| Some(prefix) != grant.prefix.as_ref());
        now.paths.retain(|path| Some(path) != grant.path.as_ref());
    });
    taken.map_err(StoreError::io("write in", &folder))?;
    Ok(grant)
}
