//! Laws of reading and of verdicts.

use proptest::prelude::*;
use stockade_policy::{ApprovalPolicy, Mode, Verdict};
use stockade_rules::{Rule, RuleSet, Script, judge};

const MODES: [Mode; 3] = [Mode::ReadOnly, Mode::WorkspaceWrite, Mode::DangerFullAccess];
const POLICIES: [ApprovalPolicy; 3] =
    [ApprovalPolicy::Untrusted, ApprovalPolicy::OnRequest, ApprovalPolicy::Never];

/// Pieces of scripts over few names, so that rules and commands meet often.
fn any_line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", " ", " ", " ", ";", "&&", "|", "\n", "$x", "$(", ")", "(", "'", "\"", "\\",
        "sudo ", "env ", "bash -c ", "/bin/a", "CI=1 ", "PATH=x ", ">f", "2>&1", "#", "f() ", "{ ",
        "; }", "ls ", "`", "<<E\n", "\nE\n", "if ", "; then ", "; fi", "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![Verdict::Allow, Verdict::Ask, Verdict::Deny])
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let name = || prop::sample::select(vec!["a", "b", "c", "ls", "env", "sudo", "/bin/a"]);
    let word = prop::collection::vec(name().prop_map(str::to_owned), 1..3);
    (prop::collection::vec(word, 1..3), any_verdict())
        .prop_map(|(prefix, verdict)| Rule::new(prefix, verdict, "x:1").expect("it has words"))
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(any_rule(), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_takes_any_text(text in any::<String>(), line in any_line()) {
        Script::parse(&text);
        Script::of_argv(&["bash".to_owned(), "-c".to_owned(), text]);
        Script::parse(&line);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Script::of_argv(&words);
    }

    #[test]
    fn the_order_of_rules_does_not_matter(mut rules in any_rules(), line in any_line(), at in 0..5_usize) {
        let verdicts = |rules: &[Rule]| -> Vec<_> {
            let set = RuleSet::new(rules.to_vec()).unwrap();
            set.evaluate_line(&line).parts.into_iter().map(|part| part.verdict).collect()
        };
        let before = verdicts(&rules);
        rules.reverse();
        let middle = rules.len().min(at);
        rules.rotate_left(middle);
        prop_assert_eq!(before, verdicts(&rules));
    }

    #[test]
    fn a_rule_that_asks_or_denies_makes_nothing_milder(rules in any_rules(), rule in any_rule(), line in any_line()) {
        let verdict = rule.verdict();
        let judged = |rules: Vec<Rule>| RuleSet::new(rules).unwrap().evaluate_line(&line);
        let before = judged(rules.clone());
        let after = judged(rules.into_iter().chain([rule]).collect());
        for mode in MODES {
            for policy in POLICIES {
                let before = judge(&before, mode, policy).verdict;
                let after = judge(&after, mode, policy).verdict;
                match verdict {
                    Verdict::Allow => prop_assert!(after <= before),
                    Verdict::Ask | Verdict::Deny => prop_assert!(after >= before),
                }
            }
        }
    }

    #[test]
    fn without_rules_no_policy_lets_more_run_than_a_laxer_one(line in any_line()) {
        let judgement = RuleSet::default().evaluate_line(&line);
        for mode in MODES {
            let verdict = |policy| judge(&judgement, mode, policy).verdict;
            prop_assert!(verdict(ApprovalPolicy::Untrusted) >= verdict(ApprovalPolicy::OnRequest));
            prop_assert!(verdict(ApprovalPolicy::Never) != Verdict::Ask);
        }
        let read_only = judge(&judgement, Mode::ReadOnly, ApprovalPolicy::OnRequest).verdict;
        let writing = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::OnRequest).verdict;
        prop_assert!(read_only >= writing);
    }

    #[test]
    fn what_is_opaque_or_redefined_is_never_allowed_by_rules(line in any_line(), rules in any_rules()) {
        let script = Script::parse(&line);
        let judgement = RuleSet::new(rules).unwrap().evaluate(&script);
        let verdict = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted).verdict;
        if script.is_opaque() {
            prop_assert!(judgement.is_opaque);
            prop_assert_ne!(verdict, Verdict::Allow);
        }
        if script.is_redefined() && script.commands().next().is_some() {
            prop_assert!(judgement.parts.iter().all(|part| part.verdict != Some(Verdict::Allow)));
        }
    }
}
