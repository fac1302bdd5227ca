//! `stockade approvals`: open questions, from another terminal.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use stockade_config::Env;
use stockade_threads::approvals::{
    AnswerError, Client, GivenAnswer, OpenQuestion, answer, find_question, open_questions,
};
use stockade_threads::store::{Store, StoreError};

use crate::failure::Failure;
use crate::ui;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// How often somebody who waits looks again, in nanoseconds.
const TURN: i64 = 100_000_000;
/// How often in a row it may not be able to look.
const FAILED_TURNS: u32 = 100;

/// Flags of `stockade approvals`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ApprovalsArgs {
    #[command(subcommand)]
    verb: Option<ApprovalsVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum ApprovalsVerb {
    /// Open questions of all threads, oldest first
    List(ListArgs),
    /// Answer one
    Answer(AnswerArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print one JSON array; with `--wait`, one object a line
    #[arg(long)]
    json: bool,
    /// Stay, and show each question as it comes; threads without a terminal then wait for answers
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct AnswerArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// For `thread` and `project`: the number of one of the beginnings, or words
    #[arg(long, value_name = "N|WORDS")]
    prefix: Option<String>,
    /// The question, as the list shows it: `THREAD:qN`, or `qN` alone
    id: String,
    /// `once`, `thread`, `project`, `deny`
    #[arg(value_parser = ["once", "thread", "project", "deny"])]
    answer: String,
    /// For `deny`: a word to the agent
    word: Vec<String>,
}

/// Does it; the value is the exit status.
pub(crate) fn run(arguments: &ApprovalsArgs) -> Result<u8, Failure> {
    let env = Env::snapshot().map_err(|error| {
        let text = format!("cannot find the current folder: {error}");
        Failure::new(text, "").with_status(FAILED)
    })?;
    let root: PathBuf = env.state_folder().ok_or_else(|| {
        let text = "no place for questions of threads: no home is known";
        Failure::new(text, "set `HOME`").with_status(FAILED)
    })?;
    let store = Store::open(&root).map_err(of_store)?;
    match &arguments.verb {
        None => list(&store, &arguments.list),
        Some(ApprovalsVerb::List(arguments)) => list(&store, arguments),
        Some(ApprovalsVerb::Answer(arguments)) => give(&store, arguments),
    }
}

fn list(store: &Store, arguments: &ListArgs) -> Result<u8, Failure> {
    if arguments.wait {
        return wait(store, arguments.json);
    }
    let open = open_questions(store).map_err(of_store)?;
    if arguments.json {
        printed(ui::json(&open))?;
    } else if open.is_empty() {
        ui::say("stockade", "no question is open");
    } else {
        open.iter().try_for_each(show)?;
    }
    Ok(0)
}

/// Shows each question once, until a signal ends it.
fn wait(store: &Store, json: bool) -> Result<u8, Failure> {
    let _client = Client::register(store).map_err(of_store)?;
    let mut seen: Vec<String> = Vec::new();
    let turn = rustix::event::Timespec { tv_sec: 0, tv_nsec: TURN };
    let mut failed = 0;
    loop {
        let open = match open_questions(store) {
            Ok(open) => open,
            // What cannot be read now may be in the making, and somebody waits for an answer.
            Err(_) if failed < FAILED_TURNS => {
                failed += 1;
                rustix::event::poll(&mut [], Some(&turn)).ok();
                continue;
            }
            Err(error) => return Err(of_store(error)),
        };
        failed = 0;
        for question in open.iter().filter(|question| !seen.contains(&question.id)) {
            if json {
                printed(ui::json(question))?;
            } else {
                show(question)?;
            }
        }
        seen = open.into_iter().map(|question| question.id).collect();
        rustix::event::poll(&mut [], Some(&turn)).ok();
    }
}

fn show(question: &OpenQuestion) -> Result<(), Failure> {
    let width = ui::columns().map(|width| width.saturating_sub(question.id.len()));
    let effect = ui::question::shown(&question.action, &question.effect, width);
    printed(ui::line(&format!("{}  {effect}", question.id)))?;
    let choices = question.choices.join(", ");
    for (number, prefix) in (1..).zip(&question.prefixes) {
        let words = prefix.join(" ").replace('\n', "\\n");
        printed(ui::line(&format!("  --prefix {number}: `{words} …`")))?;
    }
    for (number, entry) in (1..).zip(&question.hosts) {
        printed(ui::line(&format!("  project --prefix {number}: `{entry}`")))?;
    }
    for (number, path) in (1..).zip(&question.paths) {
        let path = path.replace('\n', "\\n");
        printed(ui::line(&format!("  --prefix {number}: `{path}` and what is below it")))?;
    }
    printed(ui::line(&format!("  asked {}; answers: {choices}", question.asked)))
}

#[derive(Debug, Serialize)]
struct Answered<'a> {
    id: &'a str,
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a [String]>,
}

fn give(store: &Store, arguments: &AnswerArgs) -> Result<u8, Failure> {
    let misused = |text: &str| Err(Failure::new(text, "").with_status(MISUSED));
    let is_kept = ["thread", "project"].contains(&arguments.answer.as_str());
    if arguments.prefix.is_some() && !is_kept {
        return misused("`--prefix` goes with `thread` and `project`");
    }
    if !arguments.word.is_empty() && arguments.answer != "deny" {
        return misused("a word to the agent goes with `deny`");
    }
    let prefix = match &arguments.prefix {
        None => None,
        Some(prefix) => Some(words(store, &arguments.id, prefix)?),
    };
    let given = GivenAnswer {
        answer: arguments.answer.clone(),
        prefix,
        word: (!arguments.word.is_empty()).then(|| arguments.word.join(" ")),
    };
    let question = answer(store, &arguments.id, &given).map_err(|error| of_answer(&error))?;
    if arguments.json {
        let GivenAnswer { answer, prefix, .. } = &given;
        let prefix = prefix.as_deref();
        printed(ui::json(&Answered { id: &question.id, answer, prefix }))?;
    } else {
        printed(ui::line(&format!("answered {}: {}", question.id, given.answer)))?;
    }
    Ok(0)
}

/// The words of a prefix: one of those that are offered by its number, or as they were typed.
fn words(store: &Store, id: &str, prefix: &str) -> Result<Vec<String>, Failure> {
    let Ok(number) = prefix.parse::<usize>() else {
        return stockade_rules::split_words(prefix)
            .map_err(|error| Failure::new(format!("--prefix: {error}"), "").with_status(MISUSED));
    };
    let question = find_question(store, id).map_err(|error| of_answer(&error))?;
    let at = number.checked_sub(1);
    let entry = at.and_then(|at| question.hosts.get(at).or_else(|| question.paths.get(at)));
    let entry = entry.map(|entry| vec![entry.clone()]);
    let offered = at.and_then(|at| question.prefixes.get(at)).cloned().or(entry);
    offered.ok_or_else(|| {
        let text = format!("question `{id}` offers no beginning {number}");
        Failure::new(text, "`stockade approvals list` shows them").with_status(FAILED)
    })
}

fn of_answer(error: &AnswerError) -> Failure {
    let hint = "`stockade approvals list` shows what is open, and how it can be answered";
    Failure::of(error, FAILED, Some(hint))
}

fn of_store(error: StoreError) -> Failure {
    Failure::from(error).with_status(FAILED)
}

fn printed(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(format!("cannot print: {error}"), "").with_status(FAILED))
}
