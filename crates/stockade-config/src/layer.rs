//! Putting the layers on top of one another.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode as FileMode, OFlags, ResolveFlags};
use stockade_policy::{ApprovalPolicy, Mode, RuleOwner, Verdict};
use toml::de::{DeTable, DeValue};

use crate::codex::{self, ShellEnvironment};
use crate::diagnose::{ConfigError, Layer, Source};
use crate::env::Env;
use crate::grants::GrantText;
use crate::network::network_widenings;
use crate::requests::owned_by;
use crate::schema::{self, Placed, Settings, ignored};

/// Larger than any configuration that a person wrote; in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// A project's own file, in its workspace.
pub(crate) const PROJECT_FILE: &str = ".stockade/config.toml";

/// Reads `path`; `Ok(None)` when there is no such file.
///
/// A project's file was written by somebody else, so nothing that it may be (a pipe, a device,
/// a gigabyte) may keep the start waiting.
pub(crate) fn read_source(path: &Path, layer: Layer) -> Result<Option<Source>, ConfigError> {
    let unreadable =
        |error: rustix::io::Errno| ConfigError::Unreadable(path.to_owned(), error.into());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match path.ancestors().nth(2) {
        // What a link outside leads to is not the project's, and would be shown where it is wrong.
        Some(workspace) if layer == Layer::Project => open_beneath(workspace, path, flags),
        _ => rustix::fs::open(path, flags, FileMode::empty()),
    };
    let file = match opened {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::XDEV) => {
            return Err(ConfigError::refused(
                format!("`{}` is a link that leads out of the project", path.display()),
                "look at it, and leave it out with `--no-project-config`",
            ));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let stat = rustix::fs::fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ConfigError::refused(
            format!("`{}` is not a file", path.display()),
            "configuration is a TOML file; move what is there out of the way",
        ));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES) {
        return Err(ConfigError::refused(
            format!("`{}` is larger than 1 MiB", path.display()),
            "configuration is a short TOML file",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Source { name: path.to_owned(), text, layer })),
        Err(_) => Err(ConfigError::refused(
            format!("`{}` is not UTF-8", path.display()),
            "TOML files are UTF-8 text",
        )),
    }
}

/// Reads `path` and what it says; `Ok(None)` when there is no such file.
pub(crate) fn read_file(path: &Path, layer: Layer) -> Result<Option<Settings>, ConfigError> {
    read_source(path, layer)?.map(|source| schema::read(&source)).transpose()
}

/// Reads `path` as if it were the user's own file, and nothing else.
///
/// # Errors
///
/// What is wrong in it, with its place; also when it is not there.
pub fn validate(path: &Path) -> Result<(), ConfigError> {
    if read_file(path, Layer::User)?.is_some() {
        return Ok(());
    }
    let hint = "name a configuration file, or none to check all layers";
    Err(ConfigError::refused(format!("there is no `{}`", path.display()), hint))
}

/// Reads `text` as if it were the user's own file, for tests and fuzzers.
///
/// # Errors
///
/// What is wrong in it, with its place.
pub fn validate_text(text: &str) -> Result<(), ConfigError> {
    let name = PathBuf::from("config.toml");
    schema::read(&Source { name, text: text.to_owned(), layer: Layer::User }).map(drop)
}

/// Opens `path` by way of links that stay in `folder` only; `EXDEV` for others.
fn open_beneath(folder: &Path, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let parent = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(folder, parent, FileMode::empty())?;
    let inner = path.strip_prefix(folder).unwrap_or(path);
    let resolve = ResolveFlags::BENEATH;
    match rustix::fs::openat2(&parent, inner, flags, FileMode::empty(), resolve) {
        // Inside another Stockade, which knows no such call.
        Err(rustix::io::Errno::NOSYS) => open_where_it_lands(folder, path, flags),
        opened => opened,
    }
}

/// The same in two steps; whoever can change a link in between is held by the boundary outside.
fn open_where_it_lands(folder: &Path, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let canonical = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| {
            error.raw_os_error().map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error)
        })
    };
    let (folder, path) = (canonical(folder)?, canonical(path)?);
    if !path.starts_with(&folder) {
        return Err(rustix::io::Errno::XDEV);
    }
    rustix::fs::open(&path, flags | OFlags::NOFOLLOW, FileMode::empty())
}

/// Reads one `-c KEY=VALUE`; a value that is not TOML is a string.
pub(crate) fn read_option(option: &str) -> Result<Settings, ConfigError> {
    let wrong = |why: &str| {
        ConfigError::refused(
            format!("`-c {option}` {why}"),
            "write `-c KEY=VALUE`, for example `-c sandbox_mode=read-only`",
        )
    };
    let Some((key, value)) = option.split_once('=') else {
        return Err(wrong("has no `=`"));
    };
    let key = key.trim();
    // Alone, so that neither part can carry a line of its own.
    let is_key = !key.starts_with('[') && !key.contains(['\n', '\r']);
    if !is_key || DeTable::parse(&format!("{key}=0")).is_err() {
        return Err(wrong("does not start with a key"));
    }
    let text = if DeValue::parse(value.trim()).is_ok() {
        format!("{key}={}", value.trim())
    } else {
        format!("{key}={}", toml::Value::String(value.to_owned()))
    };
    schema::read(&Source { name: PathBuf::from("-c"), text, layer: Layer::Option })
}

/// The files of one start, lowest first, and the project's own apart.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) requirements: PathBuf,
    pub(crate) system: PathBuf,
    /// Codex' own, when it was asked for.
    pub(crate) codex: Option<PathBuf>,
    pub(crate) user: Option<PathBuf>,
    /// Must exist.
    pub(crate) profile: Option<PathBuf>,
    pub(crate) project: Option<PathBuf>,
    /// What the user has answered for this workspace.
    pub(crate) answers: Option<PathBuf>,
}

impl Files {
    pub(crate) fn of(
        env: &Env,
        profile: Option<&str>,
        (workspace, project): (&Path, Option<&Path>),
        codex: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let user = env.user_folder();
        let profile = match (profile, &user) {
            (None, _) => None,
            (Some(name), Some(folder)) if !name.is_empty() && !name.contains(['/', '\0']) => {
                Some(folder.join(format!("{name}.config.toml")))
            }
            (Some(name), _) => {
                return Err(ConfigError::refused(
                    format!("there is no profile `{name}`"),
                    "a profile NAME is the file `~/.config/stockade/NAME.config.toml`",
                ));
            }
        };
        Ok(Self {
            requirements: env.system.join("requirements.toml"),
            codex: codex.and_then(|named| codex::file(env, named)),
            system: env.system.join("config.toml"),
            user: user.map(|folder| folder.join("config.toml")),
            profile,
            project: project.map(|folder| folder.join(PROJECT_FILE)),
            answers: env.answers_file(workspace),
        })
    }

    /// The files whose content decides, except the project's.
    pub(crate) fn own(&self) -> Vec<PathBuf> {
        let optional = self.codex.iter().chain(&self.user).chain(&self.profile);
        [&self.requirements, &self.system].into_iter().chain(optional).cloned().collect()
    }
}

impl Settings {
    /// Puts `above` on top: single values replace, lists add. `writable_roots` replace.
    pub(crate) fn overlay(mut self, above: Self) -> Self {
        let Self {
            warnings,
            hidden,
            readable,
            unprotected,
            env_pass,
            env_set,
            network_allow,
            network_deny,
            network_requests,
            network_logins,
            network_private,
            rules,
            answered_roots,
            answered_rules,
            ..
        } = &mut self;
        warnings.extend(above.warnings);
        hidden.extend(above.hidden);
        readable.extend(above.readable);
        unprotected.extend(above.unprotected);
        env_pass.extend(above.env_pass);
        env_set.extend(above.env_set);
        network_allow.extend(above.network_allow);
        network_deny.extend(above.network_deny);
        network_requests.extend(above.network_requests);
        network_logins.extend(above.network_logins);
        network_private.extend(above.network_private);
        rules.extend(above.rules);
        answered_roots.extend(above.answered_roots);
        answered_rules.extend(above.answered_rules);
        if above.writable_roots.is_some() {
            self.project_roots.clear();
        }
        let ShellEnvironment { inherit, exclude, include_only } = above.codex_env;
        self.codex_env.inherit = inherit.or(self.codex_env.inherit);
        self.codex_env.exclude.extend(exclude);
        self.codex_env.include_only = include_only.or(self.codex_env.include_only);
        self.mode = above.mode.or(self.mode);
        self.approval = above.approval.or(self.approval);
        self.writable_roots = above.writable_roots.or(self.writable_roots);
        self.caches_closed = above.caches_closed.or(self.caches_closed);
        self.tmp_bytes = above.tmp_bytes.or(self.tmp_bytes);
        self.processes = above.processes.or(self.processes);
        self.memory_bytes = above.memory_bytes.or(self.memory_bytes);
        self.open_files = above.open_files.or(self.open_files);
        self.wall_time = above.wall_time.or(self.wall_time);
        self.log_required = above.log_required.or(self.log_required);
        self.retention = self.retention.overlay(above.retention);
        self.reads_workspace = above.reads_workspace.or(self.reads_workspace);
        self.network_open = above.network_open.or(self.network_open);
        self.network_upstream = above.network_upstream.or(self.network_upstream);
        self.model = self.model.overlay(above.model);
        self.agent = self.agent.overlay(above.agent);
        self.cloud = self.cloud.overlay(above.cloud);
        self
    }

    /// Puts on top what the user has answered for `workspace`, unless it is another one's.
    pub(crate) fn answered(mut self, answers: Self, workspace: &Path) -> Self {
        match &answers.workspace {
            Some(named) if Path::new(&named.value) == workspace => self.overlay(answers),
            Some(Placed { value, place }) => {
                self.warnings.push(format!("{place}: ignored: these are answers for `{value}`"));
                self
            }
            None => {
                self.warnings.push(
                    "answers for this project are ignored: they do not name their `workspace`"
                        .to_owned(),
                );
                self
            }
        }
    }

    /// Puts a project's own file on top: whatever in it would widen is left out and said.
    ///
    /// What its `writable_roots` have in common with those below is known only where paths are
    /// resolved (`roots`).
    pub(crate) fn narrow(mut self, project: Self) -> Self {
        let warnings = &mut self.warnings;
        let mut leave_out = |place: &str, what: &str| warnings.push(ignored(place, what));
        if let Some(mode) = project.mode {
            let now = self.mode.as_ref().map_or(Mode::WorkspaceWrite, |mode| mode.value);
            if width(mode.value) <= width(now) {
                self.mode = Some(mode);
            } else {
                leave_out(&mode.place, "widen the sandbox mode");
            }
        }
        if let Some(policy) = project.approval {
            let now =
                self.approval.as_ref().map_or(ApprovalPolicy::OnRequest, |policy| policy.value);
            if narrows_approval(now, policy.value) {
                self.approval = Some(policy);
            } else {
                leave_out(&policy.place, "loosen the approval policy");
            }
        }
        for (list, what) in [
            (&project.readable, "re-open hidden paths"),
            (&project.unprotected, "lift protections"),
            (&project.env_pass, "pass variables on"),
        ] {
            for entry in list {
                leave_out(&entry.place, what);
            }
        }
        let opens = network_widenings(&project.network_allow, &project.network_private);
        let opens = opens.chain(project.cloud.setup_network.iter().map(|entry| &entry.place));
        let opens = opens.map(|place| (place, "open the network"));
        let sets = project.env_set.iter().map(|entry| (&entry.place, "set variables"));
        opens.chain(sets).for_each(|(place, what)| leave_out(place, what));
        // It can only close: `true` was left out when it was read.
        self.network_open = project.network_open.or(self.network_open);
        self.network_deny.extend(project.network_deny);
        self.network_requests.extend(owned_by(RuleOwner::Project, project.network_requests));
        for mut rule in project.rules {
            if rule.decision == Verdict::Allow {
                leave_out(&rule.place, "allow commands");
                continue;
            }
            if rule.grant != GrantText::default() {
                leave_out(&rule.place, "say what an approval opens");
                rule.grant = GrantText::default();
            }
            self.rules.push(rule);
        }
        project.model.places().for_each(|place| leave_out(place, "choose the model"));
        let mut raised = Vec::new();
        lower(&mut self.agent.command_timeout, project.agent.command_timeout, &mut raised);
        lower(&mut self.agent.max_turns, project.agent.max_turns, &mut raised);
        lower(&mut self.agent.max_tokens, project.agent.max_tokens, &mut raised);
        let (old, new) = (&mut self.agent.question_timeout, project.agent.question_timeout);
        lower(old, new, &mut raised);
        lower(&mut self.tmp_bytes, project.tmp_bytes, &mut raised);
        lower(&mut self.processes, project.processes, &mut raised);
        lower(&mut self.memory_bytes, project.memory_bytes, &mut raised);
        lower(&mut self.open_files, project.open_files, &mut raised);
        lower(&mut self.wall_time, project.wall_time, &mut raised);
        self.cloud.narrow(project.cloud, &mut raised);
        for place in raised {
            leave_out(&place, "raise a limit");
        }
        tighten(&mut self.log_required, project.log_required);
        tighten(&mut self.caches_closed, project.caches_closed);
        tighten(&mut self.reads_workspace, project.reads_workspace);
        self.project_roots = project.writable_roots.unwrap_or_default();
        self.project_hidden.extend(project.hidden);
        self.warnings.extend(project.warnings);
        self
    }
}

/// Takes `new` when it is not above `old`; otherwise its place goes to `raised`.
pub(crate) fn lower<T: PartialOrd>(
    old: &mut Option<Placed<T>>,
    new: Option<Placed<T>>,
    raised: &mut Vec<String>,
) {
    let Some(new) = new else { return };
    if old.as_ref().is_none_or(|old| new.value <= old.value) {
        *old = Some(new);
    } else {
        raised.push(new.place);
    }
}

/// Takes what sets a switch that only narrows; what would unset it changes nothing.
fn tighten(old: &mut Option<Placed<bool>>, new: Option<Placed<bool>>) {
    if let Some(new) = new.filter(|new| new.value) {
        *old = Some(new);
    }
}

fn width(mode: Mode) -> u8 {
    match mode {
        Mode::ReadOnly => 0,
        Mode::WorkspaceWrite => 1,
        Mode::DangerFullAccess => 2,
    }
}

/// `never` lets nothing cross and `untrusted` asks about more, so neither replaces the other
/// from a project's file; both narrow `on-request`.
fn narrows_approval(now: ApprovalPolicy, new: ApprovalPolicy) -> bool {
    new == now || now == ApprovalPolicy::OnRequest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(text: &str) -> Settings {
        let name = PathBuf::from("config.toml");
        schema::read(&Source { name, text: text.to_owned(), layer: Layer::Project }).unwrap()
    }

    #[test]
    fn a_project_file_narrows_and_its_widenings_are_said() {
        let user = settings("sandbox_mode = 'workspace-write'\n");
        let project = settings(
            "sandbox_mode = 'danger-full-access'\nhidden = ['x']\nunprotected = ['.env']\n\
             [env]\npass = ['A']\nset = { PATH = '/x' }\n[network]\nallow = ['localhost:1']\n",
        );
        let both = user.clone().narrow(project);
        assert_eq!(both.mode, user.mode);
        assert_eq!(both.project_hidden.len(), 1);
        assert!(both.unprotected.is_empty() && both.env_pass.is_empty() && both.env_set.is_empty());
        assert!(both.network_allow.is_empty());
        assert_eq!(both.warnings.len(), 5, "{:?}", both.warnings);
        let narrower = user.narrow(settings("sandbox_mode = 'read-only'"));
        assert_eq!(narrower.mode.unwrap().value, Mode::ReadOnly);
    }

    #[test]
    fn an_option_that_is_not_toml_is_a_string() {
        let read = read_option("sandbox_mode=read-only").unwrap();
        assert_eq!(read.mode.unwrap().value, Mode::ReadOnly);
        let read = read_option("sandbox_workspace_write.writable_roots=['a']").unwrap();
        assert_eq!(read.writable_roots.unwrap()[0].value, "a");
        let read = read_option("env.set.A=1\nsandbox_mode='read-only'").unwrap();
        assert_eq!((read.mode, read.env_set.len()), (None, 1), "one option sets one key");
        for wrong in ["sandbox_mode", "x=1", "=1", "a b=1", "x\ny=1", "[env]\npass=['A']"] {
            assert!(read_option(wrong).is_err(), "{wrong}");
        }
    }

    fn any_mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::ReadOnly), Just(Mode::WorkspaceWrite), Just(Mode::DangerFullAccess)]
    }

    proptest! {
        /// Threat model, C2: a project's file cannot widen what the user allowed.
        #[test]
        fn narrowing_never_widens(user in any_mode(), project in any_mode(), old in 16_u32..99, new in 16_u32..99) {
            let text = |mode: Mode, count: u32| format!("sandbox_mode = '{mode}'\n[limits]\nprocesses = {count}\n");
            let both = settings(&text(user, old)).narrow(settings(&text(project, new)));
            prop_assert!(width(both.mode.unwrap().value) <= width(user));
            prop_assert_eq!(both.processes.unwrap().value, old.min(new));
        }
    }
}
