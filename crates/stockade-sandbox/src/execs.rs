//! What a caller of this crate has to say about the programs that are executed inside.

use std::fmt;
use std::sync::Arc;

use stockade_policy::AbsPath;

/// One program that is about to be executed. What is not UTF-8 is lossy.
#[derive(Debug, Clone, Copy)]
pub struct ExecRequest<'a> {
    /// The file by the name that the caller gave.
    pub asked: &'a str,
    /// The same without links.
    pub file: &'a str,
    /// The words, from `argv[0]`.
    pub argv: &'a [String],
}

/// A program of the host in whose place stands a script that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// The file, without links.
    pub path: AbsPath,
    /// What is printed, a line.
    pub text: String,
}

/// Why a program is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRefusal {
    /// What the caller reads on its standard error, a line.
    pub line: String,
    /// What of the rules decided, for the record.
    pub decided_by: String,
    /// Whether somebody may be asked instead.
    pub asks: bool,
}

type Judge = dyn Fn(&ExecRequest<'_>) -> Option<ExecRefusal> + Send + Sync;

/// Makes a judge anew, in the process that a [`spawn`](crate::spawn) starts, from what
/// [`Execs::handed`] was given. `None`: it cannot be read, and nothing is run.
pub type Revive = fn(&[u8], Vec<Stub>) -> Option<Execs>;

/// Judges each program that anything inside executes.
///
/// PID 1 is a copy of the process that launches it, so the judge is called there: it must be pure,
/// and wait for nothing.
#[derive(Clone)]
pub struct Execs {
    judge: Arc<Judge>,
    stubs: Vec<Stub>,
    text: Option<Vec<u8>>,
}

impl Execs {
    /// `judge` gives the refusal, or nothing; `stubs` stand in the view.
    pub fn new(
        judge: impl Fn(&ExecRequest<'_>) -> Option<ExecRefusal> + Send + Sync + 'static,
        stubs: Vec<Stub>,
    ) -> Self {
        Self { judge: Arc::new(judge), stubs, text: None }
    }

    /// The same, and what another process can make the judge anew from.
    #[must_use]
    pub fn handed(self, text: Vec<u8>) -> Self {
        Self { text: Some(text), ..self }
    }

    pub(crate) fn refusal(&self, request: &ExecRequest<'_>) -> Option<ExecRefusal> {
        (self.judge)(request)
    }

    pub(crate) fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// What was [`handed`](Self::handed), if it was.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }
}

impl fmt::Debug for Execs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Execs").field("stubs", &self.stubs).finish_non_exhaustive()
    }
}

/// The same judge, not one that would say the same.
impl PartialEq for Execs {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.judge, &other.judge) && self.stubs == other.stubs
    }
}

impl Eq for Execs {}
