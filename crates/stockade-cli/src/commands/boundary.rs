//! What every verb that puts up a boundary begins with: whose it is, and what the flags say.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_agents::{Recipe, Recipes};
use stockade_config::{Env, EnvFlag, Loaded, Needs, Request};
use stockade_policy::{Mode, Policy, parse_time};
use stockade_threads::Watch;
use stockade_threads::caches::{self, Held};

use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;
use crate::ui::live::Copied;

/// The surroundings, after this process has become whom the workspace belongs to.
pub(super) fn surroundings(arguments: &BoundaryArgs) -> Result<Env, Failure> {
    if arguments.vm.is_some() {
        let hint = "`stockade cloud` has a machine of its own in any case";
        return Err(Failure::new("`--vm` is for `stockade run`", hint));
    }
    surroundings_of_machine(arguments)
}

/// The same where a machine may be wanted.
pub(super) fn surroundings_of_machine(arguments: &BoundaryArgs) -> Result<Env, Failure> {
    let mut env = Env::snapshot()
        .map_err(|error| Failure::new(format!("cannot find the current folder: {error}"), ""))?;
    become_owner(&mut env, arguments)?;
    Ok(env)
}

/// Root at work on somebody else's folder works as its owner, so that nothing in it ends up
/// belonging to root.
fn become_owner(env: &mut Env, arguments: &BoundaryArgs) -> Result<(), Failure> {
    if env.uid != 0 || arguments.sandbox.as_deref() == Some(Mode::DangerFullAccess.as_str()) {
        return Ok(());
    }
    let folder = arguments.folder.as_deref().unwrap_or(Path::new("."));
    let folder = env.current.join(folder);
    let Some(owner) = stockade_sandbox::owner_of(&folder).filter(|owner| owner.uid != 0) else {
        return Ok(());
    };
    let home = owner.home.clone();
    let name = owner.name.clone();
    stockade_sandbox::become_user(&owner)?;
    env.uid = owner.uid;
    env.vars.insert("HOME".into(), home.clone().into());
    env.vars.insert("USER".into(), name.clone());
    env.vars.insert("LOGNAME".into(), name.clone());
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
        env.vars.remove(OsStr::new(name));
    }
    env.home = Some(home);
    if !arguments.quiet {
        let text = format!("running as `{}`, who owns the workspace", name.to_string_lossy());
        ui::say("stockade", &text);
    }
    Ok(())
}

/// The flags as configuration takes them.
pub(super) fn request(arguments: &BoundaryArgs) -> Result<Request, Failure> {
    let wrong =
        |flag: &str, error: &dyn std::fmt::Display| Failure::new(format!("{flag}: {error}"), "");
    let mode = arguments.sandbox.as_deref().map(str::parse).transpose();
    let approval = arguments.ask_for_approval.as_deref().map(str::parse).transpose();
    let timeout = arguments.timeout.as_deref().map(parse_time).transpose();
    Ok(Request {
        mode: mode.map_err(|error| wrong("--sandbox", &error))?,
        approval: approval.map_err(|error| wrong("--ask-for-approval", &error))?,
        workspace: arguments.folder.clone(),
        add_dirs: arguments.add_dir.clone(),
        hide: arguments.hide.clone(),
        env: arguments.env.iter().map(|flag| env_flag(flag)).collect::<Result<_, _>>()?,
        allow_hosts: arguments.allow_host.clone(),
        publish: arguments.publish.clone(),
        timeout: timeout.map_err(|error| wrong("--timeout", &error))?,
        options: arguments.config.clone(),
        profile: arguments.profile.clone(),
        codex_config: arguments.codex_config.clone().map(Into::into),
        no_project_config: arguments.no_project_config,
        needs: Needs::default(),
    })
}

/// The file of `--json-file`, made anew. What runs inside may not reach it.
pub(super) fn json_file(
    arguments: &BoundaryArgs,
    policy: &Policy,
) -> Result<Option<(File, PathBuf)>, Failure> {
    let Some(path) = &arguments.json_file else { return Ok(None) };
    let fail = |error: std::io::Error| {
        Failure::new(format!("--json-file: cannot make `{}`: {error}", path.display()), "")
    };
    let whole = std::path::absolute(path).map_err(fail)?;
    let place = whole.canonicalize().or_else(|_| {
        let parent = whole.parent().unwrap_or(Path::new("/")).canonicalize()?;
        Ok(parent.join(whole.file_name().unwrap_or_default()))
    });
    let place = place.map_err(fail)?;
    if let Some(root) = policy.writable.iter().find(|root| place.starts_with(root.as_path())) {
        let root = root.as_path().display();
        return Err(Failure::new(
            format!("--json-file: `{}` lies in the writable root `{root}`", path.display()),
            "what runs inside could change it there; name a file outside",
        ));
    }
    let file =
        File::options().write(true).create(true).truncate(true).open(&place).map_err(fail)?;
    Ok(Some((file, place)))
}

/// `watch`, and the file of `--json-file`.
pub(super) fn watched<'a>(
    arguments: &BoundaryArgs,
    policy: &Policy,
    watch: Box<dyn Watch + 'a>,
) -> Result<Box<dyn Watch + 'a>, Failure> {
    Ok(match json_file(arguments, policy)? {
        Some((file, _)) => Box::new(Copied::new(watch, file)),
        None => watch,
    })
}

/// Refuses `--json-file` where nothing happens that it could hold.
pub(super) fn without_events(arguments: &BoundaryArgs) -> Result<(), Failure> {
    match arguments.json_file {
        None => Ok(()),
        Some(_) => Err(Failure::new("`--json-file` has nothing to hold here", "use `--json`")),
    }
}

fn env_flag(flag: &OsStr) -> Result<EnvFlag, Failure> {
    let bytes = flag.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    };
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok(match value {
            Some(value) => EnvFlag::Set(name.to_owned(), OsStr::from_bytes(value).to_owned()),
            None => EnvFlag::Pass(name.to_owned()),
        }),
        _ => Err(Failure::new("`--env` needs a name", "write `--env NAME` or `--env NAME=VALUE`")),
    }
}

/// The recipes of agents, with the user's own.
pub(super) fn recipes(env: &Env) -> Result<Recipes, Failure> {
    let read = Recipes::with(env.recipe_files()?);
    read.map_err(|error| Failure::new(error.to_string(), "`stockade agents show NAME` prints one"))
}

/// Says what the user should know before anything starts.
pub(super) fn announce(
    arguments: &BoundaryArgs,
    loaded: &Loaded,
    recipe: Option<&Recipe>,
    env: &Env,
) {
    if arguments.quiet {
        return;
    }
    for warning in &loaded.warnings {
        ui::say("warning", warning);
    }
    let policy = &loaded.policy;
    if policy.mode == Mode::DangerFullAccess {
        // What has no boundary is no news where all of it is thrown away; what is not kept may be.
        let (kind, text) = if is_disposable(env) {
            ("stockade", "danger-full-access: no undo")
        } else {
            (
                "warning",
                "danger-full-access: no boundary and no undo; the command can do what you can",
            )
        };
        ui::say(kind, text);
    }
    if !arguments.verbose {
        return;
    }
    ui::say("stockade", &format!("mode {}, network {}", policy.mode, policy.network.word()));
    for root in &policy.writable {
        ui::say("stockade", &format!("writable {}", root.as_path().display()));
    }
    let counts = format!("{} protected, {} hidden", policy.protected.len(), policy.hidden.len());
    ui::say("stockade", &counts);
    if let Some(recipe) = recipe {
        ui::say("stockade", &format!("recipe {}", recipe.name()));
    }
    for (name, place) in loaded.sources() {
        ui::say("stockade", &format!("{name} from {place}"));
    }
}

/// Where what a run of `agent` writes to caches lands; they are read-only without.
pub(super) fn caches(
    arguments: &BoundaryArgs,
    policy: &mut Policy,
    (env, agent): (&Env, &str),
) -> Option<Held> {
    let held = env.cache_folder().map(|folder| caches::take(&folder, policy, agent));
    match held? {
        Ok(held) => held,
        Err(error) => {
            if !arguments.quiet {
                ui::say("warning", &format!("caches are read-only: no layer over them: {error}"));
            }
            None
        }
    }
}

/// A place that is thrown away after use: CI, a container.
fn is_disposable(env: &Env) -> bool {
    env.vars.contains_key(OsStr::new("CI"))
        || Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
}
