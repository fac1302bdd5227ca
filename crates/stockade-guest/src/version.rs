//! Which form of the wire both sides speak. What a change of it asks for: VERSIONING.md.

use std::fmt;

/// A form of the wire. Both sides must have the same one: they are built and shipped together,
/// so a difference is a stale file, not somebody else's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub(crate) u32);

impl Generation {
    /// What this build speaks.
    pub const CURRENT: Self = Self(4);
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
