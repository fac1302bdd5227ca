//! The user's rules for what anything inside the boundary executes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use stockade_agents::programs;
use stockade_config::Loaded;
use stockade_policy::{AbsPath, Mode, Verdict};
use stockade_rules::{Exec, Rule, RuleRef, RuleSet};
use stockade_sandbox::{ExecRefusal, ExecRequest, Execs, OWN_PROGRAM, Stub};

/// Where programs are looked for beside the command's own `PATH`, which a script may set anew.
const USUAL: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the rules have to say, if any of them asks or denies.
pub(super) fn held(loaded: &Loaded) -> Option<Execs> {
    let rules = loaded.rule_set();
    if !rules.holds_execs() {
        return None;
    }
    let stubs = stubs(&rules, loaded);
    Some(Execs::new(judge(rules), stubs))
}

/// The same for a thread whose boundary stays up, in a process of its own.
pub(super) fn held_in_thread(loaded: &Loaded) -> Option<Execs> {
    let rules = loaded.rule_set();
    // Without a boundary nobody can be asked but before a line begins.
    let asks = loaded.policy.mode != Mode::DangerFullAccess;
    let holds = |rule: &&Rule| match rule.verdict() {
        Verdict::Deny => true,
        Verdict::Ask => asks,
        Verdict::Allow => false,
    };
    let holding: Vec<Handed> = rules.rules().iter().filter(holds).map(Handed::of).collect();
    if holding.is_empty() {
        return None;
    }
    let text = serde_json::to_vec(&holding).expect("invariant: texts in lists are JSON");
    // What the other process will judge by, not what would be the same.
    revive(&text, stubs(&rules, loaded))
}

/// One rule on its way to the process that holds a boundary; its examples were checked here.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    prefix: Vec<Vec<String>>,
    asks: bool,
    reason: Option<String>,
    source: String,
}

impl Handed {
    fn of(rule: &Rule) -> Self {
        let RuleRef { reason, source, .. } = rule.named();
        let asks = rule.verdict() == Verdict::Ask;
        Self { prefix: rule.prefix().to_vec(), asks, reason, source }
    }
}

/// The judge by rules that were handed over.
pub(crate) fn revive(text: &[u8], stubs: Vec<Stub>) -> Option<Execs> {
    let handed: Vec<Handed> = serde_json::from_slice(text).ok()?;
    let rules = handed.into_iter().map(|Handed { prefix, asks, reason, source }| {
        let verdict = if asks { Verdict::Ask } else { Verdict::Deny };
        Some(Rule::new(prefix, verdict, source).ok()?.with_reason(reason))
    });
    let rules = RuleSet::new(rules.collect::<Option<_>>()?).ok()?;
    let judge = judge(rules);
    let has_begun = AtomicBool::new(false);
    // The first program is the hands: what a rule says of Stockade itself is not meant for them.
    let judge = move |request: &ExecRequest<'_>| {
        let is_first = !has_begun.swap(true, Ordering::Relaxed);
        if is_first && request.asked == OWN_PROGRAM { None } else { judge(request) }
    };
    Some(Execs::new(judge, stubs).handed(text.to_vec()))
}

fn judge(rules: RuleSet) -> impl Fn(&ExecRequest<'_>) -> Option<ExecRefusal> + Send + Sync {
    move |request: &ExecRequest<'_>| {
        let ExecRequest { asked, file, argv } = *request;
        let (verdict, rule) = rules.judge_exec(Exec { asked, file, argv })?;
        let asks = verdict == Verdict::Ask;
        Some(ExecRefusal { line: line(verdict, &rule), decided_by: rule.decided(), asks })
    }
}

/// What the program that was refused, and its user, are told.
fn line(verdict: Verdict, rule: &RuleRef) -> String {
    let does = match verdict {
        Verdict::Ask => "asks about this command, and nobody can be asked here",
        Verdict::Deny | Verdict::Allow => "denies this command",
    };
    let reason = rule.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (prefix, source) = (&rule.prefix, &rule.source);
    format!("stockade: refused: rule \"{prefix}\" ({source}) {does}{reason}; do not work around it")
}

/// Stubs for the programs that are denied whatever they are told.
///
/// Only a file that bears the program's own name: one that a link of that name leads to may be many
/// programs at once (busybox, rustup). Nor one that can be written inside, where a name is no
/// promise.
fn stubs(rules: &RuleSet, loaded: &Loaded) -> Vec<Stub> {
    let path = loaded.environment.iter().find(|(name, _)| name == "PATH");
    let own = path.map(|(_, path)| std::env::split_paths(path)).into_iter().flatten();
    let folders: Vec<PathBuf> = own.chain(USUAL.map(PathBuf::from)).collect();
    let folder = loaded.policy.workspace.as_path();
    let mut seen = BTreeSet::new();
    let mut stubs = Vec::new();
    for (name, rule) in rules.denied_programs() {
        let name = OsStr::from_bytes(name.as_bytes());
        // An absolute name replaces the folder it is joined to.
        for candidate in folders.iter().map(|entry| folder.join(entry).join(name)) {
            let Ok(file) = candidate.canonicalize() else { continue };
            let is_writable =
                loaded.policy.writable.iter().any(|root| file.starts_with(root.as_path()));
            if is_writable || file.file_name() != Path::new(name).file_name() {
                continue;
            }
            if programs::is_program(&file)
                && let Ok(path) = AbsPath::new(&file)
                && seen.insert(file)
            {
                stubs.push(Stub { path, text: line(Verdict::Deny, &rule) });
            }
        }
    }
    stubs
}
