//! Mode and approval policy, on top of what the rules say (DESIGN §7).

use stockade_policy::{ApprovalPolicy, Grant, Mode, Reason, Verdict};

use crate::evaluate::{Judgement, Part, PartKind};
use crate::rule::RuleRef;

/// What happens to a command that an agent proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Run it, ask, or refuse it.
    pub verdict: Verdict,
    /// Why, in words for a person and for the agent.
    pub reason: String,
    /// The rule that decided, if one did.
    pub rule: Option<RuleRef>,
    /// What the rules say of each part.
    pub parts: Vec<Part>,
    /// Whether a part cannot be known before it runs.
    pub is_opaque: bool,
    /// What running it opens, once it is allowed or a person has said yes.
    pub grant: Grant,
}

impl Ruling {
    /// The verdict as [`stockade_policy::review`] takes it.
    pub fn reviewed(&self) -> (Verdict, Reason) {
        let reason =
            self.rule.as_ref().map_or(Reason::Mode, |rule| Reason::Rule(rule.source.clone()));
        (self.verdict, reason)
    }
}

/// Decides about a command that an agent proposes, from what the rules say of it: the most
/// severe decision about any part is the decision about the whole.
pub fn judge(judgement: &Judgement, mode: Mode, policy: ApprovalPolicy) -> Ruling {
    let settled = judgement.parts.iter().map(|part| settle(part, mode, policy));
    // Of several as severe, the first one.
    let strictest = settled.reduce(
        |strictest, next| {
            if next.rank() > strictest.rank() { next } else { strictest }
        },
    );
    let strictest = strictest.unwrap_or_else(|| Settled {
        verdict: Verdict::Allow,
        basis: Basis::Reads,
        reason: "it starts nothing".to_owned(),
        rule: None,
    });
    Ruling {
        verdict: strictest.verdict,
        reason: strictest.reason,
        rule: strictest.rule,
        parts: judgement.parts.clone(),
        is_opaque: judgement.is_opaque,
        grant: grant(judgement, strictest.verdict),
    }
}

/// What is opened for the whole of a script. Nobody looks at it when rules allow it, so then every
/// part has to be one that a rule allows, or that only reads: what stands beside an allowed command
/// gets nothing of its grant.
fn grant(judgement: &Judgement, verdict: Verdict) -> Grant {
    let is_settled = |part: &Part| {
        let is_command = matches!(part.kind, PartKind::Command);
        is_command && (part.verdict == Some(Verdict::Allow) || part.reads_only)
    };
    let opens = match verdict {
        Verdict::Allow => !judgement.is_opaque && judgement.parts.iter().all(is_settled),
        Verdict::Ask => true,
        Verdict::Deny => false,
    };
    let mut grant = Grant::default();
    if opens {
        judgement.parts.iter().filter_map(|part| part.rule.as_ref()).for_each(|rule| {
            grant.add(&rule.grant);
        });
    }
    grant
}

impl Part {
    /// What is decided about this part by itself.
    pub fn decision(&self, mode: Mode, policy: ApprovalPolicy) -> Verdict {
        settle(self, mode, policy).verdict
    }
}

/// What is decided about one part.
struct Settled {
    verdict: Verdict,
    basis: Basis,
    reason: String,
    rule: Option<RuleRef>,
}

/// On what it is decided, in the order in which it is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Basis {
    Reads,
    Allowed,
    Unsettled,
    Rule,
}

impl Settled {
    fn rank(&self) -> (Verdict, Basis) {
        (self.verdict, self.basis)
    }
}

fn settle(part: &Part, mode: Mode, policy: ApprovalPolicy) -> Settled {
    let (verdict, basis, reason) = match part.verdict {
        Some(Verdict::Deny) => (Verdict::Deny, Basis::Rule, said(part, "denies this command", "")),
        Some(Verdict::Ask) if !policy.asks_by_rule() => {
            let but = format!(", and the approval policy `{policy}` asks nobody");
            (Verdict::Deny, Basis::Rule, said(part, "asks about this command", &but))
        }
        Some(Verdict::Ask) => {
            (Verdict::Ask, Basis::Rule, said(part, "asks about this command", ""))
        }
        Some(Verdict::Allow) => {
            (Verdict::Allow, Basis::Allowed, said(part, "allows this command", ""))
        }
        None if part.is_outside => outside(part, mode, policy),
        None if part.reads_only => (Verdict::Allow, Basis::Reads, "it only reads".to_owned()),
        None => {
            let (verdict, by) = match mode {
                Mode::ReadOnly if !policy.asks_to_cross() => {
                    (Verdict::Deny, "the mode `read-only` asks, and the policy asks nobody")
                }
                Mode::ReadOnly => (Verdict::Ask, "the mode `read-only` asks"),
                _ if policy == ApprovalPolicy::Untrusted => {
                    (Verdict::Ask, "the approval policy `untrusted` asks")
                }
                Mode::WorkspaceWrite => (Verdict::Allow, "it runs inside the boundary"),
                Mode::DangerFullAccess => {
                    (Verdict::Allow, "nothing asks, and there is no boundary")
                }
            };
            (verdict, Basis::Unsettled, format!("{}: {by}", unsettled(part)))
        }
    };
    Settled { verdict, basis, reason, rule: part.rule.clone() }
}

/// A redirection to a file outside the boundary crosses it.
fn outside(part: &Part, mode: Mode, policy: ApprovalPolicy) -> (Verdict, Basis, String) {
    let target = part.argv.first().map_or("", String::as_str);
    let text = format!("a redirection writes `{target}`, outside what may be written");
    let (verdict, by) = match mode {
        Mode::ReadOnly => (Verdict::Deny, "the mode is read-only".to_owned()),
        Mode::WorkspaceWrite | Mode::DangerFullAccess if policy.asks_to_cross() => {
            return (Verdict::Ask, Basis::Rule, text);
        }
        Mode::WorkspaceWrite | Mode::DangerFullAccess => {
            (Verdict::Deny, format!("the approval policy `{policy}` asks nobody"))
        }
    };
    (verdict, Basis::Rule, format!("{text}, and {by}"))
}

/// `rule "docker" (config.toml:12) denies this command: reason`.
fn said(part: &Part, does: &str, but: &str) -> String {
    let Some(rule) = &part.rule else { return format!("a rule {does}{but}") };
    let text = format!("rule \"{}\" ({}) {does}{but}", rule.prefix, rule.source);
    match &rule.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

fn unsettled(part: &Part) -> String {
    let shown = part.argv.join(" ");
    match part.kind {
        PartKind::Command => format!("no rule speaks of `{shown}`"),
        PartKind::Write => format!("a redirection writes `{shown}`"),
        PartKind::Opaque(why) => format!("`{shown}` cannot be known before it runs ({why})"),
    }
}
