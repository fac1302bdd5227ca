//! The user's rules for what anything inside the boundary executes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_config::Loaded;
use stockade_policy::{AbsPath, Mode, Verdict};
use stockade_rules::{Exec, RuleRef, RuleSet};
use stockade_sandbox::{ExecRequest, Execs, Stub};

use super::found;
use crate::failure::Failure;

/// Where programs are looked for beside the command's own `PATH`, which a script may set anew.
const USUAL: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the rules have to say, if any of them asks or denies.
///
/// # Errors
///
/// In `danger-full-access`, where nothing holds them.
pub(super) fn held(loaded: &Loaded) -> Result<Option<Execs>, Failure> {
    let rules = loaded.rule_set();
    if !rules.holds_execs() {
        return Ok(None);
    }
    if loaded.policy.mode == Mode::DangerFullAccess {
        let strict = rules.rules().iter().find(|rule| rule.verdict() != Verdict::Allow);
        let place = strict.map(|rule| rule.named().source).unwrap_or_default();
        return Err(Failure::new(
            format!(
                "not yet: {place}: nothing holds a rule that asks or denies without a boundary"
            ),
            "take it out, or run with `--sandbox workspace-write`",
        ));
    }
    let stubs = stubs(&rules, loaded);
    let judge = move |request: &ExecRequest<'_>| {
        let ExecRequest { asked, file, argv } = *request;
        let (verdict, rule) = rules.judge_exec(Exec { asked, file, argv })?;
        Some(line(verdict, &rule))
    };
    Ok(Some(Execs::new(judge, stubs)))
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
            if found::is_program(&file)
                && let Ok(path) = AbsPath::new(&file)
                && seen.insert(file)
            {
                stubs.push(Stub { path, text: line(Verdict::Deny, &rule) });
            }
        }
    }
    stubs
}
