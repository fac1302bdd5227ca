//! What rules there are, and whether they hold what their examples say.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stockade_config::{
    AnsweredEntry, AnsweredKind, AnsweredRule, Env, Layer, Loaded, RuleText, check_rules,
    rules_as_text,
};
use stockade_threads::approvals::{OpenGrant, open_grants};
use stockade_threads::hits::Hits;
use stockade_threads::store::Store;

use super::{FAILED, MISUSED, loaded, printed, words};
use crate::cli::BoundaryArgs;
use crate::commands::keep;
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade rules list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// What you have allowed for the rest of threads and runs that are alive, and nothing else
    #[arg(long)]
    grants: bool,
}

/// Flags of `stockade rules test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A file of rules: TOML, or `*.rules` of another tool
    file: Option<PathBuf>,
}

/// One rule, as scripts read it.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    source: String,
    prefix: String,
    decision: &'static str,
    reason: Option<String>,
    scope: &'static str,
    author: &'static str,
    expires: Option<String>,
    expired: bool,
    grant: ListedGrant,
    examples: usize,
    hits: u64,
    last_hit: Option<String>,
}

/// A host or a path that is allowed for the project by an answer.
#[derive(Debug, Serialize)]
pub(super) struct EntryText<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

impl<'a> EntryText<'a> {
    pub(super) fn of(AnsweredEntry { kind, entry, place }: &'a AnsweredEntry) -> Self {
        let is = |wanted: AnsweredKind| (*kind == wanted).then_some(entry.as_str());
        Self { source: place, host: is(AnsweredKind::Host), path: is(AnsweredKind::Path) }
    }
}

/// An answer to a rule that asks.
#[derive(Debug, Serialize)]
pub(super) struct AnswerText<'a> {
    source: &'a str,
    answers: &'a str,
    prefix: &'a [String],
}

impl<'a> AnswerText<'a> {
    pub(super) fn of(AnsweredRule { rule, prefix, place }: &'a AnsweredRule) -> Self {
        Self { source: place, answers: rule, prefix }
    }
}

/// One of them in the list.
#[derive(Debug, Serialize)]
struct Answered<T> {
    #[serde(flatten)]
    text: T,
    decision: &'static str,
    scope: &'static str,
    author: &'static str,
}

impl<T> Answered<T> {
    fn of(text: T) -> Self {
        Self { text, decision: "allow", scope: "project", author: "answer" }
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Either<'a> {
    Answer(Answered<AnswerText<'a>>),
    Rule(&'a Listed),
    Entry(Answered<EntryText<'a>>),
}

#[derive(Debug, Serialize)]
struct ListedGrant {
    paths: Vec<String>,
    hosts: Vec<String>,
    ports: Vec<u16>,
}

impl Listed {
    /// Without counts.
    pub(super) fn of(rule: &RuleText) -> Self {
        Self {
            source: rule.place.clone(),
            prefix: words(rule),
            decision: rule.decision.word(),
            reason: rule.reason.clone(),
            scope: rule.scope().as_str(),
            author: match rule.layer {
                Layer::System | Layer::Requirements => "system",
                Layer::Codex => "codex",
                Layer::User | Layer::Profile => "user",
                Layer::Project | Layer::Trusted => "project",
                Layer::Answers => "answer",
                Layer::Option => "option",
            },
            expires: rule.expires.as_ref().map(|end| end.as_str().to_owned()),
            expired: false,
            grant: ListedGrant {
                paths: rule.grant.paths.clone(),
                hosts: rule.grant.hosts.clone(),
                ports: rule.grant.ports.clone(),
            },
            examples: rule.examples.len() + rule.counterexamples.len(),
            hits: 0,
            last_hit: None,
        }
    }

    /// `deny   docker  (config.toml:12; user; 3 times; until 2030-12-31): reason`.
    fn line(&self) -> String {
        let times = match self.hits {
            0 => "never matched".to_owned(),
            1 => "matched once".to_owned(),
            count => format!("matched {count} times"),
        };
        let mut facts = vec![self.source.clone(), self.scope.to_owned(), times];
        if let Some(expires) = &self.expires {
            let word = if self.expired { "over since" } else { "until" };
            facts.push(format!("{word} {expires}"));
        }
        let ListedGrant { paths, hosts, ports } = &self.grant;
        let ports = ports.iter().map(|port| format!("localhost:{port}"));
        let opens: Vec<String> = paths.iter().chain(hosts).cloned().chain(ports).collect();
        if !opens.is_empty() {
            facts.push(format!("opens {}", opens.join(", ")));
        }
        let reason = self.reason.as_ref().map_or_else(String::new, |text| format!(": {text}"));
        let line = format!("{:<5}  {}  ({}){reason}", self.decision, self.prefix, facts.join("; "));
        line.replace('\n', "\\n")
    }
}

/// Lists them, in the order in which they are read; those that are over come last.
pub(super) fn list(arguments: &ListArgs) -> Result<u8, Failure> {
    if arguments.grants {
        let grants = grants(&super::surroundings()?)?;
        if arguments.json {
            printed(ui::json(&grants))?;
        } else if grants.is_empty() {
            ui::say("stockade", "nothing is allowed for the rest of a thread that is alive");
        } else {
            printed(grants.iter().try_for_each(|grant| ui::line(&grant_line(grant))))?;
        }
        return Ok(0);
    }
    let (env, loaded) = loaded(&arguments.boundary)?;
    let hits = env.state_folder().map(|state| Hits::of(&state).all()).unwrap_or_default();
    let listed = |rule: &RuleText, expired: bool| {
        let hit = rule.rule().map(|rule| Hits::get(&hits, &rule.named())).unwrap_or_default();
        let last_hit = (hit.count > 0).then_some(hit.last);
        Listed { expired, hits: hit.count, last_hit, ..Listed::of(rule) }
    };
    let active = loaded.rules.iter().map(|rule| listed(rule, false));
    let expired = loaded.expired.iter().map(|rule| listed(rule, true));
    let all: Vec<Listed> = active.chain(expired).collect();
    let answered = answered(&env, &loaded)?;
    let answers = answers(&env, &loaded)?;
    if arguments.json {
        let entry = |entry| Either::Entry(Answered::of(EntryText::of(entry)));
        let answer = |answer| Either::Answer(Answered::of(AnswerText::of(answer)));
        let all = all.iter().map(Either::Rule).chain(answered.iter().map(entry));
        let all = all.chain(answers.iter().map(answer));
        printed(ui::json(&all.collect::<Vec<_>>()))?;
    } else {
        printed(all.iter().try_for_each(|rule| ui::line(&rule.line())))?;
        printed(answered.iter().try_for_each(|entry| ui::line(&entry_line(entry))))?;
        printed(answers.iter().try_for_each(|answer| ui::line(&answer_line(answer))))?;
        let grants = grants(&env)?;
        printed(grants.iter().try_for_each(|grant| ui::line(&grant_line(grant))))?;
    }
    Ok(0)
}

/// The hosts and paths that you have allowed for the project by answers.
pub(super) fn answered(env: &Env, loaded: &Loaded) -> Result<Vec<AnsweredEntry>, Failure> {
    let file = keep::answers(env, loaded.policy.workspace.as_path());
    let answered = file.map_or(Ok(Vec::new()), |file| file.answered());
    answered.map_err(|error| Failure::from(error).with_status(FAILED))
}

/// `allow  host example.org:443  (projects/x.toml:3; project)`.
fn entry_line(AnsweredEntry { kind, entry, place }: &AnsweredEntry) -> String {
    format!("{:<5}  {} {entry}  ({place}; project)", "allow", kind.word())
}

/// What you have answered for the project to rules that ask.
pub(super) fn answers(env: &Env, loaded: &Loaded) -> Result<Vec<AnsweredRule>, Failure> {
    let file = keep::answers(env, loaded.policy.workspace.as_path());
    let answers = file.map_or(Ok(Vec::new()), |file| file.answered_rules());
    answers.map_err(|error| Failure::from(error).with_status(FAILED))
}

/// `allow  git push …, which rule "git push" asks about  (projects/x.toml:3; project)`.
pub(super) fn answer_line(AnsweredRule { rule, prefix, place }: &AnsweredRule) -> String {
    let words = prefix.join(" ");
    let line = format!("allow  {words} …, about which rule \"{rule}\" asks  ({place}; project)");
    line.replace('\n', "\\n")
}

/// What was allowed for the rest of threads that are alive; nothing where no thread was ever.
pub(super) fn grants(env: &Env) -> Result<Vec<OpenGrant>, Failure> {
    let Some(root) = env.state_folder().filter(|root| root.exists()) else { return Ok(Vec::new()) };
    let grants = Store::open(&root).and_then(|store| open_grants(&store));
    grants.map_err(|error| Failure::from(error).with_status(FAILED))
}

/// `allow  write /a/b  (THREAD:g1; thread)`.
fn grant_line(grant: &OpenGrant) -> String {
    let text = grant.text().replace('\n', "\\n");
    format!("{:<5}  {text}  ({}; thread)", "allow", grant.id)
}

#[derive(Debug, Serialize)]
struct Tested {
    rules: usize,
    examples: usize,
}

/// Reads rules with their examples, which is what a start does.
pub(super) fn test(arguments: &TestArgs) -> Result<u8, Failure> {
    let rules = match &arguments.file {
        None => loaded(&arguments.boundary)?.1.rules,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                let text = format!("cannot read `{}`: {error}", file.display());
                Failure::new(text, "").with_status(MISUSED)
            })?;
            let text = if file.extension().is_some_and(|end| end == "rules") {
                rules_as_text(&super::import::translated(file, &text)?.1, &[])
            } else {
                text
            };
            check_rules(file, &text).map_err(|error| Failure::from(error).with_status(FAILED))?
        }
    };
    let examples = rules.iter().map(|rule| rule.examples.len() + rule.counterexamples.len()).sum();
    let tested = Tested { rules: rules.len(), examples };
    if arguments.json {
        printed(ui::json(&tested))?;
    } else {
        let Tested { rules, examples } = tested;
        let ends = |count: usize| if count == 1 { "" } else { "s" };
        let (rule, example) = (ends(rules), ends(examples));
        printed(ui::line(&format!("{rules} rule{rule}, {examples} example{example}: all hold")))?;
    }
    Ok(0)
}
