//! Commits and tags that git's configuration wants signed, where no key can be had.
//!
//! Keys are hidden and the agents that hold them out of reach, so a `git commit` would fail in the
//! boundary. Git is told by its environment (git-config(1), `GIT_CONFIG_COUNT`) not to sign; a program that
//! asks for a signature by itself (`git commit -S`) is told the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::git_config::{self, TEXT_MAX};
use stockade_policy::{AbsPath, Policy};

use crate::env::Env;
use crate::git_config::resolve;
use crate::locate::{canonical, is_within};

/// As many files as include each other.
const FILES_MAX: usize = 32;
/// Where keys are. Whoever has opened them has a way to sign.
const KEYS: [&str; 2] = [".gnupg", ".ssh"];
const COUNT: &str = "GIT_CONFIG_COUNT";
/// What asks for signatures, and is said to be false.
const ASKS: [(&str, &str); 4] =
    [("commit", "gpgsign"), ("tag", "gpgsign"), ("tag", "forcesignannotated"), ("push", "gpgsign")];

/// Has git sign nothing, where it would and cannot. The value is what the user is told.
pub(crate) fn leave_out(
    result: &mut BTreeMap<OsString, OsString>,
    env: &Env,
    policy: &Policy,
) -> Option<String> {
    if result.contains_key(OsStr::new(COUNT)) || has_keys(policy) {
        return None;
    }
    let (section, key) = asked(files(env, policy), env.home.as_deref())?;
    result.insert(COUNT.into(), ASKS.len().to_string().into());
    for (number, (section, key)) in ASKS.iter().enumerate() {
        result.insert(format!("GIT_CONFIG_KEY_{number}").into(), format!("{section}.{key}").into());
        result.insert(format!("GIT_CONFIG_VALUE_{number}").into(), "false".into());
    }
    Some(format!(
        "`{section}.{key}`: commits and tags that are made inside are not signed, your keys are hidden there"
    ))
}

fn has_keys(policy: &Policy) -> bool {
    let Some(home) = &policy.home else { return false };
    KEYS.iter().filter_map(|name| canonical(&home.as_path().join(name))).any(|keys| {
        // By their bytes: there are hundreds of them.
        let is_hidden = |hidden: &AbsPath| {
            is_within(&keys, hidden.as_path()) || is_within(hidden.as_path(), &keys)
        };
        !policy.hidden.iter().any(is_hidden)
            || policy.readable.iter().any(|open| open.as_path().starts_with(&keys))
    })
}

/// Where git's configuration begins: the system's, the user's, the repositories'.
fn files(env: &Env, policy: &Policy) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        env.system.parent().map(|etc| etc.join("gitconfig")).into_iter().collect();
    files.extend(env.base_folder("XDG_CONFIG_HOME", ".config").map(|it| it.join("git/config")));
    files.extend(env.home.as_ref().map(|home| home.join(".gitconfig")));
    for folder in policy.tops.iter().chain(&policy.writable) {
        files.push(folder.as_path().join(".git/config"));
        files.push(folder.as_path().join("config"));
    }
    files
}

/// The first key that asks for signatures. What is included under a condition counts: it does no harm
/// where it does not hold.
fn asked(files: Vec<PathBuf>, home: Option<&Path>) -> Option<(&'static str, &'static str)> {
    let mut seen = BTreeSet::new();
    let mut rest: Vec<PathBuf> = files.into_iter().rev().collect();
    while let Some(path) = rest.pop().filter(|_| seen.len() < FILES_MAX) {
        let Some(text) = text(&path).filter(|_| seen.insert(path.clone())) else { continue };
        // What cannot be read here, git cannot read either.
        for entry in git_config::parse(&text).unwrap_or_default() {
            let value = entry.value.as_deref();
            let is_on = |(section, key): &&(&str, &str)| {
                entry.section == *section
                    && entry.key == *key
                    && entry.subsection.is_none()
                    && !value.is_some_and(is_false)
            };
            if let Some(asks) = ASKS.iter().find(is_on) {
                return Some(*asks);
            }
            if matches!(entry.section.as_str(), "include" | "includeif") && entry.key == "path" {
                let named = value.map(|value| PathBuf::from(OsString::from_vec(value.to_vec())));
                let base = path.parent().unwrap_or(&path);
                rest.extend(named.map(|named| resolve(&named, base, home)));
            }
        }
    }
    None
}

/// git-config(1), "boolean".
fn is_false(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    matches!(value.as_slice(), b"false" | b"no" | b"off" | b"0" | b"")
}

fn text(path: &Path) -> Option<Vec<u8>> {
    // Anything else might be waited for.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(path).ok()?.take(TEXT_MAX as u64 + 1).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_signatures_is_found_where_it_is() {
        #[rustfmt::skip]
        const CASES: &[(&str, Option<(&str, &str)>)] = &[
            ("[commit]\n\tgpgsign = true\n",            Some(("commit", "gpgsign"))),
            ("[commit]\n\tgpgSign\n",                   Some(("commit", "gpgsign"))),
            ("[tag]\n\tforceSignAnnotated = yes\n",     Some(("tag", "forcesignannotated"))),
            ("[commit]\n\tgpgsign = false\n",           None),
            ("[commit \"x\"]\n\tgpgsign = true\n",      None),
            ("[user]\n\tsigningkey = x\n[gpg]\n\tprogram = /no/gpg\n", None),
            ("[includeIf \"gitdir:~/w/\"]\n\tpath = more\n", Some(("tag", "gpgsign"))),
            ("[include]\n\tpath = ~/more\n",            Some(("tag", "gpgsign"))),
            ("[include]\n\tpath = itself\n",            None),
            ("[commit\n",                               None),
        ];
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("more"), "[tag]\n\tgpgsign = 1\n").unwrap();
        for &(text, expected) in CASES {
            std::fs::write(at("itself"), text).unwrap();
            let found = asked(vec![at("nothing"), at("itself")], Some(folder.path()));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
