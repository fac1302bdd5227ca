//! Adding a rule, and taking one out.

use clap::Args;
use serde::Serialize;
use stockade_config::{
    AnsweredEntry, AnsweredRule, Edited, Env, GrantText, Layer, Loaded, NewRule, Prefix, RuleFile,
    RuleText,
};
use stockade_policy::Verdict;
use stockade_threads::approvals::revoke_grant;
use stockade_threads::store::Store;

use super::list::{AnswerText, EntryText, Listed, answer_line, answered, answers, grants};
use super::{FAILED, MISUSED, Target, loaded, printed, say_backup, surroundings, words};
use crate::cli::BoundaryArgs;
use crate::commands::keep;
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade rules add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    target: Target,
    /// What becomes of such commands
    #[arg(long, value_name = "DECISION", value_parser = ["allow", "ask", "deny"])]
    decision: Option<String>,
    /// What is told when the rule decides
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Until when it holds: a date, or a date with a time
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// A path that an approval makes writable
    #[arg(long, value_name = "PATH")]
    grant_path: Vec<String>,
    /// A host that an approval opens
    #[arg(long, value_name = "HOST")]
    grant_host: Vec<String>,
    /// A port of the host's loopback that an approval opens
    #[arg(long, value_name = "PORT")]
    grant_port: Vec<u16>,
    /// A command line that the rule must match
    #[arg(long = "match", value_name = "LINE")]
    examples: Vec<String>,
    /// A command line that it must not
    #[arg(long = "not-match", value_name = "LINE")]
    counterexamples: Vec<String>,
    /// The beginning of a command: words, or one string that is split as a shell does
    #[arg(trailing_var_arg = true, required = true, value_name = "WORD")]
    prefix: Vec<String>,
}

/// Flags of `stockade rules revoke`.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// `FILE:LINE` as `rules list` shows it, the end of that, or the words of the rule; `THREAD:gN` for
    /// what you have allowed for the rest of a thread
    rule: String,
}

#[derive(Debug, Serialize)]
struct Changed {
    file: String,
    backup: Option<String>,
    rules: Vec<Listed>,
}

impl Changed {
    fn of(edited: &Edited) -> Self {
        Self {
            file: edited.path.display().to_string(),
            backup: edited.backup.as_ref().map(|path| path.display().to_string()),
            rules: edited.rules.iter().map(Listed::of).collect(),
        }
    }
}

/// Adds one rule.
pub(super) fn add(arguments: &AddArgs) -> Result<u8, Failure> {
    // What follows the first word is the command's, whatever it looks like.
    let decision = arguments.decision.as_deref().ok_or_else(|| {
        let hint = "options stand before the words: `stockade rules add --decision deny git push`";
        Failure::new("`--decision` is missing".to_owned(), hint).with_status(MISUSED)
    })?;
    let env = surroundings()?;
    let file = arguments.target.file(&env)?;
    let prefix = match arguments.prefix.as_slice() {
        [line] => Prefix::Line(line.clone()),
        words => Prefix::Words(words.iter().map(|word| vec![word.clone()]).collect()),
    };
    let rule = NewRule {
        prefix,
        decision: match decision {
            "allow" => Verdict::Allow,
            "ask" => Verdict::Ask,
            _ => Verdict::Deny,
        },
        reason: arguments.reason.clone(),
        grant: GrantText {
            paths: arguments.grant_path.clone(),
            hosts: arguments.grant_host.clone(),
            ports: arguments.grant_port.clone(),
        },
        expires: arguments.expires.clone(),
        examples: arguments.examples.clone(),
        counterexamples: arguments.counterexamples.clone(),
        comment: None,
    };
    let edited = file.add(&[rule]).map_err(|error| Failure::from(error).with_status(MISUSED))?;
    tell(&edited, "added", arguments.target.json)
}

/// Takes one rule out.
pub(super) fn revoke(arguments: &RevokeArgs) -> Result<u8, Failure> {
    if let Some(done) = revoke_granted(arguments)? {
        return Ok(done);
    }
    let (env, loaded) = loaded(&arguments.boundary)?;
    let wanted = &arguments.rule;
    if let Some(done) = revoke_answered((&env, &loaded), arguments)? {
        return Ok(done);
    }
    if let Some(done) = revoke_answer((&env, &loaded), arguments)? {
        return Ok(done);
    }
    let is_meant = |rule: &&RuleText| stands_at(&rule.place, wanted) || words(rule) == *wanted;
    let found: Vec<&RuleText> =
        loaded.rules.iter().chain(&loaded.expired).filter(is_meant).collect();
    let rule = match found.as_slice() {
        [rule] => *rule,
        [] => {
            let hint = "`stockade rules list` shows all, and where each stands";
            let text = format!("there is no rule `{wanted}` here");
            return Err(Failure::new(text, hint).with_status(FAILED));
        }
        several => {
            let places: Vec<&str> = several.iter().map(|rule| rule.place.as_str()).collect();
            let text = format!("`{wanted}` may be {} rules", several.len());
            let hint = format!("name one by where it stands: {}", places.join(", "));
            return Err(Failure::new(text, hint).with_status(FAILED));
        }
    };
    let elsewhere = match rule.layer {
        Layer::Option => "stands in `-c` and holds for this command only",
        Layer::Codex => "stands in Codex' own file; take it out there",
        Layer::Requirements => "is a requirement of this machine",
        Layer::System
        | Layer::User
        | Layer::Profile
        | Layer::Project
        | Layer::Trusted
        | Layer::Answers => "",
    };
    if !elsewhere.is_empty() {
        return Err(Failure::new(format!("`{wanted}` {elsewhere}"), "").with_status(FAILED));
    }
    let path = rule.place.rsplit_once(':').map_or(rule.place.as_str(), |(path, _)| path);
    let file = RuleFile { path: path.into(), layer: rule.layer, workspace: None };
    let edited = file.revoke(&rule.place);
    let edited = edited.map_err(|error| Failure::from(error).with_status(FAILED))?;
    tell(&edited, "revoked", arguments.json)
}

/// Whether `place` is called `wanted`: by its whole name, or the last parts of it.
fn stands_at(place: &str, wanted: &str) -> bool {
    let before = place.strip_suffix(wanted);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// Takes an answer to a rule back, if one is meant: by its place, or by its words where no rule has them.
fn revoke_answer(
    (env, loaded): (&Env, &Loaded),
    arguments: &RevokeArgs,
) -> Result<Option<u8>, Failure> {
    let wanted = arguments.rule.as_str();
    let is_meant = |answer: &AnsweredRule| {
        stands_at(&answer.place, wanted)
            || (answer.prefix.join(" ") == wanted
                && !loaded.rules.iter().any(|rule| words(rule) == wanted))
    };
    let Some(answer) = answers(env, loaded)?.into_iter().find(is_meant) else { return Ok(None) };
    let Some(file) = keep::answers(env, loaded.policy.workspace.as_path()) else {
        return Ok(None);
    };
    let revoked = file.revoke_answer(&answer.place);
    let revoked = revoked.map_err(|error| Failure::from(error).with_status(FAILED))?;
    if arguments.json {
        printed(ui::json(&AnswerText::of(&revoked)))?;
    } else {
        printed(ui::line(&format!("revoked: {}", answer_line(&revoked))))?;
    }
    Ok(Some(0))
}

/// Takes a host or path back that an answer allowed for the project, if one is meant.
fn revoke_answered(
    (env, loaded): (&Env, &Loaded),
    arguments: &RevokeArgs,
) -> Result<Option<u8>, Failure> {
    let wanted = arguments.rule.as_str();
    let is_meant = |entry: &AnsweredEntry| entry.entry == wanted || stands_at(&entry.place, wanted);
    let Some(entry) = answered(env, loaded)?.into_iter().find(is_meant) else { return Ok(None) };
    let Some(file) = keep::answers(env, loaded.policy.workspace.as_path()) else {
        return Ok(None);
    };
    let revoked = file.revoke_entry(&entry.place);
    let revoked = revoked.map_err(|error| Failure::from(error).with_status(FAILED))?;
    if arguments.json {
        printed(ui::json(&EntryText::of(&revoked)))?;
    } else {
        let AnsweredEntry { kind, entry, place } = &revoked;
        let word = kind.word();
        printed(ui::line(&format!("revoked: allow {word} {entry}  ({place})")))?;
    }
    Ok(Some(0))
}

/// Takes a grant of a thread back, if one is meant: by the form of its name, or because there is one of
/// just these words.
fn revoke_granted(arguments: &RevokeArgs) -> Result<Option<u8>, Failure> {
    let wanted = &arguments.rule;
    let number = wanted.rsplit(':').next().and_then(|end| end.strip_prefix('g'));
    let is_name = number.is_some_and(|number| number.parse::<u32>().is_ok());
    let env = surroundings()?;
    if !is_name && !grants(&env)?.iter().any(|grant| grant.is_of(wanted)) {
        return Ok(None);
    }
    let root = env.state_folder().ok_or_else(|| {
        Failure::new("no place for threads: no home is known", "set `HOME`").with_status(FAILED)
    })?;
    let store = Store::open(&root).map_err(|error| Failure::from(error).with_status(FAILED))?;
    let revoked = revoke_grant(&store, wanted).map_err(|error| {
        let hint = "`stockade rules list --grants` shows them";
        Failure::new(error.to_string(), hint).with_status(FAILED)
    })?;
    if arguments.json {
        printed(ui::json(&revoked))?;
    } else {
        let text = revoked.text().replace('\n', "\\n");
        printed(ui::line(&format!("revoked: {text}  ({})", revoked.thread)))?;
    }
    Ok(Some(0))
}

/// Says what was done, and how it is taken back.
fn tell(edited: &Edited, done: &str, json: bool) -> Result<u8, Failure> {
    if json {
        printed(ui::json(&Changed::of(edited)))?;
        return Ok(0);
    }
    for rule in &edited.rules {
        let decision = rule.decision.word();
        let line = format!("{done}: {decision} {}  ({})", words(rule), rule.place);
        printed(ui::line(&line.replace('\n', "\\n")))?;
        if done == "added" {
            let back = format!("`stockade rules revoke {}` takes it back", rule.place);
            ui::say("stockade", &back);
        }
    }
    say_backup(edited);
    Ok(0)
}
