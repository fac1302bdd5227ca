//! Putting the layers on top of one another.

use std::path::{Path, PathBuf};

use stockade_policy::{ApprovalPolicy, Mode};

use crate::diagnose::{ConfigError, Source};
use crate::env::Env;
use crate::schema::{self, Placed, Settings};

/// Reads `path`; `Ok(None)` when there is no such file.
pub(crate) fn read_file(path: &Path) -> Result<Option<Settings>, ConfigError> {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => schema::read(&Source { name: path.to_owned(), text }).map(Some),
            Err(_) => Err(ConfigError::refused(
                format!("`{}` is not UTF-8", path.display()),
                "TOML files are UTF-8 text",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::Unreadable(path.to_owned(), error)),
    }
}

/// Reads one `-c KEY=VALUE`; a value that is not TOML is a string.
pub(crate) fn read_option(option: &str) -> Result<Settings, ConfigError> {
    let Some((key, value)) = option.split_once('=') else {
        return Err(ConfigError::refused(
            format!("`-c {option}` has no `=`"),
            "write `-c KEY=VALUE`, for example `-c sandbox_mode=read-only`",
        ));
    };
    let name = PathBuf::from("-c");
    let as_toml = format!("{}={value}", key.trim());
    if toml::de::DeTable::parse(&as_toml).is_ok() {
        return schema::read(&Source { name, text: as_toml });
    }
    let quoted = toml::Value::String(value.to_owned()).to_string();
    schema::read(&Source { name, text: format!("{}={quoted}", key.trim()) })
}

/// The files of one start, lowest first, and the project's own apart.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) user: Vec<PathBuf>,
    /// Must exist.
    pub(crate) profile: Option<PathBuf>,
    pub(crate) project: Option<PathBuf>,
}

impl Files {
    pub(crate) fn of(
        env: &Env,
        profile: Option<&str>,
        project: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let requirements = env.system.join("requirements.toml");
        if requirements.exists() {
            return Err(ConfigError::refused(
                format!("not yet: `{}` cannot be enforced by this version", requirements.display()),
                "nothing runs under requirements that would be ignored",
            ));
        }
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
        let mut files = vec![env.system.join("config.toml")];
        files.extend(user.map(|folder| folder.join("config.toml")));
        let project = project.map(|folder| folder.join(".stockade/config.toml"));
        Ok(Self { user: files, profile, project })
    }
}

impl Settings {
    /// Puts `above` on top: single values replace, lists add. `writable_roots` replace.
    pub(crate) fn overlay(mut self, above: Self) -> Self {
        let Self {
            warnings, hidden, readable, unprotected, env_pass, env_set, network_allow, ..
        } = &mut self;
        warnings.extend(above.warnings);
        hidden.extend(above.hidden);
        readable.extend(above.readable);
        unprotected.extend(above.unprotected);
        env_pass.extend(above.env_pass);
        env_set.extend(above.env_set);
        network_allow.extend(above.network_allow);
        self.mode = above.mode.or(self.mode);
        self.approval = above.approval.or(self.approval);
        self.writable_roots = above.writable_roots.or(self.writable_roots);
        self.tmp_bytes = above.tmp_bytes.or(self.tmp_bytes);
        self.processes = above.processes.or(self.processes);
        self.wall_time = above.wall_time.or(self.wall_time);
        self
    }

    /// Puts a project's own file on top: whatever in it would widen is left out and said.
    ///
    /// `writable_roots` of a project narrow: only entries inside the workspace count, and
    /// whether they lie inside what was writable before is checked where paths are resolved.
    pub(crate) fn narrow(mut self, project: Self) -> Self {
        let mut ignored = |place: &str, what: &str| {
            self.warnings.push(format!("{place}: ignored: a project file may not {what}"));
        };
        if let Some(mode) = project.mode {
            let now = self.mode.as_ref().map_or(Mode::WorkspaceWrite, |mode| mode.value);
            if width(mode.value) <= width(now) {
                self.mode = Some(mode);
            } else {
                ignored(&mode.place, "widen the sandbox mode");
            }
        }
        if let Some(policy) = project.approval {
            let now =
                self.approval.as_ref().map_or(ApprovalPolicy::OnRequest, |policy| policy.value);
            if narrows_approval(now, policy.value) {
                self.approval = Some(policy);
            } else {
                ignored(&policy.place, "loosen the approval policy");
            }
        }
        for (list, what) in [
            (&project.readable, "re-open hidden paths"),
            (&project.unprotected, "lift protections"),
            (&project.env_pass, "pass variables on"),
            (&project.network_allow, "open the network"),
        ] {
            for entry in list {
                ignored(&entry.place, what);
            }
        }
        for entry in &project.env_set {
            ignored(&entry.place, "set variables");
        }
        let lower = |old: &Option<Placed<u64>>, new: &Placed<u64>| {
            old.as_ref().is_none_or(|old| new.value <= old.value)
        };
        if let Some(size) = project.tmp_bytes {
            if lower(&self.tmp_bytes, &size) {
                self.tmp_bytes = Some(size);
            } else {
                ignored(&size.place, "raise a limit");
            }
        }
        if let Some(count) = project.processes {
            if self.processes.as_ref().is_none_or(|old| count.value <= old.value) {
                self.processes = Some(count);
            } else {
                ignored(&count.place, "raise a limit");
            }
        }
        if let Some(time) = project.wall_time {
            if self.wall_time.as_ref().is_none_or(|old| time.value <= old.value) {
                self.wall_time = Some(time);
            } else {
                ignored(&time.place, "raise a limit");
            }
        }
        self.hidden.extend(project.hidden);
        self.warnings.extend(project.warnings);
        self
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
        schema::read(&Source { name: PathBuf::from("config.toml"), text: text.to_owned() }).unwrap()
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
        assert_eq!(both.hidden.len(), 1);
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
        assert_eq!(read.writable_roots.unwrap().value, ["a"]);
        assert!(read_option("sandbox_mode").is_err() && read_option("x=1").is_err());
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
