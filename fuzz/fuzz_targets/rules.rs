//! Any text as a shell line: a judgement, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stockade_policy::Verdict;
use stockade_rules::{Rule, RuleSet};

fuzz_target!(|line: &str| {
    let denied = Rule::new(vec![vec!["docker".to_owned()]], Verdict::Deny, "fuzz".to_owned());
    let rules = RuleSet::new(vec![denied.expect("a word")]).expect("no examples");
    let _ = rules.evaluate_line(line);
});
