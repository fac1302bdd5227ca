//! What is known of a script: the commands that it starts, the files that its redirections
//! write, and the parts that only the shell itself will know.

use super::parse::{self, Dialect, Found, Kind};
use super::unwrap::{self, Seen};

/// Longer texts are not read.
const TEXT_BYTES: usize = 64 << 10;

/// All the texts inside one another are not longer than this.
const WORK_BYTES: usize = 16 * TEXT_BYTES;

/// Texts inside texts: `bash -c "bash -c …"`.
const LEVELS_MAX: usize = 200;

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
        /// Whether it is exactly one word.
        is_one: bool,
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

    /// Whether it is exactly one word.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Self::Known(_) | Self::Unknown { is_one: true, .. })
    }

    /// What it, and every word that may come of it, starts with as far as is known.
    pub(crate) fn start(&self) -> &str {
        match self {
            Self::Known(text) => text,
            Self::Unknown { start, .. } => start,
        }
    }

    /// Whether it may be read as an option.
    pub(crate) fn may_be_option(&self) -> bool {
        match self {
            Self::Known(text) => text.starts_with('-'),
            Self::Unknown { start, .. } => start.is_empty() || start.starts_with('-'),
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
    /// Opens a file for writing by a redirection, or what may be a connection.
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

/// A text that waits to be read.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) content: String,
    pub(super) kind: Kind,
    pub(super) dialect: Dialect,
    /// Whether it is known to run, so that its commands count.
    pub(super) is_sure: bool,
    pub(super) level: usize,
    /// A shell of its own reads it, so that only it sets what it works with.
    pub(super) is_apart: bool,
}

impl Script {
    /// Reads `text` as bash would with `bash -c`. Never fails: what cannot be known is
    /// [`Step::Opaque`].
    pub fn parse(text: &str) -> Self {
        if text.len() > TEXT_BYTES {
            return Self::too_much(text);
        }
        let (content, kind, dialect) = (text.to_owned(), Kind::Commands, Dialect::Bash);
        let text = Text { content, kind, dialect, is_sure: true, level: 0, is_apart: true };
        Self::default().with_texts(vec![text])
    }

    /// Reads an argument vector, which no shell reads first; `bash -c "…"` and other wrappers
    /// are seen through.
    pub fn of_argv(argv: &[String]) -> Self {
        let words: Vec<Word> = argv.iter().cloned().map(Word::Known).collect();
        if words.is_empty() {
            return Self::default();
        }
        if argv.iter().map(String::len).sum::<usize>() > TEXT_BYTES {
            return Self::too_much(&argv.join(" "));
        }
        let command = Command { words, assignments: Vec::new(), standing: Standing::Sure };
        let mut seen = Seen::default();
        unwrap::settle(command, None, 0, &mut seen);
        let mut script = Self::default();
        let texts = script.take(seen);
        script.with_texts(texts)
    }

    fn too_much(text: &str) -> Self {
        let written = text.chars().take(60).collect();
        let steps = vec![Step::Opaque { written, why: "it is too long or too deep to be read" }];
        Self { steps, is_redefined: false }
    }

    fn take(&mut self, seen: Seen) -> Vec<Text> {
        self.steps.extend(seen.steps);
        self.is_redefined |= seen.is_redefined;
        seen.texts
    }

    /// Reads texts, and those that are found in them, until none is left.
    fn with_texts(mut self, mut waiting: Vec<Text>) -> Self {
        let mut work = 0;
        while let Some(text) = waiting.pop() {
            work += text.content.len();
            if work > WORK_BYTES || text.level > LEVELS_MAX {
                self.steps.extend(Self::too_much(&text.content).steps);
                break;
            }
            let seen = read(&text);
            let texts = self.take(seen);
            waiting.extend(texts);
        }
        self
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

/// Reads one text and looks through the wrappers in it.
fn read(text: &Text) -> Seen {
    let read = parse::read(&text.content, text.dialect, text.kind, !text.is_apart);
    let is_sure = text.is_sure && !read.is_broken;
    let mut seen = Seen { is_redefined: text.is_sure && read.is_redefined, ..Seen::default() };
    for found in read.found {
        match found {
            Found::Command { words, assignments, is_guess } => {
                let is_sure = is_sure && !is_guess;
                let standing = if is_sure { Standing::Sure } else { Standing::Hint };
                let command = Command { words, assignments, standing };
                unwrap::settle(command, Some(text.dialect), text.level, &mut seen);
            }
            Found::Write(target) if is_sure => seen.steps.push(Step::Write(target)),
            Found::Opaque { written, why } if text.is_sure => {
                seen.steps.push(Step::Opaque { written, why });
            }
            Found::Write(_) | Found::Opaque { .. } => {}
        }
    }
    let nested = read.nested.into_iter().map(|(content, kind)| Text {
        content,
        kind,
        dialect: text.dialect,
        is_sure,
        level: text.level + 1,
        is_apart: false,
    });
    seen.texts.extend(nested);
    seen
}
