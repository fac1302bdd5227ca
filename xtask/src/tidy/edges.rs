//! The walls between the crates: which of ours each may use, and what stays out of the pure
//! and the single-threaded ones. ARCHITECTURE.md draws the same picture.

use super::{SourceFile, Tree};

/// What each crate may depend on among ours. An edge that is not here is a decision first
/// (docs/adr), a line here next, and code last.
const EDGES: &[(&str, &[&str])] = &[
    ("stockade-policy", &[]),
    ("stockade-rules", &["stockade-policy"]),
    ("stockade-config", &["stockade-policy", "stockade-rules"]),
    ("stockade-sandbox", &["stockade-policy"]),
    ("stockade-guest", &[]),
    ("stockade-gateway", &["stockade-policy"]),
    ("stockade-vm", &["stockade-guest"]),
    ("stockade-agents", &["stockade-policy"]),
    (
        "stockade-threads",
        &[
            "stockade-agents",
            "stockade-config",
            "stockade-gateway",
            "stockade-guest",
            "stockade-policy",
            "stockade-rules",
            "stockade-sandbox",
            "stockade-vm",
        ],
    ),
    ("stockade-server", &["stockade-config", "stockade-policy", "stockade-threads"]),
    (
        "stockade-cli",
        &[
            "stockade-agents",
            "stockade-config",
            "stockade-gateway",
            "stockade-policy",
            "stockade-rules",
            "stockade-sandbox",
            "stockade-server",
            "stockade-threads",
        ],
    ),
    ("stockade-testkit", &[]),
    ("xtask", &[]),
];

/// Everybody's tests may use it; nothing that ships may.
const TESTKIT: &str = "stockade-testkit";

/// Crates without an async runtime: pure ones, and those that must stay single-threaded.
const WITHOUT_RUNTIME: &[&str] = &[
    "stockade-policy",
    "stockade-rules",
    "stockade-config",
    "stockade-sandbox",
    "stockade-guest",
    "xtask",
];

/// All that the pure crate of decisions may take from outside.
const OF_POLICY: &[&str] = &["thiserror"];

/// Findings in the manifests of all crates.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.iter().filter(|file| is_manifest(&file.path)) {
        findings.extend(manifest(file));
    }
    findings
}

fn is_manifest(path: &str) -> bool {
    path == "xtask/Cargo.toml"
        || path
            .strip_prefix("crates/")
            .and_then(|rest| rest.strip_suffix("/Cargo.toml"))
            .is_some_and(|name| !name.contains('/'))
}

fn manifest(file: &SourceFile) -> Vec<String> {
    let path = &file.path;
    let folder = path.trim_end_matches("/Cargo.toml").trim_start_matches("crates/");
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("{path}: crate `{folder}` is not in the table of edges")];
    };
    let mut findings = Vec::new();
    let mut table = Table::Other;
    for (number, line) in (1..).zip(file.text.lines()) {
        let line = line.trim();
        if line.starts_with('[') {
            table = Table::named(line.trim_matches(['[', ']']));
            if matches!(table, Table::One) {
                let text = "write dependencies as lines of one table";
                findings.push(format!("{path}:{number}: {text}"));
            }
            continue;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let wrong = match table {
            Table::Shipped => shipped(folder, allowed, name),
            Table::Tests => tests(allowed, name),
            Table::One | Table::Other => None,
        };
        findings.extend(wrong.map(|text| format!("{path}:{number}: {text}")));
    }
    findings
}

/// What a table of a manifest means to us.
#[derive(Debug, Clone, Copy)]
enum Table {
    /// `[dependencies]`, `[build-dependencies]`, also of one target.
    Shipped,
    /// `[dev-dependencies]`.
    Tests,
    /// `[dependencies.name]`, which this reader of lines would overlook.
    One,
    Other,
}

impl Table {
    fn named(name: &str) -> Self {
        let is_one = ["dependencies.", "dev-dependencies.", "build-dependencies."]
            .iter()
            .any(|start| name.starts_with(start));
        if is_one {
            Self::One
        } else if name.ends_with("dev-dependencies") {
            Self::Tests
        } else if name.ends_with("dependencies") {
            Self::Shipped
        } else {
            Self::Other
        }
    }
}

fn shipped(folder: &str, allowed: &[&str], name: &str) -> Option<String> {
    if name == TESTKIT {
        return Some(format!("`{TESTKIT}` is for tests only"));
    }
    if name.starts_with("stockade-") {
        let text = format!("`{folder}` may not use `{name}` (ARCHITECTURE.md, walls)");
        return (!allowed.contains(&name)).then_some(text);
    }
    if name.starts_with("tokio") && WITHOUT_RUNTIME.contains(&folder) {
        return Some(format!("`{folder}` has no async runtime"));
    }
    if folder == "stockade-policy" && !OF_POLICY.contains(&name) {
        return Some(format!("`{folder}` decides and nothing else: no `{name}`"));
    }
    (folder == "xtask").then(|| format!("xtask uses the standard library only, not `{name}`"))
}

fn tests(allowed: &[&str], name: &str) -> Option<String> {
    let is_wrong = name.starts_with("stockade-") && name != TESTKIT && !allowed.contains(&name);
    is_wrong.then(|| format!("tests may not reach `{name}` either (ARCHITECTURE.md, walls)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(&format!("crates/{name}/Cargo.toml"), text)]))
    }

    #[test]
    fn an_edge_that_is_not_drawn_is_found() {
        let text = "[dependencies]\nstockade-config.workspace = true\n";
        assert_eq!(findings("stockade-sandbox", text).len(), 1);
        assert!(findings("stockade-cli", text).is_empty());
        let tests = "[dev-dependencies]\nstockade-sandbox.workspace = true\n";
        assert_eq!(findings("stockade-config", tests).len(), 1);
    }

    #[test]
    fn the_testkit_does_not_ship() {
        let line = "stockade-testkit = { path = \"../stockade-testkit\" }\n";
        assert_eq!(findings("stockade-cli", &format!("[dependencies]\n{line}")).len(), 1);
        assert!(findings("stockade-cli", &format!("[dev-dependencies]\n{line}")).is_empty());
    }

    #[test]
    fn pure_crates_stay_pure_and_unknown_ones_are_named() {
        assert_eq!(findings("stockade-policy", "[dependencies]\nserde = \"1\"\n").len(), 1);
        assert!(findings("stockade-policy", "[dependencies]\nthiserror = \"2\"\n").is_empty());
        let runtime = "[target.'cfg(unix)'.dependencies]\ntokio-util = \"1\"\n";
        assert_eq!(findings("stockade-sandbox", runtime).len(), 1);
        assert_eq!(
            findings("stockade-sandbox", "[dependencies.tokio]\nversion = \"1\"\n").len(),
            1
        );
        assert_eq!(findings("stockade-new", "[dependencies]\n").len(), 1);
    }
}
