//! The environment that the command gets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::caches::{Instead, MOVED, NAMED, Usual};
use stockade_policy::environment::{
    DIRECT, DIRECT_VARIABLES, FOR_ROOT, PROXY, PROXY_VARIABLES, WITHOUT_HOME, WITHOUT_NETWORK,
    WITHOUT_OWNERS, carries_login, glob, is_guarded, passes,
};
use stockade_policy::{Mode, Policy};

use crate::codex::{CORE, Inherit, ShellEnvironment, is_listed};
use crate::diagnose::ConfigError;
use crate::env::Env;
use crate::load::{EnvFlag, Request};
use crate::requests::{trust, withhold};
use crate::roots::PRIVATE;
use crate::schema::Settings;
use crate::signing;

/// Builds it: the user's variables that pass, what the recipe and configuration set, flags,
/// and what tells tools where they are. What the user should know of it is a warning.
pub(crate) fn environment(
    env: &Env,
    request: &Request,
    settings: &Settings,
    (policy, warnings): (&mut Policy, &mut Vec<String>),
) -> Result<Vec<(OsString, OsString)>, ConfigError> {
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
        let for_root = FOR_ROOT.iter().filter(|_| env.uid == 0);
        for (name, value) in WITHOUT_HOME.iter().chain(WITHOUT_OWNERS).chain(for_root) {
            result.entry(name.into()).or_insert_with(|| value.into());
        }
        move_caches(&mut result, env, policy, &pass);
        name_caches(&mut result, env, policy);
    }
    set(&mut result, request, settings);
    if policy.mode != Mode::DangerFullAccess {
        warnings.extend(signing::leave_out(&mut result, env, policy));
    }
    result.insert("PWD".into(), policy.workspace.as_os_str().to_owned());
    result.insert("STOCKADE".into(), "1".into());
    result.insert("STOCKADE_MODE".into(), policy.mode.as_str().into());
    let network = match policy.mode {
        Mode::DangerFullAccess => "open",
        Mode::ReadOnly | Mode::WorkspaceWrite => policy.network.word(),
    };
    result.insert("STOCKADE_NETWORK".into(), network.into());
    result.remove(OsStr::new("OLDPWD"));
    if policy.mode == Mode::DangerFullAccess {
        // Nobody would judge requests, nor know what a placeholder stands for.
        policy.network.requests.clear();
    }
    withhold(policy, &env.vars, &mut result);
    trust(policy, &mut result)?;
    Ok(result.into_iter().collect())
}

/// Gives each cache that its tool could not use another place: in the layer over the user's
/// caches where there is one, in the private temporary folder otherwise.
/// A variable that the user passes by its name stays as it is.
fn move_caches(
    result: &mut BTreeMap<OsString, OsString>,
    env: &Env,
    policy: &Policy,
    pass: &[String],
) {
    let is_named = |name: &str| pass.iter().any(|entry| entry == name);
    let layer =
        env.caches().filter(|caches| policy.caches.iter().any(|path| path.as_path() == caches));
    let base = layer.unwrap_or_else(|| PathBuf::from("/tmp"));
    for cache in MOVED {
        let set = cache.variable.and_then(|name| result.get(OsStr::new(name)));
        let place = set.map(PathBuf::from).or_else(|| match cache.usual {
            Usual::Caches(folder) => Some(env.caches()?.join(folder)),
            Usual::Home(folder) => Some(env.home.as_ref()?.join(folder)),
        });
        // A word such as `off` is no place.
        let is_usable = place.is_some_and(|place| {
            !place.is_absolute()
                || writes(policy, &place)
                || (cache.only_missing && place.symlink_metadata().is_ok())
        });
        if is_usable || cache.variable.is_some_and(is_named) {
            continue;
        }
        for instead in cache.instead {
            move_one(result, *instead, &base, &is_named);
        }
    }
}

/// Tells tools where a cache is that they would pass over.
fn name_caches(result: &mut BTreeMap<OsString, OsString>, env: &Env, policy: &Policy) {
    let Some(home) = &env.home else { return };
    for (name, folder) in NAMED {
        let place = home.join(folder);
        if policy.caches.iter().any(|cache| cache.as_path() == place) {
            result.entry(name.into()).or_insert_with(|| place.into());
        }
    }
}

fn move_one(
    result: &mut BTreeMap<OsString, OsString>,
    instead: Instead,
    base: &Path,
    is_named: &dyn Fn(&str) -> bool,
) {
    let name = instead.name();
    if is_named(name) {
        return;
    }
    let mut value = instead.led(base);
    if let (Instead::Front(..), Some(users)) = (instead, result.get(OsStr::new(name))) {
        value.push(" ");
        value.push(users);
    }
    result.insert(name.into(), value);
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
