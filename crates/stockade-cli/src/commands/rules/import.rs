//! Taking over the rules of another tool.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use stockade_config::{GrantText, NewRule, Prefix, check_rules, rules_as_text};
use stockade_policy::Verdict;
use stockade_rules::{Imported, ImportedRule};

use super::list::Listed;
use super::{FAILED, MISUSED, Target, printed, say_backup, surroundings};
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade rules import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    target: Target,
    /// Print the rules as TOML, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The file: calls of `prefix_rule`, `host_executable`, `network_rule`
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Answer {
    file: Option<String>,
    backup: Option<String>,
    rules: Vec<Listed>,
    network: Vec<Network>,
}

#[derive(Debug, Serialize)]
struct Network {
    line: usize,
    host: String,
    protocol: String,
    decision: &'static str,
}

/// Writes them into the user's file, or shows them.
pub(super) fn import(arguments: &ImportArgs) -> Result<u8, Failure> {
    let file = &arguments.file;
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(format!("cannot read `{}`: {error}", file.display()), "").with_status(FAILED)
    })?;
    let (text, imported, rules) = translated(file, &text)?;
    // Each with its examples, before anything is written.
    let read =
        check_rules(file, &text).map_err(|error| Failure::from(error).with_status(MISUSED))?;
    let mut answer = Answer {
        file: None,
        backup: None,
        rules: read.iter().map(Listed::of).collect(),
        network: imported.network.iter().map(network).collect(),
    };
    if !arguments.dry_run && !rules.is_empty() {
        let target = arguments.target.file(&surroundings()?)?;
        let edited = target.add(&rules);
        let edited = edited.map_err(|error| Failure::from(error).with_status(MISUSED))?;
        answer.file = Some(edited.path.display().to_string());
        answer.backup = edited.backup.as_ref().map(|path| path.display().to_string());
        answer.rules = edited.rules.iter().map(Listed::of).collect();
        if !arguments.target.json {
            say_backup(&edited);
        }
    }
    if arguments.target.json {
        printed(ui::json(&answer))?;
        return Ok(0);
    }
    if arguments.dry_run {
        printed(text.lines().try_for_each(ui::line))?;
    } else {
        let place = answer.file.as_deref().unwrap_or("nowhere");
        printed(ui::line(&format!("imported: {} rules into {place}", answer.rules.len())))?;
    }
    tell_differences(&answer, &rules);
    Ok(0)
}

/// What means something else here than where the rules come from.
fn tell_differences(answer: &Answer, rules: &[NewRule]) {
    if rules.iter().any(|rule| rule.decision == Verdict::Allow) {
        ui::say("stockade", "a rule that allows runs a command unasked, inside the boundary");
    }
    for Network { line, host, protocol, decision } in &answer.network {
        let text = format!(
            "line {line}: not taken over: {decision} {protocol} {host}; hosts are the affair of `[network]`"
        );
        ui::say("warning", &text);
    }
}

fn network(rule: &stockade_rules::NetworkRule) -> Network {
    Network {
        line: rule.line,
        host: rule.host.clone(),
        protocol: rule.protocol.clone(),
        decision: if rule.is_allowed { "allow" } else { "deny" },
    }
}

/// The rules of a file of the other form: as configuration, as they were found, and as they are to
/// be written.
pub(super) fn translated(
    file: &Path,
    text: &str,
) -> Result<(String, Imported, Vec<NewRule>), Failure> {
    let imported = stockade_rules::import(text).map_err(|error| {
        let text = format!("{}:{}:{}: {}", file.display(), error.line, error.column, error.what);
        Failure::new(text, "nothing was taken over").with_status(MISUSED)
    })?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let rule = |rule: &ImportedRule| NewRule {
        prefix: Prefix::Words(rule.prefix.clone()),
        decision: rule.verdict,
        reason: rule.reason.clone(),
        grant: GrantText::default(),
        expires: None,
        examples: rule.examples.clone(),
        counterexamples: rule.counterexamples.clone(),
        comment: Some(format!("from {name}:{}", rule.line)),
    };
    let rules: Vec<NewRule> = imported.rules.iter().map(rule).collect();
    Ok((rules_as_text(&rules), imported, rules))
}
