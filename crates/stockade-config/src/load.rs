//! Everything together: one policy, one environment, and where each value came from.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stockade_policy::environment::passes;
use stockade_policy::{AbsPath, ApprovalPolicy, Limits, Mode, Network, Policy};

use crate::diagnose::ConfigError;
use crate::env::Env;
use crate::git::{self, Repository};
use crate::layer::{Files, read_file, read_option};
use crate::locate;
use crate::schema::{Placed, Settings};
use crate::secrets;

/// A variable named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvFlag {
    /// Passes the user's own, guarded or not.
    Pass(String),
    /// Sets it.
    Set(String, OsString),
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--sandbox`.
    pub mode: Option<Mode>,
    /// `--ask-for-approval`.
    pub approval: Option<ApprovalPolicy>,
    /// `--cd`.
    pub workspace: Option<PathBuf>,
    /// `--add-dir`.
    pub add_dirs: Vec<PathBuf>,
    /// `--hide`.
    pub hide: Vec<PathBuf>,
    /// `--env`.
    pub env: Vec<EnvFlag>,
    /// `--allow-host`.
    pub allow_hosts: Vec<String>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--config`.
    pub options: Vec<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--no-project-config`.
    pub no_project_config: bool,
    /// What the recipe of a known agent adds.
    pub needs: Needs,
}

/// What one agent program needs beyond the policy.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Its own state: writable, not hidden. Existing paths.
    pub state: Vec<PathBuf>,
    /// Variables that pass by their literal names.
    pub env_pass: Vec<String>,
    /// Variables that are set unless the user has them.
    pub env_set: Vec<(String, String)>,
}

/// A resolved start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the sandbox is given.
    pub policy: Policy,
    /// When the user is asked.
    pub approval: ApprovalPolicy,
    /// The command's whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// To be said before the command starts.
    pub warnings: Vec<String>,
    /// Where single values came from, as `name`, `file:line`; what is not here is built in.
    pub provenance: Vec<(&'static str, String)>,
}

/// Reads the layers and the disk, and decides.
///
/// # Errors
///
/// [`ConfigError`] names the file and line, or the flag, that is wrong. Nothing has run.
pub fn load(env: &Env, request: &Request) -> Result<Loaded, ConfigError> {
    let workspace = locate::workspace(env, request.workspace.as_deref())?;
    let settings = settings(env, request, &workspace)?;
    let mode = settings.mode.as_ref().map_or(Mode::WorkspaceWrite, |mode| mode.value);
    let home = locate::home(env);
    let mut warnings = settings.warnings.clone();
    let (hidden, readable) = hidden(env, request, &settings, &workspace, &mut warnings)?;
    let repository = git::repository(&workspace, env.uid);
    let (writable, protected) = match mode {
        Mode::ReadOnly | Mode::DangerFullAccess => (Vec::new(), Vec::new()),
        Mode::WorkspaceWrite => {
            let roots = writable(env, request, &settings, (&workspace, &hidden, &repository))?;
            warnings.extend(roots.warnings);
            let protected = protected(&settings, &workspace, &repository, &roots.paths);
            (roots.paths, protected)
        }
    };
    let mut writable = writable;
    if mode != Mode::DangerFullAccess {
        writable.extend(request.needs.state.iter().filter_map(|path| locate::canonical(path)));
    }
    let ports = host_ports(request, &settings)?;
    let network = Network { host_ports: ports };
    let policy = Policy {
        mode,
        workspace: absolute(workspace)?,
        home: home.map(absolute).transpose()?,
        writable: all_absolute(writable)?,
        protected: all_absolute(protected)?,
        hidden: all_absolute(hidden)?,
        readable: all_absolute(readable)?,
        network,
        limits: limits(request, &settings),
    };
    let approval = settings.approval.as_ref();
    Ok(Loaded {
        approval: approval.map_or(ApprovalPolicy::OnRequest, |policy| policy.value),
        environment: environment(env, request, &settings, &policy),
        provenance: provenance(&settings),
        policy,
        warnings,
    })
}

/// All layers together, flags on top.
fn settings(env: &Env, request: &Request, workspace: &Path) -> Result<Settings, ConfigError> {
    let project = (!request.no_project_config).then_some(workspace);
    let files = Files::of(env, request.profile.as_deref(), project)?;
    let mut settings = Settings::default();
    for file in &files.user {
        if let Some(above) = read_file(file)? {
            settings = settings.overlay(above);
        }
    }
    if let Some(profile) = &files.profile {
        let above = read_file(profile)?.ok_or_else(|| {
            ConfigError::refused(
                format!("there is no profile `{}`", profile.display()),
                "a profile NAME is the file `~/.config/stockade/NAME.config.toml`",
            )
        })?;
        settings = settings.overlay(above);
    }
    if let Some(project) = &files.project
        && let Some(project) = read_file(project)?
    {
        let narrower = project_roots(env, &settings, &project, workspace);
        settings = settings.with_defaults(&defaults(env)).narrow(project);
        if let Some(roots) = narrower {
            settings.writable_roots = Some(roots);
        }
    }
    for option in &request.options {
        settings = settings.overlay(read_option(option)?);
    }
    let flag = |place: &str| place.to_owned();
    if let Some(value) = request.mode {
        settings.mode = Some(Placed { value, place: flag("--sandbox") });
    }
    if let Some(value) = request.approval {
        settings.approval = Some(Placed { value, place: flag("--ask-for-approval") });
    }
    if let Some(value) = request.timeout {
        settings.wall_time = Some(Placed { value, place: flag("--timeout") });
    }
    Ok(settings.with_defaults(&defaults(env)))
}

fn defaults(env: &Env) -> Limits {
    Limits::for_memory(env.memory_bytes)
}

impl Settings {
    fn with_defaults(mut self, limits: &Limits) -> Self {
        let built_in = || "built-in".to_owned();
        self.tmp_bytes.get_or_insert_with(|| Placed { value: limits.tmp_bytes, place: built_in() });
        self.processes.get_or_insert_with(|| Placed { value: limits.processes, place: built_in() });
        self
    }
}

/// The project's roots that lie inside what the user's own files made writable; `None` when
/// the project says nothing about roots.
fn project_roots(
    env: &Env,
    user: &Settings,
    project: &Settings,
    workspace: &Path,
) -> Option<Placed<Vec<String>>> {
    let wanted = project.writable_roots.as_ref()?;
    let allowed: Vec<PathBuf> = match &user.writable_roots {
        Some(roots) if !roots.value.is_empty() => roots
            .value
            .iter()
            .filter_map(|root| locate::canonical(&env.resolve(Path::new(root), workspace)))
            .collect(),
        Some(_) | None => Vec::new(),
    };
    let narrowed = allowed.iter().any(|root| root.starts_with(workspace));
    let is_allowed = |root: &String| {
        let Some(path) = locate::canonical(&env.resolve(Path::new(root), workspace)) else {
            return true;
        };
        if narrowed || !path.starts_with(workspace) {
            allowed.iter().any(|root| path.starts_with(root))
        } else {
            true
        }
    };
    let kept: Vec<String> = wanted.value.iter().filter(|root| is_allowed(root)).cloned().collect();
    let keeps_user = kept.is_empty() && !wanted.value.is_empty();
    (!keeps_user && !wanted.value.is_empty())
        .then(|| Placed { value: kept, place: wanted.place.clone() })
}

fn hidden(
    env: &Env,
    request: &Request,
    settings: &Settings,
    workspace: &Path,
    warnings: &mut Vec<String>,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ConfigError> {
    let home = locate::home(env);
    let mut hidden = secrets::built_in(home.as_deref(), env.uid);
    let wanted = settings.hidden.iter().map(|entry| PathBuf::from(&entry.value));
    for entry in wanted.chain(request.hide.iter().cloned()) {
        let found = secrets::expand(&env.resolve(&entry, workspace), workspace);
        if found.is_empty() {
            warnings.push(format!(
                "hidden path `{}` does not exist now and is not covered",
                entry.display()
            ));
        }
        hidden.extend(found);
    }
    let mut readable = Vec::new();
    let reopened = settings.readable.iter().map(|entry| PathBuf::from(&entry.value));
    for entry in reopened {
        let path = env.resolve(&entry, workspace);
        match locate::canonical(&path) {
            Some(path) => readable.push(path),
            None => warnings.push(format!("readable path `{}` does not exist", path.display())),
        }
    }
    let state = request.needs.state.iter().filter_map(|path| locate::canonical(path));
    let open: Vec<PathBuf> = readable.iter().cloned().chain(state).collect();
    hidden.retain(|secret| !open.iter().any(|path| secret.starts_with(path)));
    if let Some(secret) = hidden.iter().find(|secret| workspace.starts_with(secret)) {
        return Err(ConfigError::refused(
            format!("the workspace lies in `{}`, which is hidden", secret.display()),
            "re-open it with `readable = [...]` in your own configuration",
        ));
    }
    readable.retain(|path| hidden.iter().any(|secret| path.starts_with(secret)));
    hidden.sort();
    hidden.dedup();
    Ok((hidden, readable))
}

fn writable(
    env: &Env,
    request: &Request,
    settings: &Settings,
    (workspace, hidden, repository): (&Path, &[PathBuf], &Repository),
) -> Result<locate::Roots, ConfigError> {
    let configured = settings.writable_roots.iter().flat_map(|roots| &roots.value);
    let mut wanted: Vec<PathBuf> = configured.map(PathBuf::from).collect();
    // A flag is relative to where the user stands, an entry of a file to the workspace.
    wanted.extend(request.add_dirs.iter().map(|path| match path.strip_prefix("~") {
        Ok(_) => path.clone(),
        Err(_) => env.current.join(path),
    }));
    let mut roots = locate::roots(env, workspace, &wanted, hidden)?;
    roots.paths.extend(repository.opened.iter().cloned());
    roots.warnings.extend(repository.warnings.iter().cloned());
    roots.paths.sort();
    roots.paths.dedup();
    Ok(roots)
}

fn protected(
    settings: &Settings,
    workspace: &Path,
    repository: &Repository,
    roots: &[PathBuf],
) -> Vec<PathBuf> {
    let lifted: Vec<String> =
        settings.unprotected.iter().map(|entry| entry.value.clone()).collect();
    let mut tops = vec![workspace.to_owned()];
    tops.extend(repository.top.clone());
    tops.extend(roots.iter().filter(|root| !root.starts_with(workspace) && root.is_dir()).cloned());
    tops.sort();
    tops.dedup();
    let mut protected = locate::protected_names(&tops, &lifted);
    protected.extend(locate::protected_by_git(repository, &lifted));
    for top in tops.iter().filter(|top| Some(*top) != repository.top.as_ref()) {
        // A repository of its own at a root that was added.
        if top.join(".git").symlink_metadata().is_ok() {
            let own = git::repository(top, rustix::process::geteuid().as_raw());
            protected.extend(locate::protected_by_git(&own, &lifted));
        }
    }
    protected.sort();
    protected.dedup();
    protected
}

fn host_ports(request: &Request, settings: &Settings) -> Result<Vec<u16>, ConfigError> {
    let configured =
        settings.network_allow.iter().map(|entry| (&entry.value, entry.place.as_str()));
    let flags = request.allow_hosts.iter().map(|entry| (entry, "--allow-host"));
    let mut ports = Vec::new();
    for (entry, place) in configured.chain(flags) {
        let port = entry.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        match port {
            Some(port) if port != 0 => ports.push(port),
            _ => {
                return Err(ConfigError::refused(
                    format!("not yet: {place}: `{entry}`: only `localhost:PORT` can be opened"),
                    "other hosts need the gateway, which this version does not have",
                ));
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

fn limits(request: &Request, settings: &Settings) -> Limits {
    let mut limits = Limits::for_memory(0);
    if let Some(size) = &settings.tmp_bytes {
        limits = Limits::for_memory(size.value.saturating_mul(8));
    }
    limits.processes = settings.processes.as_ref().map_or(limits.processes, |count| count.value);
    limits.wall_time = request.timeout.or(settings.wall_time.as_ref().map(|time| time.value));
    limits
}

fn environment(
    env: &Env,
    request: &Request,
    settings: &Settings,
    policy: &Policy,
) -> Vec<(OsString, OsString)> {
    let mut pass: Vec<String> = settings.env_pass.iter().map(|entry| entry.value.clone()).collect();
    pass.extend(request.needs.env_pass.iter().cloned());
    pass.extend(request.env.iter().filter_map(|flag| match flag {
        EnvFlag::Pass(name) => Some(name.clone()),
        EnvFlag::Set(..) => None,
    }));
    let mut result = env.vars.clone();
    if policy.mode != Mode::DangerFullAccess {
        // A name that is not UTF-8 is on no list.
        result.retain(|name, _| name.to_str().is_some_and(|name| passes(name, &pass)));
        result.insert("TMPDIR".into(), "/tmp".into());
    }
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

fn provenance(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    let mut note = |name, place: Option<&String>| {
        list.extend(place.map(|place| (name, place.clone())));
    };
    note("sandbox_mode", settings.mode.as_ref().map(|value| &value.place));
    note("approval_policy", settings.approval.as_ref().map(|value| &value.place));
    note("writable_roots", settings.writable_roots.as_ref().map(|value| &value.place));
    note("limits.tmp_size", settings.tmp_bytes.as_ref().map(|value| &value.place));
    note("limits.processes", settings.processes.as_ref().map(|value| &value.place));
    note("limits.wall_time", settings.wall_time.as_ref().map(|value| &value.place));
    list
}

fn absolute(path: PathBuf) -> Result<AbsPath, ConfigError> {
    AbsPath::new(path).map_err(|error| ConfigError::Refused { what: error.to_string(), hint: None })
}

fn all_absolute(paths: Vec<PathBuf>) -> Result<Vec<AbsPath>, ConfigError> {
    paths.into_iter().map(absolute).collect()
}
