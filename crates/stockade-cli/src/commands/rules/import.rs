//! Taking over the rules of another tool.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use stockade_config::{GrantText, NewHost, NewRule, Prefix, check_rules, rules_as_text};
use stockade_policy::Verdict;
use stockade_rules::{Imported, ImportedRule, NetworkRule, Relative};

use super::list::Listed;
use super::settings::{self, LeftOut};
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
    /// The file: calls of `prefix_rule`, `host_executable`, `network_rule`, or settings of Claude Code (`*.json`)
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Answer {
    file: Option<String>,
    backup: Option<String>,
    rules: Vec<Listed>,
    network: Vec<Network>,
    relative: Vec<ByPath>,
    left_out: Vec<LeftOut>,
}

/// A program that the file names by a path from the current folder.
#[derive(Debug, Serialize)]
struct ByPath {
    line: usize,
    program: String,
    decision: &'static str,
    /// Its name, under which it was taken over; `null` for one that was left out.
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    line: usize,
    host: String,
    protocol: String,
    decision: &'static str,
    /// Of `[network]`, where it could be taken over.
    entry: Option<String>,
    #[serde(skip)]
    why: &'static str,
}

/// Writes them into the user's file, or shows them.
pub(super) fn import(arguments: &ImportArgs) -> Result<u8, Failure> {
    let file = &arguments.file;
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(format!("cannot read `{}`: {error}", file.display()), "").with_status(FAILED)
    })?;
    let (imported, left_out) = read(file, &text)?;
    let rules = as_new(file, &imported);
    let name = name(file);
    let network: Vec<(Network, Option<NewHost>)> =
        imported.network.iter().map(|rule| taken(rule, &name, &arguments.target)).collect();
    let hosts: Vec<NewHost> = network.iter().filter_map(|(_, host)| host.clone()).collect();
    let text = rules_as_text(&rules, &hosts);
    // Each with its examples, before anything is written.
    let read =
        check_rules(file, &text).map_err(|error| Failure::from(error).with_status(MISUSED))?;
    let mut answer = Answer {
        file: None,
        backup: None,
        rules: read.iter().map(Listed::of).collect(),
        network: network.into_iter().map(|(told, _)| told).collect(),
        relative: imported.relative.iter().map(program).collect(),
        left_out,
    };
    let has_any = !rules.is_empty() || !hosts.is_empty();
    if has_any && !arguments.dry_run {
        let target = arguments.target.file(&surroundings()?)?;
        let edited = target.add_with(&rules, &hosts);
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
        let count = hosts.len();
        let plural = if count == 1 { "" } else { "s" };
        let hosts = if count > 0 { format!(" and {count} host{plural}") } else { String::new() };
        printed(ui::line(&format!("imported: {} rules{hosts} into {place}", answer.rules.len())))?;
    }
    tell_differences(&answer, &rules);
    Ok(0)
}

/// What means something else here than where the rules come from.
fn tell_differences(answer: &Answer, rules: &[NewRule]) {
    if rules.iter().any(|rule| rule.decision == Verdict::Allow) {
        ui::say("stockade", "a rule that allows runs a command unasked, inside the boundary");
    }
    for LeftOut { line, entry, why } in &answer.left_out {
        ui::say("warning", &format!("line {line}: not taken over: {entry}: {why}"));
    }
    for ByPath { line, program, decision, name } in &answer.relative {
        let why = "what allows names a program by its name or absolute path";
        match name {
            None => ui::say(
                "warning",
                &format!("line {line}: not taken over: {decision} {program}: {why}"),
            ),
            Some(name) => ui::say(
                "stockade",
                &format!("line {line}: {decision} {program}: as `{name}`, wherever it lies"),
            ),
        }
    }
    for Network { line, host, protocol, decision, entry, why } in &answer.network {
        match entry {
            None => {
                let text =
                    format!("line {line}: not taken over: {decision} {protocol} {host}: {why}");
                ui::say("warning", &text);
            }
            Some(entry) if !why.is_empty() => {
                ui::say("stockade", &format!("line {line}: {decision} {entry}: {why}"));
            }
            Some(_) => {}
        }
    }
}

/// What `rule` comes to in `[network]`: an entry of `allow` or `deny`, or why there is none.
fn taken(rule: &NetworkRule, name: &str, target: &Target) -> (Network, Option<NewHost>) {
    let NetworkRule { host, protocol, verdict, line } = rule;
    let is_denied = *verdict == Verdict::Deny;
    let is_project = target.scope == "project";
    let entry = match (verdict, protocol.as_str()) {
        (Verdict::Ask, _) => Err("a host that no entry allows is asked about in any case"),
        (_, "socks5_udp") => Err("nothing but TCP leaves the boundary"),
        (Verdict::Deny, _) if is_project => {
            Err("answers for a project hold no denials; `--scope user` does")
        }
        // The other tool knows no ports: a denial that left some open would be less than it says.
        (Verdict::Deny, "http" | "https" | "socks5_tcp") => {
            Ok((host.clone(), "at every port, whatever the protocol"))
        }
        (Verdict::Allow, "https") => Ok((format!("{host}:443"), "")),
        (Verdict::Allow, "http") => Ok((format!("{host}:80"), "")),
        (Verdict::Allow, "socks5_tcp") => Ok((format!("{host}:*"), "at every port")),
        _ => Err("this protocol is not known"),
    };
    let (new, why) = match entry {
        Ok((entry, why)) => {
            let new = NewHost::new(&entry, is_denied, format!("from {name}:{line}"));
            let why = if new.is_some() { why } else { "`[network]` has no such host" };
            (new, why)
        }
        Err(why) => (None, why),
    };
    let told = Network {
        line: *line,
        host: host.clone(),
        protocol: protocol.clone(),
        decision: verdict.word(),
        entry: new.as_ref().map(|new| new.entry().to_owned()),
        why,
    };
    (told, new)
}

fn program(relative: &Relative) -> ByPath {
    let Relative { program, verdict, line } = relative;
    let name = program.rsplit('/').next().filter(|name| !name.is_empty());
    let is_kept = *verdict != Verdict::Allow;
    ByPath {
        line: *line,
        program: program.clone(),
        decision: verdict.word(),
        name: name.filter(|_| is_kept).map(str::to_owned),
    }
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a file of another tool says, and what of it says nothing here.
fn read(file: &Path, text: &str) -> Result<(Imported, Vec<LeftOut>), Failure> {
    let wrong = |place: &str, what: &str| {
        let text = format!("{}:{place} {what}", file.display());
        Failure::new(text, "nothing was taken over").with_status(MISUSED)
    };
    if file.extension().is_some_and(|it| it == "json") {
        return settings::read(text).map_err(|error| wrong("", &error));
    }
    let imported = stockade_rules::import(text)
        .map_err(|error| wrong(&format!("{}:{}:", error.line, error.column), &error.what))?;
    Ok((imported, Vec::new()))
}

/// The rules of a file of the other form: as they were found, and as they are to be written.
pub(super) fn translated(file: &Path, text: &str) -> Result<(Imported, Vec<NewRule>), Failure> {
    let (imported, _left_out) = read(file, text)?;
    let rules = as_new(file, &imported);
    Ok((imported, rules))
}

fn as_new(file: &Path, imported: &Imported) -> Vec<NewRule> {
    let name = name(file);
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
    imported.rules.iter().map(rule).collect()
}
