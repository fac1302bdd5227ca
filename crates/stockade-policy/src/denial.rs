//! What is told of a call that was refused.

use std::path::PathBuf;

/// What the program wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Open a file for writing, or cut it.
    Write,
    /// Make a file, folder, link, socket or FIFO.
    Create,
    /// Give something another name.
    Rename,
    /// Give a file a further name.
    Link,
    /// Remove.
    Remove,
    /// Change a mode.
    Mode,
    /// Connect or send to a socket with a name.
    Connect,
    /// Run a program.
    Execute,
    /// A call of a process whose memory cannot be read.
    Unreadable,
}

impl Operation {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Create => "create",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::Mode => "mode",
            Self::Connect => "connect",
            Self::Execute => "execute",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// What was wanted.
    pub op: Operation,
    /// Of what: the path at which the call would have landed.
    pub target: PathBuf,
    /// What of the policy decided, in words that name it.
    pub decided_by: String,
    /// What would be possible instead; empty when there is nothing to say.
    pub alternatives: Vec<String>,
}
