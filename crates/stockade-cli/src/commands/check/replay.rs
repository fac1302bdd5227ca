//! `stockade check --replay`: how often a log of commands would have asked, and which rules would
//! end that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stockade_config::Loaded;
use stockade_policy::{ApprovalPolicy, Mode, Verdict};
use stockade_rules::{Judgement, Part, PartKind, Rule, RuleSet, best_general, judge};
use stockade_threads::Bounds;

use super::FAILED;
use crate::failure::Failure;
use crate::ui;

/// A longer line is no command.
const LINE_MAX: usize = 1 << 20;

/// How many groups a person is shown.
const SHOWN: usize = 20;

const POLICIES: [ApprovalPolicy; 3] =
    [ApprovalPolicy::Untrusted, ApprovalPolicy::OnRequest, ApprovalPolicy::Never];

/// One line of the log; other keys are left alone.
#[derive(Debug, Deserialize)]
struct Entry {
    argv: Option<Vec<String>>,
    line: Option<String>,
    cwd: Option<PathBuf>,
}

/// What became of the commands under one policy.
#[derive(Debug, Default, Serialize)]
struct Counts {
    run: u64,
    ask: u64,
    refused: u64,
}

/// Commands that stop asking together.
#[derive(Debug, Serialize)]
struct Group {
    /// The policy under which they ask.
    policy: &'static str,
    /// What asks: `command`, `write`, `opaque` or `rule`.
    kind: &'static str,
    /// The beginning that a rule would allow, where a rule can; else what asks.
    prefix: String,
    /// The words of that rule.
    words: Option<Vec<String>>,
    /// How many commands ask for it.
    commands: u64,
    /// One of them.
    example: String,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    commands: u64,
    /// Lines that are no command.
    skipped: Vec<u64>,
    policies: BTreeMap<&'static str, Counts>,
    groups: Vec<Group>,
}

type Groups = BTreeMap<(&'static str, &'static str, String), Group>;

/// Reads the log and prints what it comes to.
pub(super) fn replay(path: &Path, loaded: &Loaded, json: bool) -> Result<u8, Failure> {
    let failed = |what: &str, error: &std::io::Error| {
        Failure::new(format!("cannot {what} `{}`: {error}", path.display()), "").with_status(FAILED)
    };
    let file = File::open(path).map_err(|error| failed("open", &error))?;
    let mut replay = Replay {
        rules: loaded.rule_set(),
        mode: loaded.policy.mode,
        bounds: Bounds::new(loaded.policy.clone(), loaded.unprotected.clone()),
        workspace: loaded.policy.workspace.as_path(),
        report: Report::default(),
        groups: Groups::new(),
    };
    for (number, line) in (1..).zip(BufReader::new(file).split(b'\n')) {
        let line = line.map_err(|error| failed("read", &error))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let entry = serde_json::from_slice(&line).ok().filter(|_| line.len() <= LINE_MAX);
        match entry.and_then(|entry| replay.read(entry)) {
            Some((judgement, shown)) => replay.count(&judgement, &shown),
            None => replay.report.skipped.push(number),
        }
    }
    let report = replay.finish();
    if let Some(first) = report.skipped.first() {
        let text = format!(
            "{} lines are no command (`argv` or `line`); the first is line {first}",
            report.skipped.len()
        );
        ui::say("warning", &text);
    }
    let printed = if json { ui::json(&report) } else { print(&report) };
    printed.map_err(|error| {
        Failure::new(format!("cannot print the decisions: {error}"), "").with_status(FAILED)
    })?;
    Ok(0)
}

struct Replay<'a> {
    rules: RuleSet,
    mode: Mode,
    bounds: Bounds,
    workspace: &'a Path,
    report: Report,
    groups: Groups,
}

impl Replay<'_> {
    /// What the rules say of an entry, and how it is shown.
    fn read(&self, entry: Entry) -> Option<(Judgement, String)> {
        let (judgement, shown) = match (entry.line, entry.argv) {
            (Some(line), None) => (self.rules.evaluate_line(&line), line),
            (None, Some(argv)) if !argv.is_empty() => {
                (self.rules.evaluate_argv(&argv), argv.join(" "))
            }
            _ => return None,
        };
        let folder = entry.cwd.unwrap_or_default();
        let folder = self.workspace.join(folder);
        let judgement = judgement.with_outside(|path| self.bounds.is_outside(&folder.join(path)));
        Some((judgement, shown))
    }

    fn count(&mut self, judgement: &Judgement, shown: &str) {
        self.report.commands += 1;
        for policy in POLICIES {
            let ruling = judge(judgement, self.mode, policy);
            let counts = self.report.policies.entry(policy.as_str()).or_default();
            match ruling.verdict {
                Verdict::Allow => counts.run += 1,
                Verdict::Ask => counts.ask += 1,
                Verdict::Deny => counts.refused += 1,
            }
            if ruling.verdict == Verdict::Ask {
                self.group(&ruling.parts, policy, shown);
            }
        }
    }

    /// Counts a command once for each thing that asks in it.
    fn group(&mut self, parts: &[Part], policy: ApprovalPolicy, shown: &str) {
        let asks = |part: &&Part| part.decision(self.mode, policy) == Verdict::Ask;
        let mut seen = Vec::new();
        for part in parts.iter().filter(asks) {
            let (kind, prefix, words) = what_asks(part);
            if seen.contains(&(kind, prefix.clone())) {
                continue;
            }
            seen.push((kind, prefix.clone()));
            let key = (policy.as_str(), kind, prefix.clone());
            let group = self.groups.entry(key).or_insert_with(|| Group {
                policy: policy.as_str(),
                kind,
                prefix,
                words,
                commands: 0,
                example: shown.chars().take(200).collect(),
            });
            group.commands += 1;
        }
    }

    fn finish(mut self) -> Report {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.commands));
        self.report.groups = groups;
        self.report
    }
}

/// What asks in a part, and the rule that would end it, if one can.
fn what_asks(part: &Part) -> (&'static str, String, Option<Vec<String>>) {
    let written = || part.argv.join(" ");
    match (&part.rule, part.kind) {
        (Some(rule), _) => ("rule", format!("{} ({})", rule.prefix, rule.source), None),
        (None, PartKind::Write) => ("write", written(), None),
        (None, PartKind::Opaque(why)) => ("opaque", why.to_owned(), None),
        (None, PartKind::Command) => match best_general(&part.argv).filter(|words| ends(words)) {
            Some(words) => ("command", words.join(" "), Some(words)),
            None => ("command", part.argv.first().cloned().unwrap_or_default(), None),
        },
    }
}

/// Whether a rule can begin so.
fn ends(words: &[String]) -> bool {
    Rule::new(words.iter().map(|word| vec![word.clone()]).collect(), Verdict::Allow, "").is_ok()
}

fn print(report: &Report) -> std::io::Result<()> {
    ui::line(&format!("{} commands", report.commands))?;
    for policy in POLICIES {
        let none = Counts::default();
        let Counts { run, ask, refused } = report.policies.get(policy.as_str()).unwrap_or(&none);
        let name = policy.as_str();
        ui::line(&format!("  {name:<10}  {run:>7} run  {ask:>7} ask  {refused:>7} refused"))?;
    }
    for policy in POLICIES {
        let groups = report.groups.iter().filter(|group| group.policy == policy.as_str());
        let mut groups = groups.take(SHOWN).peekable();
        if groups.peek().is_some() {
            ui::line(&format!("what asks under {policy}, by the rule that would end it:"))?;
        }
        for group in groups {
            let prefix = group.prefix.replace('\n', "\\n");
            let what = match (group.kind, &group.words) {
                ("command", Some(_)) => format!("allow `{prefix}`"),
                ("command", None) => format!("no rule: `{prefix}` runs what it is told"),
                ("write", _) => format!("no rule: a redirection writes `{prefix}`"),
                ("opaque", _) => format!("no rule: {prefix}"),
                _ => format!("your rule asks: {prefix}"),
            };
            ui::line(&format!("  {:>7}  {what}", group.commands))?;
        }
    }
    Ok(())
}
