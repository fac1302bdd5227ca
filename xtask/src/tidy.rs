//! What no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::claims;

/// Lines of a source file that are not its tests.
const LINES_MAX: usize = 600;

/// Names that say nothing of the domain.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "types", "manager"];

/// Which of our crates each may use; an edge that is not here is a wall broken.
const EDGES: &[(&str, &[&str])] = &[
    ("stockade-policy", &[]),
    ("stockade-config", &["stockade-policy"]),
    ("stockade-sandbox", &["stockade-policy"]),
    ("stockade-agents", &["stockade-policy"]),
    (
        "stockade-cli",
        &["stockade-agents", "stockade-config", "stockade-policy", "stockade-sandbox"],
    ),
    ("stockade-testkit", &[]),
];

/// Everything that is wrong, one line each.
pub(crate) fn run(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for path in files(&root.join("crates")).into_iter().chain(files(&root.join("xtask"))) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            source(root, &path, &mut problems);
        }
    }
    for (name, allowed) in EDGES {
        edges(root, name, allowed, &mut problems);
    }
    for path in files(root) {
        spaces(root, &path, &mut problems);
    }
    problems.extend(claims::check(root));
    problems
}

/// Every file below `folder` that is not built or fetched.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let skipped = ["target", ".git", "node_modules"].iter().any(|skip| name == *skip);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

fn source(root: &Path, path: &Path, problems: &mut Vec<String>) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    if lines > LINES_MAX {
        problems.push(format!("{shown}: {lines} lines; {LINES_MAX} at most"));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&stem.as_ref()) {
        problems.push(format!("{shown}: `{stem}` names no part of the domain"));
    }
    let is_unsafe_file = stem.ends_with("_unsafe");
    let uses_unsafe = text.contains(concat!("#![expect(", "unsafe_code"));
    if uses_unsafe != is_unsafe_file {
        problems.push(format!("{shown}: unsafe code lives in `sys/*_unsafe.rs`, and only there"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if code.starts_with("#[should_panic") || code.starts_with("#[allow(") {
            problems.push(format!("{shown}:{number}: `{code}` is not used here"));
        }
    }
}

fn edges(root: &Path, name: &str, allowed: &[&str], problems: &mut Vec<String>) {
    let path = root.join("crates").join(name).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let product = text.split("[dev-dependencies]").next().unwrap_or_default();
    for line in product.lines().filter(|line| line.starts_with("stockade-")) {
        let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if !allowed.contains(&used) {
            problems.push(format!("{name} may not use {used}: see ARCHITECTURE.md"));
        }
    }
}

fn spaces(root: &Path, path: &Path, problems: &mut Vec<String>) {
    let checked = ["rs", "md", "toml", "sh", "py"];
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    if !checked.contains(&extension.as_str()) {
        return;
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            problems.push(format!("{shown}:{number}: space at the end of the line"));
        }
    }
}
