//! What is known of a script: the commands that it starts, the files that its redirections
//! write, and the parts that only the shell itself will know.

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Exactly this, after quotes are removed.
    Known(String),
    /// What the shell will make of it, none or several words included, is not known.
    Unknown {
        /// As it stands in the script.
        written: String,
        /// What every word that comes of it starts with; often empty.
        start: String,
    },
}

impl Word {
    /// The word, if it is known.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(text) => Some(text),
            Self::Unknown { .. } => None,
        }
    }

    /// The word as it is, or as it stands in the script.
    pub fn shown(&self) -> &str {
        match self {
            Self::Known(text) => text,
            Self::Unknown { written, .. } => written,
        }
    }
}

/// `NAME=value` in front of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// What it is set to.
    pub value: Word,
}

/// How a command stands to what the script will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is started as it stands, from the `PATH` that the shell was given.
    Sure,
    /// It starts another command of the same script, which is judged in its stead. Rules that
    /// ask or deny look at it, none needs to allow it.
    Transparent,
    /// It may be started. Rules that ask or deny look at it; what allows it is not enough.
    Hint,
}

/// One simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; never empty.
    pub words: Vec<Word>,
    /// What is set for it alone.
    pub assignments: Vec<Assignment>,
    /// Whether it is known to be started so.
    pub standing: Standing,
}

/// One thing that a script does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Starts a command.
    Run(Command),
    /// Opens a file for writing by a redirection.
    Write(Word),
    /// Something that cannot be known before it runs.
    Opaque {
        /// The part, as it stands in the script, shortened.
        written: String,
        /// Why it cannot be known; a fragment for a person.
        why: &'static str,
    },
}

/// What a shell text or an argument vector does, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    steps: Vec<Step>,
    is_redefined: bool,
}

impl Script {
    /// Reads `text` as bash would with `bash -c`. Never fails: what cannot be known is
    /// [`Step::Opaque`].
    pub fn parse(text: &str) -> Self {
        let why = "not read yet";
        Self { steps: vec![Step::Opaque { written: text.to_owned(), why }], is_redefined: false }
    }

    /// Reads an argument vector, `bash -c "…"` and other wrappers seen through.
    pub fn of_argv(argv: &[String]) -> Self {
        Self::parse(&argv.join(" "))
    }

    /// What it does, inner parts before those that hold them.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The commands among the steps.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.steps.iter().filter_map(|step| match step {
            Step::Run(command) => Some(command),
            Step::Write(_) | Step::Opaque { .. } => None,
        })
    }

    /// Whether a part of it cannot be known.
    pub fn is_opaque(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Opaque { .. }))
    }

    /// Whether names may mean other programs than the user's own `PATH` gives them: functions,
    /// aliases, an assignment to a variable that changes what runs.
    pub fn is_redefined(&self) -> bool {
        self.is_redefined
    }
}
