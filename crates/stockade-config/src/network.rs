//! The network of a start: what files and flags say of hosts, read strictly.

use std::ffi::OsStr;

use stockade_policy::{
    AddressRange, HostEntry, HostError, HostRule, Mode, Network, Ports, Published, UpstreamText,
    parse_port, preset, preset_names,
};
use toml::de::DeValue;

use crate::diagnose::{ConfigError, nearest};
use crate::env::Env;
use crate::load::Request;
use crate::logins::logins;
use crate::requests::check_credentials;
use crate::schema::{Entry, Placed, Reader, Settings, Value};

/// One entry of `allow` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// In its one spelling.
    pub(crate) text: String,
    /// What it is about.
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A port of the host's loopback.
    Port(u16),
    /// A host, or those of a preset.
    Hosts(Vec<HostEntry>),
}

/// What is said of an entry that means nothing: what is wrong, and what to do.
struct Wrong {
    why: String,
    hint: Option<String>,
}

impl Opened {
    /// The one spelling of `text`, if it is an entry.
    pub(crate) fn canonical(text: &str) -> Option<String> {
        Self::read(text).ok().map(|opened| opened.text)
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if let Some(port) = text.strip_prefix("localhost:")
            && let Ok(port) = parse_port(port)
        {
            return Ok(Self { text: text.to_owned(), what: What::Port(port) });
        }
        let is_loopback =
            ["localhost", "127.", "::1", "[::1]"].iter().any(|start| text.starts_with(start));
        if is_loopback {
            return Err(Wrong {
                why: format!("`{text}` names no port of the loopback"),
                hint: Some("write `localhost:PORT`, with a PORT from 1 to 65535".to_owned()),
            });
        }
        if let Some(hosts) = preset(text) {
            return Ok(Self { text: text.to_owned(), what: What::Hosts(hosts) });
        }
        let entry: HostEntry = text.parse().map_err(|error: stockade_policy::HostError| {
            let presets: Vec<&str> = preset_names().collect();
            let near = nearest(text, &presets).map(|near| format!("did you mean `{near}`?"));
            let form = "write `HOST`, `HOST:PORT`, `HOST:*` or `*.HOST`, or one of the presets ";
            let hint = near.unwrap_or_else(|| format!("{form}{}", presets.join(", ")));
            Wrong { why: format!("`{text}`: {error}"), hint: Some(hint) }
        })?;
        Ok(Self { text: entry.to_string(), what: What::Hosts(vec![entry]) })
    }
}

/// Ports of the host's loopback that are denied, whoever opens them.
pub(crate) fn denied_ports(settings: &Settings) -> Vec<u16> {
    let port = |entry: &Placed<Opened>| match entry.value.what {
        What::Port(port) => Some(port),
        What::Hosts(_) => None,
    };
    settings.network_deny.iter().filter_map(port).collect()
}

impl Reader<'_> {
    pub(crate) fn network(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        match key.get_ref().as_ref() {
            "allow" => self.settings.network_allow = self.opened(value)?,
            "deny" => self.settings.network_deny = self.opened(value)?,
            "private" => self.settings.network_private = self.ranges(value)?,
            "upstream" => {
                let text = self.string(value)?;
                if !self.is_ignored(value, "choose the proxy to dial by") {
                    self.settings.network_upstream = Some(self.placed(value.span(), text));
                }
            }
            "rules" => self.settings.network_requests = self.request_rules(value)?,
            "ssh" => self.settings.network_logins = self.logins(value)?,
            _ => return Err(self.unknown(key, "network")),
        }
        Ok(())
    }

    /// What is answered about hosts: that some are allowed, and nothing else.
    pub(crate) fn answered_host(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        let help = "answers for a project say `network.allow`, and no more of the network";
        self.answers_only(key, ("network", "allow"), help)?;
        self.settings.network_allow = self.opened(value)?;
        Ok(())
    }

    /// What `parse` reads of a host's name; `hint` is how one is written.
    pub(crate) fn host<T>(
        &self,
        value: &Value<'_>,
        parse: impl FnOnce(&str) -> Result<T, HostError>,
        hint: &str,
    ) -> Result<T, ConfigError> {
        let text = self.string(value)?;
        parse(&text).map_err(|error| {
            let message = format!("`{text}`: {error}");
            self.source.wrong(value.span(), message, "not a host", Some(hint.to_owned()))
        })
    }

    pub(crate) fn opened(&self, value: &Value<'_>) -> Result<Vec<Placed<Opened>>, ConfigError> {
        self.items(value)?
            .map(|item| {
                let opened = Opened::read(&self.string(item)?).map_err(|wrong| {
                    self.source.wrong(item.span(), wrong.why, "not a host", wrong.hint)
                })?;
                Ok(self.placed(item.span(), opened))
            })
            .collect()
    }

    fn ranges(&self, value: &Value<'_>) -> Result<Vec<Placed<AddressRange>>, ConfigError> {
        self.items(value)?
            .map(|item| {
                let text = self.string(item)?;
                let wrong = |why: &str| {
                    self.source.wrong(item.span(), format!("`{text}`: {why}"), "not a range", None)
                };
                let range: AddressRange = text
                    .parse()
                    .map_err(|error: stockade_policy::HostError| wrong(&error.to_string()))?;
                if range.is_never_a_destination() {
                    return Err(wrong(&stockade_policy::HostError::NoDestination.to_string()));
                }
                Ok(self.placed(item.span(), range))
            })
            .collect()
    }

    fn items<'v>(
        &self,
        value: &'v Value<'_>,
    ) -> Result<impl Iterator<Item = &'v Value<'v>>, ConfigError> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, "a list of strings"));
        };
        Ok(array.iter())
    }
}

/// Where a layer says what would open the network further.
pub(crate) fn network_widenings<'a>(
    allow: &'a [Placed<Opened>],
    private: &'a [Placed<AddressRange>],
) -> impl Iterator<Item = &'a String> {
    let private = private.iter().map(|range| &range.place);
    allow.iter().map(|entry| &entry.place).chain(private)
}

/// All of it together. An entry of `deny` that names no port is about all of them.
pub(crate) fn network(
    env: &Env,
    request: &Request,
    settings: &Settings,
) -> Result<Network, ConfigError> {
    let mut network = Network {
        open: settings.network_open.as_ref().filter(|open| open.value).map(|o| o.place.clone()),
        upstream: upstream(env, settings),
        requests: settings.network_requests.clone(),
        private: settings.network_private.iter().map(|range| range.value).collect(),
        ..Network::default()
    };
    network.logins = logins(env, settings)?;
    check_credentials(&network.requests)?;
    allow_all(&mut network, &settings.network_allow, request)?;
    settings.network_deny.iter().for_each(|entry| deny(&mut network, entry));
    let mode = settings.mode.as_ref().map(|mode| mode.value);
    if mode == Some(Mode::DangerFullAccess) && !request.publish.is_empty() {
        return Err(ConfigError::refused(
            "--publish: without a boundary every port is the host's own already",
            "leave the flag out",
        ));
    }
    for text in &request.publish {
        let wrong = || {
            ConfigError::refused(
                format!("--publish: `{text}` names no port"),
                "write `PORT` or `HOSTPORT:PORT`, each from 1 to 65535",
            )
        };
        let (outside, inside) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| parse_port(text).map_err(|_none| wrong());
        let published = Published { outside: port(outside)?, inside: port(inside)? };
        let is_taken = |other: &Published| other.outside == published.outside;
        match network.published.iter().find(|other| is_taken(other)) {
            None => network.published.push(published),
            Some(other) if *other == published => {}
            Some(_) => {
                return Err(ConfigError::refused(
                    format!("--publish: port {} is named twice", published.outside),
                    "one port outside leads to one port inside",
                ));
            }
        }
    }
    network.host_ports.sort_unstable();
    network.host_ports.dedup();
    Ok(network)
}

/// The proxy by which hosts are dialled: as it is configured, else as the environment has it.
fn upstream(env: &Env, settings: &Settings) -> Option<UpstreamText> {
    let variable = |names: &[&str]| {
        let values = names.iter().filter_map(|name| env.vars.get(OsStr::new(name)));
        let mut values = values.filter_map(|value| value.to_str());
        values.find(|value| !value.is_empty()).map(str::to_owned)
    };
    match settings.network_upstream.as_ref().map(|upstream| upstream.value.as_str()) {
        Some("none") => None,
        Some(url) => Some(UpstreamText { url: url.to_owned(), except: String::new() }),
        None => {
            let url = variable(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?;
            let except = variable(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
            Some(UpstreamText { url, except })
        }
    }
}

/// The network of a cloud thread's set-up: its own list, and what is denied everywhere. Where
/// requests are to be judged one by one there is nobody to do it, so that those hosts are denied.
pub(crate) fn of_set_up(
    env: &Env,
    request: &Request,
    settings: &Settings,
) -> Result<Network, ConfigError> {
    let mut network = Network {
        upstream: upstream(env, settings),
        private: settings.network_private.iter().map(|range| range.value).collect(),
        ..Network::default()
    };
    allow_all(&mut network, &settings.cloud.setup_network, request)?;
    if let Some(port) = network.host_ports.first() {
        return Err(ConfigError::refused(
            format!("not yet: `localhost:{port}` in a cloud thread"),
            "`localhost` in a machine is the machine's; name the host by its own name",
        ));
    }
    settings.network_deny.iter().for_each(|entry| deny(&mut network, entry));
    network.deny.extend(settings.network_requests.iter().map(|rule| HostRule {
        entry: rule.entry.clone(),
        place: format!("{}: requests cannot be judged in a set-up yet", rule.place),
    }));
    Ok(network)
}

/// Opens what the layers list and what flags name.
fn allow_all(
    network: &mut Network,
    listed: &[Placed<Opened>],
    request: &Request,
) -> Result<(), ConfigError> {
    for entry in listed {
        allow(network, &entry.value, &entry.place);
    }
    for text in &request.allow_hosts {
        allow(network, &flag(text)?, "--allow-host");
    }
    Ok(())
}

fn flag(text: &str) -> Result<Opened, ConfigError> {
    Opened::read(text).map_err(|wrong| {
        let what = format!("--allow-host: {}", wrong.why);
        ConfigError::Refused { what, hint: wrong.hint }
    })
}

fn deny(network: &mut Network, entry: &Placed<Opened>) {
    match &entry.value.what {
        What::Port(port) => network.host_ports.retain(|open| open != port),
        What::Hosts(hosts) => network.deny.extend(hosts.iter().map(|host| {
            let ports = match host.ports {
                Ports::Web => Ports::All,
                ports @ (Ports::One(_) | Ports::All) => ports,
            };
            let entry_of_all = HostEntry { pattern: host.pattern.clone(), ports };
            HostRule { entry: entry_of_all, place: entry.place.clone() }
        })),
    }
}

fn allow(network: &mut Network, opened: &Opened, place: &str) {
    match &opened.what {
        What::Port(port) => network.host_ports.push(*port),
        What::Hosts(hosts) => network.allow.extend(
            hosts.iter().map(|entry| HostRule { entry: entry.clone(), place: place.to_owned() }),
        ),
    }
}
