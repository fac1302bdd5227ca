//! What an agent may do, decided before it is done.

use std::path::Path;

use stockade_policy::{ApprovalPolicy, Mode, Verdict};
use stockade_rules::{Judgement, RuleSet, Ruling, judge};

/// What is told with every refusal.
const NO_DETOUR: &str = "do not work around it";

/// The rules, the mode and the approval policy of one thread.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The rules of all layers.
    pub rules: RuleSet,
    /// How much may be written.
    pub mode: Mode,
    /// When a person is asked.
    pub approval: ApprovalPolicy,
}

impl Judge {
    /// Judges a line that the agent proposes to the shell at `shell`, which may read it otherwise
    /// than bash; `is_outside` says of a file that it cannot be written as things are.
    pub fn line(&self, shell: &Path, line: &str, is_outside: impl Fn(&str) -> bool) -> Ruling {
        let judgement = reading(&self.rules, shell, line).with_outside(is_outside);
        judge(&judgement, self.mode, self.approval)
    }

    /// Judges a command that the user typed: it is not questioned, but a rule that denies it holds.
    pub fn typed(&self, argv: &[String]) -> Ruling {
        let mut ruling =
            judge(&self.rules.evaluate_argv(argv), self.mode, ApprovalPolicy::OnRequest);
        if ruling.verdict == Verdict::Ask {
            ruling.verdict = Verdict::Allow;
        }
        ruling
    }

    /// Judges an edit inside the writable roots by the agent's own tool, as a command that
    /// writes would be: under `untrusted` it asks.
    pub fn edit(&self) -> Verdict {
        match self.approval {
            ApprovalPolicy::Untrusted => Verdict::Ask,
            ApprovalPolicy::OnRequest | ApprovalPolicy::Never | ApprovalPolicy::Granular { .. } => {
                Verdict::Allow
            }
        }
    }
}

/// What `rules` say of a line that the shell at `shell` will read.
pub(crate) fn reading(rules: &RuleSet, shell: &Path, line: &str) -> Judgement {
    let argv = [shell.to_string_lossy().into_owned(), "-c".to_owned(), line.to_owned()];
    rules.evaluate_argv(&argv)
}

/// A refusal in the words of the agent (DESIGN §10).
pub(crate) fn refused(words: &str) -> String {
    format!("refused: {words}; {NO_DETOUR}")
}
