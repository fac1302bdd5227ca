//! Rust sources: size, where `unsafe` may stand, names, re-exports, and tests.

use super::SourceFile;
use super::code::{self, has_word};

/// Lines of one file, its unit tests at the end not counted. Aim for 300.
const LINES_MAX: usize = 600;

/// Names that say nothing about the domain.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helpers", "types", "manager", "managers", "misc"];

/// Where `unsafe` is looked over: files of this end, in a folder of this name.
const UNSAFE_END: &str = "_unsafe";
const UNSAFE_FOLDER: &str = "/sys/";

/// Findings in one file.
pub(super) fn check(file: &SourceFile) -> Vec<String> {
    let code = code::of(&file.text);
    let mut findings = Vec::new();
    findings.extend(size(file, &code));
    findings.extend(names(file, &code));
    findings.extend(unsafety(file, &code));
    findings.extend(re_exports(file, &code));
    findings.extend(test_attributes(file, &code));
    findings
}

fn size(file: &SourceFile, code: &str) -> Option<String> {
    let tests = code.lines().position(|line| line.trim_end() == "#[cfg(test)]");
    let is_at_end =
        |at: &usize| code.lines().nth(at + 1).is_some_and(|line| line.starts_with("mod tests {"));
    let lines = tests.filter(is_at_end).unwrap_or_else(|| code.lines().count());
    (lines > LINES_MAX)
        .then(|| format!("{}: {lines} lines, which is more than {LINES_MAX}", file.path))
}

fn names(file: &SourceFile, code: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if EMPTY_NAMES.contains(&file.stem()) {
        findings.push(format!("{}: the name says nothing about the domain", file.path));
    }
    for (number, line) in (1..).zip(code.lines()) {
        let inline = line.trim_end().ends_with('{').then(|| module_name(line)).flatten();
        if inline.is_some_and(|name| EMPTY_NAMES.contains(&name)) {
            findings.push(format!("{}:{number}: a module of an empty name", file.path));
        }
    }
    findings
}

fn module_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    (words.next() == Some("mod")).then(|| words.next().unwrap_or_default().trim_end_matches(';'))
}

fn unsafety(file: &SourceFile, code: &str) -> Vec<String> {
    let is_looked_over = file.stem().ends_with(UNSAFE_END) && file.path.contains(UNSAFE_FOLDER);
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let number = index + 1;
        if has_word(line, "unsafe") {
            if !is_looked_over {
                let text = "`unsafe` stands only in `sys/*_unsafe.rs`";
                findings.push(format!("{}:{number}: {text}", file.path));
            } else if !is_explained(&lines, index) {
                findings.push(format!("{}:{number}: `unsafe` without a SAFETY comment", file.path));
            }
        }
        if has_word(line, "unsafe_code") && !is_looked_over {
            findings.push(format!("{}:{number}: the lint on `unsafe` stays on", file.path));
        }
    }
    findings
}

/// Whether the reasons stand above line `index`, with no blank line between: a comment in
/// front of a block, a section of the documentation in front of a function.
fn is_explained(lines: &[&str], index: usize) -> bool {
    let above = lines.get(..index).unwrap_or_default();
    above
        .iter()
        .rev()
        .take_while(|line| !line.trim().is_empty())
        .any(|line| line.contains("// SAFETY:") || line.contains("/// # Safety"))
}

/// A `pub use` of a crate that is not ours would make its types part of ours, and each of its
/// releases a change of every crate above.
fn re_exports(file: &SourceFile, code: &str) -> Vec<String> {
    let modules: Vec<&str> = code.lines().filter_map(module_name).collect();
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let Some(path) = line.trim_start().strip_prefix("pub use ") else { continue };
        let first = path.split(['{', ':', ';', ' ']).next().unwrap_or_default();
        let is_ours = ["crate", "self", "super", ""].contains(&first)
            || first.starts_with("stockade_")
            || first.starts_with(char::is_uppercase)
            || modules.contains(&first);
        if !is_ours {
            findings.push(format!("{}:{number}: `{first}` is re-exported", file.path));
        }
    }
    findings
}

fn test_attributes(file: &SourceFile, code: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let line = line.trim();
        if line.starts_with("#[should_panic") {
            let text = "`should_panic` passes for any panic; look at the error";
            findings.push(format!("{}:{number}: {text}", file.path));
        }
        if line == "#[ignore]" {
            findings.push(format!("{}:{number}: an ignored test says why", file.path));
        }
        if line.starts_with("#[allow(") || line.starts_with("#![allow(") {
            let text = "`#[expect(…, reason = \"…\")]` instead of `allow`";
            findings.push(format!("{}:{number}: {text}", file.path));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&SourceFile { path: path.to_owned(), text: text.to_owned() })
    }

    const SYS: &str = "crates/stockade-sandbox/src/linux/sys/fork_unsafe.rs";

    #[test]
    fn only_lines_before_the_unit_tests_count() {
        let long = "fn f() {}\n".repeat(601);
        assert_eq!(findings("a.rs", &long).len(), 1);
        let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(findings("a.rs", &tested).is_empty());
        let not_tests = format!("#[cfg(test)]\nfn g() {{}}\n{long}");
        assert_eq!(findings("a.rs", &not_tests).len(), 1);
    }

    #[test]
    fn unsafe_stands_where_it_is_looked_over_and_explained() {
        let explained = "// SAFETY: nothing is shared.\nlet a =\n    unsafe { f() };\n";
        assert!(findings(SYS, explained).is_empty());
        assert_eq!(findings("crates/x/src/a.rs", explained).len(), 1);
        assert_eq!(findings("crates/x/src/a_unsafe.rs", explained).len(), 1, "not in sys");
        assert_eq!(findings(SYS, "// SAFETY: far away.\n\nunsafe { f() };\n").len(), 1);
        assert_eq!(findings("a.rs", "#![expect(unsafe_code, reason = \"\")]\n").len(), 1);
        assert!(findings("a.rs", "// unsafe is a word here\n").is_empty());
    }

    #[test]
    fn empty_names_foreign_exports_and_blind_tests_are_found() {
        assert_eq!(findings("src/util.rs", "").len(), 1);
        assert_eq!(findings("src/a.rs", "pub(crate) mod helpers {\n}\n").len(), 1);
        assert_eq!(findings("src/a.rs", "pub use rustix::fs::Mode;\n").len(), 1);
        let own = "mod error;\npub use error::Broken;\npub use crate::b::C;\npub use stockade_policy::Mode;\n";
        assert!(findings("src/a.rs", own).is_empty());
        assert_eq!(findings("src/a.rs", "#[should_panic(expected = \"x\")]\n").len(), 1);
        assert_eq!(findings("src/a.rs", "    #[ignore]\n").len(), 1);
        assert_eq!(findings("src/a.rs", "#[allow(dead_code)]\n").len(), 1);
    }
}
