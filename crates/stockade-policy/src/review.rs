//! The one place that can say yes.
//!
//! An action is run only as an [`Approved`], and only [`review`] (or a person's answer to a
//! [`Pending`]) makes one. "Run without review" therefore does not compile.

/// What one rule, mode or person says of an action, mildest first: the derived order is the
/// severity, and the most severe wins (DESIGN §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Run it.
    Allow,
    /// Ask the user first.
    Ask,
    /// Refuse it.
    Deny,
}

impl Verdict {
    /// As it stands in the configuration and in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// Who or what decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The user typed this command after `stockade run --`.
    Typed,
    /// No rule speaks of it; the mode or approval policy decided.
    Mode,
    /// A rule, by where it stands: `file:line`.
    Rule(String),
    /// A person answered a question.
    Person,
    /// It is a part of Stockade; what is done through it is judged by itself.
    Own,
}

/// Proof that `A` went through [`review`]. Only this module can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Approved<A> {
    action: A,
    because: Reason,
}

/// An action that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Pending<A> {
    action: A,
    because: Reason,
}

/// The outcome of a [`review`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Review<A> {
    /// It may run.
    Allowed(Approved<A>),
    /// A person must be asked.
    Ask(Pending<A>),
    /// It is refused, and why.
    Denied(Reason),
}

/// Reviews `action` under the strictest of `verdicts`.
///
/// With no verdict at all the answer is [`Review::Ask`]: what no rule speaks of is never run
/// unasked.
pub fn review<A>(action: A, verdicts: &[(Verdict, Reason)]) -> Review<A> {
    let strictest = verdicts.iter().max_by_key(|(verdict, _)| *verdict);
    match strictest {
        None => Review::Ask(Pending { action, because: Reason::Mode }),
        Some((Verdict::Allow, because)) => {
            Review::Allowed(Approved { action, because: because.clone() })
        }
        Some((Verdict::Ask, because)) => Review::Ask(Pending { action, because: because.clone() }),
        Some((Verdict::Deny, because)) => Review::Denied(because.clone()),
    }
}

impl<A> Approved<A> {
    /// Why it may run, for the record.
    pub fn because(&self) -> &Reason {
        &self.because
    }

    /// The action, for whoever carries it out.
    pub fn into_action(self) -> A {
        self.action
    }

    /// The action, for whoever prints it.
    pub fn action(&self) -> &A {
        &self.action
    }
}

impl<A> Pending<A> {
    /// Why it has to be asked.
    pub fn because(&self) -> &Reason {
        &self.because
    }

    /// Turns a person's yes into an approval of exactly this action.
    pub fn grant(self) -> Approved<A> {
        Approved { action: self.action, because: Reason::Person }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_verdict_wins_whatever_its_place() {
        let verdicts = [
            (Verdict::Allow, Reason::Typed),
            (Verdict::Deny, Reason::Rule("a:1".to_owned())),
            (Verdict::Ask, Reason::Mode),
        ];
        assert_eq!(review((), &verdicts), Review::Denied(Reason::Rule("a:1".to_owned())));
        assert!(matches!(review((), &verdicts[..1]), Review::Allowed(_)));
        assert!(matches!(review((), &[]), Review::Ask(_)));
    }
}
