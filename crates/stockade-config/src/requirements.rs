//! `/etc/stockade/requirements.toml`: what the machine's owner holds everybody to.
//!
//! It is no layer but a bound: nothing overrides it, and a value above it stops the start with
//! both lines. What nobody has set follows it without a word. It is read as strictly as any
//! configuration: requirements that are not understood let nothing run.

use std::path::Path;

use stockade_policy::{ApprovalPolicy, Mode, RuleOwner, Verdict};
use toml::de::DeValue;

use crate::diagnose::{ConfigError, Layer, Source};
use crate::layer::read_source;
use crate::network::{Opened, network_widenings};
use crate::requests::owned_by;
use crate::schema::{Placed, Reader, Settings, Value, parsed};
use crate::stack::BUILT_IN;

/// What is required.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    modes: Option<Placed<Vec<Mode>>>,
    approvals: Option<Placed<Vec<ApprovalPolicy>>>,
    unprotected: Option<Placed<Vec<String>>>,
    hosts: Option<Placed<Vec<String>>>,
    /// Upper bounds, rules and hidden paths, by the keys that a layer has for them.
    settings: Settings,
}

/// The names of the file, for who has written another one.
const KNOWN: [&str; 11] = [
    "allowed_sandbox_modes",
    "allowed_approval_policies",
    "allowed_unprotected",
    "allowed_hosts",
    "network",
    "hidden",
    "read",
    "caches",
    "limits",
    "rules",
    "log",
];

/// Reads the file, if there is one.
///
/// # Errors
///
/// What is wrong in it, with its place; also a link that leads nowhere.
pub(crate) fn read(file: &Path) -> Result<Option<Requirements>, ConfigError> {
    let Some(source) = read_source(file, Layer::Requirements)? else {
        // A link that leads nowhere is a mistake in what should bind, not its absence.
        return match file.symlink_metadata() {
            Err(_) => Ok(None),
            Ok(_) => Err(ConfigError::refused(
                format!("`{}` leads nowhere", file.display()),
                "nothing runs under requirements that cannot be read",
            )),
        };
    };
    requirements(&source).map(Some)
}

fn requirements(source: &Source) -> Result<Requirements, ConfigError> {
    let table = parsed(source)?;
    let mut reader = Reader::new(source);
    let mut found = Requirements::default();
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "allowed_sandbox_modes" => found.modes = Some(reader.words(value)?),
            "allowed_approval_policies" => found.approvals = Some(reader.words(value)?),
            "allowed_unprotected" => found.unprotected = Some(reader.whole_list(value)?),
            "allowed_hosts" => found.hosts = Some(reader.whole_list(value)?),
            "hidden" | "read" | "caches" | "limits" | "rules" | "log" | "network" => {
                reader.top((key, value))?;
            }
            name => {
                let near = crate::diagnose::nearest(name, &KNOWN);
                let help = near.map_or_else(
                    || format!("known here: {}", KNOWN.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!("unknown key `{name}`");
                return Err(source.wrong(key.span(), message, "not known", Some(help)));
            }
        }
    }
    if let Some(rule) = reader.settings.rules.iter().find(|rule| rule.decision == Verdict::Allow) {
        return Err(ConfigError::refused(
            format!("{}: a requirement cannot allow a command", rule.place),
            "requirements ask and deny; what may run unasked stands in a layer",
        ));
    }
    only_closes(&reader.settings)?;
    found.settings = reader.settings;
    Ok(found)
}

/// Refuses what would open the network: requirements deny hosts and limit what they may be asked.
fn only_closes(settings: &Settings) -> Result<(), ConfigError> {
    let opened = network_widenings(&settings.network_allow, &settings.network_private);
    let upstream = settings.network_upstream.iter().map(|upstream| &upstream.place);
    let credentials = settings.network_requests.iter().filter(|rule| rule.credential.is_some());
    let logins = settings.network_logins.iter().map(|login| &login.place);
    let places = opened.chain(upstream).chain(credentials.map(|rule| &rule.place)).chain(logins);
    places.take(1).try_for_each(|place| {
        Err(ConfigError::refused(
            format!("{place}: a requirement opens no host and gives no credential"),
            "`network.deny` and `[[network.rules]]` with `methods` or `paths` can stand here",
        ))
    })
}

impl Reader<'_> {
    fn words<T>(&self, value: &Value<'_>) -> Result<Placed<Vec<T>>, ConfigError>
    where
        T: std::str::FromStr<Err = stockade_policy::UnknownWord>,
    {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of words"));
        };
        let words = array.iter().map(|item| Ok(self.word(item)?.value));
        let words: Vec<T> = words.collect::<Result<_, ConfigError>>()?;
        if words.is_empty() {
            return Err(self.wrong_value(value, "at least one word"));
        }
        Ok(self.placed(value.span(), words))
    }

    fn whole_list(&self, value: &Value<'_>) -> Result<Placed<Vec<String>>, ConfigError> {
        let texts = self.strings(value)?.into_iter().map(|text| text.value).collect();
        Ok(self.placed(value.span(), texts))
    }
}

/// A value that is above what is required.
fn violation(place: &str, what: &str, required: &str, by: &str) -> ConfigError {
    ConfigError::refused(
        format!("{place}: {what} is not allowed here: {required} ({by})"),
        "the requirements of this machine stand above every file and flag; its owner changes them",
    )
}

impl Requirements {
    /// Bounds `settings`, in which flags and options are in already. `hosts` are those of flags.
    ///
    /// # Errors
    ///
    /// The first value above a bound, with its place and the bound's.
    pub(crate) fn bound(
        &self,
        mut settings: Settings,
        hosts: &[String],
    ) -> Result<Settings, ConfigError> {
        self.bound_mode(&mut settings)?;
        self.bound_approval(&mut settings)?;
        self.bound_lists(&settings, hosts)?;
        let most = &self.settings;
        at_most(&mut settings.tmp_bytes, most.tmp_bytes.as_ref(), "limits.tmp_size")?;
        at_most(&mut settings.processes, most.processes.as_ref(), "limits.processes")?;
        at_most(&mut settings.memory_bytes, most.memory_bytes.as_ref(), "limits.memory")?;
        at_most(&mut settings.open_files, most.open_files.as_ref(), "limits.open_files")?;
        at_most(&mut settings.wall_time, most.wall_time.as_ref(), "limits.wall_time")?;
        firmly(&mut settings.log_required, most.log_required.as_ref(), "log.required")?;
        firmly(&mut settings.caches_closed, most.caches_closed.as_ref(), "caches")?;
        firmly(&mut settings.reads_workspace, most.reads_workspace.as_ref(), "read")?;
        settings.required_hidden.clone_from(&most.hidden);
        settings.rules.extend(most.rules.iter().cloned());
        settings.network_deny.extend(most.network_deny.iter().cloned());
        let requests = owned_by(RuleOwner::Machine, most.network_requests.clone());
        settings.network_requests.extend(requests);
        Ok(settings)
    }

    fn bound_mode(&self, settings: &mut Settings) -> Result<(), ConfigError> {
        if let Some(allowed) = &self.modes {
            match &settings.mode {
                Some(mode) if !allowed.value.contains(&mode.value) => {
                    let what = format!("sandbox mode `{}`", mode.value);
                    let required = format!("allowed are {}", listed(&allowed.value));
                    return Err(violation(&mode.place, &what, &required, &allowed.place));
                }
                Some(_) => {}
                // Nobody has asked for one: the widest that is no wider than the built-in one.
                None => {
                    let order = [Mode::WorkspaceWrite, Mode::ReadOnly, Mode::DangerFullAccess];
                    let value = order.into_iter().find(|mode| allowed.value.contains(mode));
                    let place = allowed.place.clone();
                    settings.mode = value.map(|value| Placed { value, place });
                }
            }
        }
        // Without a boundary nothing holds the rest.
        match (&settings.mode, self.needs_a_boundary()) {
            (Some(mode), Some(place)) if mode.value == Mode::DangerFullAccess => {
                let what = "sandbox mode `danger-full-access`";
                Err(violation(&mode.place, what, "it would not hold what is required", place))
            }
            _ => Ok(()),
        }
    }

    /// A requirement that only a boundary holds.
    fn needs_a_boundary(&self) -> Option<&str> {
        let most = &self.settings;
        let places = [
            most.hidden.first().map(|it| &it.place),
            most.reads_workspace.as_ref().filter(|it| it.value).map(|it| &it.place),
            self.hosts.as_ref().map(|it| &it.place),
            most.network_deny.first().map(|it| &it.place),
            most.network_requests.first().map(|it| &it.place),
            most.tmp_bytes.as_ref().map(|it| &it.place),
            most.memory_bytes.as_ref().map(|it| &it.place),
            most.processes.as_ref().map(|it| &it.place),
            most.open_files.as_ref().map(|it| &it.place),
            most.wall_time.as_ref().map(|it| &it.place),
        ];
        places.into_iter().flatten().next().map(String::as_str)
    }

    fn bound_approval(&self, settings: &mut Settings) -> Result<(), ConfigError> {
        let Some(allowed) = &self.approvals else { return Ok(()) };
        match &settings.approval {
            Some(policy) if !allowed.value.contains(&policy.value.base()) => {
                let what = format!("approval policy `{}`", policy.value);
                let required = format!("allowed are {}", listed(&allowed.value));
                Err(violation(&policy.place, &what, &required, &allowed.place))
            }
            Some(_) => Ok(()),
            None => {
                use ApprovalPolicy::{Never, OnRequest, Untrusted};
                let order = [OnRequest, Untrusted, Never];
                let value = order.into_iter().find(|policy| allowed.value.contains(policy));
                let place = allowed.place.clone();
                settings.approval = value.map(|value| Placed { value, place });
                Ok(())
            }
        }
    }

    fn bound_lists(&self, settings: &Settings, flags: &[String]) -> Result<(), ConfigError> {
        if let Some(allowed) = &self.hosts {
            let configured = settings.network_allow.iter().chain(&settings.cloud.setup_network);
            let configured = configured.map(|it| (it.value.text.clone(), it.place.as_str()));
            // What is no host is refused as such later.
            let flags = flags.iter().filter_map(|host| Opened::canonical(host));
            let flags = flags.map(|host| (host, "--allow-host"));
            let is_allowed = |host: &String| {
                allowed.value.iter().any(|it| Opened::canonical(it).as_ref() == Some(host))
            };
            if let Some(open) = settings.network_open.as_ref().filter(|open| open.value) {
                let required = format!("allowed are {}", listed(&allowed.value));
                return Err(violation(&open.place, "every host", &required, &allowed.place));
            }
            let granted = settings.rules.iter().flat_map(|rule| {
                let ports = rule.grant.ports.iter().map(|port| format!("localhost:{port}"));
                let hosts = rule.grant.hosts.iter().filter_map(|host| Opened::canonical(host));
                hosts.chain(ports).map(|host| (host, rule.place.as_str()))
            });
            for (host, place) in configured.chain(flags).chain(granted) {
                if !is_allowed(&host) {
                    let required = format!("allowed are {}", listed(&allowed.value));
                    return Err(violation(
                        place,
                        &format!("host `{host}`"),
                        &required,
                        &allowed.place,
                    ));
                }
            }
        }
        if let Some(allowed) = &self.unprotected {
            for entry in &settings.unprotected {
                if !allowed.value.contains(&entry.value) {
                    let what = format!("lifting `{}`", entry.value);
                    let required = format!("what may be lifted is {}", listed(&allowed.value));
                    return Err(violation(&entry.place, &what, &required, &allowed.place));
                }
            }
        }
        Ok(())
    }
}

/// `value`, when it is not above `most`; a value of nobody's becomes it.
fn at_most<T: PartialOrd + Clone>(
    value: &mut Option<Placed<T>>,
    most: Option<&Placed<T>>,
    name: &str,
) -> Result<(), ConfigError> {
    let Some(most) = most else { return Ok(()) };
    match value {
        Some(value) if value.value <= most.value => {}
        Some(value) if value.place != BUILT_IN => {
            return Err(violation(&value.place, name, "it is bounded", &most.place));
        }
        _ => *value = Some(most.clone()),
    }
    Ok(())
}

/// The same for what is either required or free.
fn firmly(
    value: &mut Option<Placed<bool>>,
    required: Option<&Placed<bool>>,
    name: &str,
) -> Result<(), ConfigError> {
    let Some(required) = required.filter(|it| it.value) else { return Ok(()) };
    match value {
        Some(value) if !value.value => {
            Err(violation(&value.place, &format!("another `{name}`"), "it is set", &required.place))
        }
        _ => {
            *value = Some(required.clone());
            Ok(())
        }
    }
}

fn listed<T: ToString>(words: &[T]) -> String {
    if words.is_empty() {
        return "nothing".to_owned();
    }
    words.iter().map(|word| format!("`{}`", word.to_string())).collect::<Vec<_>>().join(", ")
}

/// `readable` of a layer would open what is required to be hidden.
pub(crate) fn reopened(readable: &Placed<String>, required: &Placed<String>) -> ConfigError {
    let what = format!("readable `{}`", readable.value);
    let why = format!("`{}` is hidden", required.value);
    violation(&readable.place, &what, &why, &required.place)
}
