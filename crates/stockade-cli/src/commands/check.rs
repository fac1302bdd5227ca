//! `stockade check`: what would be decided about a command, and by which rule. Nothing runs.

mod replay;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use stockade_config::Loaded;
use stockade_policy::Verdict;
use stockade_rules::{Part, PartKind, RuleRef, Ruling, judge};

use stockade_threads::Bounds;

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;
const ASK: u8 = 3;
const DENY: u8 = 4;

/// Flags of `stockade check`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A shell line
    #[arg(long, value_name = "STR", group = "what")]
    line: Option<String>,
    /// A log of commands, one JSON object a line (`argv` or `line`, `cwd`): how many would ask
    #[arg(long, value_name = "FILE", group = "what")]
    replay: Option<PathBuf>,
    /// A command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD", group = "what")]
    pub(crate) command: Vec<OsString>,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    decision: &'static str,
    opaque: bool,
    reason: &'a str,
    parts: Vec<AnsweredPart<'a>>,
}

#[derive(Debug, Serialize)]
struct AnsweredPart<'a> {
    kind: &'static str,
    argv: &'a [String],
    decision: &'static str,
    rule: Option<AnsweredRule<'a>>,
}

#[derive(Debug, Serialize)]
struct AnsweredRule<'a> {
    source: &'a str,
    prefix: &'a str,
    decision: &'static str,
    reason: Option<&'a str>,
}

/// Prints the decision; the value is the exit status.
pub(crate) fn run(arguments: &CheckArgs) -> Result<u8, Failure> {
    let misused = |failure: Failure| failure.with_status(MISUSED);
    boundary::without_events(&arguments.boundary).map_err(misused)?;
    let env = boundary::surroundings(&arguments.boundary).map_err(misused)?;
    let request = boundary::request(&arguments.boundary).map_err(misused)?;
    let loaded = stockade_config::load(&env, &request);
    let loaded = loaded.map_err(|error| misused(error.into()))?;
    boundary::announce(&arguments.boundary, &loaded, None, &env);
    if let Some(path) = &arguments.replay {
        return replay::replay(path, &loaded, arguments.json);
    }
    let rules = loaded.rule_set();
    // What is not UTF-8 is no word of any rule, before and after.
    let words = arguments.command.iter().map(|word| word.to_string_lossy().into_owned());
    let judgement = match &arguments.line {
        Some(line) => rules.evaluate_line(line),
        None => rules.evaluate_argv(&words.collect::<Vec<_>>()),
    };
    let bounds = Bounds::new(loaded.policy.clone(), loaded.unprotected.clone());
    let judgement = judgement.with_outside(|path| bounds.is_outside(Path::new(path)));
    let ruling = judge(&judgement, loaded.policy.mode, loaded.approval);
    let printed =
        if arguments.json { ui::json(&answer(&ruling, &loaded)) } else { print(&ruling, &loaded) };
    printed.map_err(|error| {
        Failure::new(format!("cannot print the decision: {error}"), "").with_status(FAILED)
    })?;
    if !arguments.boundary.quiet {
        tell_answers(&ruling, &loaded);
    }
    Ok(match ruling.verdict {
        Verdict::Allow => 0,
        Verdict::Ask => ASK,
        Verdict::Deny => DENY,
    })
}

/// Says where a person has answered for the project what a rule asks here: the rules are as they are.
fn tell_answers(ruling: &Ruling, loaded: &Loaded) {
    let asks = |part: &&Part| part.verdict == Some(Verdict::Ask);
    let base = |name: &str| Path::new(name).file_name().map(OsStr::to_owned);
    let answers = loaded.answered_rules();
    for part in ruling.parts.iter().filter(asks) {
        let is_to_it = |answer: &&stockade_config::AnsweredRule| {
            let (Some((program, words)), Some((named, rest))) =
                (part.argv.split_first(), answer.prefix.split_first())
            else {
                return false;
            };
            part.rule.as_ref().is_some_and(|rule| rule.prefix == answer.rule)
                && base(program) == base(named)
                && words.starts_with(rest)
        };
        for answer in answers.iter().filter(is_to_it) {
            let (words, place) = (on_one_line(&answer.prefix.join(" ")), &answer.place);
            let text = format!("a thread does not ask about `{words} …`: you answered ({place})");
            ui::say("stockade", &text);
        }
    }
}

fn answer<'a>(ruling: &'a Ruling, loaded: &Loaded) -> Answer<'a> {
    let part = |part: &'a Part| AnsweredPart {
        kind: match part.kind {
            PartKind::Command => "command",
            PartKind::Write => "write",
            PartKind::Opaque(_) => "opaque",
        },
        argv: &part.argv,
        decision: part.decision(loaded.policy.mode, loaded.approval).word(),
        rule: part.rule.as_ref().zip(part.verdict).map(|(rule, verdict)| AnsweredRule {
            source: &rule.source,
            prefix: &rule.prefix,
            decision: verdict.word(),
            reason: rule.reason.as_deref(),
        }),
    };
    Answer {
        decision: ruling.verdict.word(),
        opaque: ruling.is_opaque,
        reason: &ruling.reason,
        parts: ruling.parts.iter().map(part).collect(),
    }
}

/// The decision and its reason, then a line for each part.
fn print(ruling: &Ruling, loaded: &Loaded) -> std::io::Result<()> {
    ui::line(&format!("{}: {}", ruling.verdict.word(), on_one_line(&ruling.reason)))?;
    ruling.parts.iter().try_for_each(|part| {
        let decision = part.decision(loaded.policy.mode, loaded.approval).word();
        let shown = on_one_line(&part.argv.join(" "));
        ui::line(&format!("  {decision:<5}  {shown}  ({})", because(part)))
    })
}

/// By what a part is decided: the rule with its place, or what the part is.
fn because(part: &Part) -> String {
    match (&part.rule, part.kind) {
        (Some(RuleRef { prefix, source, .. }), _) => {
            on_one_line(&format!("rule \"{prefix}\", {source}"))
        }
        (None, PartKind::Write) if part.is_outside => {
            "written by a redirection, outside what may be written".to_owned()
        }
        (None, PartKind::Write) => "written by a redirection".to_owned(),
        (None, PartKind::Opaque(why)) => format!("opaque: {why}"),
        (None, PartKind::Command) if part.reads_only => "only reads".to_owned(),
        (None, PartKind::Command) => "no rule".to_owned(),
    }
}

/// A command may hold line breaks, and one of its lines could look like a decision.
fn on_one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}
