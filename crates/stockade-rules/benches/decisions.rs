//! What a decision costs: `cargo bench -p stockade-rules`.
//!
//! 10,000 lines as agents write them, each judged by 1,000 rules. Reading the line is part of a
//! decision. CPU time is what to compare on a machine that is shared.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark has a clock; what it measures has none"
)]

use std::time::Instant;

use stockade_policy::{ApprovalPolicy, Mode, Verdict};
use stockade_rules::{Rule, RuleError, RuleSet, judge};

const RULES: usize = 1_000;
const LINES: usize = 10_000;

/// `%` is a number, so that no two lines are the same.
const SHAPES: [&str; 10] = [
    "ls -la src/%",
    "cargo test -p crate-% --lib -- --nocapture",
    "git status --short && git diff --stat -- file%.rs",
    "cd pkg% && npm run build && npm test -- -u",
    "grep -rn 'TODO %' src | head -n 20 | sort | uniq -c",
    "for f in a b c; do sed -n 1,%p $f; done",
    "bash -lc 'python3 -m pytest tests/test_%.py -q'",
    "if [ -f out% ]; then cat out%; else echo none; fi",
    "FOO=% timeout 60 make -j4 target% 2>&1 | tail -n 50",
    "cat > file% <<'EOF'\nline %\n$x\nEOF",
];

fn main() -> Result<(), RuleError> {
    let rule = |number: usize| {
        let verdict = [Verdict::Allow, Verdict::Ask, Verdict::Deny][number % 3];
        let programs = ["cargo", "npm", "git", "make"];
        let program = if number.is_multiple_of(5) {
            programs[number % programs.len()].to_owned()
        } else {
            format!("program{number}")
        };
        let words = vec![vec![program], vec![format!("verb{number}"), "other".to_owned()]];
        Rule::new(words, verdict, format!("config.toml:{number}"))
    };
    let rules: Vec<Rule> = (0..RULES).map(rule).collect::<Result<_, _>>()?;
    let rules = RuleSet::new(rules).map_err(|(_, error)| error)?;
    let line = |number: usize| SHAPES[number % SHAPES.len()].replace('%', &number.to_string());
    let lines: Vec<String> = (0..LINES).map(line).collect();
    for round in 1..=3 {
        let start = Instant::now();
        let mut asked = 0;
        for line in &lines {
            let judgement = rules.evaluate_line(line);
            let ruling = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted);
            asked += usize::from(ruling.verdict == Verdict::Ask);
        }
        let time = start.elapsed();
        let each = time / u32::try_from(LINES).unwrap_or(u32::MAX);
        println!("round {round}: {each:?} a decision; {asked} of {LINES} lines ask");
    }
    Ok(())
}
