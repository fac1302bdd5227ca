//! A yes for the project, kept in the user's own configuration and never in the project.

use std::path::Path;

use stockade_config::{
    AnsweredKind, ConfigError, Env, GrantText, Layer, Loaded, NewRule, Prefix, Request, RuleFile,
};
use stockade_policy::Verdict;
use stockade_threads::Kept;

/// Where answers for `workspace` are kept.
pub(super) fn answers(env: &Env, workspace: &Path) -> Option<RuleFile> {
    let path = env.answers_file(workspace)?;
    Some(RuleFile { path, layer: Layer::Answers, workspace: Some(workspace.to_owned()) })
}

/// Keeps what was allowed for the project.
pub(super) fn keep(
    env: &Env,
    loaded: &Loaded,
) -> impl Fn(Kept<'_>) -> Result<(), String> + Send + Sync + use<> {
    let workspace = loaded.policy.workspace.as_path().to_owned();
    let file = answers(env, &workspace);
    let env = env.clone();
    move |kept: Kept<'_>| {
        let file = file.as_ref().ok_or("no home is known")?;
        match kept {
            Kept::Commands(words) => {
                file.add(&[rule(words)]).map(drop).map_err(|error| said(&error))
            }
            Kept::Answer(rule, words) => answer((&env, &workspace), file, (rule, words)),
            Kept::Host(entry) => {
                with_stack(|| keep_entry((&env, &workspace), file, (AnsweredKind::Host, entry)))
            }
            Kept::Path(entry) => {
                with_stack(|| keep_entry((&env, &workspace), file, (AnsweredKind::Path, entry)))
            }
        }
    }
}

fn said(error: &ConfigError) -> String {
    error.to_string()
}

/// The threads of a network ask with a small stack, and configuration takes more.
fn with_stack(keep: impl FnOnce() -> Result<(), String> + Send) -> Result<(), String> {
    std::thread::scope(|scope| {
        let keeping = std::thread::Builder::new().spawn_scoped(scope, keep);
        let kept = keeping.map_err(|error| error.to_string())?.join();
        kept.unwrap_or_else(|_| Err("it went wrong inside".to_owned()))
    })
}

/// Keeps an answer to the rule of these words, if it counts.
fn answer(
    (env, workspace): (&Env, &Path),
    file: &RuleFile,
    (rule, words): (&str, &[String]),
) -> Result<(), String> {
    file.answer(rule, words).map_err(|error| said(&error))?;
    let counts = with_stack(|| {
        let request = Request { workspace: Some(workspace.to_owned()), ..Request::default() };
        let loaded = stockade_config::load(env, &request).map_err(|error| said(&error))?;
        let all = loaded.answered_rules();
        let is_there = all.iter().any(|it| it.rule == rule && it.prefix == words);
        is_there.then_some(()).ok_or_else(|| "this machine requires that it is asked".to_owned())
    });
    if counts.is_err() {
        let all = file.answered_rules().map_err(|error| said(&error))?;
        if let Some(kept) = all.iter().find(|it| it.rule == rule && it.prefix == words) {
            file.revoke_answer(&kept.place).map_err(|error| said(&error))?;
        }
    }
    counts
}

/// What was answered before, for whoever asks.
pub(super) fn answered(loaded: &Loaded) -> Vec<(String, Vec<String>)> {
    loaded.answered_rules().into_iter().map(|it| (it.rule, it.prefix)).collect()
}

fn keep_entry(
    (env, workspace): (&Env, &Path),
    file: &RuleFile,
    (kind, entry): (AnsweredKind, &str),
) -> Result<(), String> {
    if !file.allow(kind, entry).map_err(|error| said(&error))? {
        return Ok(());
    }
    // What the machine's requirements refuse would keep every start from happening.
    let request = Request { workspace: Some(workspace.to_owned()), ..Request::default() };
    let Err(error) = stockade_config::load(env, &request) else { return Ok(()) };
    file.revoke_entry(entry).map_err(|error| said(&error))?;
    Err(said(&error))
}

fn rule(words: &[String]) -> NewRule {
    NewRule {
        prefix: Prefix::Words(words.iter().map(|word| vec![word.clone()]).collect()),
        decision: Verdict::Allow,
        reason: None,
        grant: GrantText::default(),
        expires: None,
        examples: Vec::new(),
        counterexamples: Vec::new(),
        comment: Some("answered to a question".to_owned()),
    }
}
