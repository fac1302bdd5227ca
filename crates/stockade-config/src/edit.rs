//! Changing the rules in a file of the user's, and nothing else in it.
//!
//! The new text is read as strictly as at a start before it takes the place of the old one, in one
//! step; the old one is kept beside it, as `NAME.bak`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use stockade_policy::Verdict;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use crate::answered::listed;
use crate::diagnose::{ConfigError, Layer, Source};
use crate::grants::GrantText;
use crate::network::Opened;
use crate::rule_text::{Prefix, RuleText};
use crate::schema::{self, Settings};

/// A rule that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Which commands it speaks of.
    pub prefix: Prefix,
    /// What it says of them.
    pub decision: Verdict,
    /// What is told.
    pub reason: Option<String>,
    /// What an approval opens.
    pub grant: GrantText,
    /// Until when it holds.
    pub expires: Option<String>,
    /// Lines that it must match.
    pub examples: Vec<String>,
    /// Lines that it must not.
    pub counterexamples: Vec<String>,
    /// Stands above it.
    pub comment: Option<String>,
}

/// An entry of `network.allow` or `network.deny` that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHost {
    entry: String,
    is_denied: bool,
    comment: String,
}

impl NewHost {
    /// `entry` in its one spelling, with `comment` above it; `None` where that is no entry.
    pub fn new(entry: &str, is_denied: bool, comment: String) -> Option<Self> {
        Opened::canonical(entry).map(|entry| Self { entry, is_denied, comment })
    }

    /// As it is written.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    fn is_in(&self, settings: &Settings) -> bool {
        let list = if self.is_denied { &settings.network_deny } else { &settings.network_allow };
        list.iter().any(|other| other.value.text == self.entry)
    }

    fn push(&self, document: &mut DocumentMut) -> Option<()> {
        let key = if self.is_denied { "deny" } else { "allow" };
        let comment = self.comment.replace('\n', " ");
        listed(document, ("network", key), (&self.entry, &format!("\n    # {comment}\n    ")))
    }
}

/// A file of the user's whose rules can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// Where it is, or will be.
    pub path: PathBuf,
    /// As what it is read.
    pub layer: Layer,
    /// For whom, if it is a file of answers.
    pub workspace: Option<PathBuf>,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file, with links followed.
    pub path: PathBuf,
    /// The text before, if there was one.
    pub backup: Option<PathBuf>,
    /// The rules that were added or taken out, as they stand or stood.
    pub rules: Vec<RuleText>,
}

/// The text of `rules` and `hosts` as configuration.
pub fn rules_as_text(rules: &[NewRule], hosts: &[NewHost]) -> String {
    let mut document = DocumentMut::new();
    push(&mut document, rules);
    for host in hosts {
        // A new document has no list that could be something else.
        host.push(&mut document);
    }
    document.to_string()
}

/// Reads `text` as the file `name` of rules, as strictly as at a start.
///
/// # Errors
///
/// What is wrong in it, with its place.
pub fn check_rules(name: &Path, text: &str) -> Result<Vec<RuleText>, ConfigError> {
    let source = Source { name: name.to_owned(), text: text.to_owned(), layer: Layer::User };
    Ok(schema::read(&source)?.rules)
}

impl RuleFile {
    /// Adds `rules` at the end of the file, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// The file is wrong, or would be with these rules (an example fails), or cannot be written;
    /// it is then as it was.
    pub fn add(&self, rules: &[NewRule]) -> Result<Edited, ConfigError> {
        self.add_with(rules, &[])
    }

    /// The same, and entries of the network's lists that are not there yet.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn add_with(&self, rules: &[NewRule], hosts: &[NewHost]) -> Result<Edited, ConfigError> {
        let before = self.text()?;
        let start = self.start(before.as_deref());
        let settings = self.settings(&start)?;
        let known = settings.rules.len();
        let mut document = self.document(&start)?;
        push(&mut document, rules);
        for host in hosts.iter().filter(|host| !host.is_in(&settings)) {
            host.push(&mut document).ok_or_else(|| self.by_hand(&host.entry))?;
        }
        let text = document.to_string();
        let mut all = self.read(&text)?;
        let added = all.split_off(known.min(all.len()));
        self.replace(before.as_deref(), &text, added)
    }

    /// Takes out the rule that stands at `place` (`file:line`).
    ///
    /// # Errors
    ///
    /// There is none, or the file cannot be written.
    pub fn revoke(&self, place: &str) -> Result<Edited, ConfigError> {
        let before = self.text()?.unwrap_or_default();
        let mut rules = self.read(&before)?;
        let Some(at) = rules.iter().position(|rule| rule.place == place) else {
            return Err(ConfigError::refused(
                format!("no rule begins at {place}"),
                "`stockade rules list` says where each stands",
            ));
        };
        let mut document = self.document(&before)?;
        let is_done = match document.get_mut("rules") {
            Some(Item::ArrayOfTables(tables)) if at < tables.len() => {
                drop(tables.remove(at));
                true
            }
            Some(Item::Value(Value::Array(tables))) if at < tables.len() => {
                drop(tables.remove(at));
                true
            }
            _ => false,
        };
        if !is_done {
            let what = format!("the rule at {place} cannot be taken out");
            return Err(ConfigError::refused(what, "take it out by hand"));
        }
        let text = document.to_string();
        self.read(&text)?;
        let taken = rules.swap_remove(at);
        self.replace(Some(&before), &text, vec![taken])
    }

    /// What the file begins with.
    pub(crate) fn start(&self, before: Option<&str>) -> String {
        match (before, &self.workspace) {
            (Some(text), _) => text.to_owned(),
            (None, Some(workspace)) => {
                format!("workspace = {}\n", Value::from(workspace.to_string_lossy().as_ref()))
            }
            (None, None) => String::new(),
        }
    }

    pub(crate) fn text(&self) -> Result<Option<String>, ConfigError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::Unreadable(self.path.clone(), error)),
        }
    }

    fn read(&self, text: &str) -> Result<Vec<RuleText>, ConfigError> {
        Ok(self.settings(text)?.rules)
    }

    pub(crate) fn settings(&self, text: &str) -> Result<Settings, ConfigError> {
        let source = Source { name: self.path.clone(), text: text.to_owned(), layer: self.layer };
        schema::read(&source)
    }

    pub(crate) fn document(&self, text: &str) -> Result<DocumentMut, ConfigError> {
        // It was read a moment ago, by the parser that this one shares.
        text.parse().map_err(|error: toml_edit::TomlError| {
            let what = format!("`{}` cannot be changed: {error}", self.path.display());
            ConfigError::refused(what, "change it by hand")
        })
    }

    /// Has `put` write `what` down, where the file does not have it yet, which `has` tells. Says whether
    /// it is new. The file is as it was where that cannot be.
    pub(crate) fn put_once(
        &self,
        what: &str,
        has: impl Fn(&Settings) -> bool,
        put: impl FnOnce(&mut DocumentMut) -> Option<()>,
    ) -> Result<bool, ConfigError> {
        let before = self.text()?;
        let start = self.start(before.as_deref());
        if has(&self.settings(&start)?) {
            return Ok(false);
        }
        let mut document = self.document(&start)?;
        put(&mut document).ok_or_else(|| self.by_hand(what))?;
        let text = document.to_string();
        if !has(&self.settings(&text)?) {
            return Err(self.by_hand(what));
        }
        self.replace(before.as_deref(), &text, Vec::new()).map(|_| true)
    }

    /// Has `take` take out what stands at `place`.
    pub(crate) fn take_out(
        &self,
        place: &str,
        take: impl FnOnce(&mut DocumentMut) -> Option<()>,
    ) -> Result<(), ConfigError> {
        let before = self.text()?.unwrap_or_default();
        let mut document = self.document(&before)?;
        take(&mut document).ok_or_else(|| self.by_hand(place))?;
        let text = document.to_string();
        self.settings(&text)?;
        self.replace(Some(&before), &text, Vec::new()).map(drop)
    }

    /// Puts `text` in the place of what is there, in one step.
    pub(crate) fn replace(
        &self,
        before: Option<&str>,
        text: &str,
        rules: Vec<RuleText>,
    ) -> Result<Edited, ConfigError> {
        // A file of dotfiles stays a link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let unwritable = |error| ConfigError::Unwritable(path.clone(), error);
        let beside = |end: &str| {
            let mut name = path.file_name().map(OsString::from).unwrap_or_default();
            name.push(end);
            path.with_file_name(name)
        };
        if let Some(folder) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(unwritable)?;
        }
        let mode = fs::metadata(&path).map_or(0o600, |data| data.permissions().mode() & 0o777);
        let backup = before.map(|_| beside(".bak"));
        if let (Some(backup), Some(before)) = (&backup, before) {
            put(backup, before, mode).map_err(unwritable)?;
        }
        let new = beside(&format!(".new-{}", std::process::id()));
        put(&new, text, mode)
            .and_then(|()| fs::rename(&new, &path))
            .inspect_err(|_| drop(fs::remove_file(&new)))
            .map_err(unwritable)?;
        Ok(Edited { path, backup, rules })
    }
}

fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // A link in its place is not followed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let options = &mut fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Adds `rules` in the form in which the file has its rules.
fn push(document: &mut DocumentMut, rules: &[NewRule]) {
    if let Some(Item::Value(Value::Array(list))) = document.get_mut("rules") {
        for rule in rules {
            list.push(table(rule).into_inline_table());
        }
        return;
    }
    let is_new = document.is_empty();
    let item = document.entry("rules").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(tables) = item.as_array_of_tables_mut() else { return };
    for rule in rules {
        let mut table = table(rule);
        let above = if is_new && tables.is_empty() { "" } else { "\n" };
        let comment = rule.comment.as_ref().map(|text| format!("# {}\n", text.replace('\n', " ")));
        table.decor_mut().set_prefix(format!("{above}{}", comment.unwrap_or_default()));
        tables.push(table);
    }
}

fn table(rule: &NewRule) -> Table {
    let texts = |texts: &[String]| value(texts.iter().map(String::as_str).collect::<Array>());
    let mut table = Table::new();
    let prefix = match &rule.prefix {
        Prefix::Line(line) => value(line.as_str()),
        Prefix::Words(words) => value(words.iter().map(|word| word_value(word)).collect::<Array>()),
    };
    table.insert("prefix", prefix);
    table.insert("decision", value(rule.decision.word()));
    if let Some(reason) = &rule.reason {
        table.insert("reason", value(reason.as_str()));
    }
    if let Some(expires) = &rule.expires {
        table.insert("expires", value(expires.as_str()));
    }
    if rule.grant != GrantText::default() {
        let mut grant = InlineTable::new();
        for (key, list) in [("paths", &rule.grant.paths), ("hosts", &rule.grant.hosts)] {
            if !list.is_empty() {
                grant.insert(key, list.iter().map(String::as_str).collect());
            }
        }
        if !rule.grant.ports.is_empty() {
            let ports = rule.grant.ports.iter().map(|port| i64::from(*port));
            grant.insert("ports", ports.collect());
        }
        table.insert("grant", value(grant));
    }
    for (key, lines) in [("match", &rule.examples), ("not_match", &rule.counterexamples)] {
        if !lines.is_empty() {
            table.insert(key, texts(lines));
        }
    }
    table
}

fn word_value(alternatives: &[String]) -> Value {
    match alternatives {
        [word] => Value::from(word.as_str()),
        words => Value::Array(words.iter().map(String::as_str).collect()),
    }
}
