//! What the user has allowed for one project by answers that are no rules: lines of `network.allow` and
//! of `sandbox_workspace_write.writable_roots` in the file of answers, changed there as its rules are.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::diagnose::ConfigError;
use crate::edit::RuleFile;
use crate::network::Opened;
use crate::schema::Settings;

/// Of what an answer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredKind {
    /// An entry of `network.allow`.
    Host,
    /// A writable root.
    Path,
}

/// A host or a path that is allowed in a project by an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredEntry {
    /// Which of them.
    pub kind: AnsweredKind,
    /// The entry, in its one spelling.
    pub entry: String,
    /// `FILE:LINE`.
    pub place: String,
}

impl AnsweredKind {
    const ALL: [Self; 2] = [Self::Host, Self::Path];

    /// `host`, `path`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Path => "path",
        }
    }

    /// The table and the key that have them.
    fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Host => ("network", "allow"),
            Self::Path => ("sandbox_workspace_write", "writable_roots"),
        }
    }

    fn canonical(self, entry: &str) -> Result<String, ConfigError> {
        let refused = |hint| {
            let text = format!("`{entry}` is no entry of {}s", self.word());
            Err(ConfigError::refused(text, hint))
        };
        match self {
            Self::Host => Opened::canonical(entry)
                .map_or_else(|| refused("write `HOST`, `HOST:PORT`, `HOST:*` or `*.HOST`"), Ok),
            // One that starts elsewhere in another workspace's file would be another one.
            Self::Path if Path::new(entry).is_absolute() => Ok(entry.to_owned()),
            Self::Path => refused("write an absolute path"),
        }
    }

    /// Those in `settings`, in their order.
    fn entries(self, settings: &Settings) -> Vec<AnsweredEntry> {
        let named = |entry: &str, place: &str| AnsweredEntry {
            kind: self,
            entry: entry.to_owned(),
            place: place.to_owned(),
        };
        match self {
            Self::Host => {
                let entries = settings.network_allow.iter();
                entries.map(|entry| named(&entry.value.text, &entry.place)).collect()
            }
            Self::Path => {
                let entries = settings.answered_roots.iter();
                entries.map(|entry| named(&entry.value, &entry.place)).collect()
            }
        }
    }
}

impl RuleFile {
    /// The hosts and paths that are allowed in it; none when it names another workspace.
    ///
    /// # Errors
    ///
    /// The file is wrong, or cannot be read.
    pub fn answered(&self) -> Result<Vec<AnsweredEntry>, ConfigError> {
        let Some(text) = self.text()? else { return Ok(Vec::new()) };
        let settings = self.settings(&text)?;
        if !self.is_of(&settings) {
            return Ok(Vec::new());
        }
        Ok(AnsweredKind::ALL.iter().flat_map(|kind| kind.entries(&settings)).collect())
    }

    /// Whether `settings` of this file are for its workspace.
    pub(crate) fn is_of(&self, settings: &Settings) -> bool {
        let named = settings.workspace.as_ref().map(|named| Path::new(&named.value));
        named == self.workspace.as_deref()
    }

    /// Allows the host or path of `entry`, on a line of its own; what is there already stays as it is.
    /// Says whether it is new.
    ///
    /// # Errors
    ///
    /// `entry` is none, the file is wrong, or cannot be written; it is then as it was.
    pub fn allow(&self, kind: AnsweredKind, entry: &str) -> Result<bool, ConfigError> {
        let entry = kind.canonical(entry)?;
        let has =
            |settings: &Settings| kind.entries(settings).iter().any(|other| other.entry == entry);
        self.put_once(&entry, has, |document| listed(document, kind.keys(), (&entry, "\n    ")))
    }

    /// Takes out the entry that stands at `place` (`file:line`), or is `place`.
    ///
    /// # Errors
    ///
    /// There is none, or the file cannot be written.
    pub fn revoke_entry(&self, place: &str) -> Result<AnsweredEntry, ConfigError> {
        let is_meant = |entry: &&AnsweredEntry| entry.place == place || entry.entry == place;
        let all = self.answered()?;
        let Some(meant) = all.iter().find(is_meant) else {
            let hint = "`stockade rules list` says where each stands";
            return Err(ConfigError::refused(format!("nothing is allowed at {place}"), hint));
        };
        let at = all.iter().filter(|other| other.kind == meant.kind).position(|it| it == meant);
        self.take_out(place, |document| {
            let (table, key) = meant.kind.keys();
            let list = document.get_mut(table)?.as_table_like_mut()?.get_mut(key)?;
            let (list, at) = (list.as_array_mut()?, at?);
            (at < list.len()).then(|| drop(list.remove(at)))
        })?;
        Ok(meant.clone())
    }

    pub(crate) fn by_hand(&self, what: &str) -> ConfigError {
        let text = format!("`{}` cannot be changed for `{what}`", self.path.display());
        ConfigError::refused(text, "change it by hand")
    }
}

/// Adds `entry` to a list of `document`, with `above` before it.
pub(crate) fn listed(
    document: &mut DocumentMut,
    (table, key): (&str, &str),
    (entry, above): (&str, &str),
) -> Option<()> {
    let table = document.entry(table).or_insert(Item::Table(Table::new())).as_table_like_mut()?;
    let list = table.entry(key).or_insert(Item::Value(Value::Array(Array::new())));
    let list = list.as_array_mut()?;
    let mut value = Value::from(entry);
    value.decor_mut().set_prefix(above);
    list.push_formatted(value);
    list.set_trailing_comma(true);
    list.set_trailing("\n");
    Some(())
}
