//! Everything together: one policy, one environment, and where each value came from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stockade_policy::{AbsPath, ApprovalPolicy, Limits, Mode, Network, Policy};
use stockade_rules::RuleSet;

use crate::caches::{self, Caches};
use crate::diagnose::ConfigError;
use crate::env::{Env, Homes};
use crate::git::{self, Repository, User};
use crate::grants::{self, GrantText};
use crate::hidden::{self, Hidden};
use crate::layer::Files;
use crate::locate;
use crate::machine::CloudText;
use crate::model::{AgentLimits, ModelText};
use crate::network::{denied_ports, network, of_set_up};
use crate::own::Own;
use crate::roots::{Ground, Roots, Wanted, roots};
use crate::rule_text::RuleText;
use crate::schema::{Placed, Settings};
use crate::stack;
use crate::variables::environment;

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
    /// `--publish`.
    pub publish: Vec<String>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--config`.
    pub options: Vec<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--codex-config`: the file, or nothing for the one that Codex reads.
    pub codex_config: Option<PathBuf>,
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
    /// Protected names that the user has lifted.
    pub unprotected: Vec<String>,
    /// The machine of a cloud thread.
    pub cloud: CloudText,
    /// Command rules, lowest layer first.
    pub rules: Vec<RuleText>,
    /// Rules that no longer hold.
    pub expired: Vec<RuleText>,
    /// Whether nothing may run that cannot be recorded.
    pub is_record_required: bool,
    /// Limits of a task of the built-in agent.
    pub agent: AgentLimits,
    pub(crate) settings: Settings,
}

impl Loaded {
    /// The model of the built-in agent.
    ///
    /// # Errors
    ///
    /// When a part of it is configured nowhere.
    pub fn model(&self) -> Result<ModelText, ConfigError> {
        self.settings.model.whole()
    }

    /// What the set-up of a cloud thread may reach.
    ///
    /// # Errors
    ///
    /// When an entry cannot be had there.
    pub fn setup_network(&self, env: &Env, request: &Request) -> Result<Network, ConfigError> {
        of_set_up(env, request, &self.settings)
    }

    /// The command rules, ready to judge by.
    pub fn rule_set(&self) -> RuleSet {
        // Each was checked where it was read, with its line.
        let rules = self.rules.iter().map(RuleText::rule).collect::<Result<_, _>>();
        let rules = rules.expect("invariant: a rule that means nothing stops the start");
        RuleSet::new(rules).expect("invariant: examples were checked when the rule was read")
    }
}

/// Reads the layers and the disk, and decides.
///
/// # Errors
///
/// [`ConfigError`] names the file and line, or the flag, that is wrong. Nothing has run.
pub fn load(env: &Env, request: &Request) -> Result<Loaded, ConfigError> {
    let homes = env.homes();
    let workspace = locate::workspace(env, &homes, request.workspace.as_deref())?;
    let project = (!request.no_project_config).then_some(workspace.as_path());
    let codex = request.codex_config.as_deref();
    let files = Files::of(env, request.profile.as_deref(), (&workspace, project), codex)?;
    let mut settings = stack::settings(env, request, &files, &workspace)?;
    let expired = settings.take_expired(env.now);
    let mode = settings.mode.as_ref().map_or(Mode::WorkspaceWrite, |mode| mode.value);
    let mut warnings = settings.warnings.clone();
    if homes.all.is_empty() {
        warnings.push("no home is known (`HOME` is not set): no secrets in it are hidden".into());
    }
    let state: Vec<PathBuf> =
        request.needs.state.iter().filter_map(|path| locate::canonical(path)).collect();
    let hidden = hidden::resolve(&hidden::Question {
        env,
        homes: &homes,
        workspace: &workspace,
        settings: &settings,
        flags: &request.hide,
        state: &state,
    })?;
    warnings.extend(hidden.warnings.iter().cloned());
    let place = Place { env, homes: &homes, workspace: &workspace, files: &files };
    warnings.extend(place.grants(&mut settings, &hidden)?);
    let surface = match mode {
        Mode::DangerFullAccess => Surface::default(),
        Mode::ReadOnly | Mode::WorkspaceWrite => {
            place.surface(request, &settings, &hidden, (mode, &state))?
        }
    };
    warnings.extend(surface.warnings);
    let hidden = place.closed(hidden);
    let is_closed = settings.caches_closed.as_ref().is_some_and(|closed| closed.value);
    let caches = match (&homes.main, mode) {
        (Some(home), Mode::WorkspaceWrite) if !is_closed => {
            caches::find(home, &[&hidden.paths, &surface.writable])
        }
        _ => Caches::default(),
    };
    let mut policy = Policy {
        mode,
        workspace: absolute(workspace)?,
        home: homes.main.map(absolute).transpose()?,
        writable: all_absolute(surface.writable)?,
        protected: all_absolute([surface.protected, caches.kept].concat())?,
        tops: all_absolute(surface.tops)?,
        unprotected: settings.unprotected.iter().map(|entry| entry.value.clone()).collect(),
        awaited: all_absolute(surface.awaited)?,
        hidden: all_absolute(hidden.paths)?,
        readable: all_absolute(hidden.readable)?,
        caches: all_absolute(caches.folders)?,
        network: network(env, request, &settings)?,
        limits: limits(&settings),
    };
    let approval = settings.approval.as_ref();
    Ok(Loaded {
        approval: approval.map_or(ApprovalPolicy::OnRequest, |policy| policy.value),
        environment: environment(env, request, &settings, (&mut policy, &mut warnings))?,
        unprotected: settings.unprotected.iter().map(|entry| entry.value.clone()).collect(),
        cloud: settings.cloud.text(),
        rules: settings.rules.clone(),
        expired,
        is_record_required: settings.log_required.as_ref().is_some_and(|it| it.value),
        agent: settings.agent.whole(),
        settings,
        policy,
        warnings,
    })
}

/// What may be written, and what in it may not.
#[derive(Debug, Default)]
struct Surface {
    writable: Vec<PathBuf>,
    protected: Vec<PathBuf>,
    tops: Vec<PathBuf>,
    awaited: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// Where a run takes place.
struct Place<'a> {
    env: &'a Env,
    homes: &'a Homes,
    workspace: &'a Path,
    files: &'a Files,
}

impl Place<'_> {
    /// What is hidden, with what an allow-list for reads closes.
    fn closed(&self, mut hidden: Hidden) -> Hidden {
        if hidden.closed.is_empty() {
            return hidden;
        }
        hidden.paths.append(&mut hidden.closed);
        // Without its repository git would take what is not shown for deleted.
        let user = User { uid: self.env.uid, home: self.homes.main.as_deref() };
        let repository = git::repository(self.workspace, user);
        hidden.readable.extend(repository.top.into_iter().chain(repository.opened));
        [&mut hidden.paths, &mut hidden.readable].into_iter().for_each(locate::sort);
        hidden
    }

    /// Finds on the disk what the grants of rules open; the value is what is to be said.
    fn grants(&self, settings: &mut Settings, hidden: &Hidden) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        if settings.rules.iter().all(|rule| rule.grant == GrantText::default()) {
            return Ok(warnings);
        }
        let own = Own::of(self.env, self.homes, &self.files.own());
        let (env, homes, workspace) = (self.env, self.homes, self.workspace);
        let ground = Ground { env, homes, workspace, hidden: &hidden.paths, own: &own };
        let lifted: Vec<String> =
            settings.unprotected.iter().map(|entry| entry.value.clone()).collect();
        let closed = (lifted.as_slice(), &*denied_ports(settings));
        grants::resolve(&ground, closed, &mut settings.rules, &mut warnings)?;
        Ok(warnings)
    }

    fn surface(
        &self,
        request: &Request,
        settings: &Settings,
        hidden: &Hidden,
        (mode, state): (Mode, &[PathBuf]),
    ) -> Result<Surface, ConfigError> {
        let own = Own::of(self.env, self.homes, &self.files.own());
        let ground = Ground {
            env: self.env,
            homes: self.homes,
            workspace: self.workspace,
            hidden: &hidden.paths,
            own: &own,
        };
        let mut surface = Surface::default();
        if mode == Mode::WorkspaceWrite {
            own.refuse_workspace(self.workspace)?;
            let user = User { uid: self.env.uid, home: self.homes.main.as_deref() };
            let repository = git::repository(self.workspace, user);
            let found = self.roots(request, settings, &ground)?;
            let added = added(self.workspace, &found.paths);
            let others: Vec<_> = added.map(|top| git::repository(top, user)).collect();
            surface.warnings.extend(found.warnings);
            surface.warnings.extend(repository.warnings.iter().cloned());
            surface.tops = tops(self.workspace, &repository, &found.paths);
            surface.protected = protected(settings, &surface.tops, (&repository, &others));
            let within = |path: &PathBuf| found.paths.iter().any(|root| path.starts_with(root));
            let others = others.into_iter().flat_map(|other| other.awaited);
            let awaited = repository.awaited.into_iter().chain(others);
            surface.awaited = awaited.filter(within).collect();
            surface.writable = found.paths;
            surface.writable.extend(repository.opened);
        }
        if !state.is_empty() {
            // State inside another agent's is that agent's affair, and no secret.
            let others = hidden.except_agents();
            let ground = Ground { hidden: &others, ..ground };
            state.iter().try_for_each(|state| ground.refuse_state(state))?;
        }
        // The agent's own state is a protected name only for others.
        let is_state = |path: &PathBuf| {
            state.iter().any(|state| path.starts_with(state) || state.starts_with(path))
        };
        surface.protected.retain(|path| !is_state(path));
        surface.writable.extend(state.iter().cloned());
        surface.protected.extend(own.within(&surface.writable).cloned());
        let writable = &surface.writable;
        surface.protected.retain(|path| writable.iter().any(|root| path.starts_with(root)));
        locate::sort(&mut surface.writable);
        locate::sort(&mut surface.protected);
        Ok(surface)
    }

    fn roots(
        &self,
        request: &Request,
        settings: &Settings,
        ground: &Ground<'_>,
    ) -> Result<Roots, ConfigError> {
        let of_file = |entry: &Placed<String>| Wanted {
            path: PathBuf::from(&entry.value),
            place: entry.place.clone(),
            base: self.workspace.to_owned(),
        };
        let user: Vec<Wanted> = settings.writable_roots.iter().flatten().map(of_file).collect();
        let project: Vec<Wanted> = settings.project_roots.iter().map(of_file).collect();
        let answered: Vec<Wanted> = settings.answered_roots.iter().map(of_file).collect();
        // A flag is relative to where the user stands, an entry of a file to the workspace.
        let flags: Vec<Wanted> = request
            .add_dirs
            .iter()
            .map(|path| Wanted {
                path: path.clone(),
                place: "--add-dir".to_owned(),
                base: self.env.current.clone(),
            })
            .collect();
        roots(ground, (&user, &answered), &project, &flags)
    }
}

/// Folders at whose top the control names are protected: the workspace, the repository it lies
/// in, and the folders that were added.
fn tops(workspace: &Path, repository: &Repository, roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut tops = vec![workspace.to_owned()];
    tops.extend(repository.top.clone());
    tops.extend(added(workspace, roots).cloned());
    tops.sort();
    tops.dedup();
    tops
}

fn added<'a>(workspace: &'a Path, roots: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
    roots.iter().filter(move |root| !root.starts_with(workspace) && root.is_dir())
}

/// What stays read-only of what is there.
fn protected(
    settings: &Settings,
    tops: &[PathBuf],
    (repository, others): (&Repository, &[Repository]),
) -> Vec<PathBuf> {
    let lifted: Vec<String> =
        settings.unprotected.iter().map(|entry| entry.value.clone()).collect();
    let mut protected = locate::protected_names(tops, &lifted);
    for repository in std::iter::once(repository).chain(others) {
        protected.extend(locate::protected_by_git(repository, &lifted));
    }
    protected
}

fn limits(settings: &Settings) -> Limits {
    let mut limits = Limits::for_memory(0);
    if let Some(size) = &settings.tmp_bytes {
        limits = Limits::for_memory(size.value.saturating_mul(8));
    }
    limits.processes = settings.processes.as_ref().map_or(limits.processes, |count| count.value);
    let memory = settings.memory_bytes.as_ref();
    limits.memory_bytes = memory.map_or(limits.memory_bytes, |size| size.value);
    limits.open_files = settings.open_files.as_ref().map_or(limits.open_files, |count| count.value);
    limits.wall_time = settings.wall_time.as_ref().map(|time| time.value);
    limits
}

fn absolute(path: PathBuf) -> Result<AbsPath, ConfigError> {
    AbsPath::new(path).map_err(|error| ConfigError::Refused { what: error.to_string(), hint: None })
}

fn all_absolute(paths: Vec<PathBuf>) -> Result<Vec<AbsPath>, ConfigError> {
    paths.into_iter().map(absolute).collect()
}
