//! One resolved policy.

use crate::{AbsPath, Limits, Mode, Network};

/// What one thread may do: decided once, pinned, printed by `config show`.
///
/// Every path is canonical (no symbolic link in it when it was resolved) and existed then.
/// The lists say what to do with each path; why a path is in a list is the business of
/// whoever resolved the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How much may be written.
    pub mode: Mode,
    /// The folder that was given to the agent.
    pub workspace: AbsPath,
    /// The user's home, if there is one.
    pub home: Option<AbsPath>,
    /// Folders and files that may be written. In [`Mode::ReadOnly`] only the state of a known
    /// agent that the run is for, if any.
    pub writable: Vec<AbsPath>,
    /// Folders and files inside `writable` that stay read-only, and inside those again
    /// nothing is writable unless it is itself listed in `writable`.
    pub protected: Vec<AbsPath>,
    /// Folders and files that cannot be read.
    pub hidden: Vec<AbsPath>,
    /// What lies inside a hidden folder and is readable all the same.
    pub readable: Vec<AbsPath>,
    /// Folders of caches, inside home and outside `writable`. Without a layer that takes what is
    /// written they are read-only; `protected` and `hidden` hold in them as elsewhere.
    pub caches: Vec<AbsPath>,
    /// Folders at whose top the control names are protected, whether or not they exist: the
    /// workspace and the folders that were added to it. Repositories that lie in them and were
    /// there before count as well, and are found when a name in them is touched.
    pub tops: Vec<AbsPath>,
    /// Protected names that the user has lifted.
    pub unprotected: Vec<String>,
    /// Paths that do not exist and that git would obey if they did: hooks and configuration that its
    /// configuration names. Nothing may take these names.
    pub awaited: Vec<AbsPath>,
    /// What is reachable beyond the sandbox's own loopback.
    pub network: Network,
    /// What may be used up.
    pub limits: Limits,
}
