//! One text of configuration, read strictly: every key known, every type right.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use stockade_policy::names::{Lift, PROTECTED, lift};
use stockade_policy::{AddressRange, ApprovalPolicy, Mode, RequestRule, parse_size, parse_time};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::answered_rules::AnsweredRule;
use crate::codex::ShellEnvironment;
use crate::diagnose::{ConfigError, Layer, Source, nearest};
use crate::keys::{advice, names_in};
use crate::logins::LoginText;
use crate::machine::CloudSettings;
use crate::model::{AgentSettings, ModelSettings};
use crate::network::Opened;
use crate::retention::RetentionText;
use crate::rule_text::RuleText;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    /// `file:line`.
    pub(crate) place: String,
}

/// What one layer says. Lists that add to one another are collected over the layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mode: Option<Placed<Mode>>,
    pub(crate) approval: Option<Placed<ApprovalPolicy>>,
    /// Later layers replace the whole list.
    pub(crate) writable_roots: Option<Vec<Placed<String>>>,
    /// What a project's own file narrows that list to.
    pub(crate) project_roots: Vec<Placed<String>>,
    /// What the user has answered for this workspace: added to all of it.
    pub(crate) answered_roots: Vec<Placed<String>>,
    pub(crate) hidden: Vec<Placed<String>>,
    /// What a project's own file hides; the user's `readable` does not reach it.
    pub(crate) project_hidden: Vec<Placed<String>>,
    pub(crate) readable: Vec<Placed<String>>,
    pub(crate) unprotected: Vec<Placed<String>>,
    pub(crate) env_pass: Vec<Placed<String>>,
    pub(crate) env_set: Vec<Placed<(String, String)>>,
    /// What Codex' own configuration says of the environment.
    pub(crate) codex_env: ShellEnvironment,
    pub(crate) network_allow: Vec<Placed<Opened>>,
    pub(crate) network_deny: Vec<Placed<Opened>>,
    pub(crate) network_requests: Vec<RequestRule>,
    /// Paths of keys as they are written.
    pub(crate) network_logins: Vec<Placed<LoginText>>,
    pub(crate) network_private: Vec<Placed<AddressRange>>,
    pub(crate) network_open: Option<Placed<bool>>,
    pub(crate) network_upstream: Option<Placed<String>>,
    /// Whether caches are not even written to in a layer.
    pub(crate) caches_closed: Option<Placed<bool>>,
    pub(crate) tmp_bytes: Option<Placed<u64>>,
    pub(crate) processes: Option<Placed<u32>>,
    pub(crate) memory_bytes: Option<Placed<u64>>,
    pub(crate) open_files: Option<Placed<u32>>,
    pub(crate) wall_time: Option<Placed<Duration>>,
    /// Whether nothing may run that cannot be recorded.
    pub(crate) log_required: Option<Placed<bool>>,
    pub(crate) retention: RetentionText,
    /// Whether what is readable is an allow-list.
    pub(crate) reads_workspace: Option<Placed<bool>>,
    /// What the machine's requirements hide; nothing re-opens it.
    pub(crate) required_hidden: Vec<Placed<String>>,
    pub(crate) rules: Vec<RuleText>,
    /// What the user has answered for this workspace to rules that ask.
    pub(crate) answered_rules: Vec<AnsweredRule>,
    /// Of which workspace a file of answers is.
    pub(crate) workspace: Option<Placed<String>>,
    pub(crate) model: ModelSettings,
    pub(crate) agent: AgentSettings,
    pub(crate) cloud: CloudSettings,
    /// Said once at the start.
    pub(crate) warnings: Vec<String>,
}

/// A key with its value.
pub(crate) type Entry<'a> = (&'a Key<'a>, &'a Value<'a>);

/// Reads `source` whole.
///
/// # Errors
///
/// A [`ConfigError::Place`] for a parse error, an unknown or doubled key, or a wrong type.
pub(crate) fn read(source: &Source) -> Result<Settings, ConfigError> {
    let table = parsed(source)?;
    let mut reader = Reader::new(source);
    let known = names_in("");
    for entry in table.get_ref() {
        if source.layer == Layer::Answers {
            reader.answer(entry)?;
            continue;
        }
        if !known.iter().any(|name| *name == entry.0.get_ref().as_ref()) {
            return Err(reader.unknown(entry.0, ""));
        }
        reader.top(entry)?;
    }
    Ok(reader.settings)
}

/// The table that `source` is.
///
/// # Errors
///
/// The place where it is not TOML.
pub(crate) fn parsed(source: &Source) -> Result<Spanned<DeTable<'_>>, ConfigError> {
    DeTable::parse(&source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let is_double = error.message().starts_with("duplicate key");
        let message = if is_double { "this key stands twice" } else { "this is not TOML" };
        source.wrong(span, message, error.message(), None)
    })
}

/// Reads one text; shared by the modules that each know a part of the keys.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) settings: Settings,
}

/// A key as it stands in the text.
pub(crate) type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

/// A value as it stands in the text.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, settings: Settings::default() }
    }
}

impl Reader<'_> {
    /// What is answered for a project are rules, hosts and paths, and nothing else.
    fn answer(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "rules" => self.rules(value)?,
            "answers" => self.answered_rules(value)?,
            "network" => self.each_free(value, Self::answered_host)?,
            "sandbox_workspace_write" => self.each_free(value, Self::answered_root)?,
            "workspace" => {
                self.settings.workspace = Some(self.placed(value.span(), self.string(value)?));
            }
            name => {
                let help = "answers for a project are its `workspace`, `[[rules]]`, `[[answers]]`, `network.allow` \
                            and `sandbox_workspace_write.writable_roots`";
                let message = format!("unknown key `{name}`");
                return Err(self.source.wrong(
                    key.span(),
                    message,
                    "not known",
                    Some(help.to_owned()),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn top(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "rules" => self.rules(value)?,
            "sandbox_mode" => self.settings.mode = Some(self.word(value)?),
            "approval_policy" => self.approval(value)?,
            "sandbox_workspace_write" => {
                self.each("sandbox_workspace_write", value, Self::workspace_write)?;
            }
            "hidden" => self.settings.hidden = self.strings(value)?,
            "readable" => self.settings.readable = self.strings(value)?,
            "unprotected" => self.unprotected(value)?,
            "env" => self.each("env", value, Self::env)?,
            "network" => self.each("network", value, Self::network)?,
            "limits" => self.each("limits", value, Self::limits)?,
            "caches" => {
                let is_closed = match self.string(value)?.as_str() {
                    "copy-on-write" => false,
                    "read-only" => true,
                    _ => return Err(self.wrong_value(value, "`copy-on-write` or `read-only`")),
                };
                self.settings.caches_closed = Some(self.placed(value.span(), is_closed));
            }
            "read" => {
                let is_list = match self.string(value)?.as_str() {
                    "everything" => false,
                    "workspace" => true,
                    _ => return Err(self.wrong_value(value, "`everything` or `workspace`")),
                };
                self.settings.reads_workspace = Some(self.placed(value.span(), is_list));
            }
            "model" => self.each("model", value, Self::model)?,
            "agent" => self.each("agent", value, Self::agent)?,
            "cloud" => self.each("cloud", value, Self::cloud)?,
            "log" => self.each("log", value, Self::log)?,
            "retention" => self.each("retention", value, Self::retention)?,
            _ => return Err(self.unknown(key, "")),
        }
        Ok(())
    }

    pub(crate) fn workspace_write(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "writable_roots" => {
                self.settings.writable_roots = Some(self.strings(value)?);
            }
            "network_access" => {
                let is_open = self.boolean(value)?;
                if !is_open || !self.is_ignored(value, "open the network") {
                    self.settings.network_open = Some(self.placed(value.span(), is_open));
                }
            }
            // /tmp and $TMPDIR are private always, which is what both ask for.
            "exclude_tmpdir_env_var" | "exclude_slash_tmp" => {
                self.boolean(value)?;
            }
            _ => return Err(self.unknown(key, "sandbox_workspace_write")),
        }
        Ok(())
    }

    /// Refuses a key of `table` in answers that is not `known`.
    pub(crate) fn answers_only(
        &self,
        key: &Key<'_>,
        (table, known): (&str, &str),
        help: &str,
    ) -> Result<(), ConfigError> {
        let name = key.get_ref().as_ref();
        if name == known {
            return Ok(());
        }
        let message = format!("unknown key `{table}.{name}`");
        Err(self.source.wrong(key.span(), message, "not known", Some(help.to_owned())))
    }

    /// What is answered about paths: that some may be written, and nothing else.
    fn answered_root(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        let known = ("sandbox_workspace_write", "writable_roots");
        let help = "answers for a project say `writable_roots`, and no more of the boundary";
        self.answers_only(key, known, help)?;
        self.settings.answered_roots = self.strings(value)?;
        Ok(())
    }

    fn env(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "pass" => self.settings.env_pass = self.strings(value)?,
            "set" => self.env_set(value)?,
            _ => return Err(self.unknown(key, "env")),
        }
        Ok(())
    }

    pub(crate) fn env_set(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        self.each_free(value, |reader, (name, value)| {
            let text = reader.string(value)?;
            if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) {
                let label = "a name without `=` was expected";
                return Err(reader.source.wrong(name.span(), "wrong name", label, None));
            }
            if text.contains('\0') {
                return Err(reader.wrong_value(value, "a value without NUL bytes"));
            }
            let pair = reader.placed(name.span(), (name.get_ref().to_string(), text));
            reader.settings.env_set.push(pair);
            Ok(())
        })
    }

    fn limits(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "tmp_size" => {
                let size = parse_size(&self.string(value)?);
                let size = size.map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.tmp_bytes = Some(self.placed(value.span(), size));
            }
            "wall_time" => {
                let time = parse_time(&self.string(value)?);
                let time = time.map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.wall_time = Some(self.placed(value.span(), time));
            }
            "memory" => {
                const LEAST: u64 = 16 << 20;
                let size = parse_size(&self.string(value)?);
                let size = size.map_err(|error| self.wrong_value(value, error.expected))?;
                if size < LEAST {
                    return Err(self.wrong_value(value, "at least `16MiB`"));
                }
                self.settings.memory_bytes = Some(self.placed(value.span(), size));
            }
            "processes" => {
                let expected = "a number of processes from 16 to 4194304";
                self.settings.processes = Some(self.count(value, 16..=4_194_304, expected)?);
            }
            "open_files" => {
                let expected = "a number of files from 64 to 1048576";
                self.settings.open_files = Some(self.count(value, 64..=1 << 20, expected)?);
            }
            _ => return Err(self.unknown(key, "limits")),
        }
        Ok(())
    }

    fn count(
        &self,
        value: &Value<'_>,
        range: RangeInclusive<u32>,
        expected: &str,
    ) -> Result<Placed<u32>, ConfigError> {
        let DeValue::Integer(number) = value.get_ref() else {
            return Err(self.wrong_value(value, expected));
        };
        let number = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        let number = number.ok_or_else(|| self.wrong_value(value, expected))?;
        Ok(self.placed(value.span(), number))
    }

    fn log(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "required" => {
                let is_required = self.boolean(value)?;
                self.settings.log_required = Some(self.placed(value.span(), is_required));
                Ok(())
            }
            _ => Err(self.unknown(key, "log")),
        }
    }

    fn unprotected(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of strings"));
        };
        for item in array {
            let name = self.string(item)?;
            match lift(&name) {
                Lift::Possible => {
                    self.settings.unprotected.push(self.placed(item.span(), name));
                }
                Lift::Never => {
                    let message = format!("`{name}` cannot be lifted");
                    let label = "what is planted there runs on the host";
                    return Err(self.source.wrong(item.span(), message, label, None));
                }
                Lift::Unknown => {
                    let known: Vec<&str> = PROTECTED.iter().map(|entry| entry.name).collect();
                    let help = nearest(&name, &known).map(|near| format!("did you mean `{near}`?"));
                    let message = format!("`{name}` is not a protected name");
                    return Err(self.source.wrong(item.span(), message, "not known", help));
                }
            }
        }
        Ok(())
    }

    /// Whether a value that would widen stands in a project's file, where it is left out with
    /// a warning, whether or not this version could enforce it.
    pub(crate) fn is_ignored(&mut self, value: &Value<'_>, what: &str) -> bool {
        let is_project = self.source.layer == Layer::Project;
        if is_project {
            let place = self.source.place(value.span().start);
            self.settings.warnings.push(ignored(&place, what));
        }
        is_project
    }

    fn approval(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        if let DeValue::Table(table) = value.get_ref() {
            let policy = self.granular(table, value)?;
            self.settings.approval = Some(self.placed(value.span(), policy));
            return Ok(());
        }
        let policy: Placed<ApprovalPolicy> = self.word(value)?;
        if self.string(value)? == "on-failure" {
            self.settings
                .warnings
                .push(format!("{}: `on-failure` is read as `on-request`", policy.place));
        }
        self.settings.approval = Some(policy);
        Ok(())
    }

    /// `{ granular = { sandbox_approval = true, rules = false, mcp_elicitations = false } }`, as
    /// Codex writes it. Kinds of questions that there are none of are read and mean nothing.
    fn granular(
        &self,
        table: &DeTable<'_>,
        value: &Value<'_>,
    ) -> Result<ApprovalPolicy, ConfigError> {
        const WORDS: [&str; 3] = ["sandbox_approval", "rules", "mcp_elicitations"];
        const OTHERS: [&str; 2] = ["request_permissions", "skill_approval"];
        let expected = "`{ granular = { sandbox_approval, rules, mcp_elicitations } }`";
        let mut entries = table.iter();
        let (Some((name, inner)), None) = (entries.next(), entries.next()) else {
            return Err(self.wrong_value(value, expected));
        };
        let DeValue::Table(kinds) = inner.get_ref() else {
            return Err(self.wrong_value(value, expected));
        };
        if name.get_ref() != "granular" {
            return Err(self.wrong_value(value, expected));
        }
        let mut answers = [None; 3];
        for (key, value) in kinds {
            let answer = self.boolean(value)?;
            let name = key.get_ref().as_ref();
            match WORDS.iter().position(|word| *word == name) {
                Some(at) => answers[at] = Some(answer),
                None if OTHERS.contains(&name) => {}
                None => {
                    let help =
                        Some(format!("known here: {}, {}", WORDS.join(", "), OTHERS.join(", ")));
                    let message = format!("unknown key `{name}`");
                    return Err(self.source.wrong(key.span(), message, "not known", help));
                }
            }
        }
        match answers {
            [Some(true), Some(true), Some(_)] => Ok(ApprovalPolicy::OnRequest),
            [Some(false), Some(false), Some(_)] => Ok(ApprovalPolicy::Never),
            [Some(crossing), Some(rules), Some(_)] => {
                Ok(ApprovalPolicy::Granular { crossing, rules })
            }
            _ => {
                Err(self
                    .wrong_value(inner, "all of `sandbox_approval`, `rules`, `mcp_elicitations`"))
            }
        }
    }

    /// Reads the entries of `table`, whose names [`KEYS`](crate::keys::KEYS) has.
    pub(crate) fn each(
        &mut self,
        table: &str,
        value: &Value<'_>,
        mut read: impl FnMut(&mut Self, Entry<'_>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let known = names_in(table);
        self.each_free(value, |reader, entry| {
            if known.iter().any(|name| *name == entry.0.get_ref().as_ref()) {
                read(reader, entry)
            } else {
                Err(reader.unknown(entry.0, table))
            }
        })
    }

    /// The same for a table whose names are the user's.
    pub(crate) fn each_free(
        &mut self,
        value: &Value<'_>,
        mut read: impl FnMut(&mut Self, Entry<'_>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong_value(value, "a table"));
        };
        table.iter().try_for_each(|entry| read(self, entry))
    }

    pub(crate) fn word<T: std::str::FromStr<Err = stockade_policy::UnknownWord>>(
        &self,
        value: &Value<'_>,
    ) -> Result<Placed<T>, ConfigError> {
        let word = self.string(value)?;
        match word.parse() {
            Ok(parsed) => Ok(self.placed(value.span(), parsed)),
            Err(unknown) => Err(self.wrong_value(value, &format!("one of {}", unknown.known))),
        }
    }

    pub(crate) fn strings(&self, value: &Value<'_>) -> Result<Vec<Placed<String>>, ConfigError> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of strings"));
        };
        array.iter().map(|item| Ok(self.placed(item.span(), self.string(item)?))).collect()
    }

    pub(crate) fn string(&self, value: &Value<'_>) -> Result<String, ConfigError> {
        let DeValue::String(text) = value.get_ref() else {
            return Err(self.wrong_value(value, "a string"));
        };
        Ok(text.to_string())
    }

    pub(crate) fn boolean(&self, value: &Value<'_>) -> Result<bool, ConfigError> {
        let DeValue::Boolean(answer) = value.get_ref() else {
            return Err(self.wrong_value(value, "`true` or `false`"));
        };
        Ok(*answer)
    }

    pub(crate) fn placed<T>(&self, span: Range<usize>, value: T) -> Placed<T> {
        Placed { value, place: self.source.place(span.start) }
    }

    pub(crate) fn wrong_value(&self, value: &Value<'_>, expected: &str) -> ConfigError {
        self.source.wrong(value.span(), "wrong value", format!("expected {expected}"), None)
    }

    pub(crate) fn unknown(&self, key: &Key<'_>, table: &str) -> ConfigError {
        let name = key.get_ref();
        let help = Some(advice(table, name));
        self.source.wrong(key.span(), format!("unknown key `{name}`"), "not known", help)
    }
}

/// What is said of a value of a project's file that would widen.
pub(crate) fn ignored(place: &str, what: &str) -> String {
    format!("{place}: ignored: a project file may not {what}")
}
