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
    /// Change to a folder.
    Enter,
}

impl Operation {
    /// Every one, in an order that does not change within a release.
    pub const ALL: [Self; 10] = [
        Self::Write,
        Self::Create,
        Self::Rename,
        Self::Link,
        Self::Remove,
        Self::Mode,
        Self::Connect,
        Self::Execute,
        Self::Unreadable,
        Self::Enter,
    ];

    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
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
            Self::Enter => "enter",
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

impl Denial {
    /// Who decided when a path is in no writable root.
    pub const OUTSIDE: &str = "writable_roots";

    /// What a program that was refused should read, in one line.
    pub fn message(&self) -> String {
        let (op, target) = (self.op.as_str(), self.target.display());
        let mut text = if self.decided_by == Self::OUTSIDE {
            format!("refused: {op} of {target} is outside the writable roots")
        } else {
            format!("refused: {op} of {target}: {}", self.decided_by)
        };
        let mut alternatives = self.alternatives.iter();
        if let Some(first) = alternatives.next() {
            text.extend([" (", first, ")"]);
        }
        for alternative in alternatives {
            text.push_str("; ");
            text.push_str(alternative);
        }
        text.push_str("; do not work around it");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_may_be_done_instead() {
        let mut denial = Denial {
            op: Operation::Write,
            target: "/etc/x".into(),
            decided_by: Denial::OUTSIDE.to_owned(),
            alternatives: vec!["writable here: /w, /tmp".to_owned(), "ask".to_owned()],
        };
        assert_eq!(
            denial.message(),
            "refused: write of /etc/x is outside the writable roots (writable here: /w, /tmp); \
             ask; do not work around it"
        );
        denial.decided_by = "a rule".to_owned();
        denial.alternatives.clear();
        assert_eq!(denial.message(), "refused: write of /etc/x: a rule; do not work around it");
    }
}
