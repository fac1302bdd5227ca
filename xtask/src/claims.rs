//! The claims of the threat model and the tests that try them must know each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::tidy::files;

/// Claims without a test, and tests of claims that nobody makes.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let model = fs::read_to_string(root.join("docs/threat-model.md")).unwrap_or_default();
    let claimed: BTreeSet<String> = model
        .lines()
        .filter_map(|line| line.strip_prefix("| **"))
        .filter_map(|rest| rest.split("**").next())
        .map(str::to_owned)
        .collect();
    let mut tried = BTreeSet::new();
    let cases = files(&root.join("corpus"));
    for path in cases.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let claims = text.lines().filter_map(|line| line.strip_prefix("claim = '"));
        tried.extend(claims.map(|rest| rest.trim_end_matches('\'').to_owned()));
    }
    for path in files(&root.join("crates")) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (at, _) in text.match_indices("Threat model, ") {
            let rest = text.get(at + "Threat model, ".len()..).unwrap_or_default();
            let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            tried.insert(id);
        }
    }
    let mut problems = Vec::new();
    for id in claimed.difference(&tried) {
        problems.push(format!("docs/threat-model.md: no test names claim {id}"));
    }
    for id in tried.difference(&claimed) {
        problems.push(format!("a test names claim {id}, which docs/threat-model.md does not make"));
    }
    if claimed.is_empty() {
        problems.push("docs/threat-model.md: no claim is made".to_owned());
    }
    problems
}
