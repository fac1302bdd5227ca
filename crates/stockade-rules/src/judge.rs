//! Mode and approval policy, on top of what the rules say (DESIGN §7).

use stockade_policy::{ApprovalPolicy, Mode, Reason, Verdict};

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
}

impl Ruling {
    /// The verdict as [`stockade_policy::review`] takes it.
    pub fn reviewed(&self) -> (Verdict, Reason) {
        let reason =
            self.rule.as_ref().map_or(Reason::Mode, |rule| Reason::Rule(rule.source.clone()));
        (self.verdict, reason)
    }
}

/// Decides about a command that an agent proposes, from what the rules say of it.
pub fn judge(judgement: &Judgement, mode: Mode, policy: ApprovalPolicy) -> Ruling {
    let ruling = |verdict, reason, rule| Ruling {
        verdict,
        reason,
        rule,
        parts: judgement.parts.clone(),
        is_opaque: judgement.is_opaque,
    };
    let by_rule =
        |verdict: Verdict| judgement.parts.iter().filter(move |part| part.verdict == Some(verdict));
    if let Some(part) = by_rule(Verdict::Deny).next() {
        return ruling(Verdict::Deny, said(part, "denies this command"), part.rule.clone());
    }
    if let Some(part) = by_rule(Verdict::Ask).next() {
        let rule = part.rule.clone();
        return match policy {
            ApprovalPolicy::Untrusted | ApprovalPolicy::OnRequest => {
                ruling(Verdict::Ask, said(part, "asks about this command"), rule)
            }
            ApprovalPolicy::Never => {
                let text = "asks about this command, and the approval policy `never` asks nobody";
                ruling(Verdict::Deny, said(part, text), rule)
            }
        };
    }
    let asks_by_default = mode == Mode::ReadOnly || policy == ApprovalPolicy::Untrusted;
    let unsettled = judgement
        .parts
        .iter()
        .find(|part| part.verdict != Some(Verdict::Allow) && !part.reads_only);
    match unsettled {
        Some(part) if asks_by_default => {
            let what = unsettled_words(part);
            let (verdict, by) = match (mode, policy) {
                (_, ApprovalPolicy::Never) => {
                    (Verdict::Deny, "the mode `read-only` asks, and `never` asks nobody")
                }
                (Mode::ReadOnly, _) => (Verdict::Ask, "the mode `read-only` asks"),
                _ => (Verdict::Ask, "the approval policy `untrusted` asks"),
            };
            ruling(verdict, format!("{what}: {by}"), None)
        }
        Some(_) if mode == Mode::DangerFullAccess => {
            ruling(Verdict::Allow, "no rule speaks of it, and there is no boundary".into(), None)
        }
        Some(_) => ruling(Verdict::Allow, "no rule asks; it runs inside the boundary".into(), None),
        None => match by_rule(Verdict::Allow).next() {
            Some(part) => {
                ruling(Verdict::Allow, said(part, "allows this command"), part.rule.clone())
            }
            None => ruling(Verdict::Allow, "it only reads".into(), None),
        },
    }
}

/// `rule "docker" (config.toml:12) denies this command: reason`.
fn said(part: &Part, does: &str) -> String {
    let Some(rule) = &part.rule else { return does.to_owned() };
    let text = format!("rule \"{}\" ({}) {does}", rule.prefix, rule.source);
    match &rule.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

fn unsettled_words(part: &Part) -> String {
    let shown = part.argv.join(" ");
    match part.kind {
        PartKind::Command => format!("no rule allows `{shown}`"),
        PartKind::Write => format!("a redirection writes `{shown}`"),
        PartKind::Opaque(why) => format!("`{shown}` cannot be known before it runs ({why})"),
    }
}
