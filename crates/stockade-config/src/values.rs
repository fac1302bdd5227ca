//! Every resolved value with the place that it comes from: for `config show`, `explain` and
//! `--verbose`. Nothing of it is looked for at a start.

use std::path::{Path, PathBuf};

use stockade_policy::{ApprovalPolicy, KeySource, Mode, names};

use crate::codex::Inherit;
use crate::env::Env;
use crate::hidden;
use crate::load::{EnvFlag, Loaded, Request};
use crate::locate::canonical;
use crate::model::ModelApi;
use crate::schema::{Placed, Settings};
use crate::stack::BUILT_IN;

/// One value, or one entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As in a file: `limits.tmp_size`. A list has one for each entry.
    pub key: String,
    /// The value as JSON, which is also TOML.
    pub value: String,
    /// `FILE:LINE`, a flag, or `built-in`.
    pub source: String,
}

/// Where the paths of a policy come from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    writable: Vec<(PathBuf, String)>,
    hidden: Vec<(PathBuf, String)>,
    readable: Vec<(PathBuf, String)>,
    /// What an allow-list for reads closes, and where that is asked for.
    closed: Option<(Vec<PathBuf>, String)>,
    workspace: PathBuf,
    state: Vec<PathBuf>,
}

impl Origins {
    /// Looks again for what the entries of the layers named.
    pub fn of(env: &Env, request: &Request, loaded: &Loaded) -> Self {
        let settings = &loaded.settings;
        let workspace = loaded.policy.workspace.as_path();
        let found = |entry: &Placed<String>| {
            let path = canonical(&env.resolve(Path::new(&entry.value), workspace))?;
            Some((path, entry.place.clone()))
        };
        let roots = settings.writable_roots.iter().flatten().chain(&settings.project_roots);
        let roots = roots.chain(&settings.answered_roots);
        let mut writable: Vec<(PathBuf, String)> = roots.filter_map(found).collect();
        writable.extend(request.add_dirs.iter().filter_map(|path| {
            Some((canonical(&env.resolve(path, &env.current))?, "--add-dir".to_owned()))
        }));
        let question = hidden::Question {
            env,
            homes: &env.homes(),
            workspace,
            settings,
            flags: &request.hide,
            state: &[],
        };
        let reads = settings.reads_workspace.as_ref().filter(|it| it.value);
        Self {
            writable,
            closed: reads.map(|it| (question.allow_list().0, it.place.clone())),
            hidden: question.origins(),
            readable: settings.readable.iter().filter_map(found).collect(),
            workspace: workspace.to_owned(),
            state: request.needs.state.iter().filter_map(|path| canonical(path)).collect(),
        }
    }

    /// Why `root` is writable.
    pub fn writable(&self, root: &Path) -> String {
        if let Some(place) = exactly(&self.writable, root) {
            return place;
        }
        if self.state.iter().any(|state| state == root) {
            return "the agent's recipe".to_owned();
        }
        let what = if root == self.workspace { "the workspace" } else { "git's own files" };
        format!("{BUILT_IN}: {what}")
    }

    /// Why `path` is hidden.
    pub fn hidden(&self, path: &Path) -> String {
        let closed = self.closed.iter().find(|(closed, _)| closed.iter().any(|it| it == path));
        let closed = closed.map(|(_, place)| place.clone());
        let found = exactly(&self.hidden, path).or(closed);
        found.unwrap_or_else(|| format!("{BUILT_IN}: secrets"))
    }

    /// Why `path` can be read in what is hidden.
    pub fn readable(&self, path: &Path) -> String {
        exactly(&self.readable, path).unwrap_or_else(|| BUILT_IN.to_owned())
    }

    /// Why `path` stays as it is.
    pub fn protected(path: &Path) -> String {
        use std::os::unix::ffi::OsStrExt as _;
        let is_git = path.components().any(|part| part.as_os_str() == ".git");
        if is_git {
            return format!("{BUILT_IN}: git reads it as instructions");
        }
        let nested = names::nested().find(|name| names::ends_with(path, name));
        let name = path.file_name().unwrap_or_default();
        let entry = match nested {
            Some(name) => names::PROTECTED.iter().find(|entry| entry.name == name),
            None => names::protecting(name.as_bytes()),
        };
        let why = entry.map_or("what is protected leads to it", |entry| entry.why);
        format!("{BUILT_IN}: {why}")
    }
}

fn exactly(list: &[(PathBuf, String)], path: &Path) -> Option<String> {
    list.iter().rev().find(|(found, _)| found == path).map(|(_, place)| place.clone())
}

/// Collects values.
struct List(Vec<Resolved>);

impl List {
    fn add(&mut self, key: impl Into<String>, value: String, source: &str) {
        self.0.push(Resolved { key: key.into(), value, source: source.to_owned() });
    }

    fn text(&mut self, key: &str, value: &str, source: &str) {
        self.add(key, quoted(value), source);
    }

    fn texts(&mut self, key: &str, entries: &[Placed<String>]) {
        for entry in entries {
            self.text(key, &entry.value, &entry.place);
        }
    }

    fn one<T>(&mut self, key: &str, value: Option<&Placed<T>>, show: impl Fn(&T) -> String) {
        if let Some(value) = value {
            self.add(key, show(&value.value), &value.place);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: impl Iterator<Item = String>) -> String {
    serde_json::Value::from(texts.collect::<Vec<_>>()).to_string()
}

impl Loaded {
    /// Every value that is set, or has a built-in value, in the order of the reference.
    pub fn values(&self, request: &Request) -> Vec<Resolved> {
        let mut list = List(Vec::new());
        self.modes(&mut list);
        self.lists(&mut list, request);
        self.limits(&mut list);
        self.rules(&mut list);
        self.services(&mut list);
        list.0
    }

    /// Where values come from that are not built in, as `key` and place.
    pub fn sources(&self) -> Vec<(String, String)> {
        let values = self.values(&Request::default()).into_iter();
        let values = values.filter(|value| value.source != BUILT_IN);
        values.map(|value| (value.key, value.source)).collect()
    }

    fn modes(&self, list: &mut List) {
        let Settings { mode, approval, reads_workspace, .. } = &self.settings;
        let built_in = || BUILT_IN.to_owned();
        let mode =
            mode.clone().unwrap_or(Placed { value: Mode::WorkspaceWrite, place: built_in() });
        list.text("sandbox_mode", mode.value.as_str(), &mode.place);
        let approval = approval
            .clone()
            .unwrap_or(Placed { value: ApprovalPolicy::OnRequest, place: built_in() });
        list.text("approval_policy", approval.value.as_str(), &approval.place);
        let caches = self.settings.caches_closed.clone();
        let caches = caches.unwrap_or(Placed { value: false, place: built_in() });
        let word = if caches.value { "read-only" } else { "copy-on-write" };
        list.text("caches", word, &caches.place);
        let reads = reads_workspace.clone().unwrap_or(Placed { value: false, place: built_in() });
        let word = if reads.value { "workspace" } else { "everything" };
        list.text("read", word, &reads.place);
    }

    fn lists(&self, list: &mut List, request: &Request) {
        let settings = &self.settings;
        let roots = "sandbox_workspace_write.writable_roots";
        list.texts(roots, settings.writable_roots.as_deref().unwrap_or_default());
        list.texts(roots, &settings.project_roots);
        list.texts(roots, &settings.answered_roots);
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        for dir in &request.add_dirs {
            list.text(roots, &path(dir), "--add-dir");
        }
        list.texts("hidden", &settings.hidden);
        list.texts("hidden", &settings.project_hidden);
        list.texts("hidden", &settings.required_hidden);
        for hide in &request.hide {
            list.text("hidden", &path(hide), "--hide");
        }
        list.texts("readable", &settings.readable);
        list.texts("unprotected", &settings.unprotected);
        list.texts("env.pass", &settings.env_pass);
        for entry in &settings.env_set {
            let (name, value) = &entry.value;
            list.text(&format!("env.set.{name}"), value, &entry.place);
        }
        for flag in &request.env {
            match flag {
                EnvFlag::Pass(name) => list.text("env.pass", name, "--env"),
                EnvFlag::Set(name, value) => {
                    list.text(&format!("env.set.{name}"), &value.to_string_lossy(), "--env");
                }
            }
        }
        let codex = &settings.codex_env;
        list.one("shell_environment_policy.inherit", codex.inherit.as_ref(), |inherit| {
            quoted(match inherit {
                Inherit::All => "all",
                Inherit::Core => "core",
                Inherit::None => "none",
            })
        });
        list.texts("shell_environment_policy.exclude", &codex.exclude);
        let only = codex.include_only.as_deref().unwrap_or_default();
        list.texts("shell_environment_policy.include_only", only);
        for (key, entries) in [
            ("network.allow", &settings.network_allow),
            ("network.deny", &settings.network_deny),
            ("cloud.setup_network", &settings.cloud.setup_network),
        ] {
            for entry in entries {
                list.text(key, &entry.value.text, &entry.place);
            }
        }
        for rule in &settings.network_requests {
            list.add("network.rules", crate::requests::shown(rule), &rule.place);
        }
        for login in &settings.network_logins {
            list.add("network.ssh", crate::logins::shown(&login.value), &login.place);
        }
        for range in &settings.network_private {
            list.text("network.private", &range.value.to_string(), &range.place);
        }
        let open = settings.network_open.clone();
        let open = open.unwrap_or(Placed { value: false, place: BUILT_IN.to_owned() });
        let access = "sandbox_workspace_write.network_access";
        list.add(access, open.value.to_string(), &open.place);
        for host in &request.allow_hosts {
            list.text("network.allow", host, "--allow-host");
        }
    }

    fn limits(&self, list: &mut List) {
        let settings = &self.settings;
        list.one("limits.processes", settings.processes.as_ref(), u32::to_string);
        list.one("limits.memory", settings.memory_bytes.as_ref(), |bytes| quoted(&size(*bytes)));
        list.one("limits.open_files", settings.open_files.as_ref(), u32::to_string);
        list.one("limits.tmp_size", settings.tmp_bytes.as_ref(), |bytes| quoted(&size(*bytes)));
        list.one("limits.wall_time", settings.wall_time.as_ref(), |time| {
            quoted(&self::time(*time))
        });
        let log = settings.log_required.clone();
        let log = log.unwrap_or(Placed { value: false, place: BUILT_IN.to_owned() });
        list.add("log.required", log.value.to_string(), &log.place);
    }

    fn rules(&self, list: &mut List) {
        for rule in &self.settings.rules {
            let decision = rule.decision.word();
            // Each was checked where it was read.
            let prefix = rule.rule().map(|rule| rule.named().prefix).unwrap_or_default();
            list.text("rules", &format!("{decision} {prefix}"), &rule.place);
        }
    }

    fn services(&self, list: &mut List) {
        let Settings { model, agent, cloud, .. } = &self.settings;
        list.one("model.api", model.api.as_ref(), |api| {
            quoted(match api {
                ModelApi::Responses => "responses",
                ModelApi::Chat => "chat",
                ModelApi::Messages => "messages",
            })
        });
        list.one("model.base_url", model.base_url.as_ref(), |url| quoted(url));
        list.one("model.name", model.name.as_ref(), |name| quoted(name));
        list.one("model.key", model.key.as_ref(), |key| {
            match key {
                KeySource::Variable(name) => serde_json::json!({ "env": name }),
                KeySource::Program(words) => serde_json::json!({ "command": words }),
                KeySource::Keyring(words) => serde_json::json!({ "keyring": words }),
            }
            .to_string()
        });
        list.one("model.context_tokens", model.context_tokens.as_ref(), u64::to_string);
        let time = |time: &std::time::Duration| quoted(&self::time(*time));
        list.one("agent.command_timeout", agent.command_timeout.as_ref(), time);
        list.one("agent.max_turns", agent.max_turns.as_ref(), u32::to_string);
        list.one("agent.max_tokens", agent.max_tokens.as_ref(), u64::to_string);
        list.one("agent.question_timeout", agent.question_timeout.as_ref(), time);
        list.one("agent.notify", agent.notify.as_ref(), |notify| quoted(notify.as_str()));
        let kept = &self.settings.retention;
        list.one("retention.automatic", kept.automatic.as_ref(), bool::to_string);
        list.one("retention.runs", kept.runs.as_ref(), time);
        list.one("retention.threads", kept.threads.as_ref(), time);
        list.one("retention.undo", kept.undo.as_ref(), time);
        list.one("retention.undo_size", kept.undo_size.as_ref(), |bytes| quoted(&size(*bytes)));
        list.one("cloud.memory", cloud.memory.as_ref(), |bytes| quoted(&size(*bytes)));
        list.one("cloud.cpus", cloud.cpus.as_ref(), u32::to_string);
        list.one("cloud.disk", cloud.disk.as_ref(), |bytes| quoted(&size(*bytes)));
        list.one("cloud.wall_time", cloud.wall_time.as_ref(), time);
        list.one("cloud.parallel", cloud.parallel.as_ref(), u32::to_string);
        list.one("cloud.setup", cloud.setup.as_ref(), |script| quoted(script));
        list.one("cloud.checks", cloud.checks.as_ref(), |lines| self::list(lines.iter().cloned()));
    }
}

/// A size as it can be written in a file, exactly.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// A time as it can be written in a file, exactly.
fn time(time: std::time::Duration) -> String {
    if time.subsec_nanos() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}
