//! The environment that the command gets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::environment::{
    CACHES, DIRECT, DIRECT_VARIABLES, PROXY, PROXY_VARIABLES, WITHOUT_NETWORK, carries_login, glob,
    is_guarded, passes,
};
use stockade_policy::{Mode, Policy};

use crate::codex::{CORE, Inherit, ShellEnvironment, is_listed};
use crate::env::Env;
use crate::load::{EnvFlag, Request};
use crate::roots::PRIVATE;
use crate::schema::Settings;

/// Builds it: the user's variables that pass, what the recipe and configuration set, flags,
/// and what tells tools where they are.
pub(crate) fn environment(
    env: &Env,
    request: &Request,
    settings: &Settings,
    policy: &Policy,
) -> Vec<(OsString, OsString)> {
    let mut result = env.vars.clone();
    if policy.mode != Mode::DangerFullAccess {
        let pass = names_to_pass(request, settings);
        result.retain(|name, value| is_passed(name, value, &pass, &settings.codex_env));
        result.insert("TMPDIR".into(), "/tmp".into());
        if policy.network.has_hosts() {
            // The user's own lead to a proxy that is outside; the gateway uses that itself.
            let proxies = PROXY_VARIABLES.iter().map(|name| (name, PROXY));
            let direct = DIRECT_VARIABLES.iter().map(|name| (name, DIRECT));
            result.extend(proxies.chain(direct).map(|(name, value)| (name.into(), value.into())));
        } else {
            for (name, value) in WITHOUT_NETWORK {
                result.entry(name.into()).or_insert_with(|| value.into());
            }
        }
        move_caches(&mut result, env, policy, &pass);
    }
    set(&mut result, request, settings);
    result.insert("PWD".into(), policy.workspace.as_os_str().to_owned());
    result.insert("STOCKADE".into(), "1".into());
    result.insert("STOCKADE_MODE".into(), policy.mode.as_str().into());
    let network = match policy.mode {
        Mode::DangerFullAccess => "open",
        Mode::ReadOnly | Mode::WorkspaceWrite => policy.network.word(),
    };
    result.insert("STOCKADE_NETWORK".into(), network.into());
    result.remove(OsStr::new("OLDPWD"));
    result.into_iter().collect()
}

/// Gives each cache that cannot be written, and that its tool does not do without, another place.
/// A variable that the user passes by its name stays as it is.
fn move_caches(
    result: &mut BTreeMap<OsString, OsString>,
    env: &Env,
    policy: &Policy,
    pass: &[String],
) {
    let is_named = |name: &str| pass.iter().any(|entry| entry == name);
    for cache in CACHES {
        let place = match result.get(OsStr::new(cache.variable)) {
            Some(value) => Some(PathBuf::from(value)),
            None => env.caches().map(|folder| folder.join(cache.folder)),
        };
        // A word such as `off` is no place.
        let is_writable = place.is_some_and(|place| !place.is_absolute() || writes(policy, &place));
        if is_writable || is_named(cache.variable) {
            continue;
        }
        for (name, value) in cache.instead.iter().filter(|(name, _)| !is_named(name)) {
            result.insert(name.into(), value.into());
        }
    }
}

/// Whether a file at `place` could be made inside.
fn writes(policy: &Policy, place: &Path) -> bool {
    PRIVATE.iter().any(|private| place.starts_with(private))
        || policy
            .writable
            .iter()
            .chain(&policy.caches)
            .any(|root| place.starts_with(root.as_path()))
}

fn names_to_pass(request: &Request, settings: &Settings) -> Vec<String> {
    let mut pass: Vec<String> = settings.env_pass.iter().map(|entry| entry.value.clone()).collect();
    pass.extend(request.needs.env_pass.iter().cloned());
    pass.extend(request.env.iter().filter_map(|flag| match flag {
        EnvFlag::Pass(name) => Some(name.clone()),
        EnvFlag::Set(..) => None,
    }));
    pass
}

fn is_passed(name: &OsStr, value: &OsStr, pass: &[String], codex: &ShellEnvironment) -> bool {
    // A name that is not UTF-8 is on no list.
    let Some(name) = name.to_str() else { return false };
    if pass.iter().any(|entry| entry == name) {
        return true;
    }
    if carries_login(value.as_bytes()) {
        return false;
    }
    // A glob of the user's own layers adds to what Codex' file hands on.
    let is_globbed = pass.iter().any(|entry| glob(entry.as_bytes(), name.as_bytes()));
    (is_globbed && !is_guarded(name)) || (is_handed_on(name, codex) && !is_held_back(name, codex))
}

/// Whether a variable passes that no layer of the user's names.
fn is_handed_on(name: &str, codex: &ShellEnvironment) -> bool {
    match codex.inherit.as_ref().map(|inherit| inherit.value) {
        None => passes(name, &[]),
        Some(Inherit::All) => !is_guarded(name),
        Some(Inherit::Core) => CORE.contains(&name) && !is_guarded(name),
        Some(Inherit::None) => false,
    }
}

fn is_held_back(name: &str, codex: &ShellEnvironment) -> bool {
    is_listed(&codex.exclude, name)
        || codex.include_only.as_ref().is_some_and(|only| !is_listed(only, name))
}

fn set(result: &mut BTreeMap<OsString, OsString>, request: &Request, settings: &Settings) {
    for (name, value) in &request.needs.env_set {
        result.entry(name.into()).or_insert_with(|| value.into());
    }
    for entry in &settings.env_set {
        let (name, value) = &entry.value;
        result.insert(name.into(), value.into());
    }
    for flag in &request.env {
        if let EnvFlag::Set(name, value) = flag {
            result.insert(name.into(), value.clone());
        }
    }
}
