//! Hosts that the user has allowed for one project by an answer: lines of `network.allow` in the file of
//! answers, changed there as its rules are.

use std::path::Path;

use toml_edit::{Array, Item, Table, Value};

use crate::diagnose::ConfigError;
use crate::edit::RuleFile;
use crate::network::Opened;

/// A host that is allowed in a project by an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredHost {
    /// The entry, in its one spelling.
    pub entry: String,
    /// `FILE:LINE`.
    pub place: String,
}

impl RuleFile {
    /// The hosts that are allowed in it; none when it names another workspace.
    ///
    /// # Errors
    ///
    /// The file is wrong, or cannot be read.
    pub fn hosts(&self) -> Result<Vec<AnsweredHost>, ConfigError> {
        let Some(text) = self.text()? else { return Ok(Vec::new()) };
        let settings = self.settings(&text)?;
        let named = settings.workspace.as_ref().map(|named| Path::new(&named.value));
        if named != self.workspace.as_deref() {
            return Ok(Vec::new());
        }
        let host = |entry: &crate::schema::Placed<Opened>| AnsweredHost {
            entry: entry.value.text.clone(),
            place: entry.place.clone(),
        };
        Ok(settings.network_allow.iter().map(host).collect())
    }

    /// Allows the hosts of `entry`, on a line of its own; what is there already stays as it is.
    ///
    /// # Errors
    ///
    /// `entry` is none, the file is wrong, or cannot be written; it is then as it was.
    pub fn allow_host(&self, entry: &str) -> Result<(), ConfigError> {
        let Some(entry) = Opened::canonical(entry) else {
            let hint = "write `HOST`, `HOST:PORT`, `HOST:*` or `*.HOST`";
            return Err(ConfigError::refused(format!("`{entry}` is no entry of hosts"), hint));
        };
        let before = self.text()?;
        let start = self.start(before.as_deref());
        if self.settings(&start)?.network_allow.iter().any(|other| other.value.text == entry) {
            return Ok(());
        }
        let mut document = self.document(&start)?;
        let network = document.entry("network").or_insert(Item::Table(Table::new()));
        let list = network
            .as_table_like_mut()
            .map(|table| table.entry("allow").or_insert(Item::Value(Value::Array(Array::new()))));
        let Some(list) = list.and_then(Item::as_array_mut) else {
            return Err(self.by_hand(&entry));
        };
        let mut value = Value::from(entry.as_str());
        value.decor_mut().set_prefix("\n    ");
        list.push_formatted(value);
        list.set_trailing_comma(true);
        list.set_trailing("\n");
        let text = document.to_string();
        if !self.settings(&text)?.network_allow.iter().any(|other| other.value.text == entry) {
            return Err(self.by_hand(&entry));
        }
        self.replace(before.as_deref(), &text, Vec::new()).map(drop)
    }

    /// Takes out the entry of hosts that stands at `place` (`file:line`), or is `place`.
    ///
    /// # Errors
    ///
    /// There is none, or the file cannot be written.
    pub fn revoke_host(&self, place: &str) -> Result<AnsweredHost, ConfigError> {
        let before = self.text()?.unwrap_or_default();
        let mut hosts = self.hosts()?;
        let is_meant = |host: &AnsweredHost| host.place == place || host.entry == place;
        let Some(at) = hosts.iter().position(is_meant) else {
            let hint = "`stockade rules list` says where each stands";
            return Err(ConfigError::refused(format!("no host is allowed at {place}"), hint));
        };
        let mut document = self.document(&before)?;
        let list = document.get_mut("network").and_then(Item::as_table_like_mut);
        let list = list.and_then(|table| table.get_mut("allow")).and_then(Item::as_array_mut);
        let Some(list) = list.filter(|list| at < list.len()) else {
            return Err(self.by_hand(place));
        };
        drop(list.remove(at));
        let text = document.to_string();
        self.settings(&text)?;
        self.replace(Some(&before), &text, Vec::new())?;
        Ok(hosts.swap_remove(at))
    }

    fn by_hand(&self, what: &str) -> ConfigError {
        let text = format!("`{}` cannot be changed for `{what}`", self.path.display());
        ConfigError::refused(text, "change it by hand")
    }
}
