//! What an approval by a rule opens: as it is written, and on this machine's disk.
//!
//! A path of a grant is measured against the same ground as a writable root, at the start: an
//! approval cannot open what configuration could not.

use std::path::{Path, PathBuf};

use stockade_policy::{AbsPath, Grant};
use toml::de::DeValue;

use crate::diagnose::ConfigError;
use crate::env::{Env, Homes};
use crate::git::{self, User};
use crate::load::Loaded;
use crate::locate::{self, canonical};
use crate::network::Opened;
use crate::own::Own;
use crate::roots::Ground;
use crate::rule_text::RuleText;
use crate::schema::{Reader, Value};

/// What a rule's `grant` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantText {
    /// Folders and files to be written: `~` is home, relative ones start at the workspace.
    pub paths: Vec<String>,
    /// Hosts, and names of several.
    pub hosts: Vec<String>,
    /// Ports of the host's loopback.
    pub ports: Vec<u16>,
}

impl Reader<'_> {
    pub(crate) fn grant(&self, value: &Value<'_>) -> Result<GrantText, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(
                self.wrong_value(value, "a table: `{ paths = […], hosts = […], ports = […] }`")
            );
        };
        let mut grant = GrantText::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "paths" => grant.paths = self.filled(value, "a path", |path| !path.is_empty())?,
                "hosts" => self.grant_hosts(value, &mut grant)?,
                "ports" => grant.ports.extend(self.ports(value)?),
                _ => return Err(self.unknown(key, "rules.grant")),
            }
        }
        Ok(grant)
    }

    /// Hosts; those that are a port of the loopback are ports.
    fn grant_hosts(&self, value: &Value<'_>, grant: &mut GrantText) -> Result<(), ConfigError> {
        for host in self.texts(value)? {
            let Some(port) = host.strip_prefix("localhost:") else {
                let canonical = Opened::canonical(&host);
                let wrong = || self.wrong_value(value, "hosts as in `network.allow`");
                grant.hosts.push(canonical.ok_or_else(wrong)?);
                continue;
            };
            let port = port.parse().ok().filter(|port| *port != 0);
            grant
                .ports
                .push(port.ok_or_else(|| self.wrong_value(value, "a port from 1 to 65535"))?);
        }
        Ok(())
    }

    fn filled(
        &self,
        value: &Value<'_>,
        expected: &str,
        is_right: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ConfigError> {
        let texts = self.texts(value)?;
        if texts.iter().all(|text| is_right(text)) {
            return Ok(texts);
        }
        Err(self.wrong_value(value, expected))
    }

    fn ports(&self, value: &Value<'_>) -> Result<Vec<u16>, ConfigError> {
        let expected = "a list of ports from 1 to 65535";
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong_value(value, expected));
        };
        let port = |item: &Value<'_>| {
            let DeValue::Integer(number) = item.get_ref() else { return None };
            u16::from_str_radix(number.as_str(), number.radix()).ok()
        };
        let ports = array.iter().map(|item| {
            let port = port(item).filter(|port| *port != 0);
            port.ok_or_else(|| self.wrong_value(item, expected))
        });
        ports.collect()
    }
}

/// Resolves the grants of all `rules`.
///
/// # Errors
///
/// Names the rule whose grant would open what no configuration may: secrets, protected names,
/// home, the system's own.
pub(crate) fn resolve(
    ground: &Ground<'_>,
    (lifted, denied): (&[String], &[u16]),
    rules: &mut [RuleText],
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for rule in rules {
        let RuleText { grant, place, .. } = &*rule;
        let mut opens =
            Grant { ports: grant.ports.clone(), hosts: grant.hosts.clone(), ..Grant::default() };
        opens.ports.retain(|port| !denied.contains(port));
        for written in &grant.paths {
            let path = ground.env.resolve(&PathBuf::from(written), ground.workspace);
            let Some(found) = canonical(&path) else {
                warnings.push(format!(
                    "{place}: `{written}` of the grant does not exist, and is not opened"
                ));
                continue;
            };
            ground.refuse_grant(&found, &path, place)?;
            opens.add(&open(ground, lifted, found)?);
        }
        rule.opens = opens;
    }
    Ok(())
}

/// What opening `found` comes to: all of it, except what is protected in it.
fn open(ground: &Ground<'_>, lifted: &[String], found: PathBuf) -> Result<Grant, ConfigError> {
    let user = User { uid: ground.env.uid, home: ground.homes.main.as_deref() };
    let mut opens = Grant::default();
    if found.is_dir() {
        let mut protected = locate::protected_names(std::slice::from_ref(&found), lifted);
        let repository = git::repository(&found, user);
        protected.extend(locate::protected_by_git(&repository, lifted));
        let inside = protected.into_iter().filter(|path| path.starts_with(&found));
        opens.protected = inside.map(absolute).collect::<Result<_, _>>()?;
    }
    opens.writable.push(absolute(found)?);
    Ok(opens)
}

/// Says what opening a path comes to that a person was asked about.
#[derive(Debug)]
pub struct Openings {
    env: Env,
    homes: Homes,
    workspace: PathBuf,
    hidden: Vec<PathBuf>,
    own: Own,
    lifted: Vec<String>,
}

impl Openings {
    /// Beyond the policy of `loaded`.
    pub fn of(env: &Env, loaded: &Loaded) -> Self {
        let homes = env.homes();
        let files: Vec<PathBuf> =
            env.user_folder().iter().map(|folder| folder.join("config.toml")).collect();
        let hidden = loaded.policy.hidden.iter().map(|path| path.as_path().to_owned());
        Self {
            own: Own::of(env, &homes, &files),
            env: env.clone(),
            homes,
            workspace: loaded.policy.workspace.as_path().to_owned(),
            hidden: hidden.collect(),
            lifted: loaded.unprotected.clone(),
        }
    }

    /// What opens `path`, which is absolute and has no link in it; it need not exist.
    ///
    /// # Errors
    ///
    /// Nothing may open it: it is secret, protected, home, Stockade's own or the system's.
    pub fn open(&self, path: &Path) -> Result<Grant, ConfigError> {
        let Self { env, homes, workspace, hidden, own, lifted } = self;
        let ground = Ground { env, homes, workspace, hidden, own };
        ground.refuse_grant(path, path, "the approval")?;
        open(&ground, lifted, path.to_owned())
    }
}

fn absolute(path: PathBuf) -> Result<AbsPath, ConfigError> {
    AbsPath::new(path).map_err(|error| ConfigError::Refused { what: error.to_string(), hint: None })
}
