//! Text files of every kind: no spaces at line ends, a line break at the end of the file. What fuzzing
//! begins with is bytes.

use super::SourceFile;

/// Findings in one file.
pub(super) fn check(file: &SourceFile) -> Vec<String> {
    if file.path.starts_with("fuzz/seeds/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.ends_with([' ', '\t']) {
            findings.push(format!("{}:{number}: a space at the end of the line", file.path));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(format!("{}: no line break at the end of the file", file.path));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_a_missing_end_are_found() {
        let file = |text: &str| SourceFile { path: "a.md".to_owned(), text: text.to_owned() };
        assert!(check(&file("one\n\ntwo\n")).is_empty());
        assert_eq!(check(&file("one \ntwo")).len(), 2);
    }
}
