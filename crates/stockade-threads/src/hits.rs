//! How often each command rule has decided, and when it did last.
//!
//! A small table beside the threads. A rule is known by its words and the file it stands in, not
//! by its line, which moves. The table tells a person which rules are of use; nothing is decided
//! by it, so a table that cannot be read or written costs nothing but its numbers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use stockade_policy::Operation;
use stockade_rules::{Rule, RuleRef, RuleSet, Ruling};

use crate::record::Denial;
use crate::store::now;

/// The table's name in the folder of the state.
const TABLE: &str = "rule-hits.json";

/// What is known of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// How often it decided.
    pub count: u64,
    /// When it did last (RFC 3339, UTC).
    pub last: String,
}

/// The table of a user.
#[derive(Debug, Clone)]
pub struct Hits {
    folder: PathBuf,
}

impl Hits {
    /// The table in the folder of the state; it need not be there.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.to_owned() }
    }

    /// All that is known.
    pub fn all(&self) -> BTreeMap<String, Hit> {
        let text = fs::read(self.folder.join(TABLE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What is known of `rule`.
    pub fn get(all: &BTreeMap<String, Hit>, rule: &RuleRef) -> Hit {
        all.get(&key(rule)).cloned().unwrap_or_default()
    }

    /// Counts each rule that decided about a part of a command once.
    pub fn count(&self, ruling: &Ruling) {
        self.count_keys(
            ruling.parts.iter().filter_map(|part| part.rule.as_ref()).map(key).collect(),
        );
    }

    /// Counts each of `rules` by which something inside was not executed, once for the programs of
    /// `denials`: the record has each program once.
    pub fn count_denials<'d>(
        &self,
        rules: &RuleSet,
        denials: impl IntoIterator<Item = &'d Denial>,
    ) {
        let execute = Operation::Execute.as_str();
        let by: Vec<_> = denials
            .into_iter()
            .filter(|denial| denial.op == execute)
            .map(|denial| denial.decided_by.as_str())
            .collect();
        if by.is_empty() {
            return;
        }
        let named = rules.rules().iter().map(Rule::named);
        let deciding = named.filter(|rule| by.contains(&rule.decided().as_str()));
        self.count_keys(deciding.map(|rule| key(&rule)).collect());
    }

    /// Counts `rule` once.
    pub(crate) fn count_rule(&self, rule: &RuleRef) {
        self.count_keys(vec![key(rule)]);
    }

    fn count_keys(&self, mut keys: Vec<String>) {
        keys.sort();
        keys.dedup();
        if !keys.is_empty() {
            // As the module says: a count that is lost is lost.
            self.add(&keys).ok();
        }
    }

    fn add(&self, keys: &[String]) -> io::Result<()> {
        let open = |name: &str| {
            let options = &mut fs::OpenOptions::new();
            options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.folder.join(name))
        };
        let lock: File = open("rule-hits.lock")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let mut all = self.all();
        for key in keys {
            let hit = all.entry(key.clone()).or_default();
            hit.count += 1;
            hit.last = now();
        }
        let new = self.folder.join(format!("{TABLE}.new"));
        let options = &mut fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        fs::rename(&new, self.folder.join(TABLE))
    }
}

fn key(rule: &RuleRef) -> String {
    let file = rule.source.rsplit_once(':').map_or(rule.source.as_str(), |(file, _)| file);
    format!("{file}: {}", rule.prefix)
}

#[cfg(test)]
mod tests {
    use stockade_policy::{ApprovalPolicy, Mode, Verdict};
    use stockade_rules::judge;

    use super::*;

    #[test]
    fn a_rule_is_counted_once_a_command_wherever_its_line_moves() {
        let folder = tempfile::tempdir().unwrap();
        let hits = Hits::of(folder.path());
        let rules = |line: u32| {
            let prefix = vec![vec!["npm".to_owned()], vec!["test".to_owned()]];
            let rule = Rule::new(prefix, Verdict::Allow, format!("config.toml:{line}")).unwrap();
            RuleSet::new(vec![rule]).unwrap()
        };
        for line in [1, 7] {
            let judgement = rules(line).evaluate_line("npm test; npm test -u; ls");
            hits.count(&judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::OnRequest));
        }
        let all = hits.all();
        assert_eq!(all.len(), 1);
        let hit = Hits::get(&all, &rules(9).rules()[0].named());
        assert_eq!((hit.count, hit.last.len() > 10), (2, true));
        fs::write(folder.path().join(TABLE), "{").unwrap();
        assert!(hits.all().is_empty());
    }
}
